//! The hand-over of a service between two hosts, as two state machines: one for each side.
//!
//! Both are pure. A machine takes an [event](source::Event) and returns [effects](source::Effect); it does no I/O, holds no clock and
//! starts no task. The agent carries the effects out and reports how each ended as another event. What a machine needs after a crash is
//! the last state that it had written to its journal, and nothing else.
//!
//! The rule that everything stands on: at no time do two copies of a service run, and there is never none without the operator being
//! told. It holds because
//!
//! - a state is on disk before it is acted on, and before anyone is told of it;
//! - once the source has written *relinquished* it does not run the service again before the destination has *refused*, or the operator
//!   has decided;
//! - once the destination has written *refused* it never runs the service by that hand-over, and it says *refused* only when nothing of
//!   the service is left there that could run.
//!
//! `R` is the type of a reason: a refusal in the agent, nothing in a model.

pub mod destination;
pub mod journal;
pub mod source;

pub use destination::Destination;
pub use journal::SourceState;
pub use source::Source;

/// How a write to a journal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Written {
    /// The state is on disk.
    OnDisk,
    /// It may or may not be there.
    Unsure,
}
