//! MOSE: `agent`.
