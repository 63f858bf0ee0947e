//! The whole screen, drawn in memory and driven by events.

#[path = "../support/mod.rs"]
mod support;

mod meaning;
mod properties;
mod snapshots;
mod sweep;
