//! What an OCI runtime keeps of a container that it runs.
//!
//! A runtime that was killed while it restored a container leaves that behind, Podman does not know of it, and no container of that id
//! could be made again. It leaves the container's root file system mounted there too (runc's `criu-root`), where whoever removes the folder
//! would remove the service's files.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

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

/// Unmounts everything that is mounted below a folder, and makes sure that nothing is.
fn unmount_below(folder: &Path) -> Result<(), Refusal> {
    let failed = |what: &dyn std::fmt::Display| {
        Refusal::new(
            RefusalCode::Engine,
            format!("something is mounted below {}, and cannot be unmounted: {what}", folder.display()),
            "unmount it by hand, before anything there is removed",
        )
    };
    // The deepest first: a mount goes with all that is below it, but one over the other does not.
    for place in mounted_below(folder).map_err(|error| failed(&error))?.iter().rev() {
        let unmounted = umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        unmounted.map_err(|error| failed(&format!("{}: {error}", place.display())))?;
    }
    match mounted_below(folder).map_err(|error| failed(&error))?.first() {
        Some(place) => Err(failed(&place.display())),
        None => Ok(()),
    }
}

/// Where something is mounted below a folder, by this process's mount namespace (proc_pid_mountinfo(5)), in the order of mounting.
fn mounted_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    Ok(places.filter(|place| place.starts_with(folder)).collect())
}

/// A path as the kernel writes it there: blanks and the like as a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use nix::mount::{MsFlags, mount};

    use super::*;

    #[test]
    fn a_path_with_blanks_is_read_as_it_is() {
        assert_eq!(unescaped("/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescaped("/plain/1"), Path::new("/plain/1"));
    }

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
        assert_eq!(mounted_below(&state).unwrap(), std::slice::from_ref(&root));
        unmount_below(&state).unwrap();
        assert!(mounted_below(&state).unwrap().is_empty() && !root.join("kept").exists());
        std::fs::remove_dir_all(&state).unwrap();
        assert_eq!(std::fs::read_to_string(files.join("kept")).unwrap(), "x");
    }
}
