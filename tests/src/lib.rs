//! MOSE: `tests`.
