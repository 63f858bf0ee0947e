//! What follows from the state is never older than the state: after every kind of event it is what it is when computed anew.

use std::sync::Arc;

use mose_pam::Millis;
use mose_protocol::agent::Role;
use mose_protocol::check::{Finding, Report, Severity};
use mose_protocol::record::Outcome;
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_protocol::{Refusal, RefusalCode, Timestamp};
use mose_screen::action::{ACTIONS, Action};
use mose_screen::derived::Settled;
use mose_screen::effect::Attach;
use mose_screen::event::{Answer, Event};
use mose_screen::fleet_event::{Decision, FleetEvent, Following, Known};
use mose_screen::hit::Hits;
use mose_screen::keymap::{Dispatch, Press};
use mose_screen::pane::Pane;
use mose_screen::state::ui::Choice;
use mose_screen::state::{Abilities, Level, Source, State};
use mose_screen::update::{Surroundings, act, update};
use ratatui::crossterm::event::{
    Event as Terminal, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use crate::support::canvas::{Easel, styled};
use crate::support::fleet::{LOADS, NOW, hello, host, link, quiet, service, telemetry};
use crate::support::migration::{id, record, task};
use crate::support::moments::{self, with_past};

/// The same state with nothing derived from it yet.
pub(crate) fn anew(state: &Settled) -> Settled {
    State::clone(state).into()
}

/// All that views read of what follows from a state. NaN is not itself: it is compared as it is written.
pub(crate) fn derived(state: &Settled) -> Vec<String> {
    let mut all = vec![
        format!("{:?}", state.service().map(|located| (&located.host.name, located.info))),
        format!("{:?}", state.destination()),
        format!("{:?}", state.plan()),
        format!("{:?}", state.chart(24, 6)),
        format!("{:?}", state.track()),
        format!("{:?}", state.failure()),
        format!("{:?}", state.history().map(|record| &record.migration).collect::<Vec<_>>()),
    ];
    all.extend(ACTIONS.iter().map(|spec| format!("{}: {:?}", spec.id, state.enabled(spec.action))));
    all.extend(state.shown().migrations.all().map(|track| format!("{:?}", state.course(track))));
    all
}

/// A step of the migration `m-1` at its source.
fn step(seq: u64, step: Step, phase: Phase, at: Timestamp) -> FleetEvent {
    let task = (step == Step::Migration).then(|| Box::new(task("m-1")));
    let (migration, host) = (id("m-1"), host("edge-a"));
    let event =
        StepEvent { migration, seq, host, step, phase, at, bytes: None, round: None, detail: None, task };
    FleetEvent::Step(Box::new(event))
}

/// Every kind of thing that agents tell.
fn told(at: Timestamp) -> Vec<FleetEvent> {
    let refusal = || Refusal::new(RefusalCode::Version, "it speaks another version", "update it");
    let mut ended = record("m-1", Outcome::RolledBack, NOW, 2000.0);
    ended.reason = Some(refusal());
    let links = vec![link("edge-b", 981_000_000, 140_000_000, at)];
    let finding = Finding::new(Severity::LeftBehind, "exec session", "why", "what to do");
    let report = Report {
        service: service("sockperf"),
        from: host("edge-a"),
        to: Some(host("edge-b")),
        processes: 1,
        descriptors: 3,
        findings: vec![finding],
    };
    vec![
        FleetEvent::Seen(host("edge-z")),
        hello("edge-z", Role::Edge),
        FleetEvent::Stranger { host: host("x"), refusal: refusal() },
        FleetEvent::Telemetry(Box::new(telemetry("edge-a", at, &LOADS, links, 7))),
        step(0, Step::Migration, Phase::Started, at),
        step(1, Step::Freeze, Phase::Started, at),
        step(2, Step::Freeze, Phase::Failed, at),
        FleetEvent::Record(Box::new(ended)),
        FleetEvent::Calibration {
            from: host("edge-a"),
            to: host("edge-b"),
            known: Known { profile: None, doubt: Some("it is old".into()) },
        },
        FleetEvent::Checked(Box::new(report)),
        FleetEvent::Following(Box::new(Following {
            service: service("sockperf"),
            mobile: host("uav"),
            on: true,
            trouble: None,
            next: None,
        })),
        FleetEvent::FollowingElsewhere(Box::new(Following {
            service: service("sockperf"),
            mobile: host("uav"),
            on: true,
            trouble: None,
            next: None,
        })),
        FleetEvent::Decided(Box::new(Decision {
            service: service("sockperf"),
            from: host("edge-a"),
            to: host("edge-b"),
            why: "it is nearer".into(),
        })),
        FleetEvent::Gone(host("edge-b")),
        FleetEvent::Seen(host("edge-b")),
    ]
}

/// Every kind of answer; the last ones let go of what was known.
fn answers() -> Vec<Answer> {
    let refusal = || Refusal::new(RefusalCode::Conflict, "another is under way", "wait");
    let (from, to) = (host("edge-a"), host("edge-b"));
    let choice = Choice { attach: Attach::Look, title: "look".into(), description: String::new() };
    let Source::Replay(replay) = moments::replay().source else { panic!("a replay") };
    vec![
        Answer::Ordered { migration: id("m-2"), result: Err(refusal()) },
        Answer::Unknown { from: from.clone(), to: to.clone(), refusal: refusal() },
        Answer::Recalibrated { from, to },
        Answer::Said { level: Level::Info, text: "said".into() },
        Answer::Recording(Some(("file".into(), NOW))),
        Answer::Recording(None),
        Answer::Offered(vec![choice.clone()]),
        Answer::Attached(Source::Lab, Abilities { lab: true, calibrate: true, follow: true }),
        Answer::Replaying(replay.clone()),
        Answer::Rewound(replay),
        Answer::Choose(vec![choice]),
    ]
}

/// What a person does: every key that is bound to anything, text, the mouse, another size.
fn typed() -> Vec<Terminal> {
    let key = |code| Terminal::Key(KeyEvent::new(code, KeyModifiers::NONE));
    let letters = "v]T[]xXtooou/zZFFnnd".chars().map(|letter| key(KeyCode::Char(letter)));
    let codes = [
        KeyCode::Esc,
        KeyCode::Down,
        KeyCode::Up,
        KeyCode::Right,
        KeyCode::Left,
        KeyCode::Tab,
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::BackTab,
    ];
    let press =
        |kind, column, row| Terminal::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE });
    let places = (0..120).step_by(17).flat_map(|column| (0..40).step_by(7).map(move |row| (column, row)));
    let mouse = places.flat_map(|(column, row)| {
        [
            press(MouseEventKind::Down(MouseButton::Left), column, row),
            press(MouseEventKind::Drag(MouseButton::Left), column + 1, row),
            press(MouseEventKind::Up(MouseButton::Left), column, row),
            press(MouseEventKind::ScrollUp, column, row),
        ]
    });
    let last = [Terminal::Paste("text".into()), Terminal::Resize(120, 40), key(KeyCode::Esc)];
    letters.chain(codes.map(key)).chain(mouse).chain(last).collect()
}

