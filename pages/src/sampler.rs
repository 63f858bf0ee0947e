//! Measuring a service's dirty-page rate for next to nothing: when to look, when to look away.
//!
//! Writing to a protected page costs the service a fault, a look costs time that grows with its state. Where both together stay
//! under the budget, the sampler looks all the time, at long intervals; where they do not, it measures for a few
//! milliseconds and then looks away for as long as it takes to earn them.

use crate::rate::{DirtyProfile, PagesPerSec, RateWindow};
use crate::{Cost, Error, Means, Tracker, dumpable};
use std::time::{Duration, Instant};

/// What the sampler keeps to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerConfig {
    /// The part of time that measuring may cost, all of its costs taken together.
    pub budget: f64,
    /// How long back [`DirtyProfile`] looks.
    pub window: Duration,
    /// How often the state size is looked up, at most.
    pub state_period: Duration,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self { budget: 0.005, window: Duration::from_secs(60), state_period: Duration::from_secs(10) }
    }
}

/// The first measurement, when nothing is known of the rate.
const FIRST: Duration = Duration::from_millis(100);
/// The shortest measurement: shorter ones would measure how the service is scheduled.
const SHORTEST: Duration = Duration::from_millis(20);
/// The longest, and the interval when looking all the time.
const LONGEST: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);
/// A measurement wants so many pages.
const WANTED: f64 = 400.0;
/// But no more than this part of the state: pages written twice count once, and the rate would seem lower by half this part.
const PART: f64 = 0.06;
/// A saving of no more than this much time's budget is carried on, and it begins with as much.
const SAVED: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing is measured; the next measurement begins then.
    Away(Duration),
    /// A measurement is under way; it ends then.
    Measuring(Duration),
}

/// Measures a service with a [`Tracker`], within a budget.
pub struct Sampler {
    tracker: Box<dyn Tracker>,
    config: SamplerConfig,
    window: RateWindow,
    origin: Option<Instant>,
    phase: Phase,
    state: Option<(Duration, u64)>,
    /// Time earned and not spent, in seconds; below zero: owed.
    credit: f64,
    credited: Duration,
    counted: Duration,
    extra: Duration,
    /// What the last look cost that ended a measurement: the first ones, which protect everything, cost more.
    look: Duration,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler")
            .field("means", &self.tracker.means())
            .field("phase", &self.phase)
            .field("credit", &self.credit)
            .finish_non_exhaustive()
    }
}

/// What was done, and when there is something to do again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// When to call again.
    pub at: Instant,
    /// Whether the profile is newer than before.
    pub sampled: bool,
}

impl Sampler {
    /// A sampler of the processes that each call of [`Sampler::step`] names.
    pub fn new(tracker: Box<dyn Tracker>, config: SamplerConfig) -> Self {
        Self {
            tracker,
            config,
            window: RateWindow::new(config.window),
            origin: None,
            phase: Phase::Away(Duration::ZERO),
            state: None,
            // Taking a service under watch costs the most: let it not wait too long for its second measurement.
            credit: SAVED.as_secs_f64() * config.budget,
            credited: Duration::ZERO,
            counted: Duration::ZERO,
            extra: Duration::ZERO,
            look: Duration::ZERO,
        }
    }

    /// How it measures.
    pub fn means(&self) -> Means {
        self.tracker.means()
    }

    /// What it has cost so far.
    pub fn cost(&self) -> Cost {
        let cost = self.tracker.cost();
        Cost { looking: cost.looking + self.extra, ..cost }
    }

    /// The processes that are hashed because the tracker's own means does not work for them, and why.
    pub fn refused(&self) -> Vec<(u32, String)> {
        self.tracker.refused()
    }

    /// What is known so far.
    pub fn profile(&self) -> DirtyProfile {
        DirtyProfile { state: self.state.map(|(_, pages)| pages), ..self.window.profile() }
    }

    /// Leaves the service alone until the next step, where a measurement begins anew.
    pub fn pause(&mut self, now: Instant) {
        let at = now.saturating_duration_since(*self.origin.get_or_insert(now));
        self.tracker.pause();
        self.settle(at);
        self.phase = Phase::Away(at + self.owed());
    }

    /// Gives the tracker back, e.g. to follow every page during a migration; it is paused.
    pub fn into_tracker(mut self) -> Box<dyn Tracker> {
        self.tracker.pause();
        self.tracker
    }

