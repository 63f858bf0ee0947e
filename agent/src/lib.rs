//! The agent of one host: its container engine, its part in the overlay, its side of every hand-over.

pub mod agent;
mod by_hand;
mod calibrations;
mod check;
mod client_gap;
mod clients;
pub mod config;
mod destination;
mod doctor;
mod file_profile;
mod guard;
mod heard;
pub mod history;
pub mod journal;
mod link;
mod listen;
pub mod local;
mod locations;
mod overlay;
mod patience;
pub mod place;
mod profile;
mod source;
pub mod steps;
pub mod surroundings;
pub mod vehicle;
mod watch;

pub use agent::Agent;
pub use config::Config;
