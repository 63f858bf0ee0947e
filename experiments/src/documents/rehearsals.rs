//! What `mose lab rehearsals` finds.

use mose_lab::client::ClientReport;
use mose_lab::median;
use mose_pam::Strategy;
use mose_protocol::record::{Outcome, Record, StepTime};
use mose_protocol::step::Step;
use schemars::JsonSchema;
use serde::Serialize;

/// The steps that a rehearsal is for: what they take is what it says of the migration.
const ESSENCE: [Step; 3] = [Step::Dump, Step::Transfer, Step::Restore];
/// How far the sum of those may be from the migration's.
const SUM_WITHIN: f64 = 0.15;
/// How far one of them may be.
const STEP_WITHIN: f64 = 0.25;
/// A step that takes no longer says little: the machine's own hiccups are as long.
const SHORT_MS: f64 = 20.0;

/// `mose lab rehearsals`: each workload rehearsed and then migrated, to and fro.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Rehearsals {
    /// By which strategy.
    pub strategy: Strategy,
    /// Each workload, in the order in which they were tried.
    pub workloads: Vec<Rehearsed>,
}

impl Rehearsals {
    /// Whether nothing went wrong with any of them.
    #[must_use]
    pub fn good(&self) -> bool {
        !self.workloads.is_empty() && self.workloads.iter().all(Rehearsed::good)
    }
}

/// A figure in the rehearsals and in the migrations that followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Sides {
    /// The median in the rehearsals.
    pub rehearsal_ms: Option<f64>,
    /// The median in the migrations.
    pub migration_ms: Option<f64>,
}

impl Sides {
    fn of(pairs: &[Pair], figure: impl Fn(&Once) -> Option<f64>) -> Self {
        Self {
            rehearsal_ms: median(pairs.iter().filter_map(|pair| figure(&pair.rehearsal))),
            migration_ms: median(pairs.iter().filter_map(|pair| figure(pair.migration.as_ref()?))),
        }
    }

    /// The rehearsal's over the migration's.
    #[must_use]
    pub fn ratio(self) -> Option<f64> {
        let (rehearsal, migration) = self.rehearsal_ms.zip(self.migration_ms)?;
        (migration > 0.0).then(|| rehearsal / migration)
    }

    fn within(self, share: f64) -> Option<bool> {
        // A hair beyond it is the arithmetic's.
        self.ratio().map(|ratio| (ratio - 1.0).abs() <= share + 1e-9)
    }

    fn judged(self, share: f64) -> Judged {
        Judged { took: self, ratio: self.ratio(), alike: self.within(share) }
    }
}

/// A figure, and whether a rehearsal says what the migration takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Judged {
    /// What it took.
    #[serde(flatten)]
    pub took: Sides,
    /// The rehearsals' median over the migrations'.
    pub ratio: Option<f64>,
    /// Whether the two are as near as they should be; null where that is not asked of it.
    pub alike: Option<bool>,
}

/// A step that rehearsals and migrations both have.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StepPair {
    /// Which.
    pub step: Step,
    /// Whether the source does it; else the destination.
    pub at_source: bool,
    /// What it took; a restore to the release. Asked to be alike are dump, transfer and restore where they take over 20 ms: within 25 %.
    #[serde(flatten)]
    pub judged: Judged,
}

/// For how long the service stood still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct StoodStill {
    /// By the agents' clocks.
    pub blackout: Sides,
    /// The longest silence in the client's own log; 0 where there was none over 50 ms.
    pub client_silence: Sides,
    /// For how long it would stand still, as the rehearsals told (median): to be held against the migrations' blackout.
    pub would_ms: Option<f64>,
}

/// What was found on the hosts after a rehearsal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Found {
    /// What was left over, in words.
    pub left: Vec<String>,
    /// Whether the log of CRIU's restore was read to its end; without it nobody says that nothing was resumed but the agent.
    pub restore_read: bool,
    /// Whether CRIU let anything go on at the destination, by its own log, or a process was left there.
    pub resumed: bool,
    /// Packets of the service's address that left the destination through a tunnel.
    pub sent_packets: u64,
    /// Packets of the service's address that the endpoint at the destination said, and that went nowhere.
    pub kept_in_packets: u64,
}

