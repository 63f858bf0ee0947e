//! What a machine needs to run the lab, checked before anything is touched, and told all at once with the remedies.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use crate::cgroup::Hierarchies;
use crate::config::LabConfig;
use crate::error::{LabError, Missing};
use crate::run::machine_program;
use crate::{exec, rootfs, underlay};

/// Free space the root file system, the images and the hosts need to be built and to run, in bytes.
const SPACE: u64 = 2 << 30;
const TOOLS: [(&str, &str); 5] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
];

/// What this machine lacks for a lab with the default options; empty if nothing.
pub fn doctor() -> Vec<Missing> {
    missing_for(&LabConfig::default())
}

/// Refuses what this machine cannot run.
///
/// # Errors
/// [`LabError::Machine`], with everything that is missing.
pub(crate) fn require(config: &LabConfig) -> Result<(), LabError> {
    let missing = missing_for(config);
    if missing.is_empty() { Ok(()) } else { Err(LabError::Machine(missing)) }
}

/// Refuses a machine that lacks what trees of Debian packages are unpacked with.
///
/// # Errors
/// [`LabError::NotRoot`], or [`LabError::Machine`] with all that is missing.
pub(crate) fn require_builder() -> Result<(), LabError> {
    require_root()?;
    let mut missing = Vec::new();
    tools(false, &mut missing);
    if missing.is_empty() { Ok(()) } else { Err(LabError::Machine(missing)) }
}

/// Refuses whoever may not touch a lab that is up.
///
/// # Errors
/// [`LabError::NotRoot`].
pub(crate) fn require_root() -> Result<(), LabError> {
    if is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn missing_for(config: &LabConfig) -> Vec<Missing> {
    let mut missing = Vec::new();
    // What only root can try is not tried without: it would fail for that reason and none other.
    let root = is_root();
    if !root {
        missing.push(entry("root", "namespaces, mounts, links", "run it as root, e.g. with sudo"));
    }
    let cached = rootfs::path(&config.cache_dir).exists();
    tools(cached, &mut missing);
    kernel(root, &mut missing);
    match Hierarchies::detect() {
        Ok(found) => missing.extend(found.missing(config.cgroup)),
        Err(error) => missing.push(entry("/proc", "the mount table is read from it", &error.to_string())),
    }
    disk(config, cached, &mut missing);
    for (name, path) in &config.binaries {
        if !path.is_file() {
            missing.push(entry(
                &format!("{name} ({} is no file)", path.display()),
                "it runs on the hosts",
                "build it: cargo build --release",
            ));
        }
    }
    missing
}

fn entry(what: &str, why: &str, remedy: &str) -> Missing {
    Missing { what: what.to_owned(), why: why.to_owned(), remedy: remedy.to_owned() }
}

fn tools(cached: bool, missing: &mut Vec<Missing>) {
    for (tool, package) in TOOLS {
        if !in_path(tool) {
            missing.push(entry(
                tool,
                "it makes the hosts and their links",
                &format!("apt-get install {package}"),
            ));
        }
    }
    if cached {
        return; // what follows is for building it only
    }
    if !in_path("mmdebstrap") {
        missing.push(entry(
            "mmdebstrap",
            "it builds the hosts' root file system",
            "apt-get install mmdebstrap",
        ));
    }
    let keyrings =
        ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
    if !keyrings.iter().any(|k| Path::new(k).exists()) {
        missing.push(entry(
            "Debian's archive keys",
            "the root file system's packages are checked against them",
            "apt-get install debian-archive-keyring",
        ));
    }
}

/// Whether it is where [`machine_program`] looks.
fn in_path(tool: &str) -> bool {
    env::split_paths(exec::PATH).any(|dir| dir.join(tool).is_file())
}

fn kernel(root: bool, missing: &mut Vec<Missing>) {
    let overlay =
        fs::read_to_string("/proc/filesystems").is_ok_and(|f| f.lines().any(|l| l.ends_with("\toverlay")));
    if !overlay && root && !modprobe("overlay") {
        missing.push(entry(
            "overlayfs in the kernel",
            "hosts and containers are layers over common files",
            "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS",
        ));
    }
    if !Path::new("/proc/sys/kernel/ns_last_pid").exists() {
        missing.push(entry(
            "checkpoint/restore in the kernel",
            "CRIU needs it",
            "a kernel with CONFIG_CHECKPOINT_RESTORE (Debian's and Ubuntu's have it)",
        ));
    }
    if !Path::new("/dev/net/tun").exists() && root && !modprobe("tun") {
        missing.push(entry(
            "/dev/net/tun",
            "Open vSwitch's userspace datapath opens it",
            "modprobe tun, or a kernel with CONFIG_TUN",
        ));
    }
    let refused = if root { underlay::refused_by_kernel() } else { Vec::new() };
    for refused in refused {
        // The network commands load modules by themselves where they may; this is for where they may not.
        missing.push(entry(
            &format!("`{refused}` in the kernel"),
            "the hosts' network is made of it",
            &format!("modprobe {refused}, or a kernel that has it; in a container: run it --privileged"),
        ));
    }
}

fn modprobe(module: &str) -> bool {
    machine_program("modprobe").arg(module).output().is_ok_and(|o| o.status.success())
}

/// The room that a folder of the lab has, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The folder, or the nearest one above it that exists.
    pub folder: PathBuf,
    /// What is free there.
    pub free: u64,
    /// What the lab wants there.
    pub needed: u64,
}

/// The room that a lab with the default options has on this machine.
pub fn space() -> Vec<Space> {
    let config = LabConfig::default();
    space_for(&config, rootfs::path(&config.cache_dir).exists())
}

fn space_for(config: &LabConfig, cached: bool) -> Vec<Space> {
    let dirs: [(&PathBuf, u64); 2] =
        [(&config.cache_dir, if cached { 0 } else { SPACE }), (&config.data_dir, SPACE / 4)];
    let space = |(dir, needed): (&PathBuf, u64)| {
        let folder = existing_parent(dir);
        let free = statvfs(folder).map_or(0, |s| s.blocks_available() * s.fragment_size());
        Space { folder: folder.to_owned(), free, needed }
    };
    dirs.into_iter().map(space).collect()
}

fn disk(config: &LabConfig, cached: bool, missing: &mut Vec<Missing>) {
    for Space { folder, free, needed } in space_for(config, cached) {
        if free < needed {
            missing.push(entry(
                &format!("space in {} ({} MB free)", folder.display(), free / 1_000_000),
                "the root file system, images and containers lie there",
                &format!("free {} MB, or choose another folder", needed.div_ceil(1_000_000)),
            ));
        }
    }
    let cache = existing_parent(&config.cache_dir);
    if statfs(cache).is_ok_and(|s| s.filesystem_type() == OVERLAYFS_SUPER_MAGIC) {
        missing.push(entry(
            &format!("a file system other than overlay under {}", config.cache_dir.display()),
            "Podman's image layers cannot lie on an overlay",
            &format!("mount a volume there, or: mount -t tmpfs none {}", config.cache_dir.display()),
        ));
    }
}

fn existing_parent(dir: &Path) -> &Path {
    dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_built_is_named_with_the_remedy() {
        let mut config = LabConfig::default();
        config.binaries.insert("mose-agent".into(), "/nowhere/mose-agent".into());
        let missing = missing_for(&config);
        assert!(
            missing
                .iter()
                .any(|m| m.what.contains("/nowhere/mose-agent") && m.remedy.contains("cargo build"))
        );
    }
}
