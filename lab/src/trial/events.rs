//! What the clients of a trial saw, each event with its time, so that figures can be told of any span of it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::counter::ping::{Gap, unix_ms};

/// Silences shorter than this are not kept one by one.
const SILENCE: Duration = Duration::from_millis(1);
/// Most failures kept in words; all are counted.
const MAX_WORDS: usize = 20;

/// What the clients saw. Times are in ms since 1970.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Events {
    /// When each answer came.
    pub(super) answered: Vec<u64>,
    /// When each request was sent that was never answered.
    pub(super) lost: Vec<u64>,
    /// When each request failed: an error, a wrong answer, or a connection that ended.
    pub(super) failed: Vec<u64>,
    /// What the failures were.
    pub(super) words: Vec<String>,
    /// How long a connection with a request outstanding heard nothing.
    pub(super) silences: Vec<Gap>,
    /// From when all clients were asking.
    pub(super) from_unix_ms: u64,
    /// Until when they were.
    pub(super) to_unix_ms: u64,
}

/// The figures of a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Figures {
    /// Requests that ended in it, one way or another.
    pub requests: u64,
    /// Those never answered.
    pub lost: u64,
    /// Those answered with an error or wrongly, or whose connection ended.
    pub failed: u64,
    /// The longest that a connection with a request outstanding heard nothing, in ms.
    pub client_silence_ms: f64,
}

impl Events {
    /// An answer came, to a request sent at `sent`.
    pub(super) fn answer(&mut self, sent: Instant) {
        self.answered.push(unix_ms());
        self.silence(sent.elapsed());
    }

    /// A silence ended now.
    pub(super) fn silence(&mut self, length: Duration) {
        if length >= SILENCE {
            let ms = length.as_secs_f64() * 1e3;
            self.silences.push(Gap { at_unix_ms: unix_ms().saturating_sub(ms as u64), ms });
        }
    }

    /// A request failed now.
    pub(super) fn failure(&mut self, words: impl Into<String>) {
        self.failed.push(unix_ms());
        self.words.push(words.into());
        self.words.truncate(MAX_WORDS);
    }

    /// Adds what another client saw. The span becomes that in which both asked.
    pub(super) fn add(&mut self, other: Events) {
        self.answered.extend(other.answered);
        self.lost.extend(other.lost);
        self.failed.extend(other.failed);
        self.words.extend(other.words);
        self.words.truncate(MAX_WORDS);
        self.silences.extend(other.silences);
        self.from_unix_ms = self.from_unix_ms.max(other.from_unix_ms);
        self.to_unix_ms =
            if self.to_unix_ms == 0 { other.to_unix_ms } else { self.to_unix_ms.min(other.to_unix_ms) };
    }

    /// The figures from one time on and before another.
    #[must_use]
    pub fn between(&self, from_unix_ms: u64, to_unix_ms: u64) -> Figures {
        let span = from_unix_ms..to_unix_ms;
        let count = |times: &[u64]| times.iter().filter(|time| span.contains(time)).count() as u64;
        let (lost, failed) = (count(&self.lost), count(&self.failed));
        Figures {
            requests: count(&self.answered) + lost + failed,
            lost,
            failed,
            client_silence_ms: self.silence_between(from_unix_ms, to_unix_ms),
        }
    }

    /// The longest silence that touches a span, in ms.
    #[must_use]
    pub fn silence_between(&self, from_unix_ms: u64, to_unix_ms: u64) -> f64 {
        let touches =
            |gap: &&Gap| gap.at_unix_ms <= to_unix_ms && gap.at_unix_ms + gap.ms as u64 >= from_unix_ms;
        self.silences.iter().filter(touches).fold(0.0, |longest, gap| gap.ms.max(longest))
    }

    /// The figures of all of it.
    #[must_use]
    pub fn all(&self) -> Figures {
        self.between(0, u64::MAX)
    }

    /// The span in which all clients were asking.
    #[must_use]
    pub fn span_unix_ms(&self) -> (u64, u64) {
        (self.from_unix_ms, self.to_unix_ms)
    }

    /// What failed, in words.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

/// What a service's contents came to, held against what its clients had been told was kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Contents {
    /// What was compared: `keys`, `rows`.
    pub what: String,
    /// How many of them there should be.
    pub expected: u64,
    /// How many are there as they should be.
    pub good: u64,
    /// What is missing or wrong, or was said by the service's own check.
    pub faults: Vec<String>,
}

impl Contents {
    /// Nothing compared yet.
    pub(super) fn of(what: &str) -> Contents {
        Contents { what: what.to_owned(), ..Contents::default() }
    }

    /// One thing compared.
    pub(super) fn compare(&mut self, good: bool, fault: impl FnOnce() -> String) {
        self.expected += 1;
        if good {
            self.good += 1;
        } else if self.faults.len() < MAX_WORDS {
            self.faults.push(fault());
        }
    }

    /// Whether all is there, and there was something.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.expected > 0 && self.good == self.expected && self.faults.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told_of_the_span_in_which_it_did() {
        let events = Events {
            answered: vec![10, 20, 30],
            lost: vec![25],
            failed: vec![31],
            silences: vec![Gap { at_unix_ms: 18, ms: 9.0 }, Gap { at_unix_ms: 2, ms: 4.0 }],
            ..Events::default()
        };
        let figures = events.between(11, 30);
        assert_eq!(figures, Figures { requests: 2, lost: 1, failed: 0, client_silence_ms: 9.0 });
        assert_eq!(events.all().requests, 5);
    }

    #[test]
    fn the_span_of_several_clients_is_that_in_which_all_of_them_asked() {
        let mut all = Events::default();
        for (from, to) in [(10, 50), (12, 40)] {
            all.add(Events { from_unix_ms: from, to_unix_ms: to, ..Events::default() });
        }
        assert_eq!(all.span_unix_ms(), (12, 40));
    }

    #[test]
    fn nothing_compared_is_not_whole_and_neither_is_one_fault() {
        let mut contents = Contents::of("keys");
        assert!(!contents.whole());
        contents.compare(true, String::new);
        assert!(contents.whole());
        contents.compare(false, || "key 2 is missing".to_owned());
        assert!(!contents.whole() && contents.faults == ["key 2 is missing"]);
    }
}
