//! What something means is told by words and glyphs: whoever sees no colours knows as much.

use std::collections::BTreeSet;

use mose_pam::{Metres, Millis};
use mose_protocol::agent::{Role, ServiceState};
use mose_protocol::flight::{FlightError, FlightReport};
use mose_protocol::record::Outcome;
use mose_protocol::{Refusal, RefusalCode};
use mose_screen::event::Event;
use mose_screen::fleet_event::FleetEvent;
use mose_screen::hit::Hits;
use mose_screen::pane::Pane;
use mose_screen::state::planning::Field;
use mose_screen::state::{Dialog, Presence, State};
use mose_screen::theme::Theme;
use mose_screen::update::{Surroundings, update};

use crate::support::canvas::{Easel, text};
use crate::support::fleet::{LOADS, NOW, ago, hello, host, link, quiet, telemetry};
use crate::support::migration::{record, task};

/// All easels: with Unicode, and without.
fn easels() -> [Easel; 2] {
    let plain = Easel::new(Theme::MONO);
    let mut ascii = Easel::new(Theme::MONO);
    ascii.theme = ascii.theme.ascii(true);
    [plain, ascii]
}

/// All of these, drawn, are different texts, in that pane, at those sizes.
fn differ(pane: Pane, states: &[State]) {
    for easel in easels() {
        for size in [(30, 12), (80, 24), (200, 60)] {
            let texts: BTreeSet<String> =
                states.iter().map(|state| text(&easel.pane(state, pane, size))).collect();
            assert_eq!(texts.len(), states.len(), "{pane:?} at {size:?}: {texts:#?}");
        }
    }
}

fn with_presence(presence: Presence) -> State {
    let mut state = quiet();
    let name = host("edge-z");
    state.data.take(FleetEvent::Seen(name.clone()), NOW);
    let refusal = || Refusal::new(RefusalCode::Version, "it speaks another protocol", "update it");
    let told = |ms| FleetEvent::Telemetry(Box::new(telemetry("edge-z", ago(ms), &[], Vec::new(), 1)));
    // All that a presence can be inferred from; the age is the same, so that it is not what differs.
    match presence {
        Presence::Live => state.data.take(told(300), ago(300)),
        Presence::Stale => state.data.take(told(400_000), ago(400_000)),
        Presence::Unknown => {}
        Presence::Incompatible => {
            state.data.take(FleetEvent::Stranger { host: name.clone(), refusal: refusal() }, NOW);
        }
        Presence::Lost => {
            state.data.take(told(300), ago(300));
            state.data.take(FleetEvent::Gone(name.clone()), NOW);
        }
    }
    if presence != Presence::Incompatible {
        state.data.take(hello("edge-z", Role::Edge), NOW);
    }
    state.data.now = NOW;
    assert_eq!(state.data.fleet.host(&name).map(|host| host.presence(NOW)), Some(presence));
    state
}

#[test]
fn every_presence_has_its_own_words() {
    let all = [Presence::Live, Presence::Stale, Presence::Unknown, Presence::Incompatible, Presence::Lost];
    let states: Vec<State> = all.into_iter().map(with_presence).collect();
    for easel in easels() {
        for (presence, state) in all.iter().zip(&states) {
            let picture = text(&easel.pane(state, Pane::Fleet, (60, 30)));
            let row = picture.lines().find(|row| row.contains("edge-z")).unwrap_or_default();
            let word = presence.name();
            assert!(*presence == Presence::Live || row.contains(word), "{word}: {row}");
        }
    }
    differ(Pane::Fleet, &states);
}

#[test]
fn every_state_of_a_service_has_its_own_words() {
    let all = [ServiceState::Running, ServiceState::Stopped, ServiceState::Migrating, ServiceState::InDoubt];
    let states: Vec<State> = all
        .into_iter()
        .map(|service| {
            let mut state = quiet();
            let mut loads = LOADS;
            loads[1].1 = service;
            let links = vec![link("edge-b", 981_000_000, 40_000_000, NOW)];
            state
                .data
                .take(FleetEvent::Telemetry(Box::new(telemetry("edge-a", NOW, &loads, links, 60))), NOW);
            state
        })
        .collect();
    differ(Pane::Fleet, &states);
    for easel in easels() {
        let texts: BTreeSet<String> =
            states.iter().map(|state| text(&easel.pane(state, Pane::Topology, (80, 24)))).collect();
        assert_eq!(texts.len(), states.len(), "{texts:#?}");
    }
}

