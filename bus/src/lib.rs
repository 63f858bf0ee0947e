//! What agent and orchestrator share of Zenoh: how a session is set up, who is there, and how to ask them something.

mod anew;
mod connections;
pub mod peers;
pub mod session;
mod sockets;
