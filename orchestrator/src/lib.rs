//! The orchestrator: sees the agents, plans and orders migrations, follows them to their records.
//!
//! What `mose migrate`, `mose watch`, the autopilot and the console have in common. It reaches an agent over the protocol alone;
//! losing it loses no migration. It prints nothing.

pub mod calibrate;
pub mod calibration;
mod call;
pub mod decide;
pub mod design;
pub mod fleet;
pub mod follow;
pub mod movable;
pub mod order;
pub mod told;
