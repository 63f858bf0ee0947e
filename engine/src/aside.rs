//! Work that may wait for a disk or for the kernel, such as to walk through folders, done off the async threads.
//!
//! It cannot be broken off: if its caller stops waiting it goes on to its end.

use mose_protocol::{Refusal, RefusalCode};

/// Does it on a thread of its own, and waits for it.
///
/// # Errors
/// Its own, or that it panicked.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let reason = format!("the agent failed: {error}");
        Err(Refusal::new(RefusalCode::Failed, reason, "see the agent's log, and report it"))
    })
}
