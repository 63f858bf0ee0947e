//! A vehicle that circles between two stations, and the service that follows it: the moments of a handover as an audience sees it.

use std::f64::consts::TAU;

use mose_pam::{Metres, MetresPerSec, Millis, Plan};
use mose_protocol::Timestamp;
use mose_protocol::agent::{Cell, ClientInfo, Heading, Position, Radio, Role, ServiceState};
use mose_protocol::flight::FlightError;
use mose_protocol::record::{ClientGap, Outcome, Record};
use mose_protocol::step::Step;
use mose_screen::config::Config;
use mose_screen::fleet_event::{FleetEvent, Following, NextMove};
use mose_screen::state::{Source, State};

use super::fleet::{NOW, ago, client, hello, host, service, telemetry};
use super::migration::{self, end, frozen_at, record, rows, run};

/// Where the stations stand, and how the vehicle flies: metres, and metres per second.
const STATION: f64 = 120.0;
const RADIUS: f64 = 100.0;
const SPEED: f64 = 10.0;

/// All of them, with their names.
pub(crate) fn all() -> Vec<(&'static str, State)> {
    vec![
        ("countdown", countdown()),
        ("copying", copying()),
        ("stopped", stopped()),
        ("over", over()),
        ("exceeded", exceeded()),
    ]
}

/// Where the vehicle is so many seconds before now: it is about to cross the line between the stations, eastwards.
fn place(seconds: f64) -> Position {
    let bearing = -0.3 - SPEED * seconds / RADIUS;
    Position {
        x: Metres(RADIUS * bearing.sin()),
        y: Metres(RADIUS * bearing.cos()),
        heading: Heading((bearing / TAU * 360.0 + 90.0).rem_euclid(360.0)),
        speed: MetresPerSec(SPEED),
    }
}

/// The vehicle's figures so many milliseconds before now; half a minute ago it was so many metres off its course.
pub(crate) fn vehicle(back: u64, silent: Option<Millis>, astray: f64) -> FleetEvent {
    let seconds = back as f64 / 1e3;
    let here = place(seconds);
    let station = |x: f64| (here.x.0 - x).hypot(here.y.0);
    let (cell, far) = match here.x.0 {
        x if x < 0.0 => (1, station(-STATION)),
        _ => (2, station(STATION)),
    };
    let off = if (30.0..32.0).contains(&seconds) { astray } else { 0.06 };
    FleetEvent::Telemetry(Box::new(mose_protocol::agent::Telemetry {
        position: Some(here),
        radio: Some(Radio { cell: Cell(cell), signal_percent: Some(63) }),
        flight: Some(FlightError { deviation_m: Metres(off), cross_track_m: Some(Metres(0.02)) }),
        clients: vec![ClientInfo { rtt: Some(Millis(3.0 + far * far / 3000.0)), silent, ..client() }],
        ..telemetry("uav", ago(back), &[], Vec::new(), 0)
    }))
}

fn station(name: &str, x: f64, cell: u16, state: Option<ServiceState>, back: u64) -> FleetEvent {
    let load = state.map(|state| ("sockperf", state, 10_200_000, 187.0));
    FleetEvent::Telemetry(Box::new(mose_protocol::agent::Telemetry {
        position: Some(Position { x: Metres(x), ..Position::default() }),
        radio: Some(Radio { cell: Cell(cell), signal_percent: None }),
        ..telemetry(name, ago(back), load.as_slice(), Vec::new(), 0)
    }))
}

/// A minute and a half of flight, with the service at one of the stations.
fn flown(at_first: Option<ServiceState>, at_second: Option<ServiceState>) -> State {
    flown_with(at_first, at_second, 0.42)
}

/// A flight on which nothing disturbed the vehicle.
pub(crate) fn steady() -> State {
    flown_with(Some(ServiceState::Running), None, 0.06)
}

