//! What can go wrong, said so that an operator can act on it: the thing, the reason, the remedy.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

/// Why an operation on the overlay was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoatError {
    /// A name is not one this crate accepts.
    #[error(
        "{name:?} cannot name {what}: use 1 to 63 of a-z, 0-9, '_', '.', '-', beginning with a letter or digit"
    )]
    Name {
        /// What was to be named.
        what: &'static str,
        /// The name as given.
        name: String,
    },
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// An Open vSwitch daemon does not answer.
    #[error("Open vSwitch does not answer on {}: {reason}; is {daemon} running?", path.display())]
    Unreachable {
        /// The unix socket.
        path: PathBuf,
        /// What the socket said.
        reason: String,
        /// The daemon that should listen there.
        daemon: &'static str,
    },
    /// An Open vSwitch daemon took longer than its deadline.
    #[error("Open vSwitch did not finish {what} within {} ms; its log may say why", after.as_millis())]
    Deadline {
        /// What was asked of it.
        what: String,
        /// The deadline.
        after: Duration,
    },
    /// The database refused a transaction.
    #[error("OVSDB refused {what}: {reason}")]
    Ovsdb {
        /// What was asked of it.
        what: String,
        /// The database's own words.
        reason: String,
    },
    /// The switch refused a change of flows.
    #[error("the switch refused {what}: {reason}")]
    OpenFlow {
        /// What was asked of it.
        what: String,
        /// Type and code of the OpenFlow error.
        reason: String,
    },
    /// The switch could not open a device as a port.
    #[error("{device} is no port of the bridge: {reason}; does Open vSwitch run in this network namespace?")]
    Port {
        /// The device.
        device: String,
        /// The switch's own words.
        reason: String,
    },
    /// The kernel refused something on a device, a namespace or a socket.
    #[error("cannot {what}: {reason}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        reason: String,
    },
    /// An endpoint of that name exists with another address or MAC.
    #[error("endpoint {name} exists as {present}; detach it before attaching it as {wanted}")]
    OtherSpec {
        /// The endpoint.
        name: String,
        /// What it is.
        present: String,
        /// What was asked for.
        wanted: String,
    },
    /// A namespace of that name exists and this crate did not make it.
    #[error(
        "the network namespace {} exists and holds devices that are not an endpoint's; remove it or use another name",
        path.display()
    )]
    ForeignNamespace {
        /// Its file.
        path: PathBuf,
    },
    /// A route names an endpoint or tunnel that this host does not have.
    #[error("{address} cannot be routed to {target}: this host has no such port; {remedy}")]
    UnknownTarget {
        /// The overlay address.
        address: Ipv4Addr,
        /// The endpoint or tunnel.
        target: String,
        /// What to do first.
        remedy: &'static str,
    },
    /// This host has no such endpoint.
    #[error("this host has no endpoint {0}: attach it first")]
    NoEndpoint(String),
    /// The epoch does not fit into a flow's cookie.
    #[error("epoch {0} is too large: a flow's cookie holds epochs below 2^56")]
    Epoch(u64),
}

impl CoatError {
    /// An error of the kernel, from whatever describes it.
    pub(crate) fn kernel(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Kernel { what: what.into(), reason: reason.to_string() }
    }
}
