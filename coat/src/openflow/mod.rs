//! OpenFlow 1.4, as much of it as the overlay needs, spoken to Open vSwitch on the bridge's management socket.

mod client;
mod flows;
pub(crate) mod messages;

pub(crate) use client::{OfClient, PacketSink, Sender};
pub(crate) use flows::{Output, read_route, read_wall, route_add, route_delete, wall_add, wall_delete};
pub(crate) use messages::{FlowEntry, FlowMod, PORT_TABLE, PacketIn};
