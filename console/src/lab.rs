//! `mose lab`: the testbed on this machine.
#![expect(clippy::print_stdout, reason = "a command line prints")]

pub(crate) mod calibrate;
mod compare;
pub(crate) mod connections;
mod course;
mod guest;
mod laps;
mod profiling;
pub(crate) mod rounds;
mod services;
mod strategies;
mod targets;
mod unmovable;
mod volumes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use color_eyre::eyre::{WrapErr, eyre};
use mose_lab::{
    AGENT_PORT, Lab, LabConfig, LabError, OWN_BINARIES, Progress, ServiceOptions, start_service, stop_service,
};

use crate::cli;
use crate::commands::print_json;

/// What the lab is brought up with: the programs beside this one.
pub(crate) fn config(options: &cli::LabOptions) -> color_eyre::Result<LabConfig> {
    let binaries = own_programs()?;
    Ok(LabConfig { binaries, edge_link: options.edge_link, cgroup: options.cgroup, ..LabConfig::default() })
}

/// The project's programs that run on the hosts: those beside this one.
fn own_programs() -> color_eyre::Result<BTreeMap<String, PathBuf>> {
    let here = std::env::current_exe().wrap_err("this program's own place is not known")?;
    let folder = here.parent().unwrap_or(Path::new("/"));
    let found = OWN_BINARIES.into_iter().map(|name| {
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

/// The endpoints of the lab's agents.
pub(crate) fn agents_of(lab: &Lab) -> Vec<String> {
    lab.hosts().iter().map(|host| format!("tcp/{}:{AGENT_PORT}", host.underlay)).collect()
}

/// Enters the network of the lab's controller, from where its agents are reached. To be done before there are
/// other threads.
pub(crate) fn enter(lab: &Lab) -> color_eyre::Result<()> {
    let pid = lab.host_pid("controller")?;
    let netns = std::fs::File::open(format!("/proc/{pid}/ns/net"))
        .wrap_err("the lab's controller cannot be entered; be root, or name agents with --connect")?;
    nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)
        .wrap_err("the lab's controller cannot be entered; be root, or name agents with --connect")
}

fn show(progress: Progress) {
    eprintln!("{:>7.3} s  {}", progress.elapsed.as_secs_f64(), progress.what);
}

/// Runs a command of the lab.
pub(crate) fn run(command: cli::Lab) -> color_eyre::Result<ExitCode> {
    match command {
        cli::Lab::Up(options) => drop(Lab::up(&config(&options)?, &mut show)?),
        cli::Lab::Reset(options) => drop(Lab::reset(&config(&options)?, &mut show)?),
        cli::Lab::Down { purge } => {
            let report = Lab::down(&LabConfig::default())?;
            if purge {
                Lab::purge(&LabConfig::default())?;
            }
            print_json(&report);
        }
        cli::Lab::Status { json } => status(json)?,
        cli::Lab::Exec { host, netns, argv } => {
            let lab = open()?;
            let mut command = match netns {
                Some(netns) => lab.exec_in_netns(&host, &netns, &argv)?,
                None => lab.exec(&host, &argv)?,
            };
            let status = command.status().wrap_err("the command cannot be run")?;
            return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(137)));
        }
        cli::Lab::Link { rate } => open()?.set_edge_link(rate)?,
        cli::Lab::Service { command: cli::Service::Start { kind, on, name, address, arguments } } => {
            let mut options = ServiceOptions::of(&kind);
            options.name = name.unwrap_or(options.name);
            options.address = address.unwrap_or(options.address);
            options.arguments = arguments;
            println!("{}", start_service(&open()?, &kind, &on, &options)?);
        }
        cli::Lab::Service { command: cli::Service::Stop { name, on } } => stop_service(&open()?, &on, &name)?,
        cli::Lab::Guest { deadline, files, argv } => return guest::run(deadline, &files, &argv),
        cli::Lab::Laps(options) => return laps::run(&options),
        cli::Lab::Connections(options) => return connections::run(&options),
        cli::Lab::Targets(options) => return targets::run(&options),
        cli::Lab::Rounds(options) => return rounds::run(&options),
        cli::Lab::Strategies(options) => return strategies::run(&options),
        cli::Lab::Volumes(options) => return volumes::run(&options),
        cli::Lab::Services(options) => return services::run(&options),
        cli::Lab::Profiling(options) => return profiling::run(&options),
        cli::Lab::Baseline(options) => return compare::run(&options),
        cli::Lab::Unmovable(options) => return unmovable::run(&options),
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
    println!("{}", mose_console::table::table(&["host", "role", "underlay", "state", "daemons"], &[], &rows));
    println!(
        "\nlink edge-a – edge-b: {} · cgroups {}",
        status.edge_link,
        if status.cgroup_v2 { "v2" } else { "v1" }
    );
    Ok(())
}
