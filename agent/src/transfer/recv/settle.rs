//! Settling a tree while its service still runs: exact, read back and on the disk, so that nothing of it is left for the downtime.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Sink;
use crate::transfer::error::TransferError;
use crate::transfer::frame::{Reply, Section};
use crate::transfer::link::{Inlet, ReplyPort, Stop};

/// How often the source hears from a destination that is busy.
const TOLD_EVERY: Duration = Duration::from_millis(500);
/// How often a disk is looked at whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// After so many bytes the disk begins, so that the last pass finds little left to be written.
const BEGIN_AFTER: u64 = 64 << 20;
/// How long a pass waits for the disk. What is not on it by then is written during the rest of the migration.
const PATIENCE: Duration = Duration::from_secs(5);

/// Long work of a destination: notices that it is to stop, and has the source hear that it lives.
pub(super) struct Busy<'a> {
    replies: &'a mut dyn ReplyPort,
    stop: &'a Stop,
    acked: u64,
    told: Instant,
}

impl<'a> Busy<'a> {
    pub(super) fn new(inlet: &'a mut Inlet, stop: &'a Stop, acked: u64) -> Self {
        Self { replies: &mut *inlet.replies, stop, acked, told: Instant::now() }
    }

    /// To be called now and then.
    pub(super) fn alive(&mut self) -> Result<(), TransferError> {
        if self.stop.is_stopped() {
            return Err(TransferError::Cancelled);
        }
        if self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            self.replies.reply(&Reply::Ack(self.acked))?;
        }
        Ok(())
    }
}

/// Writing a file system's dirty pages to its disk, beside everything else.
#[derive(Default)]
pub(super) struct Flush {
    under_way: Option<JoinHandle<()>>,
    /// Bytes that were written since the disk last began.
    written: u64,
}

impl Flush {
    /// Counts bytes written below `folder`, and has the disk begin where enough came together.
    pub(super) fn wrote(&mut self, bytes: u64, folder: &Path) {
        self.written += bytes;
        if self.written >= BEGIN_AFTER && self.done() {
            self.begin(folder);
        }
    }

    fn done(&self) -> bool {
        self.under_way.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn begin(&mut self, folder: &Path) {
        self.written = 0;
        let folder = folder.to_owned();
        let flush = move || {
            let flushed =
                File::open(&folder).and_then(|open| nix::unistd::syncfs(open).map_err(std::io::Error::from));
            if let Err(error) = flushed {
                // Who keeps the files asks again, and has to hear it then.
                tracing::warn!(folder = %folder.display(), %error, "the files are not on the disk yet");
            }
        };
        self.under_way = std::thread::Builder::new().name("flush".into()).spawn(flush).ok();
    }

    /// Waits for the disk to have everything that was written below `folder`; not for longer than a pass is worth.
    fn wait(&mut self, folder: &Path, busy: &mut Busy<'_>) -> Result<(), TransferError> {
        let until = Instant::now() + PATIENCE;
        // One that is under way does not cover what was written since.
        for again in [false, true] {
            if again {
                self.begin(folder);
            }
            while !self.done() {
                if Instant::now() >= until {
                    return Ok(());
                }
                busy.alive()?;
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }
}

impl Sink {
    /// Notes that a tree is complete for now.
    pub(super) fn settle(&mut self, section: Section, peer: &str) -> Result<(), TransferError> {
        let Section::Tree(number) = section else {
            return Err(TransferError::malformed(peer, "a checkpoint that is to be settled early"));
        };
        self.settling = Some(number);
        Ok(())
    }

    /// Settles the tree that is complete for now, if one is.
    pub(super) fn settle_noted(&mut self, inlet: &mut Inlet, stop: &Stop) -> Result<(), TransferError> {
        let Some(number) = self.settling.take().map(usize::from) else { return Ok(()) };
        let Some(tree) = self.trees.get_mut(number) else { return Ok(()) };
        if !tree.has_changed() {
            return Ok(());
        }
        let mut busy = Busy::new(inlet, stop, self.acked);
        tree.complete(&self.manifest, || busy.alive())?;
        let folder: PathBuf = self.folders.trees[number].path.clone();
        self.flush.wait(&folder, &mut busy)
    }
}
