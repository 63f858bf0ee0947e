//! What the commands that start services may do to those that the lab has.

/// What the commands that start services may do to those that the lab has.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Replace {
    /// Remove services of the lab that bear the names of those that it starts; it refuses to, if not given.
    #[arg(long)]
    pub replace: bool,
}
