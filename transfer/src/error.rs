//! What can end a transfer, said so that an operator knows which thing, why, and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::digest::Digest;

/// Why a transfer ended without a verified image. The destination must not restore.
///
/// Cheap to clone, because both the progress of a transfer and its end are read from several places.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The offer cannot be taken up as it is.
    #[error("transfer not possible: {reason}; {remedy}")]
    Setup {
        /// What is missing or contradictory.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Nobody, or somebody else, answered.
    #[error(
        "no transfer with {peer}: {reason}; check that the peer's agent runs and that the link between the hosts is up"
    )]
    Connect {
        /// The other end.
        peer: String,
        /// What happened.
        reason: String,
    },
    /// The destination did not accept the token.
    #[error("{peer} refused the transfer's token; ask the destination for a fresh offer")]
    Refused {
        /// The other end.
        peer: String,
    },
    /// No progress within the deadline.
    #[error(
        "the transfer with {peer} stalled: nothing for {:.1} s while {doing}, after {bytes} bytes; check the link between the hosts",
        .after.as_secs_f64()
    )]
    Stalled {
        /// The other end.
        peer: String,
        /// What was being waited for.
        doing: &'static str,
        /// Bytes of content that had gone through.
        bytes: u64,
        /// How long nothing happened.
        after: Duration,
    },
    /// The other end is gone.
    #[error(
        "{peer} ended the transfer after {bytes} bytes without finishing it; its agent stopped, or the link broke"
    )]
    Closed {
        /// The other end.
        peer: String,
        /// Bytes of content that had gone through.
        bytes: u64,
    },
    /// The other end says why it gave up.
    #[error("{peer} gave up the transfer: {message}")]
    Remote {
        /// The other end.
        peer: String,
        /// Its reason, as it put it.
        message: String,
    },
    /// A frame was lost on the way.
    #[error(
        "the transfer with {peer} lost data: frame {expected} was due, {got} came; start the migration again"
    )]
    Gap {
        /// The other end.
        peer: String,
        /// The sequence number that was due.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// What came does not follow the format.
    #[error(
        "{peer} sent something that is not part of a transfer: {what}; both agents must run the same version"
    )]
    Malformed {
        /// The other end.
        peer: String,
        /// What was wrong with it.
        what: String,
    },
    /// A path that would leave its folder, or is no path.
    #[error("path {path:?} is not accepted: {reason}")]
    Path {
        /// The offending path.
        path: PathBuf,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// More than the offer allows.
    #[error(
        "the transfer exceeds the destination's limit of {limit} {what}; raise the limit there if the container is meant to be that large"
    )]
    Limit {
        /// What is limited.
        what: &'static str,
        /// Its limit.
        limit: u64,
    },
    /// The operating system said no.
    #[error("cannot {doing} {path:?}: {source}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// Content differs between the two ends.
    #[error(
        "{what} differs between source ({source_digest}) and destination ({destination_digest}): it was damaged on the way; do not restore it, start the migration again"
    )]
    Mismatch {
        /// What differs.
        what: String,
        /// The digest of what was read.
        source_digest: Digest,
        /// The digest of what arrived.
        destination_digest: Digest,
    },
    /// The destination's file system did not keep what was written.
    #[error(
        "{path:?} is not what was sent: {what}; the destination's file system cannot hold this container"
    )]
    Verify {
        /// Where.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Something in the root file system that has no copy.
    #[error("cannot move {path:?}: it is {kind}; remove it from the container")]
    Unsupported {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: String,
    },
    /// A file that ought to lie still is being written.
    #[error(
        "{path:?} keeps changing although its container is frozen; nothing else may write to the container's files"
    )]
    Unstable {
        /// Which file.
        path: PathBuf,
    },
    /// The dump that was being followed came to nothing.
    #[error("the dump was given up, and its transfer with it")]
    DumpAbandoned,
    /// This end dropped or aborted the transfer, or dropped one of its calls halfway.
    #[error("the transfer was cancelled on this host")]
    Cancelled,
    /// No container image was part of the transfer.
    #[error(
        "the source sent no container image; it found that the destination has it, or it skipped that step"
    )]
    NoStream,
}

impl TransferError {
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { doing, path: path.as_ref().to_owned(), source: Arc::new(source.into()) }
    }

    pub(crate) fn malformed(peer: &str, what: impl Into<String>) -> Self {
        Self::Malformed { peer: peer.to_owned(), what: what.into() }
    }

    /// What cannot begin or go on as things are here, and what to do about it.
    pub fn setup(reason: impl Into<String>, remedy: &'static str) -> Self {
        Self::Setup { reason: reason.into(), remedy }
    }
}
