//! OVSDB, the switch's configuration database: JSON-RPC on a unix socket (RFC 7047).

mod client;
mod frame;
mod schema;

pub(crate) use client::OvsdbClient;
pub(crate) use schema::{PortRecord, Schema};
