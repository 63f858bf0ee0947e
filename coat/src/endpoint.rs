//! What an agent asks of an overlay: the words ([`EndpointSpec`], [`Route`], [`Change`]) and the trait.

use std::{net::Ipv4Addr, path::PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::gap::GapWatch;
use crate::{CoatError, Health, MacAddr, name};

/// An endpoint as it is to be: the same on every host it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// Names the namespace: `/run/netns/<name>`.
    pub name: String,
    /// The endpoint's own address, and how many of its bits are the overlay's.
    pub address: Ipv4Net,
    /// The endpoint's Ethernet address.
    pub mac: MacAddr,
}

impl EndpointSpec {
    /// An endpoint with the Ethernet address that belongs to its IPv4 address.
    #[must_use]
    pub fn new(name: impl Into<String>, address: Ipv4Net) -> Self {
        Self { name: name.into(), address, mac: MacAddr::for_address(address.addr()) }
    }

    /// Refuses what no endpoint can be.
    pub(crate) fn validate(&self) -> Result<(), CoatError> {
        name::validate("an endpoint", &self.name)?;
        if !self.mac.is_device() {
            return Err(CoatError::Config(format!(
                "{} cannot be the MAC address of endpoint {}: it is a group's or empty",
                self.mac, self.name
            )));
        }
        let address = self.address.addr();
        if address.is_unspecified()
            || address.is_multicast()
            || address.is_broadcast()
            || address.is_loopback()
        {
            return Err(CoatError::Config(format!(
                "{address} cannot be the address of endpoint {}: give it a unicast address of the overlay",
                self.name
            )));
        }
        Ok(())
    }
}

impl std::fmt::Display for EndpointSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.address, self.mac)
    }
}

/// An endpoint as it is on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name and addresses.
    pub spec: EndpointSpec,
    /// The namespace's file.
    pub netns: PathBuf,
    /// The device outside the namespace: the bridge's port.
    pub host_device: String,
    /// The hand-over it was attached for.
    pub epoch: u64,
}

/// Where a host sends packets for an overlay address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// To the endpoint of that name, on this host.
    Endpoint(String),
    /// To the host of that name, through its tunnel. Also for what came through another tunnel; what came through the same
    /// one is dropped.
    Tunnel(String),
    /// Nowhere yet: packets are kept, in order, until the route changes.
    Hold,
}

/// A route and the address it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntry {
    /// The overlay address.
    pub address: Ipv4Addr,
    /// Where its packets go.
    pub route: Route,
    /// The hand-over that set it.
    pub epoch: u64,
}

/// What became of a change of route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The new route is in force.
    Applied {
        /// Packets that had been held and went to the new route.
        released: u64,
        /// Packets that had been dropped because the hold was full.
        overflowed: u64,
    },
    /// The route was already so.
    Unchanged,
    /// The change belongs to an earlier hand-over than the route in force, which stays.
    Stale {
        /// The epoch of the route in force.
        current: u64,
    },
}

/// One host's part of the overlay.
#[async_trait::async_trait]
pub trait Overlay: Send + Sync {
    /// The endpoints on this host, by name.
    async fn endpoints(&self) -> Result<Vec<Endpoint>, CoatError>;

    /// Makes the namespace, its devices and the bridge's port. Does nothing if the endpoint is there; leaves the route as it is.
    ///
    /// # Errors
    /// [`CoatError::OtherSpec`] if an endpoint of that name has other addresses, [`CoatError::ForeignNamespace`] if somebody
    /// else's namespace has the name, and what Open vSwitch or the kernel refuses.
    async fn attach(&self, spec: &EndpointSpec, epoch: u64) -> Result<Endpoint, CoatError>;

    /// Removes port, devices and namespace, and a route that still leads there. Does nothing if there is no such endpoint.
    async fn detach(&self, name: &str) -> Result<(), CoatError>;

    /// Drops what leaves an endpoint, until a route leads to it.
    ///
    /// # Errors
    /// [`CoatError::NoEndpoint`], and what Open vSwitch refuses.
    async fn wall(&self, name: &str) -> Result<(), CoatError>;

    /// Sends an address's packets elsewhere: those held until now first, in order, then at once all others.
    ///
    /// A change of an earlier epoch than the route in force is refused ([`Change::Stale`]); within an epoch the last one wins.
    async fn route(&self, address: Ipv4Addr, route: Route, epoch: u64) -> Result<Change, CoatError>;

    /// Like [`Overlay::route`], for a service that is about to run: `begun` is told as soon as the change is certain and the first
    /// packets are on their way. Its answers then leave while the rest of what was held comes in, and are no burst.
    async fn release(
        &self,
        address: Ipv4Addr,
        route: Route,
        epoch: u64,
        begun: oneshot::Sender<()>,
    ) -> Result<Change, CoatError> {
        let change = self.route(address, route, epoch).await?;
        if !matches!(change, Change::Stale { .. }) {
            // Whoever waited may have given up.
            let _ = begun.send(());
        }
        Ok(change)
    }

    /// The routes in force, by address.
    async fn routes(&self) -> Result<Vec<RouteEntry>, CoatError>;

    /// Removes an address's route and epoch; what it held is dropped.
    async fn forget(&self, address: Ipv4Addr) -> Result<(), CoatError>;

    /// Makes the tunnel to a host; does nothing if it is there, replaces it if it leads to another address.
    async fn add_tunnel(&self, host: &str, remote: Ipv4Addr) -> Result<(), CoatError>;

    /// Removes the tunnel to a host, and routes that still lead there. Does nothing if there is none.
    async fn remove_tunnel(&self, host: &str) -> Result<(), CoatError>;

    /// What is held right now for an address: packets, bytes.
    async fn held(&self, address: Ipv4Addr) -> (u64, u64);

    /// Listens at an endpoint of this host to what comes from a service, to tell for how long that was silent.
    ///
    /// # Errors
    /// If the endpoint is gone, or this process may not listen there.
    fn watch(&self, endpoint: &Endpoint, service: Ipv4Addr) -> Result<Box<dyn GapWatch>, CoatError>;

    /// What it finds when it looks at what it stands on; `None` where it stands on nothing that can break.
    async fn health(&self) -> Option<Health> {
        None
    }
}
