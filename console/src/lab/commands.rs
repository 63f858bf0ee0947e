//! Command-line definitions of `mose lab` and `mose calibrate`: `mose` reads them to refuse, to help and to complete, `mose-lab` to
//! carry them out.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Subcommand;
use mose_pam::{BitsPerSec, Millis, Strategy};
use mose_protocol::HostName;

use crate::arguments::{PreCopy, Transport};

pub use super::faults::{Faults, Soak};
pub use super::paper::{Paper, PaperTable};
pub use super::replace::Replace;
pub use super::uav::Uav;

/// What a word of the lab's own stands for: text in `mose`, which only hands it on, and a type of the testbed's in `mose-lab`, which
/// refuses what it does not know.
pub trait Word: FromStr<Err: Error + Send + Sync + 'static> + Clone + Send + Sync + 'static {}

impl<T: FromStr<Err: Error + Send + Sync + 'static> + Clone + Send + Sync + 'static> Word for T {}

/// The commands of `mose lab`, given what stands for a link's rate and for a version of cgroups.
#[derive(Subcommand)]
pub enum Lab<Rate: Word, Cgroups: Word> {
    /// Bring up the four hosts; harmless if they are up.
    Up(LabOptions<Rate, Cgroups>),
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
    Reset(LabOptions<Rate, Cgroups>),
    /// Change the rate of the link between the edge hosts.
    Link {
        /// Such as 1gbit, 100mbit or unshaped.
        rate: Rate,
    },
    /// Give the UAV a radio, or take it away: a delay and a loss of its links that follow its place.
    ///
    /// Two cells stand at the edge hosts; the UAV is served by the stronger one. Without a vehicle that tells where it is, the UAV is
    /// where its flight begins. All other figures are measured without a radio.
    Radio {
        /// What becomes of it.
        #[command(subcommand)]
        command: Radio,
    },
    /// Start and stop workloads.
    Service {
        /// What becomes of them.
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
    Connections(Connections),
    /// Migrate two services for a row of targets, and hold what was measured against what was promised.
    ///
    /// Under both objectives, the downtime's by both rules for rounds; writes targets.csv and targets.svg. Calibrate first.
    Targets(TargetsRun),
    /// Migrate an idle service to and fro by both rules for rounds in turn, and compare downtime, duration and rounds.
    ///
    /// Calibrate first.
    Rounds(Rounds),
    /// Migrate a workload to and fro under its client, in turn by each strategy, and compare them.
    Strategies(Box<Strategies>),
    /// Migrate a workload without and with a large volume that changes, in turn, and compare the downtimes.
    Volumes(Box<Volumes>),
    /// Rehearse a migration and then make it, to and fro, of each workload, and compare the two.
    ///
    /// The exit code is 1 where a rehearsal left, resumed or sent anything, or a client saw more of it than silence.
    Rehearsals(Box<Rehearsals>),
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
    /// Strike a migration with a fault, for each cell of a table of faults, moments, sides and strategies, and judge what came of it.
    ///
    /// Agents, engines, CRIU, disks and links of the lab break or hang; a client's own log says how long the service stood still,
    /// and whether anything was lost or answered twice. The whole table takes an hour or more. The exit code is 1 where anything is
    /// not as it should be.
    Faults(Box<Faults>),
    /// Migrate a counter to and fro many times under one client, with a fault in one of five migrations.
    Soak(Soak),
    /// Fly the paper's UAV while its autopilot moves, for each row of a table of the paper, and set what was measured beside what was
    /// published.
    ///
    /// Calibrate first. The rows take turns, in an order that follows from the seed. Each trial takes under a minute.
    Paper(Paper),
    /// Fly a UAV whose autopilot follows it from edge host to edge host, and print a line for each handover.
    ///
    /// Brings up what is missing, with a radio (see `mose lab radio`), and puts everything back at the end or at Ctrl-C. A real
    /// autopilot, a real client and a simulated quadcopter (JSBSim, fetched at first use) fly the paper's circle at 5 m/s; the lap of a
    /// minute has two handovers. Watch it in `mose` beside it, in the layout `handover`. The exit code is 1 where anything was lost.
    Uav(Uav),
}

/// What a lab is brought up with.
#[derive(clap::Args)]
pub struct LabOptions<Rate: Word, Cgroups: Word> {
    /// The rate of the link between the edge hosts: 1gbit, 100mbit, … or unshaped.
    #[arg(long, default_value = "1gbit", value_name = "RATE")]
    pub edge_link: Rate,
    /// Which cgroups the hosts see: auto, v1 or v2.
    #[arg(long, default_value = "auto")]
    pub cgroup: Cgroups,
}

/// The commands of `mose lab radio`.
#[derive(Subcommand)]
pub enum Radio {
    /// From now on the UAV's underlay goes over a radio.
    On {
        /// Of the random numbers that lose frames.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// The UAV is connected directly again.
    Off,
}

/// The commands of `mose lab service`.
#[derive(Subcommand)]
pub enum Service {
    /// Start a workload: sockperf, iperf3, counter, redis, memcached, mosquitto, autopilot, holder or busybox.
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

/// The options of `mose lab laps`.
#[derive(clap::Args)]
pub struct Laps {
    /// Which workload.
    #[arg(default_value = "sockperf")]
    pub workload: String,
    /// How many laps A→B→A.
    #[arg(short = 'n', long, default_value_t = 3)]
    pub laps: u32,
    /// Which way the images go.
    #[arg(long)]
    pub transport: Option<Transport>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Bring the lab up first, and take it down at the end.
    #[arg(long)]
    pub own_lab: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
    /// Further arguments of the workload's program.
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// The options of `mose lab baseline`.
#[derive(clap::Args)]
pub struct Baseline {
    /// Which workload.
    #[arg(default_value = "sockperf")]
    pub workload: String,
    /// How many migrations of each kind.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub runs: u32,
    /// Measure against the programs of another build, in this folder: each build in turn, in a lab of its own.
    #[arg(long, value_name = "FOLDER")]
    pub against: Option<std::path::PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose lab unmovable`.
#[derive(clap::Args)]
pub struct Unmovable {
    /// Only these kinds, such as io-uring; all if none is named.
    pub kinds: Vec<String>,
    /// Print JSON, one line for each kind.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose calibrate`.
#[derive(clap::Args)]
pub struct Calibrate {
    /// The two hosts; the lab's edge hosts if not given.
    pub hosts: Vec<HostName>,
    /// A coarse grid: under a minute, for a demo.
    #[arg(long)]
    pub quick: bool,
    /// What the link between them carries, such as 1Gbps; the lab's shaped rate if not given.
    #[arg(long, value_name = "RATE")]
    pub bandwidth: Option<BitsPerSec>,
    /// Also write each profile into this folder.
    #[arg(long, value_name = "DIR")]
    pub output: Option<std::path::PathBuf>,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose lab targets`.
#[derive(clap::Args)]
pub struct TargetsRun {
    /// The folder for targets.csv and targets.svg.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub output: PathBuf,
    /// What the link may carry, such as 1Gbps; what the agents measure if not given.
    #[arg(long, value_name = "RATE")]
    pub bandwidth: Option<BitsPerSec>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose lab strategies`.
#[derive(clap::Args)]
pub struct Strategies {
    /// Which workload.
    #[arg(default_value = "counter")]
    pub workload: String,
    /// How many migrations by each strategy.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub runs: u32,
    /// Which strategies; the first is what the others are compared with.
    #[arg(long, value_delimiter = ',', default_value = "cold,iterative-precopy")]
    pub strategies: Vec<Strategy>,
    /// Iterations of an iterative pre-copy.
    #[arg(long, short = 'I', default_value_t = 3, value_name = "N")]
    pub iterations: u32,
    /// How pre-copy reads the running service; the source chooses if not given.
    #[arg(long)]
    pub pre_copy: Option<PreCopy>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
    /// Further arguments of the workload's program.
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// The options of `mose lab profiling`.
#[derive(clap::Args)]
pub struct Profiling {
    /// The counter's state.
    #[arg(long, default_value = "256MiB")]
    pub state_size: String,
    /// The dirty-page rates, in pages per second.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000,50000")]
    pub rates: Vec<u64>,
    /// How many migrations under a counter at full speed.
    #[arg(short = 'n', long, default_value_t = 6)]
    pub runs: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose lab services`.
#[derive(clap::Args)]
pub struct ServicesRun {
    /// Which services, such as redis,nginx; all that can be moved here if not given.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub only: Vec<String>,
    /// By which strategies.
    #[arg(long, value_delimiter = ',', default_value = "cold,iterative-precopy")]
    pub strategies: Vec<Strategy>,
    /// Iterations of an iterative pre-copy.
    #[arg(long, short = 'I', default_value_t = 2, value_name = "N")]
    pub iterations: u32,
    /// How many times there and back by each strategy.
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub laps: u32,
    /// nginx sends a file of 1 GiB instead of 64 MiB, and pgbench runs for a minute.
    #[arg(long)]
    pub full: bool,
    /// Do it in a virtual machine with Debian's kernel; PostgreSQL if --only names nothing else.
    #[arg(long)]
    pub guest: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose lab volumes`.
#[derive(clap::Args)]
pub struct Volumes {
    /// How many migrations of each service.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub runs: u32,
    /// What the volume holds, in MiB.
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub size: u32,
    /// In how many files.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub files: u32,
    /// The share of the files that is written to each second.
    #[arg(long, default_value_t = 1, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub changed: u32,
    /// By which strategy.
    #[arg(long, default_value = "cold")]
    pub strategy: Strategy,
    /// Iterations of an iterative pre-copy.
    #[arg(long, short = 'I', default_value_t = 3, value_name = "N")]
    pub iterations: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose lab rehearsals`.
#[derive(clap::Args)]
pub struct Rehearsals {
    /// Which workloads; all if none is named.
    #[arg(value_name = "WORKLOAD")]
    pub workloads: Vec<String>,
    /// How many rehearsals of each, with a migration after each.
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// By which strategy.
    #[arg(long, default_value = "cold")]
    pub strategy: Strategy,
    /// Iterations of an iterative pre-copy.
    #[arg(long, short = 'I', default_value_t = 3, value_name = "N")]
    pub iterations: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose lab connections`.
#[derive(clap::Args)]
pub struct Connections {
    /// How many laps A→B→A.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub laps: u32,
    /// How many connections: 1 to 20000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub connections: u32,
    /// Requests per second on each: 1 to 1000.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rate: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose lab rounds`.
#[derive(clap::Args)]
pub struct Rounds {
    /// Which workload.
    #[arg(default_value = "sockperf")]
    pub workload: String,
    /// How many migrations by each rule.
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// The max duration (θ_mig) that all of them are planned for.
    #[arg(long, default_value = "5s", allow_hyphen_values = true, value_name = "TIME")]
    pub max_duration: Millis,
    /// What the link may carry, such as 1Gbps; what the agents measure if not given.
    #[arg(long, value_name = "RATE")]
    pub bandwidth: Option<BitsPerSec>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
    /// Further arguments of the workload's program.
    #[arg(last = true)]
    pub arguments: Vec<String>,
}
