//! What was measured of a table of the paper, and what of it was published.

use std::collections::BTreeMap;

use mose_lab::median;
use mose_protocol::record::Outcome;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// What a run was made with. A run goes on only where all of this is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Setup {
    /// Which table.
    pub table: String,
    /// Trials of each row.
    pub runs: u32,
    /// What the order of the trials follows from.
    pub seed: u64,
    /// A hash of the programs that ran.
    pub build: String,
    /// Their release.
    pub release: String,
    /// The link between the edge hosts.
    pub link: String,
    /// The machine that all hosts share.
    pub machine: Machine,
    /// Versions of the programs of others, by name.
    pub versions: BTreeMap<String, String>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Its kernel's release.
    pub kernel: String,
    /// Its processor.
    pub processor: String,
    /// How many of them, as the kernel counts.
    pub processors: u32,
    /// Its memory.
    pub memory_bytes: u64,
}

/// Some figures of one kind, in the unit that the field's name has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// How many.
    pub of: u32,
    /// Their mean.
    pub mean: f64,
    /// Half of the mean's 90 % confidence interval, by Student's t; null for a single figure.
    pub interval: Option<f64>,
    /// Their median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// That of some figures; `None` without any.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let figures: Vec<f64> = figures.into_iter().collect();
        let of = u32::try_from(figures.len()).ok()?;
        let count = f64::from(of);
        let mean = figures.iter().sum::<f64>() / count;
        let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
        let interval = (of > 1).then(|| {
            // With one degree of freedom and more there is such a distribution.
            let t = StudentsT::new(0.0, 1.0, count - 1.0).map_or(f64::NAN, |t| t.inverse_cdf(0.95));
            t * (squares / (count - 1.0) / count).sqrt()
        });
        Some(Self {
            of,
            mean,
            interval,
            median: median(figures.iter().copied())?,
            min: figures.iter().copied().reduce(f64::min)?,
            max: figures.iter().copied().reduce(f64::max)?,
        })
    }
}

/// A published mean and half of its 90 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct PlusMinus {
    /// The mean.
    pub mean: f64,
    /// Half of the interval.
    pub interval: f64,
}

/// A row as it was published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Published {
    /// L.
    pub bandwidth_bps: u64,
    /// I; null where there are none.
    pub rounds: Option<u32>,
    /// T_down.
    pub downtime_ms: PlusMinus,
    /// T_mig.
    pub duration_ms: PlusMinus,
    /// The trajectory's error.
    pub deviation_m: PlusMinus,
}

/// What one trial came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// How the move ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// From where.
    pub from: String,
    /// Whereto.
    pub to: String,
    /// When it was ordered, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// L: what it might use of the link.
    pub bandwidth_bps: Option<u64>,
    /// I: rounds that were made after the first copy; null where nothing was copied of the running service.
    pub rounds: Option<u32>,
    /// The vehicle's longest pause between two answers.
    pub client_silence_ms: Option<f64>,
    /// From the freeze until the service was back, by the hosts' clocks.
    pub service_stopped_ms: Option<f64>,
    /// From the order until the service was back.
    pub duration_ms: Option<f64>,
    /// The greatest distance from the moving reference, from the freeze until 8 s after the service was back.
    pub deviation_m: Option<f64>,
    /// The same from the nearest point of the path.
    pub cross_track_m: Option<f64>,
    /// The greatest distance from the moving reference in the 10 s before the order.
    pub undisturbed_deviation_m: Option<f64>,
    /// The same from the nearest point of the path.
    pub undisturbed_cross_track_m: Option<f64>,
    /// Positions that were sent and never answered.
    pub requests_lost: u64,
    /// How often the connection was lost.
    pub connections_lost: u32,
    /// How often the vehicle took the control away from its autopilot.
    pub offboard_losses: u32,
    /// By how much the flight's simulation was behind the clock at most: above some 20 ms, the machine was too busy.
    pub behind_ms: f64,
    /// The worst case that the plan promised for the time for which the service is stopped.
    pub worst_case_downtime_ms: Option<f64>,
    /// The same for the duration.
    pub worst_case_duration_ms: Option<f64>,
    /// The calibration that these were made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
}

impl Measured {
    /// Whether the service was moved.
    #[must_use]
    pub fn done(&self) -> bool {
        self.outcome == Outcome::Done
    }

    /// Whether the service was stopped for no longer than its worst case.
    #[must_use]
    pub fn downtime_held(&self) -> Option<bool> {
        Some(self.service_stopped_ms? <= self.worst_case_downtime_ms?)
    }

    /// Whether it took no longer than its worst case.
    #[must_use]
    pub fn duration_held(&self) -> Option<bool> {
        Some(self.duration_ms? <= self.worst_case_duration_ms?)
    }
}

/// A trial: a line of `results.ndjson`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// Its place in the order of all, from 1.
    pub cell: u32,
    /// Which row.
    pub row: String,
    /// Which trial of its row, from 1.
    pub repetition: u32,
    /// How long it took, with the flight before and after.
    pub took_s: f64,
    /// What it came to.
    pub measured: Measured,
}

