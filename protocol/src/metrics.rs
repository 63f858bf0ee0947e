//! What an agent measures of a running service.

use mose_pam::{Bytes, Millis, PagesPerSec};
use serde::{Deserialize, Serialize};

use crate::{HostName, ServiceName, Timestamp};

/// How fast a service dirties its pages (unique pages per second).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DirtyFigures {
    /// In the last sample.
    pub current: PagesPerSec,
    /// Over the window.
    pub mean: PagesPerSec,
    /// The most in any sample of the window (R̂).
    pub worst: PagesPerSec,
}

/// What of a service lies in files beside its root file system, and moves with it: volumes and shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileFigures {
    /// What they take on the disk or in memory.
    pub size: Bytes,
    /// The most that the service wrote to files in a second, in the last minute, in bytes.
    pub written_per_s: Bytes,
}

/// A service's profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceMetrics {
    /// Which.
    pub service: ServiceName,
    /// Where it runs.
    pub host: HostName,
    /// When it was taken, on the host's clock.
    pub at: Timestamp,
    /// M: what a checkpoint would write.
    pub state: Bytes,
    /// R.
    pub dirty: DirtyFigures,
    /// Memory that was written to within the window.
    pub working_set: Bytes,
    /// How far back mean, worst and working set reach.
    pub window: Millis,
    /// How dirty pages are found: soft-dirty, write-protect (async) or hashing.
    pub tracker: String,
    /// The share of the service's time that measuring takes, as estimated from the tracker's own figures.
    pub cost: f64,
    /// Of its volumes and shared memory; none where it has none, or nothing is known of them yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileFigures>,
}
