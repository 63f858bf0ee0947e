//! The source's sending thread: fills frames, keeps to the window, remembers what the destination should hold.

mod rounds;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mose_protocol::transfer::TransferBounds;

use crate::blocks::Blocks;
use crate::buf::Buf;
use crate::digest::{Digest, FileHasher};
use crate::error::TransferError;
use crate::flow::{Flow, Outlet, Pool, Verdict};
use crate::frame::{Entry, Kind, Record, Section};
use crate::manifest::{Item, Manifest};
use crate::pace::Pacer;
use crate::path::RelPath;
use crate::scan::Scan;
use crate::{Pass, Sent, TransferLimits};

pub(crate) use rounds::Rounds;
pub use rounds::{ReadPages, TakePage};

/// The least time between two signs of life of a source that waits for its bandwidth.
const ALIVE: Duration = Duration::from_millis(100);

/// Everything the sending thread owns.
pub(crate) struct Engine {
    outlet: Box<dyn Outlet>,
    flow: Arc<Flow>,
    pool: Pool,
    frame: Buf,
    tag: u32,
    seq: u64,
    bounds: TransferBounds,
    keepalive: Duration,
    pacer: Option<Pacer>,
    /// What the transport had sent again when the last frame left.
    resent: u64,
    last_frame: Instant,
    began: Instant,
    next_id: u32,
    bytes: u64,
    made: u32,
    pub(crate) manifest: Manifest,
    /// What the destination's store of pages holds.
    pub(crate) rounds: Rounds,
    /// What the last pass over each tree saw, and where.
    pub(crate) seen: HashMap<Section, (PathBuf, Scan)>,
    /// Bytes of zeros that were told: they cost memory, not bandwidth.
    described: u64,
    closed: bool,
}

/// A file whose content is being sent.
pub(crate) struct Sending {
    pub(crate) id: u32,
    pub(crate) section: Section,
    pub(crate) path: RelPath,
    pub(crate) entry: Entry,
    pub(crate) hasher: FileHasher,
    /// Whether it is told by the pages that the destination has.
    pub(crate) paged: bool,
}

impl Engine {
    pub(crate) fn new(
        outlet: Box<dyn Outlet>,
        flow: Arc<Flow>,
        pool: Pool,
        tag: u32,
        bounds: TransferBounds,
        limits: TransferLimits,
        seed: u64,
    ) -> Self {
        let now = Instant::now();
        let stall = limits.stall.min(Duration::from_millis(bounds.stall_ms));
        let pacer = limits.bandwidth.map(|limit| Pacer::new(limit, outlet.segments(), now));
        Self {
            frame: pool.take(),
            outlet,
            flow,
            pool,
            tag,
            seq: 0,
            bounds,
            keepalive: (stall / 4).clamp(Duration::from_millis(5), Duration::from_secs(5)),
            pacer,
            resent: 0,
            last_frame: now,
            began: now,
            next_id: 0,
            bytes: 0,
            made: 0,
            manifest: Manifest::default(),
            rounds: Rounds::new(seed),
            seen: HashMap::new(),
            described: 0,
            closed: false,
        }
    }

    /// How long the thread may wait for work before it has to say that it is alive.
    pub(crate) fn keepalive(&self) -> Duration {
        self.keepalive
    }

    /// To be called at least as often as [`Engine::keepalive`] says.
    pub(crate) fn tick(&mut self) -> Result<(), TransferError> {
        self.flow.check()?;
        if self.last_frame.elapsed() >= self.keepalive {
            if self.frame.is_empty() {
                self.frame.push(&Record::Ping);
            }
            self.flush()?;
        }
        Ok(())
    }

    /// Hands over what was gathered, when the bandwidth allows it.
    pub(crate) fn flush(&mut self) -> Result<(), TransferError> {
        if self.frame.is_empty() {
            return self.flow.check();
        }
        self.keep_pace()?;
        let frame = std::mem::replace(&mut self.frame, self.pool.take());
        self.ship(frame)
    }

    /// Waits for the next frame's time. Where that is long, says meanwhile that it is alive.
    fn keep_pace(&mut self) -> Result<(), TransferError> {
        // Signs of life are paid for by the frames after this one, so that they cannot keep it back for ever.
        let now = Instant::now();
        let Some(due) = self.pacer.as_mut().and_then(|pacer| pacer.wait(now)) else { return Ok(()) };
        while due > Instant::now() {
            let alive = self.last_frame + self.keepalive.max(ALIVE);
            self.flow.pause(due.min(alive))?;
            if due > alive {
                let mut frame = self.pool.take();
                frame.push(&Record::Ping);
                self.ship(frame)?;
            }
        }
        Ok(())
    }

