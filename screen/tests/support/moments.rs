//! The moments in which the screen is looked at, and the dialogs that may lie above them.

use mose_pam::Millis;
use mose_protocol::agent::ServiceState;
use mose_protocol::record::{Outcome, Record};
use mose_screen::effect::{Attach, Effect};
use mose_screen::fleet_event::FleetEvent;
use mose_screen::state::planning::Field;
use mose_screen::state::ui::{Choice, Purpose, Question};
use mose_screen::state::{Dialog, Level, Replay, Source, State};
use tui_input::Input;

use super::fleet::{LOADS, ago, host, ill, minute, nothing, quiet, service};
use super::migration::{end, frozen_at, id, record, rows, run};
use super::{crowd, fleet};

/// All of them, with their names.
pub(crate) fn all() -> Vec<(&'static str, State)> {
    vec![
        ("nothing", nothing()),
        ("quiet", with_past(quiet())),
        ("ill", with_past(ill())),
        ("ordered", ordered()),
        ("round-3", round_three()),
        ("frozen", frozen()),
        ("restoring", restoring()),
        ("done", done()),
        ("rolled-back", rolled_back()),
        ("in-doubt", in_doubt()),
        ("in-doubt-long", in_doubt_long()),
        ("lost", lost()),
        ("aborted", aborted()),
        ("given-up", given_up()),
        ("missed", missed()),
        ("replay", replay()),
        ("long-names", crowd::long_names()),
        ("crowd", with_past(crowd::crowd())),
    ]
}

/// Some past, of every outcome.
pub(crate) fn with_past(mut state: State) -> State {
    let outcomes = [
        Outcome::Done,
        Outcome::Done,
        Outcome::RolledBack,
        Outcome::Refused,
        Outcome::InDoubt,
        Outcome::Done,
        Outcome::Aborted,
        Outcome::GivenUp,
    ];
    for (number, outcome) in outcomes.into_iter().cycle().take(14).enumerate() {
        let at = ago(60_000 + 83_000 * number as u64);
        let mut record = record(&format!("m-{number:04x}"), outcome, at, 2240.0 + 310.0 * number as f64);
        vary(&mut record, number);
        state.data.take(FleetEvent::Record(Box::new(record)), ago(50_000));
    }
    let said = [
        (Level::Info, "edge-b is back"),
        (Level::Warning, "edge-c: the engine did not answer within 2 s"),
        (
            Level::Error,
            "sockperf edge-a → edge-b rolled back, it runs at edge-a: CRIU could not dump sockperf",
        ),
    ];
    for (place, (level, text)) in said.into_iter().enumerate() {
        state.notices.say(level, text, ago(40_000 - 9000 * place as u64));
    }
    state.data.now = fleet::NOW;
    state
}

fn vary(record: &mut Record, number: usize) {
    let names = ["sockperf", "redis", "counter", "camera"];
    record.service = service(names[number % names.len()]);
    if number % 2 == 1 {
        std::mem::swap(&mut record.from, &mut record.to);
    }
    match number % 4 {
        1 => record.plan = super::migration::plan(0),
        2 => {
            record.plan.strategy = mose_pam::Strategy::Cold;
            record.plan.iterations = None;
            record.forecast = None;
        }
        3 => record.downtime.clients.clear(),
        _ => {}
    }
    if matches!(record.outcome, Outcome::RolledBack) {
        record.downtime.blackout = Some(Millis(1312.0));
    }
    if number == 5 {
        record.downtime.blackout = Some(Millis(412.0));
        record.duration = Millis(4100.0);
    }
}

fn moving(until: f64) -> State {
    let mut state = with_past(quiet());
    let mut loads = LOADS;
    loads[0].1 = ServiceState::Migrating;
    let told = fleet::telemetry(
        "edge-a",
        ago(100),
        &loads,
        vec![fleet::link("edge-b", 981_000_000, 40_000_000, ago(100))],
        60,
    );
    state.data.take(FleetEvent::Telemetry(Box::new(told)), ago(100));
    state.data.now = fleet::NOW;
    run(&mut state, until);
    state
}