/// A rehearsal or a migration, and the client's own silence in it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Once {
    /// What the agents measured.
    pub record: Record,
    /// The client's longest silence, on its own clock; 0 if there was none over 50 ms, null without a client.
    pub client_silence_ms: Option<f64>,
}

impl Once {
    /// What a step took at one of the sides, all of its passes together. A restore counts up to the release, where a rehearsal
    /// ends. What Podman does later runs beside the service, and a busy service slows it down.
    fn took(&self, step: Step, at_source: bool) -> Option<f64> {
        let record = &self.record;
        let release = record.steps.iter().find(|step| step.step == Step::Release).map(|step| step.start.0);
        let of = record.steps.iter().filter(|s| s.step == step && (s.host == record.from) == at_source);
        let took = |found: &StepTime| match release {
            Some(release) if step == Step::Restore && release > found.start.0 => {
                found.took.0.min(release - found.start.0)
            }
            _ => found.took.0,
        };
        of.map(took).reduce(|sum, took| sum + took)
    }

    /// What dump, transfer and restore took together.
    fn essence(&self) -> Option<f64> {
        let all = ESSENCE.into_iter().map(|step| self.took(step, is_at_source(step)));
        all.sum()
    }
}

/// A rehearsal and the migration that followed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pair {
    /// The rehearsal.
    pub rehearsal: Once,
    /// What was found after it.
    pub found: Found,
    /// The migration; null where the rehearsal did not end well.
    pub migration: Option<Once>,
}

/// A workload that was rehearsed and migrated in turn.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Rehearsed {
    /// Which.
    pub workload: String,
    /// The steps that both have, in the order in which they begin.
    pub steps: Vec<StepPair>,
    /// Dump, transfer and restore together; asked to be within 15 %.
    pub sum: Judged,
    /// For how long the service stood still.
    pub stood_still: StoodStill,
    /// How many things were left over.
    pub left: usize,
    /// After how many rehearsals something was resumed at the destination.
    pub resumed: usize,
    /// Packets of the service's address that left the destination in the rehearsals.
    pub sent_packets: u64,
    /// How many rehearsals' restores were read in CRIU's own log.
    pub restores_read: usize,
    /// What the client saw over all of them; null where the workload has none.
    pub client: Option<ClientReport>,
    /// What broke it off, if anything did.
    pub broken_off: Option<String>,
    /// Each rehearsal with its migration, in order.
    pub pairs: Vec<Pair>,
}

impl Rehearsed {
    /// What comes of these.
    #[must_use]
    pub fn of(
        workload: &str,
        pairs: Vec<Pair>,
        client: Option<ClientReport>,
        broken_off: Option<String>,
    ) -> Self {
        let found = || pairs.iter().map(|pair| &pair.found);
        Self {
            workload: workload.to_owned(),
            steps: steps(&pairs),
            sum: Sides::of(&pairs, Once::essence).judged(SUM_WITHIN),
            stood_still: StoodStill {
                blackout: Sides::of(&pairs, |once| once.record.downtime.blackout.map(|ms| ms.0)),
                client_silence: Sides::of(&pairs, |once| once.client_silence_ms),
                would_ms: median(
                    pairs.iter().filter_map(|p| p.rehearsal.record.would_stand_still().map(|ms| ms.0)),
                ),
            },
            left: found().map(|found| found.left.len()).sum(),
            resumed: found().filter(|found| found.resumed).count(),
            sent_packets: found().map(|found| found.sent_packets).sum(),
            restores_read: found().filter(|found| found.restore_read).count(),
            client,
            broken_off,
            pairs,
        }
    }

