//! A migration step by step, cut at a moment.

use mose_pam::{Bytes, Components, Millis, Plan, Rounds, RoundsRule, Strategy, Why};
use mose_protocol::forecast::{Figures, Forecast};
use mose_protocol::handover::{ImagePolicy, Task};
use mose_protocol::record::{ClientGap, CriuTimes, Downtime, Outcome, Record, Rehearsal, StepTime};
use mose_protocol::step::{Phase, Round, Step, StepEvent};
use mose_protocol::time::ClockOffset;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{MigrationId, Refusal, RefusalCode, Timestamp};
use mose_screen::derived::Settled;
use mose_screen::fleet_event::FleetEvent;
use mose_screen::state::State;

use super::fleet::{host, quiet, service};

/// A step: host, what, begin and end in milliseconds, bytes.
type Row = (&'static str, Step, f64, f64, u64);

/// Iterative pre-copy of sockperf from the first station to the second.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![
        ("edge-a", Step::Inspect, 3.0, 41.0, 0),
        ("edge-b", Step::Prepare, 42.0, 318.0, 0),
        ("edge-a", Step::RootfsPrecopy, 320.0, 402.0, 48_000),
        ("edge-a", Step::PreDump, 405.0, 1012.0, 10_200_000),
    ];
    let mut at = 1016.0;
    for round in 0..5 {
        let took = 210.0 - 22.0 * f64::from(round);
        rows.push(("edge-a", Step::Iteration, at, at + took, 700_000 - 110_000 * round as u64));
        at += took + 4.0;
    }
    rows.extend([
        ("edge-a", Step::Freeze, at, at + 9.0, 0),
        ("edge-a", Step::Dump, at + 9.0, at + 74.0, 0),
        ("edge-a", Step::Transfer, at + 76.0, at + 102.0, 380_000),
        ("uav", Step::Redirect, at + 88.0, at + 96.0, 0),
        ("edge-b", Step::Redirect, at + 90.0, at + 97.0, 0),
        ("edge-a", Step::Stop, at + 103.0, at + 112.0, 0),
        ("edge-a", Step::Relinquish, at + 112.0, at + 116.0, 0),
        ("edge-b", Step::Restore, at + 117.0, at + 231.0, 0),
        ("edge-b", Step::Release, at + 231.0, at + 236.0, 0),
        ("edge-a", Step::Cleanup, at + 240.0, at + 322.0, 0),
    ]);
    rows
}

/// When the service is frozen, in milliseconds after the begin.
pub(crate) fn frozen_at() -> f64 {
    rows().iter().find(|row| row.1 == Step::Freeze).map_or(0.0, |row| row.2)
}

pub(crate) fn id(text: &str) -> MigrationId {
    text.parse().expect("an identity")
}

/// What was promised.
pub(crate) fn forecast() -> Forecast {
    let state = Settled::from(quiet());
    let designed = state.plan().expect("a plan");
    let forecast = designed.forecast(state.planning.objective);
    Forecast {
        bound: Figures { downtime: Millis(310.0), duration: Millis(3240.0) },
        components: parts(),
        expected: Figures { downtime: Millis(228.0), duration: Millis(2310.0) },
        why: Why::Enough {
            rounds: 5,
            most: 14,
            downtime: Millis(228.0),
            least: Millis(225.0),
            target: forecast.targets.duration,
            capped: false,
        }
        .to_string(),
        rounds: Some(Rounds { rule: RoundsRule::Enough, chosen: 5, most: 14 }),
        ..forecast
    }
}

/// The parts of that bound.
fn parts() -> Components {
    Components {
        prepare: Millis(340.0),
        predump: Millis(610.0),
        transfer_predump: Millis(94.0),
        files: Millis(0.0),
        files_changed: Millis(0.0),
        round: Millis(350.0),
        dump: Millis(92.0),
        transfer_dump: Millis(27.0),
        restore: Millis(150.0),
        overlay: Millis(41.0),
    }
}

pub(crate) fn task(migration: &str) -> Task {
    Task {
        migration: id(migration),
        service: service("sockperf"),
        from: host("edge-a"),
        to: host("edge-b"),
        plan: plan(5),
        transport: None,
        image_policy: ImagePolicy::Bring,
        pre_copy: None,
        rehearsal: false,
        files: Default::default(),
        forecast: Some(Box::new(forecast())),
    }
}

