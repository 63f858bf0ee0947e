//! Dirty pages of running processes, tick by tick: one trait, three means.

mod hashing;
mod open;
mod protection;
mod soft_dirty;

pub use open::{Opened, Preference, open};

use crate::{Error, PageSet};
use std::fmt;
use std::time::{Duration, Instant};

/// How dirty pages are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Means {
    /// Asynchronous write-protection set up from outside (userfaultfd, PAGEMAP_SCAN; kernel 6.7). Exact: no write is
    /// missed; a page is told twice only if its write is under way at the very moment of a tick. What the kernel or a device
    /// writes to pages that it holds (direct I/O under way at a tick, fixed buffers of io_uring) is not seen, nor is
    /// write(2) to a memfd.
    WriteProtection,
    /// The kernel's soft-dirty bits (`/proc/PID/clear_refs`, CONFIG_MEM_SOFT_DIRTY). A write in the moment between reading and
    /// clearing is lost, as are those of devices, and the bits are CRIU's too: not while CRIU tracks memory with pre-dumps.
    SoftDirty,
    /// Reading all pages and comparing 64-bit hashes. No trace in the service; costs reading all state at each tick. A page
    /// written with what it held does not count.
    Hashing,
}

impl Means {
    /// A short name, e.g. for telemetry.
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteProtection => "write-protection",
            Self::SoftDirty => "soft-dirty",
            Self::Hashing => "hashing",
        }
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The dirty pages of one memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryDirty {
    /// The process it was looked at through.
    pub pid: u32,
    /// How it was looked at: where a tracker's own means does not work for a process, that process is hashed.
    pub means: Means,
    /// Whether the tracker saw this memory for the first time: a process that is new, or has replaced its memory by exec. Then
    /// `pages` are all that a checkpoint would write.
    pub fresh: bool,
    /// The pages written since the tick before, as far as a checkpoint would write them. Pages that were given back to the kernel
    /// are not among them: see [`dumpable`](crate::dumpable) for what is left.
    pub pages: PageSet,
}

/// What one tick found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dirty {
    /// Each memory once, those without dirty pages included. Memory that several processes map shared is told at one of them.
    pub memories: Vec<MemoryDirty>,
    /// Time since the tick before, between the middles of the two looks; zero at the first one and after a pause.
    pub span: Duration,
}

impl Dirty {
    /// Unique pages written within the span, in the memories that were known before.
    pub fn pages(&self) -> u64 {
        self.memories.iter().filter(|memory| !memory.fresh).map(|memory| memory.pages.pages()).sum()
    }

    /// Pages of the memories that are new.
    pub fn fresh_pages(&self) -> u64 {
        self.memories.iter().filter(|memory| memory.fresh).map(|memory| memory.pages.pages()).sum()
    }
}

/// What tracking has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// Ticks made.
    pub ticks: u64,
    /// Time spent looking, in the tracker's own thread.
    pub looking: Duration,
    /// Time spent on taking new processes under watch.
    pub setting_up: Duration,
    /// Faults that the services took for it: one for the first write to a page after a tick.
    pub faults: u64,
    /// What one such fault costs the service, as measured on this machine.
    pub per_fault: Duration,
    /// Times that a thread of a service was stopped.
    pub stops: u64,
    /// How long in all, at most.
    pub stopped: Duration,
    /// The longest of these stops.
    pub longest_stop: Duration,
    /// Pages that were in huge pages when tracking began: writes under protection split those.
    pub huge_pages: u64,
}

impl Cost {
    /// All that it took from the services, and from the machine's processors.
    pub fn total(&self) -> Duration {
        self.looking + self.setting_up + self.stopped + self.per_fault.mul_f64(self.faults as f64)
    }
}

/// The middle of a look that began then and ends now.
fn middle(begun: Instant) -> Instant {
    begun + begun.elapsed() / 2
}

/// Tracks the dirty pages of a set of processes that may change from tick to tick.
pub trait Tracker: Send {
    /// How it does so.
    fn means(&self) -> Means;

    /// Finds the pages that these processes wrote since the tick before, and begins the next span. Memories seen for the first
    /// time are taken under watch, which takes some milliseconds for each, and up to 300 ms for one that does not stop (8 s if even
    /// the helper is stuck); those that are no longer among the processes are let go.
    ///
    /// # Errors
    /// What keeps it from looking at all. A process that ends meanwhile is no error, it is left out.
    fn tick(&mut self, pids: &[u32]) -> Result<Dirty, Error>;

    /// Stops costing the services anything until the next tick, whose dirty pages then say nothing about the time in between.
    fn pause(&mut self);

    /// What it has cost so far.
    fn cost(&self) -> Cost;

    /// The processes for which its means does not work, and why; they are hashed instead.
    fn refused(&self) -> Vec<(u32, String)> {
        Vec::new()
    }
}
