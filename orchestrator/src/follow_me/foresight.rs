//! Where a vehicle will be, and when another station is the nearest. Pure.

use mose_protocol::HostName;
use mose_protocol::agent::Position;

/// A station is not left for another one that is hardly nearer.
const NEARER: f64 = 0.97;
/// How far is looked ahead, and in which steps, in seconds.
pub(super) const AHEAD_S: f64 = 60.0;
const STEP_S: f64 = 0.25;
/// To what it is found, in seconds.
const EXACT_S: f64 = 0.01;
/// What turns less flies straight, in radians per second; what is slower, in m/s, stands still.
const STRAIGHT: f64 = 1e-4;
const STILL: f64 = 0.1;

/// Where a vehicle is, and how it moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Motion {
    pub(super) place: Position,
    /// How fast its heading turns, clockwise, in radians per second.
    pub(super) turn: f64,
}

impl Motion {
    /// Metres to the east and to the north of the origin, after so many seconds of the same speed and turn.
    pub(super) fn after(&self, seconds: f64) -> (f64, f64) {
        let Position { x, y, heading, speed } = self.place;
        let (begin, end) = (heading.0.to_radians(), heading.0.to_radians() + self.turn * seconds);
        if self.turn.abs() < STRAIGHT {
            let way = speed.0 * seconds;
            return (x.0 + way * begin.sin(), y.0 + way * begin.cos());
        }
        let radius = speed.0 / self.turn;
        (x.0 + radius * (begin.cos() - end.cos()), y.0 + radius * (end.sin() - begin.sin()))
    }
}

/// A host that services run on, and where it is.
pub(super) type Station<'a> = (&'a HostName, Position);

/// The station that is nearer than `here` by enough to move there, with both distances.
pub(super) fn nearer<'a>(
    (x, y): (f64, f64),
    here: &HostName,
    stations: &[Station<'a>],
) -> Option<(&'a HostName, f64, f64)> {
    let distance = |place: &Position| (place.x.0 - x).hypot(place.y.0 - y);
    let own = stations.iter().find(|(host, _)| *host == here).map(|(_, place)| distance(place))?;
    let (nearest, away) = stations
        .iter()
        .map(|(host, place)| (*host, distance(place)))
        .min_by(|one, other| one.1.total_cmp(&other.1))?;
    (nearest != here && away < own * NEARER).then_some((nearest, away, own))
}

/// The station that a service at `here` will have to go to next, and in how many seconds; `None` where that is not to be foreseen.
pub(super) fn next<'a>(
    motion: &Motion,
    here: &HostName,
    stations: &[Station<'a>],
) -> Option<(&'a HostName, f64)> {
    let at = |seconds: f64| nearer(motion.after(seconds), here, stations).map(|(host, ..)| host);
    if let Some(host) = at(0.0) {
        return Some((host, 0.0));
    }
    let moves = motion.place.speed.0 >= STILL;
    if !moves {
        return None;
    }
    let steps = (AHEAD_S / STEP_S) as u32;
    let (mut late, mut to) =
        (1..=steps).map(|step| f64::from(step) * STEP_S).find_map(|late| Some((late, at(late)?)))?;
    let mut early = late - STEP_S;
    while late - early > EXACT_S {
        let middle = f64::midpoint(early, late);
        match at(middle) {
            Some(host) => (late, to) = (middle, host),
            None => early = middle,
        }
    }
    Some((to, late))
}

#[cfg(test)]
mod tests {
    use mose_pam::{Metres, MetresPerSec};
    use mose_protocol::agent::Heading;

    use super::*;

    fn motion(x: f64, y: f64, heading: f64, speed: f64, turn: f64) -> Motion {
        let place =
            Position { x: Metres(x), y: Metres(y), heading: Heading(heading), speed: MetresPerSec(speed) };
        Motion { place, turn }
    }

    fn foreseen(motion: &Motion) -> Option<(String, f64)> {
        let (a, b): (HostName, HostName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let at = |x| Position { x: Metres(x), ..Position::default() };
        next(motion, &a, &[(&a, at(-100.0)), (&b, at(100.0))]).map(|(host, late)| (host.to_string(), late))
    }

    #[test]
    fn a_straight_flight_crosses_the_middle_when_it_must() {
        // What is nearer by 3 % is past the middle by 1.52 m.
        let (to, late) = foreseen(&motion(-48.5, 0.0, 90.0, 10.0, 0.0)).unwrap();
        assert_eq!(to, "b");
        assert!((late - 5.0).abs() < 0.02 + 0.01 && late > 4.99, "{late}");
        assert_eq!(foreseen(&motion(-48.5, 0.0, 270.0, 10.0, 0.0)), None, "it flies away");
        assert_eq!(foreseen(&motion(-48.5, 0.0, 90.0, 0.0, 0.0)), None, "it hovers");
        assert_eq!(foreseen(&motion(-48.5, 0.0, 90.0, 0.5, 0.0)), None, "later than is looked ahead");
        assert_eq!(foreseen(&motion(20.0, 0.0, 270.0, 10.0, 0.0)), Some(("b".to_owned(), 0.0)), "it is due");
    }

    #[test]
    fn a_turn_is_flown_on_and_comes_back_where_it_began() {
        // Clockwise round the origin, 50 m away, from the west to the north: a quarter of 2 pi 50 m at 5 m/s.
        let turn = 5.0 / 50.0;
        let circle = motion(-50.0, 0.0, 0.0, 5.0, turn);
        let (x, y) = circle.after(std::f64::consts::TAU / turn);
        assert!((x + 50.0).abs() < 1e-6 && y.abs() < 1e-6, "{x} {y}");
        let (to, late) = foreseen(&circle).unwrap();
        let quarter = std::f64::consts::FRAC_PI_2 / turn;
        assert!(to == "b" && late > quarter && late < quarter + 0.6, "{late} after {quarter}");
        // Turning the other way round, on a circle that never leaves its half.
        assert_eq!(foreseen(&motion(-60.0, 0.0, 0.0, 5.0, -0.1)), None);
    }
}
