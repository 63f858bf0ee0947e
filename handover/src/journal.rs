//! What the source has on disk. What the destination has is what it says: [`Said`](crate::destination::Said).

use serde::{Deserialize, Serialize};

/// Where the source stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum SourceState {
    /// The service runs here and has noticed nothing.
    Preparing,
    /// It is being, or has been, dumped; it is the source's.
    Dumping,
    /// It is no longer the source's, until the destination has refused it.
    Relinquished {
        /// The digest of the images that were verified.
        digest: String,
    },
    /// It is the source's again and is being taken back.
    Reclaiming,
    /// It runs at the destination. Only the destination's journal is still to be closed.
    Restored,
    /// The operator gave it up: what is left of it here is removed, and nothing of it is ever restored here.
    GivenUp,
}