fn flown_with(at_first: Option<ServiceState>, at_second: Option<ServiceState>, astray: f64) -> State {
    let mut state = State::new(Source::Lab, &Config::default(), NOW);
    for (name, role) in [("edge-a", Role::Edge), ("edge-b", Role::Edge), ("uav", Role::Mobile)] {
        state.data.take(FleetEvent::Seen(host(name)), ago(120_000));
        state.data.take(hello(name, role), ago(119_000));
    }
    for back in (0..180).rev().map(|half| half * 500) {
        state.data.take(vehicle(back, None, astray), ago(back));
        state.data.take(station("edge-a", -STATION, 1, at_first, back), ago(back));
        state.data.take(station("edge-b", STATION, 2, at_second, back), ago(back));
    }
    state.ui.service = Some(service("sockperf"));
    state.data.now = NOW;
    follow(&mut state, None);
    state
}

fn follow(state: &mut State, next: Option<NextMove>) {
    let following =
        Following { service: service("sockperf"), mobile: host("uav"), on: true, trouble: None, next };
    state.data.take(FleetEvent::Following(Box::new(following)), NOW);
}

/// A record whose client was watched, with its answers.
pub(crate) fn watched(name: &str, plan: Plan, gap: f64, back: u64) -> Record {
    let mut told = record(name, Outcome::Done, ago(back), 2900.0);
    told.plan = plan;
    let before = (0..100).rev().map(|n| -5.0 * f64::from(n));
    let after = (0..100).map(|n| gap + 5.0 * f64::from(n));
    told.downtime.clients = vec![ClientGap {
        gap: Some(Millis(gap)),
        answers_ms: before.chain(after).map(Millis).collect(),
        ..told.downtime.clients[0].clone()
    }];
    told
}

/// Earlier handovers: one cold, one by rounds.
fn earlier(state: &mut State) {
    for told in
        [watched("m-cold", Plan::cold(), 1520.0, 300_000), watched("m-1", migration::plan(5), 196.0, 200_000)]
    {
        state.data.take(FleetEvent::Record(Box::new(told)), ago(100_000));
    }
    state.data.now = NOW;
}

/// Four seconds before the next handover.
pub(crate) fn countdown() -> State {
    let mut state = flown(Some(ServiceState::Running), None);
    earlier(&mut state);
    let next = NextMove {
        from: host("edge-a"),
        to: host("edge-b"),
        at: Timestamp(NOW.0 + 3_600_000),
        why: "edge-b is nearer (92 m, edge-a 97 m)".into(),
    };
    follow(&mut state, Some(next));
    state
}

/// The service is copied, and runs on.
pub(crate) fn copying() -> State {
    let mut state = flown(Some(ServiceState::Migrating), None);
    earlier(&mut state);
    run(&mut state, 1650.0);
    state
}

/// The service is stopped, and its client waits.
pub(crate) fn stopped() -> State {
    let mut state = flown(Some(ServiceState::Migrating), None);
    earlier(&mut state);
    run(&mut state, frozen_at() + 170.0);
    state.data.take(vehicle(0, Some(Millis(178.0)), 0.06), NOW);
    state
}

/// Just back at its destination; its client has not reported since.
pub(crate) fn back() -> State {
    let mut state = flown(Some(ServiceState::Migrating), None);
    earlier(&mut state);
    state.data.now.0 += 400_000;
    let released = rows().iter().find(|row| row.1 == Step::Release).map_or(0.0, |row| row.3);
    run(&mut state, released + 20.0);
    state
}

/// It has moved.
pub(crate) fn over() -> State {
    let mut state = flown(None, Some(ServiceState::Running));
    earlier(&mut state);
    let whole = rows().last().map_or(0.0, |row| row.3);
    run(&mut state, whole);
    end(&mut state, Outcome::Done, whole - 86.0);
    let mut told = watched("m-7f3a", migration::plan(5), 203.4, 0);
    told.flights.clear();
    state.data.take(FleetEvent::Record(Box::new(told)), NOW);
    state
}

/// It was stopped for longer than was promised, and its client had to connect anew.
pub(crate) fn exceeded() -> State {
    let mut state = over();
    let mut told = watched("m-7f3a", migration::plan(5), 734.0, 0);
    told.downtime.clients[0].resets = 1;
    told.downtime.clients[0].accepted = 1;
    state.data.take(FleetEvent::Record(Box::new(told)), NOW);
    state
}
