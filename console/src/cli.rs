//! Command-line definitions of `mose`. Those of the lab's commands are in the library, as `mose-lab` has them too.

use clap::{Parser, Subcommand, ValueEnum};
use mose_console::arguments::{PreCopy, Shared, Transport};
use mose_console::documents::Document;
use mose_console::lab::commands::{Calibrate, Lab};
use mose_pam::{BitsPerSec, Millis, Objective, RoundsRule, Strategy};
use mose_protocol::{HostName, MigrationId, ServiceName};

/// Moves running, stateful containers between edge hosts while their clients stay connected.
#[derive(Parser)]
#[command(name = "mose", version, after_help = mose_console::exit::help())]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(flatten)]
    pub(crate) console: crate::console::Arguments,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the agents.
    Agents,
    /// List the services and where they run.
    Services,
    /// List the links between the edge hosts.
    ///
    /// What they carry, what others use of it, and how long a round trip takes.
    Links {
        /// Measure each of them now, instead of telling what is known.
        #[arg(long)]
        probe: bool,
    },
    /// Move a service to another host and print every step as it happens.
    #[command(after_help = mose_console::exit::help())]
    Migrate(Box<Migrate>),
    /// Rehearse a migration: everything but the commitment. The service goes on at its source.
    ///
    /// The destination prepares and receives as it would; the service is dumped and goes on running, so that it stands still for as long
    /// as CRIU holds it; the images are sent, verified, and restored there up to the moment at which the service would run. Then all of
    /// it is removed. Nothing of it ever runs there, and nobody's packets take another way. The steps and figures are those of a
    /// migration, and for how long the service would have stood still. The exit code is 0 if all went well.
    #[command(after_help = mose_console::exit::help())]
    Rehearse(Box<Migrate>),
    /// Plan a migration: which strategy, how many iterations, how much bandwidth, and what that promises.
    ///
    /// From given figures it needs no agent; with --service the agents measure what is not given.
    Plan(Box<crate::plan::Arguments>),
    /// Check whether a service can move as it is now: what CRIU cannot dump, what stays behind, what the destination lacks.
    ///
    /// Its host looks at its processes while they run; nothing is changed, and nothing stands still. Every plan and every
    /// migration asks this first. The exit code is 0 if it can move and 3 if it cannot.
    #[command(after_help = mose_console::exit::help())]
    Check {
        /// The service: its container's name.
        service: ServiceName,
        /// The host that it would move to, which is asked too.
        #[arg(long, value_name = "HOST")]
        to: Option<HostName>,
        /// The host that it runs on; found if not given.
        #[arg(long, value_name = "HOST")]
        from: Option<HostName>,
    },
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
    /// Abort a migration, if its commit point has not been passed, and tell how it ended.
    ///
    /// The service goes on at its source. The exit code is 0 if it does. After the commit point the order is refused, with what is
    /// true of the service then.
    Abort {
        /// Which.
        migration: MigrationId,
        /// Its source; found if not given.
        #[arg(long, value_name = "HOST")]
        from: Option<HostName>,
    },
    /// Decide about a service in doubt by hand, and tell what came of it.
    ///
    /// Look with `podman ps` at the destination before: if it runs there and
    /// is kept at the source too, there are two copies; if it runs nowhere and is given up, it is lost.
    /// The destination is asked once more: if it speaks, its word counts. Afterwards what happened is told, and whether the
    /// destination is still needed. Only the source can settle: while it is silent, nothing is ordered. The exit code is 0 once the
    /// doubt is over, 5 if it is not after half a minute.
    Settle {
        /// Which migration.
        migration: MigrationId,
        /// Its source; found if not given.
        #[arg(long, value_name = "HOST")]
        from: Option<HostName>,
        /// Resume it at the source, or discard the source's copy.
        #[arg(long)]
        decision: Decision,
    },
    /// Check what usually breaks, here and on the agents' hosts, and say the remedy.
    ///
    /// On this machine: whether it reaches agents, and can run the lab. On every host whose agent is reached: CRIU against the
    /// kernel, dirty-page tracking, Podman, Open vSwitch, container images, free disk, the clock. What will be used instead of a
    /// part that is missing is said too. A check that cannot be made is unknown. The exit code is 0 if nothing is broken.
    #[command(after_help = mose_console::exit::help())]
    Doctor {
        /// Only these hosts, and this machine.
        hosts: Vec<HostName>,
    },
    /// Print the JSON Schema of what a command prints with --json.
    ///
    /// Without a name: those of all documents, by name.
    Schema {
        /// Which document.
        name: Option<Document>,
    },
    /// Print the completions for a shell.
    ///
    /// For example: mose completions bash > /etc/bash_completion.d/mose
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual, a page for each command.
    ///
    /// To read it: mose man | man -l -
    Man {
        /// Write the pages into this folder instead, which is made: mose.1, mose-migrate.1 and so on.
        #[arg(long, value_name = "DIR")]
        output: Option<std::path::PathBuf>,
    },
    /// Measure how long migrations between two hosts of the lab take, and keep the model's parameters fitted to it.
    Calibrate(Calibrate),
    /// Run the demo testbed: simulated hosts with real agents in this process, on loopback. Needs no root.
    Demo(crate::demo::Arguments),
    /// Write down what the agents tell, until interrupted, into a file that `mose replay` shows.
    Record {
        /// A file that is not there yet.
        file: std::path::PathBuf,
    },
    /// Show a recording in the console, with pause, speed and seek. Needs neither agents nor root.
    Replay {
        /// What `mose record` or the console wrote.
        file: std::path::PathBuf,
        #[command(flatten)]
        console: crate::console::Arguments,
    },
    /// Print the console's settings with their defaults and what they mean, to be put into $XDG_CONFIG_HOME/mose/config.toml.
    Config {
        /// Print the settings' JSON Schema instead.
        #[arg(long)]
        schema: bool,
    },
    /// The testbed on this machine.
    Lab {
        #[command(subcommand)]
        command: Lab<String, String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Decision {
    /// The source resumes it, from its own images.
    Keep,
    /// The source discards its copy, for good.
    GiveUp,
}

#[derive(clap::Args)]
pub(crate) struct Migrate {
    /// The service: its container's name.
    pub(crate) service: ServiceName,
    /// The host that it runs on; found if not given.
    #[arg(long, value_name = "HOST")]
    pub(crate) from: Option<HostName>,
    /// The host that it is to run on.
    #[arg(long, value_name = "HOST")]
    pub(crate) to: HostName,
    /// How its state is moved: cold, precopy or iterative-precopy; cold if there are no targets to plan for.
    #[arg(long)]
    pub(crate) strategy: Option<Strategy>,
    /// Longest downtime (θ_down), such as 800ms: the strategy is then planned from what the agents measure.
    #[arg(long, requires = "target_duration", conflicts_with_all = ["strategy", "iterations"], value_name = "TIME")]
    pub(crate) target_downtime: Option<Millis>,
    /// Longest migration (θ_mig), such as 5s.
    #[arg(long, requires = "target_downtime", value_name = "TIME")]
    pub(crate) target_duration: Option<Millis>,
    /// What to minimise: downtime or resources.
    #[arg(long, requires = "target_downtime", default_value = "downtime")]
    pub(crate) objective: Objective,
    /// How many rounds of pre-copy: enough, so that more would not shorten the expected downtime, ending early where one no longer
    /// pays; or paper, all that fit into --target-duration.
    #[arg(long, requires = "target_downtime", default_value = "enough", value_name = "RULE")]
    pub(crate) rounds_rule: RoundsRule,
    /// Refuse if no plan meets the targets, instead of carrying out the one that comes nearest.
    #[arg(long, requires = "target_downtime")]
    pub(crate) strict: bool,
    /// Iterations of an iterative pre-copy; all of them are made.
    #[arg(long, short = 'I', value_name = "N")]
    pub(crate) iterations: Option<u32>,
    /// How pre-copy reads the running service; the source chooses if not given.
    #[arg(long)]
    pub(crate) pre_copy: Option<PreCopy>,
    /// Which way the images go; the agents choose if not given.
    #[arg(long)]
    pub(crate) transport: Option<Transport>,
    /// The most that the migration may use of the link, such as 100Mbps, headers included; all there is if not given.
    #[arg(long, value_name = "RATE")]
    pub(crate) bandwidth: Option<BitsPerSec>,
    /// Refuse if the destination lacks the container's image, instead of sending it.
    #[arg(long)]
    pub(crate) require_image: bool,
    /// Let volumes of the same name at the destination give way, with what they hold, also if the migration is then rolled back.
    #[arg(long)]
    pub(crate) overwrite_volume: bool,
    /// Copy the bind mount of this path as a volume is moved, instead of expecting it at the destination; can be repeated. The
    /// source keeps its files.
    #[arg(long, value_name = "PATH")]
    pub(crate) copy_bind: Vec<String>,
}
