//! A service that follows its mobile host: the key, the badge, the notices, and metres at the vehicle's own speed.

use mose_pam::{Metres, MetresPerSec, Millis};
use mose_protocol::Timestamp;
use mose_protocol::agent::{Heading, Position};
use mose_screen::action::Action;
use mose_screen::effect::Effect;
use mose_screen::event::Event;
use mose_screen::fleet_event::{Decision, FleetEvent, Following, NextMove};
use mose_screen::state::{Level, State};

use crate::support::fleet::{NOW, ago, host, quiet, service, telemetry};
use crate::support::moments::{self, with_past};
use crate::typed::Typist;

/// The UAV at a place, with this speed.
fn flies(speed: f64, at: Timestamp) -> FleetEvent {
    let mut told = telemetry("uav", at, &[], Vec::new(), 1);
    let (x, y) = (Metres(0.0), Metres(50.0));
    told.position = Some(Position { x, y, heading: Heading(90.0), speed: MetresPerSec(speed) });
    FleetEvent::Telemetry(Box::new(told))
}

/// The small fleet with a UAV that flies at 10 m/s.
fn flying() -> State {
    let mut state = with_past(quiet());
    state.data.take(flies(10.0, ago(100)), ago(100));
    state.data.now = NOW;
    state
}

fn told(on: bool) -> Following {
    Following { service: service("sockperf"), mobile: host("uav"), on, trouble: None, next: None }
}

fn tells(following: Following) -> Event {
    Event::Fleet(FleetEvent::Following(Box::new(following)))
}

/// A console that is told that the service follows.
fn following() -> Typist {
    let mut typist = Typist::at(flying());
    typist.take(tells(told(false)));
    typist.types("A");
    typist.take(tells(told(true)));
    typist
}

fn notices(typist: &Typist) -> Vec<(Level, String)> {
    let all = typist.app.state().notices.all().filter(|notice| notice.text.starts_with("follow"));
    all.map(|notice| (notice.level, notice.text.clone())).collect()
}

