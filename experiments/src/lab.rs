//! The testbed's commands: up and down, what runs there, and the experiments.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;

use color_eyre::eyre::WrapErr;
use mose_console::documents::print_json;
use mose_console::lab::commands;
use mose_console::table;
use mose_lab::{CgroupMode, Lab, LabConfig, LabError, LinkRate, ServiceOptions, start_service, stop_service};

use crate::testbed::{config, open, show};
use crate::{
    compare, connections, faults, guest, laps, paper, profiling, rehearsals, rounds, services, strategies,
    targets, uav, unmovable, volumes,
};

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
        commands::Lab::Radio { command: commands::Radio::On { seed } } => open()?.radio_on(seed)?,
        commands::Lab::Radio { command: commands::Radio::Off } => open()?.radio_off()?,
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
        commands::Lab::Rehearsals(options) => return rehearsals::run(&options),
        commands::Lab::Services(options) => return services::run(&options),
        commands::Lab::Profiling(options) => return profiling::run(&options),
        commands::Lab::Baseline(options) => return compare::run(&options),
        commands::Lab::Faults(options) => return faults::run(&options),
        commands::Lab::Soak(options) => return faults::soak(&options),
        commands::Lab::Paper(options) => return paper::run(&options),
        commands::Lab::Uav(options) => return uav::run(&options),
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
        "\nlink edge-a – edge-b: {} · cgroups {} · radio of uav: {}",
        status.edge_link,
        if status.cgroup_v2 { "v2" } else { "v1" },
        match (status.radio, lab.radio_cells().last()) {
            (Some(_), Some(cell)) => format!("cell {cell}"),
            (Some(_), None) => "on".to_owned(),
            (None, _) => "off".to_owned(),
        }
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Workloads that are for tests and the check only.
    const NOT_OFFERED: [&str; 2] = ["holdall", "holder"];

    #[test]
    fn the_console_offers_the_labs_workloads() {
        let offered: BTreeSet<&str> = mose_console::app::WORKLOADS.iter().copied().collect();
        let all = mose_lab::WORKLOADS.iter().map(|workload| workload.name);
        assert_eq!(offered, all.filter(|name| !NOT_OFFERED.contains(name)).collect());
    }
}