/// One after another; what is drawn in between has views ask for what follows from the state.
fn run(moment: State) {
    let easel = Easel::new("dark");
    let (mut dispatch, mut hits) = (Dispatch::default(), Hits::default());
    let mut state = Settled::from(moment);
    state.ui.size = (120, 40);
    let mut now = NOW;
    let fleet = |at| told(at).into_iter().map(Event::Fleet);
    let person = || typed().into_iter().map(Event::Terminal);
    let answers = answers().into_iter().map(Event::Answer);
    let all = fleet(NOW).chain(person()).chain([Event::Tick]).chain(fleet(Timestamp(NOW.0 + 60_000_000)));
    for event in all.chain(answers).chain(person()).chain([Event::Tick]) {
        now.0 += 137_000;
        let at = Millis(now.0 as f64 / 1e3);
        let mut around = Surroundings {
            keys: &mut |key, pane| match easel.keymap.press(&mut dispatch, key, pane, at) {
                Press::Action(action) => Some(action),
                _ => None,
            },
            hits: &hits,
            panes: &Pane::ALL,
            layouts: easel.layouts.len(),
            themes: 5,
            workloads: &["sockperf"],
        };
        update(&mut state, event.clone(), now, &mut around);
        let fresh = anew(&state);
        assert_eq!(derived(&state), derived(&fresh), "after {event:?}");
        let (picture, places) = easel.draw_settled(&state, (120, 40));
        assert_eq!(styled(&picture), styled(&easel.draw_settled(&fresh, (120, 40)).0), "after {event:?}");
        hits = places;
    }
}

#[test]
fn after_every_kind_of_event_all_is_as_if_derived_anew() {
    for moment in [with_past(quiet()), moments::round_three(), moments::in_doubt(), moments::replay()] {
        run(moment);
    }
}

#[test]
fn what_the_planner_said_stands_until_it_is_asked_something_else() {
    let mut state = Settled::from(quiet());
    let chart = state.chart(24, 6).expect("a chart");
    let same = |state: &Settled| Arc::ptr_eq(&chart, &state.chart(24, 6).expect("a chart"));
    let mut around = Surroundings {
        keys: &mut |_, _| None,
        hits: &Hits::default(),
        panes: &Pane::ALL,
        layouts: 1,
        themes: 1,
        workloads: &[],
    };
    update(&mut state, Event::Tick, Timestamp(NOW.0 + 1000), &mut around);
    assert!(same(&state), "time alone changes no plan");
    act(&mut state, Action::TargetUp, NOW, &mut around);
    assert!(!same(&state), "another target is another plan");
    act(&mut state, Action::TargetDown, NOW, &mut around);
    act(&mut state, Action::Freeze, NOW, &mut around);
    assert_eq!(derived(&state), derived(&anew(&state)));
}
