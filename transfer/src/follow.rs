//! CRIU's checkpoint folder, sent while CRIU is still writing it.
//!
//! Only `pages-*.img` files are append-only, and they are nearly all of the bytes: they are sent as they grow. All other
//! files are sent once the dump is done. CRIU writes in bursts (64 MiB in 50 ms), hence a poll every two milliseconds.
//!
//! A page file that is older than the dump is another dump's: CRIU will write over it. It is not followed, since nothing would tell
//! afterwards that what was read of it first is not what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use parking_lot::{Condvar, Mutex};

use super::error::TransferError;
use super::folder::Folder;
use super::frame::{Entry, Kind, Meta, Section};
use super::pages::PAGE;
use super::path::RelPath;
use super::scan::Stamp;
use super::send::{Engine, Sending, is_pages};

/// Between two looks at the folder.
const POLL: Duration = Duration::from_millis(2);
/// Page files that are followed at the same time; CRIU writes one after another, so the rest are few and small.
const FOLLOWED: usize = 64;
/// How often the finished folder is looked at again before its changing is an error.
const ATTEMPTS: u32 = 3;
/// The kernel's times of files lag behind the clock by up to a tick, at most 10 ms.
const TICK: Duration = Duration::from_millis(10);
/// Folders within folders.
const MAX_DEPTH: usize = 16;
/// The most that is sent of a page file before it is looked whether the dump is done, where something is to be sent right then.
const STEP: u64 = 1 << 20;

/// What is sent as soon as the dump is done, before the rest of the images.
pub(crate) type Interlude<'a> = &'a mut dyn FnMut(&mut Engine) -> Result<(), TransferError>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dump {
    Running,
    Done,
    Abandoned,
}

#[derive(Debug)]
struct Shared {
    /// What changed last before it is not of this dump.
    begun: SystemTime,
    dump: Mutex<Dump>,
    changed: Condvar,
}

/// Tells [`Sender::follow_images`](super::Sender::follow_images) how the dump ended. Dropping it without a word means abandoned.
#[derive(Debug)]
pub struct DumpNotifier(Arc<Shared>);

/// What a follower knows of the dump it follows.
#[derive(Debug, Clone)]
pub struct DumpSignal(Arc<Shared>);

/// A pair of ends: the one who dumps keeps the first. To be called before the dump writes.
#[must_use]
pub fn dump_signal() -> (DumpNotifier, DumpSignal) {
    let begun = SystemTime::now() - TICK;
    let shared = Arc::new(Shared { begun, dump: Mutex::new(Dump::Running), changed: Condvar::new() });
    (DumpNotifier(Arc::clone(&shared)), DumpSignal(shared))
}

impl DumpSignal {
    /// The signal for a folder that is complete already.
    #[must_use]
    pub fn done() -> Self {
        let (notifier, signal) = dump_signal();
        notifier.done();
        signal
    }

    /// Waits for news, but no longer than until the next look at the folder is due.
    fn wait(&self) -> Dump {
        let mut state = self.0.dump.lock();
        self.0.changed.wait_while_for(&mut state, |state| *state == Dump::Running, POLL);
        *state
    }

    fn is_running(&self) -> bool {
        *self.0.dump.lock() == Dump::Running
    }
}

impl DumpNotifier {
    /// The dump succeeded: every file has its final size.
    pub fn done(self) {
        self.set(Dump::Done);
    }

    /// The dump failed: nothing of it is to be used.
    pub fn abandoned(self) {
        self.set(Dump::Abandoned);
    }

