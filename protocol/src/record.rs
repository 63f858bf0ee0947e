//! What remains of a migration: its plan, what was measured, how it ended.

use mose_pam::{Bytes, Millis, Plan};
use serde::{Deserialize, Serialize};

use crate::flight::FlightReport;
use crate::forecast::{Figures, Forecast};
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
    /// It failed; the service runs at the source, as before.
    RolledBack,
    /// The operator aborted it; the service runs at the source, as before. Where it had stood still, the downtime says for how long.
    Aborted,
    /// The source cannot learn whether the destination runs it, and waits.
    InDoubt,
    /// The operator had the source discard its copy of a service in doubt, and nobody has said that another one lives.
    GivenUp,
    /// It was a rehearsal, and all went well: the service runs at the source, as before.
    Rehearsed,
}

impl Outcome {
    /// The name that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::RolledBack => "rolled back",
            Self::Aborted => "aborted",
            Self::InDoubt => "in doubt",
            Self::GivenUp => "given up",
            Self::Rehearsed => "rehearsed",
        }
    }

    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::Refused,
        Self::RolledBack,
        Self::Aborted,
        Self::InDoubt,
        Self::GivenUp,
        Self::Rehearsed,
    ];
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

/// The most answers before a client's gap, and after it, that are remembered.
pub const MOST_ANSWERS: usize = 100;

/// What a clients' host saw of the service, by its packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientGap {
    /// The clients' host.
    pub host: HostName,
    /// The longest that a connection with a request outstanding heard nothing, on that host's own clock; where nobody asked,
    /// the longest silence of the service. `None`: unknown.
    #[serde(default)]
    pub gap: Option<Millis>,
    /// Whether it was at least that long: some connection had heard nothing when the watch ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
    /// Why the gap is unknown, or what may be wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Connections that asked for something while it was watched, or received a stream.
    #[serde(default)]
    pub asked: u64,
    /// Of those, the ones that had waited since before the service was back when the watch ended.
    #[serde(default)]
    pub unanswered: u64,
    /// Packets from the service that were seen while it was watched.
    pub packets: u64,
    /// Resets (TCP RST) among them.
    pub resets: u64,
    /// Connections that were accepted anew (SYN-ACK) among them.
    pub accepted: u64,
    /// When answers came around the gap, as many as [`MOST_ANSWERS`] before it and after it, in milliseconds since the gap began: those
    /// before are not above 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers_ms: Vec<Millis>,
}

/// The worst client's gap, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Silence {
    /// No client was watched.
    Unwatched,
    /// It was watched, and what was seen says nothing that can be told.
    Unknown,
    /// At least that long.
    AtLeast(Millis),
    /// That long.
    Known(Millis),
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unwatched => f.pad("–"),
            Self::Unknown => f.pad("unknown"),
            Self::AtLeast(ms) => f.pad(&format!("at least {ms}")),
            Self::Known(ms) => f.pad(&ms.to_string()),
        }
    }
}

/// The three clocks of a downtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Downtime {
    /// CRIU's own times.
    pub criu: CriuTimes,
    /// From the source's freeze to the destination's release, on the agents' clocks; of a rehearsal, until it went on at the source.
    pub blackout: Option<Millis>,
    /// How far the destination's clock is ahead, as measured before.
    pub clock: ClockOffset,
    /// What the clients saw; the headline.
    pub clients: Vec<ClientGap>,
}

impl Downtime {
    /// The longest gap that any client saw. Where one of several is unknown, so is the longest.
    #[must_use]
    pub fn silence(&self) -> Silence {
        let mut worst = Silence::Unwatched;
        for client in &self.clients {
            let Some(gap) = client.gap else { return Silence::Unknown };
            let longer = match worst {
                Silence::Known(so_far) | Silence::AtLeast(so_far) => gap.0 > so_far.0,
                Silence::Unwatched | Silence::Unknown => true,
            };
            if longer {
                worst = if client.at_least { Silence::AtLeast(gap) } else { Silence::Known(gap) };
            }
        }
        worst
    }

    /// The longest gap that any client saw, if it is known, or what it was at least.
    #[must_use]
    pub fn client_gap(&self) -> Option<Millis> {
        match self.silence() {
            Silence::Known(gap) | Silence::AtLeast(gap) => Some(gap),
            Silence::Unwatched | Silence::Unknown => None,
        }
    }
}

