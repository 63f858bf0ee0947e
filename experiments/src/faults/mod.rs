//! `mose lab faults` and `mose lab soak`: migrations with faults in them, in the lab with real parts, and what came of each.

mod bench;
mod bound;
mod cell;
pub(crate) mod host;
mod judge;
mod list;
mod memory;
mod report;
mod results;
mod soak;
mod strike;
mod table;
pub(crate) mod traces;
mod trial;
mod underway;
mod wrap;

pub(crate) use soak::run as soak;
pub(crate) use table::run;
