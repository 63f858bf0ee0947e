//! The language of the processing-aware migration model: units, strategies, targets and plans.
//!
//! Pure and synchronous: no I/O, no clock. What a plan *is* lives here, because the protocol, the agents
//! and the console all speak of it; how a plan is *found* is the model's own business.

mod plan;
mod units;

pub use plan::{Plan, Strategy, UnknownStrategy};
pub use units::{BitsPerSec, Bytes, Millis, ParseUnitError};