/// What a rehearsal has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rehearsal {
    /// For how long the service would have stood still: from the freeze until everything was restored at the destination. `None` where it did
    /// not come so far.
    #[serde(default)]
    pub would_stand_still_ms: Option<Millis>,
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
    /// Whether it was moved by hand, without the agents, and only noted for comparison: there are no steps then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// Where it was only rehearsed: what that has found. The service was not moved then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
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
    /// From the order until the service was back; where it was never away, or never came back, until the end.
    pub duration: Millis,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    pub reason: Option<Refusal>,
    /// CRIU's images and the root file system changes: the bytes that travelled, however the migration ended.
    pub image: Bytes,
    /// The three clocks.
    pub downtime: Downtime,
    /// What the designer promised, if the plan is its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Box<Forecast>>,
    /// What it did to the flight of vehicles; known some seconds after the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flights: Vec<FlightReport>,
    /// The rounds of pre-copy that were made: the plan may have had more (see its `end_early`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<Round>,
    /// Every step.
    pub steps: Vec<StepTime>,
}

impl Record {
    /// Of a service that was moved by hand, without the agents: what is not given is not known of it.
    #[must_use]
    pub fn by_hand(
        migration: MigrationId,
        service: ServiceName,
        (from, to): (HostName, HostName),
        started_at: Timestamp,
        duration: Millis,
    ) -> Self {
        Self {
            migration,
            simulated: false,
            by_hand: true,
            rehearsal: None,
            service,
            from,
            to,
            plan: Plan::cold(),
            transport: None,
            started_at,
            duration,
            outcome: Outcome::Done,
            reason: None,
            image: Bytes(0),
            downtime: Downtime::default(),
            forecast: None,
            flights: Vec::new(),
            rounds: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// How it was moved, in a word.
    #[must_use]
    pub fn how(&self) -> String {
        if self.by_hand { "by hand".to_owned() } else { self.plan.strategy.to_string() }
    }

    /// When it was over, on the source's clock: when the service was back, where it was away.
    #[must_use]
    pub fn ended(&self) -> Timestamp {
        self.started_at.shifted((self.duration.0 * 1e3) as i64)
    }
}

/// What a measured figure says of what was promised and of what was wanted. `None` is no answer: the figure is unknown, nothing
/// was promised, or the migration was not done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it stayed within the worst case that the plan promised.
    pub worst_case: Option<bool>,
    /// Whether it met the target.
    pub target: Option<bool>,
}

impl Record {
    /// What travelled in the downtime: all but the rounds, and the passes over files that were made while the service ran.
    #[must_use]
    pub fn sent_in_downtime(&self) -> Bytes {
        let rounds: u64 = self.rounds.iter().map(|round| round.bytes.0).sum();
        let passes =
            self.steps.iter().filter(|s| matches!(s.step, Step::RootfsPrecopy | Step::VolumePrecopy));
        let files: u64 = passes.filter_map(|step| step.bytes).map(|bytes| bytes.0).sum();
        Bytes(self.image.0.saturating_sub(rounds + files))
    }

    /// The downtime (the agents' blackout, of which the worst case is told) against its worst case and its target.
    #[must_use]
    pub fn downtime_verdict(&self) -> Verdict {
        self.verdict(self.downtime.blackout, |figures| figures.downtime)
    }

    /// The duration against its worst case and its target.
    #[must_use]
    pub fn duration_verdict(&self) -> Verdict {
        self.verdict(Some(self.duration), |figures| figures.duration)
    }

    fn verdict(&self, measured: Option<Millis>, which: impl Fn(&Figures) -> Millis) -> Verdict {
        let judged = |measured: Millis, forecast: &Forecast| Verdict {
            worst_case: Some(measured.0 <= which(&forecast.bound).0),
            target: Some(measured.0 <= which(&forecast.targets).0),
        };
        let measured = measured.filter(|measured| measured.0.is_finite() && measured.0 >= 0.0);
        let forecast = self.forecast.as_deref().filter(|_| self.outcome == Outcome::Done);
        measured
            .zip(forecast)
            .map_or_else(Verdict::default, |(measured, forecast)| judged(measured, forecast))
    }

    /// For how long the service would have stood still, where it was only rehearsed.
    #[must_use]
    pub fn would_stand_still(&self) -> Option<Millis> {
        self.rehearsal?.would_stand_still_ms
    }

    /// What a rehearsal says of the downtime that was promised and wanted: whether the real one would have kept it.
    #[must_use]
    pub fn would_keep(&self) -> Verdict {
        let (Some(would), Some(forecast)) = (self.would_stand_still(), self.forecast.as_deref()) else {
            return Verdict::default();
        };
        if !would.0.is_finite() || would.0 < 0.0 {
            return Verdict::default();
        }
        Verdict {
            worst_case: Some(would.0 <= forecast.bound.downtime.0),
            target: Some(would.0 <= forecast.targets.downtime.0),
        }
    }

