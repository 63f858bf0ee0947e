//! The handover theatre: what an audience must see at each moment, at sizes from the smallest terminal to a wall.

use mose_pam::{Millis, Plan};
use mose_protocol::Timestamp;
use mose_protocol::record::Outcome;
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_screen::derived::{Act, Settled, Whose};
use mose_screen::fleet_event::{FleetEvent, Following};
use mose_screen::pane::Pane;
use mose_screen::state::{Level, State};
use mose_screen::theme::{Role, Theme};
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use crate::support::canvas::{Easel, rows, text};
use crate::support::fleet::{NOW, host, quiet, service};
use crate::support::migration::record;
use crate::support::theatre;

const SIZES: [(u16, u16); 4] = [(80, 24), (120, 40), (200, 60), (300, 80)];

/// The theatre at a size.
fn shown(state: &State, size: (u16, u16)) -> Buffer {
    let easel = Easel::new("dark");
    let mut state = state.clone();
    state.ui.layout = easel.layouts.iter().position(|layout| layout.name == "handover").expect("the layout");
    easel.focus_first(&mut state, size);
    easel.draw(&state, size).0
}

/// What is seen at every size.
fn everywhere(state: &State, wanted: &[&str]) {
    for size in SIZES {
        let picture = text(&shown(state, size));
        for wanted in wanted {
            assert!(picture.contains(wanted), "`{wanted}` at {size:?}:\n{picture}");
        }
    }
}

fn colour(role: Role) -> Color {
    Theme::load("dark").and_then(|theme| theme.style(role).fg).expect("a colour")
}

/// How many cells of that colour hold one of these glyphs.
fn painted(buffer: &Buffer, role: Role, glyphs: &[&str]) -> usize {
    buffer.content.iter().filter(|cell| cell.fg == colour(role) && glyphs.contains(&cell.symbol())).count()
}

