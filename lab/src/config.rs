//! What the lab is made of: the hosts, the options of `up`, and the units its options are written in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::LabError;

/// The prefix length of the underlay.
pub const UNDERLAY_PREFIX: u8 = 24;
/// The port every agent's Zenoh session listens on.
pub const AGENT_PORT: u16 = 7447;
/// The underlay's interface inside a host.
pub const UNDERLAY_INTERFACE: &str = "under0";
/// Where a host keeps what belongs to the lab, on its own `/run`.
pub(crate) const HOST_RUN: &str = "run/mose-host";

/// What a host is in the paper's testbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs services.
    Edge,
    /// The mobile device: runs the client.
    Mobile,
    /// Runs the orchestrator.
    Controller,
}

impl Role {
    /// The role as the agent's command line spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Edge => "edge",
            Role::Mobile => "mobile",
            Role::Controller => "controller",
        }
    }
}

/// Name, role and underlay address of each host, in the order they start.
pub const HOSTS: [(&str, Role, Ipv4Addr); 4] = [
    ("edge-a", Role::Edge, Ipv4Addr::new(10, 99, 0, 11)),
    ("edge-b", Role::Edge, Ipv4Addr::new(10, 99, 0, 12)),
    ("uav", Role::Mobile, Ipv4Addr::new(10, 99, 0, 13)),
    ("controller", Role::Controller, Ipv4Addr::new(10, 99, 0, 14)),
];

/// The project's own programs that run on the hosts.
pub const OWN_BINARIES: [&str; 9] = [
    "mose-agent",
    "mose-criu-hook",
    "mose-write-protect",
    "mose-counter",
    "mose-holdall",
    "mose-holder",
    "mose-autopilot",
    "mose-uav",
    RADIO_PROGRAM,
];

/// The program that is the UAV's radio. It runs on the machine, between the underlay's ports.
pub const RADIO_PROGRAM: &str = "mose-radio";

/// Where the UAV's agent hears MAVLink, as a ground station does, inside the host.
pub const AGENT_MAVLINK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 14550);

/// Where the radio hears where the vehicle is, inside the UAV's host.
pub(crate) const RADIO_MAVLINK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 14551);

/// A radio cell at an edge host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellSite {
    /// The edge host.
    pub host: &'static str,
    /// The cell's number (MAVLink's `CELLULAR_STATUS.lac`).
    pub cell: u16,
    /// Metres to the east of where the UAV starts.
    pub east_m: f64,
    /// And to the north.
    pub north_m: f64,
}

/// The cells: west and east of the circle that the UAV flies, whose middle is 50 m east of its start.
pub const CELLS: [CellSite; 2] = [
    CellSite { host: "edge-a", cell: 1, east_m: -70.0, north_m: 0.0 },
    CellSite { host: "edge-b", cell: 2, east_m: 170.0, north_m: 0.0 },
];

/// How fast the link between the two edge hosts is, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub enum LinkRate {
    /// As fast as the machine copies.
    Unshaped,
    /// Bits per second.
    Bits(u64),
}

impl Default for LinkRate {
    fn default() -> Self {
        LinkRate::Bits(1_000_000_000)
    }
}

impl fmt::Display for LinkRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            LinkRate::Unshaped => f.write_str("unshaped"),
            LinkRate::Bits(b) if b % 1_000_000_000 == 0 => write!(f, "{}gbit", b / 1_000_000_000),
            LinkRate::Bits(b) if b % 1_000_000 == 0 => write!(f, "{}mbit", b / 1_000_000),
            LinkRate::Bits(b) if b % 1_000 == 0 => write!(f, "{}kbit", b / 1_000),
            LinkRate::Bits(b) => write!(f, "{b}bit"),
        }
    }
}

impl FromStr for LinkRate {
    type Err = LabError;

    fn from_str(s: &str) -> Result<Self, LabError> {
        let text = s.trim().to_ascii_lowercase();
        if text == "unshaped" {
            return Ok(LinkRate::Unshaped);
        }
        let invalid = || LabError::Invalid {
            what: format!("link rate `{s}`"),
            reason: "write a rate like `1gbit`, `500mbit` or `64kbit`, or `unshaped`".into(),
        };
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let number: f64 = text[..digits].parse().map_err(|_| invalid())?;
        let scale = match text[digits..].trim() {
            "" | "bit" => 1.0,
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            _ => return Err(invalid()),
        };
        let bits = number * scale;
        // Below 8 kbit/s htb's arithmetic breaks down; above 1 Tbit/s nobody means it.
        if !(8e3..=1e12).contains(&bits) {
            return Err(invalid());
        }
        Ok(LinkRate::Bits(bits.round() as u64))
    }
}

