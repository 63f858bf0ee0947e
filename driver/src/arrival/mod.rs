//! Services that come to this host: what their sources ask, and what is done for the destination's machine.
//!
//! It owns nothing before the source relinquishes. From then on the service is this host's, until it has said *refused*, after which
//! it will never run here by that hand-over. What it says is on disk before it is said.
//!
//! Requests go straight to the machine, and so are answered while its effects, which one task carries out, take their time.

mod drive;
mod incoming;
mod reasons;
mod source_heard;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mose_handover::destination::Destination;
use mose_protocol::handover::{HandoverState, Prepare, Prepared, Rehearsed, Restored};
use mose_protocol::{MigrationId, Refusal, Reply, Response};
use tokio::sync::oneshot;

use crate::HandOvers;
use drive::Drive;
use reasons::out_of_turn;

pub use incoming::Incoming;
/// What the source asks, of a hand-over that both know.
pub use mose_handover::destination::Request as Asked;

type Machine = Destination<Refusal>;
type Effect = mose_handover::destination::Effect<Refusal>;

/// How long a hand-over may stand still before the destination drops its preparation. It owns nothing then.
const IDLE_DEADLINE: Duration = Duration::from_secs(180);

/// What is done for one migration that comes. Of two calls one has ended before the other begins.
#[async_trait]
pub trait Work: Send {
    /// Looks whether the service could come here; changes nothing.
    async fn admit(&mut self) -> Result<(), Refusal>;

    /// Puts a state on disk; the first one begins the journal. Where it fails, the state may or may not be there. `left`: whether
    /// something of a refused hand-over may still be here.
    async fn write(&mut self, state: &HandoverState, left: bool) -> Result<(), Refusal>;

    /// Makes the namespace and the container and opens the transfer; or opens the transfer of the container's image.
    async fn make_ready(&mut self) -> Result<Prepared, Refusal>;

    /// Takes the image that has come, then makes the namespace and the container and opens the transfer.
    async fn create(&mut self) -> Result<Prepared, Refusal>;

    /// Holds what comes for the service.
    async fn hold(&mut self) -> Result<(), Refusal>;

    /// Sees whether the images are here and have this digest.
    async fn verify(&mut self, digest: &str) -> Result<(), Refusal>;

    /// Restores the service behind its guard. Where it fails, a copy may run nevertheless.
    async fn restore(&mut self) -> Result<Restored, Refusal>;

    /// Restores the service up to where it could run, and ends it there: none of it runs, however this ends. Where it fails, the restore
    /// did not come so far.
    async fn rehearse(&mut self) -> Result<Rehearsed, Refusal>;

    /// Lets out what is held for a service that was restored in an earlier life.
    async fn release(&mut self) -> Result<Restored, Refusal>;

    /// The service is here for good: removes what was for the migration only.
    async fn keep(&mut self);

    /// Ends a restore that is at work, ends what it made, and takes the images away. The service can never run here by this hand-over
    /// when it returns well. Nobody is asked for it who may hang.
    async fn disarm(&mut self) -> Result<(), Refusal>;

    /// Removes everything that the hand-over has made here, processes first. Nothing of the service can run here when it returns well.
    async fn remove(&mut self) -> Result<(), Refusal>;

    /// Whether the service runs here; `None` where the engine does not say.
    async fn look(&mut self) -> Option<bool>;

    /// Removes the journal.
    async fn forget(&mut self);

    /// Bytes that have come so far.
    fn received(&self) -> u64;
}

impl HandOvers {
    /// Makes ready for a service: everything but its state. `work` is asked for once the service's name is reserved.
    ///
    /// # Errors
    /// Where another migration of the service is under way, or the host cannot be made ready.
    pub async fn prepare<W: Work + 'static>(
        self: &Arc<Self>,
        prepare: Prepare,
        work: impl FnOnce(&Prepare) -> W + Send,
    ) -> Response {
        if self.coming(&prepare.task.migration).is_none() {
            self.end_earlier(&prepare).await;
        }
        self.heard(self.reserve(prepare, work)?).await
    }

    /// Reserves the service's name for a hand-over and begins it, or finds it begun; the answer to come.
    fn reserve<W: Work + 'static>(
        self: &Arc<Self>,
        prepare: Prepare,
        work: impl FnOnce(&Prepare) -> W,
    ) -> Result<oneshot::Receiver<Response>, Refusal> {
        let migration = prepare.task.migration.clone();
        let mut both = self.lock();
        if let Some(known) = both.coming.get(&migration) {
            return Ok(known.ask(Asked::Prepare));
        }
        if let Some(busy) = both.busy_with(&prepare.task.service) {
            return Err(busy.refusal(&prepare.task.service));
        }
        let work = work(&prepare);
        let (incoming, answer, effects) = Incoming::asked(prepare, &self.host, self.tasks().clone());
        both.coming.insert(migration, incoming.clone());
        self.spawn(Drive::new(self, incoming, effects, work, false).run());
        Ok(answer)
    }

    /// Has a hand-over to this host do what its source asks.
    ///
    /// # Errors
    /// Where that cannot be done to it as it is.
    pub async fn of_arrival(&self, migration: &MigrationId, asked: Asked) -> Response {
        match self.coming(migration) {
            Some(incoming) => self.heard(incoming.ask(asked)).await,
            None => match asked {
                Asked::Inquire => Ok(Reply::Handover(HandoverState::Unknown)),
                // What it never heard of it cannot restore: that takes a preparation, and its journal.
                Asked::Withdraw => Ok(Reply::Handover(HandoverState::Refused(reasons::withdrawn()))),
                Asked::Close => Ok(Reply::Ok),
                _ => Err(out_of_turn(migration, &HandoverState::Unknown)),
            },
        }
    }

    /// Takes up a hand-over to this host that an earlier life of the agent left open, by the last state in its journal. Until it is
    /// settled it is told to be as it was.
    pub fn take_up_arrival<W: Work + 'static>(
        self: &Arc<Self>,
        prepare: Prepare,
        state: HandoverState,
        left: bool,
        work: impl FnOnce(&Prepare) -> W,
    ) {
        let work = work(&prepare);
        let migration = prepare.task.migration.clone();
        // What was not refused yet may have made something.
        let left = left || !matches!(state, HandoverState::Refused(_));
        let (incoming, effects) = Incoming::taken_up(prepare, &self.host, self.tasks().clone(), state, left);
        self.lock().coming.insert(migration, incoming.clone());
        self.spawn(Drive::new(self, incoming, effects, work, left).run());
    }

    fn coming(&self, migration: &MigrationId) -> Option<Arc<Incoming>> {
        self.lock().coming.get(migration).cloned()
    }
}
