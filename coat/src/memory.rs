//! An overlay in memory: the same answers without namespaces, switch or packets, for tests and for the simulated engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
};

use crate::gap::{GapReport, GapWatch, Outage};
use crate::{Change, CoatError, Endpoint, EndpointSpec, MAX_EPOCH, Overlay, Route, RouteEntry, name};
use parking_lot::{Mutex, MutexGuard};

/// A call that changed, or was to change, something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// [`Overlay::attach`]
    Attach(EndpointSpec, u64),
    /// [`Overlay::detach`]
    Detach(String),
    /// [`Overlay::wall`]
    Wall(String),
    /// [`Overlay::route`] and what became of it.
    Route(Ipv4Addr, Route, u64, Change),
    /// [`Overlay::forget`]
    Forget(Ipv4Addr),
    /// [`Overlay::add_tunnel`]
    AddTunnel(String, Ipv4Addr),
    /// [`Overlay::remove_tunnel`]
    RemoveTunnel(String),
}

#[derive(Default)]
struct OverlayState {
    endpoints: BTreeMap<String, Endpoint>,
    tunnels: BTreeMap<String, Ipv4Addr>,
    walls: BTreeSet<String>,
    routes: BTreeMap<Ipv4Addr, (Route, u64)>,
    held: BTreeMap<Ipv4Addr, (u64, u64)>,
    calls: Vec<Call>,
}

/// An overlay that remembers and does nothing else.
#[derive(Default)]
pub struct MemoryOverlay {
    state: Mutex<OverlayState>,
}

impl MemoryOverlay {
    /// An overlay with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, OverlayState> {
        // Nothing panics half way through a change.
        self.state.lock()
    }

    /// The calls that succeeded, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Whether what leaves an endpoint is dropped.
    #[must_use]
    pub fn is_walled(&self, name: &str) -> bool {
        self.state().walls.contains(name)
    }

    /// Pretends that a packet arrived for an address; `true` if it is held now.
    pub fn packet(&self, address: Ipv4Addr, bytes: u64) -> bool {
        let mut state = self.state();
        let holding = matches!(state.routes.get(&address), Some((Route::Hold, _)));
        if holding {
            let held = state.held.entry(address).or_default();
            *held = (held.0 + 1, held.1 + bytes);
        }
        holding
    }
}

#[async_trait::async_trait]
impl Overlay for MemoryOverlay {
    async fn endpoints(&self) -> Result<Vec<Endpoint>, CoatError> {
        Ok(self.state().endpoints.values().cloned().collect())
    }

    async fn attach(&self, spec: &EndpointSpec, epoch: u64) -> Result<Endpoint, CoatError> {
        spec.validate()?;
        let mut state = self.state();
        if let Some(present) = state.endpoints.get(&spec.name).filter(|e| e.spec != *spec) {
            return Err(CoatError::OtherSpec {
                name: spec.name.clone(),
                present: present.spec.to_string(),
                wanted: spec.to_string(),
            });
        }
        let endpoint = state.endpoints.entry(spec.name.clone()).or_insert_with(|| Endpoint {
            spec: spec.clone(),
            netns: PathBuf::from("/run/netns").join(&spec.name),
            host_device: name::endpoint_device("memory", &spec.name),
            epoch,
        });
        endpoint.epoch = endpoint.epoch.max(epoch);
        let endpoint = endpoint.clone();
        state.calls.push(Call::Attach(spec.clone(), epoch));
        Ok(endpoint)
    }

    async fn detach(&self, name: &str) -> Result<(), CoatError> {
        let mut state = self.state();
        state.endpoints.remove(name);
        state.walls.remove(name);
        let gone = Route::Endpoint(name.to_owned());
        state.routes.retain(|_, (route, _)| *route != gone);
        state.calls.push(Call::Detach(name.to_owned()));
        Ok(())
    }

    async fn wall(&self, name: &str) -> Result<(), CoatError> {
        let mut state = self.state();
        if !state.endpoints.contains_key(name) {
            return Err(CoatError::NoEndpoint(name.to_owned()));
        }
        state.walls.insert(name.to_owned());
        state.calls.push(Call::Wall(name.to_owned()));
        Ok(())
    }

