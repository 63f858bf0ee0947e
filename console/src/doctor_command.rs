//! `mose doctor`: what usually breaks, on this machine and on the agents' hosts.
#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;

use mose_console::doctor::{HostReport, Machine, Reached, Report, examine, page};
use mose_console::documents::print_json;
use mose_console::exit;
use mose_protocol::HostName;
use mose_protocol::doctor::CheckState;

use crate::connect::{Source, endpoints, with_fleet};

/// Looks, prints, and says by the exit code whether anything is broken.
pub(crate) fn run(hosts: &[HostName], connect: &[String], json: bool) -> ExitCode {
    // Before the lab's network is entered: this is about the machine's.
    let machine = Machine::look();
    match endpoints(connect) {
        Err(error) => tell(&machine, &Reached::Untried(format!("{error:#}")), Vec::new(), json),
        Ok((endpoints, source)) => with_fleet(&endpoints, json, async |fleet| {
            let (live, found) = examine(fleet, hosts).await?;
            let reached = match source {
                _ if !live.is_empty() => Reached::Hosts(live),
                Source::Multicast => Reached::NobodyNamed(fleet.nobody()),
                Source::Named | Source::Lab => Reached::Nobody(fleet.nobody()),
            };
            Ok(tell(&machine, &reached, found, json))
        }),
    }
}

fn tell(machine: &Machine, reached: &Reached, hosts: Vec<HostReport>, json: bool) -> ExitCode {
    let report = Report { machine: machine.checks(reached), hosts };
    if json {
        print_json(&report);
    } else {
        println!("{}", page(&report));
    }
    match report.count(CheckState::Broken) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::FAILED),
    }
}
