//! The orchestrator and its command line: sees the agents, orders migrations, watches them, tells how they went.
//!
//! It reaches an agent over the protocol alone. Losing it loses no migration.

pub mod app;
pub mod calibrate;
pub mod decide;
pub mod demo;
pub mod design;
pub mod doctor;
pub mod documents;
pub mod exit;
pub mod experiments;
pub mod fleet;
pub mod follow;
pub mod movable;
pub mod order;
pub mod profile;
pub mod proposal;
pub mod table;
