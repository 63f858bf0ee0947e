//! Control groups: every host gets a folder of its own in every hierarchy and sees only what is below it. What the machine
//! offers decides what a host gets: v1 hierarchies, the unified one beside them (hybrid), or the unified one alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::config::CgroupMode;
use crate::error::{Context, LabError, Missing};
use crate::procfs::Process;

/// The leaf in which a host's own processes live under v2, where a group with controllers may hold none itself.
const LEAF: &str = "daemons";

/// One hierarchy as the machine has it mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Where the machine has it.
    pub path: PathBuf,
    /// v1: the mount option that names it (`cpu,cpuacct`, `name=systemd`). v2: `None`.
    pub v1_option: Option<String>,
}

/// The hierarchies of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies(Vec<Hierarchy>);

/// What a host does about cgroups.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// v2 in the host; else v1.
    pub v2: bool,
    /// The host sees no controller that limits its containers: v2 whose controllers are all bound to v1.
    pub bare: bool,
    /// The lab's own folder in each hierarchy.
    pub lab: String,
    /// The machine's hierarchies.
    pub hierarchies: Vec<Hierarchy>,
}

const V1_CONTROLLERS: [&str; 13] = [
    "cpuset",
    "cpu",
    "cpuacct",
    "blkio",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "perf_event",
    "net_prio",
    "hugetlb",
    "pids",
    "rdma",
];

impl Hierarchies {
    /// Reads them from the mount table.
    ///
    /// # Errors
    /// The mount table cannot be read.
    pub fn detect() -> Result<Hierarchies, LabError> {
        Ok(Hierarchies::parse(
            &fs::read_to_string("/proc/self/mountinfo").on("read", "/proc/self/mountinfo")?,
        ))
    }

    fn parse(mountinfo: &str) -> Hierarchies {
        let mut found: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let (Some(path), Some(kind), Some(options)) = (left.get(4), right.first(), right.get(2)) else {
                continue;
            };
            let v1_option = match *kind {
                "cgroup2" => None,
                "cgroup" => {
                    let named = options
                        .split(',')
                        .filter(|o| V1_CONTROLLERS.contains(o) || o.starts_with("name="))
                        .collect::<Vec<_>>()
                        .join(",");
                    if named.is_empty() {
                        continue;
                    }
                    Some(named)
                }
                _ => continue,
            };
            // The same hierarchy may be mounted more than once; one is enough.
            if !found.iter().any(|h| h.v1_option == v1_option) {
                found.push(Hierarchy { path: PathBuf::from(path), v1_option });
            }
        }
        Hierarchies(found)
    }

    fn has_v1(&self) -> bool {
        // A named hierarchy alone (systemd's) carries no controller.
        self.0.iter().any(|h| h.v1_option.as_ref().is_some_and(|o| !o.starts_with("name=")))
    }

    fn has_v2(&self) -> bool {
        self.0.iter().any(|h| h.v1_option.is_none())
    }

    fn unified_limits(&self) -> bool {
        let unified = self.0.iter().find(|h| h.v1_option.is_none());
        unified
            .and_then(|h| fs::read_to_string(h.path.join("cgroup.controllers")).ok())
            .is_some_and(|controllers| controllers.split_whitespace().any(|c| c == "pids"))
    }

    /// What is missing for `mode`, if anything.
    pub fn missing(&self, mode: CgroupMode) -> Option<Missing> {
        let missing = |what: &str, remedy: &str| {
            Some(Missing {
                what: what.to_owned(),
                why: "every container lives in one".to_owned(),
                remedy: remedy.to_owned(),
            })
        };
        match mode {
            _ if self.0.is_empty() => {
                missing("control groups", "mount them: mount -t cgroup2 none /sys/fs/cgroup")
            }
            CgroupMode::V1 if !self.has_v1() => {
                missing("cgroup v1", "leave out `--cgroup v1`: this machine has v2 only")
            }
            CgroupMode::V2 if !self.has_v2() => {
                missing("cgroup v2", "leave out `--cgroup v2`: this machine has v1 only")
            }
            _ => None,
        }
    }

    /// What the hosts do about cgroups on this machine.
    pub fn plan(self, mode: CgroupMode, lab: String) -> CgroupPlan {
        let v2 = match mode {
            CgroupMode::Auto => !self.has_v1(),
            CgroupMode::V1 => false,
            CgroupMode::V2 => true,
        };
        CgroupPlan { v2, bare: v2 && !self.unified_limits(), lab, hierarchies: self.0 }
    }
}

