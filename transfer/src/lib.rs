//! How an image gets from the source's agent to the destination's: whole, verified, and while it is still being made.
//!
//! One migration has one transfer: an ordered, acknowledged, bounded channel that carries, in this order, the container
//! image's archive (if the destination lacks it), a first pass over the container's root file system changes, rounds of pages of
//! the running service (pre-copy), CRIU's checkpoint folder while CRIU writes it, and a second pass that sends what changed since. At the end both sides compare a digest
//! over everything; only a transfer that ended well on the destination may be restored.
//!
//! Two transports carry the same frames: [`TransportKind::Tcp`] and [`TransportKind::Zenoh`].
//!
//! ```text
//! Sender ─ Engine (reads, hashes, fills frames) ─ Outlet ══ TCP or Zenoh ══ Inlet ─ Sink (hashes, writes, verifies) ─ Receiver
//!                 └ Flow (window, deadlines)  ◄────────── replies ──────────────────┘
//! ```

mod blocks;
mod buf;
mod digest;
mod entry;
mod error;
mod flow;
mod folder;
mod follow;
mod frame;
mod input;
mod manifest;
mod pace;
mod pages;
mod path;
mod receiver;
mod recv;
mod runs;
mod scan;
mod send;
mod sender;
mod tcp;
pub mod tcp_info;
mod tree;
mod write;
mod zenoh;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use mose_pam::BitsPerSec;
use mose_protocol::transfer::TransferBounds;
pub use mose_protocol::transfer::{TransportKind, TransportOffer};

pub use digest::Digest;
pub use error::TransferError;
pub use flow::{same_secret, token};
pub use folder::write_back;
pub use follow::{DumpNotifier, DumpSignal, dump_signal};
pub use pace::{LEAST_BANDWIDTH, check_bandwidth};
pub use pages::{PAGE, Place, RoundSent};
pub use receiver::Receiver;
pub use send::{ReadPages, TakePage};
pub use sender::{Sender, SentSoFar};
pub use tree::{Reread, Root};

/// What a transfer may cost, and how long silence is borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferLimits {
    /// Bytes of a full frame's content.
    pub chunk: usize,
    /// Bytes sent and not yet written at the destination: bounds the memory of both agents.
    pub window: usize,
    /// Longest time without any progress of the other end.
    pub stall: Duration,
    /// Bytes of the whole transfer.
    pub total: u64,
    /// Files, folders and links of the whole transfer; each costs some 300 bytes of both agents' memory.
    pub entries: u32,
    /// The most that a sender puts on the link, headers included; `None`: all there is. A receiver takes what comes.
    pub bandwidth: Option<BitsPerSec>,
}

impl Default for TransferLimits {
    fn default() -> Self {
        Self {
            chunk: 1 << 20,
            window: 16 << 20,
            stall: Duration::from_secs(15),
            total: 256 << 30,
            entries: 250_000,
            bandwidth: None,
        }
    }
}

impl TransferLimits {
    /// Smallest and largest chunk that make sense.
    const CHUNK: std::ops::RangeInclusive<usize> = 4 << 10..=16 << 20;
    /// Largest window: what is in it is in memory.
    const WINDOW: usize = 128 << 20;

    fn bounds(&self) -> TransferBounds {
        let chunk = self.chunk.clamp(*Self::CHUNK.start(), *Self::CHUNK.end());
        TransferBounds {
            chunk: chunk as u64,
            window: self.window.clamp(chunk, Self::WINDOW) as u64,
            stall_ms: u64::try_from(self.stall.as_millis()).unwrap_or(u64::MAX).max(1),
            total: self.total,
            entries: self.entries,
        }
    }

    /// What both ends agree to, where `offer` is the other end's word and so not to be trusted with our memory.
    fn meet(&self, offer: &TransferBounds) -> Result<TransferBounds, TransferError> {
        let ours = self.bounds();
        let chunk = ours.chunk.min(offer.chunk);
        if !Self::CHUNK.contains(&usize::try_from(chunk).unwrap_or(usize::MAX)) || offer.stall_ms == 0 {
            return Err(TransferError::setup(
                format!("the offer's chunks of {} bytes or its deadline are out of range", offer.chunk),
                "correct the destination's limits",
            ));
        }
        Ok(TransferBounds {
            chunk,
            window: ours.window.min(offer.window).max(chunk),
            stall_ms: ours.stall_ms.min(offer.stall_ms),
            total: ours.total.min(offer.total),
            entries: ours.entries.min(offer.entries),
        })
    }
}

/// Where a destination puts what arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The file for the container image's archive; made with mode 0600 when the archive comes.
    pub stream: PathBuf,
    /// The checkpoint folder; made with mode 0700, must be empty.
    pub images: PathBuf,
    /// The folders of the trees that are expected, by their numbers. The first is the overlay upper folder of the root file
    /// system's changes; it must not be mounted meanwhile.
    pub trees: Vec<TreeFolder>,
}

/// Where a tree is put. The folder must exist. If the source sends any of the tree, it ends as an exact copy: what else was in it is
/// removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFolder {
    /// The folder.
    pub path: PathBuf,
    /// Where only some names in the folder belong to the tree: those. The folder itself and all else in it stay as they are.
    pub only: Option<Vec<OsString>>,
}

impl TreeFolder {
    /// A folder that is the tree.
    #[must_use]
    pub fn whole(path: PathBuf) -> Self {
        Self { path, only: None }
    }
}

/// Bytes of content that arrived so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of the container image's archive.
    pub stream: u64,
    /// Of the checkpoint.
    pub images: u64,
    /// Of the trees: root file system changes and all that lies beside it.
    pub trees: u64,
}

impl Progress {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.stream + self.images + self.trees
    }
}

/// What one call sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Bytes of content.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u32,
    /// Time the call took.
    pub elapsed: Duration,
}

/// A transfer that the destination verified, as the source counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Bytes of content, resent ones included.
    pub bytes: u64,
    /// Regular files that the destination now holds, the archive not counted.
    pub files: u64,
    /// Over path, kind, metadata, size and content of everything but the archive, which has its own.
    pub digest: Digest,
    /// From the connection to the destination's word.
    pub elapsed: Duration,
}

/// A transfer that this destination verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes of content, resent ones included.
    pub bytes: u64,
    /// Regular files in the folders, the archive not counted.
    pub files: u64,
    /// Over path, kind, metadata, size and content of everything but the archive, which has its own.
    pub digest: Digest,
    /// From the first byte to the verdict.
    pub elapsed: Duration,
    /// By this host's clock.
    pub first_byte_at: SystemTime,
    /// By this host's clock.
    pub last_byte_at: SystemTime,
}
