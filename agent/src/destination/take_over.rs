//! Taking over: the service is this host's, and is restored behind its guard.

use mose_engine::Container;
use mose_protocol::handover::Restored;
use mose_protocol::step::Step;
use mose_protocol::{Refusal, RefusalCode, Timestamp};

use super::make_ready::nothing_to_receive;
use super::{Arrival, transfer_refusal};
use crate::guard::Guarded;
use crate::patience::{LEAST, Patience};
use crate::steps::Note;

impl Arrival {
    /// Whether the images are all here and are what the source sent.
    pub(super) async fn compare_digests(&mut self, digest: &str) -> Result<(), Refusal> {
        let mut receiver = self.receiver.take().ok_or_else(nothing_to_receive)?;
        let patience = Patience::of(&self.prepare.task, || LEAST).quiet;
        let received = tokio::time::timeout(patience, receiver.finished())
            .await
            .map_err(|_| {
                Refusal::new(
                    RefusalCode::Failed,
                    format!("the images were not complete within {patience:?}"),
                    "migrate again",
                )
            })?
            .map_err(|error| transfer_refusal(&error))?;
        if received.digest.to_string() != digest {
            return Err(Refusal::new(
                RefusalCode::Failed,
                format!("the images' digest is {} here and {digest} at the source", received.digest),
                "migrate again; if it happens again, suspect memory or disk",
            ));
        }
        Ok(())
    }

    /// Restores the container, and lets the held segments go the moment its sockets exist.
    pub(super) async fn bring_back(&self) -> Result<Restored, Refusal> {
        let (agent, prepare) = (&self.agent, &self.prepare);
        let steps = agent.steps.of(&prepare.task.migration);
        let container = self.container.as_ref().ok_or_else(nothing_to_receive)?;
        agent.engine.adopt(&prepare.task, &prepare.container).await?;
        let started_at = Timestamp::now();
        steps.started_at(Step::Restore, started_at);
        let patience = self.restore_patience(container);
        let restored = agent.restore_behind_guard(container, self.guarded(patience)).await;
        let (times, release) = match restored {
            Ok(restored) => restored,
            Err(refusal) => {
                steps.failed(Step::Restore, &refusal);
                return Err(refusal);
            }
        };
        let detail = times.restore.map(|ms| format!("CRIU {ms}"));
        steps.finished(Step::Restore, Note { detail, ..Note::default() });
        let detail = Some(format!("{} segments held, {} did not fit", release.held, release.overflowed));
        steps.finished(Step::Release, Note { at: Some(release.at), detail, ..Note::default() });
        Ok(Restored {
            started_at,
            released_at: release.at,
            finished_at: Timestamp::now(),
            criu_restore: times.restore,
            held: release.held,
            overflowed: release.overflowed,
        })
    }

    /// Lets out what is held for a service that an earlier life has restored.
    pub(super) async fn release_what_runs(&self) -> Result<Restored, Refusal> {
        let started_at = Timestamp::now();
        let release = self.agent.release(self.guarded(Patience::of(&self.prepare.task, || LEAST))).await?;
        Ok(Restored {
            started_at,
            released_at: release.at,
            finished_at: Timestamp::now(),
            criu_restore: None,
            held: release.held,
            overflowed: release.overflowed,
        })
    }

    /// Sees to it that nothing of the service runs here, or ever will by this hand-over.
    pub(super) async fn disarm_what_came(&mut self) -> Result<(), Refusal> {
        let Some(container) = self.arrived() else { return Ok(()) };
        let engine = &self.agent.engine;
        engine.end_restore(&container).await?;
        // A Podman that begins a restore only now finds nothing.
        engine.drop_images(&container).await
    }

    /// The container, also where it was made in an earlier life.
    pub(super) fn arrived(&self) -> Option<Container> {
        let (engine, prepare) = (&self.agent.engine, &self.prepare);
        self.container.clone().or_else(|| engine.arrived(&prepare.task, &prepare.container))
    }

    fn guarded(&self, patience: Patience) -> Guarded<'_> {
        let (place, epoch) = (&self.prepare.place, self.prepare.epoch);
        Guarded { address: place.address.addr(), endpoint: &place.name, epoch, patience }
    }

    /// How long the restore of what came may take.
    pub(super) fn restore_patience(&self, container: &Container) -> Patience {
        Patience::of_restore(&self.prepare.task, &container.checkpoint)
    }
}
