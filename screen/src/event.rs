//! What can happen to the console.

use mose_protocol::{HostName, MigrationId, Refusal, Timestamp};
use ratatui::crossterm::event::Event as TerminalEvent;

use crate::fleet_event::FleetEvent;
use crate::state::ui::Choice;
use crate::state::{Abilities, Level, Replay, Source};

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
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A key, the mouse, a new size.
    Terminal(TerminalEvent),
    /// Time went on.
    Tick,
    /// From the agents.
    Fleet(FleetEvent),
    /// From an effect.
    Answer(Answer),
}
