//! Whether services can move, as their hosts found when they were asked last.

use std::collections::BTreeMap;

use mose_pam::Millis;
use mose_protocol::check::{Report, Severity};
use mose_protocol::{HostName, ServiceName, Timestamp};

/// Service, source and destination.
pub type Way = (ServiceName, HostName, HostName);

/// How long an answer stands: descriptors come and go.
const FRESH: Millis = Millis(10_000.0);

/// The most ways that are remembered.
const MOST: usize = 256;

/// What was asked and what was told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checks {
    asked: BTreeMap<Way, Timestamp>,
    told: BTreeMap<Way, Report>,
}

impl Checks {
    /// Whether it is to be asked about a way at `now`; it is then taken to have been.
    pub fn ask(&mut self, way: &Way, now: Timestamp) -> bool {
        if self.asked.get(way).is_some_and(|asked| now.since(*asked).0.abs() < FRESH.0) {
            return false;
        }
        if self.asked.len() >= MOST {
            self.asked.clear();
            self.told.clear();
        }
        self.asked.insert(way.clone(), now);
        true
    }

    /// Takes in what a host found.
    pub fn take(&mut self, report: Report) {
        if let Some(to) = report.to.clone() {
            let report = report.bounded();
            self.told.insert((report.service.clone(), report.from.clone(), to), report);
        }
    }

    /// What an operator should know of a way before a key is pressed: what is in the way, then what stays behind.
    #[must_use]
    pub fn doubts(&self, way: &Way) -> Vec<String> {
        let findings = self.told.get(way).map(|report| report.findings.as_slice()).unwrap_or_default();
        let worth = findings.iter().filter(|finding| finding.severity > Severity::Note);
        worth
            .map(|finding| match finding.severity {
                Severity::LeftBehind => format!("left behind: {}", finding.told()),
                _ => format!("cannot move: {} ({})", finding.told(), finding.remedy),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use mose_protocol::check::Finding;

    use super::*;

    fn way() -> Way {
        ("web".parse().unwrap(), "edge-a".parse().unwrap(), "edge-b".parse().unwrap())
    }

    #[test]
    fn a_way_is_asked_about_again_when_the_answer_is_old() {
        let mut checks = Checks::default();
        let at = |seconds: u64| Timestamp(1_000_000_000 + seconds * 1_000_000);
        assert!(checks.ask(&way(), at(0)));
        assert!(!checks.ask(&way(), at(9)));
        assert!(checks.ask(&way(), at(11)));
    }

    #[test]
    fn what_is_in_the_way_is_told_before_what_stays_behind_and_a_note_is_not() {
        let finding = |severity, resource: &str| Finding::new(severity, resource, "why", "what to do");
        let (service, from, to) = way();
        let mut checks = Checks::default();
        checks.take(Report {
            service,
            from,
            to: Some(to),
            processes: 1,
            descriptors: 3,
            findings: vec![
                finding(Severity::Note, "kernel"),
                finding(Severity::LeftBehind, "exec session"),
                finding(Severity::Blocks, "io_uring"),
            ],
        });
        assert_eq!(
            checks.doubts(&way()),
            ["cannot move: io_uring: why (what to do)", "left behind: exec session: why"]
        );
        let other = ("db".parse().unwrap(), "edge-a".parse().unwrap(), "edge-b".parse().unwrap());
        assert!(checks.doubts(&other).is_empty());
    }
}
