//! The links between simulated hosts, and how hosts move.

use std::f64::consts::TAU;
use std::time::Duration;

use mose_pam::{BitsPerSec, Metres, MetresPerSec, Millis};
use mose_protocol::agent::{Heading, Position};
use mose_protocol::link::{CapacityFrom, LinkMetrics, RttFrom};
use mose_protocol::{HostName, Timestamp};

/// What others use of a link: a mean, and a slow swing around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossTraffic {
    /// The mean.
    pub mean: BitsPerSec,
    /// How far it swings to both sides of the mean.
    pub swing: BitsPerSec,
    /// How long a swing takes.
    pub period: Duration,
}

/// A link between two hosts, the same in both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedLink {
    /// Its ends.
    pub between: [HostName; 2],
    /// What it carries.
    pub bandwidth: BitsPerSec,
    /// The round-trip time.
    pub rtt: Millis,
    /// What others use.
    pub cross: Option<CrossTraffic>,
}

impl SimulatedLink {
    fn used(&self, elapsed: Duration) -> BitsPerSec {
        let Some(CrossTraffic { mean, swing, period }) = self.cross else { return BitsPerSec(0) };
        let phase = elapsed.as_secs_f64() / period.as_secs_f64().max(1e-3);
        let used = mean.0 as f64 + swing.0 as f64 * (TAU * phase).sin();
        BitsPerSec((used.max(0.0) as u64).min(self.bandwidth.0))
    }

    pub(crate) fn metrics(&self, to: &HostName, elapsed: Duration, now: Timestamp) -> LinkMetrics {
        let used = self.used(elapsed);
        LinkMetrics {
            to: to.clone(),
            capacity: Some(self.bandwidth),
            capacity_from: Some(CapacityFrom::Scenario),
            capacity_at: Some(now),
            used: Some(used),
            available: Some(BitsPerSec(self.bandwidth.0 - used.0)),
            rtt: Some(self.rtt),
            rtt_jitter: None,
            rtt_from: Some(RttFrom::Scenario),
            measured_at: now,
        }
    }
}

/// How a host moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Motion {
    /// Not at all.
    Still {
        /// Metres to the east.
        x: Metres,
        /// Metres to the north.
        y: Metres,
    },
    /// Round a circle, clockwise.
    Circle {
        /// Metres to the east, of its centre.
        x: Metres,
        /// Metres to the north, of its centre.
        y: Metres,
        /// Its radius.
        radius: Metres,
        /// How fast.
        speed: MetresPerSec,
        /// Where it begins, as seen from the centre.
        start: Heading,
    },
}

impl Motion {
    /// Where it is after `elapsed`.
    #[must_use]
    pub fn at(&self, elapsed: Duration) -> Position {
        match *self {
            Self::Still { x, y } => Position { x, y, ..Position::default() },
            Self::Circle { x, y, radius, speed, start } => {
                let turned = speed.0 * elapsed.as_secs_f64() / radius.0.max(f64::MIN_POSITIVE);
                let bearing = start.0.to_radians() + turned;
                Position {
                    x: Metres(x.0 + radius.0 * bearing.sin()),
                    y: Metres(y.0 + radius.0 * bearing.cos()),
                    heading: Heading((bearing.to_degrees() + 90.0).rem_euclid(360.0)),
                    speed,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-6
    }

    #[test]
    fn a_circle_is_flown_clockwise_at_its_speed() {
        let (speed, start) = (MetresPerSec(10.0), Heading(0.0));
        let circle = Motion::Circle { x: Metres(5.0), y: Metres(0.0), radius: Metres(100.0), speed, start };
        let quarter = Duration::from_secs_f64(TAU * 100.0 / 10.0 / 4.0);
        let (north, east) = (circle.at(Duration::ZERO), circle.at(quarter));
        assert!(near(north.x.0, 5.0) && near(north.y.0, 100.0) && near(north.heading.0, 90.0), "{north:?}");
        assert!(near(east.x.0, 105.0) && east.y.0.abs() < 1e-3 && near(east.heading.0, 180.0), "{east:?}");
    }

    #[test]
    fn what_others_use_swings_and_stays_within_the_link() {
        let cross =
            CrossTraffic { mean: BitsPerSec(80), swing: BitsPerSec(50), period: Duration::from_secs(4) };
        let between = ["a".parse().unwrap(), "b".parse().unwrap()];
        let link =
            SimulatedLink { between, bandwidth: BitsPerSec(100), rtt: Millis(1.0), cross: Some(cross) };
        let used = |seconds| link.used(Duration::from_secs(seconds)).0;
        assert_eq!((used(0), used(1), used(3)), (80, 100, 30));
        let metrics = link.metrics(&link.between[1], Duration::from_secs(3), Timestamp(1));
        assert_eq!(metrics.available, Some(BitsPerSec(70)));
    }
}
