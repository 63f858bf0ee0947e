//! Network namespaces by name, as `ip netns` keeps them: a file in `/run/netns` with the namespace mounted on it, so that Podman and
//! `ip netns exec` find it.
//!
//! A thread that has entered a namespace is never used for anything else: each operation has a thread of its own, which ends.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

/// Where named namespaces are.
const FOLDER: &str = "/run/netns";
const NONE: Option<&str> = None;

/// The file of a namespace.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Runs something on a thread of its own and waits for it. Blocks.
fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    std::thread::Builder::new()
        .name("coat-netns".to_owned())
        .spawn(work)?
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the namespace's thread panicked")))
}

/// The folder, as a mount that passes on what is mounted in it to the namespaces of containers and of other shells.
fn prepare_folder() -> io::Result<()> {
    std::fs::create_dir_all(FOLDER)?;
    let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
    if mount(NONE, FOLDER, NONE, shared, NONE).is_ok() {
        return Ok(());
    }
    // Not a mount point yet.
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(FOLDER), FOLDER, NONE, bind, NONE)?;
    mount(NONE, FOLDER, NONE, shared, NONE)?;
    Ok(())
}

/// Makes a namespace. Blocks for some milliseconds.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if the name is taken.
pub(crate) fn create(name: &str) -> io::Result<PathBuf> {
    let path = path(name);
    let file = path.clone();
    on_own_thread(move || {
        prepare_folder()?;
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o444).open(&file)?;
        let made = unshare(CloneFlags::CLONE_NEWNET).and_then(|()| {
            let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
            mount(Some(own.as_str()), &file, NONE, MsFlags::MS_BIND, NONE)
        });
        if made.is_err() {
            std::fs::remove_file(&file)?;
        }
        Ok(made?)
    })?;
    Ok(path)
}

/// Removes a namespace's name; the namespace lives on while a process is in it. Does nothing if there is no such name.
pub(crate) fn remove(name: &str) -> io::Result<()> {
    let path = path(name);
    // EINVAL: nothing is mounted on the file. ENOENT: no file.
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether a namespace is mounted under the name. A file without one is left over from a boot before.
pub(crate) fn exists(name: &str) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
    match (device(&path(name)), device(Path::new("/proc/self/ns/net"))) {
        (Some(file), Some(namespace)) => file == namespace,
        _ => false,
    }
}

/// Runs something in a namespace, on a thread of its own, and waits for it. Blocks.
pub(crate) fn within<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    within_file(&path(name), work)
}

/// The same in the namespace that a file stands for, such as `/proc/PID/ns/net`.
pub(crate) fn within_file<T: Send + 'static>(
    file: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(file)?;
    on_own_thread(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        drop(namespace);
        work()
    })
}
