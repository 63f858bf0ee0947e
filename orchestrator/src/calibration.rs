//! Calibrations by name or from a file.

use std::path::{Path, PathBuf};

use mose_pam::{Calibration, CalibrationError};

/// The calibration that is built in, with the published parameters.
pub const PUBLISHED: &str = "tnsm2024";

/// A calibration file is some kilobytes; what is larger is none.
const LARGEST_FILE: u64 = 1 << 20;

/// Why there is no such calibration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not built in, and there is no such file.
    #[error("there is no profile `{0}`: give {PUBLISHED}, which is built in, or a profile's TOML file")]
    Unknown(String),
    /// The file cannot be read.
    #[error("the profile {path} cannot be read: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is far too large for a calibration.
    #[error("{0} is larger than 1 MB: that is no profile")]
    TooLarge(PathBuf),
    /// The file is no calibration.
    #[error("{path}: {source}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: CalibrationError,
    },
}

/// The calibration with that name, if it is built in, else the one in that file.
///
/// # Errors
///
/// [`LoadError`], naming the file and what is wrong with it.
pub fn load(name_or_file: &str) -> Result<Calibration, LoadError> {
    if name_or_file == PUBLISHED {
        return Ok(Calibration::tnsm2024());
    }
    let path = Path::new(name_or_file);
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(LoadError::Unknown(name_or_file.to_owned()));
        }
        Err(error) => return Err(unreadable(error)),
    };
    if size > LARGEST_FILE {
        return Err(LoadError::TooLarge(path.to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Calibration::from_toml(&text).map_err(|source| LoadError::Invalid { path: path.to_owned(), source })
}
