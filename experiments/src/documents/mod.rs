//! What the lab's experiments find, as they print it with `--json`. Times are in milliseconds, medians where there are several.

mod against;
mod faults;
mod paper;
mod rehearsals;
mod services;
mod uav;

use mose_lab::baseline::Breakdown;
use mose_lab::client::{ClientReport, Wait};
use mose_lab::median;
use mose_pam::{Calibration, RoundsRule, Sample, Strategy};
use mose_protocol::HostName;
use mose_protocol::forecast::Forecast;
use mose_protocol::record::{Outcome, Record};
use schemars::JsonSchema;
use serde::Serialize;

pub use against::{Against, Figure};
pub use faults::{AgentMemory, Elsewhere, FaultCell, FaultTable, FaultTotals, Soak};
pub use paper::{
    Claim, Failure, Kept, Machine, Measured, PlusMinus, Published, Setup, Spread, Table3, Table3Row, Trial,
};
pub use rehearsals::{Found, Judged, Once, Pair, Rehearsals, Rehearsed, Sides, StepPair, StoodStill};
pub use services::*;
pub use uav::{UavFlight, UavHandover, UavRun};

/// A line of `mose lab unmovable`: one kind of thing, what CRIU does with it, and what the check says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unmovable {
    /// The kind, as the holder names it.
    pub kind: String,
    /// What became of it under CRIU alone, with CRIU's reason.
    pub criu: String,
    /// The worst that the check says; empty where it has nothing to say.
    pub check: String,
    /// Whether the check is right; null where this kernel has no such thing.
    pub agrees: Option<bool>,
}

/// `mose lab laps`: a workload to and fro under its client.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Laps {
    /// What was moved.
    pub workload: String,
    /// Each migration, in order.
    pub migrations: Vec<Lap>,
    /// What the client saw over all of them.
    pub client: ClientReport,
}

/// One migration, and the client's own gap in it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Lap {
    /// The migration.
    pub record: Record,
    /// The client's longest silence, on its own clock; 0 if there was none over 50 ms.
    pub client_gap_ms: f64,
}

/// `mose lab connections`: a service with many connections to and fro.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Connections {
    /// How many connections.
    pub connections: u32,
    /// Requests per second on each.
    pub rate: u32,
    /// What comes of all.
    pub summary: Answered,
    /// Each migration, in order.
    pub migrations: Vec<Crossing>,
    /// What the client saw over all of them.
    pub client: ClientReport,
}

/// One migration under many connections.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Crossing {
    /// The migration.
    pub record: Record,
    /// The longest time from a request to its reply, on the client's clock; `None` where none took over 20 ms.
    pub worst_ms: Option<f64>,
    /// How much longer than the blackout that is.
    pub beyond_ms: Option<f64>,
    /// Requests that waited over 20 ms.
    pub waited: u64,
    /// Of those, the ones that got no reply.
    pub unanswered: u64,
    /// Of those, the ones that were answered only because the client's kernel sent them again.
    pub after_own: u64,
    /// What the service's kernel sent again after the restore; `None` where the service was not moved.
    pub service: Option<SentAgain>,
    /// The client gap that the record tells over `worst_ms`.
    pub gap_ratio: Option<f64>,
}

/// Segments that a kernel sent again.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct SentAgain {
    /// All of them.
    pub segments: u64,
    /// Those that the other side had had before.
    pub needless: u64,
}

impl SentAgain {
    /// Those that brought what the other side had not had.
    #[must_use]
    pub const fn needed(self) -> u64 {
        self.segments.saturating_sub(self.needless)
    }
}

