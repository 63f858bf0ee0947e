//! The source's side of a hand-over: it drives the migration from the order to the clean-up.
//!
//! Until *relinquished* is in its journal the service is this host's, and whatever fails ends with it running
//! here. From then on it is nobody's until the destination speaks; where that stays silent the source waits and
//! asks, and never guesses.

mod clients;
mod drive;
mod files;
mod hand_over;
mod late;
pub(crate) mod pre_copy;
mod ready;
mod reasons;
mod stop_and_copy;
mod take_back;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mose_handover::source as machine;
use mose_pam::{Plan, Strategy};
use mose_protocol::handover::{Place, Prepare, Restored, Task};
use mose_protocol::record::{CriuTimes, Outcome};
use mose_protocol::{MigrationId, Refusal, RefusalCode, Request};
use mose_transfer::{Sender, check_bandwidth};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::agent::{Agent, Busy};
use crate::engine::Container;
use crate::journal::{Found, Journal, Outgoing, SourceState};
use crate::report::Measured;
use crate::steps::Steps;
use clients::Watcher;
use files::Files;
use pre_copy::Rounds;

/// The machine that decides what is done.
type Machine = mose_handover::Source<Refusal>;
type Effect = machine::Effect<Refusal>;

/// A migration that leaves this host, as others may see and influence it.
pub(crate) struct Control {
    task: Task,
    machine: Mutex<Machine>,
    /// Whether what is being done is to be broken off.
    breaks: watch::Sender<bool>,
    /// What the operator decides for a service in doubt: whether this host keeps it.
    decisions: mpsc::UnboundedSender<bool>,
}

impl Control {
    fn new(task: Task, machine: Machine) -> (Arc<Self>, mpsc::UnboundedReceiver<bool>) {
        let (decisions, decided) = mpsc::unbounded_channel();
        let breaks = watch::Sender::new(false);
        (Arc::new(Self { task, machine: Mutex::new(machine), breaks, decisions }), decided)
    }

