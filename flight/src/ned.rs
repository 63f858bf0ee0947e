//! Places and velocities in the vehicle's local frame.

use std::ops::{Add, Mul, Sub};

/// North, east and down of the place where the vehicle started (`MAV_FRAME_LOCAL_NED`), in metres; as a velocity in metres per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ned {
    /// To the north.
    pub north: f64,
    /// To the east.
    pub east: f64,
    /// Down: a vehicle in the air has a negative one.
    pub down: f64,
}

impl Ned {
    /// Of its three parts.
    #[must_use]
    pub const fn new(north: f64, east: f64, down: f64) -> Self {
        Self { north, east, down }
    }

    /// Its length on the ground plane.
    #[must_use]
    pub fn horizontal(self) -> f64 {
        self.north.hypot(self.east)
    }

    /// The same direction on the ground plane, no longer than `limit`; *down* stays.
    #[must_use]
    pub fn horizontally_within(self, limit: f64) -> Self {
        let length = self.horizontal();
        if length <= limit {
            return self;
        }
        let factor = limit / length;
        Self { north: self.north * factor, east: self.east * factor, down: self.down }
    }

    /// Whether all of it are numbers: a peer may send what is none.
    #[must_use]
    pub fn is_finite(self) -> bool {
        self.north.is_finite() && self.east.is_finite() && self.down.is_finite()
    }
}

impl Add for Ned {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self::new(self.north + other.north, self.east + other.east, self.down + other.down)
    }
}

impl Sub for Ned {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self::new(self.north - other.north, self.east - other.east, self.down - other.down)
    }
}

impl Mul<f64> for Ned {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self::new(self.north * factor, self.east * factor, self.down * factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_shortens_what_is_longer_and_leaves_down_alone() {
        let limited = Ned::new(30.0, 40.0, -7.0).horizontally_within(5.0);
        assert!((limited.north - 3.0).abs() < 1e-12 && (limited.east - 4.0).abs() < 1e-12, "{limited:?}");
        assert_eq!(limited.down, -7.0);
        let short = Ned::new(1.0, 1.0, 0.0);
        assert_eq!(short.horizontally_within(5.0), short);
        assert_eq!(Ned::default().horizontally_within(0.0), Ned::default());
    }
}
