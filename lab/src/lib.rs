//! MOSE: `lab`.
