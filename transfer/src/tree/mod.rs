//! A tree of files in passes: most of it before the freeze, what changed since after it. Root file system changes, volumes and
//! shared memory go this way.

mod leaving;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};

use crate::error::TransferError;
use crate::folder::Folder;
use crate::frame::{Entry, Kind, Record, Section};
use crate::path::RelPath;
use crate::scan::{Scan, Seen, Stamp};
use crate::send::Engine;
use leaving::Leaving;

/// How often a file of a frozen container is read again before its changing is an error.
const ATTEMPTS: u32 = 3;
/// Folders within folders; more than a path of the kernel's limit can hold.
const MAX_DEPTH: usize = 2048;

/// A tree as its source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The folder.
    pub path: PathBuf,
    /// Where only some names in the folder belong to the tree: those. The folder itself is then none of it.
    pub only: Option<Vec<OsString>>,
    /// Which files are read again although they look as before.
    pub reread: Reread,
}

impl Root {
    /// A whole folder whose files' times tell what changed.
    #[must_use]
    pub fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), only: None, reread: Reread::default() }
    }
}

/// Which files a pass reads again although inode, size and times are as they were. A write through a shared mapping need not move
/// a file's time: on a disk only the first one after each write-back does, on a tmpfs none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reread {
    /// Those with one of these inode numbers: files that are mapped shared and writable.
    Mapped(HashSet<u64>),
    /// All of them.
    All,
}

impl Default for Reread {
    fn default() -> Self {
        Self::Mapped(HashSet::new())
    }
}

impl Reread {
    fn wants(&self, stamp: &Stamp) -> bool {
        match self {
            Self::Mapped(inodes) => inodes.contains(&stamp.ino),
            Self::All => true,
        }
    }
}

/// One pass: sends what the destination lacks. If the container is `frozen`, the result is an exact copy, or an error;
/// otherwise what moves under the reader is left to the next pass.
pub(crate) fn pass(engine: &mut Engine, number: u16, root: &Root, frozen: bool) -> Result<(), TransferError> {
    let section = Section::Tree(number);
    let before = match engine.seen.remove(&section) {
        Some((path, scan)) if path == root.path => Some(scan),
        Some((path, _)) => {
            return Err(TransferError::setup(
                format!("the first pass read {path:?} and the second one {:?}", root.path),
                "pass the same folder twice",
            ));
        }
        None => None,
    };
    let mut folder = Folder::open(&root.path)?;
    let mut scan = scan(engine, &mut folder, root, frozen, before.as_ref())?;
    if let Some(before) = &before {
        remove_vanished(engine, section, before, &scan)?;
    }
    let mut anew = HashSet::new();
    let paths: Vec<RelPath> = scan.items.keys().cloned().collect();
    for path in paths {
        engine.tick()?;
        let Some(seen) = scan.items.get_mut(&path) else { continue };
        // Who replaced a file has to give it its further names again.
        let renewed = seen.names.first().is_some_and(|first| anew.contains(first));
        let same = before.as_ref().is_some_and(|before| before.has(&path, seen));
        let again = seen.entry.is_file() && root.reread.wants(&seen.stamp);
        if !renewed && same && !again {
            seen.complete = true;
            continue;
        }
        // What the destination has is patched in place, so that it keeps its further names.
        let patch = !renewed && before.as_ref().is_some_and(|before| before.can_be_patched(&path, seen));
        seen.complete =
            Sending { engine, folder: &mut folder, section, path: &path, frozen }.send(seen, patch)?;
        if !seen.names.is_empty() && !patch {
            anew.insert(path);
        }
    }
    engine.seen.insert(section, (root.path.clone(), scan));
    if !frozen {
        // The next pass, or the freeze, finds a destination that has nothing left to do.
        engine.push(&Record::Settle { section })?;
        engine.flush()?;
        engine.drain()?;
    }
    Ok(())
}

fn scan(
    engine: &mut Engine,
    folder: &mut Folder,
    root: &Root,
    frozen: bool,
    before: Option<&Scan>,
) -> Result<Scan, TransferError> {
    let began = SystemTime::now();
    let mut items = BTreeMap::new();
    let mut inodes: HashMap<(u64, u64), Vec<RelPath>> = HashMap::new();
    let mut todo = match &root.only {
        None => vec![(RelPath::default(), 0)],
        Some(names) => {
            let mut there = Vec::new();
            for name in names {
                let path = RelPath::default().join(name)?;
                // A name that is not there is left out, also where the container is frozen.
                match folder.place(&path).and_then(|place| place.stat()) {
                    Ok(_) => there.push((path, 1)),
                    Err(e) if vanished(e) => {}
                    Err(e) => return Err(folder.error("read", &path, e)),
                }
            }
            there
        }
    };
    while let Some((path, depth)) = todo.pop() {
        engine.tick()?;
        let Some(seen) = look(folder, &path, frozen, before)? else { continue };
        let is_dir = seen.1.kind == Kind::Dir;
        if is_dir && depth < MAX_DEPTH {
            folder.forget();
            match folder.names(&path) {
                Ok(names) => {
                    for name in names {
                        todo.push((path.join(&name)?, depth + 1));
                    }
                }
                Err(e) if vanished(e) && !frozen => {}
                Err(e) => return Err(folder.error("list", &path, e)),
            }
        }
        let (stat, entry) = seen;
        // Overlayfs makes its whiteouts as names of one inode; to keep that is of no use.
        if stat.st_nlink > 1 && !is_dir && entry.kind != Kind::Whiteout {
            inodes.entry((stat.st_dev, stat.st_ino)).or_default().push(path.clone());
        }
        items.insert(path, Seen { entry, stamp: Stamp::of(&stat), names: Vec::new(), complete: false });
    }
    for mut names in inodes.into_values().filter(|names| names.len() > 1) {
        names.sort();
        for name in &names {
            if let Some(seen) = items.get_mut(name) {
                if *name != names[0] {
                    seen.entry = Entry { kind: Kind::Link(names[0].clone()), meta: Default::default() };
                }
                seen.names.clone_from(&names);
            }
        }
    }
    Ok(Scan { began, items })
}