pub(crate) fn ordered() -> State {
    let mut state = with_past(quiet());
    let task = super::migration::task("m-7f3a");
    let now = state.data.now;
    state.data.migrations.ordered(task, now);
    state
}

pub(crate) fn round_three() -> State {
    moving(1650.0)
}

pub(crate) fn frozen() -> State {
    moving(frozen_at() + 62.0)
}

pub(crate) fn restoring() -> State {
    let mut state = moving(frozen_at() + 170.0);
    let now = state.data.now;
    let mut told = fleet::telemetry("uav", now, &[], Vec::new(), 60);
    told.clients[0].silent = Some(Millis(168.0));
    state.data.take(FleetEvent::Telemetry(Box::new(told)), now);
    state
}

fn arrived(state: &mut State) {
    let moved = [LOADS[0], ("camera", ServiceState::Running, 23_700_000, 410.0)];
    minute(state, &LOADS[1..], &moved);
}

pub(crate) fn done() -> State {
    let whole = rows().last().map_or(0.0, |row| row.3);
    let mut state = with_past(quiet());
    run(&mut state, whole);
    end(&mut state, Outcome::Done, whole - 86.0);
    arrived(&mut state);
    state.notices.say(Level::Info, "sockperf edge-a → edge-b done in 2.24 s, downtime 203 ms", ago(1500));
    state
}

pub(crate) fn rolled_back() -> State {
    let at = frozen_at() + 54.0;
    let mut state = with_past(quiet());
    run(&mut state, at);
    end(&mut state, Outcome::RolledBack, at);
    state
}

pub(crate) fn in_doubt() -> State {
    let mut loads = LOADS;
    loads[0].1 = ServiceState::InDoubt;
    let mut state = with_past(quiet());
    minute(&mut state, &loads, &[]);
    let at = frozen_at() + 114.0;
    run(&mut state, at);
    end(&mut state, Outcome::InDoubt, at);
    state
}

/// In doubt for longer than was promised and wanted.
pub(crate) fn in_doubt_long() -> State {
    let mut state = in_doubt();
    state.data.now = mose_protocol::Timestamp(fleet::NOW.0 + 11_400_000);
    state
}

/// The destination's agent is lost in the middle of the restore.
pub(crate) fn lost() -> State {
    let mut state = moving(frozen_at() + 170.0);
    let later = mose_protocol::Timestamp(fleet::NOW.0 + 2_300_000);
    state.data.take(FleetEvent::Gone(host("edge-b")), later);
    state
}

/// Aborted by the operator in a round of pre-copy.
pub(crate) fn aborted() -> State {
    let at = 1650.0;
    let mut state = with_past(quiet());
    run(&mut state, at);
    end(&mut state, Outcome::Aborted, at);
    state
}

/// Given up while it was in doubt.
pub(crate) fn given_up() -> State {
    let mut state = in_doubt_long();
    let now = state.data.now;
    let given_up = record("m-7f3a", Outcome::GivenUp, now, frozen_at() + 114.0);
    state.data.take(FleetEvent::Record(Box::new(given_up)), now);
    minute(&mut state, &LOADS[1..], &[]);
    state.data.now = now;
    state
}

/// Targets that cannot be met.
pub(crate) fn missed() -> State {
    let mut state = quiet();
    state.planning.set(Field::Downtime, Millis(60.0));
    state.planning.set(Field::Duration, Millis(700.0));
    state.planning.unit = mose_screen::state::planning::Unit::Deviation;
    fleet::calibrate(&mut state, "edge-a", "edge-b", Some("it was made 41 days ago"));
    state.read_only = true;
    state
}

