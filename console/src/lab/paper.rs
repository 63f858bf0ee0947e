//! Command-line definitions of `mose lab paper`.

use std::path::PathBuf;

use clap::ValueEnum;

/// What of the paper can be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PaperTable {
    /// A UAV flown by an autopilot that moves: downtime, duration and metres, by hand and by MOSE
    Table3,
}

impl PaperTable {
    /// The name that the command line uses.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The options of `mose lab paper`.
#[derive(Debug, Clone, clap::Args)]
pub struct Paper {
    /// Which table.
    #[arg(value_name = "TABLE")]
    pub table: PaperTable,
    /// How many trials of each row.
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// What the order of the trials follows from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The folder for each trial (results.ndjson), the table (.csv, .json, .tex) and the report (report.md); paper-TABLE if not given.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with what is in that folder: trials that are there are not flown again. Also removes the services that were left over.
    #[arg(long)]
    pub resume: bool,
    /// Remove services of the lab that bear the names of those that it starts, and begin anew in a folder that has results: they are kept
    /// under another name.
    #[arg(long, conflicts_with = "resume")]
    pub replace: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
