//! Which client is to run, against what, and for how long.

use std::net::SocketAddr;
use std::time::Duration;

use crate::counter::protocol::Protocol;

/// Which client; [`crate::Workload::client`] says whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// `sockperf ping-pong --tcp`.
    Sockperf,
    /// `iperf3 -c`.
    Iperf3,
    /// `mose-counter ping`.
    Counter,
    /// `mose-counter ping` with Redis as its service.
    Redis,
    /// `mose-counter ping` with memcached as its service.
    Memcached,
    /// `mose-counter crowd`: many connections to Redis.
    Crowd,
    /// `mose-uav`: a vehicle that the service flies.
    Autopilot,
}

impl ClientKind {
    /// The name of its workload, as services and reports bear it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sockperf => "sockperf",
            Self::Iperf3 => "iperf3",
            Self::Counter => "counter",
            Self::Redis => "redis",
            Self::Memcached => "memcached",
            Self::Crowd => "crowd",
            Self::Autopilot => "autopilot",
        }
    }

    pub(super) fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Sockperf | Self::Iperf3 | Self::Autopilot => None,
            Self::Counter => Some(Protocol::Counter),
            Self::Redis | Self::Crowd => Some(Protocol::Redis),
            Self::Memcached => Some(Protocol::Memcached),
        }
    }
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSpec {
    /// Which client.
    pub kind: ClientKind,
    /// The service.
    pub target: SocketAddr,
    /// How long.
    pub duration: Duration,
    /// Messages per second on each connection; for iperf3 its target bit rate in kb/s, 0 for as much as goes through.
    pub rate: u32,
    /// Connections at once (sockperf: always one).
    pub connections: u32,
    /// The counter client's program where the client runs, by name or path.
    pub counter_program: String,
}

impl ClientSpec {
    /// The paper's client: 200 messages per second on one connection; iperf3 with as much as goes through.
    pub fn new(kind: ClientKind, target: SocketAddr, duration: Duration) -> Self {
        let rate = if kind == ClientKind::Iperf3 { 0 } else { 200 };
        Self { kind, target, duration, rate, connections: 1, counter_program: "mose-counter".to_owned() }
    }
}
