//! What a comparison of two builds found.

use schemars::JsonSchema;
use serde::Serialize;

/// `mose lab baseline --against`: two builds in turn.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Against {
    /// What was moved.
    pub workload: String,
    /// How many migrations with each build.
    pub runs: u32,
    /// The folder of this build's programs.
    pub this: String,
    /// The folder of the other build's.
    pub other: String,
    /// What was measured.
    pub figures: Vec<Figure>,
}

/// A figure of two builds.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// This build's median.
    pub this_ms: Option<f64>,
    /// The other build's median.
    pub other_ms: Option<f64>,
    /// This build's over the other's.
    pub ratio: Option<f64>,
    /// Each of this build's.
    pub all_this_ms: Vec<f64>,
    /// Each of the other build's.
    pub all_other_ms: Vec<f64>,
}
