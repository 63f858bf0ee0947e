//! Hosts as they tell of themselves: two stations, a drone, a controller, three services.

use std::net::Ipv4Addr;

use mose_pam::{BitsPerSec, Bytes, Calibration, Millis, Model, PagesPerSec};
use mose_protocol::agent::{
    Capability, ClientInfo, Hello, MessagesPerSec, Role, ServiceInfo, ServiceState, Telemetry,
};
use mose_protocol::link::{CapacityFrom, LinkMetrics, RttFrom};
use mose_protocol::metrics::{DirtyFigures, ServiceMetrics};
use mose_protocol::{HostName, Refusal, ServiceName, Timestamp};
use mose_screen::config::Config;
use mose_screen::fleet_event::FleetEvent;
use mose_screen::state::planning::Calibrated;
use mose_screen::state::{Abilities, Source, State};

/// 2026-03-14 14:02:31 UTC, when all pictures are taken.
pub(crate) const NOW: Timestamp = Timestamp(1_773_496_951_000_000);

/// So many milliseconds before the pictures are taken.
pub(crate) fn ago(ms: u64) -> Timestamp {
    Timestamp(NOW.0 - ms * 1000)
}

pub(crate) fn host(name: &str) -> HostName {
    name.parse().expect("a host's name")
}

pub(crate) fn service(name: &str) -> ServiceName {
    name.parse().expect("a service's name")
}

pub(crate) fn hello(name: &str, role: Role) -> FleetEvent {
    FleetEvent::Hello(Box::new(Hello {
        simulated: false,
        host: host(name),
        role,
        release: "0.1.0".into(),
        protocol: mose_protocol::envelope::PROTOCOL_VERSION,
        capabilities: [Capability::Containers, Capability::Overlay, Capability::Rehearsals].into(),
        underlay: [10, 0, 0, 1].into(),
        tools: vec![("criu".into(), "4.1".into())],
        started_at: ago(3_600_000),
    }))
}

/// A service with its figures: name, state in bytes, dirty pages per second.
pub(crate) type Load<'a> = (&'a str, ServiceState, u64, f64);

pub(crate) fn info(on: &str, (name, state, memory, _): Load<'_>, number: u8) -> ServiceInfo {
    ServiceInfo {
        connections: Some(1),
        name: service(name),
        host: host(on),
        state,
        image: format!("localhost/mose-{name}:latest"),
        address: format!("10.20.0.{number}/24").parse().ok(),
        memory: Some(Bytes(memory)),
        processes: Some(1),
    }
}

pub(crate) fn profile(
    on: &str,
    (name, _, memory, rate): Load<'_>,
    at: Timestamp,
    current: f64,
) -> ServiceMetrics {
    ServiceMetrics {
        service: service(name),
        host: host(on),
        at,
        state: Bytes(memory),
        dirty: DirtyFigures {
            current: PagesPerSec(current),
            mean: PagesPerSec(rate),
            worst: PagesPerSec(rate * 1.7),
        },
        working_set: Bytes(memory / 25),
        window: Millis(30_000.0),
        tracker: "write-protect (async)".into(),
        cost: 0.0031,
        files: None,
    }
}

pub(crate) fn link(to: &str, capacity: u64, used: u64, at: Timestamp) -> LinkMetrics {
    LinkMetrics {
        to: host(to),
        capacity: Some(BitsPerSec(capacity)),
        capacity_from: Some(CapacityFrom::Probe),
        capacity_at: Some(at),
        used: Some(BitsPerSec(used)),
        available: Some(BitsPerSec(capacity - used)),
        rtt: Some(Millis(0.31)),
        rtt_jitter: Some(Millis(0.05)),
        rtt_from: Some(RttFrom::Tcp),
        measured_at: at,
    }
}

