//! Walls: what leaves an endpoint behind one goes nowhere, until a route leads to that endpoint.
//!
//! A copy of a service that is being restored may say something before it is certain that it is to run: the kernel probes the other
//! ends of its connections as soon as they are whole, and tells them of its end where it is killed. Nobody must hear that.
//!
//! What it asks of its neighbours' addresses (ARP) is asked when the wall falls: its kernel would ask again only a second later.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use parking_lot::Mutex;

use super::Inner;
use crate::hold::destination;
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
    /// What was asked behind a wall, by the port and the address of the neighbour.
    questions: HashMap<(u32, Ipv4Addr), Vec<u8>>,
}

/// Neighbours that may be asked for behind walls.
const QUESTIONS: usize = 4096;

impl Walls {
    /// Takes a packet that was kept in; whether it is one.
    pub(super) fn keeps_in(&self, packet: &PacketIn<'_>, sender: &Sender) -> bool {
        if packet.cookie != name::WALL_COOKIE {
            return false;
        }
        let Some(port) = packet.in_port else { return true };
        let mut state = self.state.lock();
        if state.lowered.contains(&port) {
            sender.packet_out(PORT_TABLE, packet.frame);
        } else if let Some(neighbour) = asked_for(packet.frame)
            && state.questions.len() < QUESTIONS
        {
            state.questions.insert((port, neighbour), packet.frame.to_vec());
        }
        true
    }

    /// Notes that a wall is up; the flow that makes it.
    fn raise(&self, endpoint: &str, port: u32) -> FlowMod {
        let mut state = self.state.lock();
        state.up.insert(endpoint.to_owned());
        state.lowered.remove(&port);
        state.questions.retain(|(asker, _), _| *asker != port);
        wall_add(port, name::WALL_COOKIE)
    }

    /// Lets out at once what an endpoint at a port says, where a route leads to it; what takes the wall down in the switch.
    pub(super) fn lower(&self, route: &Route, port: u32, sender: &Sender) -> Option<FlowMod> {
        let Route::Endpoint(endpoint) = route else { return None };
        let mut state = self.state.lock();
        if !state.up.remove(endpoint) {
            return None;
        }
        state.lowered.insert(port);
        state.questions.retain(|(asker, _), frame| {
            if *asker == port {
                sender.packet_out(PORT_TABLE, frame);
            }
            *asker != port
        });
        Some(wall_delete(port))
    }

    /// The wall was not taken down after all.
    pub(super) fn keep(&self, route: &Route, port: u32) {
        if let Route::Endpoint(endpoint) = route {
            self.raise(endpoint, port);
        }
    }

    /// Forgets a port that is about to go; what takes down its wall.
    pub(super) fn forget(&self, route: &Route, port: u32) -> Option<FlowMod> {
        let Route::Endpoint(endpoint) = route else { return None };
        let mut state = self.state.lock();
        state.lowered.remove(&port);
        state.questions.retain(|(asker, _), _| *asker != port);
        state.up.remove(endpoint).then(|| wall_delete(port))
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

/// The neighbour that a frame asks for, if it is such a question (RFC 826: an ARP request over Ethernet).
fn asked_for(frame: &[u8]) -> Option<Ipv4Addr> {
    let question = frame.get(12..14)? == [0x08, 0x06] && frame.get(20..22)? == [0, 1];
    question.then(|| destination(frame)).flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_for_a_neighbour_is_told_from_an_answer_and_from_other_frames() {
        let mut frame = vec![0; 42];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        frame[20..22].copy_from_slice(&[0, 1]);
        frame[38..42].copy_from_slice(&[10, 77, 0, 10]);
        assert_eq!(asked_for(&frame), Some(Ipv4Addr::new(10, 77, 0, 10)));
        assert_eq!(asked_for(&frame[..41]), None);
        frame[21] = 2;
        assert_eq!(asked_for(&frame), None);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        assert_eq!(asked_for(&frame), None);
    }
}
