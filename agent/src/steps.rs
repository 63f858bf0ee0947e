//! The events of every migration that this host has a part in: numbered, kept, published.
//!
//! Publishing never waits: a step inside the downtime must not stand in a queue behind the network. What a
//! subscriber missed it can ask for, by sequence number.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use mose_driver::Tasks;
use mose_pam::Bytes;
use mose_protocol::handover::Task;
use mose_protocol::record::Outcome;
use mose_protocol::step::{Phase, Round, Step, StepEvent};
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Timestamp, envelope, keys};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// How many migrations' events are kept for those who ask later.
const KEPT: usize = 64;

/// The events of one migration, the first of them numbered `base`.
#[derive(Default)]
struct Numbered {
    base: u64,
    events: Vec<StepEvent>,
}

#[derive(Default)]
struct Kept {
    migrations: HashMap<MigrationId, Numbered>,
    order: VecDeque<MigrationId>,
}

impl Kept {
    fn of(&mut self, migration: &MigrationId) -> &mut Numbered {
        if !self.migrations.contains_key(migration) {
            self.order.push_back(migration.clone());
            if self.order.len() > KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.migrations.remove(&oldest);
            }
        }
        self.migrations.entry(migration.clone()).or_default()
    }
}

/// The events of this host.
#[derive(Clone)]
pub struct StepLog {
    host: HostName,
    kept: Arc<Mutex<Kept>>,
    publish: mpsc::UnboundedSender<StepEvent>,
}

impl StepLog {
    /// A log whose events go out over `session`, to the last one, until `tasks` are stopped.
    #[must_use]
    pub fn publishing(host: HostName, session: zenoh::Session, tasks: &Tasks) -> Self {
        let (publish, mut events) = mpsc::unbounded_channel::<StepEvent>();
        let stopped = tasks.clone();
        tasks.spawn_to_its_end(async move {
            loop {
                let event = tokio::select! {
                    biased;
                    Some(event) = events.recv() => event,
                    () = stopped.stopped() => return,
                };
                send(&session, &event).await;
            }
        });
        Self { host, kept: Arc::default(), publish }
    }

    /// The events of `migration` from number `from` on.
    #[must_use]
    pub fn since(&self, migration: &MigrationId, from: u64) -> Vec<StepEvent> {
        let kept = self.kept.lock();
        let numbered = kept.migrations.get(migration);
        let events = numbered.map(|numbered| numbered.events.as_slice()).unwrap_or_default();
        events.iter().filter(|event| event.seq >= from).cloned().collect()
    }

    /// The pen for a migration that an earlier life of the agent began at `begun`: its numbers go on above any that
    /// were used, which are lost, so that whoever followed it takes what comes for news.
    #[must_use]
    pub fn resumed(&self, migration: &MigrationId, begun: Timestamp) -> Steps {
        let elapsed_ms = Timestamp::now().0.saturating_sub(begun.0) / 1000;
        self.kept.lock().of(migration).base = elapsed_ms + 1000;
        self.of(migration)
    }

    /// The pen for one migration.
    #[must_use]
    pub fn of(&self, migration: &MigrationId) -> Steps {
        Steps { log: self.clone(), migration: migration.clone() }
    }

    fn write(&self, migration: &MigrationId, step: Step, phase: Phase, note: Note) {
        let mut kept = self.kept.lock();
        let numbered = kept.of(migration);
        let event = StepEvent {
            migration: migration.clone(),
            seq: numbered.base + numbered.events.len() as u64,
            host: self.host.clone(),
            step,
            phase,
            at: note.at.unwrap_or_else(Timestamp::now),
            bytes: note.bytes,
            round: note.round,
            detail: note.detail,
            task: note.task,
        };
        numbered.events.push(event.clone());
        // Sent under the lock, so that the order on the wire is the order of the numbers.
        let _ = self.publish.send(event);
    }
}

async fn send(session: &zenoh::Session, event: &StepEvent) {
    let key = keys::steps(&event.migration, &event.host);
    let Ok(bytes) = envelope::seal(event) else { return };
    let put = session
        .put(key, bytes)
        .congestion_control(zenoh::qos::CongestionControl::Block)
        .priority(zenoh::qos::Priority::InteractiveHigh)
        .express(true);
    if let Err(error) = put.await {
        tracing::warn!(%error, "a step was not published; it can still be asked for");
    }
}

