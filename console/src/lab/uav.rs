//! Command-line definitions of `mose lab uav`.

use mose_pam::{Millis, Objective};

use super::replace::Replace;

/// The options of `mose lab uav`.
#[derive(Debug, Clone, clap::Args)]
pub struct Uav {
    /// How many handovers; until Ctrl-C if not given.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub handovers: Option<u32>,
    /// Move the autopilot by hand instead (a script over SSH), at the same moments: when another cell serves the UAV.
    #[arg(long)]
    pub by_hand: bool,
    /// Afterwards, so many handovers by hand, to compare the two in one run.
    #[arg(long, value_name = "N", conflicts_with = "by_hand", requires = "handovers",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub then_by_hand: Option<u32>,
    /// What each migration is to minimise.
    #[arg(long, default_value = "downtime")]
    pub objective: Objective,
    /// The longest that the autopilot may stand still.
    #[arg(long, default_value = "500ms", value_name = "TIME")]
    pub max_downtime: Millis,
    /// The longest that a migration may take.
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub max_duration: Millis,
    /// Of the random numbers by which the radio loses frames.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Leave the lab up if this has brought it up.
    #[arg(long)]
    pub keep: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}
