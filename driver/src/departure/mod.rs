//! Services that leave this host: orders, the operator's word, and what is done for the source's machine.
//!
//! Until *relinquished* is in its journal the service is this host's, and whatever fails ends with it running here. From then on it is
//! nobody's until the destination speaks; where that stays silent the source waits and asks, and never guesses.

mod drive;

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use mose_handover::SourceState;
use mose_handover::source::{Doubt, Effect, Event, Source, Standing, Why};
use mose_protocol::handover::{Rehearsed, Restored, Task};
use mose_protocol::record::Outcome;
use mose_protocol::{MigrationId, Refusal, RefusalCode};
use tokio::sync::{mpsc, watch};

use crate::tasks::unbroken;
use crate::{HandOvers, Tasks};
use drive::Drive;

pub use drive::{DOUBT_AFTER, UNDECIDED};

type Machine = Source<Refusal>;

/// What is done for one migration that leaves. Of two calls one has ended before the other begins.
#[async_trait]
pub trait Work: Send {
    /// Looks at the service and the destination; changes nothing.
    async fn inspect(&mut self) -> Result<(), Refusal>;

    /// Puts a state on disk; the first one begins the journal. Where it fails, the state may or may not be there.
    async fn write(&mut self, state: &SourceState) -> Result<(), Refusal>;

    /// Everything that can be done, and can fail, before the service notices anything. To be broken off with [`Control::broken_off`].
    async fn make_ready(&mut self) -> Result<(), Refusal>;

    /// Freezes the service, dumps it, and has its images verified at the destination; their digest. Its processes are gone when this
    /// returns well; where it does not, they go on, stand still, or are gone. In a rehearsal they go on as soon as they are dumped, and
    /// nobody's packets take another way. To be broken off.
    async fn stop_and_copy(&mut self) -> Result<String, Refusal>;

    /// The destination has rehearsed the restore.
    fn rehearsed(&mut self, rehearsed: Rehearsed);

    /// Drops what was made ready here.
    async fn undo(&mut self);

    /// Brings the service back on this host; in a rehearsal from its processes alone.
    async fn take_back(&mut self) -> Result<(), Refusal>;

    /// Tells everyone that the service is back, which it never was away in a rehearsal.
    async fn tell_back(&mut self);

    /// Measures what clients saw of a service that was taken back; the destination has been told.
    async fn measure(&mut self);

    /// Removes what the service left behind here, as it lives at the destination; whether nothing is left.
    async fn clean_up(&mut self, restored: Option<Restored>) -> bool;

    /// Removes what this host has of a service that was given up; whether nothing is left.
    async fn discard(&mut self) -> bool;

    /// Records that the service is in doubt.
    async fn doubt(&mut self, doubt: &Doubt<Refusal>);

    /// Removes the journal.
    async fn forget(&mut self);

    /// Records how the migration ended.
    async fn conclude(&mut self, outcome: Outcome, why: Option<Why<Refusal>>);

    /// Tells the end; the service may be migrated again.
    fn tell_end(&mut self);
}

/// A migration that leaves this host, as others may see and influence it.
pub struct Control {
    task: Task,
    machine: Mutex<Machine>,
    tasks: Tasks,
    /// Whether what is being done is to be broken off.
    breaks: watch::Sender<bool>,
    /// What the operator decides for a service in doubt: whether this host keeps it.
    decisions: mpsc::UnboundedSender<bool>,
}

impl Control {
    fn new(task: Task, machine: Machine, tasks: Tasks) -> (Arc<Self>, mpsc::UnboundedReceiver<bool>) {
        let (decisions, decided) = mpsc::unbounded_channel();
        let breaks = watch::Sender::new(false);
        (Arc::new(Self { task, machine: Mutex::new(machine), tasks, breaks, decisions }), decided)
    }

    /// The order.
    #[must_use]
    pub const fn task(&self) -> &Task {
        &self.task
    }

