//! The report for people.

use mose_protocol::doctor::{Check, CheckState};

use super::Report;
use crate::table::wrapped;

/// Everything that was found, and a last line that counts.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut text = String::new();
    let hosts = report.hosts.iter().map(|host| (host.host.as_str(), &host.checks));
    for (name, checks) in [("this machine", &report.machine)].into_iter().chain(hosts) {
        text.push_str(&format!("{name}\n"));
        let widest = checks.iter().map(|check| check.what.chars().count()).max().unwrap_or(0);
        for check in checks {
            text.push_str(&entry(check, widest));
        }
        text.push('\n');
    }
    text.push_str(&summary(report));
    text
}

fn summary(report: &Report) -> String {
    let counted = [
        (CheckState::Broken, "broken"),
        (CheckState::Unknown, "unknown"),
        (CheckState::Fallback, "with a fallback"),
        (CheckState::Ok, "ok"),
    ]
    .map(|(state, name)| (report.count(state), name));
    let said = counted.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}"));
    said.collect::<Vec<_>>().join(" · ")
}

/// The mark tells at a glance what the word beside it says.
const fn mark(state: CheckState) -> char {
    match state {
        CheckState::Ok => '✔',
        CheckState::Fallback => '~',
        CheckState::Unknown => '?',
        CheckState::Broken => '✘',
    }
}

fn entry(check: &Check, widest: usize) -> String {
    let head = format!("  {} {:<8}  {:<widest$}  ", mark(check.state), check.state.name(), check.what);
    let margin = head.chars().count();
    let mut text = wrapped(&head, &check.found, margin);
    let below = |label: &str| format!("{:margin$}{label}", "");
    if let Some(fallback) = &check.fallback {
        text.push_str(&wrapped(&below("instead: "), fallback, margin + 9));
    }
    if let Some(remedy) = check.remedy.as_ref().filter(|remedy| !remedy.is_empty()) {
        text.push_str(&wrapped(&below("remedy:  "), remedy, margin + 9));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::HostReport;
    use super::*;
    use crate::table::WIDTH;

    #[test]
    fn each_check_is_shown_with_what_is_used_instead_and_the_remedy() {
        let hosts = vec![HostReport {
            host: "edge-a".parse().unwrap(),
            checks: vec![
                Check::fallback("soft-dirty", "the kernel has none", "live pre-copy", "another kernel"),
                Check::broken("CRIU", "it cannot be run", "install it"),
            ],
        }];
        let report = Report { machine: vec![Check::ok("lab", "this machine can run it")], hosts };
        let expected = "\
this machine
  ✔ ok        lab  this machine can run it

edge-a
  ~ fallback  soft-dirty  the kernel has none
                          instead: live pre-copy
                          remedy:  another kernel
  ✘ broken    CRIU        it cannot be run
                          remedy:  install it

1 broken · 1 with a fallback · 1 ok";
        assert_eq!(page(&report), expected);
    }

    #[test]
    fn long_texts_go_on_below_where_they_began() {
        let check = Check::broken("x", "word ".repeat(60), "");
        let text = entry(&check, 1);
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("                 word"), "{text}");
    }
}
