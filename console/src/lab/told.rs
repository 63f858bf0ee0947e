//! What `mose-lab` tells `mose`, as JSON: both read it from here.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What `mose-lab` can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Topic {
    /// The lab that is up: [`Running`], or null.
    Running,
    /// Whether this machine can run the lab: [`Machine`].
    Machine,
    /// The JSON Schemas of what the lab's commands print, by the documents' names.
    Schemas,
}

/// A lab that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The Zenoh endpoints of its agents.
    pub agents: Vec<String>,
    /// The process whose network they are reached from, or why there is none.
    pub controller: Result<i32, String>,
}

/// Whether a machine can run the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What it has and lacks; `None` where looking took too long.
    pub readiness: Option<Readiness>,
    /// Where the programs that run on the lab's hosts should be.
    pub folder: PathBuf,
    /// Which of them are not there.
    pub absent: Vec<String>,
}

/// What a machine has and lacks for the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// What is missing; the lab can come up if nothing is.
    pub missing: Vec<Missing>,
    /// The room that it has.
    pub space: Vec<Space>,
}

/// Something that a machine lacks, and how to get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// What it is needed for.
    pub why: String,
    /// How to get it.
    pub remedy: String,
}

/// The room in a folder of the lab, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// The folder.
    pub folder: PathBuf,
    /// What is free there.
    pub free: u64,
    /// What the lab needs there.
    pub needed: u64,
}
