//! What the lab's experiments find, as they print it with `--json`. Times are in milliseconds, medians where there are several.

use mose_lab::baseline::Breakdown;
use mose_lab::client::ClientReport;
use mose_lab::median;
use mose_pam::{Profile, Sample, Strategy};
use mose_protocol::HostName;
use mose_protocol::forecast::Forecast;
use mose_protocol::record::Record;
use schemars::JsonSchema;
use serde::Serialize;

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

/// `mose lab targets`: two services for a row of targets.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Promises {
    /// What comes of all.
    pub summary: Held,
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

/// `mose lab services`: real services under their clients, there and back.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Trials {
    /// Each service, in the order in which they were tried.
    pub services: Vec<Tried>,
}

impl Trials {
    /// Whether nothing was lost, nothing failed, and all that was to be moved was.
    #[must_use]
    pub fn good(&self) -> bool {
        !self.services.is_empty() && self.services.iter().all(Tried::good)
    }
}

/// A service that was tried.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Tried {
    /// Which.
    pub service: String,
    /// What it is, in a few words.
    pub what: String,
    /// A row for each strategy.
    pub by: Vec<TriedBy>,
    /// What its clients saw from the first to the last.
    pub all: mose_lab::trial::Figures,
    /// What failed at the clients, in words.
    pub failures: Vec<String>,
    /// Its contents after the last move; none if it could not be asked.
    pub moved: Option<mose_lab::trial::Contents>,
    /// Its contents after it was then stopped and started again.
    pub restarted: Option<mose_lab::trial::Contents>,
    /// What broke the trial off, if anything did.
    pub broken_off: Option<String>,
}

impl Tried {
    /// Whether nothing was lost, nothing failed, and all that was to be moved was.
    #[must_use]
    pub fn good(&self) -> bool {
        let whole =
            |contents: &Option<mose_lab::trial::Contents>| contents.as_ref().is_some_and(|c| c.whole());
        self.broken_off.is_none()
            && !self.by.is_empty()
            && self.by.iter().all(TriedBy::good)
            && self.all.lost + self.all.failed == 0
            && whole(&self.moved)
            && whole(&self.restarted)
    }
}

/// What came of a strategy.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TriedBy {
    /// Which.
    pub strategy: Strategy,
    /// How long the service was stopped, the longest of its moves.
    pub service_stopped_ms: Option<f64>,
    /// What the clients saw while it was moved by this strategy.
    pub clients: mose_lab::trial::Figures,
    /// Whether all clients were at work during all moves.
    pub under_load: bool,
    /// The moves.
    pub records: Vec<Record>,
}

impl TriedBy {
    /// Whether every move was done, under load, and its clients noticed nothing but silence.
    #[must_use]
    pub fn good(&self) -> bool {
        let done = |record: &Record| record.outcome == mose_protocol::record::Outcome::Done;
        self.under_load
            && !self.records.is_empty()
            && self.records.iter().all(done)
            && self.clients.requests > 0
            && self.clients.lost + self.clients.failed == 0
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
    pub profile: Profile,
    /// What was measured.
    pub samples: Vec<Sample>,
}
