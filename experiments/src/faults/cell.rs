//! What a cell of the table of faults is: a fault, the moment and the side that it strikes, and how the service is moved meanwhile.

use mose_pam::{Plan, Strategy};
use mose_protocol::handover::PreCopyWay;
use mose_protocol::record::Outcome;
use mose_protocol::step::{Phase, Step};
use mose_protocol::transfer::TransportKind;

use crate::course::How;

/// Whose part of the hand-over is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

impl Side {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// A daemon of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemon {
    Agent,
    Podman,
    Switch,
}

impl Daemon {
    /// As the lab calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Agent => "mose-agent",
            Self::Podman => "podman",
            Self::Switch => "ovs-vswitchd",
        }
    }
}

/// For how long something is stopped, cut or slowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Seconds(u64),
    /// Until the migration has ended, and a minute at most.
    UntilEnd,
}

/// What a link loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Both,
    In,
    Out,
}

/// What runc does instead of its work, and CRIU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    Fails,
    Hangs,
}

/// Where there is no room any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Where CRIU's images are written, or arrive.
    Images,
    /// Where the agent keeps its journals.
    Journal,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; the lab's supervisor starts it again.
    Killed(Daemon),
    /// SIGSTOP, then SIGCONT.
    Stopped(Daemon, Span),
    /// SIGKILL, or SIGSTOP until the cell is over.
    Criu(Harm),
    Runc(Harm),
    /// A process of the container is in state T.
    ProcessStopped,
    DiskFull(Full),
    /// The agent is killed in the middle of a write: its journal ends in half a line when it starts again.
    TornJournal,
    /// A file of the images loses its second half.
    ImageTruncated,
    LinkCut(Way, Span),
    /// 100 kbit/s between the edge hosts.
    LinkSlowed(Span),
    OrderedTwice,
    Aborted,
    /// The destination is kept from speaking, and the operator decides: keep, or give up.
    Settled {
        keep: bool,
    },
}

/// When it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the order.
    Before,
    /// As soon as a step's phase is heard of.
    Step(Step, Phase),
    /// At a stage of CRIU's action script, which waits until the fault has struck.
    Hook(&'static str),
    /// As soon as CRIU's log has a line; CRIU waits until the fault has struck.
    CriuLog(&'static str),
    /// As runc is told to do something, before it does.
    Runc(&'static str),
}

impl Moment {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Before => "before".into(),
            Self::Step(Step::Dump, Phase::Finished) => "transfer".into(),
            Self::Step(Step::Freeze, Phase::Finished) => "dump".into(),
            Self::Step(Step::Relinquish, Phase::Finished) => "relinquished".into(),
            Self::Step(Step::Release, Phase::Finished) => "released".into(),
            Self::Step(step, _) => step.name().replace(' ', "-"),
            Self::Hook("pre-dump") => "freeze".into(),
            Self::Hook("network-lock") => "seized".into(),
            Self::Hook(stage) => stage.into(),
            Self::CriuLog("Lock network") => "locked".into(),
            Self::CriuLog(line) => line.to_lowercase().replace(' ', "-"),
            Self::Runc(verb) => format!("runc-{verb}"),
        }
    }

    /// Where in a migration it is.
    pub(crate) fn place(self) -> Place {
        match self {
            Self::Before
            | Self::Step(Step::Prepare | Step::PreDump | Step::Iteration | Step::Inspect, _)
            | Self::Runc("checkpoint")
            | Self::Hook("pre-dump") => Place::Running,
            Self::Step(Step::Relinquish, _)
            | Self::Step(Step::Restore, _)
            | Self::Hook("pre-restore" | "post-restore" | "pre-resume")
            | Self::Runc(_) => Place::Handed,
            Self::Step(Step::Release | Step::Cleanup, _) => Place::Over,
            Self::Step(..) | Self::Hook(_) | Self::CriuLog(_) => Place::Still,
        }
    }

    /// The side at which it is noticed; `None` where steps are followed.
    pub(crate) fn side(self) -> Option<Side> {
        match self {
            Self::Before | Self::Step(..) => None,
            Self::Hook("pre-restore" | "post-restore" | "pre-resume") | Self::Runc("restore") => {
                Some(Side::Destination)
            }
            Self::Hook(_) | Self::CriuLog(_) | Self::Runc(_) => Some(Side::Source),
        }
    }
}