/// What an event says beside its step and phase.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// When it was, if not now.
    pub at: Option<Timestamp>,
    /// The bytes moved.
    pub bytes: Option<Bytes>,
    /// The figures of a round of pre-copy.
    pub round: Option<Round>,
    /// What a person may want to know.
    pub detail: Option<String>,
    /// The order, where the whole begins.
    pub task: Option<Box<Task>>,
}

/// Writes the events of one migration.
#[derive(Clone)]
pub struct Steps {
    log: StepLog,
    migration: MigrationId,
}

impl Steps {
    /// A step begins.
    pub fn started(&self, step: Step) {
        self.log.write(&self.migration, step, Phase::Started, Note::default());
    }

    /// The whole begins, by this order.
    pub fn ordered(&self, task: &Task) {
        let note = Note { task: Some(Box::new(task.clone())), ..Note::default() };
        self.log.write(&self.migration, Step::Migration, Phase::Started, note);
    }

    /// A step began at a time that is already past.
    pub fn started_at(&self, step: Step, at: Timestamp) {
        self.log.write(&self.migration, step, Phase::Started, Note { at: Some(at), ..Note::default() });
    }

    /// A step is on its way.
    pub fn progress(&self, step: Step, bytes: Bytes) {
        let note = Note { bytes: Some(bytes), ..Note::default() };
        self.log.write(&self.migration, step, Phase::Progress, note);
    }

    /// A step is done.
    pub fn finished(&self, step: Step, note: Note) {
        self.log.write(&self.migration, step, Phase::Finished, note);
    }

    /// A step is done and there is nothing to add.
    pub fn done(&self, step: Step) {
        self.finished(step, Note::default());
    }

    /// A step failed, or was left undone as the operator aborted the migration.
    pub fn failed(&self, step: Step, reason: &Refusal) {
        self.failed_after(step, reason, None);
    }

    /// The same of a step that had moved so many bytes.
    pub fn failed_after(&self, step: Step, reason: &Refusal, bytes: Option<Bytes>) {
        let aborted = reason.code == RefusalCode::Aborted;
        let phase = if aborted { Phase::Aborted } else { Phase::Failed };
        let note = Note { bytes, detail: Some(reason.to_string()), ..Note::default() };
        self.log.write(&self.migration, step, phase, note);
    }

    /// The whole has ended so. Told again, it has whoever follows ask for the record again.
    pub fn whole_ended(&self, outcome: Outcome, reason: Option<&Refusal>) {
        match reason {
            Some(reason) if outcome != Outcome::Done => self.failed(Step::Migration, reason),
            _ => self.done(Step::Migration),
        }
    }

    /// Ends what this host had begun and was broken off in, for this reason; the whole goes on.
    pub fn end_open(&self, reason: &Refusal) {
        for step in open_steps(&self.all()) {
            self.failed(step, reason);
        }
    }

    /// Ends a step by its result, and hands the result on.
    ///
    /// # Errors
    /// Exactly where `result` is one.
    pub fn end<T>(&self, step: Step, result: Result<T, Refusal>) -> Result<T, Refusal> {
        match &result {
            Ok(_) => self.done(step),
            Err(error) => self.failed(step, error),
        }
        result
    }

    /// All events so far.
    #[must_use]
    pub fn all(&self) -> Vec<StepEvent> {
        self.log.since(&self.migration, 0)
    }
}

/// The steps that were begun and have not ended, but for the whole.
fn open_steps(events: &[StepEvent]) -> Vec<Step> {
    let mut open = Vec::new();
    for event in events.iter().filter(|event| event.step != Step::Migration) {
        match event.phase {
            Phase::Started => open.push(event.step),
            Phase::Progress => {}
            Phase::Finished | Phase::Failed | Phase::Aborted => open.retain(|step| *step != event.step),
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_and_has_not_ended_is_open() {
        let event = |step, phase| StepEvent {
            migration: "m".parse().unwrap(),
            seq: 0,
            host: "a".parse().unwrap(),
            step,
            phase,
            at: Timestamp(1),
            bytes: None,
            round: None,
            detail: None,
            task: None,
        };
        let events = [
            event(Step::Migration, Phase::Started),
            event(Step::Inspect, Phase::Started),
            event(Step::Inspect, Phase::Finished),
            event(Step::Prepare, Phase::Started),
            event(Step::ContainerImage, Phase::Started),
            event(Step::ContainerImage, Phase::Aborted),
        ];
        assert_eq!(open_steps(&events), [Step::Prepare]);
    }
}
