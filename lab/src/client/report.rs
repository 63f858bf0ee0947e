//! What a client saw.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Gap, Wait};

/// What `sent` and `received` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Messages, each answered.
    #[default]
    Messages,
    /// Bytes of a stream.
    Bytes,
}

/// What a client saw, in the same terms for every client.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClientReport {
    /// Which client.
    pub workload: String,
    /// What `sent` and `received` count.
    pub unit: Unit,
    /// Sent by the client.
    pub sent: u64,
    /// Answered (messages), or arrived at the service (bytes). May be less than `sent` by what was under way when the
    /// client's time was over: `lost` tells whether anything is missing.
    pub received: u64,
    /// Messages never answered although there was time to.
    pub lost: u64,
    /// Messages answered more than once.
    pub repeated: u64,
    /// Answers out of order.
    pub reordered: u64,
    /// Answers that were damaged, or told of damaged or lost state.
    pub corrupted: u64,
    /// Connections that ended before the client did.
    pub resets: u64,
    /// Connections opened for data: as many as `streams` if they were the same throughout.
    pub connections: u64,
    /// Connections asked for.
    pub streams: u64,
    /// Longest silence on a connection in ms; for iperf3, the longest run of intervals in which next to nothing went
    /// through.
    pub longest_gap_ms: f64,
    /// Silences over 50 ms (iperf3: idle runs), in order of time.
    pub gaps: Vec<Gap>,
    /// Requests that waited over 20 ms for their reply, in order of time; only a crowd lists them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Wait>,
    /// Begin of the time in which a gap would have been seen, in ms since 1970.
    pub from_unix_ms: u64,
    /// End of that time.
    pub to_unix_ms: u64,
    /// What went wrong in the client's own words.
    pub errors: Vec<String>,
    /// What only this client knows: round-trip times, throughput before, during and after.
    pub extra: Map<String, Value>,
}

impl ClientReport {
    /// Whether the client saw nothing but, maybe, silence: all answered once and in order, on the connections it began
    /// with.
    pub fn is_clean(&self) -> bool {
        self.received > 0
            && self.lost + self.repeated + self.reordered + self.corrupted + self.resets == 0
            && self.connections == self.streams
            && self.errors.is_empty()
    }

    /// The longest gap that touches a span of time, in ms; 0 if there was none over the 50 ms that are listed.
    ///
    /// This is how a gap is given to one of several migrations under the same client.
    pub fn longest_gap_between(&self, from_unix_ms: u64, to_unix_ms: u64) -> f64 {
        self.gaps
            .iter()
            .filter(|gap| gap.at_unix_ms <= to_unix_ms && gap.at_unix_ms + gap.ms as u64 >= from_unix_ms)
            .fold(0.0, |longest, gap| gap.ms.max(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_belongs_to_the_span_it_touches() {
        let gaps = vec![Gap { at_unix_ms: 1000, ms: 300.0 }, Gap { at_unix_ms: 5000, ms: 700.0 }];
        let report = ClientReport { gaps, ..ClientReport::default() };
        assert_eq!(report.longest_gap_between(900, 1100), 300.0);
        assert_eq!(report.longest_gap_between(1200, 6000), 700.0);
        assert_eq!(report.longest_gap_between(2000, 4000), 0.0);
    }

    #[test]
    fn a_different_number_of_connections_is_not_clean() {
        let report = ClientReport { received: 1, connections: 2, streams: 1, ..ClientReport::default() };
        assert!(!report.is_clean());
        assert!(ClientReport { connections: 1, ..report }.is_clean());
    }
}
