//! A guest's own disk: the files it is given, its script, and room for what it writes. Made for one run and gone with it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::config::LabConfig;
use crate::error::{Context, LabError};
use crate::files::{remove_all, write_file};
use crate::guest::GuestFile;
use crate::guest::tools::Tools;
use crate::run::{machine_program, run};

/// How the name of a run's folder in the cache begins.
const PREFIX: &str = ".guest-";
/// The size of the disk as the guest sees it. The file is sparse.
const SIZE: &str = "6G";
const LOCK: &str = "lock";

/// The guest's pid 1: mounts what a root file system needs, runs the script, says how it ended, and switches the guest off.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root LANG=C.UTF-8
say() { echo "$*" >/dev/ttyS2; }
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts
for folder in /dev/shm /run /tmp; do mount -t tmpfs none $folder; done
chmod 1777 /tmp /dev/shm
mkdir -p /sys/fs/cgroup /run/lock
mount -t cgroup2 none /sys/fs/cgroup
echo guest >/proc/sys/kernel/hostname
ip link set lo up
for port in 1 2; do stty -F /dev/ttyS$port raw -echo; done
read -r up rest </proc/uptime
say "running $up"
setsid sh -c 'cd /root && exec sh /usr/lib/mose-guest/script' </dev/null >/dev/ttyS1 2>&1
code=$?
# Waits until what was written is out.
stty -F /dev/ttyS1 raw -echo
say "exit $code"
stty -F /dev/ttyS2 raw -echo
busybox poweroff -f
"#;

/// The folder of one run, with the disk in it. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) folder: PathBuf,
    _lock: Flock<fs::File>,
}

impl Scratch {
    /// Makes the disk. Folders named in `real` are on it directly, all others on an overlay over the root file system, which
    /// is also seen at `rootfs`.
    pub(crate) fn make(
        config: &LabConfig,
        tools: &Tools,
        script: &str,
        files: &[GuestFile],
        real: &[&Path],
        rootfs: &Path,
    ) -> Result<Scratch, LabError> {
        let scratch = Scratch::folder(&config.cache_dir)?;
        let stage = scratch.folder.join("stage");
        for file in files {
            stage_file(file, &stage, real)?;
        }
        let own = stage.join("upper/usr/lib/mose-guest");
        write_file(&own.join("init"), 0o755, INIT)?;
        write_file(&own.join("script"), 0o644, script)?;
        let real: Vec<String> = real.iter().map(|folder| folder.display().to_string()).collect();
        write_file(&stage.join("real-folders"), 0o644, &real.join("\n"))?;
        write_file(&stage.join("rootfs"), 0o644, &rootfs.display().to_string())?;
        let mut mke2fs = tools.program("usr/sbin/mke2fs");
        mke2fs.args(["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-d"]);
        run("making the guest's own disk", mke2fs.arg(&stage).arg(scratch.disk()).arg(SIZE))?;
        remove_all(&stage)?;
        Ok(scratch)
    }

    /// A folder in the cache, locked, and those removed whose runs were killed.
    pub(crate) fn folder(cache: &Path) -> Result<Scratch, LabError> {
        fs::create_dir_all(cache).on("make", cache)?;
        sweep(cache)?;
        let folder =
            tempfile::Builder::new().prefix(PREFIX).tempdir_in(cache).on("make a folder in", cache)?;
        let lock = fs::File::create(folder.path().join(LOCK)).on("make the lock in", folder.path())?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).on("lock", folder.path())?;
        Ok(Scratch { folder: folder.keep(), _lock: lock })
    }

    /// The disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.folder.join("scratch.ext4")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.folder) {
            tracing::warn!(%error, "a guest's folder stays");
        }
    }
}

/// Removes the folders that nobody holds.
pub(crate) fn sweep(cache: &Path) -> Result<(), LabError> {
    for entry in fs::read_dir(cache).on("list", cache)?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // One that is just being made has no lock yet; it is too young to be a leftover.
        let Ok(lock) = fs::File::open(entry.path().join(LOCK)) else { continue };
        if Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok() {
            remove_all(&entry.path())?;
        }
    }
    Ok(())
}

fn stage_file(file: &GuestFile, stage: &Path, real: &[&Path]) -> Result<(), LabError> {
    let to = staged(stage, &file.to, real)?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).on("make", parent)?;
    }
    // With all attributes, and device nodes: an image store's layers have both.
    let mut copy = machine_program("cp");
    copy.args(["-a", "--no-target-directory", "--reflink=auto", "--"]).arg(&file.from).arg(&to);
    run(&format!("copying {} for the guest", file.from.display()), &mut copy).map(drop)
}

/// Where on the disk a file is that the guest sees at `to`.
fn staged(stage: &Path, to: &Path, real: &[&Path]) -> Result<PathBuf, LabError> {
    let inner = to.strip_prefix("/").ok().filter(|path| path.components().count() > 0);
    let Some(inner) = inner.filter(|path| !path.components().any(|c| c.as_os_str() == "..")) else {
        return Err(LabError::Invalid {
            what: format!("the guest's file {}", to.display()),
            reason: "write its whole path in the guest, such as /root/data".into(),
        });
    };
    let part = if real.iter().any(|folder| to.starts_with(folder)) { "real" } else { "upper" };
    Ok(stage.join(part).join(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_where_the_guest_sees_it() {
        let real = [Path::new("/var/cache/mose")];
        let staged = |to: &str| staged(Path::new("/s"), Path::new(to), &real);
        assert_eq!(staged("/usr/bin/x").unwrap(), Path::new("/s/upper/usr/bin/x"));
        assert_eq!(staged("/var/cache/mose/images-1").unwrap(), Path::new("/s/real/var/cache/mose/images-1"));
        for bad in ["x", "/", "/../etc"] {
            let error = staged(bad).unwrap_err().to_string();
            assert!(error.contains("whole path"), "{error}");
        }
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_runs_is_not() {
        let cache = tempfile::tempdir().unwrap();
        let running = Scratch::folder(cache.path()).unwrap();
        let left = cache.path().join(".guest-left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let other = Scratch::folder(cache.path()).unwrap();
        assert!(!left.exists() && running.folder.exists());
        let gone = other.folder.clone();
        drop(other);
        assert!(!gone.exists());
    }
}