pub(crate) fn plan(iterations: u32) -> Plan {
    Plan {
        strategy: Strategy::IterativePrecopy,
        iterations: Some(iterations),
        end_early: true,
        ..Plan::cold()
    }
}

/// Tells the steps up to `until` ms after the begin, which is set so that this is now.
pub(crate) fn run(state: &mut State, until: f64) {
    let now = state.data.now;
    let begin = Timestamp(now.0 - (until * 1000.0) as u64);
    let task = Box::new(task("m-7f3a"));
    let mut told: Vec<(f64, StepEvent)> = Vec::new();
    let event = |name: &str, step, phase, ms: f64| StepEvent {
        migration: id("m-7f3a"),
        seq: 0,
        host: host(name),
        step,
        phase,
        at: Timestamp(begin.0 + (ms * 1000.0) as u64),
        bytes: None,
        round: None,
        detail: None,
        task: None,
    };
    let first = StepEvent { task: Some(task), ..event("edge-a", Step::Migration, Phase::Started, 0.0) };
    told.push((0.0, first));
    for (name, step, from, to, bytes) in rows() {
        told.push((from, event(name, step, Phase::Started, from)));
        let moved = (bytes > 0).then_some(Bytes(bytes));
        if until > from && until < to && bytes > 0 {
            let part = (bytes as f64 * (until - from) / (to - from)) as u64;
            let progress =
                StepEvent { bytes: Some(Bytes(part)), ..event(name, step, Phase::Progress, until) };
            told.push((until, progress));
        }
        told.push((to, StepEvent { bytes: moved, ..event(name, step, Phase::Finished, to) }));
    }
    told.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut seqs = std::collections::HashMap::new();
    for (ms, event) in told.into_iter().filter(|(ms, _)| *ms <= until) {
        let seq = seqs.entry(event.host.clone()).or_insert(0);
        let event = StepEvent { seq: *seq, ..event };
        *seq += 1;
        let heard = Timestamp(begin.0 + (ms * 1000.0) as u64 + 400);
        state.data.take(FleetEvent::Step(Box::new(event)), heard.min(now));
    }
    state.data.now = now;
}

/// The whole has ended, well or not: the event, and the record.
pub(crate) fn end(state: &mut State, outcome: Outcome, at: f64) {
    let now = state.data.now;
    let record = record("m-7f3a", outcome, now, at);
    let phase = match outcome {
        Outcome::Done | Outcome::Rehearsed => Phase::Finished,
        Outcome::Aborted => Phase::Aborted,
        _ => Phase::Failed,
    };
    let event = |seq, step, phase, detail: Option<&str>| StepEvent {
        migration: id("m-7f3a"),
        seq,
        host: host("edge-a"),
        step,
        phase,
        at: now,
        bytes: None,
        round: None,
        detail: detail.map(str::to_owned),
        task: None,
    };
    match outcome {
        Outcome::RolledBack => {
            state.data.take(
                FleetEvent::Step(Box::new(event(
                    900,
                    Step::Dump,
                    Phase::Failed,
                    Some("CRIU could not dump sockperf"),
                ))),
                now,
            );
            state.data.take(FleetEvent::Step(Box::new(event(901, Step::Reclaim, Phase::Started, None))), now);
            state
                .data
                .take(FleetEvent::Step(Box::new(event(902, Step::Reclaim, Phase::Finished, None))), now);
        }
        Outcome::Aborted => {
            let told = "the operator aborted the migration";
            let event = event(900, Step::Iteration, Phase::Aborted, Some(told));
            state
                .data
                .take(FleetEvent::Step(Box::new(StepEvent { bytes: Some(Bytes(210_000)), ..event })), now);
        }
        Outcome::InDoubt | Outcome::GivenUp => {
            let detail = "edge-b did not answer within 10 s after ownership was given up";
            let failed = event(900, Step::Relinquish, Phase::Failed, Some(detail));
            state.data.take(FleetEvent::Step(Box::new(failed)), now);
        }
        Outcome::Done | Outcome::Refused | Outcome::Rehearsed => {}
    }
    state.data.take(FleetEvent::Step(Box::new(event(999, Step::Migration, phase, None))), now);
    state.data.take(FleetEvent::Record(Box::new(record)), now);
}

