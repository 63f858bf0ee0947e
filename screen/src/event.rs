//! What can happen to the console.

use mose_protocol::agent::{Hello, Telemetry};
use mose_protocol::check::Report;
use mose_protocol::record::Record;
use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, MigrationId, Refusal, Timestamp};
use ratatui::crossterm::event::Event as TerminalEvent;
use serde::{Deserialize, Serialize};

use crate::state::ui::Choice;
use crate::state::{Abilities, Level, Replay, Source};

/// What comes from the agents, as it is recorded and replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wire {
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

/// What came of an effect.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// An order was taken, or why not.
    Ordered {
        /// The migration.
        migration: MigrationId,
        /// Why not.
        result: Result<(), Refusal>,
    },
    /// What is known of migrations between two hosts was not told.
    Unknown {
        /// The source.
        from: HostName,
        /// The destination.
        to: HostName,
        /// Why not.
        refusal: Refusal,
    },
    /// Two hosts were measured anew, both ways.
    Recalibrated {
        /// The one.
        from: HostName,
        /// The other.
        to: HostName,
    },
    /// Something was done, or went wrong: a line for the notices.
    Said {
        /// How bad.
        level: Level,
        /// What.
        text: String,
    },
    /// A recording began (its file and when), or ended.
    Recording(Option<(String, Timestamp)>),
    /// What is shown comes from elsewhere now; all that was known is forgotten.
    Attached(Source, Abilities),
    /// How far the replay is.
    Replaying(Replay),
    /// The replay was set to another time: all that was known is forgotten.
    Rewound(Replay),
    /// Nothing is attached: the operator chooses.
    Choose(Vec<Choice>),
    /// What else could be attached to, as was asked.
    Offered(Vec<Choice>),
    /// The autopilot was switched.
    Autopilot(bool),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A key, the mouse, a new size.
    Terminal(TerminalEvent),
    /// Time went on.
    Tick,
    /// From the agents.
    Wire(Wire),
    /// From an effect.
    Answer(Answer),
}
