//! What the console's program is asked to do. It comes back as events.

use std::net::Ipv4Addr;

use mose_protocol::following::Aim;
use mose_protocol::handover::Task;
use mose_protocol::record::Record;
use mose_protocol::{HostName, MigrationId, ServiceName};

/// How a replay goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Playing {
    /// Stand still, or go on.
    Pause,
    /// This much faster.
    Speed(f64),
    /// So many seconds on, or back.
    Seek(f64),
}

/// What is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attach {
    /// A scenario of the demo testbed, by name.
    Demo(String),
    /// The lab, brought up if it is not.
    Lab,
    /// Agents that multicast finds.
    Look,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Order a migration.
    Order(Box<Task>),
    /// Break one off.
    Abort {
        /// Which.
        migration: MigrationId,
        /// Its source.
        from: HostName,
    },
    /// Decide about a service in doubt.
    Settle {
        /// Which migration.
        migration: MigrationId,
        /// Its source.
        from: HostName,
        /// Whether the source is to be the owner.
        keep: bool,
    },
    /// Ask for a calibration.
    AskCalibration {
        /// The source, which keeps it.
        from: HostName,
        /// The destination.
        to: HostName,
    },
    /// Ask whether a service can move.
    AskCheck {
        /// Which.
        service: ServiceName,
        /// Where it runs.
        from: HostName,
        /// Whereto.
        to: HostName,
    },
    /// Measure two hosts anew.
    Calibrate {
        /// The one.
        from: HostName,
        /// The other.
        to: HostName,
        /// Whether a service there that has the generator's name gives way.
        replace: bool,
    },
    /// Start a workload in the lab.
    StartService {
        /// Which.
        kind: String,
        /// What it is called.
        name: ServiceName,
        /// Its address on the overlay.
        address: Ipv4Addr,
        /// Where.
        on: HostName,
    },
    /// Stop a service in the lab.
    StopService {
        /// Which.
        name: ServiceName,
        /// Where.
        on: HostName,
    },
    /// Let a service follow its mobile host, moved for this; or not any more.
    Follow(Option<Box<Aim>>),
    /// What the service that follows is moved for has changed.
    Aim(Box<Aim>),
    /// Write records to a file.
    Export(Vec<Record>),
    /// Begin a recording, while these migrations are under way.
    Record(Vec<MigrationId>),
    /// End it.
    EndRecording,
    /// Change how the replay goes on.
    Replay(Playing),
    /// Say what can be attached to.
    Offer,
    /// Attach.
    Attach(Attach),
    /// Hand the terminal back until resumed.
    Suspend,
    /// Leave.
    Quit,
}

impl Effect {
    /// Whether it changes anything at the agents.
    #[must_use]
    pub const fn changes(&self) -> bool {
        matches!(
            self,
            Self::Order(_)
                | Self::Abort { .. }
                | Self::Settle { .. }
                | Self::Calibrate { .. }
                | Self::StartService { .. }
                | Self::StopService { .. }
                | Self::Follow(_)
        )
    }
}
