//! MOSE: `protocol`.
