//! What an agent does at its start about migrations that its earlier life left open at their source.

use std::sync::Arc;

use mose_protocol::{Refusal, RefusalCode};

use crate::agent::Agent;
use crate::journal::{Found, Outgoing, SourceState};

impl Agent {
    /// Takes up every migration that left from here: what was ours is brought back, what was relinquished is
    /// asked for.
    pub(crate) async fn reconcile_sources(self: &Arc<Self>) {
        for found in self.journals.sources() {
            tracing::info!(migration = %found.head.task.migration, state = ?found.state, "was left open");
            let agent = self.clone();
            let source = self.resume(found.head.task.clone(), found.head.started_at);
            tokio::spawn(async move { Box::pin(agent.take_up(source, found)).await });
        }
    }

    async fn take_up(
        self: Arc<Self>,
        mut source: crate::source::Source,
        found: Found<Outgoing, SourceState>,
    ) {
        let Found { head, state, journal } = found;
        source.measured.begun_at(head.started_at);
        source.volumes.clone_from(&head.volumes);
        source.container = head.container;
        let reason = Refusal::new(
            RefusalCode::Failed,
            format!("the agent on {} was restarted during the migration", self.config.host),
            "migrate again",
        );
        let ending = match state {
            SourceState::Preparing | SourceState::Dumping | SourceState::Reclaiming => {
                source.take_back(journal, &head.place, head.epoch, reason).await
            }
            SourceState::GivenUp => {
                let reason = Refusal::new(
                    RefusalCode::Failed,
                    format!("the operator had {} discard its copy of the service", self.config.host),
                    format!("look at {} with podman ps", head.task.to),
                );
                source.give_up(journal, &head.place, head.epoch, reason).await
            }
            SourceState::Relinquished { digest } => {
                let settled = source.learn(&digest).await;
                source.settled(settled, journal, &head.place, head.epoch).await
            }
        };
        source.conclude(ending).await;
    }
}
