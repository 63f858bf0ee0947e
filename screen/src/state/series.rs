//! A figure over time, for sparklines: bounded, with its gaps.

use std::collections::VecDeque;

use mose_pam::Millis;
use mose_protocol::Timestamp;

/// How many values are kept.
const KEPT: usize = 240;

/// A figure over time; `None` where it was told to be unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    values: VecDeque<(Timestamp, Option<f64>)>,
}

impl Series {
    /// Adds a value; one that is told at the same time again replaces the other.
    pub fn push(&mut self, at: Timestamp, value: Option<f64>) {
        if self.values.back().is_some_and(|(last, _)| *last >= at) {
            self.values.pop_back();
        }
        self.values.push_back((at, value.filter(|value| value.is_finite())));
        if self.values.len() > KEPT {
            self.values.pop_front();
        }
    }

    /// The newest value.
    #[must_use]
    pub fn latest(&self) -> Option<f64> {
        self.values.back().and_then(|(_, value)| *value)
    }

    /// The last `width` stretches of `step` before `now`, oldest first: the greatest value told in each, `None` in one in which
    /// none was told.
    #[must_use]
    pub fn last(&self, width: usize, step: Millis, now: Timestamp) -> Vec<Option<f64>> {
        let mut cells = vec![None; width];
        for (at, value) in self.values.iter().rev() {
            let back = (now.since(*at).0.max(0.0) / step.0.max(1.0)) as usize;
            let Some(cell) = width.checked_sub(back + 1).and_then(|place| cells.get_mut(place)) else {
                break;
            };
            *cell = match (*cell, *value) {
                (Some(one), Some(other)) => Some(f64::max(one, other)),
                (one, other) => one.or(other),
            };
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_told_is_a_gap_and_no_zero() {
        let mut series = Series::default();
        let second = |n: u64| Timestamp(n * 1_000_000);
        series.push(second(10), Some(3.0));
        series.push(second(12), Some(5.0));
        series.push(second(13), None);
        let shown = series.last(5, Millis(1000.0), second(13));
        assert_eq!(shown, [None, Some(3.0), None, Some(5.0), None]);
        assert_eq!(series.latest(), None);
    }

    #[test]
    fn it_is_bounded_and_a_time_is_told_once() {
        let mut series = Series::default();
        for n in 0..1000 {
            series.push(Timestamp(n), Some(n as f64));
            series.push(Timestamp(n), Some(n as f64 + 0.5));
        }
        assert_eq!(series.values.len(), KEPT);
        assert_eq!(series.latest(), Some(999.5));
    }
}
