//! Dirty pages by asynchronous write-protection: a userfaultfd of each memory (see [`crate::inject`]), and PAGEMAP_SCAN, which
//! tells the written pages and protects them anew in one step under the page table's lock, so that no write is missed.

use super::hashing::{Hashes, began, seed};
use super::{Cost, Dirty, Means, MemoryDirty, Tracker, middle};
use crate::dumpable::{Counted, of_mappings, once, own};
use crate::inject::{Helper, Refusal};
use crate::maps::{Backing, Mapping, Task, look};
use crate::pagemap::{CHECK_REGISTERED, PROTECT, Pagemap, Query, is, is_note};
use crate::uffd::Userfault;
use crate::{Error, PAGE_BYTES, PageRange, PageReader, PageSet, by_memory};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Descriptors taken at one tick at most: a service that starts processes by the dozen is not followed at any price.
const TAKES: u32 = 16;
/// When a process that was refused for now is tried again: after this long, then twice as long, up to the second.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// A memory under watch.
#[derive(Debug)]
struct Watched {
    userfault: Userfault,
    registered: PageSet,
    /// Of pages that cannot be watched, or need not be: see [`Watched::scan`].
    others: Hashes,
    /// When it was looked at, unless there was a pause since.
    looked: Option<Instant>,
}

/// A memory that is hashed for want of something better.
#[derive(Debug, Default)]
struct Hashed {
    hashes: Hashes,
    why: String,
    looked: Option<Instant>,
    again: Option<(Instant, Duration)>,
}

#[derive(Debug)]
enum Hold {
    Watched(Watched),
    Hashed(Hashed),
}

/// Why a watch gave nothing.
enum Lost {
    /// The process has another memory now.
    Replaced,
    Failed(Error),
}

impl From<Error> for Lost {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

/// Tracks by write-protection.
#[derive(Debug)]
pub(super) struct Protection {
    helper: Helper,
    known: HashMap<(u32, u64), Hold>,
    reader: PageReader,
    seed: u64,
    cost: Cost,
}

impl Protection {
    pub(super) fn new(helper: Helper, per_fault: Duration) -> Self {
        Self {
            helper,
            known: HashMap::new(),
            reader: PageReader::new(),
            seed: seed(),
            cost: Cost { per_fault, ..Cost::default() },
        }
    }

    /// Takes the userfaultfd of a process, which stops it for a moment.
    fn take(&mut self, pid: u32) -> Result<Watched, Refusal> {
        let taken = self.helper.take(pid)?;
        self.cost.stops += 1;
        self.cost.stopped += taken.stopped;
        self.cost.longest_stop = self.cost.longest_stop.max(taken.stopped);
        let userfault = Userfault::new(taken.descriptor)
            .map_err(|e| Refusal::Never(format!("asynchronous write-protection: {e}")))?;
        Ok(Watched { userfault, registered: PageSet::new(), others: Hashes::default(), looked: None })
    }

