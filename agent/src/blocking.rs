//! Work that may wait for a disk or for the kernel, off the threads that all else runs on.

use mose_protocol::{Refusal, RefusalCode};

/// What such work comes to.
///
/// # Errors
/// Where it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Refusal::new(
            RefusalCode::Failed,
            format!("the agent failed: {error}"),
            "see the agent's log, and report it",
        )
    })
}
