//! The requests that an agent answers, and its replies.

use serde::{Deserialize, Serialize};

use crate::agent::{Hello, Location, ServiceInfo};
use crate::check::{Arrival, Report};
use crate::doctor::Check;
use crate::flight::{FlightReport, FlightTimes};
use crate::following::FollowNews;
use crate::handover::{HandoverState, Outage, Prepare, Prepared, Task, WatchTarget, Watched};
use crate::heard::Heard;
use crate::link::{LinkMetrics, ProbeOffer, ProbeOrder};
use crate::metrics::ServiceMetrics;
use crate::record::Record;
use crate::step::StepEvent;
use crate::{HostName, MigrationId, Refusal, ServiceName, Timestamp};

/// What one may ask of an agent. Every request may be repeated: the second does no harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Who are you?
    Hello,
    /// What is the time there?
    Clock,
    /// What runs there?
    Services,
    /// Which addresses of the overlay are there?
    Locations,
    /// An address is on this host now.
    Locate(Location),
    /// An address is gone from its host.
    Forget(Location),
    /// Carry out this migration, as its source.
    Migrate(Box<Task>),
    /// Rehearse this migration, as its source. Not the same request with a mark: an agent that does not know rehearsals must not take it
    /// for an order to migrate.
    OrderRehearsal(Box<Task>),
    /// Break this migration off, if its commit point has not been passed.
    Abort(MigrationId),
    /// The events of a migration from a sequence number on.
    Steps {
        /// The migration.
        migration: MigrationId,
        /// The first sequence number wanted.
        from: u64,
    },
    /// The record of one migration.
    Record(MigrationId),
    /// The newest records, at most so many.
    History(u32),
    /// Destination: make ready.
    Prepare(Box<Prepare>),
    /// Destination: the container's image is all sent; create the container.
    Create(MigrationId),
    /// Destination: hold what comes for the service from now on.
    Hold(MigrationId),
    /// Destination: the service is yours.
    Relinquish {
        /// The migration.
        migration: MigrationId,
        /// The images' digest, as the source knows it.
        digest: String,
    },
    /// Destination: all is here; restore it without having any of it run, and remove all again.
    Rehearse {
        /// The migration, which is a rehearsal.
        migration: MigrationId,
        /// The images' digest, as the source knows it.
        digest: String,
    },
    /// Destination: what do you know of it?
    Inquire(MigrationId),
    /// Destination: say that you will never run it, unless you already do.
    Withdraw(MigrationId),
    /// Destination: the source has cleaned up, the journal may be closed.
    Close(MigrationId),
    /// Source: what became, at the destination, of a hand-over whose record does not know it: the operator gave it up first.
    Became {
        /// The migration.
        migration: MigrationId,
        /// What the destination says of it.
        state: Box<HandoverState>,
    },
    /// Client's host: watch the service's packets.
    Watch {
        /// The migration.
        migration: MigrationId,
        /// Whose packets.
        target: WatchTarget,
    },
    /// Client's host: what have you seen?
    Watched {
        /// The migration.
        migration: MigrationId,
        /// Whether to stop watching.
        stop: bool,
        /// When the service stood still.
        #[serde(default)]
        outage: Outage,
    },
    /// Vehicle's host: how did it fly? Answered with nothing where no vehicle tells.
    Flight(FlightTimes),
    /// Mobile host: a service follows it, or no more. Told on in its telemetry.
    Following(Box<FollowNews>),
    /// Source: keep the record of a service that was moved from here by hand, without the agents.
    Note(Box<Record>),
    /// How large is this service's state, and how fast is it dirtied?
    Profile(ServiceName),
    /// What is known of migrations to that host: its calibration profile?
    Calibration(HostName),
    /// Keep this calibration profile for migrations to that host.
    Calibrate {
        /// The destination.
        to: HostName,
        /// The profile, as TOML.
        profile: String,
    },
    /// What is known of the links to the other edge hosts?
    Links,
    /// Measure the link to this host now.
    ProbeLink(HostName),
    /// Take part in measuring the link from another agent to this one.
    OpenProbe(ProbeOrder),
    /// Look at your host for what usually breaks.
    Doctor,
    /// Can this service move as it is now, and to that host?
    Check {
        /// The service.
        service: ServiceName,
        /// The host that is asked too, if there is one.
        to: Option<HostName>,
    },
    /// Destination: what stands in the way of this service?
    Compare(Box<Arrival>),
    /// What have you heard last of the other hosts? An agent of 0.1.0 does not know this, and refuses it as malformed.
    Heard,
    /// Settle a service in doubt by hand: `keep` true restores it here, false gives it up here.
    Settle {
        /// The migration.
        migration: MigrationId,
        /// Whether this host is to be the owner.
        keep: bool,
    },
}