    /// Does what is due at `now`, which must not go back from call to call: nothing, if it is too early. It takes as long as a look
    /// does, so it is not for a thread that must answer at once.
    ///
    /// # Errors
    /// What keeps the tracker from looking; it is tried again at the next measurement.
    pub fn step(&mut self, now: Instant, pids: &[u32]) -> Result<Next, Error> {
        let origin = *self.origin.get_or_insert(now);
        let at = now.saturating_duration_since(origin);
        let stepped = self.advance(at, pids);
        self.settle(at);
        let sampled = match stepped {
            Ok(sampled) => sampled,
            Err(e) => {
                self.phase = Phase::Away(at + LONGEST.max(self.owed()));
                return Err(e);
            }
        };
        if sampled {
            self.phase = self.decide(at);
            self.settle(at);
        }
        let (Phase::Away(due) | Phase::Measuring(due)) = self.phase;
        Ok(Next { at: origin + due, sampled })
    }

    fn advance(&mut self, at: Duration, pids: &[u32]) -> Result<bool, Error> {
        match self.phase {
            Phase::Away(due) | Phase::Measuring(due) if at < due => Ok(false),
            Phase::Away(_) => {
                let dirty = self.tracker.tick(pids)?;
                if dirty.memories.iter().all(|memory| memory.fresh) {
                    self.state = Some((at, dirty.fresh_pages()));
                }
                self.phase = Phase::Measuring(at + self.length());
                Ok(false)
            }
            Phase::Measuring(_) => {
                let before = self.tracker.cost().looking;
                let dirty = self.tracker.tick(pids)?;
                self.look = self.tracker.cost().looking.saturating_sub(before);
                self.window.add(at, &dirty);
                self.weigh(at, pids)?;
                Ok(true)
            }
        }
    }

    /// Looks the state size up anew, if that is due and costs no more than a quarter of what may be spent.
    fn weigh(&mut self, at: Duration, pids: &[u32]) -> Result<(), Error> {
        if self.state.is_some_and(|(then, _)| at.saturating_sub(then) < self.config.state_period) {
            return Ok(());
        }
        let begun = Instant::now();
        let pages = dumpable(pids)?.pages();
        let took = begun.elapsed();
        self.extra += took;
        let earned = took.div_f64(self.config.budget.max(1e-6) / 4.0);
        self.state = Some((at + earned.saturating_sub(self.config.state_period), pages));
        Ok(())
    }

    /// Counts what was earned and spent since the last time.
    fn settle(&mut self, at: Duration) {
        let total = self.cost().total();
        let spent = total.saturating_sub(self.counted).as_secs_f64();
        let earned = at.saturating_sub(self.credited).as_secs_f64() * self.config.budget;
        let most = SAVED.as_secs_f64() * self.config.budget;
        self.credit = (self.credit + earned).min(most) - spent;
        (self.counted, self.credited) = (total, at);
    }

    /// How long it takes to earn what is owed.
    fn owed(&self) -> Duration {
        Duration::try_from_secs_f64(-self.credit / self.config.budget).unwrap_or_default()
    }

    fn rate(&self) -> Option<f64> {
        self.window.current().map(|PagesPerSec(rate)| rate)
    }

    /// How long the next measurement is: long enough for a certain rate, short enough that few pages are written twice.
    fn length(&self) -> Duration {
        let Some(rate) = self.rate() else { return FIRST };
        let most = self.state.map_or(f64::INFINITY, |(_, pages)| PART * pages as f64);
        let pages = WANTED.min(most);
        Duration::try_from_secs_f64(pages / rate).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
    }

