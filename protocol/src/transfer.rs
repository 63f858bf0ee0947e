//! How a migration's bulk data finds its way: the offer that the destination makes.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A way for bulk data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportKind {
    /// A data connection of its own, announced over Zenoh.
    Tcp,
    /// Chunks published over Zenoh.
    Zenoh,
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Zenoh => "zenoh",
        })
    }
}

/// Where the destination waits for one migration's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum TransportOffer {
    /// It listens for one connection that shows the token first.
    Tcp {
        /// Where it listens.
        address: SocketAddr,
        /// At least 128 random bits, in hexadecimal.
        token: String,
    },
    /// It subscribes below a key.
    Zenoh {
        /// The prefix of the keys for data and acknowledgements.
        prefix: String,
    },
}
