//! A plan as it is shown: to people, as JSON, as lines of CSV.

use mose_pam::{
    Axis, Components, Kpis, Millis, Model, Nearest, PlanRequest, Proposal, Rounds, RoundsRule, Strategy,
    Trajectory,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::table::table;

/// Iterations that save less than this are said to save nothing.
const WORTH_IT: Millis = Millis(1.0);

/// A plan as JSON. Bandwidths in bit/s, times in ms.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Report<'a> {
    /// How the state is to be moved.
    strategy: Strategy,
    /// I: iterations after the pre-dump; null for a cold migration.
    iterations: Option<u32>,
    /// The same number, among how many and by which rule it was chosen; null for a cold migration.
    rounds: Option<Rounds>,
    /// L: the bandwidth to allocate, in bit/s.
    bandwidth_bps: u64,
    /// r: the dirty-page rate between the least (0) and the greatest (1) that is possible.
    normalized_dirty_rate: f64,
    /// What is promised: upper bounds.
    bound: Times,
    /// What is probably going to happen.
    expected: Times,
    /// Upper bounds of the parts, in ms.
    components_ms: Components,
    /// Whether the bounds meet the targets.
    targets: Met,
    /// Why the plan is as it is.
    why: String,
    /// What would meet the targets that are missed; null where none is.
    nearest: Option<Change>,
    /// The calibration profile that it was made with.
    profile: &'a str,
    /// Whether the service can move as it is, where the plan is one of a running service whose host could say.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'a mose_protocol::check::Report>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Times {
    /// From the freeze until the service answers at the destination.
    downtime_ms: f64,
    /// From the order until the service answers at the destination.
    duration_ms: f64,
}

