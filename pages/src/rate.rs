//! How fast pages get dirty: what a series of samples says, over a sliding window of time. Pure; time is passed in.
//!
//! A *rate* here is unique pages written within a span, per second of the span: what one round of pre-copy would have to send
//! again. For spans in which few pages are written twice that is also the rate of writes; over longer ones it is less, and
//! tends to the [working set](DirtyProfile::working_set).

use crate::{Dirty, PAGE_BYTES};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

/// Pages per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct PagesPerSec(pub f64);

impl fmt::Display for PagesPerSec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} pages/s", self.0)
    }
}

/// So many pages make a rate certain to 5 % (one standard deviation, if pages are written independently of each other).
const ENOUGH: u64 = 400;
/// And so many to 10 %: enough to call a rate the worst.
const ENOUGH_FOR_WORST: u64 = 100;
/// Samples whose rates differ by more than so many standard deviations are not of one rate.
const DIFFERENT: f64 = 4.0;
/// Pages of a block whose last writes are kept together.
const BLOCK: u64 = 512;

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    /// When it ended.
    at: Duration,
    /// How long was measured.
    span: Duration,
    /// How much time it stands for: since the sample before ended.
    covers: Duration,
    /// Unique pages written in the span.
    pages: u64,
    /// Its number, from 1.
    number: u32,
}

impl Sample {
    fn rate(&self) -> f64 {
        self.pages as f64 / self.span.as_secs_f64()
    }
}

/// What is known of how a service writes to its memory.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DirtyProfile {
    /// The rate now: of the last sample, or of as many before it as are needed to be certain to 5 % and seem to be of one rate.
    pub current: Option<PagesPerSec>,
    /// The mean over the window. Each sample counts as long as it stands for, not as long as it took.
    pub mean: Option<PagesPerSec>,
    /// The highest within the window that is certain to 10 %; the mean, if too little is written to tell.
    pub worst: Option<PagesPerSec>,
    /// Pages written at least once while measured within the window: the writable working set, or the part of it seen.
    pub working_set: u64,
    /// Pages that a checkpoint would write.
    pub state: Option<u64>,
    /// How much of the window was measured.
    pub measured: Duration,
}

/// Samples of the last so many seconds.
#[derive(Debug, Clone)]
pub struct RateWindow {
    length: Duration,
    samples: VecDeque<Sample>,
    number: u32,
    /// When each page was last written, as the number of a sample; by process and block of pages.
    written: HashMap<(u32, u64), Box<[u32; BLOCK as usize]>>,
}

impl RateWindow {
    /// A window of this length.
    pub fn new(length: Duration) -> Self {
        Self { length, samples: VecDeque::new(), number: 0, written: HashMap::new() }
    }

    /// Adds what a tick found that ended at `at`, on any clock that does not go back. One with a span of zero says nothing about
    /// rates and is left out.
    pub fn add(&mut self, at: Duration, dirty: &Dirty) {
        self.forget(at);
        if dirty.span.is_zero() {
            return;
        }
        self.number += 1;
        for memory in dirty.memories.iter().filter(|memory| !memory.fresh) {
            for range in &memory.pages {
                for page in range.start / PAGE_BYTES..range.end / PAGE_BYTES {
                    let block = self.written.entry((memory.pid, page / BLOCK));
                    block.or_insert_with(|| Box::new([0; BLOCK as usize]))[(page % BLOCK) as usize] =
                        self.number;
                }
            }
        }
        let before = self.samples.back().map_or(Duration::MAX, |last| at.saturating_sub(last.at));
        let covers = if before == Duration::MAX { dirty.span } else { before.max(dirty.span) };
        let pages = dirty.pages();
        self.samples.push_back(Sample { at, span: dirty.span, covers, pages, number: self.number });
    }

    /// Drops what ended longer ago than the window is long.
    fn forget(&mut self, now: Duration) {
        let mut dropped = false;
        while self.samples.front().is_some_and(|first| now.saturating_sub(first.at) > self.length) {
            self.samples.pop_front();
            dropped = true;
        }
        if dropped {
            let oldest = self.samples.front().map_or(u32::MAX, |first| first.number);
            self.written.retain(|_, block| block.iter().any(|number| *number >= oldest));
        }
    }