    /// One memory's turn: how it is held from now on, its dirty pages, and since when.
    fn turn(
        &mut self,
        pid: u32,
        hold: Option<Hold>,
        counted: &mut Counted,
        takes: &mut u32,
    ) -> Result<(Hold, MemoryDirty, Option<Duration>), Error> {
        let begun = Instant::now();
        let since = |looked: &mut Option<Instant>, begun: Instant| {
            let now = middle(begun);
            looked.replace(now).map(|last| now - last)
        };
        let mut hashed = match hold {
            Some(Hold::Watched(mut watched)) => match self.watched(pid, &mut watched, counted) {
                Ok(pages) => {
                    let span = since(&mut watched.looked, begun);
                    // After a pause nothing was protected.
                    self.cost.faults += span.map_or(0, |_| pages.pages());
                    let dirty = MemoryDirty { pid, means: Means::WriteProtection, fresh: false, pages };
                    return Ok((Hold::Watched(watched), dirty, span));
                }
                Err(Lost::Failed(e)) => return Err(e),
                Err(Lost::Replaced) => None,
            },
            Some(Hold::Hashed(hashed)) => Some(hashed),
            None => None,
        };
        let now = Instant::now();
        let due = hashed.as_ref().is_none_or(|hashed| hashed.again.is_some_and(|(at, _)| at <= now));
        let mut refusal = Refusal::Later("too many processes began at once".to_owned());
        if due && *takes > 0 {
            *takes -= 1;
            let taken = self.take(pid);
            self.cost.setting_up += now.elapsed();
            let begun = Instant::now();
            match taken {
                Ok(mut watched) => match self.begin(pid, &mut watched, hashed.as_mut(), counted) {
                    Ok((fresh, pages)) => {
                        watched.looked = hashed.and_then(|hashed| hashed.looked);
                        let span = since(&mut watched.looked, begun);
                        let dirty = MemoryDirty { pid, means: Means::WriteProtection, fresh, pages };
                        return Ok((Hold::Watched(watched), dirty, span));
                    }
                    Err(Lost::Failed(e)) => return Err(e),
                    Err(Lost::Replaced) => {
                        refusal = Refusal::Later("it was just replaced by exec".to_owned())
                    }
                },
                Err(Refusal::Gone) => return Err(Error::Gone { pid }),
                Err(other) => refusal = other,
            }
        }
        let fresh = hashed.is_none();
        let mut hashed = hashed.unwrap_or_default();
        if due {
            let wait = hashed.again.map_or(RETRY, |(_, wait)| (wait * 2).min(RETRY_MOST));
            hashed.again = matches!(refusal, Refusal::Later(_)).then_some((now + wait, wait));
            hashed.why = refusal.to_string();
            debug!(pid, why = hashed.why, "hashed instead of write-protected");
        }
        let begun = Instant::now();
        let (task, mappings) = look(pid)?;
        let (pages, _) = of_mappings(task, &mappings, &mut Pagemap::open(task)?, counted)?;
        let pages = hashed.hashes.compare(&mut self.reader, self.seed, task, &pages)?;
        let span = since(&mut hashed.looked, begun);
        Ok((Hold::Hashed(hashed), MemoryDirty { pid, means: Means::Hashing, fresh, pages }, span))
    }

    fn watched(&mut self, pid: u32, watched: &mut Watched, counted: &mut Counted) -> Result<PageSet, Lost> {
        if watched.userfault.is_orphan() {
            return Err(Lost::Replaced);
        }
        let (task, mappings) = look(pid)?;
        let mut pagemap = Pagemap::open(task)?;
        let (mut pages, others) = watched.scan(task, &mappings, &mut pagemap, counted)?;
        if !others.is_empty() {
            pages.add(&watched.others.compare(&mut self.reader, self.seed, task, &others)?);
        }
        Ok(pages)
    }

