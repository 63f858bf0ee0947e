//! What comes from the agents: an event of the console, and a line of a recording.

use mose_protocol::agent::{Hello, Telemetry};
use mose_protocol::check::Report;
pub use mose_protocol::following::{Decision, Following, NextMove};
use mose_protocol::record::Record;
use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, Refusal};
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
    /// The same, said by another orchestrator: another console, or a command.
    FollowingElsewhere(Box<Following>),
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
