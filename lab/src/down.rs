//! Taking the lab down so that nothing is left of it, whatever state it is in: processes are found by the state file and by
//! their mark, control groups by their name, files by their place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::cgroup::{CgroupPlan, Hierarchies};
use crate::config::{HOSTS, LabConfig};
use crate::doctor::require_root;
use crate::error::{Context, LabError};
use crate::files::remove_all;
use crate::lab::Lab;
use crate::procfs::{Process, inner_pid, marked, wait_gone};
use crate::state::{LabState, Lock};

/// How long hosts may take to end by themselves before they are killed.
const GRACE: Duration = Duration::from_secs(3);
/// How long what has been killed may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// What `down` found and removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "Report")]
pub struct DownReport {
    /// Hosts that ran (the underlay's holder included).
    pub hosts: usize,
    /// Of them, those that had to be killed.
    pub killed: usize,
    /// Control groups removed.
    pub cgroups: usize,
    /// Mounts undone; always 0 unless something was mounted into the lab's folders from outside.
    pub mounts: usize,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Lab {
    /// Takes the lab down: processes, mounts, links, control groups, files. The cache stays. Works whatever is left of the lab,
    /// and when there is none.
    ///
    /// # Errors
    /// Something could not be removed; it is named.
    pub fn down(config: &LabConfig) -> Result<DownReport, LabError> {
        let begun = Instant::now();
        if !config.state_dir.exists() && !config.data_dir.exists() && marked(&config.state_dir).is_empty() {
            return Ok(DownReport::default());
        }
        require_root()?;
        let _lock = Lock::take(&config.state_dir.join("lock"))?;
        // A state that cannot be read is as good as none here.
        let state = LabState::load(&config.state_dir).unwrap_or(None);
        let plan = match &state {
            Some(state) => state.cgroup.clone(),
            None => Hierarchies::detect()?.plan(config.cgroup, config.cgroup_name()),
        };
        let (hosts, killed) = end_hosts(config, state.as_ref(), &plan)?;
        let cgroups = remove_cgroups(&plan)?;
        let data_dir = state.as_ref().map_or(&config.data_dir, |s| &s.config.data_dir);
        let mounts = unmount_under(data_dir)? + unmount_under(&config.state_dir)?;
        remove_data(data_dir)?;
        remove_all(&config.state_dir)?;
        Ok(DownReport { hosts, killed, cgroups, mounts, took_ms: begun.elapsed().as_millis() as u64 })
    }
}

fn end_hosts(
    config: &LabConfig,
    state: Option<&LabState>,
    plan: &CgroupPlan,
) -> Result<(usize, usize), LabError> {
    let mut inits: Vec<Process> = state.map_or_else(Vec::new, |s| {
        s.hosts.iter().map(|h| h.init).chain(s.underlay).filter(Process::alive).collect()
    });
    let mark = marked(&config.state_dir);
    for process in &mark {
        if inner_pid(process.pid) == Some(1) && !inits.contains(process) {
            inits.push(*process);
        }
    }
    plan.thaw();
    for init in &inits {
        init.signal(Signal::SIGTERM);
    }
    let stubborn = wait_gone(&inits, GRACE);
    for init in &stubborn {
        init.signal(Signal::SIGKILL);
    }
    // With its pid 1 everything of a host dies. What else carries the mark was on its way to become a host.
    let rest: Vec<Process> = marked(&config.state_dir).into_iter().chain(stubborn.iter().copied()).collect();
    for process in &rest {
        process.signal(Signal::SIGKILL);
    }
    // A migration under way may have frozen its service since.
    plan.thaw();
    let left = wait_gone(&rest, GONE);
    if let Some(process) = left.first() {
        return Err(LabError::Leftover(format!(
            "{} processes do not die, pid {} among them (waiting for a disk?); try `mose lab down` again",
            left.len(),
            process.pid
        )));
    }
    Ok((inits.len(), stubborn.len()))
}

fn remove_cgroups(plan: &CgroupPlan) -> Result<usize, LabError> {
    let (removed, left) = plan.remove(GONE);
    match left.first() {
        None => Ok(removed),
        Some(dir) => Err(LabError::Leftover(format!(
            "{} control groups are still in use, {} among them; try `mose lab down` again",
            left.len(),
            dir.display()
        ))),
    }
}

/// Undoes mounts below `dir` in our own mount namespace; the lab makes none there, but removing files through one that
/// somebody else made would be a disaster.
fn unmount_under(dir: &Path) -> Result<usize, LabError> {
    let table = fs::read_to_string("/proc/self/mountinfo").on("read", "/proc/self/mountinfo")?;
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(dir) && point != dir)
        .collect();
    points.sort();
    for point in points.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH).on("unmount", point)?;
    }
    Ok(points.len())
}

fn remove_data(data_dir: &Path) -> Result<(), LabError> {
    for name in HOSTS.iter().map(|(name, ..)| *name).chain(["underlay"]) {
        remove_all(&data_dir.join(name))?;
    }
    match fs::remove_dir(data_dir) {
        // Not ours alone, or a mount of somebody's: what is ours in it is gone.
        Err(e)
            if !matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy
            ) =>
        {
            Err(e).on("remove", data_dir)
        }
        _ => Ok(()),
    }
}