    /// The rate now.
    pub fn current(&self) -> Option<PagesPerSec> {
        let mut newest_first = self.samples.iter().rev();
        let last = newest_first.next()?;
        let (mut pages, mut span) = (last.pages, last.span.as_secs_f64());
        for sample in newest_first {
            if pages >= ENOUGH || differ((pages, span), (sample.pages, sample.span.as_secs_f64())) {
                break;
            }
            pages += sample.pages;
            span += sample.span.as_secs_f64();
        }
        Some(PagesPerSec(pages as f64 / span))
    }

    /// The mean rate over the window.
    pub fn mean(&self) -> Option<PagesPerSec> {
        let time: f64 = self.samples.iter().map(|sample| sample.covers.as_secs_f64()).sum();
        let pages: f64 = self.samples.iter().map(|sample| sample.rate() * sample.covers.as_secs_f64()).sum();
        (time > 0.0).then(|| PagesPerSec(pages / time))
    }

    /// The highest rate within the window.
    pub fn worst(&self) -> Option<PagesPerSec> {
        let (mut first, mut pages, mut span, mut worst) = (0, 0, 0.0, None::<f64>);
        for sample in &self.samples {
            pages += sample.pages;
            span += sample.span.as_secs_f64();
            // The shortest run of samples up to this one that has enough pages.
            while let Some(oldest) =
                self.samples.get(first).filter(|oldest| pages - oldest.pages >= ENOUGH_FOR_WORST)
            {
                pages -= oldest.pages;
                span -= oldest.span.as_secs_f64();
                first += 1;
            }
            if pages >= ENOUGH_FOR_WORST {
                worst = Some(worst.unwrap_or(0.0).max(pages as f64 / span));
            }
        }
        worst.map(PagesPerSec).or_else(|| self.mean())
    }

    /// Pages written at least once within the window.
    pub fn working_set(&self) -> u64 {
        let oldest = self.samples.front().map_or(u32::MAX, |first| first.number);
        self.written.values().flat_map(|block| block.iter()).filter(|number| **number >= oldest).count()
            as u64
    }

    /// All of it, but for the state size, which is not told by dirty pages.
    pub fn profile(&self) -> DirtyProfile {
        DirtyProfile {
            current: self.current(),
            mean: self.mean(),
            worst: self.worst(),
            working_set: self.working_set(),
            state: None,
            measured: self.samples.iter().map(|sample| sample.span).sum(),
        }
    }
}

