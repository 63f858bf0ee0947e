//! The mounts of a host: an overlay over the common root file system, fresh kernel file systems, the cgroup hierarchies from
//! the host's own folder downwards. All in the host's own mount namespace, invisible to the machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::error::{Context, LabError};
use crate::files::set_mode;
use crate::host_config::HostConfig;

/// Where a host sees the image stores.
pub(crate) const IMAGE_STORES: &str = "/usr/lib/mose-images";
const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NONE: Option<&str> = None;

fn mount_new(kind: &str, target: &Path, flags: MsFlags, options: &str) -> Result<(), LabError> {
    fs::create_dir_all(target).on("make", target)?;
    mount(Some(kind), target, Some(kind), flags, Some(options))
        .on(&format!("mount {kind} ({options}) on"), target)
}

fn bind(source: &Path, target: &Path) -> Result<(), LabError> {
    fs::create_dir_all(target).on("make", target)?;
    mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)
        .on(&format!("bind {} on", source.display()), target)
}

/// Keeps what is mounted here from showing anywhere else.
pub(crate) fn make_private() -> Result<(), LabError> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).doing("make the mounts private")
}

/// Puts the host's root file system together; where it is.
pub(crate) fn prepare(host: &HostConfig) -> Result<PathBuf, LabError> {
    make_private()?;
    let data = &host.data;
    if host.in_memory {
        mount_new("tmpfs", data, MsFlags::empty(), "mode=755")?;
    }
    let [upper, work, root, containers] = ["upper", "work", "root", "containers"].map(|d| data.join(d));
    for dir in [&upper, &work, &root, &containers] {
        fs::create_dir_all(dir).on("make", dir)?;
    }
    set_mode(&upper, 0o755)?;
    let options =
        format!("lowerdir={},upperdir={},workdir={}", host.rootfs.display(), upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .on(&format!("mount the overlay ({options}) on"), &root)?;
    // Podman's storage must not lie on an overlay: the layers it stacks could not use it.
    bind(&containers, &root.join("var/lib/containers"))?;
    for (n, store) in host.image_stores.iter().enumerate() {
        let target = root.join(format!("{}/{n}", &IMAGE_STORES[1..]));
        bind(store, &target)?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(NONE, &target, NONE, flags, NONE).on("make read-only", &target)?;
    }
    mount_new("proc", &root.join("proc"), PLAIN | MsFlags::MS_NOEXEC, "")?;
    mount_new("sysfs", &root.join("sys"), PLAIN | MsFlags::MS_NOEXEC, "")?;
    mount_new("tmpfs", &root.join("run"), PLAIN, "mode=755")?;
    mount_new("tmpfs", &root.join("tmp"), PLAIN, "mode=1777")?;
    devices(&root.join("dev"))?;
    cgroups(host, &root.join("sys/fs/cgroup"))?;
    Ok(root)
}

/// A `/dev` with what programs, OvS and containers need.
fn devices(dev: &Path) -> Result<(), LabError> {
    mount_new("tmpfs", dev, MsFlags::MS_NOSUID, "mode=755")?;
    let nodes: [(&str, u64, u64); 7] = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        ("net/tun", 10, 200),
    ];
    fs::create_dir(dev.join("net")).on("make", dev.join("net"))?;
    for (name, major, minor) in nodes {
        let node = dev.join(name);
        mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))
            .on("make", &node)?;
        set_mode(&node, 0o666)?;
    }
    mount_new(
        "devpts",
        &dev.join("pts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620",
    )?;
    mount_new("tmpfs", &dev.join("shm"), PLAIN, "mode=1777")?;
    mount_new("mqueue", &dev.join("mqueue"), PLAIN | MsFlags::MS_NOEXEC, "")?;
    let links = [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ];
    for (to, link) in links {
        symlink(to, dev.join(link)).on("link", dev.join(link))?;
    }
    Ok(())
}

/// The hierarchies, from the host's own folder downwards: its cgroup namespace has been made there.
fn cgroups(host: &HostConfig, target: &Path) -> Result<(), LabError> {
    let flags = PLAIN | MsFlags::MS_NOEXEC;
    if host.cgroup.v2 {
        return mount(Some("cgroup2"), target, Some("cgroup2"), flags, NONE).on("mount cgroup2 on", target);
    }
    mount_new("tmpfs", target, flags, "mode=755")?;
    for hierarchy in &host.cgroup.hierarchies {
        let Some(options) = &hierarchy.v1_option else { continue };
        let name = options.strip_prefix("name=").unwrap_or(options);
        mount_new("cgroup", &target.join(name), flags, options)?;
        // Co-mounted controllers are looked for under each name.
        for alias in name.split(',').filter(|a| *a != name) {
            symlink(name, target.join(alias)).on("link", target.join(alias))?;
        }
    }
    Ok(())
}

/// Makes `root` the root file system and lets go of the machine's. Not a chroot: CRIU finds no mount it stands on there.
pub(crate) fn pivot(root: &Path) -> Result<(), LabError> {
    std::env::set_current_dir(root).on("enter", root)?;
    nix::unistd::pivot_root(".", ".").on("make the root file system", root)?;
    umount2(".", MntFlags::MNT_DETACH).doing("let go of the machine's root file system")?;
    std::env::set_current_dir("/").on("enter", "/")
}
