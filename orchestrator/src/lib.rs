//! The orchestrator: sees the agents, plans and orders migrations, follows them to their records.
//!
//! What `mose migrate`, `mose watch`, the console and whoever has a service follow its mobile host have in common. It reaches an agent over the protocol alone;
//! losing it loses no migration. It prints nothing.

pub mod by_hand;
pub mod calibrate;
pub mod calibration;
mod call;
pub mod decide;
pub mod design;
pub mod fleet;
pub mod follow;
pub mod follow_me;
pub mod movable;
pub mod order;
pub mod told;