impl TryFrom<String> for LinkRate {
    type Error = LabError;
    fn try_from(s: String) -> Result<Self, LabError> {
        s.parse()
    }
}

impl From<LinkRate> for String {
    fn from(rate: LinkRate) -> String {
        rate.to_string()
    }
}

/// Which cgroup version the hosts see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// v2 where the machine is pure v2, else v1.
    #[default]
    Auto,
    /// The v1 hierarchies only.
    V1,
    /// The unified hierarchy only.
    V2,
}

impl FromStr for CgroupMode {
    type Err = LabError;

    fn from_str(s: &str) -> Result<Self, LabError> {
        match s {
            "auto" => Ok(CgroupMode::Auto),
            "v1" => Ok(CgroupMode::V1),
            "v2" => Ok(CgroupMode::V2),
            _ => Err(LabError::Invalid {
                what: format!("cgroup mode `{s}`"),
                reason: "one of auto, v1, v2".into(),
            }),
        }
    }
}

/// What `up` needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabConfig {
    /// The project's own programs (`mose-agent`, `mose-criu-hook`, `mose-counter`) and where they lie on the machine.
    /// Those given are put into every host's `/usr/local/bin`.
    pub binaries: BTreeMap<String, PathBuf>,
    /// The program that becomes a host's init; the running one when `None`.
    pub init_program: Option<PathBuf>,
    /// The arguments before the configuration's path that make it call [`crate::init::run`].
    pub init_command: Vec<OsString>,
    /// The link between the edge hosts.
    pub edge_link: LinkRate,
    /// Which cgroups the hosts see.
    pub cgroup: CgroupMode,
    /// What is known of the running lab; on a tmpfs, so that a reboot forgets it.
    pub state_dir: PathBuf,
    /// The hosts' writable files.
    pub data_dir: PathBuf,
    /// The root file system and the images, kept over `down`.
    pub cache_dir: PathBuf,
}

impl Default for LabConfig {
    fn default() -> Self {
        LabConfig {
            binaries: BTreeMap::new(),
            init_program: None,
            init_command: vec!["lab-init".into()],
            edge_link: LinkRate::default(),
            cgroup: CgroupMode::default(),
            state_dir: PathBuf::from("/run/mose-lab"),
            data_dir: PathBuf::from("/var/lib/mose-lab"),
            cache_dir: PathBuf::from("/var/cache/mose"),
        }
    }
}

impl LabConfig {
    /// The name of this lab's folder in every cgroup hierarchy. Another state folder is another lab and must not share it.
    pub(crate) fn cgroup_name(&self) -> String {
        cgroup_name(&self.state_dir)
    }

    pub(crate) fn host_dir(&self, host: &str) -> PathBuf {
        self.data_dir.join(host)
    }
}

/// See [`LabConfig::cgroup_name`].
pub(crate) fn cgroup_name(state_dir: &Path) -> String {
    if state_dir == LabConfig::default().state_dir {
        "mose-lab".to_owned()
    } else {
        let hash = xxhash_rust::xxh3::xxh3_64(state_dir.as_os_str().as_encoded_bytes());
        format!("mose-lab-{hash:016x}")
    }
}

/// One step of a long operation, for whoever shows it.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is being done, e.g. `host edge-a: starting`.
    pub what: String,
    /// Since the operation began.
    pub elapsed: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_rate_reads_what_it_prints() {
        for text in ["1gbit", "500mbit", "64kbit", "unshaped", "8001bit"] {
            let rate: LinkRate = text.parse().unwrap();
            assert_eq!(rate.to_string(), text);
        }
        assert_eq!("2.5gbit".parse::<LinkRate>().unwrap(), LinkRate::Bits(2_500_000_000));
    }

    #[test]
    fn a_link_rate_without_sense_is_refused_with_the_spelling() {
        for text in ["", "fast", "-1gbit", "0", "1gb", "9e99gbit", "1..5gbit"] {
            let error = text.parse::<LinkRate>().unwrap_err().to_string();
            assert!(error.contains("1gbit"), "{text}: {error}");
        }
    }

    #[test]
    fn two_labs_do_not_share_a_cgroup() {
        assert_eq!(cgroup_name(Path::new("/run/mose-lab")), "mose-lab");
        assert_ne!(cgroup_name(Path::new("/run/a")), cgroup_name(Path::new("/run/b")));
    }
}