impl CgroupPlan {
    fn host_dirs(&self, host: &str) -> Vec<(&Hierarchy, PathBuf)> {
        self.hierarchies.iter().map(|h| (h, h.path.join(&self.lab).join(host))).collect()
    }

    /// Makes the host's folder in every hierarchy.
    pub(crate) fn create(&self, host: &str) -> Result<(), LabError> {
        for (hierarchy, dir) in self.host_dirs(host) {
            let lab_dir = hierarchy.path.join(&self.lab);
            for dir in [&lab_dir, &dir] {
                match fs::create_dir(dir) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
                    _ => Ok(()),
                }
                .on("make the control group", dir)?;
                if hierarchy.v1_option.as_ref().is_some_and(|o| o.split(',').any(|c| c == "cpuset")) {
                    inherit_cpuset(dir)?;
                }
            }
            if hierarchy.v1_option.is_none() {
                enable_controllers(&hierarchy.path);
                enable_controllers(&lab_dir);
            }
        }
        Ok(())
    }

    /// Puts the calling process into the host's folders; the cgroup namespace is made from there.
    pub(crate) fn join(&self, host: &str) -> Result<(), LabError> {
        for (_, dir) in self.host_dirs(host) {
            let procs = dir.join("cgroup.procs");
            fs::write(&procs, "0").on("join the control group", &procs)?;
        }
        Ok(())
    }

    /// v2: makes room for the containers beside the host's own processes. To be called once the namespace is made.
    pub(crate) fn settle(&self, host: &str) -> Result<(), LabError> {
        for (_, dir) in self.host_dirs(host).iter().filter(|(h, _)| h.v1_option.is_none()) {
            let leaf = dir.join(LEAF);
            fs::create_dir_all(&leaf).on("make the control group", &leaf)?;
            fs::write(leaf.join("cgroup.procs"), "0").on("join the control group", &leaf)?;
            enable_controllers(dir);
        }
        Ok(())
    }

    /// The `cgroup.procs` files a process joining a running host writes to.
    pub(crate) fn procs_files(&self, host: &str) -> Vec<PathBuf> {
        self.host_dirs(host)
            .into_iter()
            .map(|(h, dir)| match h.v1_option {
                Some(_) => dir.join("cgroup.procs"),
                None => dir.join(LEAF).join("cgroup.procs"),
            })
            .collect()
    }

    /// Lets everything in the lab's groups go on: what is frozen does not die of its signals, nor does a pid 1 whose
    /// namespace holds something frozen.
    pub(crate) fn thaw(&self) {
        self.hierarchies.iter().for_each(|h| thaw_tree(&h.path.join(&self.lab)));
    }

    /// The same for one host.
    pub(crate) fn thaw_host(&self, host: &str) {
        self.host_dirs(host).iter().for_each(|(_, dir)| thaw_tree(dir));
    }

    /// Ends what is left in the lab's groups and removes them. How many folders went, and those that would not.
    pub(crate) fn remove(&self, deadline: Duration) -> (usize, Vec<PathBuf>) {
        remove_trees(self.hierarchies.iter().map(|h| h.path.join(&self.lab)).collect(), deadline)
    }

    /// The same for one host: what an earlier life left of its groups cannot be joined (v2) or counts wrongly.
    pub(crate) fn remove_host(&self, host: &str, deadline: Duration) -> (usize, Vec<PathBuf>) {
        remove_trees(self.host_dirs(host).into_iter().map(|(_, dir)| dir).collect(), deadline)
    }
}

