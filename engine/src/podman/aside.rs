//! What may take long, such as to walk through folders or to remove them, done off the async threads.
//!
//! It cannot be broken off: who stops waiting leaves it to go on to its end.

use std::io;

use mose_protocol::Refusal;

use super::io_refusal;

/// Does it on a thread where it keeps nobody waiting.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let lost = |error| Err(io_refusal("what was under way was lost", &io::Error::other(error)));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(lost)
}