/// What CRIU wrote before it gave up.
pub(crate) const CRIU_LOG: &str = "criu dump failed: exit status 1
(00.041552) Dumping processes (pid: 4121)
(00.043100) cg: Dumping cgroup freezer state
(00.052201) sk-inet: Dumping inet socket at 7
(00.052264) tcp: Lock TCP connection 0x5d1
(00.053920) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option
(00.053977) Error (criu/cr-dump.c:1675): Dump files (pid: 4121) failed with -1
(00.054212) Unfreezing tasks into 1
(00.061004) Error (criu/cr-dump.c:2092): Dumping FAILED.";

/// What remains of it.
pub(crate) fn record(migration: &str, outcome: Outcome, at: Timestamp, duration: f64) -> Record {
    let done = outcome == Outcome::Done;
    let ms = |ms: f64| Some(Millis(ms)).filter(|_| done);
    let reason = |code, reason: &str, remedy: &str| Some(Refusal::new(code, reason, remedy));
    let rehearsed = outcome == Outcome::Rehearsed;
    Record {
        simulated: false,
        by_hand: false,
        rehearsal: rehearsed.then_some(Rehearsal { would_stand_still_ms: Some(Millis(184.2)) }),
        migration: id(migration),
        service: service("sockperf"),
        from: host("edge-a"),
        to: host("edge-b"),
        plan: plan(5),
        transport: Some(TransportKind::Tcp),
        flights: Vec::new(),
        started_at: Timestamp(at.0 - (duration * 1000.0) as u64),
        duration: Millis(duration),
        outcome,
        reason: match outcome {
            Outcome::Done | Outcome::Rehearsed => None,
            Outcome::Refused => reason(
                RefusalCode::ImageMissing,
                "edge-b lacks the image of sockperf and may not be sent it",
                "pull it there, or order with --image-policy bring",
            ),
            Outcome::RolledBack => {
                reason(RefusalCode::Failed, "CRIU could not dump sockperf", "read CRIU's log below")
                    .map(|reason| reason.with_log(Some(CRIU_LOG)))
            }
            Outcome::Aborted => {
                reason(RefusalCode::Aborted, "the operator aborted it before the service was frozen", "")
            }
            Outcome::InDoubt => reason(
                RefusalCode::Unreachable,
                "edge-b did not answer within 10 s",
                "look whether it runs there, then decide for a side",
            ),
            Outcome::GivenUp => reason(
                RefusalCode::Failed,
                "the operator had edge-a discard its copy, and edge-b has not said that it runs the service",
                "look at edge-b with podman ps",
            ),
        },
        image: Bytes(if outcome == Outcome::Refused { 0 } else { 12_780_000 }),
        downtime: Downtime {
            criu: CriuTimes {
                freezing: ms(8.2),
                frozen: ms(61.3),
                memdump: ms(18.0),
                memwrite: ms(11.2),
                restore: ms(88.4),
                pages_written: Some(92).filter(|_| done),
            },
            blackout: if rehearsed { Some(Millis(67.9)) } else { ms(184.2) },
            clock: ClockOffset { offset_us: 120, uncertainty_us: 90 },
            clients: if done {
                let gap = Millis(203.4);
                vec![ClientGap {
                    host: host("uav"),
                    gap: Some(gap),
                    at_least: false,
                    note: None,
                    asked: 1,
                    unanswered: 0,
                    packets: 8123,
                    resets: 0,
                    accepted: 0,
                    answers_ms: Vec::new(),
                }]
            } else {
                Vec::new()
            },
        },
        forecast: Some(Box::new(forecast())),
        rounds: (0..6)
            .map(|number| Round {
                number,
                pages: 2490 - 380 * u64::from(number),
                sent: 2490 / (1 + u64::from(number) * 4),
                bytes: Bytes(10_200_000 / (1 + u64::from(number) * 4)),
                took: Millis(607.0 / (1.0 + f64::from(number))),
                pays: number < 5,
            })
            .collect(),
        steps: rows()
            .into_iter()
            .filter(|row| row.3 <= duration)
            .map(|(name, step, from, to, bytes)| StepTime {
                host: host(name),
                step,
                start: Millis(from),
                took: Millis(to - from),
                bytes: (bytes > 0).then_some(Bytes(bytes)),
                detail: None,
            })
            .collect(),
    }
}
