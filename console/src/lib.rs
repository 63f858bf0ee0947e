//! MOSE: `console`.
