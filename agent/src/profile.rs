//! The profiles of the services on this host: how large their state is, and how fast it is dirtied.
//!
//! Every running service is sampled within a budget of its time. A migration needs the service for itself, for its own tracker and
//! for CRIU: it has the sampling released first, and none begins while it is under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mose_driver::HandOvers;
use mose_engine::aside::aside;
use mose_engine::{Container, ContainerSampler as Sampler, Engine};
use mose_pages::PAGE_BYTES;
use mose_pam::{Bytes, PagesPerSec};
use mose_protocol::metrics::{DirtyFigures, ServiceMetrics};
use mose_protocol::{HostName, Refusal, RefusalCode, ServiceName, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::file_profile::{FileProfile, written_by};

/// How long a question about a service waits for its first sample.
const FIRST_SAMPLE: Duration = Duration::from_secs(6);

/// Between two looks whether a service can be sampled again.
const AGAIN: Duration = Duration::from_secs(1);

/// Samples the services of a host.
pub(crate) struct Profiler {
    host: HostName,
    engine: Arc<dyn Engine>,
    hand_overs: Arc<HandOvers>,
    watched: Mutex<HashMap<ServiceName, Arc<Watched>>>,
}

/// A sampler and when it began.
struct Sampling {
    sampler: Box<dyn Sampler>,
    began: Instant,
    files: FileProfile,
}

#[derive(Default)]
struct Watched {
    /// `None` while somebody else has the service.
    sampler: tokio::sync::Mutex<Option<Sampling>>,
    latest: watch::Sender<Option<ServiceMetrics>>,
}

impl Profiler {
    /// No service is sampled yet, and none while `hand_overs` move it.
    pub(crate) fn new(host: HostName, engine: Arc<dyn Engine>, hand_overs: Arc<HandOvers>) -> Arc<Self> {
        Arc::new(Self { host, engine, hand_overs, watched: Mutex::default() })
    }

    /// Leaves a service as if it had never been sampled. To be called when it is known to be busy, so that none begins anew.
    pub(crate) async fn release(&self, service: &ServiceName) {
        let watched = self.watched.lock().get(service).cloned();
        if let Some(watched) = watched {
            let sampler = watched.sampler.lock().await.take();
            // Letting go of the pages of a large service takes milliseconds.
            let _ = tokio::task::spawn_blocking(move || drop(sampler)).await;
        }
    }

    /// The newest profiles.
    pub(crate) fn latest(&self) -> Vec<ServiceMetrics> {
        self.watched.lock().values().filter_map(|watched| watched.latest.borrow().clone()).collect()
    }

    /// Sees to it that a running service is sampled.
    pub(crate) fn sample(self: &Arc<Self>, service: &ServiceName) {
        self.sampled(service);
    }

    /// What is known of a service, which is sampled from now on if it was not.
    fn sampled(self: &Arc<Self>, service: &ServiceName) -> Arc<Watched> {
        let watched = {
            let mut all = self.watched.lock();
            if let Some(watched) = all.get(service) {
                return watched.clone();
            }
            all.entry(service.clone()).or_default().clone()
        };
        let known = watched.clone();
        let (profiler, service) = (self.clone(), service.clone());
        self.hand_overs.tasks().spawn(async move {
            if let Err(error) = profiler.sample_until_gone(&service, &watched).await {
                tracing::warn!(%service, %error, "the service is not profiled");
            }
            profiler.watched.lock().remove(&service);
        });
        known
    }

    async fn sample_until_gone(&self, service: &ServiceName, watched: &Watched) -> Result<(), Refusal> {
        loop {
            while self.hand_overs.busy_with(service).is_some() {
                tokio::time::sleep(AGAIN).await;
            }
            let container = match self.engine.inspect(service).await {
                Ok(container) if container.running => container,
                Ok(_) => return Ok(()),
                Err(refusal) if refusal.code == RefusalCode::UnknownService => return Ok(()),
                Err(refusal) => return Err(refusal),
            };
            let opened = tokio::task::spawn_blocking({
                let (engine, container) = (self.engine.clone(), container.clone());
                move || engine.sampler(&container)
            });
            let sampler = opened.await.map_err(|e| failed(service, &e))?;
            let sampler = sampler.map_err(|refusal| failed(service, &refusal.reason))?;
            *watched.sampler.lock().await =
                Some(Sampling { sampler, began: Instant::now(), files: FileProfile::default() });
            while let Some(next) = self.sample_once(&container, watched).await? {
                tokio::time::sleep_until(next.into()).await;
            }
            if self.hand_overs.busy_with(service).is_none() && self.processes(&container).await?.is_empty() {
                return Ok(());
            }
        }
    }

    /// When the next look is due; `None` where the service ended, or somebody else has it.
    async fn sample_once(
        &self,
        container: &Container,
        watched: &Watched,
    ) -> Result<Option<Instant>, Refusal> {
        let service = &container.name;
        let mut place = watched.sampler.lock().await;
        let Some(mut sampling) = place.take() else { return Ok(None) };
        let pids = self.processes(container).await?;
        if pids.is_empty() || self.hand_overs.busy_with(service).is_some() {
            let _ = tokio::task::spawn_blocking(move || drop(sampling)).await;
            return Ok(None);
        }
        self.look_at_files(container, &mut sampling.files).await;
        let stepped = tokio::task::spawn_blocking(move || {
            sampling.files.written(written_by(&pids), Instant::now());
            let next = sampling.sampler.step(Instant::now(), &pids);
            (sampling, next)
        });
        let (sampling, next) = stepped.await.map_err(|error| failed(service, &error))?;
        let next = match next {
            Ok(next) => next,
            Err(error) => {
                // It may have ended just now; else it is tried again.
                tracing::debug!(%service, %error, "a sample was not taken");
                *place = Some(sampling);
                return Ok(Some(Instant::now() + AGAIN));
            }
        };
        if next.sampled {
            watched.latest.send_replace(metrics(service, &self.host, &sampling));
        }
        *place = Some(sampling);
        Ok(Some(next.at))
    }

    async fn processes(&self, container: &Container) -> Result<Vec<u32>, Refusal> {
        let (engine, container) = (self.engine.clone(), container.clone());
        aside(move || Ok(engine.processes(&container))).await
    }

    /// Learns what the service's files amount to, if it is time to.
    async fn look_at_files(&self, container: &Container, files: &mut FileProfile) {
        let begun = Instant::now();
        if !files.size_is_due(begun) {
            return;
        }
        match self.engine.files_size(container).await {
            Ok(size) => files.sized(size, Instant::now(), begun.elapsed()),
            Err(refusal) => tracing::debug!(%refusal, "the size of a service's files is not known"),
        }
    }

    /// The newest profile of a running service.
    pub(crate) async fn profile(self: &Arc<Self>, service: &ServiceName) -> Result<ServiceMetrics, Refusal> {
        if !self.engine.inspect(service).await?.running {
            return Err(Refusal::new(
                RefusalCode::NotRunning,
                format!("{service} does not run on {}", self.host),
                "start it, then profile it",
            ));
        }
        let mut latest = self.sampled(service).latest.subscribe();
        let first = tokio::time::timeout(FIRST_SAMPLE, latest.wait_for(Option::is_some)).await;
        let metrics = first.ok().and_then(Result::ok).and_then(|metrics| metrics.clone());
        metrics.ok_or_else(|| failed(service, &format!("no sample was taken within {FIRST_SAMPLE:?}")))
    }
}

fn failed(service: &ServiceName, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        RefusalCode::Failed,
        format!("{service} cannot be profiled: {error}"),
        "run the agent as root with CAP_SYS_PTRACE, or give the figures to `mose plan`",
    )
}

/// What a sampler knows, once it knows anything.
fn metrics(
    service: &ServiceName,
    host: &HostName,
    Sampling { sampler, began, files }: &Sampling,
) -> Option<ServiceMetrics> {
    let profile = sampler.profile();
    let rate = |rate: mose_pages::PagesPerSec| PagesPerSec(rate.0);
    let elapsed = began.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    Some(ServiceMetrics {
        service: service.clone(),
        host: host.clone(),
        at: Timestamp::now(),
        state: Bytes(profile.state? * PAGE_BYTES),
        dirty: DirtyFigures {
            current: rate(profile.current?),
            mean: rate(profile.mean?),
            worst: rate(profile.worst?),
        },
        working_set: Bytes(profile.working_set * PAGE_BYTES),
        window: sampler.window().into(),
        tracker: sampler.means(),
        cost: sampler.cost().as_secs_f64() / elapsed,
        files: files.figures(),
    })
}
