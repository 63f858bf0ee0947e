//! Taking over: the service is this host's, and is restored behind its guard.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use mose_coat::{Change, CoatError, Route};
use mose_protocol::handover::{HandoverState, Prepare, Restored};
use mose_protocol::record::CriuTimes;
use mose_protocol::step::Step;
use mose_protocol::{MigrationId, Refusal, RefusalCode, Timestamp};
use tokio::sync::oneshot;

use super::{Inner, out_of_turn, transfer_refusal};
use crate::agent::{Agent, overlay_refusal};
use crate::engine::{Container, Moment, Moments, Stage};
use crate::steps::Note;

/// How long after the last byte the digest may take.
const VERIFY_DEADLINE: Duration = Duration::from_secs(30);

/// The moment at which held segments were let go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release {
    /// When.
    pub(crate) at: Timestamp,
    /// How many were let go.
    pub(crate) held: u64,
    /// How many had not fitted.
    pub(crate) overflowed: u64,
}

impl Agent {
    /// The service is this host's: restores it.
    pub(crate) async fn take_over(
        self: &Arc<Self>,
        migration: &MigrationId,
        digest: &str,
    ) -> Result<HandoverState, Refusal> {
        let incoming = self.coming(migration)?;
        // A repeated order finds the first one at work and learns how far it is.
        let Ok(mut inner) = incoming.inner.try_lock() else { return Ok(incoming.said()) };
        match incoming.said() {
            HandoverState::Preparing => {}
            said => return Ok(said),
        }
        let prepare = &incoming.prepare;
        let verified = self.verified(&mut inner, migration, digest).await;
        if let Err(refusal) = verified {
            self.refuse(&incoming, &mut inner, &refusal).await?;
            return Ok(incoming.said());
        }
        incoming.say(&mut inner, HandoverState::Restoring)?;
        match self.bring_back(prepare, &inner).await {
            Ok(restored) => {
                incoming.say(&mut inner, HandoverState::Restored(restored))?;
                self.engine.keep(&prepare.task, &prepare.container).await.unwrap_or_else(|refusal| {
                    tracing::warn!(%refusal, "the service's volumes still carry their marks");
                });
                if let Some(container) = &inner.container {
                    self.engine.drop_images(container).await.unwrap_or_else(|refusal| {
                        tracing::warn!(%refusal, "images are left over");
                    });
                }
            }
            Err(refusal) => self.refuse(&incoming, &mut inner, &refusal).await?,
        }
        Ok(incoming.said())
    }