impl From<Kpis> for Times {
    fn from(kpis: Kpis) -> Self {
        Self { downtime_ms: kpis.downtime.0, duration_ms: kpis.duration.0 }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Met {
    /// Whether the downtime's bound is.
    downtime_met: bool,
    /// Whether the duration's bound is.
    duration_met: bool,
}

/// Either the bandwidth, or the targets: what is null stays as it is.
#[derive(Debug, Serialize, JsonSchema)]
struct Change {
    /// The least bandwidth with which all targets are met.
    bandwidth_bps: Option<u64>,
    /// The tightest target downtime that is met.
    target_downtime_ms: Option<f64>,
    /// The tightest target duration that is met.
    target_duration_ms: Option<f64>,
}

impl From<Nearest> for Change {
    fn from(nearest: Nearest) -> Self {
        Self {
            bandwidth_bps: nearest.bandwidth.map(|bandwidth| bandwidth.0),
            target_downtime_ms: nearest.downtime.map(|time| time.0),
            target_duration_ms: nearest.duration.map(|time| time.0),
        }
    }
}

impl<'a> Report<'a> {
    /// The report of a plan that was made with the profile of that name.
    #[must_use]
    pub fn new(proposal: &Proposal, profile: &'a str) -> Self {
        Self {
            strategy: proposal.strategy,
            iterations: proposal.iterations,
            rounds: proposal.rounds,
            bandwidth_bps: proposal.bandwidth.0,
            normalized_dirty_rate: proposal.rate.get(),
            bound: proposal.bound.into(),
            expected: proposal.expected.into(),
            components_ms: proposal.components,
            targets: Met { downtime_met: proposal.downtime.met(), duration_met: proposal.duration.met() },
            why: proposal.why.to_string(),
            nearest: proposal.nearest.map(Into::into),
            profile,
            check: None,
        }
    }

    /// The same with what was found of the service.
    #[must_use]
    pub const fn with_check(mut self, check: Option<&'a mose_protocol::check::Report>) -> Self {
        self.check = check;
        self
    }
}

/// A plan at one value of a sweep.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Swept<'a> {
    /// What is varied.
    axis: &'static str,
    /// Its value: ms for a target, bit/s, bytes or pages per second for the others, and a share for the normalized rate.
    value: f64,
    #[serde(flatten)]
    plan: Report<'a>,
}

impl<'a> Swept<'a> {
    /// The plan with that value on the axis.
    #[must_use]
    pub const fn new(axis: Axis, value: f64, plan: Report<'a>) -> Self {
        Self { axis: axis.name(), value, plan }
    }
}

/// A plan for people: what to do, what it promises, and why.
#[must_use]
pub fn page(proposal: &Proposal, model: &Model, request: &PlanRequest, profile: &str) -> String {
    let iterations = proposal.rounds.map(|rounds| format!("   I = {rounds}")).unwrap_or_default();
    let mut text = format!(
        "{}{iterations}   L = {}   r = {:.3}   profile {profile}\n\n",
        proposal.strategy,
        proposal.bandwidth,
        proposal.rate.get()
    );
    text.push_str(&promises(proposal));
    text.push_str("\n\n");
    text.push_str(&parts(proposal));
    text.push_str(&format!("\n\nwhy      {}", proposal.why));
    if let Some(enough) = enough(proposal, model, request) {
        text.push_str(&format!("\n         {enough}"));
    }
    if let Some(nearest) = proposal.nearest {
        text.push_str(&format!("\nnearest  {nearest}"));
    }
    if proposal.expected.downtime > proposal.bound.downtime
        || proposal.expected.duration > proposal.bound.duration
    {
        text.push_str(
            "\nnote     more is expected than the bound holds: passes last longer than ΔT, within which r counts what is \
             dirtied; give a longer --delta-t with a rate measured over it, or --working-set",
        );
    }
    text
}

fn promises(proposal: &Proposal) -> String {
    let row = |name: &str, verdict: &mose_pam::Verdict, expected: Millis| {
        let margin = verdict.margin().0;
        let left = if verdict.met() {
            format!("✔ {} left", Millis(margin))
        } else {
            format!("✘ {} over", Millis(-margin))
        };
        vec![
            name.to_owned(),
            verdict.bound.to_string(),
            verdict.target.to_string(),
            left,
            expected.to_string(),
        ]
    };
    let rows = [
        row("downtime", &proposal.downtime, proposal.expected.downtime),
        row("duration", &proposal.duration, proposal.expected.duration),
    ];
    table(&["", "at most", "target", "", "expected"], &[1, 2, 4], &rows)
}

fn parts(proposal: &Proposal) -> String {
    let parts = &proposal.components;
    let none = String::new;
    let iterations = proposal.iterations.unwrap_or(0);
    let all = [
        ("prepare".to_owned(), parts.prepare, none()),
        ("files".to_owned(), parts.files, parts.files.to_string()),
        ("pre-dump".to_owned(), parts.predump, parts.transfer_predump.to_string()),
        (format!("iteration (× {iterations})"), parts.round, parts.transfer_dump.to_string()),
        ("dump".to_owned(), parts.dump, parts.transfer_dump.to_string()),
        ("files that changed".to_owned(), parts.files_changed, parts.files_changed.to_string()),
        ("restore".to_owned(), parts.restore, none()),
        ("overlay".to_owned(), parts.overlay, none()),
    ];
    let rows: Vec<Vec<String>> = all
        .into_iter()
        .filter(|(_, time, _)| time.0 > 0.0)
        .map(|(name, time, transfer)| vec![name, time.to_string(), transfer])
        .collect();
    table(&["part", "at most", "transfer"], &[1, 2], &rows)
}

/// Where more iterations stop paying, if the paper's rule goes on beyond that.
fn enough(proposal: &Proposal, model: &Model, request: &PlanRequest) -> Option<String> {
    let planned = proposal.rounds.filter(|rounds| rounds.rule == RoundsRule::Paper)?.chosen;
    let overlay = proposal.components.overlay.0 > 0.0;
    let trajectory = Trajectory::new(model, request.service(), proposal.bandwidth, overlay);
    let enough = trajectory.pays_until(WORTH_IT);
    (enough < planned).then(|| {
        format!(
            "past I = {enough} all further iterations together save less than {WORTH_IT} of the expected downtime \
             (its floor is {})",
            trajectory.floor()
        )
    })
}

/// The heading of a sweep's CSV.
#[must_use]
pub fn csv_heading(axis: Axis) -> String {
    let unit = axis.unit();
    let unit = if unit.is_empty() { String::new() } else { format!("_{unit}") };
    format!(
        "swept_{}{unit},strategy,iterations,bandwidth_bps,normalized_dirty_rate,bound_downtime_ms,bound_duration_ms,\
         expected_downtime_ms,expected_duration_ms,downtime_met,duration_met,rounds_rule,most_rounds",
        axis.name().replace('-', "_")
    )
}

/// The plan at one value of a sweep as a line of CSV; no field holds a comma.
#[must_use]
pub fn csv_line(value: f64, proposal: &Proposal) -> String {
    let iterations = proposal.iterations.map(|iterations| iterations.to_string()).unwrap_or_default();
    let rule = proposal.rounds.map(|rounds| rounds.rule.name()).unwrap_or_default();
    let most = proposal.rounds.map(|rounds| rounds.most.to_string()).unwrap_or_default();
    format!(
        "{value},{},{iterations},{},{},{},{},{},{},{},{},{rule},{most}",
        proposal.strategy,
        proposal.bandwidth.0,
        proposal.rate.get(),
        proposal.bound.downtime.0,
        proposal.bound.duration.0,
        proposal.expected.downtime.0,
        proposal.expected.duration.0,
        proposal.downtime.met(),
        proposal.duration.met(),
    )
}

/// A sweep for people, one plan a line.
#[must_use]
pub fn sweep(axis: Axis, plans: &[(f64, Proposal)]) -> String {
    let mark = |met: bool| if met { "✔" } else { "✘" }.to_owned();
    let rows: Vec<Vec<String>> = plans
        .iter()
        .map(|(value, proposal)| {
            vec![
                axis.show(*value),
                proposal.strategy.to_string(),
                crate::table::known(proposal.rounds),
                proposal.bandwidth.to_string(),
                proposal.bound.downtime.to_string(),
                mark(proposal.downtime.met()),
                proposal.expected.downtime.to_string(),
                proposal.bound.duration.to_string(),
                mark(proposal.duration.met()),
                proposal.expected.duration.to_string(),
            ]
        })
        .collect();
    let headings =
        [axis.name(), "strategy", "I", "L", "downtime ≤", "", "expected", "duration ≤", "", "expected"];
    table(&headings, &[0, 2, 3, 4, 6, 7, 9], &rows)
}
