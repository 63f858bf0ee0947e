//! Drives the machines of the hand-overs at one host ([`mose_handover`]): carries requests and answers, rings their timers, asks the
//! other side, and has all else done by whoever implements [`departure::Work`] and [`arrival::Work`]: the agent with a container
//! engine and an overlay, a simulation with neither.
//!
//! It knows no file, socket or engine, and no clock but tokio's, which a test may hold.

pub mod arrival;
pub mod departure;
mod hand_overs;
mod tasks;

use std::time::Duration;

use async_trait::async_trait;
use mose_protocol::{HostName, Request, Response};

pub use hand_overs::{Busy, HandOvers};
pub use tasks::Tasks;

/// How long an agent may take to answer what it can answer at once.
const QUICK: Duration = Duration::from_secs(3);

/// Asking the agents of other hosts.
#[async_trait]
pub trait Ask: Send + Sync {
    /// The answer of an agent; a refusal where none comes within the deadline.
    async fn ask(&self, to: &HostName, request: &Request, deadline: Duration) -> Response;
}
