//! MOSE: `coat`.
