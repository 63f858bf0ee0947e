//! Services that leave this host: what the source's machine has done for each, with this host's engine, overlay and disk.

mod clients;
mod files;
mod flights;
mod hand_over;
mod late;
mod pre_copy;
mod ready;
mod reasons;
mod rehearse;
mod report;
mod stop_and_copy;
mod take_back;
mod waits;
mod work;

use std::sync::Arc;
use std::time::Duration;

use mose_driver::departure::{Control, aborted};
use mose_engine::Container;
use mose_pam::{Plan, Strategy};
use mose_protocol::handover::{Place, Prepare, Task};
use mose_protocol::record::{CriuTimes, Outcome};
use mose_protocol::{Refusal, RefusalCode, Request};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::journal::{Found, Journal, Outgoing, SourceState};
use crate::steps::Steps;
use clients::Watcher;
use files::Files;
use mose_transfer::{Sender, check_bandwidth};
use pre_copy::Rounds;
use report::Measured;

/// How a migration ended, for its record.
pub(crate) type Ending = (Outcome, Option<Refusal>);

/// One migration at its source: what the machine's effects work on.
pub(crate) struct Source {
    pub(crate) agent: Arc<Agent>,
    pub(crate) control: Arc<Control>,
    pub(crate) steps: Steps,
    pub(crate) measured: Measured,
    watchers: Vec<Watcher>,
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
    taken_up: bool,
    /// That the service ended while it was rehearsed, if it did.
    ended_by_itself: Option<Refusal>,
    /// How it ended, once it has.
    ending: Option<Ending>,
}

/// Everything that is ready before the freeze.
struct Ready {
    sender: Sender,
    rounds: Option<Rounds>,
    files: Files,
}

impl Agent {
    /// Takes an order to migrate. What becomes of it is told by its events and, at its end, its record.
    pub(crate) fn migrate(self: &Arc<Self>, task: Task) -> Result<(), Refusal> {
        match task.rehearsal {
            true => Err(Refusal::new(
                RefusalCode::Malformed,
                "an order to migrate says that it is a rehearsal",
                "update the orchestrator",
            )),
            false => self.take_order(task),
        }
    }

    /// Takes an order to rehearse.
    pub(crate) fn rehearse(self: &Arc<Self>, task: Task) -> Result<(), Refusal> {
        let wrong = |reason: &str, remedy: &str| Err(Refusal::new(RefusalCode::Malformed, reason, remedy));
        match (task.rehearsal, task.files.overwrite) {
            (false, _) => {
                wrong("an order to rehearse says that it is no rehearsal", "update the orchestrator")
            }
            (true, true) => wrong(
                "a rehearsal has no volume at the destination give way: what that holds would be lost for nothing",
                "rehearse without --overwrite-volume, and remove or rename the destination's volume before",
            ),
            (true, false) => self.take_order(task),
        }
    }

    fn take_order(self: &Arc<Self>, task: Task) -> Result<(), Refusal> {
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
        self.hand_overs.order(task, |control| {
            let steps = self.steps.of(&control.task().migration);
            steps.ordered(control.task());
            Source::new(self, control, steps)
        })
    }

    /// Takes up the migrations from here that an earlier life of the agent left open: what was ours is brought back, what was
    /// relinquished is asked for.
    pub(crate) fn take_up_departures(self: &Arc<Self>) {
        for Found { head, state, journal } in self.journals.sources() {
            tracing::info!(migration = %head.task.migration, ?state, "was left open");
            self.hand_overs.take_up_departure(head.task.clone(), state, |control| {
                let steps = self.steps.resumed(&head.task.migration, head.started_at);
                let mut source = Source::new(self, control, steps);
                source.measured.begun_at(head.started_at);
                source.journal = Some(journal);
                source.leaving = Some(head);
                source.taken_up = true;
                source
            });
        }
    }
}

impl Source {
    fn new(agent: &Arc<Agent>, control: &Arc<Control>, steps: Steps) -> Self {
        Self {
            agent: agent.clone(),
            control: control.clone(),
            steps,
            measured: Measured::default(),
            watchers: Vec::new(),
            leaving: None,
            journal: None,
            prepare: None,
            ready: Mutex::default(),
            dump: None,
            unwritten: None,
            taken_up: false,
            ended_by_itself: None,
            ending: None,
        }
    }

    pub(crate) fn task(&self) -> &Task {
        self.control.task()
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
        self.ready.get_mut().take()
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