fn remove_trees(roots: Vec<PathBuf>, deadline: Duration) -> (usize, Vec<PathBuf>) {
    let end = Instant::now() + deadline;
    let mut removed = 0;
    loop {
        let mut left = Vec::new();
        for root in &roots {
            removed += remove_tree(root, &mut left);
        }
        if left.is_empty() || Instant::now() >= end {
            return (removed, left);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// v1's cpuset gives a new folder no cpus at all, and then nobody can join it.
fn inherit_cpuset(dir: &Path) -> Result<(), LabError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        if fs::read_to_string(&own).on("read", &own)?.trim().is_empty() {
            let from = dir.join("..").join(file);
            let value = fs::read_to_string(&from).on("read", &from)?;
            fs::write(&own, value.trim()).on("write", &own)?;
        }
    }
    Ok(())
}

/// Hands every controller there is down to the children. One that cannot be handed down is simply not offered to containers.
fn enable_controllers(dir: &Path) {
    let Ok(controllers) = fs::read_to_string(dir.join("cgroup.controllers")) else {
        return;
    };
    for controller in controllers.split_whitespace() {
        if let Err(error) = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}")) {
            tracing::debug!(%error, controller, dir = %dir.display(), "controller not handed down");
        }
    }
}

/// Thaws a group; one of a hierarchy without a freezer has neither file.
fn thaw(dir: &Path) {
    for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        if dir.join(file).exists()
            && let Err(error) = fs::write(dir.join(file), word)
        {
            tracing::debug!(%error, dir = %dir.display(), "a control group is not thawed");
        }
    }
}

/// Thaws a group and those below it, from above: a v1 group stays frozen as long as one above it is.
fn thaw_tree(dir: &Path) {
    thaw(dir);
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
        thaw_tree(&entry.path());
    }
}

/// Removes a cgroup and those below it, deepest first. A group that is busy has its processes killed and is left for the
/// next round.
fn remove_tree(dir: &Path, left: &mut Vec<PathBuf>) -> usize {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let mut removed = 0;
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            removed += remove_tree(&entry.path(), left);
        }
    }
    match fs::remove_dir(dir) {
        Ok(()) => removed += 1,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(_) => {
            thaw(dir);
            if let Ok(pids) = fs::read_to_string(dir.join("cgroup.procs")) {
                for process in pids.lines().filter_map(|p| p.parse().ok()).filter_map(Process::of) {
                    process.signal(Signal::SIGKILL);
                }
            }
            left.push(dir.to_path_buf());
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const PURE_V2: &str = "41 31 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn a_hybrid_machine_gives_its_hosts_v1_unless_asked() {
        let found = Hierarchies::parse(HYBRID);
        let options: Vec<_> = found.0.iter().map(|h| h.v1_option.as_deref()).collect();
        assert_eq!(options, [Some("cpu,cpuacct"), Some("devices"), Some("name=systemd"), None]);
        let plan = found.clone().plan(CgroupMode::Auto, "lab".into());
        assert!(!plan.v2 && !plan.bare);
        assert!(found.plan(CgroupMode::V2, "lab".into()).v2);
    }

    #[test]
    fn a_pure_v2_machine_gives_its_hosts_v2_and_a_leaf_for_their_own_processes() {
        let plan = Hierarchies::parse(PURE_V2).plan(CgroupMode::Auto, "lab".into());
        assert!(plan.v2);
        assert_eq!(
            plan.procs_files("edge-a"),
            [PathBuf::from("/sys/fs/cgroup/lab/edge-a/daemons/cgroup.procs")]
        );
    }

    #[test]
    fn a_mode_the_machine_lacks_is_named() {
        assert!(Hierarchies::parse(PURE_V2).missing(CgroupMode::V1).is_some());
        assert!(Hierarchies::parse("").missing(CgroupMode::Auto).is_some());
        assert_eq!(Hierarchies::parse(HYBRID).missing(CgroupMode::V2), None);
    }
}
