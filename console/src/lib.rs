//! The console: what the agents tell, shown to people and printed as JSON, on a terminal and line by line.

pub mod app;
pub mod arguments;
pub mod doctor;
pub mod documents;
pub mod exit;
pub mod lab;
pub mod log;
pub mod movable;
pub mod proposal;
pub mod table;
pub mod told;
