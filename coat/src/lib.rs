//! The COAT overlay: what keeps a client's TCP connection while the service's container moves between hosts.
//!
//! Every host has one Open vSwitch bridge. An *endpoint* is a network namespace with a fixed address and a fixed MAC, joined
//! to the bridge; a *tunnel* is a VXLAN device to another host. Nothing is learnt: for each overlay address a host has a
//! *route*, explicit and numbered (its epoch), to an endpoint, to a tunnel, or to the cut-over guard ([`Route::Hold`]),
//! which keeps the packets in this process, in order, until the route leads somewhere again. So a segment that arrives while the service is
//! nowhere costs the client the time of the move and no retransmission timeout.
//!
//! What is forwarded is IPv4 and ARP to an address that has a route. Everything else is dropped, IPv6, multicast and
//! broadcast included: a service on the overlay is reached by its IPv4 address alone.
//!
//! No state file is kept: endpoints and tunnels are recorded in OVSDB (`external_ids`), routes and epochs in the flows and their
//! cookies. [`OvsOverlay::start`] reads both back. Open vSwitch is spoken to over OVSDB and OpenFlow 1.4, the kernel over
//! rtnetlink: no program is started.
//!
//! The pieces: [`Overlay`] is what an agent uses; [`OvsOverlay`] does it, [`MemoryOverlay`] pretends to; [`gap`] measures the
//! silence that a client saw; [`sockets`] tells of the TCP connections in a namespace, [`unix`] of the unix sockets, and [`fresh`]
//! makes a socket there; [`settings`] gives it its settings; [`lent`] borrows another process's.

mod devices;
mod endpoint;
mod error;
pub mod fresh;
pub mod gap;
mod health;
mod hold;
pub mod lent;
mod mac;
mod memory;
mod name;
mod netns;
mod offload;
mod openflow;
mod ovs;
mod ovsdb;
mod ports;
pub mod settings;
pub mod sockets;
pub mod unix;

pub use endpoint::{Change, Endpoint, EndpointSpec, Overlay, Route, RouteEntry};
pub use error::CoatError;
pub use health::{Datapath, Faulty, Health, Recorded};
pub use hold::HoldLimits;
pub use mac::{MacAddr, MacAddrError};
pub use memory::{Call, MemoryOverlay};
pub use name::MAX_EPOCH;
pub use ovs::{OvsConfig, OvsOverlay};
