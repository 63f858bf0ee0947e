//! What an OCI runtime keeps of a container that it runs.
//!
//! A runtime that was killed while it restored a container leaves that behind, Podman does not know of it, and no container of that id
//! could be made again. It leaves the container's root file system mounted there too (runc's `criu-root`), where whoever removes the folder
//! would remove the service's files.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mose_movable::mount_point;
use mose_protocol::{Refusal, RefusalCode};
use nix::mount::{MntFlags, umount2};
use tokio::process::Command;

use super::wording::in_short;

/// The runtimes, and where they keep it where nobody says otherwise (runc(8), crun(1): `--root`).
const RUNTIMES: [(&str, &str); 2] = [("runc", "/run/runc"), ("crun", "/run/crun")];

/// How long a runtime may take to remove it.
const DEADLINE: Duration = Duration::from_secs(10);

/// Removes what is left of the container `id`, of which no process is left.
pub(super) async fn remove(id: &str) -> Result<(), Refusal> {
    for (runtime, folder) in RUNTIMES {
        let state = Path::new(folder).join(id);
        if !state.exists() {
            continue;
        }
        unmount_below(&state)?;
        let mut delete = Command::new(runtime);
        delete.args(["--root", folder, "delete", "--force", id]).stdin(Stdio::null()).kill_on_drop(true);
        let failed = |what: String| {
            Refusal::new(
                RefusalCode::Engine,
                format!("{runtime} does not remove what it keeps of a container that has ended: {what}"),
                format!("remove it by hand: {runtime} delete --force {id}"),
            )
        };
        match tokio::time::timeout(DEADLINE, delete.output()).await {
            Ok(Ok(output)) if output.status.success() => {}
            Ok(Ok(output)) => return Err(failed(in_short(&String::from_utf8_lossy(&output.stderr)))),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("it did nothing for {DEADLINE:?}"))),
        }
    }
    Ok(())
}

/// Unmounts everything below a folder.
fn unmount_below(folder: &Path) -> Result<(), Refusal> {
    let failed = |what: &dyn std::fmt::Display| {
        Refusal::new(
            RefusalCode::Engine,
            format!("something is mounted below {}, and cannot be unmounted: {what}", folder.display()),
            "unmount it by hand, before anything there is removed",
        )
    };
    let outermost = || mounted_below(folder).map(|places| places.into_iter().next());
    // What is mounted below a place goes with it, as when runc unmounts it.
    while let Some(place) = outermost().map_err(|error| failed(&error))? {
        let unmounted = umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        unmounted.map_err(|error| failed(&format!("{}: {error}", place.display())))?;
    }
    Ok(())
}

/// Where something is mounted below a folder, by this process's mount namespace (proc_pid_mountinfo(5)), in the order of mounting.
fn mounted_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(places
        .map(|field| PathBuf::from(mount_point(field)))
        .filter(|place| place.starts_with(folder))
        .collect())
}

#[cfg(test)]
mod tests {
    use nix::mount::{MsFlags, mount};

    use super::*;

    #[test]
    fn what_is_mounted_below_a_folder_is_unmounted_and_its_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (files, state) = (folder.path().join("files"), folder.path().join("state"));
        let root = state.join("criu root");
        for path in [&files, &root] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::fs::write(files.join("kept"), "x").unwrap();
        let none = None::<&str>;
        if mount(Some(&files), &root, none, MsFlags::MS_BIND, none).is_err() {
            eprintln!("SKIPPED: this test mounts, for which it has to be root");
            return;
        }
        // One over the other, as a runtime leaves them that was killed twice.
        mount(Some(&files), &root, none, MsFlags::MS_BIND, none).unwrap();
        assert_eq!(mounted_below(&state).unwrap(), [root.as_path(), root.as_path()]);
        unmount_below(&state).unwrap();
        assert!(mounted_below(&state).unwrap().is_empty() && !root.join("kept").exists());
        std::fs::remove_dir_all(&state).unwrap();
        assert_eq!(std::fs::read_to_string(files.join("kept")).unwrap(), "x");
    }
}