    fn set(&self, end: Dump) {
        let mut state = self.0.dump.lock();
        if *state == Dump::Running {
            *state = end;
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Drop for DumpNotifier {
    fn drop(&mut self) {
        self.set(Dump::Abandoned);
    }
}

/// A page file that is being sent while it grows.
struct Tail {
    file: File,
    sending: Sending,
    /// As it was when it was last read to its end.
    stamp: Stamp,
}

impl Tail {
    /// Sends some of what was appended, unless the dump is done. Whether it still is the file it was, as far as that can be told.
    fn advance_while_running(
        &mut self,
        engine: &mut Engine,
        dump: &DumpSignal,
    ) -> Result<bool, TransferError> {
        while dump.is_running() {
            let (size, sent) = (look(&self.file, &self.sending.path)?.size, self.sending.hasher.bytes());
            if size.saturating_sub(sent) <= STEP {
                return self.advance(engine, false);
            }
            engine.content(&mut self.sending, &self.file, sent + STEP, false)?;
            if self.sending.hasher.bytes() == sent {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends what was appended. Whether it still is the file it was: not shorter, and nothing changed behind the reader.
    fn advance(&mut self, engine: &mut Engine, complete: bool) -> Result<bool, TransferError> {
        let now = look(&self.file, &self.sending.path)?;
        if now.size < self.sending.hasher.bytes() {
            return Ok(false);
        }
        if now.size > self.sending.hasher.bytes() {
            engine.content(&mut self.sending, &self.file, now.size, complete)?;
            self.stamp = now;
            let left = now.size.saturating_sub(self.sending.hasher.bytes());
            return Ok(left == 0 || (self.sending.paged && !complete && left < PAGE as u64));
        }
        Ok(true)
    }
}

/// Sends the folder; returns when all of its files are sent, after the dump is done.
pub(crate) fn follow(
    engine: &mut Engine,
    path: &Path,
    dump: &DumpSignal,
    interlude: Option<Interlude<'_>>,
) -> Result<(), TransferError> {
    let mut tails: BTreeMap<RelPath, Tail> = BTreeMap::new();
    loop {
        let state = dump.wait();
        match state {
            Dump::Abandoned => return Err(TransferError::DumpAbandoned),
            Dump::Done => {
                interlude.map_or(Ok(()), |interlude| interlude(engine))?;
                return complete(engine, path, tails);
            }
            Dump::Running => {}
        }
        engine.tick()?;
        // The folder may be made by the dump itself.
        let Ok(folder) = Folder::open(path) else { continue };
        let before = engine.bytes();
        for (found, kind) in list(&folder, false)? {
            let room = tails.len() < FOLLOWED;
            if kind == Kind::File
                && is_pages(&found)
                && room
                && !tails.contains_key(&found)
                && let Ok(file) = folder.read(&found)
                && let stamp = look(&file, &found)?
                && !stamp.is_before(dump.0.begun)
            {
                tails.insert(found.clone(), start(engine, &found, file, stamp)?);
            }
        }
        let mut wrong = Vec::new();
        for (path, tail) in &mut tails {
            let same = match interlude {
                Some(_) => tail.advance_while_running(engine, dump)?,
                None => tail.advance(engine, false)?,
            };
            if !same {
                wrong.push(path.clone());
            }
        }
        for path in wrong {
            tails.remove(&path);
            engine.remove(Section::Images, &path)?;
        }
        if engine.bytes() > before {
            engine.flush()?;
        }
    }
}

/// Sends a folder that is complete into the folder `name` of the destination's checkpoint folder; returns when it is there.
pub(crate) fn finished(engine: &mut Engine, path: &Path, name: &str) -> Result<(), TransferError> {
    let under = RelPath::parse(name.as_bytes())?;
    if under.split().is_none_or(|(parent, _)| !parent.is_root()) {
        let reason = "images are put into a folder of the checkpoint folder";
        return Err(TransferError::Path { path: name.into(), reason });
    }
    let folder = Folder::open(path)?;
    engine.entry(Section::Images, &under, bare(Kind::Dir))?;
    for (found, kind) in list(&folder, true)? {
        engine.tick()?;
        let there = under.join(found.as_path().as_os_str())?;
        if kind != Kind::File {
            engine.entry(Section::Images, &there, bare(kind))?;
            continue;
        }
        let file = folder.read(&found).map_err(|e| folder.error("open", &found, e))?;
        let before = look(&file, &found)?;
        if whole(engine, &there, &file, before)? != look(&file, &found)? {
            return Err(TransferError::Unstable { path: folder.full(&found) });
        }
    }
    engine.flush()?;
    engine.drain()
}

fn start(engine: &mut Engine, path: &RelPath, file: File, mut stamp: Stamp) -> Result<Tail, TransferError> {
    stamp.size = 0;
    let sending = engine.begin(Section::Images, path, bare(Kind::File))?;
    Ok(Tail { file, sending, stamp })
}

fn complete(
    engine: &mut Engine,
    path: &Path,
    mut tails: BTreeMap<RelPath, Tail>,
) -> Result<(), TransferError> {
    let mut folder = Folder::open(path)?;
    let mut sent: BTreeMap<RelPath, Option<Stamp>> = BTreeMap::new();
    let mut unstable = None;
    for _ in 0..ATTEMPTS {
        folder.forget();
        let listed = list(&folder, true)?;
        let present: BTreeSet<&RelPath> = listed.iter().map(|(path, _)| path).collect();
        let gone = sent.keys().chain(tails.keys()).filter(|path| !present.contains(path));
        for path in gone.cloned().collect::<Vec<_>>() {
            sent.remove(&path);
            tails.remove(&path);
            engine.remove(Section::Images, &path)?;
        }
        unstable = None;
        for (path, kind) in &listed {
            engine.tick()?;
            if *kind != Kind::File {
                if !sent.contains_key(path) {
                    engine.entry(Section::Images, path, bare(kind.clone()))?;
                    sent.insert(path.clone(), None);
                }
                continue;
            }
            let file = folder.read(path).map_err(|e| folder.error("open", path, e))?;
            let now = look(&file, path)?;
            if sent.get(path) == Some(&Some(now)) {
                continue;
            }
            unstable = Some(path.clone());
            let stamp = match tails.remove(path) {
                Some(tail) => end(engine, tail, now, file)?,
                None => whole(engine, path, &file, now)?,
            };
            sent.insert(path.clone(), Some(stamp));
        }
        if unstable.is_none() {
            return Ok(());
        }
    }
    // The last attempt still had something to send: it is right only if that lies still now.
    let path = unstable.unwrap_or_default();
    let file = folder.read(&path).map_err(|e| folder.error("open", &path, e))?;
    if sent.get(&path) == Some(&Some(look(&file, &path)?)) {
        return Ok(());
    }
    Err(TransferError::Unstable { path: folder.full(&path) })
}

/// Ends a followed file, or sends it again if it is not, byte for byte, what was appended to.
///
/// A write sets the time before the size: so a file whose time moved after its last byte was read had something
/// rewritten, and a time that is new together with new bytes is an append.
fn end(engine: &mut Engine, mut tail: Tail, now: Stamp, file: File) -> Result<Stamp, TransferError> {
    let same = now.same_inode(&tail.stamp) && tail.advance(engine, true)?;
    if same && tail.stamp.ctime == now.ctime && tail.stamp.size == now.size {
        engine.end(tail.sending)?;
        return Ok(now);
    }
    if same && now.size == 0 {
        engine.end(tail.sending)?;
        return Ok(now);
    }
    let path = tail.sending.path.clone();
    tracing::debug!(%path, "a followed file was rewritten; it is sent again");
    whole(engine, &path, &file, now)
}

fn whole(engine: &mut Engine, path: &RelPath, file: &File, stamp: Stamp) -> Result<Stamp, TransferError> {
    let mut sending = engine.begin(Section::Images, path, bare(Kind::File))?;
    engine.content(&mut sending, file, stamp.size, true)?;
    engine.end(sending)?;
    Ok(stamp)
}

fn look(file: &File, path: &RelPath) -> Result<Stamp, TransferError> {
    fstat(file).map(|stat| Stamp::of(&stat)).map_err(|e| TransferError::io("look at", path.as_path(), e))
}

/// Images are the agent's own at the destination: no metadata of theirs moves.
fn bare(kind: Kind) -> Entry {
    Entry { kind, meta: Meta::default() }
}

/// Everything in the folder, each folder before what it holds. Unless it is the `last` look, what vanishes meanwhile is left out.
fn list(folder: &Folder, last: bool) -> Result<Vec<(RelPath, Kind)>, TransferError> {
    let mut folder = Folder::open(&folder.full(&RelPath::default()))?;
    let mut found = Vec::new();
    let mut todo = vec![(RelPath::default(), 0)];
    while let Some((path, depth)) = todo.pop() {
        let names = match folder.names(&path) {
            Ok(names) => names,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) if !last => continue,
            Err(e) => return Err(folder.error("list", &path, e)),
        };
        for name in names {
            let child = path.join(&name)?;
            let described = folder.place(&child).and_then(|place| place.stat().map(|stat| (place, stat)));
            let (place, stat) = match described {
                Ok(described) => described,
                Err(_) if !last => continue,
                Err(e) => return Err(folder.error("look at", &child, e)),
            };
            let kind = match stat.st_mode & libc::S_IFMT {
                libc::S_IFREG => Kind::File,
                libc::S_IFDIR if depth < MAX_DEPTH => {
                    todo.push((child.clone(), depth + 1));
                    Kind::Dir
                }
                libc::S_IFLNK => match nix::fcntl::readlinkat(&*place.fd, place.name.as_os_str()) {
                    Ok(target) => Kind::Symlink(std::os::unix::ffi::OsStrExt::as_bytes(&*target).to_owned()),
                    Err(_) if !last => continue,
                    Err(e) => return Err(folder.error("read the link", &child, e)),
                },
                _ if !last => continue,
                _ => {
                    let kind = "neither file nor folder nor link, in a checkpoint".into();
                    return Err(TransferError::Unsupported { path: folder.full(&child), kind });
                }
            };
            found.push((child, kind));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_whose_notifier_is_dropped_is_abandoned() {
        let (notifier, signal) = dump_signal();
        assert_eq!(signal.wait(), Dump::Running);
        drop(notifier);
        assert_eq!(signal.wait(), Dump::Abandoned);
        assert_eq!(DumpSignal::done().wait(), Dump::Done);
    }
}
