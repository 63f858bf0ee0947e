//! The rows of Table III: how each moves the service, and what was published of it.

use mose_experiments::documents::{PlusMinus, Published};
use mose_pam::{Millis, Objective, RoundsRule};

/// Where the figures of [`Row::published`] stand.
pub(crate) const SOURCE: &str = "Table III of MOSE, IEEE Transactions on Network and Service Management, 2025, doi 10.1109/TNSM.2025.3579051 (arXiv 2506.09159)";

/// How the service is moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// By a script over SSH, with so many copies of the running service's memory before it is frozen.
    ByHand {
        /// I.
        iterations: u32,
    },
    /// By MOSE, planned for targets.
    Mose {
        /// What is minimised.
        objective: Objective,
        /// θ_down.
        max_downtime: Millis,
        /// θ_mig.
        max_duration: Millis,
        /// How many rounds of those that fit.
        rule: RoundsRule,
    },
}

/// A row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    /// Its name in files.
    pub(crate) key: &'static str,
    /// What people call it.
    pub(crate) name: &'static str,
    /// How the service is moved, in words.
    pub(crate) how: &'static str,
    pub(crate) way: Way,
    pub(crate) published: Published,
}

/// All of them: the paper's, then those with the rule for rounds that MOSE has by default.
pub(crate) static ROWS: [Row; 8] = [
    Row {
        key: "sota-cold",
        name: "SotA cold",
        how: "by hand over SSH: checkpoint, copy, restore",
        way: Way::ByHand { iterations: 0 },
        published: published(1000, None, (3720.0, 30.0), (3720.0, 30.0), (19.36, 6.39)),
    },
    Row {
        key: "sota-iterative",
        name: "SotA iterative",
        how: "by hand over SSH, with one copy of the memory while the service runs",
        way: Way::ByHand { iterations: 1 },
        published: published(1000, Some(1), (3620.0, 40.0), (8640.0, 70.0), (18.06, 7.39)),
    },
    Row {
        key: "mr-3s",
        name: "MOSE-MR, max downtime 3 s",
        how: "MOSE, objective resources",
        way: resources(3.0),
        published: published(332, None, (2140.0, 170.0), (2140.0, 170.0), (11.97, 5.22)),
    },
    Row {
        key: "mr-5s",
        name: "MOSE-MR, max downtime 5 s",
        how: "MOSE, objective resources",
        way: resources(5.0),
        published: published(110, None, (3630.0, 290.0), (3630.0, 290.0), (17.13, 4.05)),
    },
    Row {
        key: "md-5s",
        name: "MOSE-MD, max duration 5 s",
        how: "MOSE, objective downtime, all rounds that fit (the paper's rule)",
        way: downtime(5.0, RoundsRule::Paper),
        published: MD_5_S,
    },
    Row {
        key: "md-10s",
        name: "MOSE-MD, max duration 10 s",
        how: "MOSE, objective downtime, all rounds that fit (the paper's rule)",
        way: downtime(10.0, RoundsRule::Paper),
        published: MD_10_S,
    },
    Row {
        key: "md-5s-enough",
        name: "MOSE-MD, enough rounds, 5 s",
        how: "MOSE, objective downtime, enough rounds (its default)",
        way: downtime(5.0, RoundsRule::Enough),
        published: MD_5_S,
    },
    Row {
        key: "md-10s-enough",
        name: "MOSE-MD, enough rounds, 10 s",
        how: "MOSE, objective downtime, enough rounds (its default)",
        way: downtime(10.0, RoundsRule::Enough),
        published: MD_10_S,
    },
];

/// The first of those with MOSE's own rule.
pub(crate) const FIRST_WITH_OUR_RULE: usize = 6;

const MD_5_S: Published = published(1000, Some(6), (1080.0, 50.0), (3700.0, 100.0), (0.65, 0.08));
const MD_10_S: Published = published(1000, Some(20), (1220.0, 40.0), (8330.0, 180.0), (0.80, 0.07));

/// θ_mig where the bandwidth is minimised: out of the way.
const LOOSE_DURATION: Millis = Millis(60_000.0);

const fn resources(max_downtime_s: f64) -> Way {
    Way::Mose {
        objective: Objective::Resources,
        max_downtime: Millis(max_downtime_s * 1e3),
        max_duration: LOOSE_DURATION,
        // Nothing is copied before the freeze: there are no rounds to choose.
        rule: RoundsRule::Paper,
    }
}

/// θ_down is out of the way: no downtime is longer than the migration that it is part of.
const fn downtime(max_duration_s: f64, rule: RoundsRule) -> Way {
    let max_duration = Millis(max_duration_s * 1e3);
    Way::Mose { objective: Objective::Downtime, max_downtime: max_duration, max_duration, rule }
}

/// L in Mb/s, I, then milliseconds and metres with half of their 90 % intervals.
const fn published(
    mbps: u64,
    rounds: Option<u32>,
    downtime_ms: (f64, f64),
    duration_ms: (f64, f64),
    deviation_m: (f64, f64),
) -> Published {
    Published {
        bandwidth_bps: mbps * 1_000_000,
        rounds,
        downtime_ms: PlusMinus { mean: downtime_ms.0, interval: downtime_ms.1 },
        duration_ms: PlusMinus { mean: duration_ms.0, interval: duration_ms.1 },
        deviation_m: PlusMinus { mean: deviation_m.0, interval: deviation_m.1 },
    }
}

/// A row by its name in files.
pub(crate) fn named(key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.key == key)
}

#[cfg(test)]
mod tests {
    use mose_pam::Targets;

    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_targets_that_can_be_asked_for() {
        for (number, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..number].iter().all(|other| other.key != row.key && other.name != row.name));
            assert_eq!(named(row.key), Some(row));
            if let Way::Mose { max_downtime, max_duration, .. } = row.way {
                Targets::new(max_downtime, max_duration).unwrap();
            }
        }
        assert_eq!(named("table9"), None);
        let ours = |row: &Row| matches!(row.way, Way::Mose { rule: RoundsRule::Enough, .. });
        assert_eq!(ROWS.iter().position(ours), Some(FIRST_WITH_OUR_RULE));
    }
}