/// How far the hand-over is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The service runs at the source.
    Running,
    /// It stands still; the source owns it.
    Still,
    /// The commit point has been passed.
    Handed,
    /// It runs at the destination.
    Over,
}

/// How the service is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct By {
    pub(crate) strategy: Strategy,
    pub(crate) transport: TransportKind,
    /// Whether the order promises a worst case, which the agents then wait by.
    pub(crate) promised: bool,
}

impl By {
    pub(crate) const COLD: Self = Self::new(Strategy::Cold);
    pub(crate) const PRECOPY: Self = Self::new(Strategy::Precopy);
    pub(crate) const ITERATIVE: Self = Self::new(Strategy::IterativePrecopy);
    pub(crate) const ZENOH: Self = Self { transport: TransportKind::Zenoh, ..Self::COLD };
    pub(crate) const PROMISED: Self = Self { promised: true, ..Self::COLD };

    const fn new(strategy: Strategy) -> Self {
        Self { strategy, transport: TransportKind::Tcp, promised: false }
    }

    pub(crate) fn name(self) -> String {
        let mut name = self.strategy.name().to_owned();
        if self.transport == TransportKind::Zenoh {
            name += "+zenoh";
        }
        if self.promised {
            name += "+promised";
        }
        name
    }

    /// As it is ordered.
    pub(crate) fn how(self) -> How {
        let iterations = match self.strategy {
            Strategy::Cold => None,
            Strategy::Precopy => Some(0),
            Strategy::IterativePrecopy => Some(2),
        };
        let live = (self.strategy != Strategy::Cold).then_some(PreCopyWay::Live);
        How {
            plan: Plan { strategy: self.strategy, iterations, ..Plan::cold() },
            transport: Some(self.transport),
            pre_copy: live,
            forecast: None,
            rehearsal: false,
        }
    }
}

/// A cell of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    pub(crate) fault: Fault,
    pub(crate) moment: Moment,
    pub(crate) side: Side,
    pub(crate) by: By,
    /// How it may end.
    pub(crate) ends: &'static [Outcome],
    /// Whether it belongs to the subset that `./check` has time for.
    pub(crate) quick: bool,
}

impl Cell {
    /// Fault, moment, side and strategy.
    pub(crate) fn name(&self) -> String {
        let Self { fault, moment, side, by, .. } = self;
        format!("{}@{}/{}/{}", fault.name(), moment.name(), side.name(), by.name())
    }

    pub(crate) const fn quick(self) -> Self {
        Self { quick: true, ..self }
    }
}

impl Fault {
    pub(crate) fn name(self) -> String {
        let span = |span: Span| match span {
            Span::Seconds(seconds) => format!("-{seconds}s"),
            Span::UntilEnd => String::new(),
        };
        let daemon = |daemon: Daemon| match daemon {
            Daemon::Agent => "agent",
            Daemon::Podman => "podman",
            Daemon::Switch => "switch",
        };
        match self {
            Self::Killed(who) => format!("{}-killed", daemon(who)),
            Self::Stopped(who, time) => format!("{}-stopped{}", daemon(who), span(time)),
            Self::Criu(Harm::Fails) => "criu-killed".into(),
            Self::Criu(Harm::Hangs) => "criu-stopped".into(),
            Self::Runc(Harm::Fails) => "runc-fails".into(),
            Self::Runc(Harm::Hangs) => "runc-hangs".into(),
            Self::ProcessStopped => "process-stopped".into(),
            Self::DiskFull(Full::Images) => "disk-full-images".into(),
            Self::DiskFull(Full::Journal) => "disk-full-journal".into(),
            Self::TornJournal => "journal-torn".into(),
            Self::ImageTruncated => "image-truncated".into(),
            Self::LinkCut(Way::Both, time) => format!("link-cut{}", span(time)),
            Self::LinkCut(Way::In, time) => format!("link-cut-in{}", span(time)),
            Self::LinkCut(Way::Out, time) => format!("link-cut-out{}", span(time)),
            Self::LinkSlowed(time) => format!("link-slowed{}", span(time)),
            Self::OrderedTwice => "ordered-twice".into(),
            Self::Aborted => "aborted".into(),
            Self::Settled { keep: true } => "settled-keep".into(),
            Self::Settled { keep: false } => "settled-give-up".into(),
        }
    }
}
