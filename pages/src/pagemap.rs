//! `/proc/PID/pagemap`: which pages of a process are where. With the `PAGEMAP_SCAN` request (kernel 6.7,
//! Documentation/admin-guide/mm/pagemap.rst), which looks at a range at once; without it by reading the file, 8 bytes a page.

use crate::maps::Task;
use crate::{Error, PAGE_BYTES, PageRange};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// What a page can be: the `PAGE_IS_*` of linux/fs.h.
pub(crate) mod is {
    #[cfg(test)]
    pub(crate) const WPALLOWED: u64 = 1 << 0;
    pub(crate) const WRITTEN: u64 = 1 << 1;
    pub(crate) const FILE: u64 = 1 << 2;
    pub(crate) const PRESENT: u64 = 1 << 3;
    pub(crate) const SWAPPED: u64 = 1 << 4;
    pub(crate) const PFNZERO: u64 = 1 << 5;
    pub(crate) const HUGE: u64 = 1 << 6;
    pub(crate) const SOFT_DIRTY: u64 = 1 << 7;
}

/// Write-protects the pages found: `PM_SCAN_WP_MATCHING`.
pub(crate) const PROTECT: u64 = 1 << 0;
/// Fails with `EPERM` where a mapping is not registered for asynchronous write-protection: `PM_SCAN_CHECK_WPASYNC`.
pub(crate) const CHECK_REGISTERED: u64 = 1 << 1;

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    inverted: u64,
    mask: u64,
    any_of: u64,
    report: u64,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// Which pages are looked for: those that have all of `all`, none of `none` and at least one of `any` (unless that is empty).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Query {
    pub(crate) all: u64,
    pub(crate) none: u64,
    pub(crate) any: u64,
    /// Which properties are told of each range found; fewer make longer ranges.
    pub(crate) report: u64,
    /// [`PROTECT`], [`CHECK_REGISTERED`].
    pub(crate) flags: u64,
}

impl Query {
    fn matches(&self, categories: u64) -> bool {
        categories & self.all == self.all
            && categories & self.none == 0
            && (self.any == 0 || categories & self.any != 0)
    }
}

/// Ranges that one request gives back at most.
const REGIONS: usize = 2048;
/// Entries read at once where there is no `PAGEMAP_SCAN`.
const ENTRIES: usize = 8192;

/// The open pagemap of one process's memory. It stays with that memory, also when the process replaces it by exec.
#[derive(Debug)]
pub(crate) struct Pagemap {
    file: File,
    pid: u32,
    scans: bool,
    zero: Option<u64>,
    regions: Vec<Region>,
    entries: Vec<u8>,
}

impl Pagemap {
    const WHAT: &str = "the page table (/proc/PID/pagemap)";

    pub(crate) fn open(task: Task) -> Result<Self, Error> {
        let file = File::open(task.path("pagemap")).map_err(|e| Error::from_io(Self::WHAT, task.pid, e))?;
        let mut pagemap =
            Self { file, pid: task.pid, scans: true, zero: None, regions: Vec::new(), entries: Vec::new() };
        // An empty range: nothing is looked at, but a kernel without the request says so.
        match pagemap.request(PageRange { start: 0, end: 0 }, &Query::default()) {
            Err(e) if e.raw_os_error() == Some(libc::ENOTTY) => pagemap.read_instead(),
            _ => {}
        }
        Ok(pagemap)
    }

    /// Whether the kernel has `PAGEMAP_SCAN`.
    pub(crate) fn scans(&self) -> bool {
        self.scans
    }

    /// Reads the file from now on.
    pub(crate) fn read_instead(&mut self) {
        self.scans = false;
        self.zero = zero_frame();
    }

