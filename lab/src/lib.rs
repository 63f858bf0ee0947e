//! MOSE: `lab`.

pub mod counter;
