//! The memory of running processes, seen from outside and without freezing them: which pages a checkpoint would write, what is
//! in them, and which of them are written as time goes by.
//!
//! Addresses are those of the process looked at; pages are [`PAGE_BYTES`] long. The caller knows which processes belong to a
//! container and passes their pids with each call: processes come and go between two calls, and that is no error.
//!
//! Linux on x86_64, pages of 4 KiB. Elsewhere everything answers [`Error::Unsupported`].

mod dumpable;
mod error;
pub mod inject;
mod maps;
mod memory;
mod pagemap;
mod range;
mod read;
mod tracker;
mod uffd;

pub use dumpable::{Dumpable, MemoryPages, dumpable};
pub use error::Error;
pub use maps::{Backing, Mapping, mappings};
pub use memory::by_memory;
pub use range::{PAGE_BYTES, PageRange, PageSet};
pub use read::{Chunk, PageReader, ReadReport};
pub use tracker::{Cost, Dirty, Means, MemoryDirty, Opened, Preference, Tracker, open};