impl Crossing {
    /// What these waits make of a migration.
    #[must_use]
    pub fn of<'a>(record: Record, service: Option<SentAgain>, waits: impl Iterator<Item = &'a Wait>) -> Self {
        let (mut waited, mut unanswered, mut after_own) = (0, 0, 0);
        let mut worst: Option<f64> = None;
        for wait in waits {
            waited += 1;
            unanswered += u64::from(!wait.answered);
            after_own += u64::from(wait.answered && wait.needed_again > 0);
            worst = Some(worst.map_or(wait.ms, |worst| worst.max(wait.ms)));
        }
        let beyond_ms = worst.zip(record.downtime.blackout).map(|(worst, blackout)| worst - blackout.0);
        let gap_ratio = worst.zip(record.downtime.client_gap()).map(|(worst, gap)| gap.0 / worst);
        Self { record, worst_ms: worst, beyond_ms, waited, unanswered, after_own, service, gap_ratio }
    }
}

/// What comes of all migrations under many connections.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answered {
    /// The median of the worst response less the blackout.
    pub beyond_median_ms: Option<f64>,
    /// The most that a worst response exceeded the blackout.
    pub beyond_most_ms: Option<f64>,
    /// Requests that were answered only because a kernel, the client's or the service's, sent again.
    pub after_resend: u64,
    /// Connections that were reset or closed.
    pub resets: u64,
    /// The least and the greatest of the client gap told over the worst response.
    pub gap_ratios: Option<(f64, f64)>,
}

impl Answered {
    /// What comes of these.
    #[must_use]
    pub fn of(crossings: &[Crossing], client: &ClientReport) -> Self {
        let after = |crossing: &Crossing| crossing.after_own + crossing.service.map_or(0, SentAgain::needed);
        let beyond = || crossings.iter().filter_map(|crossing| crossing.beyond_ms);
        let ratios = || crossings.iter().filter_map(|crossing| crossing.gap_ratio);
        Self {
            beyond_median_ms: median(beyond()),
            beyond_most_ms: beyond().reduce(f64::max),
            after_resend: crossings.iter().map(after).sum(),
            resets: client.resets,
            gap_ratios: ratios().reduce(f64::min).zip(ratios().reduce(f64::max)),
        }
    }
}

/// `mose lab strategies`: a workload to and fro by each strategy in turn.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Strategies {
    /// What was moved.
    pub workload: String,
    /// The workload's arguments.
    pub arguments: Vec<String>,
    /// A series for each strategy, in the order in which they took turns.
    pub series: Vec<Series>,
    /// What the client saw over all of them.
    pub client: ClientReport,
}

/// All migrations of one strategy.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Series {
    /// Which.
    pub strategy: Strategy,
    /// The agents' blackout.
    pub blackout_ms: Option<f64>,
    /// The client's gap, by its packets.
    pub client_gap_ms: Option<f64>,
    /// The duration.
    pub duration_ms: Option<f64>,
    /// The bytes that travelled while the service stood still.
    pub bytes_in_downtime: Option<f64>,
    /// The median blackout over that of the first strategy.
    pub ratio: Option<f64>,
    /// The migrations.
    pub records: Vec<Record>,
}

/// `mose lab volumes`: a workload without and with a large volume that changes, in turn.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Volumes {
    /// What the volume held.
    pub size_bytes: u64,
    /// In how many files.
    pub files: u32,
    /// The share of them that was written to each second.
    pub changed_percent: u32,
    /// Without the volume, and with it.
    pub series: Vec<VolumeSeries>,
    /// The median downtime with the volume over that without.
    pub ratio: Option<f64>,
}

/// All migrations of one of the two services.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VolumeSeries {
    /// Whether it has the volume.
    pub volume: bool,
    /// The median time for which the service was stopped.
    pub downtime_ms: Option<f64>,
    /// The median duration.
    pub duration_ms: Option<f64>,
    /// What its client saw over all of them.
    pub client: ClientReport,
    /// The migrations.
    pub records: Vec<Record>,
}

/// `mose lab targets`: two services for a row of targets.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Promises {
    /// What comes of all.
    pub summary: Held,
    /// Those that minimised the downtime, by each rule for rounds.
    pub rules: Vec<RuleFigures>,
    /// Each migration, in order.
    pub migrations: Vec<Promise>,
}

