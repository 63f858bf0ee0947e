//! Whether a service can move to a host as it is now: what stands in its way, and what stays behind.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::container::ContainerDescription;
use crate::doctor::plain;
use crate::handover::{Place, Task};
use crate::{HostName, Refusal, RefusalCode, ServiceName};

/// The most findings of one report.
pub const MAX_FINDINGS: usize = 64;

/// The most findings whose words a refusal repeats.
const TOLD: usize = 3;

/// What a finding means for a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It is good to know; nothing is lost.
    Note,
    /// The service moves, and this stays behind.
    LeftBehind,
    /// The service cannot move as it is; or a later release says something that this one does not know.
    #[serde(other)]
    Blocks,
}

impl Severity {
    /// The name that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::LeftBehind => "left behind",
            Self::Blocks => "blocks",
        }
    }
}

/// A process of the service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Process {
    /// Its number in the container.
    pub pid: u32,
    /// The name of its program.
    pub command: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.command)
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// What it means.
    pub severity: Severity,
    /// Whose it is; none where it is the container's or a host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The thing: a descriptor, a mapping, a mount, a feature.
    pub resource: String,
    /// What is the matter with it, as a sentence without its full stop.
    pub reason: String,
    /// What the operator can do.
    pub remedy: String,
}

impl Finding {
    /// A finding that is no process's.
    #[must_use]
    pub fn new(severity: Severity, resource: &str, reason: &str, remedy: &str) -> Self {
        Self {
            severity,
            process: None,
            resource: plain(resource),
            reason: plain(reason),
            remedy: plain(remedy),
        }
    }

    /// The same, of a process.
    #[must_use]
    pub fn of(mut self, process: &Process) -> Self {
        self.process = Some(Process { pid: process.pid, command: plain(&process.command) });
        self
    }

    /// What was refused, as a finding.
    #[must_use]
    pub fn refused(resource: &str, refusal: &Refusal) -> Self {
        Self::new(Severity::Blocks, resource, &refusal.reason, &refusal.remedy)
    }

    /// Whose it is, what, and what is the matter.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.process {
            Some(process) => format!("{process}: {}: {}", self.resource, self.reason),
            None => format!("{}: {}", self.resource, self.reason),
        }
    }
}

/// What was found of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// The service.
    pub service: ServiceName,
    /// Where it runs.
    pub from: HostName,
    /// The host that was asked too; none where only the service was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<HostName>,
    /// How many processes were looked at.
    pub processes: u32,
    /// How many of their descriptors.
    pub descriptors: u32,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The report as it may be sent and shown, whoever made it: the worst first, at most [`MAX_FINDINGS`], each text on a line
    /// of its own. What is left out is said, and blocks if any of it does.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for finding in &mut self.findings {
            finding.resource = plain(&finding.resource);
            finding.reason = plain(&finding.reason);
            finding.remedy = plain(&finding.remedy);
            if let Some(process) = &mut finding.process {
                process.command = plain(&process.command);
            }
        }
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        if self.findings.len() > MAX_FINDINGS {
            let left_out = self.findings.split_off(MAX_FINDINGS - 1);
            let worst = left_out.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Blocks);
            let reason = format!("{} are left out", left_out.len());
            self.findings.push(Finding::new(
                worst,
                "further findings",
                &reason,
                "mend those above, then check again",
            ));
        }
        self
    }

    /// What stands in the way.
    pub fn blocking(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Blocks)
    }

    /// Refuses a service that cannot move.
    ///
    /// # Errors
    /// What stands in the way, by process and resource, with the remedy.
    pub fn verdict(&self) -> Result<(), Refusal> {
        let blocking: Vec<&Finding> = self.blocking().collect();
        let Some(first) = blocking.first() else { return Ok(()) };
        let mut reasons: Vec<String> = blocking.iter().take(TOLD).map(|finding| finding.told()).collect();
        if blocking.len() > TOLD {
            reasons.push(format!("and {} more (mose check {})", blocking.len() - TOLD, self.service));
        }
        let mut remedies: Vec<&str> = Vec::new();
        for finding in blocking.iter().take(TOLD) {
            if !finding.remedy.is_empty() && !remedies.contains(&finding.remedy.as_str()) {
                remedies.push(&finding.remedy);
            }
        }
        let whole = match &first.process {
            Some(_) => format!("{} cannot be moved: {}", self.service, reasons.join("; ")),
            None => reasons.join("; "),
        };
        Err(Refusal::new(RefusalCode::Unmovable, whole, remedies.join("; ")))
    }
}