/// What is at `path`; nothing if it vanished while the container runs.
fn look(
    folder: &mut Folder,
    path: &RelPath,
    frozen: bool,
    before: Option<&Scan>,
) -> Result<Option<(FileStat, Entry)>, TransferError> {
    let found = folder.place(path).and_then(|place| {
        let stat = place.stat()?;
        // Attributes take most of the time that a look takes.
        let known = before.and_then(|before| before.entry(path, &Stamp::of(&stat)));
        match known {
            Some(entry) => Ok((stat, Some(entry))),
            None => Ok((stat, place.describe(&stat)?.map(|(kind, meta)| Entry { kind, meta }))),
        }
    });
    match found {
        Ok((stat, Some(entry))) => Ok(Some((stat, entry))),
        Ok((stat, None)) => {
            let (major, minor) = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
            Err(TransferError::Unsupported {
                path: folder.full(path),
                kind: format!("a device {major}:{minor}"),
            })
        }
        Err(e) if vanished(e) && !frozen => {
            folder.forget();
            Ok(None)
        }
        Err(e) => Err(folder.error("read", path, e)),
    }
}

/// What the system says when a running container removed or replaced a file, or a folder on the way to it.
fn vanished(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV | Errno::EINVAL | Errno::ENXIO
    )
}

fn remove_vanished(
    engine: &mut Engine,
    section: Section,
    before: &Scan,
    now: &Scan,
) -> Result<(), TransferError> {
    let mut removed: Option<&RelPath> = None;
    for path in before.items.keys().filter(|path| !now.items.contains_key(path)) {
        if !removed.is_some_and(|top| path.is_within(top)) {
            engine.remove(section, path)?;
            removed = Some(path);
        }
    }
    Ok(())
}

/// One thing on its way.
struct Sending<'a> {
    engine: &'a mut Engine,
    folder: &'a mut Folder,
    section: Section,
    path: &'a RelPath,
    frozen: bool,
}

impl Sending<'_> {
    /// Sends it; whether the destination then has it as it was seen.
    fn send(&mut self, seen: &mut Seen, patch: bool) -> Result<bool, TransferError> {
        if let Kind::Link(first) = &seen.entry.kind {
            // The file under its first name vanished under the reader: the next pass sees the truth.
            if self.engine.manifest.get(self.section, first).is_none() {
                return Ok(false);
            }
        }
        if !seen.entry.is_file() {
            self.engine.entry(self.section, self.path, seen.entry.clone())?;
            return Ok(true);
        }
        for attempt in 0..ATTEMPTS {
            // What the attempt before sent can be patched, too.
            if self.send_file(seen, patch || attempt > 0)? {
                return Ok(true);
            }
            if !self.frozen {
                return Ok(false);
            }
            match look(self.folder, self.path, self.frozen, None)? {
                Some((stat, entry)) if entry.is_file() => {
                    seen.entry = entry;
                    seen.stamp = Stamp::of(&stat);
                }
                _ => break,
            }
        }
        Err(TransferError::Unstable { path: self.folder.full(self.path) })
    }

    fn send_file(&mut self, seen: &Seen, patch: bool) -> Result<bool, TransferError> {
        let (path, folder) = (self.path, &mut *self.folder);
        let file = match folder.read(path) {
            Ok(file) => file,
            Err(e) if vanished(e) && !self.frozen => return Ok(false),
            Err(e) => return Err(folder.error("open", path, e)),
        };
        let stamp = |file: &std::fs::File| {
            fstat(file).map(|stat| Stamp::of(&stat)).map_err(|e| folder.error("look at", path, e))
        };
        if !stamp(&file)?.same_inode(&seen.stamp) {
            return Ok(false);
        }
        let known = self.engine.manifest.get(self.section, path).is_some_and(|item| item.entry.is_file());
        let entry = seen.entry.clone();
        let place = (self.section, path);
        let sent = Leaving::send(self.engine, place, entry, &file, seen.stamp.size, patch && known)?;
        Ok(sent == seen.stamp.size && stamp(&file)? == seen.stamp)
    }
}
