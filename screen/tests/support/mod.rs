//! A believable fleet in several moments, drawn without a terminal: for tests, for the benchmark, for pictures.

pub(crate) mod canvas;
pub(crate) mod crowd;
pub(crate) mod fleet;
pub(crate) mod migration;
pub(crate) mod moments;
pub(crate) mod theatre;
