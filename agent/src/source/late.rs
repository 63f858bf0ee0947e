//! What is learnt of a migration after its end: the operator had decided about a service in doubt, and the destination speaks.

use mose_protocol::handover::{HandoverState, Restored};
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::Step;
use mose_protocol::{MigrationId, Refusal, RefusalCode};

use crate::agent::Agent;

impl Agent {
    /// Puts right the record of a service that was decided about by hand, by what the destination says became of it.
    pub(crate) async fn became(&self, migration: &MigrationId, state: &HandoverState) {
        let Some(righted) = self.history.amend(migration, |record| righted(record.clone(), state)).await
        else {
            return;
        };
        let steps = self.steps.resumed(migration, righted.started_at);
        let outcome = righted.outcome.name();
        tracing::info!(%migration, outcome, "the destination has said what became of a service");
        // Whoever follows asks for the record again.
        steps.whole_ended(righted.outcome, righted.reason.as_ref());
    }
}

/// The record as it is now known to be; `None` where that is no news.
fn righted(mut record: Record, state: &HandoverState) -> Option<Record> {
    let (from, to) = (&record.from, &record.to);
    let given_up = format!("the operator had {from} discard its copy");
    match (record.outcome, state) {
        (Outcome::RolledBack, HandoverState::Restored(_)) => {
            let reason = format!(
                "the operator had the service resumed at {from}, and {to} runs it too: there are two copies"
            );
            let reason =
                Refusal::new(RefusalCode::Conflict, reason, format!("remove the one at {to}: podman rm -f"));
            if record.reason.as_ref() == Some(&reason) {
                return None;
            }
            record.reason = Some(reason);
        }
        (Outcome::GivenUp, HandoverState::Restored(restored)) => {
            let reason =
                format!("{given_up}; {to} has said since that it restored the service, which runs there");
            record.reason = Some(Refusal::new(RefusalCode::Failed, reason, ""));
            measure(&mut record, restored);
            record.outcome = Outcome::Done;
        }
        (Outcome::GivenUp, HandoverState::Refused(refused)) => {
            let reason = format!(
                "{given_up}, and {to} has said since that it does not run there: the service is lost"
            );
            let log =
                refused.log.as_deref().or(record.reason.as_ref().and_then(|reason| reason.log.as_deref()));
            let reason = Refusal::new(RefusalCode::Failed, reason, "start it again").with_log(log);
            if record.reason.as_ref() == Some(&reason) {
                return None;
            }
            record.reason = Some(reason);
        }
        _ => return None,
    }
    Some(record)
}

/// The figures that follow from when the destination released the service.
fn measure(record: &mut Record, restored: &Restored) {
    let released = restored.released_at.shifted(-record.downtime.clock.offset_us).since(record.started_at);
    record.duration = released;
    record.downtime.criu.restore = restored.criu_restore;
    let freeze = record.steps.iter().find(|step| step.step == Step::Freeze && step.host == record.from);
    record.downtime.blackout = freeze.map(|freeze| mose_pam::Millis(released.0 - freeze.start.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use mose_pam::{Bytes, Millis, Plan};
    use mose_protocol::Timestamp;
    use mose_protocol::record::{Downtime, StepTime};
    use mose_protocol::time::ClockOffset;

    fn record(outcome: Outcome) -> Record {
        let from: mose_protocol::HostName = "a".parse().unwrap();
        Record {
            migration: "m1".parse().unwrap(),
            simulated: false,
            by_hand: false,
            rehearsal: None,
            service: "web".parse().unwrap(),
            from: from.clone(),
            to: "b".parse().unwrap(),
            plan: Plan::cold(),
            transport: None,
            started_at: Timestamp(1_000_000),
            duration: Millis(15_000.0),
            outcome,
            reason: Some(Refusal::new(RefusalCode::Failed, "as it was", "")),
            image: Bytes(7),
            downtime: Downtime {
                clock: ClockOffset { offset_us: 500_000, uncertainty_us: 10 },
                ..Downtime::default()
            },
            forecast: None,
            flights: Vec::new(),
            rounds: Vec::new(),
            steps: vec![StepTime {
                host: from,
                step: Step::Freeze,
                start: Millis(100.0),
                took: Millis(5.0),
                bytes: None,
                detail: None,
            }],
        }
    }

    fn restored() -> HandoverState {
        HandoverState::Restored(Restored {
            started_at: Timestamp(0),
            released_at: Timestamp(3_500_000),
            finished_at: Timestamp(0),
            criu_restore: Some(Millis(50.0)),
            held: 0,
            overflowed: 0,
        })
    }

    #[test]
    fn a_service_that_was_given_up_is_done_only_once_the_destination_has_restored_it() {
        let told = righted(record(Outcome::GivenUp), &restored()).unwrap();
        assert_eq!(told.outcome, Outcome::Done);
        assert!(told.reason.unwrap().reason.contains("b has said since that it restored"));
        // Frozen at 1.1 s, released at 3.0 s on the source's clock.
        assert_eq!((told.downtime.blackout, told.duration), (Some(Millis(1900.0)), Millis(2000.0)));
        for undecided in [HandoverState::Unknown, HandoverState::Preparing, HandoverState::Restoring] {
            assert_eq!(righted(record(Outcome::GivenUp), &undecided), None);
        }
    }

    #[test]
    fn what_never_ran_at_the_destination_either_is_lost_and_told_once() {
        let refused = HandoverState::Refused(Refusal::new(RefusalCode::Failed, "restarted", ""));
        let told = righted(record(Outcome::GivenUp), &refused).unwrap();
        assert_eq!(told.outcome, Outcome::GivenUp);
        assert!(told.reason.as_ref().unwrap().reason.ends_with("the service is lost"));
        assert_eq!(righted(told, &refused), None);
    }

    #[test]
    fn two_copies_are_told_and_nothing_else_is_touched() {
        let told = righted(record(Outcome::RolledBack), &restored()).unwrap();
        assert_eq!((told.outcome, told.duration), (Outcome::RolledBack, Millis(15_000.0)));
        assert!(told.reason.as_ref().unwrap().reason.ends_with("there are two copies"));
        assert_eq!(righted(told, &restored()), None);
        for outcome in [Outcome::Done, Outcome::Refused, Outcome::Aborted, Outcome::InDoubt] {
            assert_eq!(righted(record(outcome), &restored()), None, "{outcome:?}");
        }
    }
}
