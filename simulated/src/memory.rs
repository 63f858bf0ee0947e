//! The memory of a simulated service: pages whose contents follow from a seed, their number and how often they were written.
//!
//! Writes go round the writable working set in a fixed order, so that how often a page was written follows from how many writes
//! there were in all: nothing is stored, and any copy of a page can be told to be right or stale.

use std::time::{Duration, Instant};

use mose_pam::PagesPerSec;
use mose_transfer::PAGE;

/// Bursts of writing: for `lasting` out of every `period` of the time that the service runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    /// From the begin of one to the begin of the next.
    pub period: Duration,
    /// How long one is.
    pub lasting: Duration,
    /// Pages per second between two bursts.
    pub quiet: PagesPerSec,
}

/// How a service writes to its memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Writing {
    /// Pages per second, in a burst if there are bursts.
    pub rate: PagesPerSec,
    /// When it writes at that rate; `None`: always.
    pub bursts: Option<Bursts>,
    /// The writable working set: pages that are ever written to. At least 1.
    pub working_set: u64,
}

impl Writing {
    /// How many writes a service has made that has run for so long.
    fn writes(&self, running: Duration) -> u64 {
        let (bursts, between, quiet) = match self.bursts {
            None => (running, Duration::ZERO, PagesPerSec(0.0)),
            Some(Bursts { period, lasting, quiet }) => {
                let periods = running.as_nanos() / period.as_nanos().max(1);
                let whole = u32::try_from(periods).unwrap_or(u32::MAX);
                let bursts = lasting * whole + (running - period * whole).min(lasting);
                (bursts, running - bursts, quiet)
            }
        };
        (self.rate.0 * bursts.as_secs_f64() + quiet.0 * between.as_secs_f64()) as u64
    }
}

/// What a service's memory is, at any number of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pages {
    seed: u64,
    /// How many there are.
    pub(crate) count: u64,
    /// How many of them are ever written to: the first ones.
    working_set: u64,
    /// From one written page to the next; has no factor in common with `working_set`.
    stride: u64,
    /// What `stride` has to be multiplied by to be 1, modulo `working_set`.
    inverse: u64,
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The inverse of `value` modulo `modulus`, which have no factor in common.
fn inverse(value: u64, modulus: u64) -> u64 {
    let (mut old, mut new) = ((i128::from(value), 1_i128), (i128::from(modulus), 0_i128));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    u64::try_from(old.1.rem_euclid(i128::from(modulus))).unwrap_or_default()
}

impl Pages {
    pub(crate) fn new(seed: u64, count: u64, working_set: u64) -> Self {
        let working_set = working_set.clamp(1, count.max(1));
        // The golden section spreads any run of writes over the whole set.
        let mut stride = ((working_set as f64 * 0.618) as u64).max(1);
        while gcd(stride, working_set) != 1 {
            stride += 1;
        }
        Self { seed, count: count.max(1), working_set, stride, inverse: inverse(stride, working_set) }
    }

    /// The page that write number `write` goes to.
    fn page(&self, write: u64) -> u64 {
        let product = u128::from(write % self.working_set) * u128::from(self.stride);
        (product % u128::from(self.working_set)) as u64
    }

    /// How often a page has been written to after `writes` writes.
    pub(crate) fn version(&self, page: u64, writes: u64) -> u64 {
        if page >= self.working_set {
            return 0;
        }
        let first = (u128::from(page) * u128::from(self.inverse) % u128::from(self.working_set)) as u64;
        if writes > first { (writes - first - 1) / self.working_set + 1 } else { 0 }
    }

    /// How many pages are written to by the writes after the first `before` up to `now`.
    pub(crate) fn dirtied(&self, before: u64, now: u64) -> u64 {
        now.saturating_sub(before).min(self.working_set)
    }

    /// Which pages these are.
    pub(crate) fn changed(&self, before: u64, now: u64) -> Vec<u64> {
        let mut pages: Vec<u64> =
            (before..before + self.dirtied(before, now)).map(|write| self.page(write)).collect();
        pages.sort_unstable();
        pages
    }

