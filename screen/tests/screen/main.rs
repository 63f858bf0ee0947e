//! The whole screen, drawn in memory and driven by events.

#![expect(clippy::expect_used, reason = "a fixture that cannot be made is a fault in it")]

#[path = "../support/mod.rs"]
mod support;

mod following;
mod meaning;
mod properties;
mod settled;
mod snapshots;
mod sweep;
mod theatre;
mod truth;
mod typed;
