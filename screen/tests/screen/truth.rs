//! What is told is so: migrations that end in every way, told by a wire that loses, delays and repeats, while what is on the
//! screen is held against what has really become of the service.

use mose_pam::Millis;
use mose_protocol::Timestamp;
use mose_protocol::record::{Outcome, Record, StepTime};
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_screen::fleet_event::FleetEvent;
use mose_screen::pane::Pane;
use mose_screen::state::{State, Still};
use proptest::prelude::*;

use crate::support::canvas::{Easel, text};
use crate::support::fleet::{NOW, host, quiet};
use crate::support::migration::{id, record, task};

const SOURCE: &str = "edge-a";
const DESTINATION: &str = "edge-b";

/// How a migration goes on once its service is nobody's.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Course {
    /// The operator aborts it in a round.
    AbortedBefore,
    /// The operator aborts it while the service stands still.
    AbortedAfter,
    /// The dump fails.
    DumpFails,
    /// The destination restores it.
    Restored,
    /// The restore fails, and the service is taken back.
    RestoreFails,
    /// In doubt, until the destination says that it restored it.
    DoubtThenRestored,
    /// In doubt, until the destination says that it did not.
    DoubtThenRefused,
    /// In doubt; the operator has it resumed at the source.
    DoubtThenResumed,
    /// In doubt; the operator has the source's copy discarded, and nothing more is heard.
    DoubtThenDiscarded,
    /// The same, and it is learnt later that the destination runs it.
    DiscardedThenRestored,
}

const COURSES: [Course; 10] = [
    Course::AbortedBefore,
    Course::AbortedAfter,
    Course::DumpFails,
    Course::Restored,
    Course::RestoreFails,
    Course::DoubtThenRestored,
    Course::DoubtThenRefused,
    Course::DoubtThenResumed,
    Course::DoubtThenDiscarded,
    Course::DiscardedThenRestored,
];

/// Something that happens: what the wire tells of it, and what is so from then on.
#[derive(Debug, Clone)]
struct Happening {
    /// After the one before, in milliseconds.
    after: f64,
    wire: FleetEvent,
    /// Whether the service lives at the destination.
    at_destination: bool,
    /// Whether it stands still.
    still: bool,
}

/// What happens, in order. The times between are taken in turn from `pauses`.
struct Story {
    all: Vec<Happening>,
    pauses: Vec<f64>,
    at: f64,
    frozen_at: Option<f64>,
    at_destination: bool,
    seqs: [u64; 2],
}

impl Story {
    fn tell(&mut self, wire: FleetEvent, after: f64) {
        let still = self.frozen_at.is_some();
        self.all.push(Happening { after, wire, at_destination: self.at_destination, still });
    }

    fn step(&mut self, name: &str, step: Step, phase: Phase) {
        let after = self.pauses[self.all.len() % self.pauses.len()];
        self.at += after;
        let seq = &mut self.seqs[usize::from(name == DESTINATION)];
        *seq += 1;
        let event = StepEvent {
            migration: id("m-7f3a"),
            seq: *seq,
            host: host(name),
            step,
            phase,
            at: Timestamp(NOW.0 + (self.at * 1000.0) as u64),
            bytes: None,
            round: None,
            detail: Some("as it was".into()),
            task: (step == Step::Migration).then(|| Box::new(task("m-7f3a"))),
        };
        match (step, phase) {
            (Step::Freeze, Phase::Started) => self.frozen_at = Some(self.at),
            (Step::Release | Step::Reclaim, Phase::Finished) => self.frozen_at = None,
            _ => {}
        }
        self.at_destination |= step == Step::Release;
        self.tell(FleetEvent::Step(Box::new(event)), after);
    }

    fn whole(&mut self, name: &str, step: Step) {
        self.step(name, step, Phase::Started);
        self.step(name, step, Phase::Finished);
    }

    /// What remains, with the figures as the agents know them.
    fn record(&mut self, outcome: Outcome, frozen: Option<(f64, Option<f64>)>) {
        let mut told = record("m-7f3a", outcome, NOW, 1000.0);
        told.started_at = NOW;
        told.duration = Millis(self.at);
        told.downtime.blackout = frozen.and_then(|(from, to)| Some(Millis(to? - from)));
        told.steps = vec![of_source(Step::Inspect, 1.0)];
        told.steps.extend(frozen.map(|(from, _)| of_source(Step::Freeze, from)));
        self.tell(FleetEvent::Record(Box::new(told)), 1.0);
    }
}

