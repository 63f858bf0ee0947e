//! What is done at the source once it is known what became of a service that was handed over.

use mose_engine::Container;
use mose_handover::source::Doubt;
use mose_protocol::agent::Location;
use mose_protocol::handover::Restored;
use mose_protocol::record::Outcome;
use mose_protocol::step::Step;
use mose_protocol::{Refusal, RefusalCode};

use super::Source;
use crate::overlay::overlay_refusal;

impl Source {
    /// The service lives at the destination: measures what its clients saw, and removes what it left behind here; whether that is done.
    pub(super) async fn measure_and_clean_up(&mut self, restored: Option<Restored>) -> bool {
        if let Some(restored) = restored {
            self.measured.restored(&restored);
            self.measure_clients().await;
        }
        let volumes = self.leaving.as_ref().map(|leaving| leaving.volumes.clone()).unwrap_or_default();
        self.remove(&volumes).await
    }

    /// Removes what the service left behind on this host; whether that is done.
    pub(super) async fn remove(&self, volumes: &[String]) -> bool {
        self.steps.started(Step::Cleanup);
        let agent = &self.agent;
        let result = async {
            let (place, epoch) = self.place()?;
            match self.whole().await {
                Ok(container) => agent.engine.discard(&container).await?,
                Err(refusal) if refusal.code == RefusalCode::UnknownService => {}
                Err(refusal) => return Err(refusal),
            }
            agent.engine.remove_volumes(volumes).await?;
            let there = Location { address: place.address.addr(), host: self.task().to.clone(), epoch };
            agent.locate(&there).await?;
            agent.overlay.detach(&place.name).await.map_err(|error| overlay_refusal(&error))
        };
        let removed = self.steps.end(Step::Cleanup, result.await);
        if let Err(refusal) = &removed {
            tracing::error!(%refusal, "the clean-up is left to the agent's next start; its journal is kept");
        }
        removed.is_ok()
    }

    /// What leaves; asked of the engine where the journal of an older agent does not say.
    async fn whole(&self) -> Result<Container, Refusal> {
        match self.container() {
            Ok(container) => Ok(container),
            Err(_) => self.agent.engine.inspect(&self.task().service).await,
        }
    }

    /// Records that the service is in doubt.
    pub(super) async fn record_doubt(&self, doubt: &Doubt<Refusal>) {
        let reason = self.in_doubt(doubt);
        tracing::error!(service = %self.task().service, %reason, "in doubt");
        self.record(Outcome::InDoubt, Some(reason)).await;
    }
}
