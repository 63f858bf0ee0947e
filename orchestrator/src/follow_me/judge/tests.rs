use mose_protocol::agent::ServiceInfo;

use super::*;
use crate::follow_me::stand_in::{NOW, edge, flying, host, in_cell, later, mobile, service, sight};

fn pair() -> Pair {
    Pair { service: "web".parse().unwrap(), mobile: host("uav"), between: Vec::new() }
}

/// The service in a state at `a`, and the UAV hovering at `x`.
fn told(x: f64, state: ServiceState) -> Sight {
    let mut sight = sight();
    sight.take(edge("a", -100.0, &[ServiceInfo { state, ..service("web", 20) }]), NOW);
    sight.take(edge("b", 100.0, &[]), NOW);
    sight.take(mobile("uav", x, &[20]), NOW);
    sight
}

/// It is where it should be, and nothing else is to be foreseen.
fn settled() -> Verdict {
    Verdict { settled: true, ..Verdict::default() }
}

fn judged(sight: &Sight) -> Verdict {
    Judge::default().judge(sight, &pair(), NOW)
}

fn hindrance(verdict: &Verdict) -> String {
    assert!(!verdict.go, "{verdict:?}");
    match &verdict.hindrance {
        Some(Hindrance::Sure(text)) => text.clone(),
        Some(Hindrance::Passing(text)) => format!("({text})"),
        None => String::new(),
    }
}

#[test]
fn a_service_goes_to_the_station_in_whose_half_its_mobile_host_is() {
    assert_eq!(judged(&told(-50.0, ServiceState::Running)), settled());
    assert_eq!(judged(&told(0.5, ServiceState::Running)), settled(), "hardly nearer");
    let verdict = judged(&told(20.0, ServiceState::Running));
    let next = verdict.next.unwrap();
    assert!(verdict.go && verdict.hindrance.is_none());
    assert_eq!((next.from.as_str(), next.to.as_str(), next.at), ("a", "b", NOW));
    assert_eq!(next.why, "b is nearer to uav (80 m, a 120 m)");
}

#[test]
fn the_cell_that_serves_it_is_believed_rather_than_the_distance() {
    let mut sight = told(-50.0, ServiceState::Running);
    sight.take(in_cell(edge("b", 100.0, &[]), 2), NOW);
    let web = edge("a", -100.0, &[service("web", 20)]);
    sight.take(in_cell(web.clone(), 1), NOW);
    sight.take(in_cell(mobile("uav", -50.0, &[20]), 2), NOW);
    let verdict = judged(&sight);
    assert!(verdict.go);
    assert_eq!(verdict.next.unwrap().why, "cell 2 serves uav");
    // At the cell of its own station it stays, however near another one is.
    sight.take(in_cell(mobile("uav", 50.0, &[20]), 1), NOW);
    assert!(!judged(&sight).go);
    // A cell at which no station stands says nothing: the distance does.
    sight.take(in_cell(mobile("uav", 50.0, &[20]), 9), NOW);
    assert!(judged(&sight).go);
    // Without a position the cell is enough.
    let blind = Telemetry { position: None, ..in_cell(mobile("uav", 0.0, &[20]), 2) };
    sight.take(blind, NOW);
    assert!(judged(&sight).go);
}

#[test]
fn the_next_move_is_foreseen_with_its_time() {
    let mut sight = told(0.0, ServiceState::Running);
    sight.take(flying(mobile("uav", -48.5, &[20]), 90.0, 10.0), NOW);
    let next = judged(&sight).next.unwrap();
    assert_eq!((next.from.as_str(), next.to.as_str()), ("a", "b"));
    assert!((next.at.since(NOW).0 - 5000.0).abs() < 30.0, "{:?}", next.at.since(NOW));
    assert!(next.why.contains("b will be nearer"), "{}", next.why);
    sight.take(flying(mobile("uav", -48.5, &[20]), 270.0, 10.0), NOW);
    assert_eq!(judged(&sight).next, None);
}

#[test]
fn a_service_that_is_being_moved_in_doubt_or_stopped_is_left_alone_and_that_is_said() {
    for (state, said) in [
        (ServiceState::Migrating, "web is being migrated from a already: waiting"),
        (ServiceState::InDoubt, "web is in doubt at a: decide for a side first"),
        (ServiceState::Stopped, "web is stopped at a"),
    ] {
        assert_eq!(hindrance(&judged(&told(50.0, state))), said);
    }
    let mut sight = told(50.0, ServiceState::Running);
    sight.take(edge("b", 100.0, &[service("web", 20)]), NOW);
    assert_eq!(hindrance(&judged(&sight)), "(web runs at a and at b)");
}

