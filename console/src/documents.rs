//! The documents that commands print with `--json`, each with its JSON Schema.

use clap::ValueEnum;
use mose_orchestrator::fleet::Seen;
use mose_orchestrator::told::{Last, Link, Told, Unanswered};
use mose_protocol::agent::{Hello, ServiceInfo, Telemetry};
use mose_protocol::record::Record;
use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, Refusal};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::doctor;
use crate::proposal::{Report, Swept};

/// An agent, as `mose agents --json` lists it: with its introduction, or with why there is none.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AgentLine<'a> {
    /// The host that it speaks for.
    pub host: &'a HostName,
    /// How it introduced itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hello: Option<&'a Hello>,
    /// Why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<&'a Refusal>,
}

impl<'a> From<&'a Seen> for AgentLine<'a> {
    fn from(seen: &'a Seen) -> Self {
        Self { host: &seen.host, hello: seen.hello.as_ref().ok(), refused: seen.hello.as_ref().err() }
    }
}

/// An element of a list that hosts were asked for: what one told, what one told last, or that it did not tell.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Line<'a, T> {
    /// What a host told.
    Told(&'a T),
    /// What a host told last that does not tell it now: `silent` and `last_told_at` mark it.
    Last(&'a Last<T>),
    /// A host that did not tell, and why: what it has now is missing in the list.
    Unanswered(&'a Unanswered),
}

/// What hosts told, then what those told last that did not, and then which these are.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Lines<'a, T>(Vec<Line<'a, T>>);

impl<'a, T> Lines<'a, T> {
    /// All of them.
    #[must_use]
    pub fn of(all: &'a Told<T>) -> Self {
        let told = all.told.iter().map(Line::Told).chain(all.last.iter().map(Line::Last));
        Self(told.chain(all.unanswered.iter().map(Line::Unanswered)).collect())
    }
}

/// What a command prints with `--json` in the place of its own document when it was refused or failed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Refused<'a> {
    /// Why.
    pub refused: &'a Refusal,
}

/// A kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Document {
    /// `mose agents`
    Agents,
    /// `mose services`
    Services,
    /// `mose links`
    Links,
    /// `mose plan`
    Plan,
    /// `mose plan --sweep`
    Sweep,
    /// A line of `mose watch`, and of `mose migrate` and `mose rehearse`
    Step,
    /// `mose history ID`, and the last line of `mose migrate` and `mose rehearse`
    Record,
    /// `mose history`
    History,
    /// `mose doctor`
    Doctor,
    /// `mose check`
    Check,
    /// `mose calibrate`
    Calibrate,
    /// `mose lab status`
    LabStatus,
    /// `mose lab down`
    LabDown,
    /// `mose lab laps`
    LabLaps,
    /// `mose lab connections`
    LabConnections,
    /// `mose lab targets`
    LabTargets,
    /// `mose lab rounds`
    LabRounds,
    /// `mose lab strategies`
    LabStrategies,
    /// `mose lab volumes`
    LabVolumes,
    /// `mose lab rehearsals`
    LabRehearsals,
    /// `mose lab services`
    LabServices,
    /// `mose lab profiling`
    LabProfiling,
    /// `mose lab baseline`
    LabBaseline,
    /// `mose lab baseline --against`
    LabBaselineAgainst,
    /// A line of `mose lab unmovable`
    LabUnmovable,
    /// `mose lab faults`
    LabFaults,
    /// `mose lab soak`
    LabSoak,
    /// `mose lab paper table3`
    LabPaperTable3,
    /// What `mose lab uav --json` prints.
    LabUav,
    /// What an agent publishes once a second
    Telemetry,
    /// Any of these commands, when it was refused or failed
    Refused,
}

impl Document {
    /// The name that the command line uses.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Each of them.
    pub fn each() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// Its JSON Schema (draft 2020-12), as it is written. `None` for what the lab's commands print: `mose-lab` tells those.
    #[must_use]
    pub fn schema(self) -> Option<Schema> {
        Some(match self {
            Self::Agents => schema_of::<Vec<AgentLine<'_>>>(),
            Self::Services => schema_of::<Lines<'_, ServiceInfo>>(),
            Self::Links => schema_of::<Lines<'_, Link>>(),
            Self::Plan => schema_of::<Report<'_>>(),
            Self::Sweep => schema_of::<Vec<Swept<'_>>>(),
            Self::Step => schema_of::<StepEvent>(),
            Self::Record => schema_of::<Record>(),
            Self::History => schema_of::<Lines<'_, Record>>(),
            Self::Doctor => schema_of::<doctor::Report>(),
            Self::Check => schema_of::<mose_protocol::check::Report>(),
            Self::Telemetry => schema_of::<Telemetry>(),
            Self::Refused => schema_of::<Refused<'_>>(),
            Self::Calibrate
            | Self::LabStatus
            | Self::LabDown
            | Self::LabLaps
            | Self::LabConnections
            | Self::LabTargets
            | Self::LabRounds
            | Self::LabStrategies
            | Self::LabVolumes
            | Self::LabRehearsals
            | Self::LabServices
            | Self::LabProfiling
            | Self::LabBaseline
            | Self::LabBaselineAgainst
            | Self::LabUnmovable
            | Self::LabFaults
            | Self::LabSoak
            | Self::LabPaperTable3
            | Self::LabUav => return None,
        })
    }
}

/// The schema of a type, as it is written.
#[must_use]
pub fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// Prints a value as one JSON document on one line.
#[expect(clippy::print_stdout, reason = "a command line prints")]
pub fn print_json<T: Serialize>(value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("mose: {error}"),
    }
}