/// A migration and what was promised for it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Promise {
    /// Which of the experiment's services: `small` or `large`.
    pub service: &'static str,
    /// What was promised.
    pub forecast: Forecast,
    /// What came of it.
    pub record: Record,
}

impl Promise {
    /// The bound over the measured: of downtime and of duration.
    #[must_use]
    pub fn ratios(&self) -> Option<(f64, f64)> {
        let bound = self.forecast.bound;
        let downtime = self.record.downtime.blackout?;
        Some((bound.downtime.0 / downtime.0, bound.duration.0 / self.record.duration.0))
    }
}

/// How far promises were kept.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Held {
    /// How many migrations.
    pub migrations: usize,
    /// The share of them whose downtime stayed under its bound, from 0 to 1.
    pub downtime_held: f64,
    /// The share of them whose duration did.
    pub duration_held: f64,
    /// The median of bound over measured: of the downtimes.
    pub downtime_ratio: Option<f64>,
    /// The same of the durations.
    pub duration_ratio: Option<f64>,
}

impl Held {
    /// What comes of all of these.
    #[must_use]
    pub fn of(promises: &[Promise]) -> Self {
        let held: Vec<(bool, bool)> =
            promises.iter().filter_map(|promise| promise.record.bounds_held()).collect();
        let share = |count: usize| count as f64 / promises.len().max(1) as f64;
        let ratios: Vec<(f64, f64)> = promises.iter().filter_map(Promise::ratios).collect();
        Self {
            migrations: promises.len(),
            downtime_held: share(held.iter().filter(|held| held.0).count()),
            duration_held: share(held.iter().filter(|held| held.1).count()),
            downtime_ratio: median(ratios.iter().map(|ratio| ratio.0)),
            duration_ratio: median(ratios.iter().map(|ratio| ratio.1)),
        }
    }
}

/// `mose lab rounds`: a workload to and fro by both rules for rounds in turn.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RulesRun {
    /// What was moved.
    pub workload: String,
    /// The workload's arguments.
    pub arguments: Vec<String>,
    /// The max duration (θ_mig) that was planned for.
    pub max_duration_ms: f64,
    /// What came of each rule.
    pub rules: Vec<RuleFigures>,
    /// The one beside the other.
    pub compared: RoundsCompared,
    /// What the client saw over all of them.
    pub client: ClientReport,
    /// Each migration, in order.
    pub migrations: Vec<Record>,
}

/// What came of the migrations whose rounds were chosen by one rule.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RuleFigures {
    /// Which.
    pub rule: RoundsRule,
    /// How many were done.
    pub migrations: usize,
    /// Rounds that were made after the first copy.
    pub rounds: Option<f64>,
    /// The most that any of them made.
    pub rounds_at_most: u32,
    /// For how long the service was stopped, by the agents' clocks.
    pub downtime_ms: Option<f64>,
    /// The client's silence, by its packets.
    pub gap_ms: Option<f64>,
    /// The duration.
    pub duration_ms: Option<f64>,
}

impl RuleFigures {
    /// The medians of those that were done.
    pub fn of<'a>(rule: RoundsRule, records: impl Iterator<Item = &'a Record>) -> Self {
        let done: Vec<&Record> = records.filter(|record| record.outcome == Outcome::Done).collect();
        let of = |figure: &dyn Fn(&Record) -> Option<f64>| median(done.iter().filter_map(|r| figure(r)));
        Self {
            rule,
            migrations: done.len(),
            rounds: of(&|r| Some(f64::from(r.iterations_made()))),
            rounds_at_most: done.iter().map(|r| r.iterations_made()).max().unwrap_or(0),
            downtime_ms: of(&|r| r.downtime.blackout.map(|ms| ms.0)),
            gap_ms: of(&|r| r.downtime.client_gap().map(|ms| ms.0)),
            duration_ms: of(&|r| Some(r.duration.0)),
        }
    }
}

