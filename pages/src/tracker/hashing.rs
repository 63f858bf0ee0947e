//! Dirty pages by their contents: read everything, hash each page, compare.

use super::{Cost, Dirty, Means, MemoryDirty, Tracker, middle};
use crate::dumpable::{Counted, of_mappings};
use crate::maps::{Task, look};
use crate::pagemap::Pagemap;
use crate::read::ReadReport;
use crate::{Error, PAGE_BYTES, PageRange, PageReader, PageSet, by_memory};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Hashes of one memory's pages, in order of address.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    pages: Vec<(u64, u64)>,
    spare: Vec<(u64, u64)>,
}

impl Hashes {
    /// Reads the pages and gives those whose contents are not what they were at the look before, or that were not there.
    pub(super) fn compare(
        &mut self,
        reader: &mut PageReader,
        seed: u64,
        task: Task,
        pages: &PageSet,
    ) -> Result<PageSet, Error> {
        let (mut changed, mut at) = (PageSet::new(), 0);
        let (before, now) = (&self.pages, &mut self.spare);
        now.clear();
        let mut report = ReadReport::default();
        reader.read_task(task, pages, &mut report, &mut |chunk| {
            for (address, page) in chunk.pages() {
                let hash = xxh3_64_with_seed(page, seed);
                while before.get(at).is_some_and(|(known, _)| *known < address) {
                    at += 1;
                }
                if before.get(at) != Some(&(address, hash)) {
                    changed.push(PageRange { start: address, end: address + PAGE_BYTES });
                }
                now.push((address, hash));
            }
        })?;
        if report.gone {
            return Err(Error::Gone { pid: task.pid });
        }
        std::mem::swap(&mut self.pages, &mut self.spare);
        Ok(changed)
    }
}

/// A number that nobody can guess, so that nobody can make two pages that hash the same.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Which process this is: its pid, and when it began (proc_pid_stat(5), field 22).
pub(super) fn began(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text[text.rfind(')')? + 1..].split_whitespace().nth(19)?.parse().ok()
}

/// Tracks by hashing.
#[derive(Debug)]
pub(super) struct Hashing {
    known: HashMap<(u32, u64), Hashes>,
    reader: PageReader,
    seed: u64,
    last: Option<Instant>,
    cost: Cost,
}

impl Hashing {
    pub(super) fn new() -> Self {
        Self {
            known: HashMap::new(),
            reader: PageReader::new(),
            seed: seed(),
            last: None,
            cost: Cost::default(),
        }
    }
}

impl Tracker for Hashing {
    fn means(&self) -> Means {
        Means::Hashing
    }

    fn tick(&mut self, pids: &[u32]) -> Result<Dirty, Error> {
        let begun = Instant::now();
        let mut before = std::mem::take(&mut self.known);
        let (mut counted, mut memories) = (Counted::new(), Vec::new());
        for group in by_memory(pids)? {
            let Some((pid, began)) = group.iter().find_map(|pid| Some((*pid, began(*pid)?))) else {
                continue;
            };
            let old = before.remove(&(pid, began));
            let fresh = old.is_none();
            let mut hashes = old.unwrap_or_default();
            let compared = look(pid).and_then(|(task, mappings)| {
                let mut pagemap = Pagemap::open(task)?;
                let (pages, _) = of_mappings(task, &mappings, &mut pagemap, &mut counted)?;
                hashes.compare(&mut self.reader, self.seed, task, &pages)
            });
            match compared {
                Ok(pages) => {
                    self.known.insert((pid, began), hashes);
                    memories.push(MemoryDirty { pid, means: Means::Hashing, fresh, pages });
                }
                Err(Error::Gone { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        let looked = middle(begun);
        let span = self.last.replace(looked).map_or(Duration::ZERO, |last| looked - last);
        self.cost.ticks += 1;
        self.cost.looking += begun.elapsed();
        Ok(Dirty { memories, span })
    }

    fn pause(&mut self) {
        // Between two ticks it costs nothing as it is; but what is written now is not to be told.
        self.last = None;
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}
