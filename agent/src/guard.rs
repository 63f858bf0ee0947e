//! Restoring a service behind its guard: what comes for its address is held until its sockets exist, and goes out in order the moment
//! its tasks resume. Used where a service arrives and where it is taken back.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use mose_coat::{Change, CoatError, Route};
use mose_engine::{Container, Moment, Moments, Stage};
use mose_protocol::record::CriuTimes;
use mose_protocol::{Refusal, RefusalCode, Timestamp};
use tokio::sync::oneshot;

use crate::agent::Agent;
use crate::overlay::overlay_refusal;
use crate::patience::Patience;

/// The moment at which held segments were let go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release {
    /// The time of the release, on this host's clock.
    pub(crate) at: Timestamp,
    /// Segments that were let go.
    pub(crate) held: u64,
    /// Segments that were dropped, as the hold was full.
    pub(crate) overflowed: u64,
}

/// Where a service is restored, and how long that may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guarded<'a> {
    /// Its address on the overlay.
    pub(crate) address: Ipv4Addr,
    /// Its endpoint, behind a wall.
    pub(crate) endpoint: &'a str,
    /// The epoch of the hand-over.
    pub(crate) epoch: u64,
    /// How long it may take.
    pub(crate) patience: Patience,
}

impl Agent {
    /// Restores a container whose address is held, and turns its route to it when its sockets exist. If it fails before that, parts of the
    /// copy may be left; no client has heard from it.
    pub(crate) async fn restore_behind_guard(
        &self,
        container: &Container,
        guarded: Guarded<'_>,
    ) -> Result<(CriuTimes, Release), Refusal> {
        let mut moments = self.engine.moments(container, guarded.patience.quiet).await?;
        let resumes = AtomicBool::new(false);
        let restore = self.engine.restore(container);
        let release = self.release_at_resume(container, &mut moments, &resumes, guarded);
        tokio::pin!(restore);
        tokio::pin!(release);
        let begun = SystemTime::now();
        let with_log = |refusal: Refusal| refusal.with_log(self.engine.criu_log(container, begun).as_deref());
        let hangs = async {
            let hang = self.restore_in_vain(container, guarded.patience).await;
            if resumes.load(Ordering::Relaxed) { std::future::pending().await } else { hang }
        };
        let (restored, release) = tokio::select! {
            // CRIU waits for the release to begin, so it comes first, unless the restore fails before it.
            released = &mut release => {
                // CRIU has heard *no*: whatever it makes of that, this is why.
                let release = released.map_err(with_log)?;
                (self.see_it_run(container, restore.as_mut(), guarded.patience.quiet).await, release)
            }
            // The service runs, and what was held for it may still be on its way.
            restored = &mut restore => match restored {
                restored if resumes.load(Ordering::Relaxed) => (restored, release.await.map_err(with_log)?),
                // The engine has no moments: the service is back all the same.
                Ok(times) => (Ok(times), self.release(guarded).await?),
                Err(refusal) => return Err(with_log(refusal)),
            },
            // Podman may still begin the restore later. CRIU then gets no answer and fails.
            hang = hangs => return Err(with_log(hang)),
        };
        match restored {
            Ok(times) => return Ok((times, release)),
            Err(refusal) => {
                tracing::warn!(%refusal, "the engine's restore call ended badly after the release");
            }
        }
        // It was let go, and may have answered its clients since: if it runs, it is restored.
        if self.engine.wake_restore(container).await == Some(true) {
            return Ok((CriuTimes::default(), release));
        }
        Err(with_log(Refusal::new(
            RefusalCode::Engine,
            format!("{} was restored, and ended at once", container.name),
            "see its own log",
        )))
    }

    /// Returns once a restore does nothing any more, or takes too long: CRIU may well compute for ever.
    pub(crate) async fn restore_in_vain(&self, container: &Container, patience: Patience) -> Refusal {
        tokio::select! {
            hang = self.engine.restore_hangs(container, patience.quiet) => hang,
            () = tokio::time::sleep(patience.whole) => Refusal::new(
                RefusalCode::Failed,
                format!("{} was not restored within {:.1?}", container.name, patience.whole),
                "see CRIU's log there",
            ),
        }
    }

    /// The end of a restore whose service was told to run. Where nothing happens it is woken; where it runs, nobody waits for an engine
    /// that does not say so.
    async fn see_it_run(
        &self,
        container: &Container,
        mut restore: impl Future<Output = Result<CriuTimes, Refusal>> + Unpin,
        patience: Duration,
    ) -> Result<CriuTimes, Refusal> {
        loop {
            let hang = tokio::select! {
                restored = &mut restore => return restored,
                hang = self.engine.restore_hangs(container, patience) => hang,
            };
            tracing::warn!(%hang, "a restore hangs after the release");
            match self.engine.wake_restore(container).await {
                Some(true) => return Ok(CriuTimes::default()),
                Some(false) => return Err(hang),
                None => {}
            }
        }
    }

    async fn release_at_resume(
        &self,
        container: &Container,
        moments: &mut Moments,
        resumes: &AtomicBool,
        guarded: Guarded<'_>,
    ) -> Result<Release, Refusal> {
        while let Some(moment) = moments.recv().await {
            if moment.stage == Stage::PreResume {
                if let Err(refusal) = self.engine.releases(container) {
                    let _ = moment.answer.send(Err(refusal.to_string()));
                    return Err(refusal);
                }
                resumes.store(true, Ordering::Relaxed);
                return self.release_and_resume(moment, guarded).await;
            }
            let _ = moment.answer.send(Ok(()));
        }
        // No more moments: the restore's own answer tells what happened.
        std::future::pending().await
    }

    /// Has CRIU let the service run as soon as its packets are on their way.
    async fn release_and_resume(&self, moment: Moment, guarded: Guarded<'_>) -> Result<Release, Refusal> {
        let Guarded { address, endpoint, epoch, .. } = guarded;
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

    /// Lets out what is held for an address, to an endpoint here.
    pub(crate) async fn release(&self, guarded: Guarded<'_>) -> Result<Release, Refusal> {
        let Guarded { address, endpoint, epoch, .. } = guarded;
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
