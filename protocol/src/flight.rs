//! How a vehicle flies under its autopilot: how far it is from where it ought to be, as the vehicle itself measures it.

use mose_pam::{Metres, Millis};
use serde::{Deserialize, Serialize};

use crate::{HostName, Timestamp};

/// How far a vehicle is from its reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FlightError {
    /// From where it should be at this moment, in metres.
    pub deviation_m: Metres,
    /// From the nearest point of its path, in metres; `None` where the vehicle does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cross_track_m: Option<Metres>,
}

impl FlightError {
    /// The worse of two, figure by figure.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let cross_track = [self.cross_track_m, other.cross_track_m].into_iter().flatten();
        Self {
            deviation_m: Metres(self.deviation_m.0.max(other.deviation_m.0)),
            cross_track_m: cross_track.reduce(|one, other| Metres(one.0.max(other.0))),
        }
    }
}

/// The times that a [`FlightReport`] is about, on the clock of the vehicle's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightTimes {
    /// When the migration began: what was before is undisturbed flight.
    pub begun: Timestamp,
    /// When the service was frozen.
    pub frozen: Timestamp,
    /// Until when its absence can be seen in the flight.
    pub until: Timestamp,
}

/// What a migration did to the flight of a vehicle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FlightReport {
    /// The vehicle's host.
    pub host: HostName,
    /// The worst from the freeze until it had caught up.
    pub worst: FlightError,
    /// The worst in as long a time before the migration; `None` where it was not flying yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undisturbed: Option<FlightError>,
    /// How long the time was that `worst` is of.
    pub watched_ms: Millis,
}

impl FlightReport {
    /// How far the vehicle was off its course, in words: `0.31 m (undisturbed 0.15 m)`.
    #[must_use]
    pub fn off_course(&self) -> String {
        let undisturbed = self.undisturbed.map(|before| format!(" (undisturbed {})", before.deviation_m));
        format!("{}{}", self.worst.deviation_m, undisturbed.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_of_two_errors_is_taken_figure_by_figure() {
        let error = |deviation, cross| FlightError {
            deviation_m: Metres(deviation),
            cross_track_m: Some(Metres(cross)),
        };
        assert_eq!(error(1.0, 0.2).worse(error(0.5, 0.4)), error(1.0, 0.4));
        let unknown = FlightError { cross_track_m: None, ..error(2.0, 0.0) };
        assert_eq!(unknown.worse(error(0.5, 0.4)), error(2.0, 0.4));
        assert_eq!(unknown.worse(unknown), unknown);
    }

    #[test]
    fn a_deviation_is_told_beside_that_of_undisturbed_flight_where_it_is_known() {
        let error =
            |deviation| FlightError { deviation_m: Metres(deviation), cross_track_m: Some(Metres(0.1)) };
        let report = FlightReport {
            host: "uav".parse().expect("a name"),
            worst: error(0.314),
            undisturbed: Some(error(0.15)),
            watched_ms: Millis(9000.0),
        };
        assert_eq!(report.off_course(), "0.31 m (undisturbed 0.15 m)");
        assert_eq!(FlightReport { undisturbed: None, ..report }.off_course(), "0.31 m");
    }
}
