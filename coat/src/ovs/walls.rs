//! Walls: what leaves an endpoint behind one goes nowhere, until a route leads to that endpoint.
//!
//! A copy of a service that is being restored may say something before it is certain that it is to run: the kernel probes the other
//! ends of its connections as soon as they are whole, and tells them of its end where it is killed. Nobody must hear that.

use std::collections::{BTreeSet, HashSet};

use parking_lot::Mutex;

use super::Inner;
use crate::openflow::{FlowEntry, FlowMod, PORT_TABLE, PacketIn, Sender, read_wall, wall_add, wall_delete};
use crate::{CoatError, Route, name};

/// The walls of a bridge.
#[derive(Default)]
pub(super) struct Walls {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Endpoints behind a wall.
    up: BTreeSet<String>,
    /// Ports whose wall was taken down: the switch may still act as it did before, for a moment.
    lowered: HashSet<u32>,
}

impl Walls {
    /// Takes a packet that was kept in; whether it is one.
    pub(super) fn keeps_in(&self, packet: &PacketIn<'_>, sender: &Sender) -> bool {
        if packet.cookie != name::WALL_COOKIE {
            return false;
        }
        let lowered = packet.in_port.is_some_and(|port| self.state.lock().lowered.contains(&port));
        if lowered {
            sender.packet_out(PORT_TABLE, packet.frame);
        }
        true
    }

    /// Notes that a wall is up; the flow that makes it.
    fn raise(&self, endpoint: &str, port: u32) -> FlowMod {
        let mut state = self.state.lock();
        state.up.insert(endpoint.to_owned());
        state.lowered.remove(&port);
        wall_add(port, name::WALL_COOKIE)
    }

    /// Lets out at once what an endpoint at a port says, where a route leads to it; what takes the wall down in the switch.
    pub(super) fn lower(&self, route: &Route, port: u32) -> Option<FlowMod> {
        let Route::Endpoint(endpoint) = route else { return None };
        let mut state = self.state.lock();
        let was_up = state.up.remove(endpoint);
        was_up.then(|| {
            state.lowered.insert(port);
            wall_delete(port)
        })
    }

    /// The wall was not taken down after all.
    pub(super) fn keep(&self, route: &Route, port: u32) {
        if let Route::Endpoint(endpoint) = route {
            self.raise(endpoint, port);
        }
    }

    /// Forgets a port that is about to go; what takes down its wall.
    pub(super) fn forget(&self, route: &Route, port: u32) -> Option<FlowMod> {
        let lowered = self.lower(route, port);
        self.state.lock().lowered.remove(&port);
        lowered
    }

    /// Takes over what the switch has, as an earlier process left it: `endpoint` says whose a port is. What removes the walls before ports
    /// that are gone.
    pub(super) fn adopt(
        &self,
        flows: &[FlowEntry],
        endpoint: impl Fn(u32) -> Option<String>,
    ) -> Vec<FlowMod> {
        let mut gone = Vec::new();
        for port in flows.iter().filter_map(read_wall) {
            match endpoint(port) {
                Some(name) => {
                    self.state.lock().up.insert(name);
                }
                None => gone.push(wall_delete(port)),
            }
        }
        gone
    }

    /// The flows of all walls, with today's port numbers: the switch has lost its own.
    pub(super) fn flows(&self, port: impl Fn(&str) -> Option<u32>) -> Vec<FlowMod> {
        let mut state = self.state.lock();
        state.lowered.clear();
        let ports = state.up.iter().filter_map(|endpoint| port(endpoint));
        ports.map(|port| wall_add(port, name::WALL_COOKIE)).collect()
    }
}

impl Inner {
    /// Puts a wall before an endpoint.
    pub(super) async fn wall(&self, endpoint: String) -> Result<(), CoatError> {
        // No route is turned meanwhile.
        let _routes = self.routes.lock().await;
        let route = Route::Endpoint(endpoint.clone());
        let port = self.output(&route).ok_or_else(|| CoatError::NoEndpoint(endpoint.clone()))?;
        let flow = self.guard.walls.raise(&endpoint, port);
        let walled = self.of.commit(&format!("the wall before endpoint {endpoint}"), &[flow]).await;
        if walled.is_err() {
            self.guard.walls.forget(&route, port);
        }
        walled
    }
}
