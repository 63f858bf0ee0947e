//! What is known of a running lab, in one file on a tmpfs; written by renaming, so that a reader sees the old or the new.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupPlan;
use crate::config::LabConfig;
use crate::error::{Context, LabError};
use crate::procfs::Process;

/// A host the lab has started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostState {
    pub(crate) name: String,
    pub(crate) init: Process,
}

/// The running lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename = "State")]
pub(crate) struct LabState {
    pub(crate) config: LabConfig,
    pub(crate) cgroup: CgroupPlan,
    pub(crate) underlay: Option<Process>,
    pub(crate) hosts: Vec<HostState>,
    /// The UAV's radio, in the mode that has one.
    #[serde(default)]
    pub(crate) radio: Option<Process>,
}

impl LabState {
    fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("state.json")
    }

    /// The state, if there is one. A file that makes no sense counts as none for `down`'s sake: it finds what runs by its mark.
    pub(crate) fn load(state_dir: &Path) -> Result<Option<LabState>, LabError> {
        let path = LabState::path(state_dir);
        match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).on("read", &path),
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| LabError::Invalid {
                what: format!("the lab's state in {}", path.display()),
                reason: format!("{e}; run `mose lab down`, which does without it, then `mose lab up`"),
            }),
        }
    }

    pub(crate) fn save(&self) -> Result<(), LabError> {
        write_json(&LabState::path(&self.config.state_dir), self)
    }

    pub(crate) fn host(&self, name: &str) -> Option<&HostState> {
        self.hosts.iter().find(|h| h.name == name)
    }
}

/// Writes a value as JSON, at once or not at all.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), LabError> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| LabError::Invalid {
        what: format!("what was to be written to {}", path.display()),
        reason: e.to_string(),
    })?;
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text).on("write", &temporary)?;
    fs::rename(&temporary, path).on("write", path)
}

/// A lock on a file, held until dropped. Two `up` at the same time wait for each other.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Waits for the lock on `path`, which is created if need be.
    ///
    /// # Errors
    /// The file cannot be created or locked.
    pub fn take(path: &Path) -> Result<Lock, LabError> {
        loop {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).on("make", parent)?;
            }
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
            let file = match file {
                // The folder went between the two: whoever held the lock took the lab down.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.on("open the lock", path)?,
            };
            let inode = file.metadata().on("look at the lock", path)?.ino();
            let locked = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).on("lock", path)?;
            // Locked, but perhaps a file that `down` has removed while we waited: then it protects nothing.
            if fs::metadata(path).is_ok_and(|m| m.ino() == inode) {
                return Ok(Lock { _file: locked });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_is_no_error_and_a_broken_one_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(LabState::load(dir.path()).unwrap().is_none());
        fs::write(dir.path().join("state.json"), "{").unwrap();
        let error = LabState::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("lab down"), "{error}");
    }

    #[test]
    fn a_lock_on_a_removed_file_is_taken_again_on_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/lock");
        let first = Lock::take(&path).unwrap();
        let other = {
            let path = path.clone();
            std::thread::spawn(move || Lock::take(&path).unwrap())
        };
        fs::remove_file(&path).unwrap();
        drop(first);
        let _second = other.join().unwrap();
        assert!(path.exists());
    }
}