fn of_source(step: Step, start: f64) -> StepTime {
    StepTime { host: host(SOURCE), step, start: Millis(start), took: Millis(1.0), bytes: None, detail: None }
}

fn story(course: Course, retries: usize, pauses: Vec<f64>) -> Vec<Happening> {
    use Course::*;
    let mut told =
        Story { all: Vec::new(), pauses, at: 0.0, frozen_at: None, at_destination: false, seqs: [0; 2] };
    told.step(SOURCE, Step::Migration, Phase::Started);
    told.whole(SOURCE, Step::Inspect);
    told.whole(DESTINATION, Step::Prepare);
    told.step(SOURCE, Step::PreDump, Phase::Started);
    if course == AbortedBefore {
        told.step(SOURCE, Step::PreDump, Phase::Aborted);
        told.step(SOURCE, Step::Migration, Phase::Aborted);
        told.record(Outcome::Aborted, None);
        return told.all;
    }
    told.step(SOURCE, Step::PreDump, Phase::Finished);
    told.step(SOURCE, Step::Freeze, Phase::Started);
    let from = told.at;
    told.step(SOURCE, Step::Freeze, Phase::Finished);
    told.step(SOURCE, Step::Dump, Phase::Started);
    let taken_back = |told: &mut Story, outcome| {
        for _ in 0..retries {
            told.step(SOURCE, Step::Reclaim, Phase::Started);
            told.step(SOURCE, Step::Reclaim, Phase::Failed);
            told.record(Outcome::InDoubt, Some((from, None)));
        }
        told.whole(SOURCE, Step::Reclaim);
        let to = told.at;
        told.step(SOURCE, Step::Migration, Phase::Failed);
        told.record(outcome, Some((from, Some(to))));
    };
    match course {
        AbortedAfter => {
            told.step(SOURCE, Step::Dump, Phase::Aborted);
            taken_back(&mut told, Outcome::Aborted);
            return told.all;
        }
        DumpFails => {
            told.step(SOURCE, Step::Dump, Phase::Failed);
            taken_back(&mut told, Outcome::RolledBack);
            return told.all;
        }
        _ => {}
    }
    told.step(SOURCE, Step::Dump, Phase::Finished);
    told.whole(SOURCE, Step::Relinquish);
    told.step(DESTINATION, Step::Restore, Phase::Started);
    if course == RestoreFails {
        told.step(DESTINATION, Step::Restore, Phase::Failed);
        taken_back(&mut told, Outcome::RolledBack);
        return told.all;
    }
    if course != Restored {
        told.tell(FleetEvent::Gone(host(DESTINATION)), 1.0);
        told.record(Outcome::InDoubt, Some((from, None)));
    }
    match course {
        Restored | DoubtThenRestored => {
            told.step(DESTINATION, Step::Restore, Phase::Finished);
            told.step(DESTINATION, Step::Release, Phase::Finished);
            let to = told.at;
            told.step(SOURCE, Step::Migration, Phase::Finished);
            told.record(Outcome::Done, Some((from, Some(to))));
        }
        DoubtThenRefused | DoubtThenResumed => taken_back(&mut told, Outcome::RolledBack),
        _ => {
            told.whole(SOURCE, Step::Cleanup);
            told.step(SOURCE, Step::Migration, Phase::Failed);
            told.record(Outcome::GivenUp, Some((from, None)));
        }
    }
    if course == DiscardedThenRestored {
        told.tell(FleetEvent::Seen(host(DESTINATION)), 1.0);
        told.at_destination = true;
        told.step(SOURCE, Step::Migration, Phase::Finished);
        let to = told.at;
        told.record(Outcome::Done, Some((from, Some(to))));
    }
    told.all
}

/// What is on the screen now.
struct Seen {
    history: String,
    timeline: String,
    plan: String,
}

fn look(easel: &Easel, state: &State) -> Seen {
    let pane = |pane| text(&easel.pane(state, pane, (160, 16)));
    Seen { history: pane(Pane::History), timeline: pane(Pane::Timeline), plan: pane(Pane::Plan) }
}

