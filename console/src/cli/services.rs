//! The words of `mose lab services`.

use mose_pam::Strategy;

#[derive(clap::Args)]
pub(crate) struct ServicesRun {
    /// Which services, such as redis,nginx; all that can be moved here if not given.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// By which strategies.
    #[arg(long, value_delimiter = ',', default_value = "cold,iterative-precopy")]
    pub(crate) strategies: Vec<Strategy>,
    /// Iterations of an iterative pre-copy.
    #[arg(long, short = 'I', default_value_t = 2, value_name = "N")]
    pub(crate) iterations: u32,
    /// How many times there and back by each strategy.
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) laps: u32,
    /// nginx sends a file of 1 GiB instead of 64 MiB, and pgbench runs for a minute.
    #[arg(long)]
    pub(crate) full: bool,
    /// Do it in a virtual machine with Debian's kernel; PostgreSQL if --only names nothing else.
    #[arg(long)]
    pub(crate) guest: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
