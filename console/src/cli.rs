//! The words of the command line.

use std::ffi::OsString;

use clap::{Parser, Subcommand, ValueEnum};
use mose_lab::{CgroupMode, LinkRate};
use mose_pam::{BitsPerSec, Strategy};
use mose_protocol::{HostName, MigrationId, ServiceName};

const EXIT_CODES: &str = "\
Exit codes of `migrate`:
  0  done: the service runs at the destination
  1  something failed that says nothing about a migration
  2  the command line is wrong
  3  refused: nothing was changed
  4  rolled back: the service runs at its source, as before
  5  in doubt: nobody knows yet; the source goes on asking";

/// Moves running, stateful containers between edge hosts while their clients stay connected.
#[derive(Parser)]
#[command(name = "mose", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Zenoh endpoint of an agent, such as tcp/10.0.0.1:7447; may be repeated. Without it: the agents of the lab on
    /// this machine if one is up, else those that multicast finds.
    #[arg(long, global = true, env = "MOSE_CONNECT", value_delimiter = ',')]
    pub(crate) connect: Vec<String>,
    /// Print JSON: one document, or one per line where things happen over time.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the agents.
    Agents,
    /// List the services and where they run.
    Services,
    /// List the links between the edge hosts: what they carry, what others use of it, how long a round trip takes.
    Links {
        /// Measure each of them now, instead of telling what is known.
        #[arg(long)]
        probe: bool,
    },
    /// Move a service to another host and print every step as it happens.
    Migrate(Box<Migrate>),
    /// Print the steps of all migrations as they happen, until interrupted.
    Watch,
    /// List past migrations, newest first.
    History {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        count: u32,
        /// Show all steps of this one.
        migration: Option<MigrationId>,
    },
    /// Break a migration off, if its commit point has not been passed.
    Abort {
        /// Which.
        migration: MigrationId,
        /// Its source.
        #[arg(long)]
        from: HostName,
    },
    /// Decide about a service in doubt by hand. Look with `podman ps` at the destination before: if it runs there and
    /// is kept at the source too, there are two copies; if it runs nowhere and is given up, it is lost.
    Settle {
        /// Which migration.
        migration: MigrationId,
        /// Its source.
        #[arg(long)]
        from: HostName,
        /// Restore it at the source, or give it up there.
        #[arg(long)]
        decision: Decision,
    },
    /// The testbed on this machine.
    Lab {
        #[command(subcommand)]
        command: Lab,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Decision {
    /// The source restores it from its own images.
    Keep,
    /// The source removes what it still has of it.
    GiveUp,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Transport {
    /// A data connection of its own, announced over Zenoh.
    Tcp,
    /// Chunks over Zenoh.
    Zenoh,
}

#[derive(clap::Args)]
pub(crate) struct Migrate {
    /// The service: its container's name.
    pub(crate) service: ServiceName,
    /// The host that it runs on; found if not given.
    #[arg(long)]
    pub(crate) from: Option<HostName>,
    /// The host that it is to run on.
    #[arg(long)]
    pub(crate) to: HostName,
    /// How its state is moved. This release: cold.
    #[arg(long, default_value = "cold")]
    pub(crate) strategy: Strategy,
    /// Which way the images go; the agents choose if not given.
    #[arg(long)]
    pub(crate) transport: Option<Transport>,
    /// The most that the migration may use of the link, such as 100Mbps, headers included; all there is if not given.
    #[arg(long)]
    pub(crate) bandwidth: Option<BitsPerSec>,
    /// Refuse if the destination lacks the container's image, instead of sending it.
    #[arg(long)]
    pub(crate) require_image: bool,
}

#[derive(Subcommand)]
pub(crate) enum Lab {
    /// Bring up the four hosts; harmless if they are up.
    Up(LabOptions),
    /// Tell how the hosts are.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a command on a host.
    Exec {
        /// The host.
        host: String,
        /// In this network namespace of the host, such as `client` on uav.
        #[arg(long)]
        netns: Option<String>,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        argv: Vec<OsString>,
    },
    /// Take the hosts down and remove all that belongs to them.
    Down {
        /// Remove the cached root file system too.
        #[arg(long)]
        purge: bool,
    },
    /// Take the hosts down and bring them up again, as new.
    Reset(LabOptions),
    /// Change the rate of the link between the edge hosts.
    Link {
        /// Such as 1gbit, 100mbit or unshaped.
        rate: LinkRate,
    },
    /// Start and stop workloads.
    Service {
        #[command(subcommand)]
        command: Service,
    },
    /// Migrate a workload to and fro under its client and print what the client saw.
    Laps(Box<Laps>),
    /// Migrate a workload to and fro, in turn with MOSE and by hand (a script over SSH), and compare the clients' gaps.
    Baseline(Box<Baseline>),
}

#[derive(clap::Args)]
pub(crate) struct LabOptions {
    /// The rate of the link between the edge hosts: 1gbit, 100mbit, … or unshaped.
    #[arg(long, default_value = "1gbit")]
    pub(crate) edge_link: LinkRate,
    /// Which cgroups the hosts see: auto, v1 or v2.
    #[arg(long, default_value = "auto")]
    pub(crate) cgroup: CgroupMode,
}

#[derive(Subcommand)]
pub(crate) enum Service {
    /// Start a workload: sockperf, iperf3, counter, redis, memcached, mosquitto or busybox.
    Start {
        /// Which workload.
        kind: String,
        /// On which host.
        #[arg(long)]
        on: String,
        /// The service's name; the workload's if not given.
        #[arg(long)]
        name: Option<String>,
        /// Its address on the overlay.
        #[arg(long)]
        address: Option<std::net::Ipv4Addr>,
        /// Further arguments of the workload's program.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Stop a service and remove its container.
    Stop {
        /// Its name.
        name: String,
        /// On which host.
        #[arg(long)]
        on: String,
    },
}

#[derive(clap::Args)]
pub(crate) struct Laps {
    /// Which workload.
    #[arg(default_value = "sockperf")]
    pub(crate) workload: String,
    /// How many laps A→B→A.
    #[arg(short = 'n', long, default_value_t = 3)]
    pub(crate) laps: u32,
    /// Which way the images go.
    #[arg(long)]
    pub(crate) transport: Option<Transport>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Bring the lab up first, and take it down at the end.
    #[arg(long)]
    pub(crate) own_lab: bool,
    /// Further arguments of the workload's program.
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Baseline {
    /// Which workload.
    #[arg(default_value = "sockperf")]
    pub(crate) workload: String,
    /// How many migrations of each kind.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub(crate) runs: u32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The bandwidth of a link as the model counts it.
pub(crate) fn bandwidth(rate: LinkRate) -> Option<BitsPerSec> {
    match rate {
        LinkRate::Unshaped => None,
        LinkRate::Bits(bits) => Some(BitsPerSec(bits)),
    }
}
