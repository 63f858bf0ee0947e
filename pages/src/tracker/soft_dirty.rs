//! Dirty pages by the kernel's soft-dirty bits (Documentation/admin-guide/mm/soft-dirty.rst).

use super::hashing::began;
use super::{Cost, Dirty, Means, MemoryDirty, Tracker, middle};
use crate::dumpable::own;
use crate::maps::{Backing, look};
use crate::pagemap::{Pagemap, Query, is};
use crate::{Error, PAGE_BYTES, PageSet, by_memory};
use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

/// What a fault costs where it has not been measured: taking off the protection of a page, as for write-protection.
const FAULT: Duration = Duration::from_nanos(1200);

/// Whether the kernel has soft-dirty bits: a page that was never looked at is dirty, where it has.
pub(super) fn probe() -> Result<(), String> {
    let bytes = PAGE_BYTES as usize;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(format!("a page to try it on: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: the mapping just made.
    unsafe { page.cast::<u8>().write_volatile(1) };
    let range = crate::PageRange::covering(page as u64, page as u64 + PAGE_BYTES);
    let found = look(std::process::id()).and_then(|(task, _)| {
        let (mut pagemap, mut dirty) = (Pagemap::open(task)?, false);
        pagemap.entries(range, |_, entry| dirty = is_soft_dirty(entry)).map_err(|e| pagemap.error(e))?;
        Ok(dirty)
    });
    // SAFETY: made above with this length, and nobody else knows of it.
    unsafe { libc::munmap(page, bytes) };
    match found {
        Ok(true) => Ok(()),
        Ok(false) => Err("the kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// Bit 55 of a pagemap entry.
fn is_soft_dirty(entry: u64) -> bool {
    entry >> 55 & 1 == 1
}

/// Tracks by soft-dirty bits.
#[derive(Debug)]
pub(super) struct SoftDirty {
    known: HashSet<(u32, u64)>,
    last: Option<Instant>,
    cost: Cost,
}

impl SoftDirty {
    pub(super) fn new() -> Self {
        let cost = Cost { per_fault: FAULT, ..Cost::default() };
        Self { known: HashSet::new(), last: None, cost }
    }
}

fn dirty(pid: u32, fresh: bool) -> Result<PageSet, Error> {
    let (task, mappings) = look(pid)?;
    let mut pagemap = Pagemap::open(task)?;
    let mut pages = PageSet::new();
    for mapping in mappings.iter().filter(|mapping| mapping.is_dumped()) {
        let all = if fresh { 0 } else { is::SOFT_DIRTY };
        let query = match mapping.backing {
            Backing::Shared { .. } => Query { all, any: is::PRESENT | is::SWAPPED, ..Query::default() },
            backing => Query { all, report: 0, ..own(backing) },
        };
        pagemap.scan(mapping.range, &query, |found, _| pages.push(found)).map_err(|e| pagemap.error(e))?;
    }
    // `4` clears the soft-dirty bits of the process (proc_pid_clear_refs(5)).
    fs::write(task.path("clear_refs"), "4\n")
        .map_err(|e| Error::from_io("clearing soft-dirty bits", pid, e))?;
    Ok(pages)
}

impl Tracker for SoftDirty {
    fn means(&self) -> Means {
        Means::SoftDirty
    }

    fn tick(&mut self, pids: &[u32]) -> Result<Dirty, Error> {
        let begun = Instant::now();
        let before = std::mem::take(&mut self.known);
        let mut memories = Vec::new();
        for group in by_memory(pids)? {
            let Some((pid, began)) = group.iter().find_map(|pid| Some((*pid, began(*pid)?))) else {
                continue;
            };
            let fresh = !before.contains(&(pid, began));
            match dirty(pid, fresh) {
                Ok(pages) => {
                    self.cost.faults += if fresh { 0 } else { pages.pages() };
                    self.known.insert((pid, began));
                    memories.push(MemoryDirty { pid, means: Means::SoftDirty, fresh, pages });
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
        // The kernel offers no way back: each page costs one more fault, and then nothing.
        self.last = None;
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_says_what_the_kernels_configuration_says() {
        let probed = probe();
        // Not every kernel shows its configuration, and it is packed; `pm_soft_dirty` in smaps is shown with the bits only.
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let flagged =
            smaps.lines().any(|l| l.starts_with("VmFlags:") && l.split(' ').any(|flag| flag == "sd"));
        assert_eq!(probed.is_ok(), flagged, "{probed:?}");
    }

    #[test]
    fn the_bit_is_the_fifty_fifth() {
        assert!(is_soft_dirty(1 << 63 | 1 << 55) && !is_soft_dirty(!(1 << 55)));
    }
}
