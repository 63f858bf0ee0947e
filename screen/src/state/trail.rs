//! Where a host has been lately, and how far it was off its course there: bounded.

use std::collections::VecDeque;
use std::f64::consts::{PI, TAU};

use mose_pam::Millis;
use mose_protocol::Timestamp;
use mose_protocol::agent::Position;
use mose_protocol::flight::FlightError;

/// How many points are kept.
const KEPT: usize = 600;
/// Points are this far apart in time at least: a host that tells of itself often has no shorter trail.
const APART: Millis = Millis(200.0);
/// A turn by so much closes a lap; a little less than the whole, so that the end is told from the beginning.
const LAP: f64 = TAU * 0.97;
/// A deviation below this is none that anybody would see, in metres.
const SEEN: f64 = 0.3;
/// How many times the usual deviation is clearly above it.
const ABOVE: f64 = 3.0;

/// A place where a host was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When it was heard, on the console's clock.
    pub at: Timestamp,
    /// Metres to the east.
    pub x: f64,
    /// Metres to the north.
    pub y: f64,
    /// How far from where it should have been, in metres; the most since the point before.
    pub off: Option<f64>,
}

/// A stretch of a trail where the host was clearly off its course.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kink {
    /// The place of its first point in the lap.
    pub from: usize,
    /// The place of its last.
    pub to: usize,
    /// The place where it was the furthest off.
    pub worst: usize,
    /// By how many metres.
    pub metres: f64,
}

/// Where a host has been lately.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trail {
    points: VecDeque<Point>,
}

impl Trail {
    /// Adds a place. One that is told soon after the one before replaces it, and keeps the greater deviation.
    pub(super) fn push(&mut self, at: Timestamp, place: Position, flight: Option<FlightError>) {
        let (x, y) = (place.x.0, place.y.0);
        if !x.is_finite() || !y.is_finite() {
            return;
        }
        let off = flight.map(|flight| flight.deviation_m.0).filter(|off| off.is_finite());
        let mut point = Point { at, x, y, off };
        let before = self.points.len().checked_sub(2).map(|place| self.points[place].at);
        let replaces = |last: &Point| at <= last.at || before.is_some_and(|before| at.since(before) < APART);
        if let Some(last) = self.points.back().copied().filter(replaces) {
            self.points.pop_back();
            point.off = match (last.off, off) {
                (Some(one), Some(other)) => Some(one.max(other)),
                (one, other) => one.or(other),
            };
        }
        self.points.push_back(point);
        if self.points.len() > KEPT {
            self.points.pop_front();
        }
    }

    /// The last lap, oldest first; all that is kept of a host that does not go round.
    #[must_use]
    pub fn lap(&self) -> Vec<Point> {
        let (mut lap, mut turned, mut before) = (Vec::new(), 0.0_f64, None);
        for (place, point) in self.points.iter().enumerate().rev() {
            lap.push(*point);
            let Some(earlier) = place.checked_sub(1).map(|place| self.points[place]) else { break };
            let (dx, dy) = (point.x - earlier.x, point.y - earlier.y);
            if dx.hypot(dy) < 1e-6 {
                continue;
            }
            let way = dy.atan2(dx);
            if let Some(before) = before.replace(way) {
                let turn: f64 = before - way;
                turned += (turn + PI).rem_euclid(TAU) - PI;
            }
            if turned.abs() >= LAP {
                break;
            }
        }
        lap.reverse();
        lap
    }
}

/// The stretches of a lap where the host was clearly further off its course than usual.
#[must_use]
pub fn kinks(lap: &[Point]) -> Vec<Kink> {
    let mut told: Vec<f64> = lap.iter().filter_map(|point| point.off).collect();
    told.sort_by(f64::total_cmp);
    let Some(usual) = told.get(told.len() / 2).copied() else { return Vec::new() };
    let mut kinks: Vec<Kink> = Vec::new();
    for (place, point) in lap.iter().enumerate() {
        let Some(off) = point.off.filter(|off| *off > SEEN && *off > usual * ABOVE) else { continue };
        match kinks.last_mut().filter(|kink| kink.to + 1 == place) {
            Some(kink) => {
                kink.to = place;
                if off > kink.metres {
                    (kink.worst, kink.metres) = (place, off);
                }
            }
            None => kinks.push(Kink { from: place, to: place, worst: place, metres: off }),
        }
    }
    kinks
}

