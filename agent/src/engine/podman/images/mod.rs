//! What CRIU's images say that would be lost in silence at a restore, put right before it.
//!
//! Nothing is ever written that CRIU would not have written for a slightly different moment, and every change keeps the length
//! of what it changes, so that nothing else in the file moves. What is not understood is left alone.

mod entries;
mod field;
mod timerfd;

use std::io;
use std::path::Path;

/// Mends the images in a folder; how many of their entries had to be. To be called before every restore; doing it again
/// changes nothing.
///
/// # Errors
/// An image cannot be read or written, or is cut short.
pub(super) fn mend(images: &Path) -> io::Result<u32> {
    entries::mend(&images.join("files.img"), entries::FILES, timerfd::mend)
}
