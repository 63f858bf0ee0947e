//! What the lab's experiments find. The program `mose-lab` makes them: it has the testbed's commands, which `mose lab …` starts.

pub mod documents;
pub mod schemas;