#[test]
fn every_outcome_has_its_own_words() {
    let all = Outcome::ALL;
    let states: Vec<State> = all
        .into_iter()
        .map(|outcome| {
            let mut state = quiet();
            let mut told = record("m-1", Outcome::Done, ago(1000), 2100.0);
            told.outcome = outcome;
            state.data.take(FleetEvent::Record(Box::new(told)), NOW);
            state
        })
        .collect();
    differ(Pane::History, &states);
    for easel in easels() {
        for (outcome, state) in all.iter().zip(&states) {
            let picture = text(&easel.pane(state, Pane::History, (80, 24)));
            assert!(picture.contains(outcome.name()), "{picture}");
        }
    }
}

#[test]
fn a_record_tells_how_far_off_course_a_vehicle_was() {
    let mut state = quiet();
    let mut told = record("m-1", Outcome::Done, ago(1000), 2100.0);
    let at = |deviation| FlightError { deviation_m: Metres(deviation), cross_track_m: Some(Metres(0.1)) };
    let (worst, undisturbed) = (at(0.312), Some(at(0.15)));
    state.data.migrations.ordered(task("m-1"), NOW);
    state.data.take(FleetEvent::Record(Box::new(told.clone())), NOW);
    state.ui.dialogs.push(Dialog::Record { migration: told.migration.clone(), scroll: 0 });
    for easel in easels() {
        let before = text(&easel.draw(&state, (80, 40)).0);
        assert!(!before.contains("off course"), "{before}");
    }
    told.flights.push(FlightReport { host: host("uav"), worst, undisturbed, watched_ms: Millis(9000.0) });
    let notices = state.notices.clone();
    let mut settled = state.into();
    // It comes some seconds after the end, and the end is not told twice.
    let mut around = Surroundings {
        keys: &mut |_, _| None,
        hits: &Hits::default(),
        panes: &Pane::ALL,
        layouts: 1,
        themes: 1,
        workloads: &[],
    };
    update(&mut settled, Event::Fleet(FleetEvent::Record(Box::new(told))), NOW, &mut around);
    let state = State::clone(&settled);
    assert_eq!(state.notices, notices);
    for easel in easels() {
        let after = text(&easel.draw(&state, (80, 40)).0);
        assert!(after.contains("off course       0.31 m (undisturbed 0.15 m) at uav"), "{after}");
    }
}

#[test]
fn a_target_that_is_met_and_one_that_is_missed_are_told_apart_by_words() {
    let mut met = quiet();
    met.planning.set(Field::Downtime, Millis(3000.0));
    let mut missed = quiet();
    missed.planning.set(Field::Downtime, Millis(20.0));
    differ(Pane::Plan, &[met.clone(), missed.clone()]);
    for easel in easels() {
        let row = |state: &State| {
            let picture = text(&easel.pane(state, Pane::Plan, (80, 24)));
            picture.lines().find(|row| row.contains("downtime ")).unwrap_or_default().to_owned()
        };
        assert!(row(&met).contains("met"), "{}", row(&met));
        assert!(row(&missed).contains("missed"), "{}", row(&missed));
    }
}

#[test]
fn a_bound_that_held_and_one_that_did_not_are_told_apart_by_glyphs() {
    let states: Vec<State> = [150.0, 900.0]
        .into_iter()
        .map(|blackout| {
            let mut state = quiet();
            let mut told = record("m-1", Outcome::Done, ago(1000), 2100.0);
            told.downtime.blackout = Some(Millis(blackout));
            state.data.take(FleetEvent::Record(Box::new(told)), NOW);
            state
        })
        .collect();
    for easel in easels() {
        let texts: BTreeSet<String> =
            states.iter().map(|state| text(&easel.pane(state, Pane::History, (120, 12)))).collect();
        assert_eq!(texts.len(), 2, "{texts:#?}");
    }
}
