//! What an agent says of itself and of what runs on its host.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use mose_pam::{Bytes, Metres, MetresPerSec, Millis};
use serde::{Deserialize, Serialize};

use crate::flight::FlightError;
use crate::following::FollowNews;
use crate::link::LinkMetrics;
use crate::metrics::ServiceMetrics;
use crate::{HostName, ServiceName, Timestamp};

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs services.
    Edge,
    /// Carries clients, whose flows follow the services.
    Mobile,
    /// Carries the orchestrator.
    Controller,
}

impl Role {
    /// The name that the wire and the command line use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Mobile => "mobile",
            Self::Controller => "controller",
        }
    }
}

/// What an agent can do. A peer checks before it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Runs containers that can be dumped and restored.
    Containers,
    /// Takes part in the overlay.
    Overlay,
    /// Receives images over a TCP data connection.
    TransferTcp,
    /// Receives images over Zenoh.
    TransferZenoh,
    /// Rehearses migrations, as their source and as their destination. One that does not know them might carry out what was to be rehearsed.
    Rehearsals,
    /// Something that a later release knows.
    #[serde(other)]
    Unknown,
}

/// An agent's introduction, exchanged before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hello {
    /// The host that it speaks for.
    pub host: HostName,
    /// What the host is for.
    pub role: Role,
    /// The release of the agent.
    pub release: String,
    /// The protocol version that it speaks.
    pub protocol: u32,
    /// What it can do.
    pub capabilities: BTreeSet<Capability>,
    /// Its address on the underlay, where tunnels and data connections end.
    pub underlay: Ipv4Addr,
    /// The versions of the tools that it works with, by name.
    pub tools: Vec<(String, String)>,
    /// Since when it runs, on its own clock.
    pub started_at: Timestamp,
    /// Whether the host's engine, overlay, links and clients are simulated: none of its figures is a measurement then.
    #[serde(default)]
    pub simulated: bool,
}

/// Whether a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// It runs.
    Running,
    /// Its container is there and does not run.
    Stopped,
    /// A migration is moving it.
    Migrating,
    /// A hand-over went unanswered: nobody may start it before that is settled.
    InDoubt,
}

impl ServiceState {
    /// The name that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Migrating => "migrating",
            Self::InDoubt => "in doubt",
        }
    }
}

/// A container and what its host knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceInfo {
    /// Its name.
    pub name: ServiceName,
    /// Where it is.
    pub host: HostName,
    /// Whether it runs.
    pub state: ServiceState,
    /// Its image's name.
    pub image: String,
    /// Its address on the overlay; `None` where it is not on it, and cannot be moved.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub address: Option<Ipv4Net>,
    /// Resident memory of its processes; `None` where it does not run.
    pub memory: Option<Bytes>,
    /// Its processes.
    pub processes: Option<u32>,
    /// TCP connections with it that stand; `None` where nobody counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
}

/// A direction on the ground: degrees clockwise from the y axis (north), in [0, 360).
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Heading(pub f64);

/// Where a host is, on a plane that all hosts of a testbed share.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Metres to the east of the plane's origin.
    pub x: Metres,
    /// Metres to the north of it.
    pub y: Metres,
    /// Where it is going; of no meaning where it stands still.
    pub heading: Heading,
    /// How fast; 0 where it stands still.
    pub speed: MetresPerSec,
}

impl Position {
    /// How far it is to another place.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Metres {
        Metres((self.x.0 - other.x.0).hypot(self.y.0 - other.y.0))
    }
}

/// A cell of the radio network, by the number that the network gives it (MAVLink's `CELLULAR_STATUS.lac`).
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cell(pub u16);

/// A host's part in the radio network.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Radio {
    /// Of an edge host, the cell that it stands at; of a mobile host, the one that serves it.
    pub cell: Cell,
    /// How well a mobile host hears it, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_percent: Option<u8>,
}

/// How often a client asks its service, in requests per second.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessagesPerSec(pub f64);

/// A client on the host that says it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// The overlay address of the service that it talks to.
    pub service: Ipv4Addr,
    /// How often it asks: on a real host, the segments with data that its TCP connections send. `None` where nobody counts them.
    pub rate: Option<MessagesPerSec>,
    /// From a request to its answer: on a real host, TCP's smoothed round-trip time (RFC 6298).
    pub rtt: Option<Millis>,
    /// For how long the service has been silent although it was asked; `None` while it answers.
    pub silent: Option<Millis>,
}

/// The newest figures of a host: the latest wins, a lost one does no harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Telemetry {
    /// The host.
    pub host: HostName,
    /// When they were taken, on the host's clock.
    pub at: Timestamp,
    /// Its services.
    pub services: Vec<ServiceInfo>,
    /// The profiles of its running services.
    #[serde(default)]
    pub profiles: Vec<ServiceMetrics>,
    /// Its links to the other edge hosts.
    #[serde(default)]
    pub links: Vec<LinkMetrics>,
    /// Where it is; `None` where it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Its part in the radio network; `None` where it has none, or does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radio: Option<Radio>,
    /// How the vehicle that carries it flies now; `None` where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flight: Option<FlightError>,
    /// What an orchestrator last told of a service that follows this host; `None` where that is over, or it fell silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub following: Option<Box<FollowNews>>,
    /// Its clients, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientInfo>,
    /// What went wrong while they were taken.
    pub trouble: Option<String>,
}

/// Where an address of the overlay is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The address.
    pub address: Ipv4Addr,
    /// The host that it is on.
    pub host: HostName,
    /// Grows with each hand-over of the address; the highest is right.
    pub epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telemetry_of_a_release_that_knows_no_positions_is_read() {
        let text = r#"{"host":"edge-a","at":1,"services":[{"name":"web","host":"edge-a","state":"running","image":"x",
            "address":null,"memory":null,"processes":null}],"trouble":null}"#;
        let telemetry: Telemetry = serde_json::from_str(text).unwrap();
        assert_eq!((telemetry.position, telemetry.clients.len()), (None, 0));
        assert_eq!(telemetry.services[0].connections, None);
        let again = serde_json::to_string(&telemetry).unwrap();
        assert!(!again.contains("position") && !again.contains("connections"), "{again}");
    }

    #[test]
    fn an_introduction_that_does_not_say_so_is_of_a_real_host() {
        let text = r#"{"host":"edge-a","role":"edge","release":"0.1.0","protocol":1,"capabilities":[],
            "underlay":"127.0.0.1","tools":[],"started_at":1}"#;
        assert!(!serde_json::from_str::<Hello>(text).unwrap().simulated);
    }
}
