//! The offer of a bulk transfer: how a destination tells a source where, and within which bounds, it takes an image.
//!
//! The image itself travels beside the protocol's messages (a TCP connection, or chunks over Zenoh), because a bulk transfer
//! on the same link starves control. Only the offer is a message. Its version is the protocol's.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Which transport carries an image, for the configuration of an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TransportKind {
    /// A plain data connection to the destination's underlay address: the faster of the two, so the default.
    #[default]
    Tcp,
    /// Acknowledged chunks over Zenoh: for networks where only Zenoh's links pass.
    Zenoh,
}

impl std::fmt::Display for TransportKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Zenoh => "zenoh",
        })
    }
}

/// What the destination will take at most. It enforces these itself; the source reads them to fail early and to keep pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferBounds {
    /// Bytes of the largest chunk.
    pub chunk: u64,
    /// Bytes that may be sent and not yet acknowledged.
    pub window: u64,
    /// Milliseconds without a byte after which the destination gives up.
    pub stall_ms: u64,
    /// Bytes of the whole transfer.
    pub total: u64,
    /// Files, folders and links of the whole transfer.
    pub entries: u32,
}

/// Where a source sends an image. Contains a secret: whoever holds the token may write into the destination's folders.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TransportOffer {
    /// Connect here and send the token first.
    Tcp {
        /// The destination's listening socket on the underlay.
        address: SocketAddr,
        /// 32 lower-case hexadecimal digits or more, random for each transfer.
        token: String,
        /// What the destination takes at most.
        bounds: TransferBounds,
    },
    /// Put chunks on `<prefix>/data`; acknowledgements come on `<prefix>/ack`.
    Zenoh {
        /// Key prefix of the transfer, `mose/bulk/<migration>`.
        prefix: String,
        /// 32 lower-case hexadecimal digits or more, random for each transfer.
        token: String,
        /// What the destination takes at most.
        bounds: TransferBounds,
    },
}

impl TransportOffer {
    /// The transport it is for.
    #[must_use]
    pub fn kind(&self) -> TransportKind {
        match self {
            Self::Tcp { .. } => TransportKind::Tcp,
            Self::Zenoh { .. } => TransportKind::Zenoh,
        }
    }

    /// What the destination takes at most.
    #[must_use]
    pub fn bounds(&self) -> &TransferBounds {
        match self {
            Self::Tcp { bounds, .. } | Self::Zenoh { bounds, .. } => bounds,
        }
    }

    /// The secret that opens the transfer.
    #[must_use]
    pub fn token(&self) -> &str {
        match self {
            Self::Tcp { token, .. } | Self::Zenoh { token, .. } => token,
        }
    }
}

/// Without the token: offers end up in logs.
impl std::fmt::Debug for TransportOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, place): (&str, &dyn std::fmt::Debug) = match self {
            Self::Tcp { address, .. } => ("Tcp", address),
            Self::Zenoh { prefix, .. } => ("Zenoh", prefix),
        };
        f.debug_struct(name).field("at", place).field("bounds", self.bounds()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> TransportOffer {
        let bounds = TransferBounds {
            chunk: 1 << 20,
            window: 1 << 24,
            stall_ms: 10_000,
            total: 1 << 36,
            entries: 1000,
        };
        TransportOffer::Tcp { address: "10.0.0.2:4711".parse().unwrap(), token: "ab".repeat(16), bounds }
    }

    #[test]
    fn an_offer_comes_back_from_json_as_it_was() {
        let text = serde_json::to_string(&offer()).unwrap();
        assert!(text.contains(r#""kind":"tcp""#), "{text}");
        assert_eq!(serde_json::from_str::<TransportOffer>(&text).unwrap(), offer());
    }

    #[test]
    fn debug_does_not_show_the_token() {
        assert!(!format!("{:?}", offer()).contains("abab"));
    }
}
