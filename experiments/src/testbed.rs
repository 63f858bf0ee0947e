//! The lab on this machine as everything here uses it: what it is brought up with, and where its programs and agents are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use color_eyre::eyre::{WrapErr, eyre};
use mose_console::lab::{PROGRAM, Running, commands};
use mose_lab::{AGENT_PORT, CgroupMode, Lab, LabConfig, LabError, LinkRate, OWN_BINARIES, Progress};

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