    /// After a measurement: go on looking, or look away, and until when.
    fn decide(&mut self, at: Duration) -> Phase {
        let cost = self.tracker.cost();
        let look = self.look.as_secs_f64();
        let rate = self.rate().unwrap_or(0.0);
        let left = self.config.budget - rate * cost.per_fault.as_secs_f64();
        // All the time, if the faults take less than half of the budget and few pages are written twice in the interval.
        let interval = Duration::try_from_secs_f64(look / left).unwrap_or(Duration::MAX).max(LONGEST);
        let twice = self.state.is_some_and(|(_, pages)| rate * interval.as_secs_f64() > PART * pages as f64);
        if self.credit >= 0.0 && left > self.config.budget / 2.0 && interval <= LONGEST_INTERVAL && !twice {
            return Phase::Measuring(at + interval);
        }
        self.tracker.pause();
        self.settle(at);
        Phase::Away(at + self.owed().max(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dirty, MemoryDirty, PAGE_BYTES, PageRange, PageSet};
    use std::sync::{Arc, Mutex};

    /// A service of 65 536 pages that is written at a steady rate, on a clock of its own.
    #[derive(Debug, Default)]
    struct World {
        now: Duration,
        rate: f64,
        look: Duration,
    }

    struct Simulated {
        world: Arc<Mutex<World>>,
        last: Option<Duration>,
        known: bool,
        cost: Cost,
    }

    const STATE: u64 = 65_536;

    impl Tracker for Simulated {
        fn means(&self) -> Means {
            Means::WriteProtection
        }

        fn tick(&mut self, _: &[u32]) -> Result<Dirty, Error> {
            let world = self.world.lock().unwrap();
            let span = self.last.replace(world.now).map_or(Duration::ZERO, |last| world.now - last);
            // Uniform over the state: as many as are not hit at all are left out.
            let written = world.rate * span.as_secs_f64() / STATE as f64;
            let pages = (STATE as f64 * (1.0 - (-written).exp())).round() as u64;
            let pages = if self.known { pages } else { STATE };
            self.cost.ticks += 1;
            self.cost.looking += world.look;
            self.cost.faults += if self.known { pages } else { 0 };
            self.cost.per_fault = Duration::from_nanos(1200);
            let fresh = !std::mem::replace(&mut self.known, true);
            let pages: PageSet = [PageRange { start: 0, end: pages * PAGE_BYTES }].into_iter().collect();
            Ok(Dirty { memories: vec![MemoryDirty { pid: 1, means: self.means(), fresh, pages }], span })
        }

        fn pause(&mut self) {
            self.last = None;
        }

        fn cost(&self) -> Cost {
            self.cost
        }
    }

    /// Runs for so long; gives the profile and the part of the time that it cost.
    fn run(rate: f64, look: Duration, time: Duration) -> (DirtyProfile, f64) {
        let world = Arc::new(Mutex::new(World { now: Duration::ZERO, rate, look }));
        let tracker =
            Simulated { world: Arc::clone(&world), last: None, known: false, cost: Cost::default() };
        // The state of a simulated service cannot be looked up.
        let config = SamplerConfig { state_period: Duration::MAX, ..SamplerConfig::default() };
        let mut sampler = Sampler::new(Box::new(tracker), config);
        let origin = Instant::now();
        let mut now = origin;
        while now < origin + time {
            world.lock().unwrap().now = now - origin;
            now = sampler.step(now, &[1]).unwrap().at;
        }
        (sampler.profile(), sampler.cost().total().as_secs_f64() / (now - origin).as_secs_f64())
    }

    #[test]
    fn rates_are_right_and_the_budget_is_kept() {
        for rate in [10.0, 100.0, 1000.0, 10_000.0, 50_000.0] {
            for look_us in [150, 1400] {
                let (profile, cost) = run(rate, Duration::from_micros(look_us), Duration::from_secs(120));
                for told in [profile.current, profile.mean, profile.worst] {
                    let told = told.unwrap().0;
                    assert!((told / rate - 1.0).abs() < 0.1, "{told} of {rate}, a look {look_us} us");
                }
                assert!(cost < 0.0055, "{cost} at {rate}, a look {look_us} us");
                assert_eq!(profile.state, Some(STATE));
            }
        }
    }

    #[test]
    fn a_costly_means_keeps_to_the_budget_too() {
        let (profile, cost) = run(1000.0, Duration::from_millis(90), Duration::from_secs(600));
        assert!((profile.current.unwrap().0 / 1000.0 - 1.0).abs() < 0.1, "{profile:?}");
        assert!(cost < 0.0055, "{cost}");
    }

    #[test]
    fn a_service_that_writes_everything_at_once_keeps_to_the_budget() {
        let (profile, cost) = run(3e6, Duration::from_millis(1), Duration::from_secs(300));
        assert!(cost < 0.0055, "{cost}");
        assert!(profile.working_set > STATE / 2);
    }

    #[test]
    fn what_was_cut_short_by_a_pause_is_no_sample() {
        let world = Arc::new(Mutex::new(World { rate: 1000.0, ..World::default() }));
        let tracker =
            Simulated { world: Arc::clone(&world), last: None, known: false, cost: Cost::default() };
        let mut sampler = Sampler::new(Box::new(tracker), SamplerConfig::default());
        let now = Instant::now();
        let next = sampler.step(now, &[1]).unwrap();
        sampler.pause(now);
        world.lock().unwrap().now = Duration::from_secs(5);
        let next = sampler.step(next.at + Duration::from_secs(5), &[1]).unwrap();
        assert!(!next.sampled);
        assert_eq!(sampler.profile().current, None);
    }

    #[test]
    fn too_early_a_call_does_nothing() {
        let world = Arc::new(Mutex::new(World { rate: 10.0, ..World::default() }));
        let tracker = Simulated { world, last: None, known: false, cost: Cost::default() };
        let mut sampler = Sampler::new(Box::new(tracker), SamplerConfig::default());
        let now = Instant::now();
        let next = sampler.step(now, &[1]).unwrap();
        assert_eq!(sampler.step(now + Duration::from_millis(1), &[1]).unwrap(), next);
        assert_eq!(sampler.cost().ticks, 1);
    }
}
