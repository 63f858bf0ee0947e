//! A simulated service's memory while it runs: read in rounds, and sampled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mose_engine::{ContainerSampler, LiveMemory};
use mose_pages::{DirtyProfile, Next};
use mose_pam::RoundCost;
use mose_protocol::{HostName, Refusal, RefusalCode, ServiceName};
use mose_transfer::{PAGE, TakePage, TransferError};

use crate::draw::Component;
use crate::memory::Pages;
use crate::world::World;

/// Where the pages of every service begin.
const BASE: u64 = 0x7f00_0000_0000;
/// Pages that are read at once.
const PIECE: usize = 64;

/// The memory of a running service, for rounds of pre-copy.
pub(crate) struct SimulatedMemory {
    pub(crate) world: Arc<World>,
    pub(crate) host: HostName,
    pub(crate) service: ServiceName,
    pub(crate) pid: u32,
    /// The service's writes at the begin of the last round.
    pub(crate) seen: Option<u64>,
}

impl World {
    /// A running service's pages, and its writes so far; with `read`, its memory is noted as read by then.
    fn memory_now(&self, host: &HostName, service: &ServiceName, read: bool) -> Option<(Pages, u64)> {
        let mut state = self.state();
        let found = state.services.get(service)?;
        let (pages, writes) = (found.pages, found.progress.writes(Instant::now()));
        let instance = state.instances.get_mut(&(host.clone(), service.clone()))?;
        instance.pid?;
        if read {
            instance.read_at = Some(writes);
        }
        Some((pages, writes))
    }
}

impl LiveMemory for SimulatedMemory {
    fn means(&self) -> String {
        "simulated".to_owned()
    }

    /// Its pages are found as they are read, at no cost.
    fn look(&mut self) -> Result<(), TransferError> {
        Ok(())
    }

    /// Takes the drawn time of a pre-dump, or of an iteration, beside what `take` takes.
    fn changed(&mut self, take: &mut TakePage<'_>) -> Result<(), TransferError> {
        let gone =
            || TransferError::setup(format!("{} does not run any more", self.service), "see why it ended");
        let now = || self.world.memory_now(&self.host, &self.service, false);
        let (pages, begin) = self.world.memory_now(&self.host, &self.service, true).ok_or_else(gone)?;
        let (numbers, lasting) = match self.seen.replace(begin) {
            None => (
                (0..pages.count).collect::<Vec<_>>(),
                self.world.draw(Component::PreDump, &self.service, 0.0),
            ),
            Some(before) => {
                let numbers = pages.changed(before, begin);
                let dirty = numbers.len() as f64 / pages.count as f64;
                // A calibration's rounds include the pause between them.
                (
                    numbers,
                    self.world.draw(Component::Round, &self.service, dirty).saturating_sub(RoundCost::PAUSE),
                )
            }
        };
        let (began, mut taking, mut read) = (Instant::now(), Duration::ZERO, 0);
        let wait = |read: usize, taking: Duration| {
            let part = if numbers.is_empty() { 1.0 } else { read as f64 / numbers.len() as f64 };
            let due = began + taking + lasting.mul_f64(part);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        };
        let mut content = vec![[0; PAGE]; PIECE];
        for piece in numbers.chunks(PIECE) {
            let (_, writes) = now().ok_or_else(gone)?;
            for (page, content) in piece.iter().zip(&mut content) {
                pages.fill(*page, writes, content);
            }
            let handed = Instant::now();
            for (page, content) in piece.iter().zip(&content) {
                take((self.pid, BASE + page * PAGE as u64), content)?;
            }
            taking += handed.elapsed();
            read += piece.len();
            wait(read, taking);
        }
        if numbers.is_empty() {
            wait(0, taking);
        }
        Ok(())
    }
}

/// The first look is at so much of a service's time, every other one at so much.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_secs(1);
/// How far back a profile looks.
const WINDOW: Duration = Duration::from_secs(60);

/// One look at a service: how many unique pages it dirtied.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    span: Duration,
    pages: u64,
    writes: u64,
}

impl Look {
    fn rate(&self) -> f64 {
        self.pages as f64 / self.span.as_secs_f64().max(1e-6)
    }
}

/// The profile of a simulated service, as often as a real one would be sampled; what it says is exact.
pub(crate) struct SimulatedSampling {
    world: Arc<World>,
    host: HostName,
    service: ServiceName,
    looks: VecDeque<Look>,
    before: Option<(Instant, u64)>,
    pages: Option<Pages>,
}

impl SimulatedSampling {
    pub(crate) fn new(world: Arc<World>, host: HostName, service: ServiceName) -> Self {
        Self { world, host, service, looks: VecDeque::new(), before: None, pages: None }
    }
}

impl ContainerSampler for SimulatedSampling {
    fn step(&mut self, now: Instant, _: &[u32]) -> Result<Next, Refusal> {
        let Some((pages, writes)) = self.world.memory_now(&self.host, &self.service, false) else {
            let reason = format!("{} does not run", self.service);
            return Err(Refusal::new(RefusalCode::NotRunning, reason, ""));
        };
        self.pages = Some(pages);
        let Some((at, before)) = self.before.replace((now, writes)) else {
            return Ok(Next { at: now + FIRST_LOOK, sampled: false });
        };
        let span = now.saturating_duration_since(at);
        self.looks.push_back(Look {
            at: now,
            span,
            pages: pages.dirtied(before, writes),
            writes: writes - before,
        });
        while self.looks.front().is_some_and(|look| look.at + WINDOW < now) {
            self.looks.pop_front();
        }
        Ok(Next { at: now + LOOK, sampled: true })
    }

    fn profile(&self) -> DirtyProfile {
        let Some((pages, last)) = self.pages.zip(self.looks.back()) else { return DirtyProfile::default() };
        let measured: Duration = self.looks.iter().map(|look| look.span).sum();
        let dirtied: u64 = self.looks.iter().map(|look| look.pages).sum();
        let writes: u64 = self.looks.iter().map(|look| look.writes).sum();
        let worst = self.looks.iter().map(Look::rate).fold(0.0, f64::max);
        let rate = |rate: f64| Some(mose_pages::PagesPerSec(rate));
        DirtyProfile {
            current: rate(last.rate()),
            mean: rate(dirtied as f64 / measured.as_secs_f64().max(1e-6)),
            worst: rate(worst),
            working_set: pages.dirtied(0, writes),
            state: Some(pages.count),
            measured,
        }
    }

    fn means(&self) -> String {
        "simulated".to_owned()
    }

    fn cost(&self) -> Duration {
        Duration::ZERO
    }

    fn window(&self) -> Duration {
        WINDOW
    }
}
