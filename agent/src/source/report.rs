//! What is measured of a migration, and the record that it becomes.

use std::collections::HashMap;

use mose_bus::peers::QUICK;
use mose_pam::{Bytes, Millis};
use mose_protocol::handover::{Rehearsed, Restored};
use mose_protocol::record::{ClientGap, CriuTimes, Downtime, Outcome, Record, Rehearsal, StepTime};
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_protocol::time::ClockOffset;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{Refusal, Reply, Request, Timestamp};
use mose_transfer::SentSoFar;

use super::flights::Absence;
use super::{Ending, Source};
use crate::client_gap::Away;
use crate::steps::Note;

/// The figures of one migration as they come in. Times are on the source's clock.
pub(crate) struct Measured {
    started_at: Timestamp,
    clock: ClockOffset,
    transport: Option<TransportKind>,
    sent: SentSoFar,
    frozen_at: Option<Timestamp>,
    stands_still_at: Option<Timestamp>,
    released_at: Option<Timestamp>,
    /// When the restore came to where it could run, in a rehearsal.
    rehearsed_at: Option<Timestamp>,
    criu: CriuTimes,
    clients: Vec<ClientGap>,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            started_at: Timestamp::now(),
            clock: ClockOffset::default(),
            transport: None,
            sent: SentSoFar::default(),
            frozen_at: None,
            stands_still_at: None,
            released_at: None,
            rehearsed_at: None,
            criu: CriuTimes::default(),
            clients: Vec::new(),
        }
    }
}

impl Measured {
    pub(crate) const fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// A migration that an earlier life of the agent began.
    pub(crate) const fn begun_at(&mut self, at: Timestamp) {
        self.started_at = at;
    }

    pub(crate) const fn clock(&mut self, clock: ClockOffset) {
        self.clock = clock;
    }

    pub(crate) const fn transport(&mut self, kind: TransportKind) {
        self.transport = Some(kind);
    }

    /// What counts the bytes that the transfer sends, however it ends.
    pub(crate) fn sending(&mut self, sent: SentSoFar) {
        self.sent = sent;
    }

    /// The bytes that were sent so far.
    pub(crate) fn sent(&self) -> Bytes {
        self.sent.bytes()
    }

    /// Whether the service stood still at any time.
    pub(crate) const fn was_frozen(&self) -> bool {
        self.frozen_at.is_some()
    }

    pub(crate) const fn frozen_at(&mut self, at: Timestamp) {
        self.frozen_at = Some(at);
    }

    /// The freeze, which began at [`Self::frozen_at`], is complete.
    pub(crate) const fn stands_still_at(&mut self, at: Timestamp) {
        self.stands_still_at = Some(at);
    }

    pub(crate) const fn released_at(&mut self, at: Timestamp) {
        self.released_at = Some(at);
    }

    pub(crate) const fn criu_dump(&mut self, dump: CriuTimes) {
        self.criu = CriuTimes { restore: self.criu.restore, ..dump };
    }

    pub(crate) fn restored(&mut self, restored: &Restored) {
        self.criu.restore = restored.criu_restore;
        self.released_at = Some(restored.released_at.shifted(-self.clock.offset_us));
    }

    pub(crate) fn rehearsed(&mut self, rehearsed: &Rehearsed) {
        self.criu.restore = rehearsed.criu_restore;
        self.rehearsed_at = Some(rehearsed.ended_at.shifted(-self.clock.offset_us));
    }

    /// For how long the service would have stood still.
    fn rehearsal(&self) -> Rehearsal {
        let would = self.frozen_at.zip(self.rehearsed_at).map(|(from, to)| to.since(from));
        Rehearsal { would_stand_still_ms: would.filter(|would| would.0 >= 0.0) }
    }

    /// When the service was back.
    pub(crate) const fn back_at(&self) -> Option<Timestamp> {
        self.released_at
    }

    /// When the service answered nobody, on the source's clock.
    pub(crate) fn away(&self) -> Away {
        Away {
            from: self.stands_still_at.or(self.frozen_at),
            until: self.released_at,
            uncertainty_us: self.clock.uncertainty_us,
        }
    }

    /// When it began, when the service was frozen and when it was back, of a service that was away and is back.
    pub(crate) fn absence(&self) -> Option<Absence> {
        let (frozen, back) = self.frozen_at.zip(self.released_at)?;
        Some(Absence { begun: self.started_at, frozen, back })
    }

    /// What the clients saw.
    pub(crate) fn clients(&mut self, clients: Vec<ClientGap>) {
        self.clients = clients;
    }

    fn downtime(&self) -> Downtime {
        Downtime {
            criu: self.criu,
            blackout: self.frozen_at.zip(self.released_at).map(|(from, to)| to.since(from)),
            clock: self.clock,
            clients: self.clients.clone(),
        }
    }
}

