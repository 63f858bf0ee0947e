//! MOSE: `lab`.

pub mod client;
pub mod counter;
