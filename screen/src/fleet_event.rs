//! What comes from the agents: an event of the console, and a line of a recording.

use mose_protocol::agent::{Hello, Telemetry};
use mose_protocol::check::Report;
use mose_protocol::record::Record;
use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, Refusal, ServiceName, Timestamp};
use serde::{Deserialize, Serialize};

/// What comes from the agents, as it is recorded and replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FleetEvent {
    /// A liveliness token appeared.
    Seen(HostName),
    /// An agent introduced itself.
    Hello(Box<Hello>),
    /// An agent that cannot be spoken to, and why.
    Stranger {
        /// Which.
        host: HostName,
        /// Why.
        refusal: Refusal,
    },
    /// A liveliness token disappeared.
    Gone(HostName),
    /// A host's newest figures.
    Telemetry(Box<Telemetry>),
    /// A step of a migration.
    Step(Box<StepEvent>),
    /// What remains of a migration.
    Record(Box<Record>),
    /// What an agent keeps of migrations to another.
    Calibration {
        /// The agent's host, the source.
        from: HostName,
        /// The destination.
        to: HostName,
        /// What it keeps.
        known: Known,
    },
    /// Whether a service can move to a host.
    Checked(Box<Report>),
    /// Whether a service follows its mobile host, and what comes next.
    Following(Box<Following>),
    /// A service is moved after its mobile host.
    Decided(Box<Decision>),
}

/// What an agent keeps of migrations to another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The calibration profile, as TOML, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Why it should not be relied upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// What the orchestrator that has a service follow its mobile host does, or is about to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Following {
    /// The service.
    pub service: ServiceName,
    /// The host that it follows.
    pub mobile: HostName,
    /// Whether it does.
    pub on: bool,
    /// Whether no migration is ordered now although it should be, or why the last one failed; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The move that comes next, as far as that can be foreseen; `None` while the mobile host is not on its way to another station.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextMove>,
}

/// A move after a mobile host that was decided and planned, and is ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Which service.
    pub service: ServiceName,
    /// Where it is.
    pub from: HostName,
    /// Where it goes.
    pub to: HostName,
    /// Why, and how, for people: `cell 2 serves uav; pre-copy, worst case 180 ms`.
    pub why: String,
}

/// A move that is foreseen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextMove {
    /// Where the service is.
    pub from: HostName,
    /// Where it will go.
    pub to: HostName,
    /// When, on the console's clock; a time that is over means that it is due.
    pub at: Timestamp,
    /// Why, for people: `edge-b is nearer (92 m, edge-a 97 m)`.
    pub why: String,
}
