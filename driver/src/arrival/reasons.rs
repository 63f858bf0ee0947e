//! The machine's states and reasons, as the source is told them and as they lie in the journal.

use mose_handover::destination::{Said, Why};
use mose_protocol::handover::{HandoverState, Rehearsed, Restored};
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode};

use super::IDLE_DEADLINE;

/// What there is to tell of a good end.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) restored: Option<Restored>,
    pub(super) rehearsed: Option<Rehearsed>,
}

/// What the reasons speak of.
#[derive(Debug, Clone)]
pub(super) struct Parties {
    pub(super) migration: MigrationId,
    pub(super) from: HostName,
    pub(super) to: HostName,
}

impl Parties {
    /// Why the destination refused. `unwritten`: why the journal could not be written, the last time.
    pub(super) fn reason(&self, why: &Why<Refusal>, unwritten: Option<&Refusal>) -> Refusal {
        let Self { from, to, .. } = self;
        let failed = |reason: String, remedy: &str| Refusal::new(RefusalCode::Failed, reason, remedy);
        match why {
            Why::Failed(refusal) => refusal.clone(),
            Why::Journal => unwritten.cloned().unwrap_or_else(|| {
                failed(format!("the journal on {to} could not be written"), "see the agent's log there")
            }),
            Why::Withdrawn => withdrawn(),
            Why::Restarted => {
                failed(format!("the agent on {to} was restarted during the hand-over"), "migrate again")
            }
            Why::Idle => Refusal::new(
                RefusalCode::Unreachable,
                format!("the source was silent for {IDLE_DEADLINE:?}"),
                "migrate again",
            ),
            Why::Over => failed(format!("the migration ended at {from}, which was not heard here"), ""),
        }
    }

    /// What is told of a hand-over that is so far.
    pub(super) fn state(
        &self,
        said: Said<Refusal>,
        figures: &Figures,
        unwritten: Option<&Refusal>,
    ) -> HandoverState {
        match said {
            Said::Preparing => HandoverState::Preparing,
            Said::Restoring => HandoverState::Restoring,
            // The machine says so once a restore or a release has ended, which leaves its figures.
            Said::Restored => {
                figures.restored.clone().map_or(HandoverState::Restoring, HandoverState::Restored)
            }
            Said::Rehearsed => {
                figures.rehearsed.clone().map_or(HandoverState::Preparing, HandoverState::Rehearsed)
            }
            Said::Refused(why) => HandoverState::Refused(self.reason(&why, unwritten)),
        }
    }

    /// The refusal of what cannot be done to a hand-over that is so far.
    pub(super) fn out_of_turn(&self, state: &HandoverState) -> Refusal {
        out_of_turn(&self.migration, state)
    }
}

/// The refusal of a hand-over that the source has withdrawn.
pub(super) fn withdrawn() -> Refusal {
    Refusal::new(RefusalCode::Failed, "the source took the service back before handing it over", "")
}

/// The refusal of what cannot be done to a hand-over that is so far.
pub(super) fn out_of_turn(migration: &MigrationId, state: &HandoverState) -> Refusal {
    let name = match state {
        HandoverState::Unknown => "unknown",
        HandoverState::Preparing => "being prepared",
        HandoverState::Restoring => "being restored",
        HandoverState::Restored(_) => "restored",
        HandoverState::Refused(_) => "refused",
        HandoverState::Rehearsed(_) => "rehearsed",
    };
    Refusal::new(
        RefusalCode::OutOfTurn,
        format!("the destination cannot do this to migration {migration}, which is {name} there"),
        "",
    )
}

/// What a journal says, for the machine; and the figures of a restore or a rehearsal.
pub(super) fn said(state: HandoverState) -> (Said<Refusal>, Figures) {
    let mut figures = Figures::default();
    let said = match state {
        HandoverState::Unknown | HandoverState::Preparing => Said::Preparing,
        HandoverState::Restoring => Said::Restoring,
        HandoverState::Restored(restored) => {
            figures.restored = Some(restored);
            Said::Restored
        }
        HandoverState::Refused(refusal) => Said::Refused(Why::Failed(refusal)),
        HandoverState::Rehearsed(rehearsed) => {
            figures.rehearsed = Some(rehearsed);
            Said::Rehearsed
        }
    };
    (said, figures)
}