#[test]
fn a_key_switches_it_on_for_what_is_wanted_and_off_again() {
    let mut typist = Typist::at(flying());
    typist.hides("follow o");
    typist.take(tells(told(false)));
    typist.shows("follow off");
    assert!(notices(&typist).is_empty());
    let effects = typist.types("A");
    let [Effect::Follow(Some(aim))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((aim.downtime, aim.duration), (Millis(950.0), Millis(5000.0)));
    assert_eq!((aim.selected.clone(), aim.deviation), (Some(service("sockperf")), None));
    // It is on once that is told.
    typist.shows("follow off");
    typist.take(tells(told(true)));
    typist.shows("follow on");
    assert_eq!(notices(&typist), [(Level::Info, "follow on: sockperf follows uav".to_owned())]);
    assert_eq!(typist.types("A"), [Effect::Follow(None)]);
    typist.take(tells(told(false)));
    typist.shows("follow off");
    assert!(notices(&typist).contains(&(Level::Info, "follow off: sockperf stays where it is".to_owned())));
}

#[test]
fn what_is_wanted_on_the_screen_goes_to_it_whenever_it_changes() {
    let mut off = Typist::at(flying());
    off.take(tells(told(false)));
    assert_eq!(off.types("] o"), [], "while it is off, nobody needs to know");
    let mut typist = following();
    assert_eq!(typist.take(Event::Tick), []);
    let effects = typist.types("]");
    let [Effect::Aim(aim)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(aim.downtime, Millis(1000.0));
    let effects = typist.types("o");
    assert!(matches!(&effects[..], [Effect::Aim(_)]), "{effects:?}");
    assert_eq!(typist.take(Event::Tick), []);
    // To whoever follows from now on, all is new.
    typist.app.state_mut().aimed = None;
    assert!(matches!(&typist.take(Event::Tick)[..], [Effect::Aim(_)]));
}

#[test]
fn the_badge_counts_down_to_the_next_move_and_says_when_it_waits() {
    let mut typist = following();
    let next = |ms: u64| NextMove {
        from: host("edge-a"),
        to: host("edge-b"),
        at: Timestamp(NOW.0 + ms * 1000),
        why: "edge-b will be nearer to uav than edge-a".into(),
    };
    typist.take(tells(Following { next: Some(next(4000)), ..told(true) }));
    typist.shows("follow on · next move to edge-b in 4 s");
    typist.take(tells(Following { next: Some(next(0)), ..told(true) }));
    typist.shows("follow on · next move to edge-b now");
    let why = "uav has told nothing for some seconds: sockperf stays at edge-a";
    let waits = || tells(Following { trouble: Some(why.into()), ..told(true) });
    for _ in 0..5 {
        typist.take(waits());
    }
    typist.shows("follow on · waits");
    let said = notices(&typist).into_iter().filter(|(_, text)| text.contains(why)).collect::<Vec<_>>();
    assert_eq!(said, [(Level::Warning, format!("follow: {why}"))]);
    let counted = typist.app.state().notices.all().find(|notice| notice.text.contains(why)).map(|n| n.times);
    assert_eq!(counted, Some(1), "once, and not every second");
    // It is well again, and then not.
    typist.take(tells(told(true)));
    typist.take(waits());
    assert_eq!(notices(&typist).iter().filter(|(_, text)| text.contains(why)).count(), 1);
    let counted = typist.app.state().notices.all().find(|notice| notice.text.contains(why)).map(|n| n.times);
    assert_eq!(counted, Some(2));
}

#[test]
fn the_badge_fits_where_there_is_little_room_and_is_told_in_ascii() {
    let mut typist = Typist::sized(flying(), (80, 24));
    let next = NextMove {
        from: host("edge-a"),
        to: host("edge-b"),
        at: Timestamp(NOW.0 + 12_000_000),
        why: "it is nearer".into(),
    };
    typist.take(tells(Following { next: Some(next), ..told(true) }));
    typist.shows("follow on · next move to edge-b in 12 s");
}

#[test]
fn each_decision_is_a_notice_with_its_reason() {
    let mut typist = following();
    typist.take(Event::Fleet(FleetEvent::Decided(Box::new(Decision {
        service: service("sockperf"),
        from: host("edge-a"),
        to: host("edge-b"),
        why: "cell 2 serves uav; pre-copy, 3 rounds, worst case 180 ms".into(),
    }))));
    let text = "follow: sockperf edge-a → edge-b: cell 2 serves uav; pre-copy, 3 rounds, worst case 180 ms";
    assert_eq!(notices(&typist).last(), Some(&(Level::Info, text.to_owned())));
    typist.shows("follow: sockperf edge-a → edge-b: cell 2 serves uav");
}

#[test]
fn it_is_refused_with_the_reason_where_it_makes_no_sense() {
    let reason = |state: State| {
        let typist = Typist::at(state);
        typist.app.state().enabled(Action::Follow).map_err(str::to_owned)
    };
    assert_eq!(reason(flying()), Ok(()));
    assert_eq!(reason(with_past(quiet())).unwrap_err(), "no mobile host tells where it is");
    let mut state = flying();
    state.abilities.follow = false;
    assert_eq!(reason(state).unwrap_err(), "there are no agents to follow with");
    let mut state = flying();
    state.read_only = true;
    assert_eq!(reason(state).unwrap_err(), "the console was started with --read-only");
    let mut state = flying();
    state.source = moments::replay().source;
    assert_eq!(reason(state).unwrap_err(), "this is a replay: there are no agents");
    // What follows can be told not to, whatever has become of its mobile host.
    let mut typist = following();
    typist.take(Event::Fleet(FleetEvent::Gone(host("uav"))));
    assert_eq!(typist.types("A"), [Effect::Follow(None)]);
}

#[test]
fn a_target_in_metres_is_of_the_speed_that_the_vehicle_tells_and_follows_it() {
    let mut typist = Typist::at(flying());
    typist.types("u t 2 Enter");
    typist.shows("2.00 m off the path at 10 m/s (uav)");
    let downtime = |typist: &Typist| typist.app.state().planning.downtime;
    assert_eq!(downtime(&typist), Millis(200.0));
    // It flies slower: the same metres are a longer time, and that is planned for.
    typist.take(Event::Fleet(flies(5.0, NOW)));
    assert_eq!(downtime(&typist), Millis(400.0));
    typist.shows("2.00 m off the path at 5 m/s (uav)");
    let effects = typist.types("A");
    let [Effect::Follow(Some(aim))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(aim.deviation.map(|(metres, _)| metres), Some(Metres(2.0)));
    // What is typed and left is as before, also in metres.
    typist.types("t 9 Esc");
    assert_eq!(
        (downtime(&typist), typist.app.state().planning.deviation()),
        (Millis(400.0), Some(Metres(2.0)))
    );
    // A time is a time, however fast it flies.
    typist.types("]");
    assert_eq!(typist.app.state().planning.deviation(), None);
    let stepped = downtime(&typist);
    typist.take(Event::Fleet(flies(10.0, Timestamp(NOW.0 + 1_000_000))));
    assert_eq!(downtime(&typist), stepped);
    // Of one that hovers, or does not tell, the speed is the configured one, and that is said.
    typist.take(Event::Fleet(flies(0.1, Timestamp(NOW.0 + 2_000_000))));
    typist.shows("at 5 m/s (set)");
}

#[test]
fn what_another_orchestrator_has_follow_is_shown_and_not_taken_from_it() {
    let mut typist = Typist::at(flying());
    let elsewhere = || Event::Fleet(FleetEvent::FollowingElsewhere(Box::new(told(true))));
    typist.take(tells(told(false)));
    typist.take(elsewhere());
    // This console's own follower says again and again that it is off.
    typist.take(tells(told(false)));
    typist.take(elsewhere());
    typist.shows("follow on");
    let said =
        |typist: &Typist| -> Vec<String> { notices(typist).into_iter().map(|(_, text)| text).collect() };
    let on = "follow on: sockperf follows uav (another console or command)".to_owned();
    assert_eq!(said(&typist), [on]);
    typist.types("A");
    assert!(typist.app.state().aimed.is_none(), "it is not switched on a second time");
    // It is over there.
    typist.take(Event::Fleet(FleetEvent::FollowingElsewhere(Box::new(told(false)))));
    typist.shows("follow off");
    assert!(
        said(&typist)
            .contains(&"follow off: sockperf stays where it is (another console or command)".to_owned())
    );
}

#[test]
fn where_this_console_has_it_follow_another_one_takes_nothing_from_it() {
    let mut typist = following();
    let before = notices(&typist);
    for on in [true, false, true] {
        typist.take(Event::Fleet(FleetEvent::FollowingElsewhere(Box::new(told(on)))));
        typist.shows("follow on");
    }
    assert_eq!(notices(&typist), before, "and nothing is said of it");
    typist.types("A");
    typist.take(tells(told(false)));
    assert!(notices(&typist).iter().any(|(_, text)| text == "follow off: sockperf stays where it is"));
}

#[test]
fn one_that_falls_silent_elsewhere_counts_no_more() {
    let mut data = flying().data;
    let elsewhere = FleetEvent::FollowingElsewhere(Box::new(told(true)));
    for event in [FleetEvent::Following(Box::new(told(false))), elsewhere] {
        data.take(event, NOW);
    }
    assert!(data.following().unwrap().on);
    let later = Timestamp(NOW.0 + 4_000_000);
    data.take(flies(10.0, later), later);
    assert!(!data.following().unwrap().on);
}
