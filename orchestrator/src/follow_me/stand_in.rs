//! Hosts as these tests tell of them.

use mose_pam::{Metres, MetresPerSec};
use mose_protocol::agent::{
    Cell, ClientInfo, Heading, Position, Radio, Role, ServiceInfo, ServiceState, Telemetry,
};
use mose_protocol::{HostName, Timestamp};

use super::sight::Sight;

/// When all is told, unless it is said.
pub(super) const NOW: Timestamp = Timestamp(1_000_000_000);

/// So many milliseconds after that.
pub(super) fn later(ms: u64) -> Timestamp {
    Timestamp(NOW.0 + ms * 1000)
}

pub(super) fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// Two stations and a UAV that have introduced themselves and told nothing yet.
pub(super) fn sight() -> Sight {
    let mut sight = Sight::default();
    for (name, role) in [("a", Role::Edge), ("b", Role::Edge), ("uav", Role::Mobile)] {
        sight.seen(&host(name));
        sight.introduced(&host(name), role);
    }
    sight
}

/// A service that runs, at the address 10.77.0.`last`.
pub(super) fn service(name: &str, last: u8) -> ServiceInfo {
    ServiceInfo {
        name: name.parse().unwrap(),
        host: host("a"),
        state: ServiceState::Running,
        image: String::new(),
        address: format!("10.77.0.{last}/24").parse().ok(),
        memory: None,
        processes: None,
        connections: None,
    }
}

fn telemetry(name: &str, place: Position) -> Telemetry {
    Telemetry {
        host: host(name),
        at: NOW,
        services: Vec::new(),
        profiles: Vec::new(),
        links: Vec::new(),
        position: Some(place),
        radio: None,
        flight: None,
        following: None,
        clients: Vec::new(),
        trouble: None,
    }
}

/// An edge host at `x` metres to the east.
pub(super) fn edge(name: &str, x: f64, services: &[ServiceInfo]) -> Telemetry {
    let services = services.iter().map(|info| ServiceInfo { host: host(name), ..info.clone() }).collect();
    Telemetry { services, ..telemetry(name, Position { x: Metres(x), ..Position::default() }) }
}

/// A mobile host that hovers at `x` metres to the east, with clients of these addresses.
pub(super) fn mobile(name: &str, x: f64, clients: &[u8]) -> Telemetry {
    let client =
        |last: &u8| ClientInfo { service: [10, 77, 0, *last].into(), rate: None, rtt: None, silent: None };
    let clients = clients.iter().map(client).collect();
    Telemetry { clients, ..telemetry(name, Position { x: Metres(x), ..Position::default() }) }
}

/// The same as it flies.
pub(super) fn flying(told: Telemetry, heading: f64, speed: f64) -> Telemetry {
    let position = told.position.map(|place| Position {
        heading: Heading(heading),
        speed: MetresPerSec(speed),
        ..place
    });
    Telemetry { position, ..told }
}

/// The same in a cell.
pub(super) fn in_cell(told: Telemetry, cell: u16) -> Telemetry {
    Telemetry { radio: Some(Radio { cell: Cell(cell), signal_percent: None }), ..told }
}
