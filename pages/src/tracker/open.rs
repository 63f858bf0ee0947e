//! Which means a machine offers, best first, and what keeps the others from working.

use super::hashing::Hashing;
use super::protection::Protection;
use super::soft_dirty::{self, SoftDirty};
use super::{Means, Tracker};
use crate::inject::Helper;
use crate::maps::look;
use crate::pagemap::{CHECK_REGISTERED, PROTECT, Pagemap, Query, is};
use crate::uffd::Userfault;
use crate::{Error, PAGE_BYTES, PageRange};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Pages that are written to measure a fault.
const PAGES: usize = 512;
const ROUNDS: usize = 5;

/// What is wanted of a tracker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preference {
    /// This means or none; by default the best that works.
    pub only: Option<Means>,
    /// Where `mose-write-protect` is; by default beside the program that is running.
    pub helper: Option<PathBuf>,
}

/// A tracker, and why it is not a better one.
pub struct Opened {
    /// The tracker.
    pub tracker: Box<dyn Tracker>,
    /// The means that were tried before and do not work here, each with the reason.
    pub rejected: Vec<(Means, String)>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("means", &self.tracker.means())
            .field("rejected", &self.rejected)
            .finish()
    }
}

/// Opens the best tracker that works here: write-protection, which is exact; else soft-dirty bits; else hashing.
///
/// Whether write-protection works for a certain process shows at the first tick; one for which it does not is hashed, and
/// [`Tracker::refused`] says why.
///
/// # Errors
/// [`Error::Unsupported`] if none of those wanted works, with the reasons.
pub fn open(preference: &Preference) -> Result<Opened, Error> {
    look(std::process::id())?;
    let mut rejected = Vec::new();
    for means in [Means::WriteProtection, Means::SoftDirty, Means::Hashing] {
        if preference.only.is_some_and(|only| only != means) {
            continue;
        }
        let tracker: Result<Box<dyn Tracker>, String> = match means {
            Means::WriteProtection => protection(preference),
            Means::SoftDirty => soft_dirty::probe().map(|()| Box::new(SoftDirty::new()) as _),
            Means::Hashing => Ok(Box::new(Hashing::new())),
        };
        match tracker {
            Ok(tracker) => return Ok(Opened { tracker, rejected }),
            Err(why) => rejected.push((means, why)),
        }
    }
    let reasons: Vec<_> = rejected.iter().map(|(means, why)| format!("{means}: {why}")).collect();
    Err(Error::Unsupported { what: "tracking dirty pages", why: reasons.join("; ") })
}

fn protection(preference: &Preference) -> Result<Box<dyn Tracker>, String> {
    if !cfg!(target_arch = "x86_64") {
        return Err(format!("it is made for x86_64, and this is {}", std::env::consts::ARCH));
    }
    let helper = Helper::find(preference.helper.as_deref())?;
    let cost = fault_cost().map_err(|e| format!("asynchronous write-protection (kernel 6.7): {e}"))?;
    Ok(Box::new(Protection::new(helper, cost)))
}

/// Memory of our own to try things on.
struct Ground {
    at: *mut u8,
}

impl Ground {
    const BYTES: usize = PAGES * PAGE_BYTES as usize;

    fn new() -> std::io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping at an address of the kernel's choice; the advice changes no contents.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), Self::BYTES, access, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the mapping just made.
        unsafe { libc::madvise(at, Self::BYTES, libc::MADV_NOHUGEPAGE) };
        Ok(Self { at: at.cast() })
    }

    fn range(&self) -> PageRange {
        PageRange { start: self.at as u64, end: self.at as u64 + Self::BYTES as u64 }
    }

    /// Writes to each page; how long that took.
    fn write(&self) -> Duration {
        let begun = Instant::now();
        for page in 0..PAGES {
            // SAFETY: within the mapping.
            unsafe { self.at.add(page * PAGE_BYTES as usize).write_volatile(1) };
        }
        begun.elapsed()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // SAFETY: made in `new` with this length.
        unsafe { libc::munmap(self.at.cast(), Self::BYTES) };
    }
}

/// Write-protects memory of our own the way a service's would be: what a write to a protected page costs more than another. An
/// error if it does not work here.
pub(crate) fn fault_cost() -> std::io::Result<Duration> {
    let ground = Ground::new()?;
    ground.write();
    let userfault = Userfault::own()?;
    userfault.register(ground.range())?;
    let (task, _) = look(std::process::id()).map_err(std::io::Error::other)?;
    let mut pagemap = Pagemap::open(task).map_err(std::io::Error::other)?;
    if !pagemap.scans() {
        return Err(std::io::Error::other("the kernel has no PAGEMAP_SCAN"));
    }
    let query = Query {
        all: is::WRITTEN,
        report: is::WRITTEN,
        flags: PROTECT | CHECK_REGISTERED,
        ..Query::default()
    };
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let mut written = 0;
        pagemap.scan(ground.range(), &query, |range, _| written += range.pages())?;
        if written != PAGES as u64 {
            return Err(std::io::Error::other(format!(
                "{PAGES} pages were written, and {written} were told"
            )));
        }
        let (faulting, plain) = (ground.write(), ground.write());
        costs.push(faulting.saturating_sub(plain) / PAGES as u32);
    }
    costs.sort_unstable();
    Ok(costs[ROUNDS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_means_that_does_not_work_is_named_with_its_reason() {
        let preference =
            Preference { only: Some(Means::WriteProtection), helper: Some("/nowhere/helper".into()) };
        let error = open(&preference).unwrap_err().to_string();
        assert!(error.contains("write-protection: /nowhere/helper is not there"), "{error}");
        let opened = open(&Preference { only: None, ..preference }).unwrap();
        assert_eq!(opened.rejected[0].0, Means::WriteProtection);
        assert_ne!(opened.tracker.means(), Means::WriteProtection);
    }

    #[test]
    fn a_write_to_a_protected_page_costs_something_or_the_kernel_is_too_old() {
        match fault_cost() {
            Ok(cost) => assert!(cost > Duration::ZERO && cost < Duration::from_millis(1), "{cost:?}"),
            Err(e) => assert!(open(&Preference::default()).is_ok(), "{e}"),
        }
    }
}
