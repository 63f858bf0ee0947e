//! Simulated hosts, and the demo testbed that is made of them: agents in one process and without root.
//!
//! What is simulated: the engine and its times, the overlay's packets, the clients, dirty pages, the figures of the links,
//! radio and flight.
//! What is real: everything above the engine, and the transfer of the images, which are files with real pages in them. An agent
//! is given what is simulated as its `Engine`, its `Overlay` and its `Surroundings`; it has no code of its own for simulated hosts.

pub mod demo;
mod draw;
mod engine;
mod fault;
mod flight;
mod geography;
mod host;
mod images;
mod live;
mod memory;
mod overlay;
mod surroundings;
pub mod swarm;
mod world;

pub use fault::{Fault, FaultEffect, FaultStep, Lost};
pub use geography::{CrossTraffic, Motion, SimulatedLink};
pub use host::SimulatedHost;
pub use memory::{Bursts, Writing};
pub use overlay::SimulatedOverlay;
pub use world::{Client, Placement, ServiceSpec, World, WorldSpec};
