//! The circle that the vehicle is to fly, as in the paper's use case (arXiv 2506.09159, section VI-A: 100 m across, at most 5 m/s).

use crate::ned::Ned;

/// A circle that is flown at an even speed. It begins at the origin, to the north, and turns to the east.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orbit {
    /// Its radius, in metres.
    pub radius_m: f64,
    /// The speed along it, in metres per second.
    pub speed_m_s: f64,
    /// The height above the ground, in metres.
    pub height_m: f64,
}

/// The paper's.
pub const PAPER: Orbit = Orbit { radius_m: 50.0, speed_m_s: 5.0, height_m: 20.0 };

/// How fast a distance is made good, per second: PX4's `MPC_XY_P` and `MPC_Z_P`.
const GAIN: f64 = 0.95;

impl Orbit {
    /// Where the vehicle ought to be after so many seconds, and its velocity there.
    #[must_use]
    pub fn at(&self, seconds: f64) -> (Ned, Ned) {
        let (sin, cos) = (self.speed_m_s * seconds / self.radius_m).sin_cos();
        let place = Ned::new(self.radius_m * sin, self.radius_m * (1.0 - cos), -self.height_m);
        (place, Ned::new(self.speed_m_s * cos, self.speed_m_s * sin, 0.0))
    }

    /// How far a place is from where the vehicle ought to be after so many seconds, on the ground plane, in metres.
    #[must_use]
    pub fn deviation(&self, place: Ned, seconds: f64) -> f64 {
        (place - self.at(seconds).0).horizontal()
    }

    /// How far a place is from the nearest point of the circle, on the ground plane, in metres.
    #[must_use]
    pub fn cross_track(&self, place: Ned) -> f64 {
        ((place - Ned::new(0.0, self.radius_m, 0.0)).horizontal() - self.radius_m).abs()
    }

    /// The velocity that leads from a place to where the vehicle ought to be after so many seconds: never faster than the orbit.
    #[must_use]
    pub fn guide(&self, place: Ned, seconds: f64) -> Ned {
        let (wanted, along) = self.at(seconds);
        (along + (wanted - place) * GAIN).horizontally_within(self.speed_m_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_the_origin_to_the_north_and_turns_to_the_east() {
        let (place, velocity) = PAPER.at(0.0);
        assert_eq!((place, velocity), (Ned::new(0.0, 0.0, -20.0), Ned::new(5.0, 0.0, 0.0)));
        // A quarter of 2 pi 50 m at 5 m/s.
        let (place, velocity) = PAPER.at(std::f64::consts::PI * 5.0);
        assert!((place - Ned::new(50.0, 50.0, -20.0)).horizontal() < 1e-9, "{place:?}");
        assert!((velocity - Ned::new(0.0, 5.0, 0.0)).horizontal() < 1e-9, "{velocity:?}");
    }

    #[test]
    fn who_lags_on_the_circle_deviates_and_is_on_track() {
        let late = PAPER.at(9.0).0;
        assert!((PAPER.deviation(late, 10.0) - 4.998).abs() < 1e-3);
        assert!(PAPER.cross_track(late) < 1e-9);
        let outside = Ned::new(0.0, -3.0, -20.0);
        assert!((PAPER.cross_track(outside) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn guidance_leads_back_and_is_no_faster_than_the_orbit() {
        let far = PAPER.guide(Ned::new(-100.0, 0.0, -20.0), 0.0);
        assert!((far.horizontal() - 5.0).abs() < 1e-9 && far.north > 4.9, "{far:?}");
        let low = PAPER.guide(Ned::new(0.0, 0.0, -10.0), 0.0);
        assert!((low.down - -9.5).abs() < 1e-9, "{low:?}");
        // A vehicle that does as it is told stays on the orbit.
        let (mut place, dt) = (PAPER.at(0.0).0, 0.02);
        let mut worst = 0.0_f64;
        for step in 0..5000 {
            let seconds = f64::from(step) * dt;
            place = place + PAPER.guide(place, seconds) * dt;
            worst = worst.max(PAPER.deviation(place, seconds + dt));
        }
        assert!(worst < 0.1, "{worst} m");
    }
}