/// How many cells of that colour hold a part of a line of the map.
fn traced(buffer: &Buffer, role: Role) -> usize {
    let dots =
        |cell: &&ratatui::buffer::Cell| cell.symbol().chars().all(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
    buffer.content.iter().filter(|cell| cell.fg == colour(role)).filter(dots).count()
}

/// The rows of the number's digits, and their colour.
fn digits(state: &State, size: (u16, u16)) -> (usize, Color) {
    let easel = Easel::new("dark");
    let buffer = easel.pane(state, Pane::Stopped, size);
    let blocks = |row: &&[ratatui::buffer::Cell]| row.iter().any(|cell| cell.symbol() == "█");
    let block = buffer.content.iter().find(|cell| cell.symbol() == "█").expect("digits");
    (rows(&buffer).filter(blocks).count(), block.fg)
}

#[test]
fn every_moment_as_it_is_drawn() {
    for (name, state) in theatre::all() {
        let picture =
            |size: &(u16, u16)| format!("── {} × {} ──\n{}\n", size.0, size.1, text(&shown(&state, *size)));
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let all: String = SIZES.iter().map(picture).collect();
        settings.bind(|| insta::assert_snapshot!(format!("theatre-{name}"), all));
    }
}

#[test]
fn before_a_handover_the_map_counts_down_and_tells_who_serves_the_vehicle() {
    let state = theatre::countdown();
    everywhere(&state, &["handover in 4 s", "edge-a", "edge-b", "uav", "sockperf", "0.4 m off", "follow"]);
    for size in SIZES {
        let picture = text(&shown(&state, size));
        assert!(
            picture.contains("in the cell of edge-a") || picture.contains("in cell of edge-a"),
            "{picture}"
        );
        assert!(picture.contains('●') && picture.contains('◆') && picture.contains('▶'), "{picture}");
    }
    let wide = text(&shown(&state, (200, 60)));
    assert!(
        wide.contains("edge-b is nearer (92 m, edge-a 97 m)") && wide.contains("handover line"),
        "{wide}"
    );
}

#[test]
fn a_handover_that_is_due_counts_no_further() {
    let mut state = theatre::countdown();
    state.data.now.0 += 9_000_000;
    everywhere(&state, &["handover due"]);
}

#[test]
fn the_deviation_is_a_kink_of_the_trail() {
    let state = theatre::countdown();
    for size in SIZES {
        let buffer = shown(&state, size);
        let (kink, trail) = (traced(&buffer, Role::Warning), traced(&buffer, Role::Mobile));
        assert!(kink >= 2 && trail > 2 * kink, "{size:?}: {kink} cells of {trail}");
    }
    // One that nobody would see is none.
    let steady = shown(&theatre::steady(), (120, 40));
    assert_eq!(traced(&steady, Role::Warning), 0);
    assert!(traced(&steady, Role::Mobile) > 20 && !text(&steady).contains("off course"));
}

#[test]
fn the_service_travels_as_a_dot_from_one_station_to_the_other() {
    let column = |state: &State| {
        let easel = Easel::new("dark");
        let map = easel.pane(state, Pane::Map, (120, 40));
        let dots = map.content.iter().enumerate().filter(|(_, cell)| cell.symbol() == "●");
        let of_service =
            |cell: &ratatui::buffer::Cell| [Role::Service, Role::Frozen].map(colour).contains(&cell.fg);
        dots.filter(|(_, cell)| of_service(cell)).map(|(place, _)| place % 120).next().unwrap()
    };
    let columns =
        [theatre::countdown(), theatre::copying(), theatre::stopped(), theatre::over()].map(|s| column(&s));
    assert_eq!(columns[0], columns[1], "it runs on where it is while it is copied");
    assert!(columns[1] < columns[2] && columns[2] < columns[3], "{columns:?}");
    let copied = shown(&theatre::copying(), (120, 40));
    assert!(traced(&copied, Role::Moving) > 5, "its copy is seen on its way");
    everywhere(&theatre::copying(), &["goes on running"]);
    everywhere(&theatre::over(), &["moved", "to edge-b just now"]);
}

#[test]
fn what_is_heard_of_only_when_its_record_was_amended_moved_when_the_record_says() {
    let mut state = theatre::countdown();
    // The source tells the end again once it knows how the vehicle flew.
    let mut told = record("m-late", Outcome::Done, Timestamp(NOW.0 - 8_400_000), 2300.0);
    told.downtime.clients.clear();
    let amended = StepEvent {
        migration: told.migration.clone(),
        seq: 40,
        host: told.from.clone(),
        step: Step::Migration,
        phase: Phase::Finished,
        at: NOW,
        bytes: None,
        round: None,
        detail: None,
        task: None,
    };
    state.data.take(FleetEvent::Step(Box::new(amended)), NOW);
    state.data.take(FleetEvent::Record(Box::new(told)), NOW);
    everywhere(&state, &["to edge-b 8 s ago"]);
}

#[test]
fn what_went_well_is_told_on_the_stage_and_not_below_it() {
    let mut state = theatre::over();
    state.notices.stage("sockperf edge-a → edge-b done in 2.90 s, downtime 184 ms", NOW);
    for size in SIZES {
        let picture = text(&shown(&state, size));
        assert!(!picture.lines().last().unwrap().contains("done in"), "{size:?}:\n{picture}");
    }
    let elsewhere = text(&Easel::new("dark").draw(&state, (120, 40)).0);
    assert!(elsewhere.lines().last().unwrap().contains("done in 2.90 s"), "{elsewhere}");
    state.notices.say(Level::Warning, "follow: edge-b has no room for it", NOW);
    everywhere(&state, &["warning: follow: edge-b has no room"]);
}

#[test]
fn the_number_is_six_rows_high_and_larger_where_there_is_room() {
    let state = theatre::over();
    assert_eq!(digits(&state, (35, 16)).0, 6);
    assert_eq!(digits(&state, (100, 40)).0, 24);
    for size in SIZES {
        let buffer = shown(&state, size);
        let block = |cell: &&ratatui::buffer::Cell| cell.symbol() == "█" && cell.fg == colour(Role::Good);
        let blocks = |row: &&[ratatui::buffer::Cell]| row.iter().filter(block).count() >= 6;
        assert!(rows(&buffer).filter(blocks).count() >= 6, "{size:?}");
    }
}

#[test]
fn the_number_is_green_where_the_promise_was_kept_and_red_where_it_was_not() {
    let size = (80, 24);
    let kept = theatre::over();
    assert_eq!(digits(&kept, size).1, colour(Role::Good));
    everywhere(&kept, &["uav", "just now", "✔ within the 310 ms"]);
    let exceeded = theatre::exceeded();
    assert_eq!(digits(&exceeded, size).1, colour(Role::Bad));
    everywhere(&exceeded, &["✘ over the"]);
    // It counts, and nothing is decided yet.
    let counting = theatre::stopped();
    assert_eq!(digits(&counting, size).1, colour(Role::Frozen));
    let mut late = counting.clone();
    late.data.now.0 += 400_000;
    assert_eq!(digits(&late, size).1, colour(Role::Bad));
    let told = |state: &State| Settled::from(state.clone()).headline();
    assert_eq!((told(&counting).time, told(&counting).whose), (Some(Millis(178.0)), Whose::Client));
    assert_eq!(told(&late).time, Some(Millis(578.0)));
    assert_eq!(told(&theatre::copying()).act, Act::Copying);
    assert_eq!(told(&theatre::copying()).time, Some(Millis(0.0)));
}

#[test]
fn without_a_client_the_number_is_the_services_own_stop_and_says_so() {
    let mut state = quiet();
    let mut told = record("m-1", Outcome::Done, NOW, 2300.0);
    told.downtime.clients.clear();
    state.data.take(FleetEvent::Record(Box::new(told)), NOW);
    let headline = Settled::from(state.clone()).headline();
    assert_eq!((headline.time, headline.whose), (Some(Millis(184.2)), Whose::Service));
    let picture = text(&Easel::new("dark").pane(&state, Pane::Stopped, (80, 24)));
    assert!(picture.contains("as its hosts saw it"), "{picture}");
}

#[test]
fn what_did_not_move_gets_no_green_number() {
    for outcome in [Outcome::RolledBack, Outcome::InDoubt, Outcome::GivenUp, Outcome::Aborted] {
        let mut state = quiet();
        state.data.take(FleetEvent::Record(Box::new(record("m-1", outcome, NOW, 2300.0))), NOW);
        let headline = Settled::from(state.clone()).headline();
        assert_ne!(headline.kept, Some(true), "{outcome:?}");
        // A service that may still be stopped is not shown as back.
        let picture = text(&shown(&state, (120, 40)));
        let over = matches!(outcome, Outcome::RolledBack | Outcome::Aborted);
        assert_eq!(picture.contains("Last handover: "), over, "{outcome:?}:\n{picture}");
        assert_eq!(picture.contains("Service stopped for"), !over, "{outcome:?}:\n{picture}");
    }
    // What was refused stopped nothing: the number stays with the handover before.
    let mut state = theatre::over();
    let mut refused = record("m-9", Outcome::Refused, NOW, 1.0);
    refused.started_at.0 += 9_000_000;
    state.data.take(FleetEvent::Record(Box::new(refused)), NOW);
    assert_eq!(Settled::from(state).headline().time, Some(Millis(203.4)));
}

#[test]
fn the_hole_is_where_the_answers_are_missing() {
    let state = theatre::over();
    let easel = Easel::new("dark");
    let buffer = easel.pane(&state, Pane::Requests, (100, 10));
    // 5 ms a request: 203 ms are 41 cells.
    let row = rows(&buffer).find(|row| row.iter().any(|cell| cell.symbol() == "▓")).unwrap();
    let holes = row.iter().filter(|cell| cell.symbol() == "▓" && cell.fg == colour(Role::Frozen)).count();
    let answers = row.iter().filter(|cell| cell.symbol() == "▊" && cell.fg == colour(Role::Good)).count();
    assert_eq!((holes, answers), (41, 98 - 41));
    let picture = text(&buffer);
    assert!(
        picture.contains("203 ms of silence") && picture.contains("✔ 0 lost, connection kept"),
        "{picture}"
    );
    everywhere(&state, &["✔ 0 lost, connection kept"]);
    everywhere(&theatre::exceeded(), &["✘ connection cut (1 reset)"]);
}

#[test]
fn where_the_answers_were_not_kept_nothing_is_made_up() {
    let mut state = theatre::over();
    let mut told = theatre::watched("m-7f3a", Plan::cold(), 203.4, 0);
    told.downtime.clients[0].answers_ms.clear();
    state.data.take(FleetEvent::Record(Box::new(told)), NOW);
    let buffer = Easel::new("dark").pane(&state, Pane::Requests, (100, 10));
    assert!(painted(&buffer, Role::Frozen, &["▓"]) > 0);
    assert_eq!(painted(&buffer, Role::Good, &["▊"]), 0);
    assert!(text(&buffer).contains("the answers around it were not kept"), "{}", text(&buffer));
}

#[test]
fn while_a_client_waits_the_hole_grows_at_the_right() {
    let state = theatre::stopped();
    let holes = |state: &State| {
        let buffer = Easel::new("dark").pane(state, Pane::Requests, (120, 10));
        painted(&buffer, Role::Frozen, &["▓"])
    };
    let mut later = state.clone();
    later.data.now.0 += 100_000;
    assert!(holes(&state) > 0 && holes(&later) > holes(&state));
    everywhere(&state, &["uav waits for an answer, for 178 ms"]);
}

#[test]
fn what_a_client_reported_before_the_freeze_is_not_shown_as_current() {
    // It has not reported since the freeze, or too early to notice that it waits.
    let mut state = theatre::stopped();
    state.data.take(theatre::vehicle(0, None, 0.06), NOW);
    let pane = |state: &State, pane| Easel::new("dark").pane(state, pane, (120, 10));
    let requests = pane(&state, Pane::Requests);
    assert!(text(&requests).contains("the service is stopped: nothing answers uav"), "{}", text(&requests));
    assert!(painted(&requests, Role::Frozen, &["▓"]) > 0);
    everywhere(&state, &["no answer now"]);
    // The service is back; the client has not reported since.
    let back = theatre::back();
    let requests = text(&pane(&back, Pane::Requests));
    assert!(requests.contains("the service is back: uav is yet to say so"), "{requests}");
    assert!(text(&pane(&back, Pane::RoundTrip)).contains("not known now"));
    let mut told = back;
    let now = told.data.now;
    told.data.take(theatre::vehicle(0, None, 0.06), now);
    let requests = text(&pane(&told, Pane::Requests));
    assert!(requests.contains("✔ uav is answered"), "{requests}");
}

#[test]
fn a_client_that_waits_now_counts_for_more_than_a_handover_that_is_over() {
    let mut state = theatre::over();
    state.data.take(theatre::vehicle(0, Some(Millis(4200.0)), 0.06), NOW);
    everywhere(&state, &["uav waits for an answer, for 4.20 s"]);
}

#[test]
fn the_round_trip_climbs_and_its_newest_figure_is_told() {
    let state = theatre::countdown();
    everywhere(&state, &["ms now", "highest"]);
    let silent = Easel::new("dark").pane(&theatre::stopped(), Pane::RoundTrip, (80, 24));
    assert!(text(&silent).contains("no answer now"), "{}", text(&silent));
    let trips = &state.data.fleet.host(&host("uav")).unwrap().trips;
    assert_eq!(trips.len(), 1);
}

#[test]
fn the_last_handovers_stand_one_above_the_other_to_one_scale() {
    let mut state = theatre::over();
    let mut simulated = theatre::watched(
        "m-pre",
        Plan { strategy: mose_pam::Strategy::Precopy, ..Plan::cold() },
        760.0,
        50_000,
    );
    simulated.simulated = true;
    state.data.take(FleetEvent::Record(Box::new(simulated)), NOW);
    let buffer = Easel::new("dark").pane(&state, Pane::Runs, (120, 14));
    let picture = text(&buffer);
    let of = |label: &str| {
        let row = rows(&buffer)
            .find(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().contains(label));
        let row = row.unwrap_or_else(|| panic!("{label}:\n{picture}"));
        let begin = row.iter().position(|cell| cell.symbol() == "▓").unwrap();
        (begin, row.iter().filter(|cell| cell.symbol() == "▓").count())
    };
    let (cold, precopy, rounds) = (of("cold"), of("pre-copy "), of("pre-copy, 5 rounds"));
    assert_eq!((cold.0, precopy.0), (rounds.0, rounds.0), "they begin below one another");
    assert!(
        (cold.1 as f64 / precopy.1 as f64 - 2.0).abs() < 0.1 && precopy.1 > rounds.1,
        "{cold:?} {precopy:?}"
    );
    assert!(picture.contains("simulated") && !picture.contains("by hand"), "{picture}");
    // What was moved by hand is another service.
    let mut by_hand = theatre::watched("m-hand", Plan::cold(), 3100.0, 40_000);
    (by_hand.by_hand, by_hand.service) = (true, service("sockperf-hand"));
    state.data.take(FleetEvent::Record(Box::new(by_hand)), NOW);
    let picture = text(&Easel::new("dark").pane(&state, Pane::Runs, (120, 14)));
    let first = picture.lines().find(|line| line.contains("▓")).unwrap();
    assert!(first.contains("by hand") && first.contains("3.10 s"), "{picture}");
}

#[test]
fn a_service_that_does_not_follow_says_so_with_the_reason() {
    let mut state = theatre::countdown();
    let mut following =
        Following { service: service("sockperf"), mobile: host("uav"), on: false, trouble: None, next: None };
    state.data.take(FleetEvent::Following(Box::new(following.clone())), NOW);
    let wide = text(&shown(&state, (200, 60)));
    assert!(wide.contains("following is off") && wide.contains("sockperf runs at edge-a"), "{wide}");
    (following.on, following.trouble) = (true, Some("edge-b has no room for it".into()));
    state.data.take(FleetEvent::Following(Box::new(following)), NOW);
    everywhere(&state, &["edge-b has no room for it"]);
}

#[test]
fn a_station_or_vehicle_that_is_not_well_says_so_on_the_map() {
    let mut state = theatre::countdown();
    state.data.take(FleetEvent::Gone(host("edge-b")), NOW);
    everywhere(&state, &["edge-b lost"]);
    state.data.now.0 += 60_000_000;
    everywhere(&state, &["uav stale", "edge-a stale"]);
}

#[test]
fn without_places_the_stations_are_shown_and_that_this_is_no_map() {
    let picture = text(&Easel::new("dark").pane(&quiet(), Pane::Map, (120, 40)));
    for wanted in ["edge-a", "edge-b", "uav", "not to scale", "● sockperf"] {
        assert!(picture.contains(wanted), "{wanted}:\n{picture}");
    }
    assert!(!picture.contains("handover line"), "{picture}");
}