/// Whether two counts over two spans are hardly of one rate: the difference of two Poisson rates beside its standard deviation.
fn differ(one: (u64, f64), other: (u64, f64)) -> bool {
    let common = (one.0 + other.0) as f64 / (one.1 + other.1);
    let deviation = (common * (1.0 / one.1 + 1.0 / other.1)).sqrt();
    let difference = (one.0 as f64 / one.1 - other.0 as f64 / other.1).abs();
    difference > DIFFERENT * deviation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Means, MemoryDirty, PageRange, PageSet};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn dirty(span: Duration, pages: &[u64]) -> Dirty {
        let pages: PageSet = pages
            .iter()
            .map(|page| PageRange { start: page * PAGE_BYTES, end: (page + 1) * PAGE_BYTES })
            .collect();
        let memory = MemoryDirty { pid: 1, means: Means::Hashing, fresh: false, pages };
        Dirty { memories: vec![memory], span }
    }

    fn first(count: u64) -> Vec<u64> {
        (0..count).collect()
    }

    fn close(rate: Option<PagesPerSec>, expected: f64, part: f64) -> bool {
        rate.is_some_and(|rate| (rate.0 - expected).abs() <= expected * part + 1e-9)
    }

    #[test]
    fn without_a_sample_nothing_is_known() {
        let mut window = RateWindow::new(ms(1000));
        window.add(ms(1), &dirty(Duration::ZERO, &[1, 2, 3]));
        assert_eq!(window.profile(), DirtyProfile::default());
    }

    #[test]
    fn low_rates_are_averaged_over_many_samples_and_high_ones_told_at_once() {
        let mut window = RateWindow::new(ms(60_000));
        for n in 0..60 {
            // 10 a second, unevenly: 5 and 15.
            window.add(ms(1000 * n), &dirty(ms(1000), &first(5 + n % 2 * 10)));
        }
        assert!(close(window.current(), 10.0, 0.05), "{:?}", window.current());
        window.add(ms(60_000), &dirty(ms(20), &first(1000)));
        assert!(close(window.current(), 50_000.0, 1e-9));
        assert!(close(window.worst(), 50_000.0, 1e-9));
    }

    #[test]
    fn a_service_that_falls_silent_is_silent_at_once() {
        let mut window = RateWindow::new(ms(60_000));
        window.add(ms(1000), &dirty(ms(20), &first(1000)));
        window.add(ms(2000), &dirty(ms(500), &[]));
        assert!(close(window.current(), 0.0, 0.0), "{:?}", window.current());
    }

    #[test]
    fn a_sample_counts_for_the_time_that_it_stands_for() {
        let mut window = RateWindow::new(ms(60_000));
        window.add(ms(10_000), &dirty(ms(10_000), &[]));
        // Measured for 20 ms of another ten seconds.
        window.add(ms(20_000), &dirty(ms(20), &first(1000)));
        assert!(close(window.mean(), 25_000.0, 1e-9), "{:?}", window.mean());
        assert_eq!(window.profile().measured, ms(10_020));
    }

    #[test]
    fn a_new_process_is_no_dirt() {
        let mut window = RateWindow::new(ms(60_000));
        let mut fresh = dirty(ms(1000), &first(5000));
        fresh.memories[0].fresh = true;
        window.add(ms(1000), &fresh);
        assert!(close(window.current(), 0.0, 0.0));
        assert_eq!(window.working_set(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_working_set_is_the_union_of_what_the_window_holds(
            ticks in proptest::collection::vec(
                (1u64..400, proptest::collection::btree_set(0u64..2000, 0..60)), 1..40)
        ) {
            let length = 2000;
            let mut window = RateWindow::new(ms(length));
            let (mut now, mut all) = (0, Vec::new());
            for (span, pages) in ticks {
                now += span;
                all.push((now, pages.clone()));
                window.add(ms(now), &dirty(ms(span), &pages.into_iter().collect::<Vec<_>>()));
                let held: BTreeSet<u64> = all
                    .iter()
                    .filter(|(at, _)| now - at <= length)
                    .flat_map(|(_, pages)| pages.iter().copied())
                    .collect();
                prop_assert_eq!(window.working_set(), held.len() as u64);
            }
        }

        #[test]
        fn a_steady_rate_is_told_however_it_is_sampled(
            rate in 10.0f64..50_000.0,
            spans in proptest::collection::vec(20u64..1000, 80..120)
        ) {
            let mut window = RateWindow::new(ms(200_000));
            let (mut now, mut carried) = (0, 0.0);
            for span in spans {
                now += span;
                carried += rate * span as f64 / 1e3;
                window.add(ms(now), &dirty(ms(span), &first(carried as u64)));
                carried = carried.fract();
            }
            prop_assert!(close(window.current(), rate, 0.1), "{:?} of {rate}", window.current());
            prop_assert!(close(window.mean(), rate, 0.1), "{:?} of {rate}", window.mean());
            prop_assert!(close(window.worst(), rate, 0.25), "{:?} of {rate}", window.worst());
        }

        #[test]
        fn the_worst_is_no_less_than_the_mean_would_say(
            counts in proptest::collection::vec(0u64..3000, 1..30)
        ) {
            let mut window = RateWindow::new(ms(100_000));
            for (n, count) in (1..).zip(&counts) {
                window.add(ms(n * 100), &dirty(ms(100), &first(*count)));
            }
            let highest = *counts.iter().max().unwrap() as f64 * 10.0;
            let worst = window.worst().unwrap().0;
            prop_assert!(worst <= highest + 1e-6);
            prop_assert!(highest < 1000.0 || (worst - highest).abs() < 1e-6, "{worst} of {highest}");
        }
    }
}
