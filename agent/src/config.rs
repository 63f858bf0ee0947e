//! An agent's configuration.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use mose_protocol::HostName;
use mose_protocol::agent::Role;
use mose_protocol::transfer::TransportKind;

/// How often telemetry goes out, unless the configuration says otherwise.
pub const TELEMETRY_PERIOD: Duration = Duration::from_secs(1);

/// The shortest and the longest period. Shorter ones cost the host more than they are worth; after longer ones nobody knows how it is.
pub const TELEMETRY_PERIODS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// An agent's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The host that it speaks for.
    pub host: HostName,
    /// What the host is for.
    pub role: Role,
    /// Its address on the underlay.
    pub underlay: Ipv4Addr,
    /// The folder of journals and history.
    pub state: PathBuf,
    /// The ways for images that it offers, the best first.
    pub transports: Vec<TransportKind>,
    /// How often telemetry goes out.
    pub telemetry: Duration,
}
