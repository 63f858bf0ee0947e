//! A route as flows: two of them, ARP and IPv4, under one cookie.

use std::net::Ipv4Addr;

use super::messages::{FlowEntry, FlowMod, Match, PORT_CONTROLLER};

/// Every flow has the same priority: no two of them match the same packet.
const PRIORITY: u16 = 100;

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
