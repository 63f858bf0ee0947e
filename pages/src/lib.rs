//! The memory of running processes, seen from outside and without freezing them: which pages a checkpoint would write, what is
//! in them, and which of them are written as time goes by.
//!
//! Addresses are those of the process looked at; pages are [`PAGE_BYTES`] long. The caller knows which processes belong to a
//! container and passes their pids with each call: processes come and go between two calls, and that is no error.
//!
//! The pieces: [`dumpable`] finds the pages that a checkpoint would write, [`PageReader`] reads them; [`open`] gives the best
//! [`Tracker`] of dirty pages that works here; a [`Sampler`] measures a service with it within a budget and tells its
//! [`DirtyProfile`]. The tracker by write-protection needs the program `mose-write-protect` beside the one that is running: see
//! [`inject`] for what it does and why that is safe.
//!
//! Linux on x86_64, pages of 4 KiB. Elsewhere everything answers [`Error::Unsupported`].

mod dumpable;
mod error;
pub mod inject;
mod maps;
mod memory;
mod pagemap;
mod range;
mod rate;
mod read;
mod sampler;
mod tracker;
mod uffd;

pub use dumpable::{Dumpable, MemoryPages, dumpable};
pub use error::Error;
pub use maps::{Backing, Mapping, mappings};
pub use memory::by_memory;
pub use range::{PAGE_BYTES, PageRange, PageSet};
pub use rate::{DirtyProfile, PagesPerSec, RateWindow};
pub use read::{Chunk, PageReader, ReadReport};
pub use sampler::{Next, Sampler, SamplerConfig};
pub use tracker::{Cost, Dirty, Means, MemoryDirty, Opened, Preference, Tracker, open};