/// Enough rounds beside the most that fit.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RoundsCompared {
    /// By how much longer the service was stopped with enough rounds; negative where it was shorter.
    pub downtime_difference_ms: Option<f64>,
    /// Up to which difference they count as good as all rounds: 5 % of the downtime with all, or 10 ms, whichever is more.
    pub downtime_slack_ms: Option<f64>,
    /// The duration with enough rounds over that with all.
    pub duration_ratio: Option<f64>,
}

impl RoundsCompared {
    /// The medians of one rule beside those of the other.
    #[must_use]
    pub fn of(enough: &RuleFigures, paper: &RuleFigures) -> Self {
        Self {
            downtime_difference_ms: enough.downtime_ms.zip(paper.downtime_ms).map(|(a, b)| a - b),
            downtime_slack_ms: paper.downtime_ms.map(|downtime| (0.05 * downtime).max(10.0)),
            duration_ratio: enough.duration_ms.zip(paper.duration_ms).map(|(a, b)| a / b),
        }
    }
}

/// `mose lab profiling`: the agent's dirty-page rate beside the counter's own.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Profiling {
    /// The counter's arguments.
    pub arguments: Vec<String>,
    /// A row for each rate that was asked of the counter.
    pub told: Vec<Told>,
    /// A row for each migration of a counter at full speed.
    pub slowed: Vec<Slowed>,
    /// The median of their ratios.
    pub ratio: Option<f64>,
}

/// What the agent told of a counter.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Told {
    /// The pages a second that the counter was asked to rewrite.
    pub asked: u64,
    /// Those that it did rewrite.
    pub rewritten: f64,
    /// The dirty pages a second that the agent told.
    pub told: f64,
    /// The same without those that an idle counter dirties.
    pub of_state: f64,
    /// `of_state` over `rewritten`, less one.
    pub error: Option<f64>,
    /// How dirty pages were found.
    pub tracker: String,
    /// The share of the service's time that measuring took.
    pub cost: f64,
}

/// What live rounds cost a counter at full speed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Slowed {
    /// Pages a second before.
    pub before: f64,
    /// Pages a second in the rounds.
    pub during: f64,
    /// The latter over the former.
    pub ratio: f64,
    /// How often was looked in the rounds.
    pub looks: usize,
    /// The migration.
    pub record: Record,
}

/// `mose lab baseline`: MOSE and a script over SSH in turn.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Comparison {
    /// What was moved.
    pub workload: String,
    /// MOSE's migrations.
    pub mose: Vec<Record>,
    /// The client's gap in each.
    pub mose_gaps_ms: Vec<f64>,
    /// What the client of the service that MOSE moved saw.
    pub mose_client: ClientReport,
    /// Where the script's time went.
    pub by_hand: Breakdown,
    /// The client's gap in each of the script's migrations.
    pub by_hand_gaps_ms: Vec<f64>,
    /// What the client of the service that the script moved saw.
    pub by_hand_client: ClientReport,
    /// Medians.
    pub summary: Compared,
}

/// The medians of a comparison.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Compared {
    /// The client's gap with MOSE.
    pub mose_gap_ms: Option<f64>,
    /// The client's gap by hand.
    pub by_hand_gap_ms: Option<f64>,
    /// MOSE's gap over the other.
    pub ratio: Option<f64>,
    /// What no tool can be below: CRIU frozen + image / bandwidth + CRIU restore.
    pub floor_ms: Option<f64>,
}

/// `mose calibrate`: a profile of migrations from one host to another, and what it was fitted to.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Fitted {
    /// From where.
    pub from: HostName,
    /// Whereto.
    pub to: HostName,
    /// The model's parameters and the spreads of its bounds.
    pub profile: Calibration,
    /// What was measured.
    pub samples: Vec<Sample>,
}
