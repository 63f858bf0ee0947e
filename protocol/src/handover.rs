//! What the two agents say to each other so that there is exactly one live copy.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use mose_pam::{Bytes, Millis, Plan};
use serde::{Deserialize, Serialize};

use crate::container::ContainerDescription;
use crate::forecast::Forecast;
use crate::secret::Secret;
use crate::transfer::{TransportKind, TransportOffer};
use crate::{HostName, MigrationId, Refusal, ServiceName, Timestamp};

/// What becomes of a container image that the destination lacks.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImagePolicy {
    /// The source sends it.
    #[default]
    Bring,
    /// The migration is refused.
    Require,
}

/// How pre-copy gets at the memory of a running service.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreCopyWay {
    /// The agent reads its pages while it runs, and the dump is sent as what differs. Works on every kernel.
    Live,
    /// CRIU's pre-dumps, each the parent of the next. Needs a kernel with soft-dirty bits, and freezes for each.
    Chain,
}

/// The most bind mounts that an order may name.
pub const MAX_COPIED_BINDS: usize = 64;

/// What becomes of a service's files outside its root file system.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilePolicy {
    /// Whether volumes of the same name, and the folders of copied bind mounts, give way at the destination, with what they hold.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
    /// The bind mounts that are copied as a volume is moved, by their paths on the hosts. The others must exist there already.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copy_binds: Vec<String>,
}

impl FilePolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The order to move a service, from an orchestrator to the source's agent.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The identity that the orchestrator gave it: a repeated order is the same migration.
    pub migration: MigrationId,
    /// What to move.
    pub service: ServiceName,
    /// From where; the receiver of the order.
    pub from: HostName,
    /// Whereto.
    pub to: HostName,
    /// How.
    pub plan: Plan,
    /// Which way the images go; `None`: the best that both sides can.
    pub transport: Option<TransportKind>,
    /// What becomes of a missing image.
    pub image_policy: ImagePolicy,
    /// How pre-copy reads the running service; `None`: the best that the source can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_copy: Option<PreCopyWay>,
    /// What becomes of volumes and bind mounts.
    #[serde(default, skip_serializing_if = "FilePolicy::is_default")]
    pub files: FilePolicy,
    /// What the designer promised, if the plan is its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Box<Forecast>>,
    /// Whether it is a dress rehearsal: everything but the commitment. The service goes on at its source.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
}

/// A place on the overlay that moves with the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The name of its network namespace.
    pub name: String,
    /// Its address and the overlay's prefix.
    pub address: Ipv4Net,
    /// Its MAC address, which moves too so that no ARP entry goes stale.
    pub mac: String,
}

/// Source to destination: make everything ready. Nothing of it is seen by the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// The order.
    pub task: Task,
    /// The hand-over's epoch: higher than any that the address had before.
    pub epoch: u64,
    /// Where the service is on the overlay.
    pub place: Place,
    /// The container.
    pub container: ContainerDescription,
    /// The secrets that it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Its image's id (the digest of its configuration).
    pub image_id: String,
    /// The most that will be sent, in bytes.
    pub limit: Bytes,
}

impl Prepare {
    /// The same without its secrets: what may be kept on disk.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        Self { secrets: Vec::new(), ..self.clone() }
    }
}

/// Destination to source: ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// Where the images are to be sent.
    pub offer: TransportOffer,
    /// Whether the container's image has to be sent first; the container is created once it is there.
    pub needs_image: bool,
}

/// What the destination knows of a hand-over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum HandoverState {
    /// It never heard of it, or has forgotten it with its journal.
    Unknown,
    /// It prepares or receives; it does not own the service.
    Preparing,
    /// It owns the service and restores it.
    Restoring,
    /// The service runs here.
    Restored(Restored),
    /// It will never run here by this hand-over.
    Refused(Refusal),
    /// It was rehearsed here: its images are good, all of it is removed again, and it will never run here by this hand-over.
    Rehearsed(Rehearsed),
}

/// The good end, as the destination saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    /// When the restore was asked of the engine, on the destination's clock.
    pub started_at: Timestamp,
    /// When the held segments were released and the tasks resumed.
    pub released_at: Timestamp,
    /// When the engine answered.
    pub finished_at: Timestamp,
    /// CRIU's own figure.
    pub criu_restore: Option<Millis>,
    /// Segments that were held and then released.
    pub held: u64,
    /// Segments that did not fit and were dropped.
    pub overflowed: u64,
}

/// The good end of a rehearsal, as the destination saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// When the restore was asked of the engine, on the destination's clock.
    pub started_at: Timestamp,
    /// When everything was restored but nothing resumed: the restore was ended there.
    pub ended_at: Timestamp,
    /// CRIU's own figure, where it tells one of a restore that was ended.
    pub criu_restore: Option<Millis>,
}

/// The time in which a service stood still, on the clock of the clients' host, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// From when on it answered nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// When it was back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What a clients' host saw of a service, at one of its endpoints. Times are on that host's clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    /// Connections that asked for something, or received a stream.
    pub asked: u64,
    /// The longest that one of them heard nothing while something was outstanding; of waits that are over.
    pub wait: Option<Millis>,
    /// When that began.
    pub since: Option<Timestamp>,
    /// When the longest wait began that is not over. Once the service is back, only of those that wait since before.
    pub waiting_since: Option<Timestamp>,
    /// How many of those there are.
    pub waiting: u64,
    /// When a client first asked while the service stood still.
    pub first_ask: Option<Timestamp>,
    /// The longest silence of the service as a whole: the measure where nobody asks.
    pub silence: Millis,
    /// When the last packet of the service came; `None` before the first.
    pub last: Option<Timestamp>,
    /// The host's clock when this was told.
    pub now: Option<Timestamp>,
    /// Packets of the service seen.
    pub packets: u64,
    /// Packets that the watch did not see, or could not follow since there were too many connections.
    pub missed: u64,
    /// Resets among them.
    pub resets: u64,
    /// Connections accepted among them.
    pub accepted: u64,
    /// See [`crate::record::ClientGap::answers_ms`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers_ms: Vec<Millis>,
}

/// Which address a watch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchTarget {
    /// The service's overlay address.
    pub address: Ipv4Addr,
}
