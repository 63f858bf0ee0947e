//! What the client saw.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Silences longer than this are listed one by one.
pub const GAP: Duration = Duration::from_millis(50);

/// A silence between two consecutive replies on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gap {
    /// When it began (the reply before it), in ms since 1970 on the client's clock.
    pub at_unix_ms: u64,
    /// How long it was, in ms, on the client's monotonic clock.
    pub ms: f64,
}

/// Round-trip times in ms.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rtt {
    /// Median.
    pub p50: f64,
    /// 99 of 100 were at most this.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// What the client saw.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The protocol spoken.
    pub workload: String,
    /// The address asked.
    pub target: String,
    /// Requests sent.
    pub sent: u64,
    /// Distinct requests that were answered.
    pub received: u64,
    /// Requests never answered.
    pub lost: u64,
    /// Answers to requests already answered, and global counts that were given twice.
    pub repeated: u64,
    /// Answers that came after the answer to a later request.
    pub reordered: u64,
    /// Answers that cannot be read, belong to nobody, or tell of damaged state.
    pub corrupted: u64,
    /// Times the service's counters went back, or another instance answered: its memory was lost.
    pub restarts: u64,
    /// Connections that ended with a reset.
    pub resets: u64,
    /// Connections that the service closed.
    pub closed: u64,
    /// Connections opened; as many as asked for, since none is ever opened again.
    pub connections: u64,
    /// Longest interval between two consecutive replies on a connection, or, where replies were still owed at the end,
    /// since the last one; in ms.
    pub longest_gap_ms: f64,
    /// All gaps over 50 ms, in order of time.
    pub gaps: Vec<Gap>,
    /// Round-trip times.
    pub rtt_ms: Rtt,
    /// The service's global count in the last reply.
    pub last_counter: Option<u64>,
    /// When the first request was sent, in ms since 1970.
    pub started_at_unix_ms: u64,
    /// When the last connection was done, in ms since 1970.
    pub ended_at_unix_ms: u64,
    /// What went wrong on a connection, in words.
    pub errors: Vec<String>,
}

impl Report {
    /// Whether nothing at all happened that a client should not see.
    pub fn is_clean(&self) -> bool {
        self.received > 0
            && self.lost + self.repeated + self.reordered + self.corrupted + self.restarts == 0
            && self.resets + self.closed == 0
            && self.errors.is_empty()
    }
}

/// A length of time as a report has it: in ms, to the µs.
pub(super) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
