//! What CRIU's images say that would be lost in silence at a restore, put right before it.
//!
//! Nothing is ever written that CRIU would not have written for a slightly different moment, and every change keeps the length
//! of what it changes, so that nothing else in the file moves. What is not understood is left alone.

mod entries;
mod field;
mod ghost;
mod size;
mod sleep;
mod timerfd;
#[cfg(test)]
mod written;

use std::io;
use std::path::Path;

/// What Podman writes beside the checkpoint folder at a dump: what `/dev/shm` holds.
const SHARED_MEMORY: &str = "devshm-checkpoint.tar";

/// Removes a checkpoint folder with all of its images, and what Podman wrote beside it; nothing being there is no error.
pub(super) fn remove(checkpoint: &Path) -> io::Result<()> {
    let shared_memory = std::fs::remove_file(checkpoint.with_file_name(SHARED_MEMORY));
    for removed in [std::fs::remove_dir_all(checkpoint), shared_memory] {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Takes the sizes out of what the images in a folder say of files, by which CRIU would tell that one has changed. For a restore that is
/// only rehearsed: nothing of it may ever run.
///
/// # Errors
/// As [`mend`].
pub(super) fn forgive_sizes(images: &Path) -> io::Result<()> {
    entries::mend(&images.join("files.img"), entries::FILES, size::forgive).map(drop)
}

/// Mends the images in a folder. To be called before every restore; doing it again changes nothing. `taken` says of a path in the
/// container whether something has it.
///
/// # Errors
/// An image cannot be read or written, or is cut short.
pub(super) fn mend(images: &Path, taken: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    let timers = entries::mend(&images.join("files.img"), entries::FILES, timerfd::mend)?;
    if timers > 0 {
        tracing::info!(images = %images.display(), timers, "timers that would have been lost were put right");
    }
    let ghosts = ghost::mend(images, taken)?;
    if ghosts > 0 {
        tracing::info!(images = %images.display(), ghosts, "files without a name are restored under a free one");
    }
    let mut sleeping = 0;
    for entry in std::fs::read_dir(images)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("core-") && name.ends_with(".img") {
            sleeping += entries::mend(&path, entries::CORE, sleep::mend)?;
        }
    }
    if sleeping > 0 {
        tracing::info!(images = %images.display(), sleeping, "threads that would have woken up sleep on");
    }
    Ok(())
}