    /// The first look through a new watch: everything is protected, then the state of the memory is taken, so that what is written
    /// in between is told now, or at the next tick, or both.
    fn begin(
        &mut self,
        pid: u32,
        watched: &mut Watched,
        hashed: Option<&mut Hashed>,
        counted: &mut Counted,
    ) -> Result<(bool, PageSet), Lost> {
        let (task, mappings) = look(pid)?;
        let mut pagemap = Pagemap::open(task)?;
        let (_, others) = watched.scan(task, &mappings, &mut pagemap, &mut Counted::new())?;
        watched.others.compare(&mut self.reader, self.seed, task, &others)?;
        let (pages, huge) = of_mappings(task, &mappings, &mut pagemap, counted)?;
        self.cost.huge_pages += huge;
        match hashed {
            Some(hashed) => Ok((false, hashed.hashes.compare(&mut self.reader, self.seed, task, &pages)?)),
            None => Ok((true, pages)),
        }
    }
}

/// What is looked for in a mapping: the pages that were written since they were last protected.
fn written(backing: Backing) -> Query {
    let flags = PROTECT | CHECK_REGISTERED;
    match backing {
        // Also pages that the process has not mapped at present: they may have been written and put away since.
        Backing::Shared { .. } => Query { all: is::WRITTEN, report: is::WRITTEN, flags, ..Query::default() },
        _ => Query { all: is::WRITTEN, report: is::SWAPPED, flags, ..own(backing) },
    }
}

impl Watched {
    /// Tells the pages that were written since the last scan, and protects them; new mappings are registered, and all that is in
    /// them counts as written.
    ///
    /// The second set are pages to be told by their hashes: those of mappings that another userfaultfd has, and what a
    /// process changed in a file's mapping before it made that read-only (relocated tables: few, and registering the mapping would
    /// slow down the loading of code).
    fn scan(
        &mut self,
        task: Task,
        mappings: &[Mapping],
        pagemap: &mut Pagemap,
        counted: &mut Counted,
    ) -> Result<(PageSet, PageSet), Lost> {
        let (mut written, mut others, mut registered) = (PageSet::new(), Vec::new(), PageSet::new());
        for mapping in mappings {
            let range = mapping.range;
            let known = self.registered.contains(range.start);
            let watched = match mapping.backing {
                Backing::Anonymous => true,
                Backing::PrivateFile | Backing::Shared { .. } => mapping.writable || known,
                Backing::SharedFile | Backing::Special => continue,
            };
            if watched && self.scan_mapping(task, mapping, pagemap, counted, &mut written)? {
                registered.push(range);
            } else {
                others.push(mapping.clone());
            }
        }
        if registered.is_empty() {
            // Not one can be: it is another memory than the userfaultfd's.
            return Err(Lost::Replaced);
        }
        self.registered = registered;
        // Read-only views of shared memory are told where it can be written.
        others.retain(|mapping| mapping.writable || !matches!(mapping.backing, Backing::Shared { .. }));
        let (others, _) = of_mappings(task, &others, pagemap, counted)?;
        Ok((written, others))
    }

    /// One mapping; false if it cannot be watched.
    fn scan_mapping(
        &self,
        task: Task,
        mapping: &Mapping,
        pagemap: &mut Pagemap,
        counted: &mut Counted,
        written: &mut PageSet,
    ) -> Result<bool, Lost> {
        let shared = matches!(mapping.backing, Backing::Shared { .. });
        let query = self::written(mapping.backing);
        let mut found = PageSet::new();
        let mut swapped = Vec::new();
        let scan = |pagemap: &mut Pagemap, found: &mut PageSet, swapped: &mut Vec<PageRange>| {
            pagemap.scan(mapping.range, &query, |range, categories| {
                if categories & is::SWAPPED != 0 { swapped.push(range) } else { found.push(range) }
            })
        };
        if let Err(e) = scan(pagemap, &mut found, &mut swapped) {
            if e.raw_os_error() != Some(libc::EPERM) {
                return Err(pagemap.error(e).into());
            }
            // Not under watch: new, or moved, or of another memory altogether.
            match self.userfault.register(mapping.range) {
                Ok(()) => {}
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Err(Lost::Replaced),
                // Another userfaultfd's, or of a kind that is not watched, or gone since it was listed.
                Err(_) => return Ok(false),
            }
            match scan(pagemap, &mut found, &mut swapped) {
                Ok(()) => {}
                Err(e) if e.raw_os_error() == Some(libc::EPERM) && still_mapped(task, mapping)? => {
                    return Err(Lost::Replaced);
                }
                Err(e) if e.raw_os_error() == Some(libc::EPERM) => return Ok(false),
                Err(e) => return Err(pagemap.error(e).into()),
            }
        }
        for range in swapped {
            let each = |at, entry| {
                if !is_note(entry) {
                    found.push(PageRange { start: at, end: at + PAGE_BYTES });
                }
            };
            pagemap.entries(range, each).map_err(|e| Lost::Failed(pagemap.error(e)))?;
        }
        if shared {
            found = once(task, mapping, &found, pagemap, counted)?;
        }
        written.add(&found);
        Ok(true)
    }

    /// Takes all protection off.
    fn unprotect(&self, pid: u32) {
        let Ok((_, mappings)) = look(pid) else { return };
        for mapping in mappings.iter().filter(|mapping| self.registered.contains(mapping.range.start)) {
            if let Err(e) = self.userfault.unprotect(mapping.range) {
                debug!(pid, "unprotecting {:x}: {e}", mapping.range.start);
            }
        }
    }

