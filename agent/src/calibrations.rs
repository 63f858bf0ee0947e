//! The calibrations of the links that leave this host: a profile (TOML) for each destination, kept across restarts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mose_pam::Calibration;
use mose_protocol::{HostName, Refusal, RefusalCode};

/// The largest profile that is taken, in bytes: a real one has some four thousand.
const MAX_PROFILE: usize = 64 << 10;

/// The folder of profiles, one file for each destination.
#[derive(Debug, Clone)]
pub struct Calibrations {
    folder: PathBuf,
}

impl Calibrations {
    /// Profiles below the agent's state folder; it is made when the first comes.
    #[must_use]
    pub fn open(state: &Path) -> Self {
        Self { folder: state.join("calibration") }
    }

    fn path(&self, to: &HostName) -> PathBuf {
        self.folder.join(format!("{to}.toml"))
    }

    /// The profile for migrations to a host; `None` where it was never calibrated.
    ///
    /// # Errors
    /// Where there is one that cannot be read.
    pub fn get(&self, to: &HostName) -> Result<Option<String>, Refusal> {
        match fs::read_to_string(self.path(to)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&self.path(to), &error)),
        }
    }

    /// Keeps a profile, in place of the one before.
    ///
    /// # Errors
    /// Where it is no sound profile, or cannot be written.
    pub fn put(&self, to: &HostName, profile: &str) -> Result<(), Refusal> {
        let wrong = |reason: String| {
            Refusal::new(RefusalCode::Malformed, reason, "calibrate again with a console of this release")
        };
        if profile.len() > MAX_PROFILE {
            return Err(wrong(format!(
                "a profile of {} bytes: at most {MAX_PROFILE} are taken",
                profile.len()
            )));
        }
        Calibration::from_toml(profile)
            .map_err(|error| wrong(format!("the profile is not sound: {error}")))?;
        let path = self.path(to);
        let fresh = path.with_extension("toml.new");
        let write = || {
            fs::create_dir_all(&self.folder)?;
            let mut file =
                fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
            file.write_all(profile.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|error| failed(&path, &error))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(
        RefusalCode::Failed,
        format!("the calibration {} cannot be read or written: {error}", path.display()),
        "give the agent's state folder free space on a writable file system",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_comes_back_as_it_was_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let calibrations = Calibrations::open(folder.path());
        let to: HostName = "edge-b".parse().unwrap();
        assert_eq!(calibrations.get(&to).unwrap(), None);
        let profile = Calibration::tnsm2024().to_toml().unwrap();
        calibrations.put(&to, &profile).unwrap();
        assert_eq!(calibrations.get(&to).unwrap().as_deref(), Some(profile.as_str()));
        let refused = calibrations.put(&to, "name = \"x\"").unwrap_err();
        assert!(refused.reason.contains("not sound"), "{refused}");
        assert!(calibrations.put(&to, &" ".repeat(100_000)).unwrap_err().reason.contains("100000 bytes"));
        assert_eq!(calibrations.get(&to).unwrap(), Some(profile), "what was there is still there");
    }
}
