//! What a service's files beside its root file system amount to, and how fast it writes to them.
//!
//! The kernel counts for each process what it has dirtied of files on disks (proc_pid_io(5), `write_bytes`): a page that is written to
//! again before it went to the disk counts once. Which file it was is not told, so that the rate is an upper bound.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

use mose_pam::Bytes;
use mose_protocol::metrics::FileFigures;

/// How far back the worst rate reaches.
const WINDOW: Duration = Duration::from_secs(60);

/// Between two looks at what was written: the rate of a shorter time says little.
const STEP: Duration = Duration::from_secs(1);

/// Between two looks at the size, and how much longer than the look itself took.
const SIZE_PERIOD: Duration = Duration::from_secs(30);
const SIZE_SHARE: u32 = 100;

/// What is known of one service's files.
#[derive(Debug, Default)]
pub(crate) struct FileProfile {
    size: Option<Bytes>,
    /// When the size is to be looked at again.
    due: Option<Instant>,
    last: Option<(Instant, u64)>,
    /// Bytes per second, and when that was.
    rates: VecDeque<(Instant, f64)>,
}

impl FileProfile {
    /// Whether the size should be looked at.
    pub(crate) fn size_is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Takes the size; `None` where there are no such files. `took`: how long looking took.
    pub(crate) fn sized(&mut self, size: Option<Bytes>, now: Instant, took: Duration) {
        self.size = size;
        self.due = Some(now + SIZE_PERIOD.max(took * SIZE_SHARE));
    }

    /// Takes what was written so far, in bytes.
    pub(crate) fn written(&mut self, total: u64, now: Instant) {
        if let Some((then, before)) = self.last {
            let passed = now.saturating_duration_since(then);
            if passed < STEP {
                return;
            }
            // With a process that ended its count is gone: of that time nothing is known.
            if let Some(written) = total.checked_sub(before) {
                self.rates.push_back((now, written as f64 / passed.as_secs_f64()));
            }
        }
        self.last = Some((now, total));
        while self.rates.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            self.rates.pop_front();
        }
    }

    /// The figures; `None` where there are no such files, or nothing is known of them yet.
    pub(crate) fn figures(&self) -> Option<FileFigures> {
        let size = self.size?;
        let worst = self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        Some(FileFigures { size, written_per_s: Bytes(worst.ceil() as u64) })
    }
}

/// What these processes have written to files on disks, in bytes.
pub(crate) fn written_by(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse::<u64>().ok()
    };
    pids.iter().filter_map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, begin: Instant) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn the_worst_rate_of_the_window_is_told_and_then_forgotten() {
        let (mut profile, begin) = (FileProfile::default(), Instant::now());
        assert_eq!(profile.figures(), None);
        profile.sized(Some(Bytes(7)), begin, Duration::ZERO);
        for (second, total) in [(0, 0), (1, 1000), (2, 51_000), (3, 52_000)] {
            profile.written(total, after(second, begin));
        }
        let figures = profile.figures().unwrap();
        assert_eq!((figures.size, figures.written_per_s), (Bytes(7), Bytes(50_000)));
        profile.written(52_000, after(100, begin));
        assert_eq!(profile.figures().unwrap().written_per_s, Bytes(0));
    }

    #[test]
    fn a_process_that_ended_takes_its_count_along_and_no_rate_is_made_of_it() {
        let (mut profile, begin) = (FileProfile::default(), Instant::now());
        profile.sized(Some(Bytes(1)), begin, Duration::ZERO);
        profile.written(10_000, begin);
        profile.written(4_000, after(1, begin));
        profile.written(5_000, after(2, begin));
        assert_eq!(profile.figures().unwrap().written_per_s, Bytes(1000));
    }

    #[test]
    fn a_size_that_takes_long_to_learn_is_looked_at_less_often() {
        let (mut profile, begin) = (FileProfile::default(), Instant::now());
        assert!(profile.size_is_due(begin));
        profile.sized(None, begin, Duration::from_secs(1));
        assert!(!profile.size_is_due(after(99, begin)) && profile.size_is_due(after(100, begin)));
        assert_eq!(profile.figures(), None);
    }

    #[test]
    fn what_this_process_writes_is_counted() {
        let pids = [std::process::id()];
        let before = written_by(&pids);
        let folder = std::env::current_dir().unwrap();
        let file = tempfile::NamedTempFile::new_in(folder).unwrap();
        fs::write(file.path(), vec![1; 1 << 20]).unwrap();
        assert!(written_by(&pids) >= before + (1 << 20));
        assert_eq!(written_by(&[u32::MAX]), 0);
    }
}
