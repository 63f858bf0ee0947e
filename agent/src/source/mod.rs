//! The source's side of a hand-over: it drives the migration from the order to the clean-up.
//!
//! Until *relinquished* is in its journal the service is this host's, and whatever fails ends with it running
//! here. From then on it is nobody's until the destination speaks; where that stays silent the source waits and
//! asks, and never guesses.

mod clients;
mod files;
mod hand_over;
mod late;
pub(crate) mod pre_copy;
mod ready;
mod stop_and_copy;
mod take_back;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mose_pam::{Plan, Strategy};
use mose_protocol::handover::{Place, Task};
use mose_protocol::record::{CriuTimes, Outcome};
use mose_protocol::step::Step;
use mose_protocol::{MigrationId, Refusal, RefusalCode, Request, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::agent::{Agent, Busy};
use crate::engine::Container;
use crate::journal::{Journal, SourceState};
use crate::report::Measured;
use crate::steps::Steps;
use crate::transfer::{Sender, Sent, check_bandwidth};
use clients::Watcher;
use files::Files;
use pre_copy::Rounds;

/// How long the engine may take to say how its dump ended, once CRIU is gone. A Podman that hangs is not waited for.
const ENGINE_GRACE: Duration = Duration::from_secs(5);

/// A migration that leaves this host, as others may see and influence it.
pub(crate) struct Control {
    task: Task,
    /// Whether it can still be aborted, and whether it was.
    course: watch::Sender<Course>,
    in_doubt: AtomicBool,
    /// What the operator decided for a service in doubt: whether this host keeps it.
    settled: watch::Sender<Option<bool>>,
}

impl Control {
    pub(crate) fn new(task: Task) -> Arc<Self> {
        Arc::new(Self {
            task,
            course: watch::Sender::new(Course::Open),
            in_doubt: AtomicBool::new(false),
            settled: watch::Sender::new(None),
        })
    }

    pub(crate) const fn task(&self) -> &Task {
        &self.task
    }

    /// Marks it in doubt; whether it was not before.
    pub(crate) fn now_in_doubt(&self) -> bool {
        !self.in_doubt.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed)
    }

    /// Whether the operator has aborted it.
    pub(crate) fn is_aborted(&self) -> bool {
        *self.course.borrow() == Course::Aborted
    }

    /// Returns when the operator aborts the migration.
    async fn abort(&self) -> Refusal {
        let mut course = self.course.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = course.wait_for(|course| *course == Course::Aborted).await;
        aborted()
    }

    /// Sets the course, unless it is set already; whether it is this one now. What aborts and what commits cannot both win.
    fn set(&self, course: Course) -> bool {
        self.course.send_if_modified(|now| {
            let open = *now == Course::Open;
            if open {
                *now = course;
            }
            open
        });
        *self.course.borrow() == course
    }
}

/// Whether a migration can still be aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It can be.
    Open,
    /// It was.
    Aborted,
    /// It cannot be any more: the service is about to be relinquished.
    Committed,
}

/// How a migration ended, for its record.
pub(crate) type Ending = (Outcome, Option<Refusal>);

/// One migration at its source.
pub(crate) struct Source {
    pub(crate) agent: Arc<Agent>,
    pub(crate) control: Arc<Control>,
    pub(crate) steps: Steps,
    pub(crate) measured: Measured,
    /// The service's volumes, which are removed here once it lives elsewhere.
    pub(crate) volumes: Vec<String>,
    watchers: Vec<Watcher>,
    /// What leaves, as it was inspected; known without asking the engine again, which may hang.
    pub(crate) container: Option<Container>,
}

/// Everything that is ready before the freeze.
struct Ready {
    container: Container,
    journal: Journal<SourceState>,
    place: Place,
    epoch: u64,
    sender: Sender,
    rounds: Option<Rounds>,
    files: Files,
}

/// What is frozen, dumped and sent, and whereto.
struct Moving<'a> {
    container: &'a Container,
    place: &'a Place,
    epoch: u64,
    sender: Sender,
    rounds: Option<Rounds>,
    files: Files,
}

/// What remains to be done with, once the images are at the destination.
struct Dumped {
    sent: Sent,
    dump: JoinHandle<Result<CriuTimes, Refusal>>,
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
        let control = Control::new(task);
        {
            let busy = self.busy_with(&control.task.service);
            let mut outgoing = self.outgoing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
        let source = Source {
            steps: self.steps.of(&control.task.migration),
            measured: Measured::default(),
            volumes: Vec::new(),
            watchers: Vec::new(),
            agent: self.clone(),
            container: None,
            control,
        };
        tokio::spawn(async move { Box::pin(source.run()).await });
        Ok(())
    }

