//! What an agent knows of the links to other hosts, and how two agents come to measure one.

use std::net::SocketAddr;

use mose_pam::{BitsPerSec, Bytes, Millis};
use serde::{Deserialize, Serialize};

use crate::{HostName, Timestamp};

/// What a link's capacity was learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CapacityFrom {
    /// Short bursts, timed by the receiving kernel.
    Probe,
    /// The transfer of a migration, which the link carried at least as fast.
    Transfer,
    /// The scenario of a simulated testbed.
    Scenario,
}

impl CapacityFrom {
    /// The name that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Transfer => "transfer",
            Self::Scenario => "scenario",
        }
    }
}

/// What a round-trip time was learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RttFrom {
    /// A TCP connection between the two hosts, as their kernels see it: the way there and back, with its queues.
    Tcp,
    /// A request between the two agents: that, and the time of both agents.
    Request,
    /// The scenario of a simulated testbed.
    Scenario,
}

/// The link from the host that says it to another. All rates are bits per second on the link, Ethernet, IP and TCP headers
/// included, in this direction. `None` is what is not known yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LinkMetrics {
    /// Where the link goes.
    pub to: HostName,
    /// What it can carry.
    pub capacity: Option<BitsPerSec>,
    /// What the capacity was learnt from.
    pub capacity_from: Option<CapacityFrom>,
    /// When the capacity was last learnt, on the clock of the host that says it.
    pub capacity_at: Option<Timestamp>,
    /// What others use of it: what both hosts' interfaces carried over the last seconds, the measuring itself left out.
    pub used: Option<BitsPerSec>,
    /// What is left: the capacity less what is used.
    pub available: Option<BitsPerSec>,
    /// The median round-trip time.
    pub rtt: Option<Millis>,
    /// The median of its mean deviation (RFC 6298, RTTVAR).
    pub rtt_jitter: Option<Millis>,
    /// What the round-trip time was learnt from.
    pub rtt_from: Option<RttFrom>,
    /// When round-trip time and use were last measured, on the same clock.
    pub measured_at: Timestamp,
}

/// One agent to another: let us measure the link from me to you.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOrder {
    /// Who measures.
    pub from: HostName,
    /// The length of the burst that it is going to send; 0: none, only round trips.
    pub burst: Bytes,
}

/// The largest burst that an agent takes.
pub const MAX_BURST: Bytes = Bytes(4 << 20);

/// What an interface has carried in one direction since it was made, as it counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Bytes, Ethernet headers included.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// The answer: here.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOffer {
    /// Where to connect and show the token; `None` where this host takes no TCP connections of agents.
    pub address: Option<SocketAddr>,
    /// 32 lower-case hexadecimal digits, random for each offer.
    pub token: String,
    /// What the interface towards the asking host had received so far.
    pub received: Option<Carried>,
    /// When that was, on this host's clock.
    pub at: Timestamp,
}

/// Without the token: offers end up in logs.
impl std::fmt::Debug for ProbeOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbeOffer").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_survives_the_wire_as_not_known() {
        let metrics = LinkMetrics {
            to: "edge-b".parse().unwrap(),
            capacity: Some(BitsPerSec(1_000_000_000)),
            capacity_from: Some(CapacityFrom::Probe),
            capacity_at: Some(Timestamp(5)),
            used: None,
            available: None,
            rtt: Some(Millis(0.25)),
            rtt_jitter: None,
            rtt_from: Some(RttFrom::Tcp),
            measured_at: Timestamp(7),
        };
        let text = serde_json::to_string(&metrics).unwrap();
        assert!(text.contains(r#""capacity_from":"probe""#) && text.contains(r#""used":null"#), "{text}");
        assert_eq!(serde_json::from_str::<LinkMetrics>(&text).unwrap(), metrics);
    }

    #[test]
    fn an_offer_does_not_show_its_token() {
        let offer = ProbeOffer {
            address: None,
            token: "ab".repeat(16),
            received: Some(Carried::default()),
            at: Timestamp(2),
        };
        assert!(!format!("{offer:?}").contains("abab"));
    }
}
