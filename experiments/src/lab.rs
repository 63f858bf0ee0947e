//! The testbed on this machine: up and down, what runs there, and where its programs and agents are.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::documents::print_json;
use mose_console::lab::{PROGRAM, Running, commands};
use mose_console::table;
use mose_lab::{
    AGENT_PORT, CgroupMode, Lab, LabConfig, LabError, LinkRate, OWN_BINARIES, Progress, ServiceOptions,
    start_service, stop_service,
};

use crate::{
    compare, connections, guest, laps, profiling, rounds, services, strategies, targets, unmovable, volumes,
};

/// What a lab is brought up with, on the command line.
pub(crate) type LabOptions = commands::LabOptions<LinkRate, CgroupMode>;

/// What the lab is brought up with: the programs beside this one.
pub(crate) fn config(options: &LabOptions) -> color_eyre::Result<LabConfig> {
    let binaries = own_programs()?;
    Ok(LabConfig { binaries, edge_link: options.edge_link, cgroup: options.cgroup, ..LabConfig::default() })
}

/// The project's programs that run on the hosts: those beside this one.
fn own_programs() -> color_eyre::Result<BTreeMap<String, PathBuf>> {
    beside_this(&OWN_BINARIES)
}

/// What a machine needs that is to have a lab of its own: these, and the programs that bring it up.
pub(crate) fn all_programs() -> color_eyre::Result<BTreeMap<String, PathBuf>> {
    let mut all = own_programs()?;
    all.extend(beside_this(&["mose", PROGRAM])?);
    Ok(all)
}

fn beside_this(names: &[&str]) -> color_eyre::Result<BTreeMap<String, PathBuf>> {
    let here = std::env::current_exe().wrap_err("this program's own place is not known")?;
    let folder = here.parent().unwrap_or(Path::new("/"));
    let found = names.iter().map(|&name| {
        let path = folder.join(name);
        if path.exists() {
            Ok((name.to_owned(), path))
        } else {
            Err(eyre!("{} is missing; build all programs: cargo build --release", path.display()))
        }
    });
    found.collect()
}

/// The lab that is up.
pub(crate) fn open() -> color_eyre::Result<Lab> {
    Ok(Lab::open(&LabConfig::default().state_dir)?.ok_or(LabError::NotUp)?)
}

/// What `mose` has to know of a lab that is up.
pub(crate) fn running(lab: &Lab) -> Running {
    Running {
        agents: agents_of(lab),
        controller: lab.host_pid("controller").map_err(|error| error.to_string()),
    }
}

/// The endpoints of the lab's agents.
pub(crate) fn agents_of(lab: &Lab) -> Vec<String> {
    lab.hosts().iter().map(|host| format!("tcp/{}:{AGENT_PORT}", host.underlay)).collect()
}

/// Enters the network of the lab's controller, from where its agents are reached. To be done before there are
/// other threads.
pub(crate) fn enter(lab: &Lab) -> color_eyre::Result<()> {
    mose_console::lab::enter(&running(lab))
}

pub(crate) fn show(progress: Progress) {
    eprintln!("{:>7.3} s  {}", progress.elapsed.as_secs_f64(), progress.what);
}

/// Runs a command of the lab.
pub(crate) fn run(command: commands::Lab<LinkRate, CgroupMode>) -> color_eyre::Result<ExitCode> {
    match command {
        commands::Lab::Up(options) => drop(Lab::up(&config(&options)?, &mut show)?),
        commands::Lab::Reset(options) => drop(Lab::reset(&config(&options)?, &mut show)?),
        commands::Lab::Down { purge } => {
            let report = Lab::down(&LabConfig::default())?;
            if purge {
                Lab::purge(&LabConfig::default())?;
            }
            print_json(&report);
        }
        commands::Lab::Status { json } => status(json)?,
        commands::Lab::Exec { host, netns, argv } => {
            let lab = open()?;
            let mut command = match netns {
                Some(netns) => lab.exec_in_netns(&host, &netns, &argv)?,
                None => lab.exec(&host, &argv)?,
            };
            let status = command.status().wrap_err("the command cannot be run")?;
            return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(137)));
        }
        commands::Lab::Link { rate } => open()?.set_edge_link(rate)?,
        commands::Lab::Service {
            command: commands::Service::Start { kind, on, name, address, arguments },
        } => {
            let mut options = ServiceOptions::of(&kind);
            options.name = name.unwrap_or(options.name);
            options.address = address.unwrap_or(options.address);
            options.arguments = arguments;
            println!("{}", start_service(&open()?, &kind, &on, &options)?);
        }
        commands::Lab::Service { command: commands::Service::Stop { name, on } } => {
            stop_service(&open()?, &on, &name)?
        }
        commands::Lab::Guest { deadline, files, argv } => return guest::run(deadline, &files, &argv),
        commands::Lab::Laps(options) => return laps::run(&options),
        commands::Lab::Connections(options) => return connections::run(&options),
        commands::Lab::Targets(options) => return targets::run(&options),
        commands::Lab::Rounds(options) => return rounds::run(&options),
        commands::Lab::Strategies(options) => return strategies::run(&options),
        commands::Lab::Volumes(options) => return volumes::run(&options),
        commands::Lab::Services(options) => return services::run(&options),
        commands::Lab::Profiling(options) => return profiling::run(&options),
        commands::Lab::Baseline(options) => return compare::run(&options),
        commands::Lab::Unmovable(options) => return unmovable::run(&options),
    }
    Ok(ExitCode::SUCCESS)
}

fn status(json: bool) -> color_eyre::Result<()> {
    let lab = open()?;
    // Others cannot see the hosts, and would be told that none is ready.
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::NotRoot.into());
    }
    let status = lab.status();
    if json {
        print_json(&status);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = status
        .hosts
        .iter()
        .map(|host| {
            let daemons = host
                .daemons
                .iter()
                .map(|daemon| format!("{}{}", daemon.name, if daemon.ready { "" } else { " (not ready)" }));
            vec![
                host.host.name.clone(),
                host.host.role.as_str().to_owned(),
                host.host.underlay.to_string(),
                if host.ready { "ready" } else { "not ready" }.to_owned(),
                daemons.collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    println!("{}", table::table(&["host", "role", "underlay", "state", "daemons"], &[], &rows));
    println!(
        "\nlink edge-a – edge-b: {} · cgroups {}",
        status.edge_link,
        if status.cgroup_v2 { "v2" } else { "v1" }
    );
    Ok(())
}