#[test]
fn what_is_stale_or_gone_is_not_acted_on() {
    let pair = pair();
    let late = later(4000);
    let web = || edge("a", -100.0, &[service("web", 20)]);
    // All but the UAV tell on.
    let mut sight = told(50.0, ServiceState::Running);
    sight.take(web(), late);
    sight.take(edge("b", 100.0, &[]), late);
    let verdict = Judge::default().judge(&sight, &pair, late);
    assert_eq!(hindrance(&verdict), "uav has told nothing for some seconds: web stays at a");
    assert_eq!(verdict.next, None);
    sight.gone(&host("uav"));
    assert_eq!(
        hindrance(&Judge::default().judge(&sight, &pair, late)),
        "uav is disconnected: web stays at a"
    );
    // It is back, and does not tell where it is.
    sight.take(Telemetry { position: None, ..mobile("uav", 0.0, &[20]) }, late);
    let verdict = Judge::default().judge(&sight, &pair, late);
    assert_eq!(hindrance(&verdict), "(uav does not tell where it is)");
    // The station of the service falls silent, then that of the cell.
    let mut sight = told(50.0, ServiceState::Running);
    sight.take(mobile("uav", 50.0, &[20]), late);
    sight.take(edge("b", 100.0, &[]), late);
    let verdict = Judge::default().judge(&sight, &pair, late);
    assert_eq!(hindrance(&verdict), "a has told nothing for some seconds, and web ran there");
    let mut sight = told(50.0, ServiceState::Running);
    sight.take(in_cell(edge("b", 100.0, &[]), 2), NOW);
    sight.gone(&host("b"));
    sight.take(in_cell(mobile("uav", 50.0, &[20]), 2), NOW);
    assert_eq!(hindrance(&judged(&sight)), "cell 2 serves uav, but b is disconnected");
}

/// A UAV that is 3 m within the other half, with this heading now and a turn in degrees per second, as told ten times a second.
fn visit(now: f64, turn: f64) -> Sight {
    let mut sight = told(0.0, ServiceState::Running);
    for step in 0..20_u32 {
        let heading = (now + turn * f64::from(step) * 0.1 - turn * 1.9).rem_euclid(360.0);
        let told = flying(mobile("uav", 3.0, &[20]), heading, 10.0);
        sight.take(Telemetry { at: later(u64::from(step) * 100), ..told }, NOW);
    }
    sight
}

#[test]
fn one_that_flies_back_at_once_is_not_followed_back_and_forth() {
    // Round 10 m of radius, to the west: back in a second, and a migration takes longer.
    let sight = visit(0.0, -57.3);
    let mut judge = Judge::default();
    let verdict = judge.judge(&sight, &pair(), NOW);
    assert_eq!(hindrance(&verdict), "uav flies back to a before a move to b would be done");
    // What is foreseen may be wrong: if it has lasted, it goes.
    let mut again = sight.clone();
    let late = later(3100);
    again.take(edge("a", -100.0, &[service("web", 20)]), late);
    again.take(edge("b", 100.0, &[]), late);
    assert!(judge.judge(&again, &pair(), late).go);
    // Where a migration takes a moment, it is worth it.
    let mut quick = Judge::default();
    quick.moved(host("x"), host("a"), Millis(300.0), Timestamp(0));
    assert!(quick.judge(&sight, &pair(), NOW).go);
    // One that flies on stays longer than that.
    assert!(judged(&visit(90.0, 0.0)).go);
}

#[test]
fn a_move_back_right_after_a_move_waits_until_the_wish_has_lasted() {
    let sight = told(20.0, ServiceState::Running);
    let mut judge = Judge::default();
    judge.moved(host("b"), host("a"), Millis(800.0), Timestamp(NOW.0 - 500_000));
    let verdict = judge.judge(&sight, &pair(), NOW);
    assert_eq!((verdict.go, verdict.next.unwrap().at), (false, NOW));
    assert!(judge.judge(&sight, &pair(), later(1600)).go);
    // To yet another station, it goes at once.
    let mut judge = Judge::default();
    judge.moved(host("c"), host("a"), Millis(800.0), Timestamp(NOW.0 - 500_000));
    assert!(judge.judge(&sight, &pair(), NOW).go);
}

#[test]
fn what_was_told_before_a_migration_ended_says_nothing_of_where_the_service_is() {
    let sight = told(20.0, ServiceState::Running);
    let mut judge = Judge::default();
    judge.ended(NOW);
    assert_eq!(judge.judge(&sight, &pair(), later(100)), Verdict::default());
    let mut sight = sight;
    sight.take(edge("b", 100.0, &[service("web", 20)]), later(200));
    sight.take(edge("a", -100.0, &[]), later(200));
    assert_eq!(judge.judge(&sight, &pair(), later(300)), settled());
}

#[test]
fn only_the_stations_that_are_named_are_gone_to() {
    let mut pair = pair();
    pair.between = vec![host("a"), host("c")];
    let mut sight = told(50.0, ServiceState::Running);
    assert_eq!(Judge::default().judge(&sight, &pair, NOW), settled());
    sight.take(edge("c", 60.0, &[]), NOW);
    let next = Judge::default().judge(&sight, &pair, NOW).next;
    assert_eq!(next.unwrap().to.as_str(), "c");
}
