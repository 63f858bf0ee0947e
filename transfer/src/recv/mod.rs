//! The destination's writing thread: checks, hashes and writes what arrives, acknowledges it, and judges the whole.

mod pages;
mod settle;
mod tree;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime};

use mose_protocol::transfer::TransferBounds;
use tokio::sync::watch;

use crate::blocks::{ArrivingFile, Blocks};
use crate::buf::Buf;
use crate::digest::{Digest, FileHasher};
use crate::error::TransferError;
use crate::flow::{Inlet, Stop};
use crate::frame::{Entry, Kind, Record, Reply, Section};
use crate::manifest::{Item, Manifest};
use crate::pages::store::PageStore;
use crate::path::RelPath;
use crate::write::Tree;
use crate::{Folders, Progress, Received};
use settle::{Busy, Flush};

/// Files that a source may have open here at the same time.
const MAX_OPEN: usize = 128;
/// Bytes of paths, link targets and attributes in all: they stay in memory until the end.
const MAX_DESCRIBED: u64 = 64 << 20;
/// How often, and in which intervals, a verdict is given while the source does not answer.
const VERDICTS: u32 = 20;
const VERDICT_EVERY: Duration = Duration::from_millis(100);

/// What the rest of the agent sees of a transfer while it runs.
#[derive(Debug, Default, Clone)]
pub(crate) struct ReceiveState {
    pub(crate) stream: Option<PathBuf>,
    pub(crate) outcome: Option<Result<Received, TransferError>>,
}

/// Bytes of content per section, read by whoever shows progress.
#[derive(Default)]
pub(crate) struct Counters {
    stream: AtomicU64,
    pub(super) images: AtomicU64,
    pub(super) trees: AtomicU64,
}

impl Counters {
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            stream: self.stream.load(Ordering::Relaxed),
            images: self.images.load(Ordering::Relaxed),
            trees: self.trees.load(Ordering::Relaxed),
        }
    }

    fn total(&self) -> u64 {
        let Progress { stream, images, trees } = self.progress();
        stream + images + trees
    }
}

/// A file of a tree whose content is arriving.
pub(super) struct Arriving {
    pub(super) section: Section,
    pub(super) path: RelPath,
    pub(super) entry: Entry,
    pub(super) file: ArrivingFile,
}

/// A file of CRIU's whose content is arriving.
pub(super) struct Open {
    pub(super) path: RelPath,
    entry: Entry,
    pub(super) file: File,
    pub(super) hasher: FileHasher,
    /// Whether its digest is made of its pages'.
    pub(super) paged: bool,
}

/// Everything the writing thread owns.
pub(crate) struct Sink {
    pub(super) folders: Folders,
    pub(super) bounds: TransferBounds,
    counters: Arc<Counters>,
    state: watch::Sender<ReceiveState>,
    images: Tree,
    pub(super) trees: Vec<Tree>,
    pub(super) open: HashMap<u32, Open>,
    pub(super) arriving: HashMap<u32, Arriving>,
    /// Bytes of zeros that were told: they cost memory, not bandwidth.
    pub(super) zeros: u64,
    pub(super) manifest: Manifest,
    stream: Option<(File, FileHasher)>,
    pub(super) seed: u64,
    pub(super) store: Option<PageStore>,
    /// Bytes that were copied out of the store.
    pub(super) reused: u64,
    /// The tree that is complete for now.
    settling: Option<u16>,
    flush: Flush,
    acked: u64,
    described: u64,
    first: Option<(Instant, SystemTime)>,
    last: SystemTime,
}

impl Sink {
    /// Makes and checks the folders, before anybody is told where to send to.
    pub(crate) fn open(
        folders: Folders,
        bounds: TransferBounds,
        seed: u64,
        counters: Arc<Counters>,
        state: watch::Sender<ReceiveState>,
    ) -> Result<Self, TransferError> {
        make_private(&folders.images)?;
        let mut trees = Vec::new();
        for (number, tree) in folders.trees.iter().enumerate() {
            let section = Section::Tree(u16::try_from(number).unwrap_or(u16::MAX));
            trees.push(Tree::open(&tree.path, section, tree.only.as_deref())?);
        }
        let images = Tree::open(&folders.images, Section::Images, None)?;
        let (open, manifest) = (HashMap::new(), Manifest::default());
        let last = SystemTime::now();
        let (stream, acked, described, first) = (None, 0, 0, None);
        Ok(Self {
            folders,
            bounds,
            counters,
            state,
            images,
            trees,
            open,
            arriving: HashMap::new(),
            zeros: 0,
            manifest,
            stream,
            seed,
            store: None,
            reused: 0,
            settling: None,
            flush: Flush::default(),
            acked,
            described,
            first,
            last,
        })
    }

