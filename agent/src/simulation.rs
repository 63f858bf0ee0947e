//! What stands in for measuring and looking around, on a host that is simulated.

use mose_protocol::HostName;
use mose_protocol::agent::{ClientInfo, Position};
use mose_protocol::link::LinkMetrics;

/// The surroundings of a simulated host. What a real agent measures is taken from here, and everything that the agent says
/// is labelled simulated.
pub trait Simulation: Send + Sync {
    /// The link to another host: its figures, and the bandwidth that transfers to it are kept to. `None` where there is none.
    fn link(&self, to: &HostName) -> Option<LinkMetrics>;

    /// Where the host is.
    fn position(&self) -> Option<Position>;

    /// The clients on the host.
    fn clients(&self) -> Vec<ClientInfo>;
}