    /// Aborts a migration before its commit point.
    pub(crate) fn abort(&self, migration: &MigrationId) -> Result<(), Refusal> {
        let control = self.control(migration)?;
        if control.set(Course::Aborted) {
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
        control.settled.send_replace(Some(keep));
        Ok(())
    }

    fn control(&self, migration: &MigrationId) -> Result<Arc<Control>, Refusal> {
        let outgoing = self.outgoing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        outgoing.get(migration).cloned().ok_or_else(|| {
            Refusal::new(
                RefusalCode::OutOfTurn,
                format!("no migration {migration} is under way on {}", self.config.host),
                "`mose history` shows how it ended",
            )
        })
    }

    /// A fresh pen, clock and control for a migration that is taken up again.
    pub(crate) fn resume(self: &Arc<Self>, task: Task, begun: Timestamp) -> Source {
        let control = Control::new(task);
        // What its earlier life had begun is brought to its end, one way or the other.
        control.set(Course::Committed);
        self.outgoing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(control.task.migration.clone(), control.clone());
        Source {
            steps: self.steps.resumed(&control.task.migration, begun),
            measured: Measured::default(),
            volumes: Vec::new(),
            watchers: Vec::new(),
            agent: self.clone(),
            container: None,
            control,
        }
    }
}

impl Source {
    pub(crate) fn task(&self) -> &Task {
        &self.control.task
    }

    async fn run(mut self) {
        self.steps.ordered(self.task());
        self.agent.profiler.release(&self.task().service).await;
        let ending = self.attempt().await;
        self.end_watches().await;
        self.conclude(ending).await;
    }

    async fn ask(&self, request: &Request, deadline: Duration) -> mose_protocol::Response {
        self.agent.requests.ask(&self.task().to, request, deadline).await
    }

    fn aborted(&self) -> Result<(), Refusal> {
        if self.control.is_aborted() { Err(aborted()) } else { Ok(()) }
    }

    /// The ending of a migration after which the service runs here as before.
    fn back_at_source(&self, otherwise: Outcome, mut reason: Refusal) -> Ending {
        if reason.code != RefusalCode::Aborted {
            return (otherwise, Some(reason));
        }
        reason.reason = match self.measured.was_frozen() {
            false => "the operator aborted it before the service was frozen".to_owned(),
            true => "the operator aborted it while the service stood still".to_owned(),
        };
        (Outcome::Aborted, Some(reason))
    }

    async fn attempt(&mut self) -> Ending {
        let ready = match self.make_ready().await {
            Ok(ready) => ready,
            Err(refusal) => return self.back_at_source(Outcome::Refused, refusal),
        };
        let Ready { container, mut journal, place, epoch, sender, rounds, files } = ready;
        let mut dump = None;
        let moving = Moving { container: &container, place: &place, epoch, sender, rounds, files };
        let dumped = self.stop_and_copy(moving, &mut journal, &mut dump).await;
        let digest = match dumped {
            Ok(dumped) => {
                dump = Some(dumped.dump);
                dumped.sent.digest.to_string()
            }
            Err(mut refusal) => {
                // Whatever hangs, the service goes on first. Where it cannot yet, taking it back says so and tries again.
                if let Err(kept) = self.agent.engine.let_go(&container).await {
                    tracing::error!(%kept, "the engine does not let go of the service");
                }
                // Where the engine failed, its own words say more than that its call ended.
                if let Some(dump) = dump
                    && let Some(Err(said)) = engines_end(dump).await
                    && refusal.code == RefusalCode::Engine
                {
                    refusal = said;
                }
                tracing::warn!(%refusal, "the source takes its service back");
                return self.take_back(journal, &place, epoch, refusal).await;
            }
        };
        if !self.control.set(Course::Committed) {
            if let Some(dump) = dump {
                let _ = dump.await;
            }
            return self.take_back(journal, &place, epoch, aborted()).await;
        }
        self.steps.started(Step::Relinquish);
        let written = journal.write(&SourceState::Relinquished { digest: digest.clone() });
        if let Err(refusal) = self.steps.end(Step::Relinquish, written) {
            if let Some(dump) = dump {
                let _ = engines_end(dump).await;
            }
            return self.take_back(journal, &place, epoch, refusal).await;
        }
        let settled = self.hand_over(&digest).await;
        if let Some(dump) = dump {
            match engines_end(dump).await {
                Some(Ok(criu)) => self.measured.criu_dump(criu),
                Some(Err(refusal)) => tracing::warn!(%refusal, "the engine's checkpoint call ended badly"),
                None => {
                    tracing::warn!("the engine has not ended its checkpoint call; its times are not known")
                }
            }
        }
        self.settled(settled, journal, &place, epoch).await
    }
}

/// What the engine says of its dump, where it says so soon enough: by then CRIU has ended, one way or the other.
async fn engines_end(dump: JoinHandle<Result<CriuTimes, Refusal>>) -> Option<Result<CriuTimes, Refusal>> {
    tokio::time::timeout(ENGINE_GRACE, dump).await.ok()?.ok()
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
