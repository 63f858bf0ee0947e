//! What surrounds a host, and how its agent comes to know of it: the links to other hosts, where the host is, and the clients on it.

use std::sync::Arc;

use async_trait::async_trait;
use mose_coat::Overlay;
use mose_pam::BitsPerSec;
use mose_protocol::agent::{ClientInfo, Position, Radio, Role};
use mose_protocol::flight::{FlightError, FlightReport, FlightTimes};
use mose_protocol::link::LinkMetrics;
use mose_protocol::{HostName, Refusal};
use tokio::sync::Mutex;

use crate::clients::Clients;

/// What surrounds a host.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Whether the figures that the agent tells are measurements. Whatever it says is labelled where they are not.
    fn measured(&self) -> bool;

    /// Whether the links can be measured, from this host and towards it.
    ///
    /// # Errors
    /// Where they cannot: with the reason, and where their figures are found instead.
    fn may_measure_links(&self) -> Result<(), Refusal>;

    /// The figures of the link to another host, where they are known without measuring; `None` where they have to be measured.
    ///
    /// # Errors
    /// Where there is no such link.
    fn link(&self, to: &HostName) -> Option<Result<LinkMetrics, Refusal>>;

    /// The bandwidth that transfers to another host are kept to; `None` where the link itself sees to it that no more is used.
    fn left(&self, to: &HostName) -> Option<BitsPerSec>;

    /// Where the host is, if that is known.
    fn position(&self) -> Option<Position>;

    /// Its part in the radio network, if it has one.
    fn radio(&self) -> Option<Radio> {
        None
    }

    /// How the vehicle that carries it flies now, if one does.
    fn flight(&self) -> Option<FlightError> {
        None
    }

    /// How that vehicle flew at some times; `None` where it was not heard then.
    fn flown(&self, times: &FlightTimes) -> Option<FlightReport> {
        let _ = times;
        None
    }

    /// The clients on the host, and what they do now.
    async fn clients(&self) -> Vec<ClientInfo>;
}

/// Real surroundings: the links are measured, and the kernel is asked for the clients. Where the host is, nothing tells.
pub struct MeasuredSurroundings {
    role: Role,
    overlay: Arc<dyn Overlay>,
    clients: Mutex<Clients>,
}

impl MeasuredSurroundings {
    /// The surroundings of a host of that role, with this part in the overlay.
    #[must_use]
    pub fn new(role: Role, overlay: Arc<dyn Overlay>) -> Self {
        Self { role, overlay, clients: Mutex::default() }
    }
}

#[async_trait]
impl Surroundings for MeasuredSurroundings {
    fn measured(&self) -> bool {
        true
    }

    fn may_measure_links(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn link(&self, _: &HostName) -> Option<Result<LinkMetrics, Refusal>> {
        None
    }

    fn left(&self, _: &HostName) -> Option<BitsPerSec> {
        None
    }

    fn position(&self) -> Option<Position> {
        None
    }

    /// Only mobile hosts carry clients.
    async fn clients(&self) -> Vec<ClientInfo> {
        match self.role {
            Role::Mobile => self.clients.lock().await.look(self.overlay.as_ref()).await,
            Role::Edge | Role::Controller => Vec::new(),
        }
    }
}