    /// Puts the content of a page after `writes` writes into `out`. Never all zero.
    pub(crate) fn fill(&self, page: u64, writes: u64, out: &mut [u8; PAGE]) {
        let version = self.version(page, writes);
        let mut state = self.seed ^ page.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version.rotate_left(40) | 1;
        for word in out.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        out[..8].copy_from_slice(&(page + 1).to_le_bytes());
        out[8..16].copy_from_slice(&version.to_le_bytes());
    }
}

/// How far a service has come with its writes: it writes while it runs, and not while it stands still.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    writing: Writing,
    ran: Duration,
    since: Option<Instant>,
}

impl Progress {
    pub(crate) const fn new(writing: Writing) -> Self {
        Self { writing, ran: Duration::ZERO, since: None }
    }

    pub(crate) fn run(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    pub(crate) fn stand(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.ran += now.saturating_duration_since(since);
        }
    }

    /// How many writes there were in all.
    pub(crate) fn writes(&self, now: Instant) -> u64 {
        let running = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.writing.writes(self.ran + running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn writing(rate: f64, bursts: Option<Bursts>) -> Writing {
        Writing { rate: PagesPerSec(rate), bursts, working_set: 10 }
    }

    #[test]
    fn a_pages_version_is_how_often_it_was_written_to() {
        for working_set in [1, 2, 7, 10, 64] {
            let pages = Pages::new(3, 64, working_set);
            let mut versions = [0; 64];
            for writes in 0..200 {
                for page in 0..64 {
                    assert_eq!(
                        pages.version(page, writes),
                        versions[page as usize],
                        "{working_set} {writes}"
                    );
                }
                versions[pages.page(writes) as usize] += 1;
            }
        }
    }

    #[test]
    fn what_changed_is_what_has_another_version() {
        let pages = Pages::new(3, 64, 21);
        for (before, now) in [(0, 0), (0, 5), (13, 30), (5, 26), (7, 90)] {
            let changed = pages.changed(before, now);
            let differ: Vec<u64> =
                (0..64).filter(|page| pages.version(*page, before) != pages.version(*page, now)).collect();
            assert_eq!(changed, differ);
            assert_eq!(changed.len() as u64, pages.dirtied(before, now));
        }
    }

    #[test]
    fn contents_tell_pages_versions_and_services_apart() {
        let content = |seed, page, writes| {
            let mut out = [0; PAGE];
            Pages::new(seed, 64, 64).fill(page, writes, &mut out);
            out
        };
        assert_eq!(content(1, 5, 9), content(1, 5, 9));
        assert_ne!(content(1, 5, 0), content(1, 5, 64));
        assert_ne!(content(1, 5, 0), content(1, 6, 0));
        assert_ne!(content(1, 5, 0), content(2, 5, 0));
    }

    #[test]
    fn a_service_that_stands_still_writes_nothing() {
        let begin = Instant::now();
        let mut progress = Progress::new(writing(100.0, None));
        progress.run(begin);
        progress.stand(begin + 2 * SECOND);
        assert_eq!(progress.writes(begin + 9 * SECOND), 200);
        progress.run(begin + 10 * SECOND);
        assert_eq!(progress.writes(begin + 11 * SECOND), 300);
    }

    #[test]
    fn bursts_write_for_a_part_of_the_time() {
        let bursts = |quiet| Bursts { period: 10 * SECOND, lasting: 2 * SECOND, quiet: PagesPerSec(quiet) };
        let after = |quiet, seconds: u32| writing(100.0, Some(bursts(quiet))).writes(SECOND * seconds);
        assert_eq!([1, 2, 9, 11, 30].map(|seconds| after(0.0, seconds)), [100, 200, 200, 300, 600]);
        assert_eq!([2, 3, 10, 11].map(|seconds| after(10.0, seconds)), [200, 210, 280, 380]);
    }
}