    pub(crate) const fn task(&self) -> &Task {
        &self.task
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn in_doubt(&self) -> bool {
        self.machine().in_doubt()
    }

    /// Whether the operator has aborted it.
    pub(crate) fn is_aborted(&self) -> bool {
        self.machine().is_aborted()
    }

    /// Aborts the migration; whether it is aborted now. What aborts and what commits cannot both win.
    fn abort(&self) -> bool {
        let mut machine = self.machine();
        for effect in machine.step(machine::Event::Abort) {
            if effect == Effect::BreakOff {
                self.breaks.send_replace(true);
            }
        }
        machine.is_aborted()
    }

    /// Returns when what is being done is to be broken off, as the operator has aborted the migration.
    async fn broken_off(&self) -> Refusal {
        let mut breaks = self.breaks.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = breaks.wait_for(|breaks| *breaks).await;
        aborted()
    }
}

/// How a migration ended, for its record.
pub(crate) type Ending = (Outcome, Option<Refusal>);

/// One migration at its source: what the machine's effects work on.
pub(crate) struct Source {
    pub(crate) agent: Arc<Agent>,
    pub(crate) control: Arc<Control>,
    pub(crate) steps: Steps,
    pub(crate) measured: Measured,
    watchers: Vec<Watcher>,
    decided: mpsc::UnboundedReceiver<bool>,
    /// What leaves and from where, once it was inspected; known without asking an engine again that may hang.
    leaving: Option<Outgoing>,
    journal: Option<Journal<SourceState>>,
    /// What the destination is asked to prepare, until it is.
    prepare: Option<Prepare>,
    /// Never locked: what it holds can be sent to another thread, and not be shared.
    ready: Mutex<Option<Ready>>,
    /// The engine's call that dumps.
    dump: Option<JoinHandle<Result<CriuTimes, Refusal>>>,
    /// Why the journal could not be written, the last time.
    unwritten: Option<Refusal>,
    /// What the destination said of the restore.
    restored: Option<Restored>,
    taken_up: bool,
}

/// Everything that is ready before the freeze.
struct Ready {
    sender: Sender,
    rounds: Option<Rounds>,
    files: Files,
}

impl Agent {
    /// Takes an order. What becomes of it is told by its events and, at its end, its record.
    pub(crate) fn migrate(self: &Arc<Self>, task: Task) -> Result<(), Refusal> {
        if self.history.get(&task.migration).is_some() {
            return Ok(());
        }
        if task.from != self.config.host {
            return Err(Refusal::new(
                RefusalCode::UnknownHost,
                format!("an order for {} came to {}", task.from, self.config.host),
                "",
            ));
        }
        if let Some(bandwidth) = task.plan.bandwidth {
            check_bandwidth(bandwidth)
                .map_err(|error| Refusal::new(RefusalCode::Capability, error.to_string(), ""))?;
        }
        if task.from == task.to {
            return Err(Refusal::new(
                RefusalCode::SameHost,
                format!("source and destination are both {}", task.from),
                "choose another host as the destination",
            ));
        }
        check_plan(&task.plan)?;
        if task.forecast.as_ref().is_some_and(|forecast| !forecast.is_sound()) {
            return Err(Refusal::new(
                RefusalCode::Malformed,
                "the order's forecast has figures that are none",
                "update the orchestrator",
            ));
        }
        let (machine, effects) = Machine::ordered();
        let (control, decided) = Control::new(task, machine);
        {
            let busy = self.busy_with(&control.task.service);
            let mut outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
            if outgoing.contains_key(&control.task.migration) {
                return Ok(());
            }
            if busy.is_some() || outgoing.values().any(|o| o.task.service == control.task.service) {
                return Err(Refusal::new(
                    RefusalCode::Conflict,
                    format!(
                        "another migration of {} is {}",
                        control.task.service,
                        if busy == Some(Busy::InDoubt) { "in doubt" } else { "under way" }
                    ),
                    if busy == Some(Busy::InDoubt) {
                        "settle it first: mose settle"
                    } else {
                        "wait for its end (`mose watch`)"
                    },
                ));
            }
            outgoing.insert(control.task.migration.clone(), control.clone());
        }
        let steps = self.steps.of(&control.task.migration);
        steps.ordered(&control.task);
        let source = Source::new(self, control, decided, steps);
        tokio::spawn(async move {
            source.agent.profiler.release(&source.task().service).await;
            Box::pin(source.drive(effects)).await;
        });
        Ok(())
    }

    /// Aborts a migration before its commit point.
    pub(crate) fn abort(&self, migration: &MigrationId) -> Result<(), Refusal> {
        let control = self.control(migration)?;
        if control.abort() {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::OutOfTurn,
            format!(
                "migration {migration} cannot be aborted any more: its service was handed to {}",
                control.task.to
            ),
            "wait for its end (`mose watch`)",
        ))
    }

    /// Settles a service in doubt as the operator decides.
    pub(crate) async fn settle(&self, migration: &MigrationId, keep: bool) -> Result<(), Refusal> {
        let control = self.control(migration)?;
        if !control.in_doubt() {
            return Err(Refusal::new(
                RefusalCode::OutOfTurn,
                format!("migration {migration} is not in doubt"),
                "there is nothing to settle",
            ));
        }
        let _ = control.decisions.send(keep);
        Ok(())
    }

    fn control(&self, migration: &MigrationId) -> Result<Arc<Control>, Refusal> {
        let outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        outgoing.get(migration).cloned().ok_or_else(|| {
            Refusal::new(
                RefusalCode::OutOfTurn,
                format!("no migration {migration} is under way on {}", self.config.host),
                "`mose history` shows how it ended",
            )
        })
    }

