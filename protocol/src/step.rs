//! The events of a migration: lossless and in order per migration and host.

use mose_pam::{Bytes, Millis, Plan};
use serde::{Deserialize, Serialize};

use crate::handover::Task;
use crate::{HostName, MigrationId, Timestamp};

/// What a migration is made of. Each is measured on the host that does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The whole, on the source.
    Migration,
    /// The source looks at the container and asks the destination.
    Inspect,
    /// The destination creates container, network namespace and port, and opens the transfer.
    Prepare,
    /// The container's image is brought to the destination, which lacked it.
    ContainerImage,
    /// The container's root file system changes are sent while it runs.
    RootfsPrecopy,
    /// What lies beside the root file system (volumes, shared memory) is sent while the container runs.
    VolumePrecopy,
    /// Pre-copy's first round: every page of the running service.
    PreDump,
    /// A further round of pre-copy: what was dirtied since the one before.
    Iteration,
    /// The engine's checkpoint call, from request to answer.
    Checkpoint,
    /// The source's part of the freeze: its own flow turned, the cgroup frozen.
    Freeze,
    /// CRIU dumps, from the freeze to the last image file.
    Dump,
    /// The images travel, from the first byte to the verified digest.
    Transfer,
    /// A host sends the service's flow to the destination.
    Redirect,
    /// The source's processes are gone.
    Stop,
    /// Ownership is given up in the source's journal and sent.
    Relinquish,
    /// The engine's restore call, from request to answer.
    Restore,
    /// The held segments are released: the service is back.
    Release,
    /// The source takes the service back.
    Reclaim,
    /// What the service left behind is removed.
    Cleanup,
    /// The client's gap, by its host's clock.
    ClientGap,
}

impl Step {
    /// The name that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Migration => "migration",
            Self::Inspect => "inspect",
            Self::Prepare => "prepare",
            Self::ContainerImage => "container image",
            Self::RootfsPrecopy => "rootfs pre-copy",
            Self::VolumePrecopy => "volume pre-copy",
            Self::PreDump => "pre-dump",
            Self::Iteration => "iteration",
            Self::Checkpoint => "checkpoint",
            Self::Freeze => "freeze",
            Self::Dump => "dump",
            Self::Transfer => "transfer",
            Self::Redirect => "redirect",
            Self::Stop => "stop",
            Self::Relinquish => "relinquish",
            Self::Restore => "restore",
            Self::Release => "release",
            Self::Reclaim => "reclaim",
            Self::Cleanup => "cleanup",
            Self::ClientGap => "client gap",
        }
    }
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It began.
    Started,
    /// It is on its way; the bytes tell how far.
    Progress,
    /// It is done.
    Finished,
    /// It failed; the detail tells why.
    Failed,
    /// It was left undone because the operator aborted the migration: nothing failed.
    Aborted,
}

impl Phase {
    /// Whether the step is over, well or not.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Aborted)
    }
}

/// What a round of pre-copy did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Round {
    /// 0 is the pre-dump, 1 the first iteration.
    pub number: u32,
    /// Pages that may have changed since the round before, and were looked at.
    pub pages: u64,
    /// Pages that were sent: those that had changed and that the destination did not have.
    pub sent: u64,
    /// Bytes of the pages sent.
    pub bytes: Bytes,
    /// From the first page read to the destination's acknowledgement of the last.
    pub took: Millis,
    /// Whether it left less to send than the round before: otherwise further rounds only lengthen the migration.
    pub pays: bool,
}

/// The round after which a plan's rounds ended early, so that only the last one, right before the freeze, was made after it:
/// the first that no longer paid. `None` where all that were planned were made, or nothing says otherwise yet.
#[must_use]
pub fn ended_early<'a>(plan: &Plan, rounds: impl IntoIterator<Item = &'a Round>) -> Option<u32> {
    let planned = plan.iterations.filter(|_| plan.end_early)?;
    let is_end = |round: &&Round| !round.pays && (1..planned.saturating_sub(1)).contains(&round.number);
    rounds.into_iter().find(is_end).map(|round| round.number)
}

/// One event of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepEvent {
    /// The migration.
    pub migration: MigrationId,
    /// 0, 1, 2 … per migration and host: a gap means that some were missed and can be asked for.
    pub seq: u64,
    /// The host that did it.
    pub host: HostName,
    /// What it did.
    pub step: Step,
    /// How far it is.
    pub phase: Phase,
    /// When, on the host's own clock.
    pub at: Timestamp,
    /// The bytes moved so far in this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// The figures of a round of pre-copy, where the step is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<Round>,
    /// What a person may want to know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The order, where the source begins the whole: whoever follows learns from it what is moved, and whereto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Box<Task>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use mose_pam::Strategy;

    #[test]
    fn rounds_end_at_the_first_that_no_longer_pays_where_that_leaves_any_out() {
        let plan = |iterations: u32, end_early: bool| Plan {
            strategy: Strategy::IterativePrecopy,
            iterations: Some(iterations),
            end_early,
            ..Plan::cold()
        };
        let rounds = |pays: &[bool]| -> Vec<Round> {
            let round = |(number, pays): (u32, &bool)| {
                let (bytes, took) = (Bytes(4096), Millis(1.0));
                Round { number, pages: 1, sent: 1, bytes, took, pays: *pays }
            };
            (0..).zip(pays).map(round).collect()
        };
        let (first, never) = (rounds(&[true, true, false, false]), rounds(&[true, true, true]));
        assert_eq!(ended_early(&plan(5, true), &first), Some(2));
        assert_eq!(ended_early(&plan(4, true), &first), Some(2));
        // The third of three is the last one, which is made in any case.
        assert_eq!(ended_early(&plan(3, true), &first), None);
        assert_eq!(ended_early(&plan(5, false), &first), None);
        assert_eq!(ended_early(&plan(5, true), &never), None);
        assert_eq!(ended_early(&plan(0, true), &first), None);
        assert_eq!(ended_early(&Plan::cold(), &first), None);
    }

    #[test]
    fn an_order_of_an_older_console_has_all_its_iterations_made() {
        let old = r#"{"strategy":"iterative-precopy","iterations":7,"bandwidth":null}"#;
        let plan: Plan = serde_json::from_str(old).unwrap();
        assert!(!plan.end_early);
        assert_eq!(serde_json::to_string(&plan).unwrap(), old);
        let early = Plan { end_early: true, ..plan };
        assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&early).unwrap()).unwrap(), early);
    }
}