#[cfg(test)]
mod tests {
    use mose_pam::Metres;

    use super::*;

    fn place(x: f64, y: f64) -> Position {
        Position { x: Metres(x), y: Metres(y), ..Position::default() }
    }

    fn off(metres: f64) -> Option<FlightError> {
        Some(FlightError { deviation_m: Metres(metres), cross_track_m: Some(Metres(0.0)) })
    }

    /// So many points of a circle, a second apart, 36 of them a lap.
    fn circling(points: u64) -> Trail {
        let mut trail = Trail::default();
        for n in 0..points {
            let angle = n as f64 / 36.0 * TAU;
            trail.push(Timestamp(n * 1_000_000), place(100.0 * angle.sin(), 100.0 * angle.cos()), None);
        }
        trail
    }

    #[test]
    fn a_trail_is_bounded_however_often_a_host_tells_of_itself() {
        let mut trail = Trail::default();
        for n in 0..50_000_u64 {
            trail.push(Timestamp(n * 10_000), place(n as f64, 0.0), off(if n == 49_999 { 2.0 } else { 0.1 }));
        }
        assert_eq!(trail.points.len(), KEPT);
        let spaced = trail.points.iter().zip(trail.points.iter().skip(2));
        assert!(spaced.into_iter().all(|(one, next)| next.at.since(one.at) >= APART));
        let newest = trail.points.back().unwrap();
        assert_eq!((newest.x, newest.off), (49_999.0, Some(2.0)));
        trail.push(Timestamp(u64::MAX), place(f64::NAN, 0.0), None);
        assert_eq!(trail.points.len(), KEPT, "a place that is none is left out");
    }

    #[test]
    fn the_last_lap_is_shown_and_of_a_shorter_flight_all() {
        assert_eq!(circling(20).lap().len(), 20);
        let lap = circling(200).lap();
        assert!((35..=38).contains(&lap.len()), "{}", lap.len());
        assert_eq!(lap.last().unwrap().at, Timestamp(199 * 1_000_000));
        let mut straight = Trail::default();
        (0..100_u64).for_each(|n| straight.push(Timestamp(n * 1_000_000), place(n as f64, 0.0), None));
        assert_eq!(straight.lap().len(), 100);
    }

    #[test]
    fn a_kink_is_where_it_was_clearly_further_off_than_usual() {
        let point = |off| Point { at: Timestamp(0), x: 0.0, y: 0.0, off };
        let lap = |offs: &[f64]| offs.iter().map(|off| point(Some(*off))).collect::<Vec<_>>();
        let found = kinks(&lap(&[0.1, 0.1, 0.1, 0.35, 0.42, 0.31, 0.1, 0.1, 0.9, 0.1]));
        let told: Vec<_> = found.iter().map(|kink| (kink.from, kink.to, kink.worst, kink.metres)).collect();
        assert_eq!(told, [(3, 5, 4, 0.42), (8, 8, 8, 0.9)]);
        assert_eq!(kinks(&lap(&[0.01, 0.01, 0.01, 0.2])), [], "nobody would see that");
        assert_eq!(kinks(&lap(&[0.4, 0.4, 0.4, 0.9])), [], "that is how it flies");
        assert_eq!(kinks(&[point(None), point(None)]), []);
    }

    #[test]
    fn between_two_points_the_greater_deviation_is_kept() {
        let mut trail = Trail::default();
        for (ms, metres) in [(0, 0.1), (1000, 0.1), (1050, 0.8), (1100, 0.2)] {
            trail.push(Timestamp(ms * 1000), place(ms as f64, 0.0), off(metres));
        }
        let told: Vec<_> = trail.lap().iter().map(|point| (point.at.0 / 1000, point.off)).collect();
        assert_eq!(told, [(0, Some(0.1)), (1000, Some(0.1)), (1100, Some(0.8))]);
    }
}