    async fn route(&self, address: Ipv4Addr, route: Route, epoch: u64) -> Result<Change, CoatError> {
        if epoch > MAX_EPOCH {
            return Err(CoatError::Epoch(epoch));
        }
        let mut state = self.state();
        let change = match state.routes.get(&address) {
            Some((_, current)) if epoch < *current => Change::Stale { current: *current },
            Some((present, current)) if epoch == *current && *present == route => Change::Unchanged,
            _ => {
                let (target, known, remedy) = match &route {
                    Route::Endpoint(name) => {
                        (name, state.endpoints.contains_key(name), "attach the endpoint first")
                    }
                    Route::Tunnel(host) => (host, state.tunnels.contains_key(host), "add the tunnel first"),
                    Route::Hold => (&String::new(), true, ""),
                };
                if !known {
                    return Err(CoatError::UnknownTarget { address, target: target.clone(), remedy });
                }
                let released = match route {
                    Route::Hold => 0,
                    _ => state.held.remove(&address).map_or(0, |(packets, _)| packets),
                };
                if let Route::Endpoint(name) = &route {
                    state.walls.remove(name);
                }
                state.routes.insert(address, (route.clone(), epoch));
                Change::Applied { released, overflowed: 0 }
            }
        };
        state.calls.push(Call::Route(address, route, epoch, change));
        Ok(change)
    }

    async fn routes(&self) -> Result<Vec<RouteEntry>, CoatError> {
        let entry = |(address, (route, epoch)): (&Ipv4Addr, &(Route, u64))| RouteEntry {
            address: *address,
            route: route.clone(),
            epoch: *epoch,
        };
        Ok(self.state().routes.iter().map(entry).collect())
    }

    async fn forget(&self, address: Ipv4Addr) -> Result<(), CoatError> {
        let mut state = self.state();
        state.routes.remove(&address);
        state.held.remove(&address);
        state.calls.push(Call::Forget(address));
        Ok(())
    }

    async fn add_tunnel(&self, host: &str, remote: Ipv4Addr) -> Result<(), CoatError> {
        name::validate("a host", host)?;
        let mut state = self.state();
        state.tunnels.insert(host.to_owned(), remote);
        state.calls.push(Call::AddTunnel(host.to_owned(), remote));
        Ok(())
    }

    async fn remove_tunnel(&self, host: &str) -> Result<(), CoatError> {
        let mut state = self.state();
        state.tunnels.remove(host);
        let gone = Route::Tunnel(host.to_owned());
        state.routes.retain(|_, (route, _)| *route != gone);
        state.calls.push(Call::RemoveTunnel(host.to_owned()));
        Ok(())
    }

    async fn held(&self, address: Ipv4Addr) -> (u64, u64) {
        self.state().held.get(&address).copied().unwrap_or_default()
    }

    /// No packet comes through memory: what is told is that nothing was heard.
    fn watch(&self, _: &Endpoint, _: Ipv4Addr) -> Result<Box<dyn GapWatch>, CoatError> {
        Ok(Box::new(Deaf))
    }
}

/// A watch where there are no packets.
struct Deaf;

impl GapWatch for Deaf {
    fn report(&self, _: Outage) -> GapReport {
        GapReport::nothing()
    }

    fn stop(self: Box<Self>, _: Outage) -> GapReport {
        GapReport::nothing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);

    #[tokio::test]
    async fn it_answers_as_the_real_one_does() {
        let overlay = MemoryOverlay::new();
        let spec = EndpointSpec::new("web", "10.77.0.20/24".parse().unwrap());
        let to_web = || Route::Endpoint("web".to_owned());
        assert!(overlay.route(X, to_web(), 1).await.is_err());
        overlay.attach(&spec, 1).await.unwrap();
        let other = EndpointSpec::new("web", "10.77.0.21/24".parse().unwrap());
        assert!(overlay.attach(&other, 1).await.is_err());

        assert!(overlay.wall("another").await.is_err());
        overlay.wall("web").await.unwrap();
        overlay.route(X, Route::Hold, 2).await.unwrap();
        assert!(overlay.packet(X, 100) && overlay.is_walled("web"));
        assert_eq!(overlay.held(X).await, (1, 100));
        let applied = Change::Applied { released: 1, overflowed: 0 };
        assert_eq!(overlay.route(X, to_web(), 2).await.unwrap(), applied);
        assert_eq!(overlay.route(X, to_web(), 2).await.unwrap(), Change::Unchanged);
        assert!(!overlay.is_walled("web"), "a route leads to it");
        let stale = Change::Stale { current: 2 };
        assert_eq!(overlay.route(X, Route::Hold, 1).await.unwrap(), stale);

        overlay.detach("web").await.unwrap();
        assert!(overlay.routes().await.unwrap().is_empty());
        assert_eq!(overlay.calls().last(), Some(&Call::Detach("web".to_owned())));
    }
}
