//! A scenario's file as it is written.

use std::fmt::Display;
use std::str::FromStr;

use ipnet::Ipv4Net;
use mose_pam::{BitsPerSec, Bytes, Metres, MetresPerSec, Millis, Objective, PagesPerSec};
use mose_protocol::agent::Role;
use mose_protocol::{HostName, ServiceName};
use serde::{Deserialize, Deserializer};

use crate::FaultStep;

/// A quantity that is written as text, such as `"32MiB"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) seed: u64,
    pub(super) profile: Option<String>,
    pub(super) host: Vec<HostTable>,
    pub(super) link: Vec<LinkTable>,
    pub(super) service: Vec<ServiceTable>,
    #[serde(default)]
    pub(super) fault: Vec<FaultTable>,
    pub(super) follow: Option<FollowTable>,
    #[serde(default)]
    pub(super) by_hand: Vec<ByHandTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostTable {
    pub(super) name: HostName,
    pub(super) role: Role,
    pub(super) still: Option<StillTable>,
    pub(super) circle: Option<CircleTable>,
    pub(super) client_address: Option<Ipv4Net>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StillTable {
    pub(super) x: Signed,
    pub(super) y: Signed,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CircleTable {
    pub(super) x: Signed,
    pub(super) y: Signed,
    pub(super) radius: Text<Metres>,
    pub(super) speed: Text<MetresPerSec>,
    /// Degrees clockwise from the north.
    pub(super) start: f64,
}

/// A length with a sign, such as `"-120m"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed(pub(super) Metres);

impl<'de> Deserialize<'de> for Signed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (sign, length) = match text.strip_prefix('-') {
            Some(rest) => (-1.0, rest),
            None => (1.0, text.as_str()),
        };
        let length: Metres = length.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(Metres(sign * length.0)))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkTable {
    pub(super) between: [HostName; 2],
    pub(super) bandwidth: Text<BitsPerSec>,
    pub(super) rtt: Text<Millis>,
    pub(super) cross: Option<CrossTable>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CrossTable {
    pub(super) mean: Text<BitsPerSec>,
    pub(super) swing: Text<BitsPerSec>,
    pub(super) period: Text<Millis>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceTable {
    pub(super) name: ServiceName,
    pub(super) on: HostName,
    pub(super) image: String,
    pub(super) address: Ipv4Net,
    pub(super) state: Text<Bytes>,
    pub(super) writing: WritingTable,
    #[serde(default)]
    pub(super) clients: Vec<ClientTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WritingTable {
    pub(super) rate: Text<PagesPerSec>,
    pub(super) working_set: Text<Bytes>,
    pub(super) every: Option<Text<Millis>>,
    #[serde(rename = "for")]
    pub(super) lasting: Option<Text<Millis>>,
    pub(super) quiet: Option<Text<PagesPerSec>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientTable {
    pub(super) on: HostName,
    pub(super) rate: f64,
    pub(super) connections: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultTable {
    pub(super) fail: Option<FailTable>,
    pub(super) stale_page: Option<StaleTable>,
    pub(super) agent_lost: Option<LostTable>,
}

const fn once() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailTable {
    pub(super) step: Step,
    pub(super) service: Option<ServiceName>,
    pub(super) on: Option<HostName>,
    #[serde(default)]
    pub(super) after: u32,
    #[serde(default = "once")]
    pub(super) times: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StaleTable {
    pub(super) service: Option<ServiceName>,
    pub(super) on: Option<HostName>,
    #[serde(default)]
    pub(super) after: u32,
    #[serde(default = "once")]
    pub(super) times: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LostTable {
    pub(super) step: Step,
    pub(super) service: Option<ServiceName>,
    pub(super) on: Option<HostName>,
    #[serde(default)]
    pub(super) after: u32,
    #[serde(default = "once")]
    pub(super) times: u32,
    pub(super) back_after: Option<Text<Millis>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    Prepare,
    PreDump,
    Dump,
    Restore,
}

impl From<Step> for FaultStep {
    fn from(step: Step) -> Self {
        match step {
            Step::Prepare => Self::Prepare,
            Step::PreDump => Self::PreDump,
            Step::Dump => Self::Dump,
            Step::Restore => Self::Restore,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowTable {
    pub(super) service: ServiceName,
    pub(super) mobile: HostName,
    pub(super) between: Vec<HostName>,
    pub(super) target_downtime: Text<Millis>,
    pub(super) target_duration: Text<Millis>,
    pub(super) objective: Objective,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByHandTable {
    pub(super) service: ServiceName,
    pub(super) from: HostName,
    pub(super) to: HostName,
    pub(super) client: HostName,
    pub(super) duration: Text<Millis>,
    pub(super) silence: Text<Millis>,
}