    /// Takes up a migration that an earlier life of the agent left open.
    pub(crate) fn take_up(self: &Arc<Self>, found: Found<Outgoing, SourceState>) {
        let Found { head, state, journal } = found;
        let (machine, effects) = Machine::taken_up(state);
        let (control, decided) = Control::new(head.task.clone(), machine);
        let migration = &control.task.migration;
        let outgoing = || self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        outgoing().insert(migration.clone(), control.clone());
        let steps = self.steps.resumed(migration, head.started_at);
        let mut source = Source::new(self, control, decided, steps);
        source.measured.begun_at(head.started_at);
        source.journal = Some(journal);
        source.leaving = Some(head);
        source.taken_up = true;
        tokio::spawn(async move { Box::pin(source.drive(effects)).await });
    }
}

impl Source {
    fn new(
        agent: &Arc<Agent>,
        control: Arc<Control>,
        decided: mpsc::UnboundedReceiver<bool>,
        steps: Steps,
    ) -> Self {
        Self {
            agent: agent.clone(),
            control,
            steps,
            measured: Measured::default(),
            watchers: Vec::new(),
            decided,
            leaving: None,
            journal: None,
            prepare: None,
            ready: Mutex::default(),
            dump: None,
            unwritten: None,
            restored: None,
            taken_up: false,
        }
    }

    pub(crate) fn task(&self) -> &Task {
        &self.control.task
    }

    /// What leaves and from where.
    fn leaving(&self) -> Result<&Outgoing, Refusal> {
        self.leaving.as_ref().ok_or_else(|| out_of_order("the service was not inspected"))
    }

    /// Where the service is on the overlay, and the hand-over's epoch.
    fn place(&self) -> Result<(Place, u64), Refusal> {
        self.leaving().map(|leaving| (leaving.place.clone(), leaving.epoch))
    }

    /// What leaves.
    fn container(&self) -> Result<Container, Refusal> {
        let container = self.leaving()?.container.clone();
        container.ok_or_else(|| out_of_order("the container is not known"))
    }

    fn put_ready(&mut self, ready: Option<Ready>) {
        self.ready = Mutex::new(ready);
    }

    fn take_ready(&mut self) -> Option<Ready> {
        self.ready.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn ask(&self, request: &Request, deadline: Duration) -> mose_protocol::Response {
        self.agent.requests.ask(&self.task().to, request, deadline).await
    }

    fn aborted(&self) -> Result<(), Refusal> {
        if self.control.is_aborted() { Err(aborted()) } else { Ok(()) }
    }
}

/// What the machine never asks for, as it comes in another order.
fn out_of_order(what: &str) -> Refusal {
    Refusal::new(RefusalCode::Failed, format!("a step of the hand-over came too early: {what}"), "")
}

/// Pre-copy iterations beyond which a plan is a mistake.
const MAX_ITERATIONS: u32 = 10_000;

/// Refuses a plan whose parts contradict each other.
fn check_plan(plan: &Plan) -> Result<(), Refusal> {
    let wrong = |reason: String, remedy: &str| Err(Refusal::new(RefusalCode::Malformed, reason, remedy));
    match (plan.strategy, plan.iterations) {
        (Strategy::Cold, None | Some(0)) | (Strategy::Precopy, None | Some(0)) => Ok(()),
        (Strategy::IterativePrecopy, Some(1..=MAX_ITERATIONS)) => Ok(()),
        (Strategy::IterativePrecopy, None | Some(0)) => wrong(
            "an iterative pre-copy without iterations".into(),
            "give --iterations 1 or more, or use --strategy precopy",
        ),
        (Strategy::IterativePrecopy, Some(many)) => wrong(
            format!("{many} iterations are more than {MAX_ITERATIONS}"),
            "give fewer: past a few, another iteration saves nothing",
        ),
        (strategy, Some(some)) => wrong(
            format!("{some} iterations of a {strategy} migration"),
            "iterations belong to --strategy iterative-precopy",
        ),
    }
}

fn aborted() -> Refusal {
    Refusal::new(RefusalCode::Aborted, "the operator aborted the migration", "")
}
