//! The options of `mose lab volumes`.

/// What is measured, and how often.
#[derive(clap::Args)]
pub(crate) struct Volumes {
    /// How many migrations of each service.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub(crate) runs: u32,
    /// What the volume holds, in MiB.
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) size: u32,
    /// In how many files.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) files: u32,
    /// The share of the files that is written to each second.
    #[arg(long, default_value_t = 1, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) changed: u32,
    /// By which strategy.
    #[arg(long, default_value = "cold")]
    pub(crate) strategy: mose_pam::Strategy,
    /// Iterations of an iterative pre-copy.
    #[arg(long, short = 'I', default_value_t = 3, value_name = "N")]
    pub(crate) iterations: u32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
