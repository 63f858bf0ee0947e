//! A simulated host: what an agent there is made of.

use std::sync::Arc;

use ipnet::Ipv4Net;
use mose_agent::surroundings::Surroundings;
use mose_coat::{CoatError, EndpointSpec, Overlay, Route};
use mose_engine::Engine;
use mose_protocol::{HostName, Refusal, RefusalCode, ServiceName};

use crate::engine::SimulatedEngine;
use crate::overlay::SimulatedOverlay;
use crate::surroundings::SimulatedSurroundings;
use crate::world::World;

/// A host of a simulated testbed: what an agent there is made of. It outlives its agent.
pub struct SimulatedHost {
    world: Arc<World>,
    host: HostName,
    overlay: Arc<SimulatedOverlay>,
}

impl SimulatedHost {
    /// A host of a world.
    #[must_use]
    pub fn new(world: &Arc<World>, host: HostName) -> Self {
        let overlay = Arc::new(SimulatedOverlay::new(world.clone(), host.clone()));
        Self { world: world.clone(), host, overlay }
    }

    /// Puts the services that run here on the overlay, and an endpoint for clients where they have an address.
    ///
    /// # Errors
    /// Where the overlay does not take their addresses.
    pub async fn attach(&self, client: Option<Ipv4Net>) -> Result<(), Refusal> {
        let attached = self.attach_all(client).await;
        attached.map_err(|error| Refusal::new(RefusalCode::Overlay, error.to_string(), ""))
    }

    async fn attach_all(&self, client: Option<Ipv4Net>) -> Result<(), CoatError> {
        for (name, address) in self.running() {
            let spec = EndpointSpec::new(name.as_str(), address);
            self.overlay.attach(&spec, 1).await?;
            self.overlay.route(address.addr(), Route::Endpoint(spec.name), 1).await?;
        }
        if let Some(address) = client {
            let spec = EndpointSpec::new("client", address);
            self.overlay.attach(&spec, 1).await?;
            self.overlay.route(address.addr(), Route::Endpoint(spec.name), 1).await?;
        }
        Ok(())
    }

    fn running(&self) -> Vec<(ServiceName, Ipv4Net)> {
        let state = self.world.state();
        let here = |(host, name): &(HostName, ServiceName)| (*host == self.host).then(|| name.clone());
        let names = state.instances.keys().filter_map(here);
        names.filter_map(|name| Some((name.clone(), state.services.get(&name)?.spec.address))).collect()
    }

    /// Its overlay.
    #[must_use]
    pub fn overlay(&self) -> Arc<dyn Overlay> {
        self.overlay.clone()
    }

    /// Its engine.
    #[must_use]
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(SimulatedEngine { world: self.world.clone(), host: self.host.clone() })
    }

    /// Its surroundings.
    #[must_use]
    pub fn surroundings(&self) -> Arc<dyn Surroundings> {
        Arc::new(SimulatedSurroundings::new(self.world.clone(), self.host.clone()))
    }
}