    /// Whether the images are all here and are what the source sent.
    async fn verified(
        &self,
        inner: &mut Inner,
        migration: &MigrationId,
        digest: &str,
    ) -> Result<(), Refusal> {
        let mut receiver =
            inner.receiver.take().ok_or_else(|| out_of_turn(migration, &HandoverState::Preparing))?;
        let received = tokio::time::timeout(VERIFY_DEADLINE, receiver.finished())
            .await
            .map_err(|_| {
                Refusal::new(
                    RefusalCode::Failed,
                    format!("the images were not complete within {VERIFY_DEADLINE:?}"),
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
    async fn bring_back(&self, prepare: &Prepare, inner: &Inner) -> Result<Restored, Refusal> {
        let migration = &prepare.task.migration;
        let steps = self.steps.of(migration);
        let container =
            inner.container.as_ref().ok_or_else(|| out_of_turn(migration, &HandoverState::Preparing))?;
        self.engine.adopt(&prepare.task, &prepare.container).await?;
        let started_at = Timestamp::now();
        steps.started_at(Step::Restore, started_at);
        let restored = self
            .restore_behind_guard(container, prepare.place.address.addr(), &prepare.place.name, prepare.epoch)
            .await;
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

    /// Restores a container whose address is held, and turns its route to it when its sockets exist.
    pub(crate) async fn restore_behind_guard(
        &self,
        container: &Container,
        address: Ipv4Addr,
        endpoint: &str,
        epoch: u64,
    ) -> Result<(CriuTimes, Release), Refusal> {
        let mut moments = self.engine.moments(container).await?;
        let resumes = AtomicBool::new(false);
        let restore = self.engine.restore(container);
        let release = self.release_at_resume(&mut moments, &resumes, address, endpoint, epoch);
        tokio::pin!(restore);
        tokio::pin!(release);
        let begun = SystemTime::now();
        let with_log = |refusal: Refusal| refusal.with_log(self.engine.criu_log(container, begun).as_deref());
        let (restored, released) = tokio::select! {
            // CRIU waits for the release to begin, so it comes first, unless the restore fails before it.
            released = &mut release => (restore.await, released),
            // The service runs, and what was held for it may still be on its way.
            restored = &mut restore => match restored {
                restored if resumes.load(Ordering::Relaxed) => (restored, release.await),
                // The engine has no moments: the service is back all the same.
                Ok(times) => (Ok(times), self.release(address, endpoint, epoch).await),
                Err(refusal) => return Err(with_log(refusal)),
            }
        };
        let release = match (restored, released) {
            (Ok(times), Ok(release)) => return Ok((times, release)),
            (Ok(_), Err(refusal)) => return Err(refusal),
            (Err(refusal), Err(_)) => return Err(with_log(refusal)),
            (Err(refusal), Ok(release)) => {
                tracing::warn!(%refusal, "the engine's restore call ended badly after the release");
                release
            }
        };
        // It was let go, and may have answered its clients since: if it runs, it is restored.
        let now = self.engine.inspect(&container.name).await?;
        if now.running {
            return Ok((CriuTimes::default(), release));
        }
        Err(with_log(Refusal::new(
            RefusalCode::Engine,
            format!("{} was restored, and ended at once", container.name),
            "see its own log",
        )))
    }

    async fn release_at_resume(
        &self,
        moments: &mut Moments,
        resumes: &AtomicBool,
        address: Ipv4Addr,
        endpoint: &str,
        epoch: u64,
    ) -> Result<Release, Refusal> {
        while let Some(moment) = moments.recv().await {
            if moment.stage == Stage::PreResume {
                resumes.store(true, Ordering::Relaxed);
                return self.release_and_resume(moment, address, endpoint, epoch).await;
            }
            let _ = moment.answer.send(Ok(()));
        }
        // No more moments: the restore's own answer tells what happened.
        std::future::pending().await
    }

    /// Has CRIU let the service run as soon as its packets are on their way.
    async fn release_and_resume(
        &self,
        moment: Moment,
        address: Ipv4Addr,
        endpoint: &str,
        epoch: u64,
    ) -> Result<Release, Refusal> {
        let (begins, begun) = oneshot::channel();
        let route = || Route::Endpoint(endpoint.to_owned());
        let turning = self.overlay.release(address, route(), epoch, begins);
        tokio::pin!(turning);
        tokio::select! {
            Ok(()) = begun => {
                let at = Timestamp::now();
                let _ = moment.answer.send(Ok(()));
                // It runs, and clients may have heard it: a switch that fails now is asked again.
                let turned = match turning.await {
                    Ok(change) => Ok(change),
                    Err(error) => {
                        tracing::warn!(%error, "the route is turned once more");
                        self.overlay.route(address, route(), epoch).await
                    }
                };
                Ok(Release { at, ..released(address, turned)? })
            }
            turned = &mut turning => {
                let release = released(address, turned);
                let verdict = release.as_ref().map(|_| ()).map_err(ToString::to_string);
                let _ = moment.answer.send(verdict);
                release
            }
        }
    }

    pub(super) async fn release(
        &self,
        address: Ipv4Addr,
        endpoint: &str,
        epoch: u64,
    ) -> Result<Release, Refusal> {
        let route = Route::Endpoint(endpoint.to_owned());
        released(address, self.overlay.route(address, route, epoch).await)
    }
}

/// What a change of route let go, now.
fn released(address: Ipv4Addr, turned: Result<Change, CoatError>) -> Result<Release, Refusal> {
    let (held, overflowed) = match turned.map_err(|error| overlay_refusal(&error))? {
        Change::Applied { released, overflowed } => (released, overflowed),
        Change::Unchanged => (0, 0),
        Change::Stale { current } => {
            return Err(Refusal::new(
                RefusalCode::Overlay,
                format!("a newer hand-over (epoch {current}) has the address {address}"),
                "",
            ));
        }
    };
    Ok(Release { at: Timestamp::now(), held, overflowed })
}
