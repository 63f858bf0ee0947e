//! A UAV that an autopilot flies from an edge host: the autopilot, which is a service that moves, and the vehicle, which it must not
//! lose meanwhile. The two speak MAVLink 2 over TCP, so that a real flight controller can take the vehicle's place.

pub mod autopilot;
pub mod ned;
pub mod netns;
pub mod options;
pub mod orbit;
pub mod radio;
pub mod recorder;
pub mod vehicle;
pub mod wire;
