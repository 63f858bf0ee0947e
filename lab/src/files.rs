//! Writing files with their modes and removing folders, with errors that name them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Context, LabError};

/// Writes a file, and makes the folder it is in.
pub(crate) fn write_file(path: &Path, mode: u32, text: &str) -> Result<(), LabError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).on("make", parent)?;
    }
    fs::write(path, text).on("write", path)?;
    set_mode(path, mode)
}

/// Sets the mode of a file, whatever the umask is.
pub(crate) fn set_mode(path: impl AsRef<Path>, mode: u32) -> Result<(), LabError> {
    let path = path.as_ref();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).on("set the mode of", path)
}

/// Removes a folder with all that is in it. Harmless if it is gone.
pub(crate) fn remove_all(path: &Path) -> Result<(), LabError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.on("remove", path),
    }
}