    /// How it ended, as people read it: `rehearsed`, or `refused (rehearsal)`.
    #[must_use]
    pub fn outcome_name(&self) -> String {
        match (self.rehearsal, self.outcome) {
            (Some(_), Outcome::Rehearsed) | (None, _) => self.outcome.name().to_owned(),
            (Some(_), outcome) => format!("{} (rehearsal)", outcome.name()),
        }
    }

    /// The record as this release tells it: the first one told a service that was given up as done, or as rolled back.
    #[must_use]
    pub fn as_told_now(mut self) -> Self {
        let given_up = |reason: &Refusal| {
            reason.reason.ends_with("the operator gave the service up on the source")
                || reason.reason.ends_with("; and the operator gave the service up")
        };
        if matches!(self.outcome, Outcome::Done | Outcome::RolledBack)
            && self.reason.as_ref().is_some_and(given_up)
        {
            self.outcome = Outcome::GivenUp;
        }
        self
    }

    /// Whether the targets were met, in words; `None` where that is unknown or there were none.
    #[must_use]
    pub fn targets_met(&self) -> Option<&'static str> {
        match (self.downtime_verdict().target, self.duration_verdict().target) {
            (Some(true), Some(true)) => Some("met"),
            (Some(false), Some(false)) => Some("both missed"),
            (Some(false), _) => Some("downtime missed"),
            (_, Some(false)) => Some("duration missed"),
            (None, _) | (_, None) => None,
        }
    }

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

    /// Whether downtime and duration stayed within their worst cases; `None` where either is unknown.
    #[must_use]
    pub fn bounds_held(&self) -> Option<(bool, bool)> {
        self.downtime_verdict().worst_case.zip(self.duration_verdict().worst_case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(gap: Option<f64>, at_least: bool) -> ClientGap {
        ClientGap {
            host: "uav".parse().expect("a name"),
            gap: gap.map(Millis),
            at_least,
            note: None,
            asked: 1,
            unanswered: 0,
            packets: 1,
            resets: 0,
            accepted: 0,
            answers_ms: Vec::new(),
        }
    }

    fn silence(clients: &[(Option<f64>, bool)]) -> Silence {
        let clients = clients.iter().map(|(gap, at_least)| client(*gap, *at_least)).collect();
        Downtime { clients, ..Downtime::default() }.silence()
    }

    #[test]
    fn the_worst_client_counts_and_one_that_is_unknown_makes_the_worst_unknown() {
        assert_eq!(silence(&[]), Silence::Unwatched);
        assert_eq!(silence(&[(Some(2.0), false), (Some(9.0), true)]), Silence::AtLeast(Millis(9.0)));
        assert_eq!(silence(&[(Some(9.0), false), (Some(2.0), true)]), Silence::Known(Millis(9.0)));
        assert_eq!(silence(&[(Some(9.0), false), (None, false)]), Silence::Unknown);
    }

    #[test]
    fn a_record_of_an_earlier_release_is_read() {
        let told = r#"{"host":"uav","gap":203.4,"packets":5,"resets":0,"accepted":0}"#;
        let client: ClientGap = serde_json::from_str(told).expect("the earlier form");
        assert_eq!((client.gap, client.at_least, client.asked), (Some(Millis(203.4)), false, 0));
    }

    #[test]
    fn what_is_not_known_is_not_told_as_a_number() {
        assert_eq!(silence(&[(None, false)]).to_string(), "unknown");
        assert!(silence(&[(Some(26_700.0), true)]).to_string().starts_with("at least "));
    }

    #[test]
    fn what_was_sent_while_the_service_ran_was_not_sent_in_the_downtime() {
        let step = |step: &str, bytes: u64| serde_json::json!({"host": "edge-a", "step": step, "start": 0.0, "took": 1.0, "bytes": bytes});
        let round = serde_json::json!({
            "number": 0, "pages": 1, "sent": 1, "bytes": 4_096, "took": 1.0, "pays": true
        });
        let record: Record = serde_json::from_value(serde_json::json!({
            "migration": "m-1", "service": "nginx", "from": "edge-a", "to": "edge-b",
            "plan": {"strategy": "precopy", "iterations": null, "bandwidth": null},
            "transport": null, "started_at": 0, "duration": 1.0, "outcome": "done", "reason": null,
            "image": 100_000, "downtime": Downtime::default(), "rounds": [round],
            "steps": [step("rootfs-precopy", 10_000), step("volume-precopy", 70_000),
                step("volume-precopy", 1_000), step("transfer", 14_904)],
        }))
        .expect("a record");
        assert_eq!(record.sent_in_downtime(), Bytes(14_904));
    }
}
