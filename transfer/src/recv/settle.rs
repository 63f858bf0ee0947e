//! Settling a tree while its service still runs: exact, read back and on the disk, so that nothing of it is left for the downtime.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::Sink;
use crate::error::TransferError;
use crate::flow::{Inlet, ReplyPort, Stop};
use crate::folder::write_back;
use crate::frame::{Reply, Section};

/// How often the source hears from a destination that is busy.
const TOLD_EVERY: Duration = Duration::from_millis(500);
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
    /// Closed by the thread that is at it when it is done.
    under_way: Option<Receiver<()>>,
    /// Bytes that were written since the disk last began.
    written: u64,
}

impl Flush {
    /// Counts bytes written below `folder`, and has the disk begin where enough came together.
    pub(super) fn wrote(&mut self, bytes: u64, folder: &Path) {
        self.written += bytes;
        if self.written >= BEGIN_AFTER && self.done_within(Duration::ZERO) {
            self.begin(folder);
        }
    }

    /// Waits until none is under way; whether that is so.
    fn done_within(&mut self, time: Duration) -> bool {
        let at_work = self
            .under_way
            .as_ref()
            .is_some_and(|done| done.recv_timeout(time) == Err(RecvTimeoutError::Timeout));
        if !at_work {
            self.under_way = None;
        }
        !at_work
    }

    fn begin(&mut self, folder: &Path) {
        self.written = 0;
        let (at_work, done) = mpsc::channel();
        let folder = folder.to_owned();
        let flush = move || {
            if let Err(error) = write_back(&folder) {
                // Who keeps the files asks again, and has to hear it then.
                tracing::warn!(folder = %folder.display(), %error, "the files are not on the disk yet");
            }
            drop::<Sender<()>>(at_work);
        };
        // Nothing can break off a thread that waits for the disk. It holds nothing but the folder's name, so it may outlive the transfer.
        let spawned = std::thread::Builder::new().name("flush".into()).spawn(flush);
        self.under_way = spawned.is_ok().then_some(done);
    }

    /// Waits for the disk to have everything that was written below `folder`; not for longer than a pass is worth.
    fn wait(&mut self, folder: &Path, busy: &mut Busy<'_>) -> Result<(), TransferError> {
        let until = Instant::now() + PATIENCE;
        // One that is under way does not cover what was written since.
        for again in [false, true] {
            if again {
                self.begin(folder);
            }
            while !self.done_within(TOLD_EVERY.min(until.saturating_duration_since(Instant::now()))) {
                if Instant::now() >= until {
                    return Ok(());
                }
                busy.alive()?;
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
