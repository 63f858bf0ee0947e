//! What remains of a migration: its plan, what was measured, how it ended.

use mose_pam::{Bytes, Millis, Plan};
use serde::{Deserialize, Serialize};

use crate::forecast::Forecast;
use crate::step::{Round, Step, ended_early};
use crate::time::ClockOffset;
use crate::transfer::TransportKind;
use crate::{HostName, MigrationId, Refusal, ServiceName, Timestamp};

/// How a migration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The service runs at the destination.
    Done,
    /// Nothing was changed.
    Refused,
    /// The service runs at the source, as before.
    RolledBack,
    /// The source cannot learn whether the destination runs it, and waits.
    InDoubt,
}

impl Outcome {
    /// The name that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::RolledBack => "rolled back",
            Self::InDoubt => "in doubt",
        }
    }
}

/// One step as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepTime {
    /// The host that did it.
    pub host: HostName,
    /// What it did.
    pub step: Step,
    /// When it began, on the source's clock, relative to the migration's begin.
    pub start: Millis,
    /// How long it took.
    pub took: Millis,
    /// The bytes that it moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// What a person may want to know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What CRIU says of its own work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CriuTimes {
    /// From the order to freeze until all tasks stood still.
    pub freezing: Option<Millis>,
    /// The time the tasks stood still at the source, under CRIU.
    pub frozen: Option<Millis>,
    /// Of which: collecting memory.
    pub memdump: Option<Millis>,
    /// Of which: writing memory.
    pub memwrite: Option<Millis>,
    /// Restoring at the destination.
    pub restore: Option<Millis>,
    /// Pages written.
    pub pages_written: Option<u64>,
}

/// What the client's host saw of the service, by its packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientGap {
    /// The client's host.
    pub host: HostName,
    /// The longest silence of the service, on that host's own clock.
    pub gap: Millis,
    /// Packets from the service that were seen while it was watched.
    pub packets: u64,
    /// Resets (TCP RST) among them.
    pub resets: u64,
    /// Connections that were accepted anew (SYN-ACK) among them.
    pub accepted: u64,
}

/// The three clocks of a downtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Downtime {
    /// CRIU's own times.
    pub criu: CriuTimes,
    /// From the source's freeze to the destination's release, on the agents' clocks.
    pub blackout: Option<Millis>,
    /// How far the destination's clock is ahead, as measured before.
    pub clock: ClockOffset,
    /// What the clients saw; the headline.
    pub clients: Vec<ClientGap>,
}

impl Downtime {
    /// The longest gap that any client saw.
    #[must_use]
    pub fn client_gap(&self) -> Option<Millis> {
        self.clients.iter().map(|c| c.gap).max_by(|a, b| a.0.total_cmp(&b.0))
    }
}

/// A migration as history keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Record {
    /// Its identity.
    pub migration: MigrationId,
    /// Whether the hosts were simulated: its figures are no measurements then.
    #[serde(default)]
    pub simulated: bool,
    /// What was moved.
    pub service: ServiceName,
    /// From where.
    pub from: HostName,
    /// Whereto.
    pub to: HostName,
    /// How.
    pub plan: Plan,
    /// Which way the image went.
    pub transport: Option<TransportKind>,
    /// When it began, on the source's clock.
    pub started_at: Timestamp,
    /// From the order until the service was back; where it never was, until the end.
    pub duration: Millis,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    pub reason: Option<Refusal>,
    /// CRIU's images and the root file system changes: the bytes that travelled.
    pub image: Bytes,
    /// The three clocks.
    pub downtime: Downtime,
    /// What the designer promised, if the plan is its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Box<Forecast>>,
    /// The rounds of pre-copy that were made: the plan may have had more (see its `end_early`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<Round>,
    /// Every step.
    pub steps: Vec<StepTime>,
}

impl Record {
    /// The round after which the rounds ended early (see [`ended_early`]).
    #[must_use]
    pub fn ended_early(&self) -> Option<u32> {
        ended_early(&self.plan, &self.rounds)
    }

    /// How many iterations were made after the pre-dump.
    #[must_use]
    pub fn iterations_made(&self) -> u32 {
        self.rounds.iter().map(|round| round.number).max().unwrap_or(0)
    }

    /// Whether the bounds of downtime and duration held; `None` where there were none, or nothing to hold against them.
    #[must_use]
    pub fn bounds_held(&self) -> Option<(bool, bool)> {
        let forecast = self.forecast.as_ref().filter(|_| self.outcome == Outcome::Done)?;
        let downtime = self.downtime.blackout?;
        Some((downtime.0 <= forecast.bound.downtime.0, self.duration.0 <= forecast.bound.duration.0))
    }
}
