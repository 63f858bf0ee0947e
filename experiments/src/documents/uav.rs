//! A UAV in flight, and the handovers of its autopilot.

use mose_lab::median;
use mose_protocol::record::Outcome;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A handover of the autopilot, as the hosts and the vehicle saw it. Times of day are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UavHandover {
    /// Its number, from 1.
    pub number: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// From where.
    pub from: String,
    /// Whereto.
    pub to: String,
    /// When it was ordered.
    pub began_unix_ms: u64,
    /// From the order until the autopilot was back.
    pub duration_ms: Option<f64>,
    /// From the freeze until it was back, by the hosts' clocks.
    pub service_stopped_ms: Option<f64>,
    /// The worst case that the plan promised for that.
    pub worst_case_downtime_ms: Option<f64>,
    /// The vehicle's longest pause between two answers.
    pub client_silence_ms: Option<f64>,
    /// The greatest distance from the moving reference, from the freeze until 8 s after the autopilot was back.
    pub deviation_m: Option<f64>,
    /// The same from the nearest point of the path.
    pub cross_track_m: Option<f64>,
    /// The greatest distance from the moving reference in the 10 s before the order.
    pub undisturbed_deviation_m: Option<f64>,
}

/// A flight by one autopilot, which was moved in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UavFlight {
    /// Whether it was moved by hand: a script over SSH.
    pub by_hand: bool,
    /// The handovers.
    pub handovers: Vec<UavHandover>,
    /// Positions that the vehicle reported.
    pub reported: u64,
    /// Of them, those that were answered.
    pub answered: u64,
    /// Of them, those that never were, although there was time to.
    pub lost: u64,
    /// Answers that were not the next one due.
    pub out_of_order: u64,
    /// How often the connection was lost.
    pub connections_lost: u32,
    /// How often the vehicle took the control away from its autopilot.
    pub offboard_losses: u32,
    /// Bytes of the autopilot's flight recorder that were as they were written, at the end; null where it did not say.
    pub recorder_intact_bytes: Option<u32>,
    /// By how much the simulation was behind the clock at most.
    pub behind_ms: f64,
}

/// What `mose lab uav` measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UavRun {
    /// The flights, in their order.
    pub flights: Vec<UavFlight>,
}

impl UavFlight {
    /// Handovers that moved the autopilot.
    pub fn done(&self) -> impl Iterator<Item = &UavHandover> {
        self.handovers.iter().filter(|handover| handover.outcome == Outcome::Done)
    }

    /// The median of a figure of those.
    #[must_use]
    pub fn median(&self, figure: fn(&UavHandover) -> Option<f64>) -> Option<f64> {
        median(self.done().filter_map(figure))
    }

    /// The greatest of a figure of those.
    #[must_use]
    pub fn greatest(&self, figure: fn(&UavHandover) -> Option<f64>) -> Option<f64> {
        self.done().filter_map(figure).reduce(f64::max)
    }

    /// Whether every report was answered in its order on the connection that it began with, by an autopilot that has lost none of its
    /// memory, and every handover moved it.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.lost + self.out_of_order + u64::from(self.connections_lost) == 0
            && self.recorder_intact_bytes == Some(RECORDER)
            && self.done().count() == self.handovers.len()
    }
}

/// The autopilot's flight recorder, in bytes.
const RECORDER: u32 = 24 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn flight() -> UavFlight {
        let handover = |number, outcome, deviation| UavHandover {
            number,
            outcome,
            why: None,
            from: "edge-a".into(),
            to: "edge-b".into(),
            began_unix_ms: 0,
            duration_ms: Some(1000.0),
            service_stopped_ms: Some(170.0),
            worst_case_downtime_ms: Some(230.0),
            client_silence_ms: Some(181.0),
            deviation_m: Some(deviation),
            cross_track_m: Some(0.1),
            undisturbed_deviation_m: Some(0.15),
        };
        UavFlight {
            by_hand: false,
            handovers: vec![handover(1, Outcome::Done, 0.2), handover(2, Outcome::Done, 0.3)],
            reported: 100,
            answered: 99,
            lost: 0,
            out_of_order: 0,
            connections_lost: 0,
            offboard_losses: 0,
            recorder_intact_bytes: Some(RECORDER),
            behind_ms: 5.0,
        }
    }

    #[test]
    fn a_flight_is_clean_only_where_nothing_is_lost_and_every_handover_moved_it() {
        assert!(flight().clean());
        assert!(!UavFlight { lost: 1, ..flight() }.clean());
        assert!(!UavFlight { out_of_order: 1, ..flight() }.clean());
        assert!(!UavFlight { connections_lost: 1, ..flight() }.clean());
        assert!(!UavFlight { recorder_intact_bytes: Some(RECORDER - 64), ..flight() }.clean());
        assert!(!UavFlight { recorder_intact_bytes: None, ..flight() }.clean());
        let mut failed = flight();
        failed.handovers[1].outcome = Outcome::RolledBack;
        failed.handovers[1].deviation_m = Some(9.0);
        assert!(!failed.clean());
        assert_eq!(failed.greatest(|handover| handover.deviation_m), Some(0.2), "of those that moved it");
    }
}
