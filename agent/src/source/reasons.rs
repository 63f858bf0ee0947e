//! The machine's reasons and doubts, as people read them.

use mose_driver::departure::{DOUBT_AFTER, UNDECIDED};
use mose_handover::source::{Doubt, Why};
use mose_protocol::{Refusal, RefusalCode};

use super::{Source, aborted};

impl Source {
    /// Why the migration did not end well.
    pub(super) fn reason(&self, why: Why<Refusal>) -> Refusal {
        let (from, to) = (&self.task().from, &self.task().to);
        let failed = |reason: String, remedy: &str| Refusal::new(RefusalCode::Failed, reason, remedy);
        match why {
            Why::Failed(refusal) if refusal.code == RefusalCode::Aborted => self.aborted_when(refusal),
            Why::Failed(refusal) => refusal,
            Why::Aborted => self.aborted_when(aborted()),
            Why::Journal => self
                .unwritten
                .clone()
                .unwrap_or_else(|| failed("the journal could not be written".into(), "see the agent's log")),
            Why::Restarted => {
                failed(format!("the agent on {from} was restarted during the migration"), "migrate again")
            }
            Why::Rehearsed => failed("it was rehearsed".into(), ""),
            Why::Unheard => Refusal::new(
                RefusalCode::Unreachable,
                format!(
                    "{to} did not say how the restore went that it rehearsed; the service went on at {from}"
                ),
                "see whether its agent runs, then rehearse again",
            ),
            Why::Kept => failed(format!("the operator had the service resumed at {from}"), ""),
            Why::GivenUp if self.taken_up => self.volumes_kept(failed(
                format!("the operator had {from} discard its copy of the service"),
                &format!("look at {to} with podman ps"),
            )),
            Why::GivenUp => self.volumes_kept(failed(
                format!(
                    "the operator had {from} discard its copy, and {to} has not said that it runs the service"
                ),
                &format!(
                    "look at {to} with podman ps; once its agent speaks, this record says what became of it"
                ),
            )),
            Why::Lost(before) => {
                let before = self.reason(*before);
                let why = &before.reason;
                self.volumes_kept(
                    failed(
                        format!(
                            "{why}; {from} could not take the service back, and the operator gave it up: it is lost"
                        ),
                        "start it again",
                    )
                    .with_log(before.log.as_deref()),
                )
            }
        }
    }

    /// Why the service is in doubt, and what the operator can do.
    pub(super) fn in_doubt(&self, doubt: &Doubt<Refusal>) -> Refusal {
        let (to, service) = (&self.task().to, &self.task().service);
        let waited = match doubt {
            Doubt::Silent => DOUBT_AFTER,
            Doubt::Undecided => UNDECIDED,
            Doubt::NotTakenBack { why, error } => {
                let reason = self.reason(why.clone());
                return Refusal::new(
                    RefusalCode::Failed,
                    format!("{reason}; and the source could not take the service back: {error}"),
                    "its images are kept and it is tried again every few seconds; remove the cause, or give the \
                     service up: mose settle",
                )
                .with_log(error.log.as_deref().or(reason.log.as_deref()));
            }
        };
        Refusal::new(
            RefusalCode::Unreachable,
            format!("{to} has not said for {waited:?} whether it restored {service}"),
            "bring its agent back; or look there with podman ps, and settle it by hand: mose settle",
        )
    }

    /// An abort, with what it found.
    fn aborted_when(&self, mut refusal: Refusal) -> Refusal {
        refusal.reason = match self.measured.was_frozen() {
            true if self.task().rehearsal => "the operator aborted it; the service went on".to_owned(),
            false => "the operator aborted it before the service was frozen".to_owned(),
            true => "the operator aborted it while the service stood still".to_owned(),
        };
        refusal
    }

    fn volumes_kept(&self, mut reason: Refusal) -> Refusal {
        if self.leaving.as_ref().is_some_and(|leaving| !leaving.volumes.is_empty()) {
            reason.reason.push_str(&format!("; its volumes are kept at {}", self.task().from));
        }
        reason
    }
}