impl Request {
    /// What the request is about, for logs and errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Clock => "clock",
            Self::Services => "services",
            Self::Locations => "locations",
            Self::Locate(_) => "locate",
            Self::Forget(_) => "forget",
            Self::Migrate(_) => "migrate",
            Self::OrderRehearsal(_) => "order-rehearsal",
            Self::Abort(_) => "abort",
            Self::Steps { .. } => "steps",
            Self::Record(_) => "record",
            Self::History(_) => "history",
            Self::Prepare(_) => "prepare",
            Self::Create(_) => "create",
            Self::Hold(_) => "hold",
            Self::Relinquish { .. } => "relinquish",
            Self::Rehearse { .. } => "rehearse",
            Self::Inquire(_) => "inquire",
            Self::Withdraw(_) => "withdraw",
            Self::Close(_) => "close",
            Self::Became { .. } => "became",
            Self::Watch { .. } => "watch",
            Self::Watched { .. } => "watched",
            Self::Flight(_) => "flight",
            Self::Following(_) => "following",
            Self::Note(_) => "note",
            Self::Profile(_) => "profile",
            Self::Calibration(_) => "calibration",
            Self::Calibrate { .. } => "calibrate",
            Self::Links => "links",
            Self::ProbeLink(_) => "probe-link",
            Self::OpenProbe(_) => "open-probe",
            Self::Doctor => "doctor",
            Self::Check { .. } => "check",
            Self::Compare(_) => "compare",
            Self::Heard => "heard",
            Self::Settle { .. } => "settle",
        }
    }
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Ok,
    /// To `Hello`.
    Hello(Box<Hello>),
    /// To `Clock`.
    Clock(Timestamp),
    /// To `Services`.
    Services(Vec<ServiceInfo>),
    /// To `Services`, where the engine does not answer now: what it told last.
    LastServices {
        /// When that was, on the host's clock.
        at: Timestamp,
        /// What ran there then.
        services: Vec<ServiceInfo>,
        /// Why there is nothing newer.
        refused: Refusal,
    },
    /// To `Locations`.
    Locations(Vec<Location>),
    /// To `Steps`.
    Steps(Vec<StepEvent>),
    /// To `Record`: none while the migration is under way.
    Record(Option<Box<Record>>),
    /// To `History`.
    History(Vec<Record>),
    /// To `Prepare`.
    Prepared(Prepared),
    /// To `Relinquish`, `Rehearse`, `Inquire` and `Withdraw`.
    Handover(HandoverState),
    /// To `Profile`.
    Profile(Box<ServiceMetrics>),
    /// To `Calibration`: the profile as TOML; none where that way was never calibrated.
    Calibration(Option<String>),
    /// To `Watched`: one per client on the host.
    Watched(Vec<Watched>),
    /// To `Flight`; `None` where no vehicle tells how it flies.
    Flight(Option<FlightReport>),
    /// To `Links` and `ProbeLink`.
    Links(Vec<LinkMetrics>),
    /// To `OpenProbe`; none while another measurement is served.
    Probe(Option<ProbeOffer>),
    /// To `Doctor`.
    Doctor(Vec<Check>),
    /// To `Check` and `Compare`.
    Check(Box<Report>),
    /// To `Heard`.
    Heard {
        /// What the time was there.
        at: Timestamp,
        /// Each host of which something was heard.
        hosts: Vec<Heard>,
    },
}

/// A reply, or why there is none.
pub type Response = Result<Reply, Refusal>;