    /// Lets the memory go, as it was. Closing the descriptor would do, were it the last one: a process that the service forked just
    /// when it was made may hold another.
    fn release(self, pid: u32) {
        let Ok((_, mappings)) = look(pid) else { return };
        for mapping in mappings.iter().filter(|mapping| self.registered.contains(mapping.range.start)) {
            if let Err(e) = self.userfault.unregister(mapping.range) {
                debug!(pid, "letting {:x} go: {e}", mapping.range.start);
            }
        }
    }
}

/// Whether the process has this very mapping still.
fn still_mapped(task: Task, mapping: &Mapping) -> Result<bool, Error> {
    Ok(look(task.pid)?.1.iter().any(|now| now.range == mapping.range && now.backing == mapping.backing))
}

impl Tracker for Protection {
    fn means(&self) -> Means {
        Means::WriteProtection
    }

    fn tick(&mut self, pids: &[u32]) -> Result<Dirty, Error> {
        let begun = Instant::now();
        let setting_up = self.cost.setting_up;
        // Memories are looked at one after the other: each has a span of its own, and the whole one that gives the same rate.
        let (mut pages, mut rate, mut longest) = (0.0, 0.0, Duration::ZERO);
        let mut before = std::mem::take(&mut self.known);
        let (mut counted, mut takes, mut memories) = (Counted::new(), TAKES, Vec::new());
        let mut failed = None;
        for group in by_memory(pids)? {
            // Of several processes with one memory, the one that it is known by.
            let keys: Vec<_> = group.iter().filter_map(|pid| Some((*pid, began(*pid)?))).collect();
            let Some(key) = keys.iter().find(|key| before.contains_key(key)).or(keys.first()).copied() else {
                continue;
            };
            let hold = before.remove(&key);
            match self.turn(key.0, hold, &mut counted, &mut takes) {
                Ok((hold, dirty, span)) => {
                    self.known.insert(key, hold);
                    if let Some(span) = span.filter(|_| !dirty.fresh) {
                        longest = longest.max(span);
                        pages += dirty.pages.pages() as f64;
                        rate += dirty.pages.pages() as f64 / span.as_secs_f64().max(1e-9);
                    }
                    memories.push(dirty);
                }
                Err(Error::Gone { .. }) => {}
                Err(e) => {
                    warn!(pid = key.0, "its dirty pages cannot be told: {e}");
                    failed = Some(e);
                }
            }
        }
        for ((pid, _), hold) in before {
            if let Hold::Watched(watched) = hold {
                watched.release(pid);
            }
        }
        self.cost.ticks += 1;
        self.cost.looking += begun.elapsed().saturating_sub(self.cost.setting_up - setting_up);
        let span = if pages > 0.0 { Duration::from_secs_f64(pages / rate) } else { longest };
        match failed {
            Some(e) if memories.is_empty() => Err(e),
            _ => Ok(Dirty { memories, span }),
        }
    }

    fn pause(&mut self) {
        let begun = Instant::now();
        for ((pid, _), hold) in &mut self.known {
            match hold {
                Hold::Watched(watched) => {
                    if watched.looked.take().is_some() {
                        watched.unprotect(*pid);
                    }
                }
                Hold::Hashed(hashed) => hashed.looked = None,
            }
        }
        self.cost.looking += begun.elapsed();
    }

    fn cost(&self) -> Cost {
        self.cost
    }

    fn refused(&self) -> Vec<(u32, String)> {
        let refused = self.known.iter().filter_map(|((pid, _), hold)| match hold {
            Hold::Hashed(hashed) => Some((*pid, hashed.why.clone())),
            Hold::Watched(_) => None,
        });
        let mut refused: Vec<_> = refused.collect();
        refused.sort_unstable();
        refused
    }
}

impl Drop for Protection {
    fn drop(&mut self) {
        for ((pid, _), hold) in self.known.drain() {
            if let Hold::Watched(watched) = hold {
                watched.release(pid);
            }
        }
    }
}
