//! Command-line definitions of `mose lab faults` and `mose lab soak`.

use std::path::PathBuf;

use super::replace::Replace;

/// The options of `mose lab faults`.
#[derive(clap::Args)]
pub struct Faults {
    /// Only tell the cells.
    #[arg(long)]
    pub list: bool,
    /// Only a few of them, which take three minutes together.
    #[arg(long)]
    pub quick: bool,
    /// Only those with this in their name, such as agent-killed or /source/; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub only: Vec<String>,
    /// The folder for what each cell came to (faults.ndjson), the report (faults.md, faults.json), and the agents' logs of cells
    /// that failed.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with what is in that folder: cells that are there are not struck again.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print the report as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}

/// The options of `mose lab soak`.
#[derive(clap::Args)]
pub struct Soak {
    /// How many migrations.
    #[arg(short = 'n', long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub migrations: u32,
    /// What the faults and strategies are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Kill no agent, so that each agent's memory is that of one process from the first migration to the last.
    #[arg(long)]
    pub spare_agents: bool,
    /// The folder for what each migration came to (soak.ndjson) and the report (soak.md, soak.json).
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with what is in that folder.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print the report as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// What it may do to services that the lab has.
    #[command(flatten)]
    pub replace: Replace,
}
