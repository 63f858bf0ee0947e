//! What a service has beside its processes, and does not take along: device files among its files, and what it has written to the
//! host's journal.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mose_protocol::check::{Finding, Severity};

/// The most files and folders that are looked at: a device file beyond them is found when the files are sent, before the freeze.
const MOST: usize = 200_000;

/// Says which device files lie below the folders. They are not sent: a number of a device means another one on another host.
#[must_use]
pub fn device_files(folders: &[PathBuf]) -> Option<Finding> {
    let mut found: Vec<String> = Vec::new();
    let mut left = MOST;
    for folder in folders {
        walk(folder, &mut left, &mut |path| {
            found.push(format!("/{}", path.strip_prefix(folder).unwrap_or(path).display()));
        });
    }
    let (first, others) = found.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    Some(Finding::new(
        Severity::Blocks,
        &format!("device file {first}{more}"),
        "it lies among the service's files, and means another device on another host",
        "remove it, or have the service make it in a tmpfs",
    ))
}

/// What is kept by a log driver that keeps the lines of all containers in one place of the host.
#[must_use]
pub fn log_that_stays(driver: &str) -> Option<Finding> {
    (driver == "journald").then(|| {
        Finding::new(
            Severity::LeftBehind,
            "log",
            "what it has written so far stays in this host's journal",
            "run it with --log-driver k8s-file, whose log moves; or read the journals of both hosts",
        )
    })
}

/// Calls `found` for each device file. What vanishes meanwhile, or may not be read, is passed over.
fn walk(folder: &Path, left: &mut usize, found: &mut dyn FnMut(&Path)) {
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if *left == 0 {
                return;
            }
            *left -= 1;
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_block_device() || (kind.is_char_device() && !is_whiteout(&entry)) {
                found(&entry.path());
            }
        }
    }
}

/// Whether it is overlayfs's mark of a file that was removed: a device of the number 0:0.
fn is_whiteout(entry: &fs::DirEntry) -> bool {
    entry.metadata().is_ok_and(|metadata| metadata.rdev() == 0)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    use super::*;

    #[test]
    fn a_device_file_is_found_and_a_whiteout_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("deep")).unwrap();
        fs::write(at("deep/file"), "").unwrap();
        let make = |name: &str, number| mknod(&at(name), SFlag::S_IFCHR, Mode::S_IRUSR, number);
        if make("gone", makedev(0, 0)).is_err() {
            eprintln!("SKIPPED: this user may not make whiteouts");
            return;
        }
        assert_eq!(device_files(&[folder.path().to_owned()]), None);
        if make("deep/null", makedev(1, 3)).is_err() {
            eprintln!("SKIPPED: this user may not make device files");
            return;
        }
        let found = device_files(&[folder.path().to_owned()]).unwrap();
        assert_eq!((found.severity, found.resource.as_str()), (Severity::Blocks, "device file /deep/null"));
    }

    #[test]
    fn only_a_journal_keeps_a_log() {
        assert_eq!(log_that_stays("journald").map(|found| found.severity), Some(Severity::LeftBehind));
        assert_eq!(log_that_stays("k8s-file"), None);
    }
}
