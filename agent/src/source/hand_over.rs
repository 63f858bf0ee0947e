//! What is done at the source once it is known what became of a service that was handed over.

use mose_handover::source::Doubt;
use mose_protocol::Refusal;
use mose_protocol::agent::Location;
use mose_protocol::record::Outcome;
use mose_protocol::step::Step;

use super::Source;
use crate::agent::overlay_refusal;

impl Source {
    /// The service lives at the destination: measures what its clients saw, and removes what it left behind here; whether that is done.
    pub(super) async fn clean_up(&mut self) -> bool {
        if let Some(restored) = self.restored.take() {
            self.measured.restored(&restored);
            self.measure_clients().await;
        }
        let volumes = self.leaving.as_ref().map(|leaving| leaving.volumes.clone()).unwrap_or_default();
        self.discard(&volumes).await
    }

    /// Removes what the service left behind on this host; whether that is done.
    pub(super) async fn discard(&self, volumes: &[String]) -> bool {
        self.steps.started(Step::Cleanup);
        let agent = &self.agent;
        let result = async {
            let (place, epoch) = self.place()?;
            agent.engine.discard(&self.task().service).await?;
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

    /// Records that the service is in doubt.
    pub(super) async fn doubt(&self, doubt: &Doubt<Refusal>) {
        let reason = self.in_doubt(doubt);
        tracing::error!(service = %self.task().service, %reason, "in doubt");
        self.record(Outcome::InDoubt, Some(reason)).await;
    }
}
