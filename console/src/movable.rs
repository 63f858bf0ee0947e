//! Whether a service can move, shown to people.

use mose_protocol::check::{Finding, Report, Severity};

use crate::table::wrapped;

/// Everything that was found, the worst first, and what it comes to.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(&entry(finding));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&verdict(report));
    text
}

fn verdict(report: &Report) -> String {
    let whereto = report.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
    let looked = format!("{} processes, {} descriptors looked at", report.processes, report.descriptors);
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    match (count(Severity::Blocks), count(Severity::LeftBehind)) {
        (0, 0) => format!("{} can move{whereto} · {looked}", report.service),
        (0, left) => format!("{} can move{whereto}, and leaves behind {left} · {looked}", report.service),
        (blocks, _) => format!("{} cannot move{whereto}: {blocks} in the way · {looked}", report.service),
    }
}

/// The mark tells at a glance what the word beside it says.
const fn mark(severity: Severity) -> char {
    match severity {
        Severity::Note => '·',
        Severity::LeftBehind => '~',
        Severity::Blocks => '✘',
    }
}

fn entry(finding: &Finding) -> String {
    let head = format!("  {} {:<11}  ", mark(finding.severity), finding.severity.name());
    let margin = head.chars().count();
    let mut text = wrapped(&head, &finding.told(), margin);
    if !finding.remedy.is_empty() {
        text.push_str(&wrapped(&format!("{:margin$}remedy: ", ""), &finding.remedy, margin + 8));
    }
    text
}

#[cfg(test)]
mod tests {
    use mose_protocol::check::Process;

    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        Report {
            service: "web".parse().unwrap(),
            from: "edge-a".parse().unwrap(),
            to: Some("edge-b".parse().unwrap()),
            processes: 2,
            descriptors: 40,
            findings,
        }
        .bounded()
    }

    #[test]
    fn each_finding_is_shown_with_process_resource_and_remedy() {
        let ring =
            Finding::new(Severity::Blocks, "descriptor 12 (io_uring)", "CRIU cannot dump it", "use epoll");
        let ring = ring.of(&Process { pid: 7, command: "node".into() });
        let expected = "  ✘ blocks       process 7 (node): descriptor 12 (io_uring): CRIU cannot dump it
                 remedy: use epoll
  ~ left behind  exec session: it does not move

web cannot move to edge-b: 1 in the way · 2 processes, 40 descriptors looked at";
        let left = Finding::new(Severity::LeftBehind, "exec session", "it does not move", "");
        assert_eq!(page(&report(vec![left.clone(), ring])), expected);
        assert!(page(&report(vec![left])).ends_with(
            "web can move to edge-b, and leaves behind 1 · 2 processes, 40 descriptors looked at"
        ));
        assert_eq!(
            page(&report(Vec::new())),
            "web can move to edge-b · 2 processes, 40 descriptors looked at"
        );
    }
}