    /// Calls `found` with each range of pages that `query` asks for, in order of address, with their properties.
    ///
    /// # Errors
    /// `EPERM` if asked to check and a mapping is not registered; whatever else the kernel says.
    pub(crate) fn scan(
        &mut self,
        range: PageRange,
        query: &Query,
        mut found: impl FnMut(PageRange, u64),
    ) -> io::Result<()> {
        if !self.scans {
            return self.read(range, query, found);
        }
        let mut start = range.start;
        while start < range.end {
            let (count, walked) = match self.request(PageRange { start, end: range.end }, query) {
                // The first kernels with the request did not know of soft-dirty bits in it.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) && query.all & is::SOFT_DIRTY != 0 => {
                    self.read_instead();
                    return self.read(PageRange { start, end: range.end }, query, found);
                }
                answer => answer?,
            };
            for region in &self.regions[..count] {
                found(PageRange { start: region.start, end: region.end }, region.categories);
            }
            if walked <= start {
                break;
            }
            start = walked;
        }
        Ok(())
    }

    fn request(&mut self, range: PageRange, query: &Query) -> io::Result<(usize, u64)> {
        self.regions.resize(REGIONS, Region::default());
        let mut argument = ScanArgument {
            size: size_of::<ScanArgument>() as u64,
            flags: query.flags,
            start: range.start,
            end: range.end,
            regions: self.regions.as_mut_ptr() as u64,
            regions_len: REGIONS as u64,
            inverted: query.none,
            mask: query.all | query.none,
            any_of: query.any,
            report: query.report,
            ..ScanArgument::default()
        };
        // SAFETY: the argument is the kernel's structure, with its size; it points to `REGIONS` writable regions, which
        // outlive the call.
        let count = unsafe { libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN, &raw mut argument) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok((count.min(REGIONS), argument.walk_end))
    }

    /// Calls `each` with the entry of every page of the range, in order of address.
    ///
    /// # Errors
    /// Whatever the kernel says; the end of the address space is no error.
    pub(crate) fn entries(&mut self, range: PageRange, mut each: impl FnMut(u64, u64)) -> io::Result<()> {
        let mut at = range.start;
        self.entries.resize(ENTRIES * 8, 0);
        while at < range.end {
            let pages = ((range.end - at) / PAGE_BYTES).min(ENTRIES as u64);
            let wanted = &mut self.entries[..pages as usize * 8];
            let got = self.file.read_at(wanted, at / PAGE_BYTES * 8)?;
            if got < 8 {
                return Ok(());
            }
            for entry in wanted[..got - got % 8].chunks_exact(8) {
                let entry = entry.try_into().map_or(0, u64::from_ne_bytes);
                each(at, entry);
                at += PAGE_BYTES;
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        range: PageRange,
        query: &Query,
        mut found: impl FnMut(PageRange, u64),
    ) -> io::Result<()> {
        let zero = self.zero;
        let mut run: Option<(PageRange, u64)> = None;
        self.entries(range, |at, entry| {
            let categories = categories(entry, zero);
            if !query.matches(categories) {
                return;
            }
            let told = categories & query.report;
            match &mut run {
                Some((run, same)) if run.end == at && *same == told => run.end = at + PAGE_BYTES,
                other => {
                    if let Some((run, told)) = other.take() {
                        found(run, told);
                    }
                    *other = Some((PageRange { start: at, end: at + PAGE_BYTES }, told));
                }
            }
        })?;
        if let Some((run, told)) = run {
            found(run, told);
        }
        Ok(())
    }

    /// The same as an error of this crate.
    pub(crate) fn error(&self, e: io::Error) -> Error {
        Error::from_io(Self::WHAT, self.pid, e)
    }
}

/// What an entry of the file says (pagemap.rst): bit 63 present, 62 swapped, 61 file or shared, 57 write-protected by a
/// userfaultfd, 55 soft-dirty, 0–54 the frame where that may be known.
fn categories(entry: u64, zero: Option<u64>) -> u64 {
    let bit = |at: u32, category: u64| if entry >> at & 1 == 1 { category } else { 0 };
    let found = bit(63, is::PRESENT) | bit(62, is::SWAPPED) | bit(61, is::FILE) | bit(55, is::SOFT_DIRTY);
    let frame = entry & ((1 << 55) - 1);
    let zeroes = found & is::PRESENT != 0 && zero == Some(frame);
    let written = found & (is::PRESENT | is::SWAPPED) != 0 && entry >> 57 & 1 == 0;
    found | if zeroes { is::PFNZERO } else { 0 } | if written { is::WRITTEN } else { 0 }
}

/// Whether an entry is a note of the kernel's in place of a page (a guard, a page protected before it existed): told as
/// swapped out, to the last of the kernel's 32 swap types, which is no swap device.
pub(crate) fn is_note(entry: u64) -> bool {
    entry >> 63 == 0 && entry >> 62 & 1 == 1 && entry & 31 == 31
}

/// The frame of the page of zeroes that every process shares; `None` where frames are hidden from us (no CAP_SYS_ADMIN).
fn zero_frame() -> Option<u64> {
    let bytes = PAGE_BYTES as usize;
    let (access, kind) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the mapping just made is readable; reading it brings the page of zeroes in.
    let read = unsafe { page.cast::<u8>().read_volatile() };
    let mut entry = [0; 8];
    let at = page as u64 / PAGE_BYTES * 8;
    let got = File::open("/proc/self/pagemap").and_then(|file| file.read_exact_at(&mut entry, at));
    // SAFETY: made above with this length, and nobody else knows of it.
    unsafe { libc::munmap(page, bytes) };
    let frame = u64::from_ne_bytes(entry) & ((1 << 55) - 1);
    (read == 0 && got.is_ok() && frame != 0).then_some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_has_the_size_in_the_request() {
        assert_eq!(size_of::<ScanArgument>() as u64, PAGEMAP_SCAN >> 16 & 0x3fff);
        assert_eq!(size_of::<Region>(), 24);
    }

    #[test]
    fn entries_are_read_as_the_documentation_says() {
        assert_eq!(categories(0, Some(7)), 0);
        assert_eq!(categories(1 << 63 | 7, Some(7)), is::PRESENT | is::PFNZERO | is::WRITTEN);
        assert_eq!(categories(1 << 63 | 1 << 57, None), is::PRESENT);
        assert_eq!(categories(1 << 63 | 1 << 61, None), is::PRESENT | is::FILE | is::WRITTEN);
        assert_eq!(categories(1 << 62 | 1 << 55, None), is::SWAPPED | is::SOFT_DIRTY | is::WRITTEN);
        assert!(is_note(1 << 62 | 31) && !is_note(1 << 62 | 3) && !is_note(1 << 63 | 31) && !is_note(31));
    }

    #[test]
    fn reading_the_file_finds_what_the_scan_finds() {
        let (task, mappings) = crate::maps::look(std::process::id()).unwrap();
        // Memory of our own that nothing changes between the two looks: written, read, untouched.
        let bytes = 64 * PAGE_BYTES as usize;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping of our own, which stays.
        let first = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        assert_ne!(first, libc::MAP_FAILED);
        let inner = PageRange::covering(first as u64, first as u64 + bytes as u64);
        for at in [9, 10, 11, 40] {
            // SAFETY: within the mapping.
            unsafe { first.cast::<u8>().add(at * PAGE_BYTES as usize).write_volatile(1) };
        }
        // SAFETY: within the mapping.
        assert_eq!(unsafe { first.cast::<u8>().add(20 * PAGE_BYTES as usize).read_volatile() }, 0);
        let text = mappings.iter().find(|m| m.executable && m.name.starts_with('/')).unwrap().range;
        let query = Query {
            none: is::PFNZERO,
            any: is::PRESENT | is::SWAPPED,
            report: is::FILE | is::SWAPPED,
            ..Query::default()
        };
        let mut pagemap = Pagemap::open(task).unwrap();
        let look = |pagemap: &mut Pagemap| {
            let mut found = Vec::new();
            pagemap.scan(inner, &query, |range, categories| found.push((range, categories))).unwrap();
            let mut code = 0;
            pagemap
                .scan(text, &query, |range, categories| {
                    code += if categories & is::FILE != 0 { range.pages() } else { 0 };
                })
                .unwrap();
            (found, code > 0)
        };
        let scanned = pagemap.scans().then(|| look(&mut pagemap));
        pagemap.read_instead();
        let read = look(&mut pagemap);
        assert_eq!(read.0.iter().map(|(range, _)| range.pages()).sum::<u64>(), 4, "{read:?}");
        assert!(read.1);
        assert!(scanned.is_none_or(|scanned| scanned == read));
    }

    #[test]
    fn a_query_wants_all_of_one_none_of_another_and_any_of_a_third() {
        let query =
            Query { all: is::WRITTEN, none: is::FILE, any: is::PRESENT | is::SWAPPED, ..Query::default() };
        assert!(query.matches(is::WRITTEN | is::PRESENT));
        assert!(!query.matches(is::WRITTEN));
        assert!(!query.matches(is::PRESENT));
        assert!(!query.matches(is::WRITTEN | is::PRESENT | is::FILE));
        assert!(Query::default().matches(0));
        assert_eq!(is::WPALLOWED, 1);
    }
}