/// Events as steps with a beginning and a length; a step without an end is left out.
fn step_times(events: &[StepEvent], offset_us: i64, origin: Timestamp) -> Vec<StepTime> {
    let mut open: HashMap<Step, Timestamp> = HashMap::new();
    let mut times = Vec::new();
    for event in events {
        let at = event.at.shifted(-offset_us);
        match event.phase {
            Phase::Started => {
                open.insert(event.step, at);
            }
            Phase::Progress => {}
            Phase::Finished | Phase::Failed | Phase::Aborted => {
                let start = open.remove(&event.step).unwrap_or(at);
                times.push(StepTime {
                    host: event.host.clone(),
                    step: event.step,
                    start: start.since(origin),
                    took: at.since(start),
                    bytes: event.bytes,
                    detail: event.detail.clone(),
                });
            }
        }
    }
    times
}

impl Source {
    /// Tells the end.
    pub(crate) fn tell_ending(&self, (outcome, reason): Ending) {
        for client in &self.measured.clients {
            let alone = Downtime { clients: vec![client.clone()], ..Downtime::default() };
            let detail = Some(format!("{} at {}", alone.silence(), client.host));
            let note = Note { detail, ..Note::default() };
            self.steps.finished(Step::ClientGap, note);
        }
        self.steps.whole_ended(outcome, reason.as_ref());
        tracing::info!(migration = %self.task().migration, outcome = outcome.name(), "a migration ended");
    }

    /// Puts what is known of the migration into the history.
    pub(crate) async fn record(&self, outcome: Outcome, reason: Option<Refusal>) {
        let task = self.task();
        let origin = self.measured.started_at;
        let mut steps = step_times(&self.steps.all(), 0, origin);
        let there = Request::Steps { migration: task.migration.clone(), from: 0 };
        if outcome != Outcome::Refused
            && outcome != Outcome::InDoubt
            && let Ok(Reply::Steps(events)) = self.agent.requests.ask(&task.to, &there, QUICK).await
        {
            steps.extend(step_times(&events, self.measured.clock.offset_us, origin));
        }
        steps.sort_by(|a, b| a.start.0.total_cmp(&b.start.0));
        let mut downtime = self.measured.downtime();
        if outcome == Outcome::InDoubt {
            downtime.clients = self.clients_so_far().await;
        }
        let record = Record {
            migration: task.migration.clone(),
            simulated: !self.agent.surroundings.measured(),
            by_hand: false,
            rehearsal: task.rehearsal.then(|| self.measured.rehearsal()),
            service: task.service.clone(),
            from: task.from.clone(),
            to: task.to.clone(),
            plan: task.plan.clone(),
            transport: self.measured.transport,
            started_at: origin,
            // A rehearsal goes on when the service does.
            duration: self
                .measured
                .back_at()
                .filter(|_| !task.rehearsal)
                .map_or_else(|| duration(&steps, origin), |at| at.since(origin)),
            outcome,
            reason,
            image: self.measured.sent(),
            downtime,
            forecast: task.forecast.clone(),
            flights: Vec::new(),
            rounds: self.steps.all().iter().filter_map(|event| event.round).collect(),
            steps,
        };
        self.agent.links.transferred(&record);
        self.agent.history.add(record).await;
    }
}

/// From the order to the last step that the service's move needs: tidying up and measuring come after it.
fn duration(steps: &[StepTime], origin: Timestamp) -> Millis {
    steps
        .iter()
        .filter(|step| {
            !matches!(step.step, Step::Cleanup | Step::ClientGap | Step::Checkpoint | Step::Migration)
        })
        .map(|step| Millis(step.start.0 + step.took.0))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or_else(|| Timestamp::now().since(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, step: Step, phase: Phase, at: u64) -> StepEvent {
        StepEvent {
            migration: "m".parse().unwrap(),
            seq,
            host: "edge-b".parse().unwrap(),
            step,
            phase,
            at: Timestamp(at),
            bytes: None,
            round: None,
            detail: None,
            task: None,
        }
    }

    #[test]
    fn steps_of_another_host_are_put_on_the_sources_clock() {
        let events = [
            event(0, Step::Restore, Phase::Started, 2_000_000),
            event(1, Step::Restore, Phase::Finished, 2_100_000),
        ];
        let times = step_times(&events, 1_000_000, Timestamp(900_000));
        assert_eq!(times.len(), 1);
        assert_eq!(times[0].start, Millis(100.0));
        assert_eq!(times[0].took, Millis(100.0));
    }

    #[test]
    fn the_blackout_is_from_freeze_to_release_on_one_clock() {
        let mut measured = Measured::default();
        measured.clock(ClockOffset { offset_us: 500_000, uncertainty_us: 100 });
        measured.frozen_at(Timestamp(1_000_000));
        measured.restored(&Restored {
            started_at: Timestamp(0),
            released_at: Timestamp(1_700_000),
            finished_at: Timestamp(0),
            criu_restore: None,
            held: 0,
            overflowed: 0,
        });
        assert_eq!(measured.downtime().blackout, Some(Millis(200.0)));
    }
}
