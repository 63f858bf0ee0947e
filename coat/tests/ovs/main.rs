//! The overlay on a real Open vSwitch, with real packets. Needs root and Open vSwitch; skipped, and said so, where they are
//! missing, unless `MOSE_REQUIRE_LAB=1`.

#![expect(clippy::unwrap_used, reason = "a test ends where its surroundings fail")]

mod holding;
mod lasting;
mod moving;
mod support;
mod traffic;
mod walls;
