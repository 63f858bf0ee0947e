//! What a vehicle's reports were answered with, and when: round trips, silences, pauses.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A pause between answers that is listed: no shorter one disturbs a loop of 20 Hz.
const LISTED: Duration = Duration::from_millis(50);

/// The most pauses that are listed, so that a flight without end needs no memory without end.
const MOST: usize = 10_000;

/// The weight of a new round trip in the smoothed one (RFC 6298, section 2.3: alpha).
const ALPHA: f64 = 0.125;

/// A pause between two answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// When it began, in milliseconds since 1970.
    pub from_ms: u64,
    /// How long it was, in milliseconds.
    pub duration_ms: f64,
}

/// What waits for its answer, and what the answers were.
#[derive(Debug, Default)]
pub(super) struct Answers {
    waiting: VecDeque<(u32, Instant)>,
    last: Option<Instant>,
    round_trip: Option<Duration>,
    smoothed: Option<Duration>,
    pauses: Vec<Pause>,
    longest: Duration,
}

impl Answers {
    /// A report has gone out.
    pub(super) fn asked(&mut self, time_ms: u32, at: Instant) {
        self.waiting.push_back((time_ms, at));
    }

    /// The answer to the report of `time_ms` has come, `now_ms` since 1970.
    pub(super) fn came(&mut self, at: Instant, time_ms: u32, now_ms: u64) {
        while self.waiting.front().is_some_and(|(waits, _)| *waits < time_ms) {
            self.waiting.pop_front();
        }
        if let Some((_, sent)) = self.waiting.front().filter(|(waits, _)| *waits == time_ms) {
            let took = at.saturating_duration_since(*sent);
            self.round_trip = Some(took);
            let smoothed =
                self.smoothed.map_or(took, |known| known.mul_f64(1.0 - ALPHA) + took.mul_f64(ALPHA));
            self.smoothed = Some(smoothed);
            self.waiting.pop_front();
        }
        let pause = self.last.replace(at).map_or(Duration::ZERO, |last| at.saturating_duration_since(last));
        self.longest = self.longest.max(pause);
        if pause >= LISTED && self.pauses.len() < MOST {
            let duration_ms = pause.as_secs_f64() * 1e3;
            self.pauses.push(Pause { from_ms: now_ms.saturating_sub(pause.as_millis() as u64), duration_ms });
        }
    }

    /// The connection is lost: what waits is not answered any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Reports that are not answered yet.
    pub(super) fn outstanding(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// For how long the oldest of them has waited.
    pub(super) fn silence(&self) -> Duration {
        self.waiting.front().map_or(Duration::ZERO, |(_, sent)| sent.elapsed())
    }

    /// How long the last answer took.
    pub(super) const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The same, smoothed.
    pub(super) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The longest pause that has ended since this was asked last.
    pub(super) fn take_longest_pause(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }

    /// Those that are listed.
    pub(super) fn pauses(self) -> Vec<Pause> {
        self.pauses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn round_trips_are_told_as_they_are_and_smoothed_and_what_is_missing_waits_no_more() {
        let (mut answers, begun) = (Answers::default(), Instant::now());
        for report in 0..4 {
            answers.asked(report * 20, begun + ms(u64::from(report) * 20));
        }
        answers.came(begun + ms(8), 0, 1000);
        assert_eq!((answers.round_trip(), answers.smoothed()), (Some(ms(8)), Some(ms(8))));
        // The second one never comes.
        answers.came(begun + ms(56), 40, 1056);
        assert_eq!((answers.round_trip(), answers.smoothed()), (Some(ms(16)), Some(ms(9))));
        assert_eq!(answers.outstanding(), 1);
        answers.forget();
        assert_eq!((answers.outstanding(), answers.silence()), (0, Duration::ZERO));
    }

    #[test]
    fn pauses_from_50_ms_on_are_listed() {
        let (mut answers, begun) = (Answers::default(), Instant::now());
        for (at, time_ms) in [(0, 0), (49, 20), (219, 40)] {
            answers.came(begun + ms(at), time_ms, 5000 + at);
        }
        assert_eq!((answers.take_longest_pause(), answers.take_longest_pause()), (ms(170), Duration::ZERO));
        assert_eq!(answers.pauses(), [Pause { from_ms: 5049, duration_ms: 170.0 }]);
    }
}
