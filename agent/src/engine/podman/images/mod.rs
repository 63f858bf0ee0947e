//! What CRIU's images say that would be lost in silence at a restore, put right before it.
//!
//! Nothing is ever written that CRIU would not have written for a slightly different moment, and every change keeps the length
//! of what it changes, so that nothing else in the file moves. What is not understood is left alone.

mod entries;
mod field;
mod timerfd;

use std::io;
use std::path::Path;

/// Mends the images in a folder. To be called before every restore; doing it again changes nothing.
///
/// # Errors
/// An image cannot be read or written, or is cut short.
pub(super) fn mend(images: &Path) -> io::Result<()> {
    let timers = entries::mend(&images.join("files.img"), entries::FILES, timerfd::mend)?;
    if timers > 0 {
        tracing::info!(images = %images.display(), timers, "timers that would have been lost were put right");
    }
    Ok(())
}