    /// Runs the transfer to its end and publishes how it ended.
    pub(crate) fn run(mut self, mut inlet: Inlet, stop: &Stop) {
        let outcome = self.receive(&mut inlet, stop);
        let outcome = outcome.map_err(|e| if stop.is_stopped() { TransferError::Cancelled } else { e });
        if let Err(error) = &outcome {
            let told = matches!(error, TransferError::Mismatch { what, .. } if what == WHOLE);
            if !told {
                let text = match error {
                    TransferError::Cancelled => "its agent cancelled it".to_owned(),
                    other => other.to_string(),
                };
                // The source may be gone; then there is nobody to tell.
                drop(inlet.replies.reply(&Reply::Abort(text)));
            }
        }
        self.state.send_modify(|state| state.outcome = Some(outcome));
        inlet.replies.close();
    }

    fn receive(&mut self, inlet: &mut Inlet, stop: &Stop) -> Result<Received, TransferError> {
        self.reply(inlet, &Reply::Welcome)?;
        loop {
            if stop.is_stopped() {
                return Err(TransferError::Cancelled);
            }
            let frame = inlet.next(self.counters.total())?;
            let finish = self.frame(&frame, &inlet.peer)?;
            self.settle_noted(inlet, stop)?;
            self.acked += 1;
            inlet.pool.give(frame);
            self.reply(inlet, &Reply::Ack(self.acked))?;
            if let Some(finish) = finish {
                return self.finish(inlet, stop, finish);
            }
        }
    }

    /// A source that cannot be answered is gone.
    fn reply(&self, inlet: &mut Inlet, reply: &Reply) -> Result<(), TransferError> {
        inlet.replies.reply(reply).map_err(|error| {
            tracing::debug!(%error, "no way back to the source");
            TransferError::Closed { peer: inlet.peer.clone(), bytes: self.counters.total() }
        })
    }

