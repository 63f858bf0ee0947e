//! Routes and walls as flows. A route is two of them, ARP and IPv4, under one cookie; a wall is one.

use std::net::Ipv4Addr;

use super::messages::{FlowEntry, FlowMod, Match, PORT_CONTROLLER};

/// Every route's flow has the same priority: no two of them match the same packet.
const PRIORITY: u16 = 100;

/// A wall comes before all routes.
const WALL_PRIORITY: u16 = 200;

/// Where a flow sends its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// A port of the bridge.
    Port(u32),
    /// This process, which holds them.
    Here,
}

fn both(address: Ipv4Addr, cookie: u64, output: Option<u32>) -> [FlowMod; 2] {
    [Match::Arp(address), Match::Ip(address)].map(|matches| FlowMod {
        matches,
        priority: PRIORITY,
        cookie,
        output,
    })
}

/// The flows that put a route in force, in place of the one before.
pub(crate) fn route_add(address: Ipv4Addr, output: Output, cookie: u64) -> [FlowMod; 2] {
    let port = match output {
        Output::Port(port) => port,
        Output::Here => PORT_CONTROLLER,
    };
    both(address, cookie, Some(port))
}

/// The changes that remove a route.
pub(crate) fn route_delete(address: Ipv4Addr) -> [FlowMod; 2] {
    both(address, 0, None)
}

/// Reads a route back from its IPv4 flow; `None` for its ARP flow and for flows of other kinds.
pub(crate) fn read_route(flow: &FlowEntry) -> Option<(Ipv4Addr, Output, u64)> {
    let Some(Match::Ip(address)) = flow.matches else {
        return None;
    };
    let output = match flow.output? {
        PORT_CONTROLLER => Output::Here,
        port => Output::Port(port),
    };
    (flow.priority == PRIORITY).then_some((address, output, flow.cookie))
}

fn wall(port: u32, cookie: u64, output: Option<u32>) -> FlowMod {
    FlowMod { matches: Match::From(port), priority: WALL_PRIORITY, cookie, output }
}

/// The flow that keeps in what comes from a port: it is sent here. So what a cached decision of the switch still keeps in when the wall
/// is down is not lost. Where nobody is here it is dropped.
pub(crate) fn wall_add(port: u32, cookie: u64) -> FlowMod {
    wall(port, cookie, Some(PORT_CONTROLLER))
}

/// The change that takes a wall down.
pub(crate) fn wall_delete(port: u32) -> FlowMod {
    wall(port, 0, None)
}

/// Reads back which port a wall is before; `None` for flows of other kinds.
pub(crate) fn read_wall(flow: &FlowEntry) -> Option<u32> {
    match flow.matches? {
        Match::From(port) if flow.priority == WALL_PRIORITY => Some(port),
        _ => None,
    }
}
