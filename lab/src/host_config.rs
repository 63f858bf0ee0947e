//! What a host is made of, as whoever starts it writes down and its own init reads.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupPlan;
use crate::config::Role;

/// What a host's init is told, as JSON in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostConfig {
    /// The host's name; of the underlay's holder: `underlay`.
    pub(crate) name: String,
    /// Only holds the underlay's network namespace: no root file system, no daemons.
    pub(crate) holder: bool,
    /// What it is in the testbed.
    pub(crate) role: Role,
    /// Its underlay address.
    pub(crate) address: Ipv4Addr,
    /// The other hosts and their underlay addresses.
    pub(crate) peers: Vec<(String, Ipv4Addr)>,
    /// The read-only root file system.
    pub(crate) rootfs: PathBuf,
    /// The read-only image stores.
    pub(crate) image_stores: Vec<PathBuf>,
    /// The host's own folder on the machine.
    pub(crate) data: PathBuf,
    /// The host's own folder cannot carry an overlay: keep what the host writes in memory.
    pub(crate) in_memory: bool,
    /// What marks the lab's processes.
    pub(crate) state_dir: PathBuf,
    /// What to do about cgroups.
    pub(crate) cgroup: CgroupPlan,
    /// The project's programs, by name.
    pub(crate) binaries: BTreeMap<String, PathBuf>,
}

impl HostConfig {
    #[cfg(test)]
    pub(crate) fn example() -> HostConfig {
        HostConfig {
            name: "edge-a".into(),
            holder: false,
            role: Role::Edge,
            address: Ipv4Addr::new(10, 99, 0, 11),
            peers: vec![("edge-b".into(), Ipv4Addr::new(10, 99, 0, 12))],
            rootfs: "/rootfs".into(),
            image_stores: vec!["/images".into()],
            data: "/data".into(),
            in_memory: false,
            state_dir: "/run/mose-lab".into(),
            cgroup: CgroupPlan { v2: false, bare: false, lab: "mose-lab".into(), hierarchies: Vec::new() },
            binaries: BTreeMap::new(),
        }
    }
}