    /// Gives the verdict, and waits for the source to have heard it: what a transport took it may still lose, when this
    /// process or its session ends. A source that says nothing back has to ask over another way.
    fn judge(&self, inlet: &mut Inlet, verdict: &Reply) -> Result<(), TransferError> {
        self.reply(inlet, verdict)?;
        for _ in 0..VERDICTS {
            loop {
                match inlet.frames.recv_timeout(VERDICT_EVERY) {
                    // A stray ping; the source says goodbye, or hangs up.
                    Ok(Ok(frame)) if !frame.records().any(|record| record == Ok(Record::Bye)) => {}
                    Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    Err(RecvTimeoutError::Timeout) => {
                        // Once given, it stands, whether or not the source is still there.
                        drop(inlet.replies.reply(verdict));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Buf, peer: &str) -> Result<Option<Finish>, TransferError> {
        for record in frame.records() {
            match record.map_err(|what| TransferError::malformed(peer, what))? {
                Record::Stream(bytes) => self.stream(bytes)?,
                Record::StreamEnd { size, digest } => self.end_stream(size, digest, peer)?,
                Record::Entry { section, id, path, entry } => self.entry(section, id, path, entry, peer)?,
                Record::Patch { section, id, path, entry } => self.patch(section, id, path, entry, peer)?,
                Record::Keep { id, bytes } => self.keep(id, bytes, peer)?,
                Record::Zeros { id, bytes } => self.zeros(id, bytes, peer)?,
                Record::Settle { section } => self.settle(section, peer)?,
                Record::Data { id, offset, bytes } => self.data(id, offset, bytes, peer)?,
                Record::End { id, size, digest } => self.end(id, size, digest, peer)?,
                Record::Paged { id } => self.paged(id, peer)?,
                Record::Pages { first, bytes } => self.pages(first, bytes, peer)?,
                Record::Reuse { id, offset, runs } => self.reuse(id, offset, runs, peer)?,
                Record::Remove { section, path } => {
                    self.drop_open(section, &path);
                    self.manifest.remove(section, &path);
                    self.tree(section)?.remove(&path)?;
                }
                Record::Finish { items, bytes, digest } => return Ok(Some(Finish { items, bytes, digest })),
                Record::Ping | Record::Bye => {}
                Record::Abort { message } => {
                    return Err(TransferError::Remote { peer: peer.to_owned(), message });
                }
            }
        }
        Ok(None)
    }

    pub(super) fn count(
        &mut self,
        which: impl Fn(&Counters) -> &AtomicU64,
        bytes: usize,
    ) -> Result<(), TransferError> {
        self.last = SystemTime::now();
        self.first.get_or_insert((Instant::now(), self.last));
        which(&self.counters).fetch_add(bytes as u64, Ordering::Relaxed);
        if self.counters.total() > self.bounds.total {
            return Err(TransferError::Limit { what: "bytes", limit: self.bounds.total });
        }
        Ok(())
    }

    fn stream(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.count(|c| &c.stream, bytes.len())?;
        let path = &self.folders.stream;
        let (file, hasher) = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert((create_private(path)?, FileHasher::new())),
        };
        file.write_all_at(bytes, hasher.bytes()).map_err(|e| TransferError::io("write", path, e))?;
        hasher.update(bytes);
        Ok(())
    }

    fn end_stream(&mut self, size: u64, digest: Digest, peer: &str) -> Result<(), TransferError> {
        if self.state.borrow().stream.is_some() {
            return Err(TransferError::malformed(peer, "a second container image"));
        }
        if self.stream.is_none() {
            self.stream(&[])?;
        }
        let Some((_, hasher)) = self.stream.take() else { return Ok(()) };
        compare("the container image", size, digest, &hasher)?;
        let path = self.folders.stream.clone();
        self.state.send_modify(|state| state.stream = Some(path));
        Ok(())
    }

    fn entry(
        &mut self,
        section: Section,
        id: u32,
        path: RelPath,
        entry: Entry,
        peer: &str,
    ) -> Result<(), TransferError> {
        if self.manifest.len() + self.open.len() + self.arriving.len() >= self.bounds.entries as usize {
            return Err(TransferError::Limit { what: "files", limit: u64::from(self.bounds.entries) });
        }
        self.describe(&path, &entry)?;
        if let Kind::Link(first) = &entry.kind {
            let known = self.manifest.get(section, first);
            if !known.is_some_and(|item| !matches!(item.entry.kind, Kind::Dir | Kind::Link(_))) {
                return Err(TransferError::malformed(peer, format!("{path} as a name of something unknown")));
            }
        }
        if entry.kind != Kind::Dir {
            self.drop_open(section, &path);
            if self.manifest.get(section, &path).is_some() {
                self.manifest.remove(section, &path);
            }
        }
        match self.tree(section)?.make(&path, &entry)? {
            Some(file) if section == Section::Images => {
                self.check_open(id, peer)?;
                self.open.insert(id, Open { path, entry, file, hasher: FileHasher::new(), paged: false });
                Ok(())
            }
            Some(file) => {
                self.check_open(id, peer)?;
                self.arriving.insert(id, Arriving { section, path, entry, file: ArrivingFile::new(file) });
                Ok(())
            }
            None => {
                let item = Item { entry, size: 0, digest: Digest::default(), blocks: Blocks::default() };
                self.manifest.insert(section, path, item);
                Ok(())
            }
        }
    }

    /// Counts what an entry takes in memory until the end.
    pub(super) fn describe(&mut self, path: &RelPath, entry: &Entry) -> Result<(), TransferError> {
        self.described += entry.weight() + path.bytes().len() as u64;
        if self.described > MAX_DESCRIBED {
            let what = "bytes of names and attributes";
            return Err(TransferError::Limit { what, limit: MAX_DESCRIBED });
        }
        Ok(())
    }

    pub(super) fn check_open(&self, id: u32, peer: &str) -> Result<(), TransferError> {
        let open = self.open.len() + self.arriving.len();
        if open >= MAX_OPEN || self.open.contains_key(&id) || self.arriving.contains_key(&id) {
            return Err(TransferError::malformed(peer, "too many files at once"));
        }
        Ok(())
    }

    fn data(&mut self, id: u32, offset: u64, bytes: &[u8], peer: &str) -> Result<(), TransferError> {
        if self.arriving.contains_key(&id) {
            return self.tree_data(id, offset, bytes, peer);
        }
        let Some(open) = self.open.get_mut(&id) else {
            return Err(TransferError::malformed(peer, "content of a file that is not open"));
        };
        if open.hasher.bytes() != offset {
            return Err(TransferError::malformed(peer, format!("content of {} out of order", open.path)));
        }
        if open.paged {
            return self.paged_data(id, offset, bytes, peer);
        }
        open.hasher.update(bytes);
        let written = open.file.write_all_at(bytes, offset);
        written.map_err(|e| TransferError::io("write", open.path.as_path(), e))?;
        self.count(|c| &c.images, bytes.len())
    }

    fn end(&mut self, id: u32, size: u64, digest: Digest, peer: &str) -> Result<(), TransferError> {
        if let Some(arriving) = self.arriving.remove(&id) {
            return self.tree_end(arriving, size, digest);
        }
        let Some(Open { path, entry, hasher, file, paged }) = self.open.remove(&id) else {
            return Err(TransferError::malformed(peer, "the end of a file that is not open"));
        };
        compare(&format!("file {path}"), size, digest, &hasher)?;
        if paged {
            // Zero pages at its end are holes.
            file.set_len(size).map_err(|e| TransferError::io("set the size of", path.as_path(), e))?;
        }
        let item = Item { entry, size, digest: hasher.digest(), blocks: Blocks::default() };
        self.manifest.insert(Section::Images, path, item);
        Ok(())
    }

    pub(super) fn drop_open(&mut self, section: Section, path: &RelPath) {
        if section == Section::Images {
            self.open.retain(|_, open| !open.path.is_within(path));
        }
        self.arriving.retain(|_, file| file.section != section || !file.path.is_within(path));
    }

    pub(super) fn tree(&mut self, section: Section) -> Result<&mut Tree, TransferError> {
        match section {
            Section::Images => Ok(&mut self.images),
            Section::Tree(number) => self.trees.get_mut(usize::from(number)).ok_or_else(|| {
                TransferError::setup(
                    format!("the source sends the tree {number} and the destination gave no folder for it"),
                    "name the folder when the transfer is opened",
                )
            }),
        }
    }

    fn finish(&mut self, inlet: &mut Inlet, stop: &Stop, finish: Finish) -> Result<Received, TransferError> {
        let open = self.open.values().map(|open| &open.path);
        if let Some(path) = open.chain(self.arriving.values().map(|file| &file.path)).next() {
            return Err(TransferError::malformed(&inlet.peer, format!("no end of {path}")));
        }
        let mut busy = Busy::new(inlet, stop, self.acked);
        self.images.complete(&self.manifest, || busy.alive())?;
        for tree in &mut self.trees {
            tree.complete(&self.manifest, || busy.alive())?;
        }
        let digest = self.manifest.digest();
        let bytes = self.counters.total();
        if (finish.items, finish.bytes, finish.digest) != (self.manifest.len() as u64, bytes, digest) {
            self.judge(inlet, &Reply::Differs { digest })?;
            return Err(TransferError::Mismatch {
                what: WHOLE.into(),
                source_digest: finish.digest,
                destination_digest: digest,
            });
        }
        self.judge(inlet, &Reply::Verified { bytes, digest })?;
        let (began, first_byte_at) = self.first.unwrap_or((Instant::now(), self.last));
        Ok(Received {
            bytes,
            files: self.manifest.files(),
            digest,
            elapsed: began.elapsed(),
            first_byte_at,
            last_byte_at: self.last,
        })
    }
}

/// What differs when every file is right and the whole is not.
const WHOLE: &str = "the image";

struct Finish {
    items: u64,
    bytes: u64,
    digest: Digest,
}

fn compare(what: &str, size: u64, digest: Digest, hasher: &FileHasher) -> Result<(), TransferError> {
    let ours = hasher.digest();
    if size == hasher.bytes() && digest == ours {
        return Ok(());
    }
    Err(TransferError::Mismatch { what: what.into(), source_digest: digest, destination_digest: ours })
}

/// Checkpoint images hold a process's memory: nobody else may look, and nothing of an earlier attempt may lie there.
fn make_private(path: &Path) -> Result<(), TransferError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| TransferError::io("make the folder", path, e))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(path, mode).map_err(|e| TransferError::io("set the mode of", path, e))?;
    let mut entries = fs::read_dir(path).map_err(|e| TransferError::io("list", path, e))?;
    if entries.next().is_some() {
        let reason = format!("the checkpoint folder {path:?} is not empty");
        return Err(TransferError::setup(reason, "remove what an earlier migration left there"));
    }
    Ok(())
}

/// A new file of mode 0600, in place of one that an earlier attempt left.
fn create_private(path: &Path) -> Result<File, TransferError> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(TransferError::io("replace", path, e)),
    }
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.map_err(|e| TransferError::io("create", path, e))
}

#[cfg(test)]
mod tests;
