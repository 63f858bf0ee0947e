//! Findings as they are gathered: what is alike is told once, with the numbers of all and how many processes have it.

use std::collections::BTreeSet;

use mose_protocol::check::{Finding, Process, Severity};

/// The most numbers that one finding names.
const NAMED: usize = 4;

/// One finding that is being gathered.
struct Gathered {
    severity: Severity,
    process: Option<Process>,
    /// What its things are called: `descriptor`, `mapping`.
    thing: &'static str,
    what: String,
    numbers: Vec<String>,
    more: usize,
    /// Further processes that have the same, as children inherit descriptors.
    others: BTreeSet<u32>,
    reason: String,
    remedy: String,
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings(Vec<Gathered>);

impl Findings {
    /// Something of a process without a number, such as its state.
    pub(crate) fn add(
        &mut self,
        severity: Severity,
        process: &Process,
        what: &str,
        reason: &str,
        remedy: &str,
    ) {
        self.numbered(severity, process, ("", String::new()), what, reason, remedy);
    }

    /// Something of a process that has a number: `("descriptor", "7")`.
    pub(crate) fn numbered(
        &mut self,
        severity: Severity,
        process: &Process,
        (thing, number): (&'static str, String),
        what: &str,
        reason: &str,
        remedy: &str,
    ) {
        let same = self.0.iter_mut().find(|other| {
            other.thing == thing && other.what == what && other.reason == reason && other.process.is_some()
        });
        match same {
            Some(same) if same.process.as_ref() != Some(process) => {
                same.others.insert(process.pid);
            }
            Some(same) if same.numbers.len() < NAMED => same.numbers.push(number),
            Some(same) => same.more += 1,
            None => self.0.push(Gathered {
                severity,
                process: Some(process.clone()),
                thing,
                what: what.to_owned(),
                numbers: vec![number],
                more: 0,
                others: BTreeSet::new(),
                reason: reason.to_owned(),
                remedy: remedy.to_owned(),
            }),
        }
    }

    /// Something that is no process's.
    pub(crate) fn whole(&mut self, severity: Severity, what: &str, reason: &str, remedy: &str) {
        self.0.push(Gathered {
            severity,
            process: None,
            thing: "",
            what: what.to_owned(),
            numbers: Vec::new(),
            more: 0,
            others: BTreeSet::new(),
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    /// All of them.
    pub(crate) fn told(self) -> Vec<Finding> {
        let one = |found: Gathered| {
            let mut resource = found.what;
            if !found.thing.is_empty() {
                let plural = if found.numbers.len() > 1 { "s" } else { "" };
                let more = if found.more > 0 { format!(" and {} more", found.more) } else { String::new() };
                resource = format!("{}{plural} {}{more} ({resource})", found.thing, found.numbers.join(", "));
            }
            if !found.others.is_empty() {
                resource.push_str(&format!(", also of {} more processes", found.others.len()));
            }
            let finding = Finding::new(found.severity, &resource, &found.reason, &found.remedy);
            match &found.process {
                Some(process) => finding.of(process),
                None => finding,
            }
        };
        self.0.into_iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_of_a_kind_are_one_finding() {
        let mut findings = Findings::default();
        let process = |pid| Process { pid, command: "node".into() };
        for number in 3..1003 {
            let number = ("descriptor", number.to_string());
            findings.numbered(Severity::Blocks, &process(1), number, "io_uring", "no", "close it");
        }
        findings.numbered(
            Severity::Blocks,
            &process(2),
            ("descriptor", "9".into()),
            "io_uring",
            "no",
            "close it",
        );
        findings.add(Severity::Blocks, &process(2), "state", "it is stopped", "let it go on");
        let told: Vec<String> = findings.told().iter().map(Finding::told).collect();
        assert_eq!(
            told,
            [
                "process 1 (node): descriptors 3, 4, 5, 6 and 996 more (io_uring), also of 1 more processes: no",
                "process 2 (node): state: it is stopped",
            ]
        );
    }
}