/// How many marks of approval a record deserves in the history: one for having been done, one for each figure that was measured
/// within its worst case, one if both targets were met.
fn deserved(record: &Record) -> usize {
    if record.outcome != Outcome::Done {
        return 0;
    }
    let Some(forecast) = record.forecast.as_deref() else { return 1 };
    let within = |figure: Option<Millis>, bound: Millis| figure.is_some_and(|figure| figure <= bound);
    let (blackout, duration) = (record.downtime.blackout, Some(record.duration));
    let met = within(blackout, forecast.targets.downtime) && within(duration, forecast.targets.duration);
    1 + usize::from(within(blackout, forecast.bound.downtime))
        + usize::from(within(duration, forecast.bound.duration))
        + usize::from(met)
}

fn holds(
    seen: &Seen,
    state: &State,
    happening: &Happening,
    before: &mut Option<Millis>,
) -> Result<(), TestCaseError> {
    let row = seen.history.lines().find(|line| line.contains(" edge-a → edge-b ")).unwrap_or_default();
    if row.contains(" done") || seen.timeline.contains(" · done") {
        prop_assert!(happening.at_destination, "told done: {row}\n{}", seen.timeline);
    }
    let marks = |text: &str| text.matches('✔').count();
    let recorded = state.data.past.get(&id("m-7f3a"));
    prop_assert_eq!(marks(row), recorded.map_or(0, deserved), "{}", row);
    let Some(track) = state.data.migrations.get(&id("m-7f3a")) else { return Ok(()) };
    if track.outcome() != Some(Outcome::Done) {
        prop_assert_eq!(marks(&seen.timeline), 0, "{}", &seen.timeline);
    }
    let still = Still::of(track, state.data.now);
    let so_far = match still {
        Still::SoFar(time) => Some(time),
        _ => None,
    };
    if let (Some(time), Some(forecast)) = (so_far, track.task.as_ref().and_then(|t| t.forecast.as_deref())) {
        let missed = time > forecast.bound.downtime;
        let told = seen.timeline.lines().find(|line| line.contains("downtime  ")).unwrap_or_default();
        prop_assert_eq!(told.contains('✘'), missed, "{}", told);
        prop_assert!(told.contains("so far"), "{}", told);
        // The plan does not go on saying that a target is met which is missed.
        let told = seen.plan.lines().find(|line| line.contains("downtime ")).unwrap_or_default();
        prop_assert!(!told.contains('✔'), "{}", seen.plan);
        prop_assert!(!missed || told.contains('✘'), "{}", seen.plan);
    }
    // A freeze that was heard of is counted on, and never less, until the service is back or nobody counts any more.
    if happening.still && !track.has_ended() {
        if let Some(before) = *before {
            prop_assert!(so_far.is_some_and(|now| now >= before), "{:?} after {:?}", still, before);
        }
        *before = so_far;
    } else {
        *before = None;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_of_a_migration_is_so_whatever_the_wire_loses(
        course in proptest::sample::select(&COURSES[..]),
        retries in 0..3_usize,
        pauses in proptest::collection::vec(1.0..900.0_f64, 5),
        heard in proptest::collection::vec(proptest::bool::weighted(0.85), 64),
        lost in proptest::option::of((0..40_usize, any::<bool>())),
    ) {
        let easel = Easel::new("dark");
        let mut state = quiet();
        let mut before = None;
        let mut now = NOW.0;
        for (number, happening) in story(course, retries, pauses).into_iter().enumerate() {
            now += (happening.after * 1000.0) as u64;
            if let Some((_, source)) = lost.filter(|(at, _)| *at == number) {
                let gone = FleetEvent::Gone(host(if source { SOURCE } else { DESTINATION }));
                state.data.take(gone, Timestamp(now));
            }
            // The first says what the order was; the rest may be missed.
            if number == 0 || heard[number % heard.len()] {
                let wire = happening.wire.clone();
                state.data.take(wire.clone(), Timestamp(now));
                state.data.take(wire, Timestamp(now));
            }
            for later in [0, 1_700_000] {
                now += later;
                state.data.now = Timestamp(now);
                holds(&look(&easel, &state), &state, &happening, &mut before)?;
            }
        }
    }
}
