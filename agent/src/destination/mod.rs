//! Services that come to this host: what the destination's machine has done for each, with this host's engine, overlay and disk.

mod make_ready;
mod rehearse;
mod take_over;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use mose_coat::{Change, Route};
use mose_driver::arrival::Work;
use mose_driver::departure::UNDECIDED;
use mose_engine::Container;
use mose_engine::podman::CRIU_DEADLINE;
use mose_pam::Bytes;
use mose_protocol::agent::Location;
use mose_protocol::handover::{HandoverState, Prepare, Prepared, Rehearsed, Restored};
use mose_protocol::{Refusal, RefusalCode, Response};

use crate::agent::Agent;
use crate::journal::{DestinationState, Journal, close, write_down};
use crate::overlay::overlay_refusal;
use mose_transfer::Receiver;

pub(crate) use make_ready::endpoint_spec;

/// The most that a service's state and root file system changes may amount to.
pub(crate) const STATE_LIMIT: Bytes = Bytes(1 << 38);

// A source that asks on while this host restores must not give up before the restore may end.
const _: () = assert!(UNDECIDED.as_secs() > CRIU_DEADLINE.as_secs());

/// One migration that comes to this host.
struct Arrival {
    agent: Arc<Agent>,
    prepare: Prepare,
    journal: Option<Journal<DestinationState>>,
    /// Whether the container's image has to come first.
    needs_image: bool,
    /// The container that was made for it, in this life of the agent.
    container: Option<Container>,
    receiver: Option<Receiver>,
}

impl Agent {
    /// Makes ready for a service: everything but its state. Nothing of it is seen by the service.
    pub(crate) async fn prepare(self: &Arc<Self>, prepare: Prepare) -> Response {
        self.hand_overs.prepare(prepare, |prepare| Arrival::new(self, prepare, None)).await
    }

    /// Takes up the hand-overs to this host that an earlier life of the agent left open.
    pub(crate) fn take_up_arrivals(self: &Arc<Self>) {
        for found in self.journals.destinations() {
            let DestinationState { said, left } = found.state;
            tracing::info!(migration = %found.head.task.migration, state = ?said, "a hand-over to this host was left open");
            let journal = Some(found.journal);
            let arrival = |prepare: &Prepare| Arrival::new(self, prepare, journal);
            self.hand_overs.take_up_arrival(found.head, said, left, arrival);
        }
    }
}

impl Arrival {
    fn new(agent: &Arc<Agent>, prepare: &Prepare, journal: Option<Journal<DestinationState>>) -> Self {
        Self {
            agent: agent.clone(),
            prepare: prepare.clone(),
            journal,
            needs_image: false,
            container: None,
            receiver: None,
        }
    }
}

#[async_trait]
impl Work for Arrival {
    async fn admit(&mut self) -> Result<(), Refusal> {
        self.look_around().await
    }

    async fn write(&mut self, state: &HandoverState, left: bool) -> Result<(), Refusal> {
        let begin = self.journal.is_none().then(|| {
            let (journals, prepare) = (self.agent.journals.clone(), self.prepare.clone());
            move |state: &DestinationState| journals.begin_destination(&prepare, state)
        });
        write_down(&mut self.journal, DestinationState { said: state.clone(), left }, begin).await
    }

    async fn make_ready(&mut self) -> Result<Prepared, Refusal> {
        if self.needs_image { self.await_image().await } else { self.make_container().await }
    }

    async fn create(&mut self) -> Result<Prepared, Refusal> {
        self.take_image().await?;
        self.make_container().await
    }

    async fn hold(&mut self) -> Result<(), Refusal> {
        let (host, prepare) = (&self.agent.config.host, &self.prepare);
        let change = self.agent.overlay.route(prepare.place.address.addr(), Route::Hold, prepare.epoch).await;
        match change.map_err(|error| overlay_refusal(&error))? {
            Change::Applied { .. } | Change::Unchanged => Ok(()),
            Change::Stale { current } => Err(Refusal::new(
                RefusalCode::Overlay,
                format!(
                    "{host} has a newer route (epoch {current}) for {} than this hand-over ({})",
                    prepare.place.address, prepare.epoch
                ),
                "migrate again",
            )),
        }
    }

    async fn verify(&mut self, digest: &str) -> Result<(), Refusal> {
        self.compare_digests(digest).await
    }

    async fn restore(&mut self) -> Result<Restored, Refusal> {
        self.bring_back().await
    }

    async fn rehearse(&mut self) -> Result<Rehearsed, Refusal> {
        self.rehearse_restore().await
    }

    async fn release(&mut self) -> Result<Restored, Refusal> {
        self.release_what_runs().await
    }

    async fn keep(&mut self) {
        let (engine, prepare) = (&self.agent.engine, &self.prepare);
        engine.keep(&prepare.task, &prepare.container).await.unwrap_or_else(|refusal| {
            tracing::warn!(%refusal, "the service's volumes still carry their marks");
        });
        if let Some(container) = self.arrived() {
            engine.drop_images(&container).await.unwrap_or_else(|refusal| {
                tracing::warn!(%refusal, "images are left over");
            });
            engine.leave_alone(&container);
        }
    }

    async fn disarm(&mut self) -> Result<(), Refusal> {
        self.disarm_what_came().await
    }

    async fn remove(&mut self) -> Result<(), Refusal> {
        if let Some(receiver) = self.receiver.take() {
            receiver.abort();
        }
        if self.prepare.task.rehearsal {
            // Of a rehearsal an earlier life may have left a restore at work.
            self.disarm_what_came().await?;
        }
        self.container = None;
        let (agent, prepare) = (&self.agent, &self.prepare);
        agent.engine.discard_arrived(&prepare.task, &prepare.container).await?;
        let address = prepare.place.address.addr();
        // A rehearsal has turned no route.
        if !prepare.task.rehearsal {
            let from = Location { address, host: prepare.task.from.clone(), epoch: prepare.epoch };
            agent.locate(&from).await?;
        }
        agent.overlay.detach(&prepare.place.name).await.map_err(|error| overlay_refusal(&error))?;
        said_if_left(&self.image_archive(), tokio::fs::remove_file(self.image_archive()).await);
        said_if_left(&self.no_images(), tokio::fs::remove_dir(self.no_images()).await);
        Ok(())
    }

    async fn look(&mut self) -> Option<bool> {
        // Without an identity it was never admitted.
        let Some(container) = self.arrived() else { return Some(false) };
        let runs = self.agent.engine.settle_restore(&container).await;
        if runs.is_none() {
            tracing::warn!(service = %container.name, "a restore of an earlier life is still at work");
        }
        runs
    }

    async fn forget(&mut self) {
        close(&mut self.journal).await;
    }

    fn received(&self) -> u64 {
        self.receiver.as_ref().map_or(0, |receiver| receiver.progress().total())
    }
}

/// The transfer's error as a refusal.
pub(crate) fn transfer_refusal(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Failed, error.to_string(), "migrate again")
}

/// Says that something which only a transfer needed could not be removed.
fn said_if_left(path: &Path, removed: std::io::Result<()>) {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "something is left over");
        }
        _ => {}
    }
}