    /// Whether no rehearsal left, resumed or sent anything, its client saw nothing but silence, and all of it was carried out.
    /// How long anything took is not asked.
    #[must_use]
    pub fn good(&self) -> bool {
        let carried_out = |pair: &Pair| {
            pair.rehearsal.record.outcome == Outcome::Rehearsed
                && pair.migration.as_ref().is_some_and(|once| once.record.outcome == Outcome::Done)
        };
        self.broken_off.is_none()
            && !self.pairs.is_empty()
            && self.pairs.iter().all(carried_out)
            && self.left + self.resumed == 0
            && self.sent_packets == 0
            && self.client.as_ref().is_none_or(ClientReport::is_clean)
    }
}

const fn is_at_source(step: Step) -> bool {
    !matches!(step, Step::Restore)
}

fn steps(pairs: &[Pair]) -> Vec<StepPair> {
    let Some(first) = pairs.first() else { return Vec::new() };
    let record = &first.rehearsal.record;
    let mut all: Vec<StepPair> = Vec::new();
    for found in &record.steps {
        let (step, at_source) = (found.step, found.host == record.from);
        // The client's gap is no work of anybody's.
        if step == Step::ClientGap || all.iter().any(|one| (one.step, one.at_source) == (step, at_source)) {
            continue;
        }
        let took = Sides::of(pairs, |once| once.took(step, at_source));
        let longest = took.rehearsal_ms.into_iter().chain(took.migration_ms).fold(0.0, f64::max);
        let mut judged = took.judged(STEP_WITHIN);
        if !ESSENCE.contains(&step) || longest <= SHORT_MS {
            judged.alike = None;
        }
        if took.migration_ms.is_some() {
            all.push(StepPair { step, at_source, judged });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use mose_protocol::record::Downtime;
    use serde_json::{Value, json};

    use super::*;

    fn once(outcome: &str, steps: &[(&str, &str, f64)], blackout: f64) -> Once {
        let steps: Vec<Value> = steps
            .iter()
            .map(|(host, step, took)| json!({"host": host, "step": step, "start": 0.0, "took": took}))
            .collect();
        let mut record: Record = serde_json::from_value(json!({
            "migration": "m-1", "service": "counter", "from": "edge-a", "to": "edge-b",
            "plan": {"strategy": "cold", "iterations": null, "bandwidth": null},
            "transport": null, "started_at": 0, "duration": 1.0, "outcome": outcome, "reason": null,
            "image": 1, "downtime": Downtime::default(), "steps": steps,
        }))
        .unwrap();
        record.downtime.blackout = Some(mose_pam::Millis(blackout));
        Once { record, client_silence_ms: Some(0.0) }
    }

    fn pair(dump: f64, transfer: f64, restore: f64) -> Pair {
        let took = [
            ("edge-a", "dump", dump),
            ("edge-a", "transfer", transfer),
            ("edge-b", "restore", restore),
            ("edge-a", "cleanup", 500.0),
            ("edge-b", "cleanup", 1.0),
            ("edge-a", "reclaim", 3.0),
        ];
        let real = [
            ("edge-a", "dump", 100.0),
            ("edge-a", "transfer", 50.0),
            ("edge-b", "restore", 50.0),
            ("edge-a", "cleanup", 40.0),
            ("edge-b", "cleanup", 2.0),
            ("edge-b", "release", 1.0),
        ];
        Pair {
            rehearsal: once("rehearsed", &took, 60.0),
            found: Found { restore_read: true, ..Found::default() },
            migration: Some(once("done", &real, 200.0)),
        }
    }

    fn clean() -> Option<ClientReport> {
        Some(ClientReport { received: 1, connections: 1, streams: 1, ..ClientReport::default() })
    }

    #[test]
    fn steps_that_both_have_stand_side_by_side_and_only_long_ones_that_matter_are_judged() {
        let pairs = vec![pair(120.0, 40.0, 20.0), pair(130.0, 60.0, 15.0)];
        let told = Rehearsed::of("counter", pairs, clean(), None);
        let of = |step: Step, at_source: bool| {
            told.steps.iter().find(|one| (one.step, one.at_source) == (step, at_source))
        };
        let dump = of(Step::Dump, true).unwrap().judged;
        assert_eq!((dump.took.rehearsal_ms, dump.took.migration_ms), (Some(125.0), Some(100.0)));
        assert_eq!((dump.ratio, dump.alike), (Some(1.25), Some(true)));
        assert_eq!(of(Step::Restore, false).unwrap().judged.alike, Some(false));
        let there = of(Step::Cleanup, true).unwrap().judged;
        assert_eq!((there.ratio, there.alike), (Some(12.5), None));
        assert_eq!(of(Step::Cleanup, false).unwrap().judged.ratio, Some(0.5));
        assert!(of(Step::Reclaim, true).is_none() && of(Step::Release, false).is_none());
        // 180 and 205 over 200.
        assert_eq!((told.sum.took.rehearsal_ms, told.sum.alike), (Some(192.5), Some(true)));
        assert_eq!(told.stood_still.blackout.ratio(), Some(0.3));
        assert!(told.good(), "timings are not asked");
    }

    #[test]
    fn a_restore_counts_to_the_release() {
        let steps = [("edge-b", "restore", 300.0), ("edge-b", "release", 0.0)];
        let mut migration = once("done", &steps, 200.0);
        migration.record.steps[0].start = mose_pam::Millis(1000.0);
        migration.record.steps[1].start = mose_pam::Millis(1090.0);
        assert_eq!(migration.took(Step::Restore, false), Some(90.0));
        migration.record.steps[1].start = mose_pam::Millis(1400.0);
        assert_eq!(migration.took(Step::Restore, false), Some(300.0));
        migration.record.steps.truncate(1);
        assert_eq!(migration.took(Step::Restore, false), Some(300.0));
    }

    #[test]
    fn a_sum_that_is_far_off_is_told_and_short_steps_are_not_judged() {
        let told = Rehearsed::of("counter", vec![pair(10.0, 10.0, 10.0)], clean(), None);
        assert_eq!((told.sum.ratio, told.sum.alike), (Some(0.15), Some(false)));
        let mut short = pair(10.0, 10.0, 10.0);
        short.migration = Some(once("done", &[("edge-a", "dump", 19.0)], 1.0));
        let told = Rehearsed::of("counter", vec![short], clean(), None);
        assert_eq!((told.steps.len(), told.steps[0].judged.alike), (1, None));
        assert_eq!(told.sum.ratio, None, "a migration without a restore has no sum");
    }

    #[test]
    fn whatever_a_rehearsal_did_that_it_must_not_is_no_good() {
        let harms: [fn(&mut Pair); 5] = [
            |pair| pair.found.left.push("1 container too many".into()),
            |pair| pair.found.resumed = true,
            |pair| pair.found.sent_packets = 1,
            |pair| pair.rehearsal.record.outcome = Outcome::RolledBack,
            |pair| pair.migration = None,
        ];
        for (number, harm) in harms.into_iter().enumerate() {
            let mut pairs = vec![pair(100.0, 50.0, 50.0), pair(100.0, 50.0, 50.0)];
            harm(&mut pairs[1]);
            assert!(!Rehearsed::of("counter", pairs, clean(), None).good(), "harm {number}");
        }
        let sound = || vec![pair(100.0, 50.0, 50.0)];
        let unclean = clean().map(|client| ClientReport { repeated: 1, ..client });
        assert!(!Rehearsed::of("counter", sound(), unclean, None).good());
        assert!(!Rehearsed::of("counter", sound(), clean(), Some("it hung".into())).good());
        assert!(!Rehearsed::of("counter", Vec::new(), clean(), None).good());
        assert!(Rehearsed::of("busybox", sound(), None, None).good(), "it has no client");
    }

    #[test]
    fn what_is_printed_names_its_units() {
        let told = Rehearsed::of("counter", vec![pair(100.0, 50.0, 50.0)], clean(), None);
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(json["steps"][0]["rehearsal_ms"], 100.0);
        assert_eq!(json["sum"]["migration_ms"], 200.0);
        assert_eq!(json["stood_still"]["blackout"]["rehearsal_ms"], 60.0);
    }
}