/// A host's newest figures.
pub(crate) fn telemetry(
    name: &str,
    at: Timestamp,
    loads: &[Load<'_>],
    links: Vec<LinkMetrics>,
    second: u64,
) -> Telemetry {
    let running = |load: &&Load<'_>| load.1 == ServiceState::Running;
    let wave = |load: &Load<'_>| load.3 * (1.0 + 0.6 * ((second as f64) * 0.7 + load.3).sin());
    Telemetry {
        position: None,
        radio: None,
        flight: None,
        following: None,
        clients: if name == "uav" { vec![client()] } else { Vec::new() },
        host: host(name),
        at,
        services: loads.iter().zip(10..).map(|(load, number)| info(name, *load, number)).collect(),
        profiles: loads.iter().filter(running).map(|load| profile(name, *load, at, wave(load))).collect(),
        links,
        trouble: None,
    }
}

/// The client on the drone, which talks to the first service.
pub(crate) fn client() -> ClientInfo {
    ClientInfo {
        service: Ipv4Addr::new(10, 20, 0, 10),
        rate: Some(MessagesPerSec(198.0)),
        rtt: Some(Millis(1.2)),
        silent: None,
    }
}

/// What runs on the first station.
pub(crate) const LOADS: [Load<'static>; 3] = [
    ("sockperf", ServiceState::Running, 10_200_000, 187.0),
    ("counter", ServiceState::Running, 1_400_000, 12.0),
    ("redis", ServiceState::Running, 64_300_000, 1240.0),
];

/// Tells a minute of figures of the small fleet, the loads on `at`.
pub(crate) fn minute(state: &mut State, a: &[Load<'_>], b: &[Load<'_>]) {
    for second in 0..60 {
        let heard = ago((59 - second) * 1000 + 300);
        let used = 40_000_000 + 30_000_000 * (second % 7);
        for (name, other, loads) in [("edge-a", "edge-b", a), ("edge-b", "edge-a", b)] {
            let links = vec![link(other, 981_000_000, used, heard)];
            let told = telemetry(name, heard, loads, links, second);
            state.data.take(FleetEvent::Telemetry(Box::new(told)), heard);
        }
        for name in ["uav", "controller"] {
            let told = telemetry(name, heard, &[], Vec::new(), second);
            state.data.take(FleetEvent::Telemetry(Box::new(told)), heard);
        }
    }
    state.data.now = NOW;
}

pub(crate) fn introduce(state: &mut State) {
    for (name, role) in [
        ("edge-a", Role::Edge),
        ("edge-b", Role::Edge),
        ("uav", Role::Mobile),
        ("controller", Role::Controller),
    ] {
        state.data.take(FleetEvent::Seen(host(name)), ago(120_000));
        state.data.take(hello(name, role), ago(119_000));
    }
}

/// What the first station knows of migrations to the second: measured parameters that suit a lab.
pub(crate) fn calibrate(state: &mut State, from: &str, to: &str, doubt: Option<&str>) {
    let profile = Calibration { name: format!("{from} {to}"), ..Calibration::tnsm2024() };
    let known =
        Calibrated { model: Model::new(&profile), profile, own: true, doubt: doubt.map(str::to_owned) };
    state.planning.calibrations.insert((host(from), host(to)), known);
}

/// Nothing at all.
pub(crate) fn nothing() -> State {
    State::new(Source::Agents, &Config::default(), NOW)
}

/// The small fleet, in order, nothing under way.
pub(crate) fn quiet() -> State {
    let mut state = State::new(Source::Lab, &Config::default(), NOW);
    state.abilities = Abilities { lab: true, calibrate: true, follow: true };
    introduce(&mut state);
    minute(&mut state, &LOADS, &[("camera", ServiceState::Running, 23_700_000, 410.0)]);
    calibrate(&mut state, "edge-a", "edge-b", None);
    calibrate(&mut state, "edge-b", "edge-a", None);
    state.ui.service = Some(service("sockperf"));
    state.planning.set(mose_screen::state::planning::Field::Downtime, Millis(950.0));
    state.planning.set(mose_screen::state::planning::Field::Duration, Millis(5000.0));
    state
}

/// The small fleet and hosts that are not well.
pub(crate) fn ill() -> State {
    let mut state = quiet();
    for (name, role) in [("edge-c", Role::Edge), ("edge-d", Role::Edge), ("uav-2", Role::Mobile)] {
        state.data.take(FleetEvent::Seen(host(name)), ago(110_000));
        state.data.take(hello(name, role), ago(109_000));
    }
    for (name, heard) in [("edge-c", 47_000), ("edge-d", 100_000)] {
        let load = [("cache", ServiceState::Running, 4_000_000, 90.0)];
        let told = telemetry(name, ago(heard), &load, Vec::new(), 3);
        state.data.take(FleetEvent::Telemetry(Box::new(told)), ago(heard));
    }
    state.data.take(FleetEvent::Gone(host("edge-d")), ago(95_000));
    let refusal = Refusal::new(
        mose_protocol::RefusalCode::Version,
        "edge-old speaks protocol 3, and this console 7",
        "update the agent on edge-old",
    );
    state.data.take(FleetEvent::Stranger { host: host("edge-old"), refusal }, ago(90_000));
    state.data.take(FleetEvent::Seen(host("edge-new")), ago(2000));
    let mut told = telemetry(
        "edge-b",
        ago(200),
        &[
            ("batch", ServiceState::Stopped, 0, 0.0),
            ("camera", ServiceState::Running, 23_700_000, 410.0),
            ("ledger", ServiceState::InDoubt, 8_000_000, 0.0),
        ],
        vec![link("edge-a", 981_000_000, 700_000_000, ago(200))],
        60,
    );
    told.trouble = Some("the engine did not answer within 2 s".into());
    state.data.take(FleetEvent::Telemetry(Box::new(told)), ago(200));
    state.data.now = NOW;
    state
}
