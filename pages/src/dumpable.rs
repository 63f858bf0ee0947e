//! Which pages a checkpoint writes: the state that a migration has to move.
//!
//! The rules are CRIU's (`should_dump_page` in criu/mem.c): of private mappings the pages that are the process's own, in memory
//! or in swap, save for the page of zeroes; of shared memory without a file whatever was ever written to it; nothing of a
//! file's own pages, of devices, of the kernel's pages. The few pages of CRIU's vDSO copy are left out.

use crate::maps::{Backing, Mapping, Task, look};
use crate::pagemap::{Pagemap, Query, is, is_note};
use crate::{Error, PAGE_BYTES, PageRange, PageSet, by_memory};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use tracing::debug;

/// The pages of one memory that a checkpoint would write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPages {
    /// The process they are found at.
    pub pid: u32,
    /// Other processes that use the same memory.
    pub sharers: Vec<u32>,
    /// The pages. Memory that several processes map shared is listed at the first of them only.
    pub pages: PageSet,
    /// How many of them lie in huge pages of the kernel's.
    pub huge: u64,
}

/// What a checkpoint of a set of processes would write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dumpable {
    /// Each memory once.
    pub memories: Vec<MemoryPages>,
}

impl Dumpable {
    /// Number of pages: the state size, in pages of [`PAGE_BYTES`].
    pub fn pages(&self) -> u64 {
        self.memories.iter().map(|memory| memory.pages.pages()).sum()
    }

    /// State size in bytes.
    pub fn bytes(&self) -> u64 {
        self.pages() * PAGE_BYTES
    }
}

/// Shared memory that was already counted, by what it is, as addresses in that memory.
pub(crate) type Counted = HashMap<(u64, u64), PageSet>;

/// Finds the pages that a checkpoint of these processes would write. Nothing is stopped: what changes meanwhile may or may not be
/// seen. Processes that end meanwhile are left out.
///
/// # Errors
/// [`Error::Denied`] or [`Error::Unsupported`] if they may not or cannot be looked at.
pub fn dumpable(pids: &[u32]) -> Result<Dumpable, Error> {
    let mut counted = Counted::new();
    let mut memories = Vec::new();
    for group in by_memory(pids)? {
        let Some((&pid, sharers)) = group.split_first() else { continue };
        let found = look(pid).and_then(|(task, mappings)| {
            let mut pagemap = Pagemap::open(task)?;
            of_mappings(task, &mappings, &mut pagemap, &mut counted)
        });
        match found {
            Ok((pages, huge)) => memories.push(MemoryPages { pid, sharers: sharers.to_vec(), pages, huge }),
            Err(Error::Gone { .. }) => debug!(pid, "ended while its pages were looked for"),
            Err(e) => return Err(e),
        }
    }
    Ok(Dumpable { memories })
}

/// The pages of one process's mappings that a checkpoint would write, and how many of them are in huge pages. Shared memory
/// that is in `counted` already is left out, and what is found is added to it.
pub(crate) fn of_mappings(
    task: Task,
    mappings: &[Mapping],
    pagemap: &mut Pagemap,
    counted: &mut Counted,
) -> Result<(PageSet, u64), Error> {
    let (mut pages, mut huge) = (PageSet::new(), 0);
    for mapping in mappings {
        match mapping.backing {
            Backing::Anonymous | Backing::PrivateFile => {
                huge += private(mapping.range, pagemap, &mut pages).map_err(|e| pagemap.error(e))?;
            }
            Backing::Shared { .. } => {
                let all: PageSet = [mapping.range].into_iter().collect();
                pages.add(&once(task, mapping, &all, pagemap, counted)?);
            }
            Backing::SharedFile | Backing::Special => {}
        }
    }
    Ok((pages, huge))
}

/// Of these pages of a mapping of shared memory, those that hold something and are not in `counted` yet, to which they are added.
pub(crate) fn once(
    task: Task,
    mapping: &Mapping,
    pages: &PageSet,
    pagemap: &mut Pagemap,
    counted: &mut Counted,
) -> Result<PageSet, Error> {
    let Backing::Shared { memory, offset } = mapping.backing else { return Ok(pages.clone()) };
    if pages.is_empty() {
        return Ok(PageSet::new());
    }
    let held = match shared(task, mapping.range, offset) {
        Some(held) => held,
        None => mapped(mapping.range, pagemap).map_err(|e| pagemap.error(e))?,
    };
    // In the memory's own addresses, so that every mapping of it means the same pages.
    let shift = |set: &PageSet, from: u64, to: u64| -> PageSet {
        let moved =
            |range: &PageRange| PageRange { start: range.start - from + to, end: range.end - from + to };
        set.into_iter().map(moved).collect()
    };
    let within = shift(&held.intersection(pages), mapping.range.start, offset);
    let before = counted.entry(memory).or_default();
    let new = within.difference(before);
    before.add(&new);
    Ok(shift(&new, offset, mapping.range.start))
}

/// What is looked for in private memory: pages of the process's own, wherever they are.
pub(crate) const OWN: Query = Query {
    all: 0,
    none: is::FILE | is::PFNZERO,
    any: is::PRESENT | is::SWAPPED,
    report: is::SWAPPED | is::HUGE,
    flags: 0,
};

fn private(range: PageRange, pagemap: &mut Pagemap, pages: &mut PageSet) -> std::io::Result<u64> {
    let (mut swapped, mut huge) = (Vec::new(), 0);
    pagemap.scan(range, &OWN, |found, categories| {
        if categories & is::SWAPPED != 0 {
            swapped.push(found);
        } else {
            huge += if categories & is::HUGE != 0 { found.pages() } else { 0 };
            pages.push(found);
        }
    })?;
    // Not everything that is told as swapped is a page: look closer, which is rarely needed.
    for range in swapped {
        pagemap.entries(range, |at, entry| {
            if !is_note(entry) {
                pages.push(PageRange { start: at, end: at + PAGE_BYTES });
            }
        })?;
    }
    Ok(huge)
}

/// The pages of a mapping of shared memory that this process has mapped: all that can be known without its file.
fn mapped(range: PageRange, pagemap: &mut Pagemap) -> std::io::Result<PageSet> {
    let mut pages = PageSet::new();
    let query = Query { any: is::PRESENT | is::SWAPPED, ..Query::default() };
    pagemap.scan(range, &query, |found, _| pages.push(found))?;
    Ok(pages)
}

/// The pages of a mapping of shared memory that hold something, whoever wrote them: the data extents of the file behind it
/// (lseek(2), SEEK_DATA). `None` if that file may not be opened.
fn shared(task: Task, range: PageRange, offset: u64) -> Option<PageSet> {
    let file = File::open(task.path(&format!("map_files/{:x}-{:x}", range.start, range.end))).ok()?;
    let seek = |from: u64, whence: libc::c_int| {
        // SAFETY: the descriptor is open; only its position changes.
        let at = unsafe { libc::lseek(file.as_raw_fd(), from.cast_signed(), whence) };
        u64::try_from(at).ok()
    };
    // A file system that keeps no holes answers the same as if all were data.
    seek(0, libc::SEEK_END)?;
    let (mut pages, mut at, end) = (PageSet::new(), offset, offset + range.bytes());
    while let Some(data) = seek(at, libc::SEEK_DATA).filter(|data| *data < end) {
        let hole = seek(data, libc::SEEK_HOLE).unwrap_or(end).min(end);
        let start = range.start + data.max(offset) - offset;
        pages.push(PageRange::covering(start, range.start + hole - offset));
        at = hole.max(data + PAGE_BYTES);
    }
    Some(pages)
}
