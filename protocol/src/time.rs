//! Points in time as hosts tell them to each other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mose_pam::Millis;
use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch, on the clock of the host that says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Now, on this host's clock.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time from `earlier` to `self`; negative where the clocks disagree.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis((self.0 as f64 - earlier.0 as f64) / 1e3)
    }

    /// This time as another clock shows it, which is ahead by `offset_us` microseconds.
    #[must_use]
    pub fn shifted(self, offset_us: i64) -> Self {
        Self(self.0.saturating_add_signed(offset_us))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_micros(time.0)
    }
}

/// How far another host's clock is ahead of one's own, and how sure that is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClockOffset {
    /// Microseconds by which the other clock is ahead.
    pub offset_us: i64,
    /// Half of the round trip that it was measured with: the offset is right within this.
    pub uncertainty_us: u64,
}