/// In how many trials something held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Kept {
    /// In so many.
    pub held: u32,
    /// Of so many.
    pub of: u32,
}

impl Kept {
    /// Of those that say so; `None` where none does.
    pub fn of(all: impl Iterator<Item = Option<bool>>) -> Option<Self> {
        let said: Vec<bool> = all.flatten().collect();
        let count = |all: usize| u32::try_from(all).unwrap_or(u32::MAX);
        let held = count(said.iter().filter(|held| **held).count());
        (!said.is_empty()).then(|| Self { held, of: count(said.len()) })
    }

    /// As a share of all.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.held) / f64::from(self.of.max(1))
    }
}

/// Trials that did not move the service, and why. They are in no mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failure {
    /// How they ended.
    pub outcome: Outcome,
    /// How many.
    pub trials: u32,
    /// Why the first of them did.
    pub why: String,
}

/// A row of Table III.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Table3Row {
    /// Its name in `results.ndjson`.
    pub row: String,
    /// What people call it.
    pub name: String,
    /// How the service was moved.
    pub how: String,
    /// Why it could not be measured here; null where it could.
    pub not_measured: Option<String>,
    /// Trials.
    pub trials: u32,
    /// Those that moved the service: all means are of these.
    pub done: u32,
    /// The others.
    pub failures: Vec<Failure>,
    /// L.
    pub bandwidth_bps: Option<Spread>,
    /// I.
    pub rounds: Option<Spread>,
    /// The headline: the vehicle's longest pause between two answers.
    pub client_silence_ms: Option<Spread>,
    /// From the freeze until the service was back, by the hosts' clocks.
    pub service_stopped_ms: Option<Spread>,
    /// From the order until the service was back.
    pub duration_ms: Option<Spread>,
    /// The greatest distance from the moving reference.
    pub deviation_m: Option<Spread>,
    /// The greatest distance from the path.
    pub cross_track_m: Option<Spread>,
    /// The greatest distance from the moving reference before the order.
    pub undisturbed_deviation_m: Option<Spread>,
    /// Positions that were never answered, over all trials.
    pub requests_lost: u64,
    /// Trials in which the connection was kept.
    pub connections_kept: u32,
    /// Where the service was stopped for no longer than its worst case.
    pub downtime_held: Option<Kept>,
    /// Where it took no longer than its worst case.
    pub duration_held: Option<Kept>,
    /// What was published of it.
    pub published: Option<Published>,
    /// The published downtime over the mean silence measured here.
    pub downtime_factor: Option<f64>,
}

/// Something that the experiment was to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Claim {
    /// What.
    pub claim: String,
    /// Whether it holds; null where too little was measured to say so.
    pub holds: Option<bool>,
    /// The figures.
    pub figures: String,
}

/// `mose lab paper table3`: a UAV flown by an autopilot that moves.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Table3 {
    /// What it was made with.
    pub setup: Setup,
    /// Trials that were to be flown and were not yet: 0 at the end of a run.
    pub trials_left: u32,
    /// Its rows, as in the paper; then those with MOSE's own rule for rounds.
    pub rows: Vec<Table3Row>,
    /// What it was to show.
    pub claims: Vec<Claim>,
    /// In what this testbed is not that of the paper; also what of it is simulated.
    pub differences: Vec<String>,
    /// Each trial, in order.
    pub trials: Vec<Trial>,
}

impl Table3 {
    /// Whether every trial moved the service, and no request was lost.
    #[must_use]
    pub fn good(&self) -> bool {
        self.rows.iter().all(|row| row.failures.is_empty() && row.requests_lost == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_what_tables_of_students_t_say() {
        let five = Spread::of([1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        // t(0.95; 4) = 2.1318; s = 1.5811.
        assert!((five.interval.unwrap() - 2.131_85 * 1.581_139 / 5.0_f64.sqrt()).abs() < 1e-4, "{five:?}");
        assert_eq!((five.mean, five.median, five.min, five.max, five.of), (3.0, 3.0, 1.0, 5.0, 5));
        // t(0.95; 1) = 6.3138 and t(0.95; 19) = 1.7291.
        let two = Spread::of([0.0, 2.0]).unwrap();
        assert!((two.interval.unwrap() - 6.313_75).abs() < 1e-4, "{two:?}");
        let twenty = Spread::of((0..20).map(|number| f64::from(number % 2))).unwrap();
        assert!((twenty.interval.unwrap() - 1.729_13 * 0.512_989 / 20.0_f64.sqrt()).abs() < 1e-5);
    }

    #[test]
    fn a_single_figure_has_no_interval_and_none_have_no_spread() {
        let one = Spread::of([7.5]).unwrap();
        assert_eq!((one.mean, one.interval, one.of), (7.5, None, 1));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn shares_are_of_those_that_say_so() {
        let kept = Kept::of([Some(true), None, Some(false), Some(true)].into_iter()).unwrap();
        assert_eq!((kept.held, kept.of), (2, 3));
        assert!((kept.share() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(Kept::of([None].into_iter()), None);
    }
}