    /// The one place where frames leave.
    fn ship(&mut self, mut frame: Buf) -> Result<(), TransferError> {
        let bytes = frame.bytes().len();
        self.flow.reserve(bytes)?;
        frame.seal(self.tag, self.seq);
        self.seq += 1;
        self.last_frame = Instant::now();
        if let Some(pacer) = &mut self.pacer {
            let resent = self.outlet.resent();
            pacer.charge(bytes, resent.saturating_sub(self.resent), self.last_frame);
            self.resent = resent;
        }
        self.outlet.send(frame).map_err(|e| self.flow.failure_or(e))
    }

    pub(crate) fn push(&mut self, record: &Record<'_>) -> Result<(), TransferError> {
        if self.frame.room() == 0 {
            self.flush()?;
        }
        self.frame.push(record);
        Ok(())
    }

    /// Appends content that is in memory; there must be room for it.
    pub(crate) fn push_content(&mut self, id: u32, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        let put = |room: &mut [u8]| {
            room.copy_from_slice(bytes);
            Ok::<_, std::convert::Infallible>(bytes.len())
        };
        let Ok(count) = self.frame.push_data(id, offset, bytes.len(), put);
        self.count(count)
    }

    /// How many bytes of content still fit into the frame.
    pub(crate) fn room(&self) -> usize {
        self.frame.room()
    }

    /// Bytes of a full frame's content.
    pub(crate) fn chunk(&self) -> usize {
        self.frame.chunk()
    }

    /// Waits until the destination has written everything that was sent.
    pub(crate) fn drain(&mut self) -> Result<(), TransferError> {
        // A destination that settles many files hears meanwhile that we are alive.
        while !self.flow.drained(self.keepalive)? {
            self.tick()?;
        }
        Ok(())
    }

    pub(crate) fn count(&mut self, bytes: usize) -> Result<(), TransferError> {
        self.bytes += bytes as u64;
        self.flow.content.store(self.bytes, Ordering::Relaxed);
        if self.bytes > self.bounds.total {
            return Err(TransferError::Limit { what: "bytes", limit: self.bounds.total });
        }
        Ok(())
    }

    /// Bytes of content sent so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Announces an entry that has no content of its own.
    pub(crate) fn entry(
        &mut self,
        section: Section,
        path: &RelPath,
        entry: Entry,
    ) -> Result<(), TransferError> {
        self.announce(section, path, &entry)?;
        let item = Item { entry, size: 0, digest: Digest::default(), blocks: Blocks::default() };
        self.manifest.insert(section, path.clone(), item);
        Ok(())
    }

    /// Announces a file; its content follows by [`Engine::content`] and [`Engine::end`].
    pub(crate) fn begin(
        &mut self,
        section: Section,
        path: &RelPath,
        entry: Entry,
    ) -> Result<Sending, TransferError> {
        let id = self.announce(section, path, &entry)?;
        let paged = section == Section::Images && is_pages(path) && !self.rounds.known.is_empty();
        if paged {
            self.push(&Record::Paged { id })?;
        }
        Ok(Sending { id, section, path: path.clone(), entry, hasher: FileHasher::new(), paged })
    }

    /// Counts zeros that are told instead of sent: both ends remember their blocks.
    pub(crate) fn count_described(&mut self, bytes: u64) -> Result<(), TransferError> {
        self.described = self.described.saturating_add(bytes);
        if self.described > self.bounds.total {
            return Err(TransferError::Limit { what: "bytes of holes in files", limit: self.bounds.total });
        }
        Ok(())
    }

