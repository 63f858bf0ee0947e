//! The two questions that a bound answers backwards: the least bandwidth and the most iterations that meet a target.
//!
//! Both are whole numbers and tight: one bit/s less, or one iteration more, misses. An estimate from the closed form is
//! moved until the evaluation itself says so, for the closed form rounds differently from what it inverts.

use crate::model::{Costs, Line};
use crate::units::{BitsPerSec, Millis};

/// The least number from 1 on for which `holds`, which is false up to some number and true from there on; `None` where
/// it holds for none. Begins at `estimate`.
fn least(estimate: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    let estimate = estimate.max(1);
    let mut step = 1_u64;
    // Invariant from here on: it does not hold at `low` (0 counts as such), and holds at `high`.
    let (mut low, mut high) = if holds(estimate) {
        let mut high = estimate;
        loop {
            let below = high.saturating_sub(step);
            if below == 0 || !holds(below) {
                break (below, high);
            }
            high = below;
            step = step.saturating_mul(2);
        }
    } else {
        let mut low = estimate;
        loop {
            let above = low.saturating_add(step);
            if holds(above) {
                break (low, above);
            }
            if above == u64::MAX {
                return None;
            }
            low = above;
            step = step.saturating_mul(2);
        }
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

/// The least bandwidth at which `line` takes at most `target`: L = V / (θ − fixed), rounded up to a whole bit/s; `None`
/// where no bandwidth is enough.
#[must_use]
pub fn least_bandwidth(line: Line, target: Millis) -> Option<BitsPerSec> {
    let left = target.0 - line.fixed.0;
    // Where the line meets its target at infinite bandwidth only, no number does.
    if left.is_nan() || left < 0.0 || (left == 0.0 && line.volume > 0.0) {
        return None;
    }
    let estimate = line.volume * 8e3 / left;
    if estimate >= u64::MAX as f64 {
        return None;
    }
    least(estimate as u64, |bits| line.at(BitsPerSec(bits)) <= target).map(BitsPerSec)
}

/// The most pre-copy iterations with which a migration takes at most `target`, but not more than `cap`; `None` where not
/// even a pre-dump alone fits.
#[must_use]
pub fn most_iterations(costs: &Costs, bandwidth: BitsPerSec, target: Millis, cap: u32) -> Option<u32> {
    let fits = |iterations: u64| costs.duration(iterations).at(bandwidth) <= target;
    if !fits(0) {
        return None;
    }
    let cap = u64::from(cap);
    if fits(cap) {
        return u32::try_from(cap).ok();
    }
    let round = Line { fixed: costs.round, volume: costs.dump_volume }.at(bandwidth);
    let estimate = (target.0 - costs.duration(0).at(bandwidth).0) / round.0;
    let first_too_many = least((estimate as u64).saturating_add(1).min(cap), |n| !fits(n))?;
    u32::try_from(first_too_many - 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Calibration;
    use crate::model::Model;
    use crate::service::NormalizedRate;
    use crate::units::Bytes;
    use proptest::prelude::*;

    const CAP: u32 = 1000;

    #[test]
    fn the_published_least_bandwidths_come_out() {
        let cold =
            Model::new(&Calibration::tnsm2024()).bound(Bytes(10_000_000), NormalizedRate::GREATEST, true);
        let least = |target| least_bandwidth(cold.downtime(), Millis(target)).unwrap().0 as f64 / 1e6;
        assert!((least(2000.0) - 79.3).abs() < 0.05, "{}", least(2000.0));
        assert!((least(5000.0) - 20.4).abs() < 0.05, "{}", least(5000.0));
        assert!((least(1000.0) - 2225.0).abs() < 0.5, "{}", least(1000.0));
        assert_eq!(least_bandwidth(cold.downtime(), Millis(900.0)), None);
    }

    #[test]
    fn the_published_most_iterations_come_out() {
        let costs =
            Model::new(&Calibration::tnsm2024()).bound(Bytes(10_000_000), NormalizedRate::LEAST, true);
        let most = |target| most_iterations(&costs, BitsPerSec(1_000_000_000), Millis(target), CAP);
        assert_eq!(most(1000.0), None);
        assert_eq!(most(2000.0), Some(3));
        assert_eq!(most(5000.0), Some(15));
        assert_eq!(most(1e9), Some(CAP));
    }

    #[test]
    fn the_least_is_found_from_any_estimate() {
        for boundary in [1, 2, 3, 1000, u64::MAX - 1, u64::MAX] {
            for estimate in [0, 1, 999, 1001, u64::MAX / 2, u64::MAX] {
                assert_eq!(least(estimate, |n| n >= boundary), Some(boundary), "{boundary} from {estimate}");
            }
        }
        assert_eq!(least(5, |_| false), None);
        assert_eq!(least(u64::MAX, |_| false), None);
    }

    proptest! {
        #[test]
        fn one_bit_per_second_less_misses(fixed in 0.0..1e5, volume in 0.0..1e13, target in 0.0..1e6) {
            let line = Line { fixed: Millis(fixed), volume };
            match least_bandwidth(line, Millis(target)) {
                Some(least) => {
                    prop_assert!(line.at(least).0 <= target);
                    prop_assert!(least.0 == 1 || line.at(BitsPerSec(least.0 - 1)).0 > target);
                }
                None => prop_assert!(line.at(BitsPerSec(u64::MAX)).0 > target),
            }
        }

        #[test]
        fn one_iteration_more_misses(
            memory in 1_u64..1_000_000_000_000, r in 0.0..=1.0, bandwidth in 1_u64..1_000_000_000_000, target in 0.0..1e7
        ) {
            let model = Model::new(&Calibration::tnsm2024());
            let costs = model.bound(Bytes(memory), NormalizedRate::new(r).unwrap(), true);
            let fits = |n| costs.duration(n).at(BitsPerSec(bandwidth)).0 <= target;
            match most_iterations(&costs, BitsPerSec(bandwidth), Millis(target), u32::MAX) {
                Some(most) => {
                    prop_assert!(fits(u64::from(most)));
                    prop_assert!(!fits(u64::from(most) + 1));
                }
                None => prop_assert!(!fits(0)),
            }
        }
    }
}
