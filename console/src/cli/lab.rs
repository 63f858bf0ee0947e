//! The words of `mose lab`.

use std::ffi::OsString;

use clap::Subcommand;
use mose_lab::{CgroupMode, LinkRate};
use mose_pam::{BitsPerSec, Strategy};
use mose_protocol::HostName;

use super::{PreCopy, ServicesRun, Transport, Volumes};

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
    /// Run a command in a virtual machine with Debian's kernel, in which the whole lab runs too.
    ///
    /// For example: mose lab guest -- sh -c 'mose lab up && mose agents'. Without KVM its programs run many times slower than
    /// here.
    Guest {
        /// How long it may take, from boot to end, in seconds.
        #[arg(long, default_value_t = 600)]
        deadline: u64,
        /// A file or folder that the guest is to have, as FROM:TO; may be repeated.
        #[arg(long = "file", value_name = "FROM:TO")]
        files: Vec<String>,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// Migrate a workload to and fro under its client and print what the client saw.
    Laps(Box<Laps>),
    /// Migrate redis to and fro under many connections, and print how long their requests waited for replies.
    Connections(crate::lab::connections::Options),
    /// Migrate two services for a row of targets, and hold what was measured against what was promised.
    ///
    /// Under both objectives, the downtime's by both rules for rounds; writes targets.csv and targets.svg. Calibrate first.
    Targets(TargetsRun),
    /// Migrate an idle service to and fro by both rules for rounds in turn, and compare downtime, duration and rounds.
    ///
    /// Calibrate first.
    Rounds(crate::lab::rounds::Arguments),
    /// Migrate a workload to and fro under its client, in turn by each strategy, and compare them.
    Strategies(Box<Strategies>),
    /// Migrate a workload without and with a large volume that changes, in turn, and compare the downtimes.
    Volumes(Box<Volumes>),
    /// Hold the dirty-page rate that the agent tells of a counter against what the counter says itself.
    ///
    /// And its throughput in the rounds of a live pre-copy against that before.
    Profiling(Profiling),
    /// Move real services there and back under their clients by each strategy, and compare what they hold afterwards.
    ///
    /// Redis, Mosquitto, nginx and SQLite, and PostgreSQL where processes that are not root's can be moved. Their images are
    /// made from Debian's packages at first use. Ends with an error if anything was lost.
    Services(Box<ServicesRun>),
    /// Migrate a workload to and fro, in turn with MOSE and by hand (a script over SSH), and compare the clients' gaps.
    Baseline(Box<Baseline>),
    /// Have a container hold one thing of the kernel's after the other, and hold what `mose check` says of it against what CRIU
    /// does with it: each is dumped and restored by Podman, on edge-a.
    ///
    /// All of them take some minutes. The exit code is 1 where the check is wrong.
    Unmovable(Unmovable),
}

#[derive(clap::Args)]
pub(crate) struct LabOptions {
    /// The rate of the link between the edge hosts: 1gbit, 100mbit, … or unshaped.
    #[arg(long, default_value = "1gbit", value_name = "RATE")]
    pub(crate) edge_link: LinkRate,
    /// Which cgroups the hosts see: auto, v1 or v2.
    #[arg(long, default_value = "auto")]
    pub(crate) cgroup: CgroupMode,
}

#[derive(Subcommand)]
pub(crate) enum Service {
    /// Start a workload: sockperf, iperf3, counter, redis, memcached, mosquitto, holder or busybox.
    Start {
        /// Which workload.
        kind: String,
        /// On which host.
        #[arg(long, value_name = "HOST")]
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
        #[arg(long, value_name = "HOST")]
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

#[derive(clap::Args)]
pub(crate) struct Unmovable {
    /// Only these kinds, such as io-uring; all if none is named.
    pub(crate) kinds: Vec<String>,
    /// Print JSON, one line for each kind.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Calibrate {
    /// The two hosts; the lab's edge hosts if not given.
    pub(crate) hosts: Vec<HostName>,
    /// A coarse grid: under a minute, for a demo.
    #[arg(long)]
    pub(crate) quick: bool,
    /// What the link between them carries, such as 1Gbps; the lab's shaped rate if not given.
    #[arg(long, value_name = "RATE")]
    pub(crate) bandwidth: Option<BitsPerSec>,
    /// Also write each profile into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<std::path::PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct TargetsRun {
    /// The folder for targets.csv and targets.svg.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) output: std::path::PathBuf,
    /// What the link may carry, such as 1Gbps; what the agents measure if not given.
    #[arg(long, value_name = "RATE")]
    pub(crate) bandwidth: Option<BitsPerSec>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Strategies {
    /// Which workload.
    #[arg(default_value = "counter")]
    pub(crate) workload: String,
    /// How many migrations by each strategy.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub(crate) runs: u32,
    /// Which strategies; the first is what the others are compared with.
    #[arg(long, value_delimiter = ',', default_value = "cold,iterative-precopy")]
    pub(crate) strategies: Vec<Strategy>,
    /// Iterations of an iterative pre-copy.
    #[arg(long, short = 'I', default_value_t = 3, value_name = "N")]
    pub(crate) iterations: u32,
    /// How pre-copy reads the running service; the source chooses if not given.
    #[arg(long)]
    pub(crate) pre_copy: Option<PreCopy>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Further arguments of the workload's program.
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Profiling {
    /// The counter's state.
    #[arg(long, default_value = "256MiB")]
    pub(crate) state_size: String,
    /// The dirty-page rates, in pages per second.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000,50000")]
    pub(crate) rates: Vec<u64>,
    /// How many migrations under a counter at full speed.
    #[arg(short = 'n', long, default_value_t = 6)]
    pub(crate) runs: u32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