pub(crate) fn replay() -> State {
    let mut state = round_three();
    state.source = Source::Replay(Replay {
        name: "lost-link.ndjson".into(),
        at: fleet::NOW,
        begin: ago(30_000),
        end: mose_protocol::Timestamp(fleet::NOW.0 + 42_000_000),
        speed: 0.5,
        paused: true,
        simulated: true,
    });
    state.frozen = Some(Box::new(state.data.clone()));
    state.recording = Some(("r.ndjson".into(), ago(75_000)));
    state
}

/// Every dialog, with its name.
pub(crate) fn dialogs() -> Vec<(&'static str, Dialog)> {
    let choice = |attach, title: &str, description: &str| Choice {
        attach,
        title: title.into(),
        description: description.into(),
    };
    let input = |text: &str| Input::new(text.to_owned());
    let state = quiet();
    let order = Effect::Abort { migration: id("m-7f3a"), from: host("edge-a") };
    let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
    vec![
        (
            "welcome",
            Dialog::Welcome {
                choices: vec![
                    choice(
                        Attach::Demo("uav-handover".into()),
                        "demo: uav-handover",
                        "simulated agents in this process: nothing is installed",
                    ),
                    choice(Attach::Lab, "lab", "two stations and a drone in network namespaces of this host"),
                    choice(Attach::Look, "look", "for agents in this network, by multicast"),
                ],
                selected: 1,
            },
        ),
        ("help", Dialog::Help { filter: input(""), scroll: 0 }),
        ("help-searched", Dialog::Help { filter: input("target"), scroll: 3 }),
        ("palette", Dialog::Palette { input: input(""), selected: 2 }),
        ("palette-searched", Dialog::Palette { input: input("rec"), selected: 0 }),
        (
            "destination",
            Dialog::Pick { purpose: Purpose::Destination, items: lines(&["edge-b", "edge-c"]), selected: 0 },
        ),
        (
            "workload",
            Dialog::Pick { purpose: Purpose::Workload, items: lines(&["sockperf", "redis"]), selected: 1 },
        ),
        (
            "edit",
            Dialog::Edit {
                field: Field::Downtime,
                input: input("45"),
                fault: None,
                before: state.planning.downtime,
            },
        ),
        (
            "edit-wrong",
            Dialog::Edit {
                field: Field::Duration,
                input: input("3 parsecs"),
                fault: mose_screen::state::planning::seconds("3 parsecs").err(),
                before: state.planning.duration,
            },
        ),
        (
            "confirm-migrate",
            Dialog::Confirm {
                question: Question::Migrate,
                lines: lines(&[
                    "sockperf: edge-a → edge-b",
                    "iterative pre-copy   I = 5   L = 941 Mb/s",
                    "downtime at most 310 ms, duration at most 3240 ms",
                ]),
                effect: Box::new(order.clone()),
                proceed: true,
            },
        ),
        (
            "confirm-abort",
            Dialog::Confirm {
                question: Question::Abort,
                lines: lines(&[
                    "abort the migration of sockperf",
                    "it goes on running at edge-a; if it stands still already, it is taken back there",
                ]),
                effect: Box::new(order.clone()),
                proceed: false,
            },
        ),
        (
            "confirm-discard",
            Dialog::Confirm {
                question: Question::GiveUpAtSource,
                lines: lines(&[
                    "discard the copy of sockperf at edge-a",
                    "its memory, files and connections are removed there for good; unless edge-b runs it, sockperf is lost",
                    "the agent on edge-b is disconnected: look there first, with podman ps",
                ]),
                effect: Box::new(order),
                proceed: false,
            },
        ),
        ("record", Dialog::Record { migration: id("m-0000"), scroll: 0 }),
        ("record-refused", Dialog::Record { migration: id("m-0003"), scroll: 0 }),
        ("record-gone", Dialog::Record { migration: id("m-ffff"), scroll: 9 }),
        ("compare", Dialog::Compare { one: id("m-0000"), other: id("m-0005"), scroll: 0 }),
        ("criu-log", Dialog::CriuLog { scroll: 0 }),
    ]
}