    /// Whether nobody knows what became of the service.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.machine().in_doubt()
    }

    /// Whether the operator has aborted it.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.machine().is_aborted()
    }

    /// Returns when what is being done is to be broken off, as the operator has aborted the migration.
    pub async fn broken_off(&self) -> Refusal {
        let mut breaks = self.breaks.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = breaks.wait_for(|breaks| *breaks).await;
        aborted()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        unbroken(self.machine.lock())
    }

    fn tell(&self, event: Event<Refusal>) -> Vec<Effect<Refusal>> {
        self.tasks.whole(|| self.machine().step(event))
    }

    /// Why the migration cannot be aborted any more: what is true of its service now.
    fn too_late(&self) -> Refusal {
        let Task { migration, service, from, to, .. } = &self.task;
        let (standing, in_doubt) = {
            let machine = self.machine();
            (machine.standing(), machine.in_doubt())
        };
        let wait = "wait for its end (`mose watch`)";
        let (truth, remedy) = match standing {
            _ if self.task.rehearsal => {
                (format!("the rehearsal is over, and {service} goes on at {from}"), wait)
            }
            Standing::HandedOver if in_doubt => (
                format!("{service} was handed to {to}, which has not said whether it restored it"),
                "bring the agent there back; or look there with podman ps, and decide by hand: mose settle",
            ),
            Standing::Here | Standing::HandedOver => (format!("{service} was handed to {to}"), wait),
            Standing::Restored => (format!("{service} runs at {to}"), wait),
            Standing::ComesBack if in_doubt => (
                format!("{service} could not be taken back to {from} yet, which is tried again"),
                "`mose history` says why; remove the cause, or give the service up: mose settle",
            ),
            Standing::ComesBack => (format!("it is over, and {service} is being taken back to {from}"), wait),
            Standing::GivenUp => (format!("{service} was given up at {from}"), wait),
        };
        let reason = format!("migration {migration} cannot be aborted any more: {truth}");
        Refusal::new(RefusalCode::OutOfTurn, reason, remedy)
    }

    /// Aborts the migration; whether it is aborted now. What aborts and what commits cannot both win.
    fn abort(&self) -> bool {
        self.tasks.whole(|| {
            let mut machine = self.machine();
            if machine.step(Event::Abort).contains(&Effect::BreakOff) {
                self.breaks.send_replace(true);
            }
            machine.is_aborted()
        })
    }
}

/// The refusal of what the operator has aborted.
#[must_use]
pub fn aborted() -> Refusal {
    Refusal::new(RefusalCode::Aborted, "the operator aborted the migration", "")
}

impl HandOvers {
    /// Begins a migration, unless it has begun or another one has the service. `work` is asked for once the service's name is
    /// reserved.
    ///
    /// # Errors
    /// Where another migration of the service is under way.
    pub fn order<W: Work + 'static>(
        self: &Arc<Self>,
        task: Task,
        work: impl FnOnce(&Arc<Control>) -> W,
    ) -> Result<(), Refusal> {
        let (machine, effects) = Machine::ordered(task.rehearsal);
        let (control, decided) = Control::new(task, machine, self.tasks().clone());
        {
            let mut both = self.lock();
            if both.leaving.contains_key(&control.task.migration) {
                return Ok(());
            }
            if let Some(busy) = both.busy_with(&control.task.service) {
                return Err(busy.refusal(&control.task.service));
            }
            both.leaving.insert(control.task.migration.clone(), control.clone());
        }
        let work = work(&control);
        self.spawn(Drive::new(self, control, decided, work).run(effects));
        Ok(())
    }

    /// Takes up a migration that an earlier life of the agent left open, by the last state in its journal.
    pub fn take_up_departure<W: Work + 'static>(
        self: &Arc<Self>,
        task: Task,
        state: SourceState,
        work: impl FnOnce(&Arc<Control>) -> W,
    ) {
        let (machine, effects) = Machine::taken_up(state, task.rehearsal);
        let (control, decided) = Control::new(task, machine, self.tasks().clone());
        self.lock().leaving.insert(control.task.migration.clone(), control.clone());
        let work = work(&control);
        self.spawn(Drive::new(self, control, decided, work).run(effects));
    }

    /// Aborts a migration before its commit point.
    ///
    /// # Errors
    /// Where there is none, or it is too late.
    pub fn abort(&self, migration: &MigrationId) -> Result<(), Refusal> {
        let control = self.control(migration)?;
        if control.abort() {
            return Ok(());
        }
        Err(control.too_late())
    }

    /// Settles a service in doubt as the operator decides: whether this host keeps it.
    ///
    /// # Errors
    /// Where there is none.
    pub fn settle(&self, migration: &MigrationId, keep: bool) -> Result<(), Refusal> {
        let control = self.control(migration)?;
        if !control.in_doubt() {
            return Err(Refusal::new(
                RefusalCode::OutOfTurn,
                format!("migration {migration} is not in doubt"),
                "there is nothing to settle: it goes on (`mose watch`), or is about to end",
            ));
        }
        if control.task.rehearsal && !keep {
            return Err(Refusal::new(
                RefusalCode::OutOfTurn,
                format!(
                    "{} was only rehearsed: it is at {}, and is not given up",
                    control.task.service, self.host
                ),
                "remove what hangs there; it is tried again every few seconds",
            ));
        }
        let _ = control.decisions.send(keep);
        Ok(())
    }

    fn control(&self, migration: &MigrationId) -> Result<Arc<Control>, Refusal> {
        self.lock().leaving.get(migration).cloned().ok_or_else(|| {
            Refusal::new(
                RefusalCode::OutOfTurn,
                format!("no migration {migration} is under way on {}", self.host),
                "`mose history` shows how it ended, if there was one",
            )
        })
    }
}