/// What a service needs of the host that it is to come to. Asked before anything is sent or prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// The order, or one as it would be given.
    pub task: Task,
    /// Its place on the overlay.
    pub place: Place,
    /// The container, as another host must create it.
    pub container: ContainerDescription,
    /// Its image's name.
    pub image: String,
    /// Its image's id.
    pub image_id: String,
    /// What the source's machine has.
    pub machine: Machine,
    /// Whether the service has processes that are not root.
    pub not_root: bool,
    /// Whether the host is to be looked at as by `mose doctor`, which takes a moment.
    pub thorough: bool,
}

/// What a machine has that processes may depend on, or CRIU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The architecture, such as `x86_64`.
    pub architecture: String,
    /// The processor's instruction sets, by Linux's names, in order.
    pub instructions: Vec<String>,
    /// The kernel's release.
    pub kernel: String,
    /// Whether processes that are not root can be restored with their limits (`CAP_SYS_RESOURCE`).
    pub raises_limits: bool,
    /// Whether systemd runs, whose timers run the containers' health checks.
    pub systemd: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        let (service, from) = ("web".parse().unwrap(), "edge-a".parse().unwrap());
        Report { service, from, to: None, processes: 1, descriptors: 3, findings }
    }

    fn finding(severity: Severity, resource: &str) -> Finding {
        Finding::new(severity, resource, "CRIU cannot dump it", "close it")
    }

    #[test]
    fn what_blocks_comes_first_and_refuses_with_process_resource_and_remedy() {
        let node = Process { pid: 7, command: "node".into() };
        let report = report(vec![
            finding(Severity::LeftBehind, "descriptor 3"),
            finding(Severity::Blocks, "descriptor 12 (io_uring)").of(&node),
        ])
        .bounded();
        assert_eq!(report.findings[0].severity, Severity::Blocks);
        let refusal = report.verdict().unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Unmovable);
        assert_eq!(
            refusal.to_string(),
            "web cannot be moved: process 7 (node): descriptor 12 (io_uring): CRIU cannot dump it — close it"
        );
    }

    #[test]
    fn what_stays_behind_refuses_nothing() {
        assert!(
            report(vec![finding(Severity::LeftBehind, "x"), finding(Severity::Note, "y")]).verdict().is_ok()
        );
    }

    #[test]
    fn a_report_is_bounded_and_what_is_left_out_still_blocks() {
        let many = report(vec![finding(Severity::Blocks, "a\u{1b}[31mb"); MAX_FINDINGS + 9]).bounded();
        assert_eq!(many.findings.len(), MAX_FINDINGS);
        assert_eq!(many.findings[0].resource, "a [31mb");
        let last = many.findings.last().unwrap();
        assert_eq!((last.severity, last.reason.as_str()), (Severity::Blocks, "10 are left out"));
        let refusal = many.verdict().unwrap_err();
        assert!(refusal.reason.contains("and 61 more (mose check web)"), "{refusal}");
        assert_eq!(refusal.remedy, "close it", "a remedy is told once");
    }

    #[test]
    fn a_severity_of_a_later_release_blocks() {
        let text = r#"{"severity":"splendid","resource":"x","reason":"y","remedy":"z"}"#;
        assert_eq!(serde_json::from_str::<Finding>(text).unwrap().severity, Severity::Blocks);
    }
}