    fn next_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.made = self.made.saturating_add(1);
        id
    }

    /// Announces a file of which the destination has an earlier state under that path.
    pub(crate) fn announce_patch(
        &mut self,
        section: Section,
        path: &RelPath,
        entry: &Entry,
    ) -> Result<u32, TransferError> {
        let id = self.next_id();
        self.push(&Record::Patch { section, id, path: path.clone(), entry: entry.clone() })?;
        Ok(id)
    }

    pub(crate) fn announce(
        &mut self,
        section: Section,
        path: &RelPath,
        entry: &Entry,
    ) -> Result<u32, TransferError> {
        let id = self.next_id();
        if self.manifest.len() >= self.bounds.entries as usize {
            return Err(TransferError::Limit { what: "files", limit: u64::from(self.bounds.entries) });
        }
        // A folder that stays a folder keeps what is in it.
        if entry.kind != Kind::Dir && self.manifest.get(section, path).is_some() {
            self.manifest.remove(section, path);
        }
        self.push(&Record::Entry { section, id, path: path.clone(), entry: entry.clone() })?;
        Ok(id)
    }

    /// Sends a file's content from where it stands up to `until`, or to its end if that comes first. Of a paged file that
    /// is not `complete`, half a page at its end is left for later.
    pub(crate) fn content(
        &mut self,
        sending: &mut Sending,
        file: &File,
        until: u64,
        complete: bool,
    ) -> Result<(), TransferError> {
        if sending.paged {
            return Rounds::content(self, sending, file, until, complete);
        }
        while sending.hasher.bytes() < until {
            if self.frame.room() == 0 {
                self.flush()?;
            }
            let offset = sending.hasher.bytes();
            let most = usize::try_from(until - offset).unwrap_or(usize::MAX);
            let read = |room: &mut [u8]| file.read_at(room, offset);
            let read = self.frame.push_data(sending.id, offset, most, read);
            let count = read.map_err(|e| TransferError::io("read", sending.path.as_path(), e))?;
            if count == 0 {
                break;
            }
            sending.hasher.update(self.frame.tail(count));
            self.count(count)?;
        }
        Ok(())
    }

    pub(crate) fn end(&mut self, sending: Sending) -> Result<(), TransferError> {
        let (size, digest) = (sending.hasher.bytes(), sending.hasher.digest());
        self.push(&Record::End { id: sending.id, size, digest })?;
        let item = Item { entry: sending.entry, size, digest, blocks: Blocks::default() };
        self.manifest.insert(sending.section, sending.path, item);
        Ok(())
    }

    pub(crate) fn remove(&mut self, section: Section, path: &RelPath) -> Result<(), TransferError> {
        self.manifest.remove(section, path);
        self.push(&Record::Remove { section, path: path.clone() })
    }

    /// Sends a piece of the container image archive.
    pub(crate) fn stream(&mut self, mut bytes: &[u8]) -> Result<(), TransferError> {
        while !bytes.is_empty() {
            if self.frame.room() == 0 {
                self.flush()?;
            }
            let (head, tail) = bytes.split_at(bytes.len().min(self.frame.room()));
            self.frame.push(&Record::Stream(head));
            self.count(head.len())?;
            bytes = tail;
        }
        Ok(())
    }

    pub(crate) fn end_stream(&mut self, hasher: &FileHasher) -> Result<u64, TransferError> {
        self.push(&Record::StreamEnd { size: hasher.bytes(), digest: hasher.digest() })?;
        self.flush()?;
        Ok(hasher.bytes())
    }

    /// Measures a pass and sends what it left in the frame.
    pub(crate) fn pass(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), TransferError>,
    ) -> Result<Pass, TransferError> {
        let (began, bytes, made) = (Instant::now(), self.bytes, self.made);
        work(self)?;
        self.flush()?;
        Ok(Pass { bytes: self.bytes - bytes, entries: self.made - made, elapsed: began.elapsed() })
    }

    /// Says that this is all, and waits for the destination's verified word.
    pub(crate) fn finish(&mut self) -> Result<Sent, TransferError> {
        let digest = self.manifest.digest();
        let items = self.manifest.len() as u64;
        self.push(&Record::Finish { items, bytes: self.bytes, digest })?;
        self.flush()?;
        let theirs = match self.flow.verdict()? {
            Verdict::Verified { bytes, digest: theirs } if bytes == self.bytes && theirs == digest => {
                self.part();
                return Ok(Sent {
                    bytes: self.bytes,
                    files: self.manifest.files(),
                    digest,
                    elapsed: self.began.elapsed(),
                });
            }
            Verdict::Verified { digest: theirs, .. } | Verdict::Differs { digest: theirs } => theirs,
        };
        self.part();
        Err(self.flow.fail(TransferError::Mismatch {
            what: "the image".into(),
            source_digest: digest,
            destination_digest: theirs,
        }))
    }

    /// Lets the destination know that its verdict was heard; if this is lost, it says it a few times more and goes.
    fn part(&mut self) {
        self.closed = true;
        self.frame.push(&Record::Bye);
        let mut last = std::mem::replace(&mut self.frame, self.pool.take());
        last.seal(self.tag, self.seq);
        drop(self.outlet.send(last));
        self.outlet.close();
    }

    /// Gives the transfer up, and says so to the other end as far as the transport can.
    pub(crate) fn abort(&mut self, error: &TransferError) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.flow.fail(error.clone());
        let mut last = self.pool.take();
        last.push(&Record::Abort { message: error.to_string() });
        last.seal(self.tag, self.seq);
        self.outlet.abort(last);
    }
}

/// Whether CRIU writes the memory's pages, or those of shared memory, into a file of this name.
pub(crate) fn is_pages(path: &RelPath) -> bool {
    path.split().and_then(|(_, name)| name.to_str()).is_some_and(|name| {
        name.strip_prefix("pages-")
            .and_then(|rest| rest.strip_suffix(".img"))
            .is_some_and(|id| !id.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_files_are_known_by_their_names() {
        let is = |name: &str| is_pages(&RelPath::parse(name.as_bytes()).unwrap());
        assert!(is("pages-1.img") && is("sub/pages-12.img") && is("pages-shmem-3.img"));
        assert!(!is("pagemap-1.img") && !is("pages-.img") && !is("pages-1.img.tmp") && !is("inventory.img"));
    }
}
