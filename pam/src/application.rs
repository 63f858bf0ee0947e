//! Targets in the application's own unit (TNSM 2024, eqs 29–34): metres of deviation, lost frames, availability, each to a
//! downtime and back.

use crate::input_error::{InputError, not_negative, positive};
use crate::units::{FramesPerSec, Metres, MetresPerSec, Millis};

/// A vehicle that is steered from the edge: while nobody steers, it goes on at its speed, and then it brakes.
///
/// D = v·(T_down + T_v + T_proc) + v²·m/(2·F_b).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vehicle {
    /// v.
    pub speed: MetresPerSec,
    /// T_v: until a picture of where it is has arrived.
    pub video: Millis,
    /// T_proc: until a command has been made of it.
    pub processing: Millis,
    /// m (kg).
    pub mass: f64,
    /// F_b (N).
    pub braking_force: f64,
}

impl Vehicle {
    /// What is slower stands still, as far as a satellite receiver can tell.
    pub const LEAST_SPEED: MetresPerSec = MetresPerSec(0.5);

    /// The published unmanned aerial vehicle: T_v 30 ms, T_proc 10 ms, 3 kg, braked with 5 N.
    #[must_use]
    pub const fn uav(speed: MetresPerSec) -> Self {
        Self { speed, video: Millis(30.0), processing: Millis(10.0), mass: 3.0, braking_force: 5.0 }
    }

    /// A vehicle that goes on as it was told last, and neither waits for a picture nor brakes: D = v·T_down.
    #[must_use]
    pub const fn going_on(speed: MetresPerSec) -> Self {
        Self { speed, video: Millis(0.0), processing: Millis(0.0), mass: 0.0, braking_force: 5.0 }
    }

    /// The same vehicle at the speed that it tells of itself, if it moves; in tenths of m/s, so that what is made of it keeps still.
    #[must_use]
    pub fn at(self, told: Option<MetresPerSec>) -> Self {
        let moving = told.filter(|told| told.0.is_finite() && told.0 >= Self::LEAST_SPEED.0);
        moving.map_or(self, |told| Self { speed: MetresPerSec((told.0 * 10.0).round() / 10.0), ..self })
    }

    fn check(&self) -> Result<(), InputError> {
        positive("speed in m/s", self.speed.0)?;
        not_negative("video delay in ms", self.video.0)?;
        not_negative("processing time in ms", self.processing.0)?;
        not_negative("mass in kg", self.mass)?;
        positive("braking force in N", self.braking_force).map(|_| ())
    }

    /// D after a downtime.
    ///
    /// # Errors
    ///
    /// [`InputError`] where a figure of the vehicle or the downtime is negative or not finite.
    pub fn deviation(&self, downtime: Millis) -> Result<Metres, InputError> {
        self.check()?;
        let blind = not_negative("downtime in ms", downtime.0)? + self.video.0 + self.processing.0;
        let speed = self.speed.0;
        Ok(Metres(speed * blind / 1e3 + speed * speed * self.mass / (2.0 * self.braking_force)))
    }

    /// The longest downtime that keeps the vehicle within `deviation` (D*) of its path.
    ///
    /// # Errors
    ///
    /// [`InputError::InfeasibleDeviation`] with the least feasible D, where not even a downtime of zero does.
    pub fn downtime_for(&self, deviation: Metres) -> Result<Millis, InputError> {
        let least = self.deviation(Millis(0.0))?;
        let demanded = Metres(positive("deviation in m", deviation.0)?);
        if demanded <= least {
            return Err(InputError::InfeasibleDeviation { demanded, least });
        }
        Ok(Millis((demanded.0 - least.0) / self.speed.0 * 1e3))
    }
}

/// Frames that tracking loses in a downtime: inference rate × T_down.
///
/// # Errors
///
/// [`InputError`] where a figure is negative or not finite, or the rate zero.
pub fn lost_frames(rate: FramesPerSec, downtime: Millis) -> Result<f64, InputError> {
    let rate = positive("inference rate in frames/s", rate.0)?;
    Ok(rate * not_negative("downtime in ms", downtime.0)? / 1e3)
}

/// The longest downtime in which no more than `frames` are lost.
///
/// # Errors
///
/// [`InputError::NotPositive`] where a figure is not a finite number above zero: no handover loses nothing at all.
pub fn downtime_for_frames(rate: FramesPerSec, frames: f64) -> Result<Millis, InputError> {
    let rate = positive("inference rate in frames/s", rate.0)?;
    Ok(Millis(positive("number of frames that may be lost", frames)? / rate * 1e3))
}

/// How often a service is handed over, and over which time its availability is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Handovers {
    /// n.
    pub count: u32,
    /// W.
    pub window: Millis,
}

impl Handovers {
    fn check(&self) -> Result<(), InputError> {
        positive("window in ms", self.window.0)?;
        if self.count == 0 { Err(InputError::NoHandover) } else { Ok(()) }
    }

    /// The share of the window for which the service answers, where every handover takes `downtime`.
    ///
    /// # Errors
    ///
    /// [`InputError`] where a figure is zero, negative or not finite; a downtime may be zero.
    pub fn availability(&self, downtime: Millis) -> Result<f64, InputError> {
        self.check()?;
        let down = not_negative("downtime in ms", downtime.0)? * f64::from(self.count);
        Ok((1.0 - down / self.window.0).max(0.0))
    }

    /// The longest downtime with which the service is available for a share a: (1 − a)·W/n.
    ///
    /// # Errors
    ///
    /// [`InputError::NoAvailability`] outside [0, 1).
    pub fn downtime_for(&self, availability: f64) -> Result<Millis, InputError> {
        self.check()?;
        if !(0.0..1.0).contains(&availability) {
            return Err(InputError::NoAvailability { value: availability });
        }
        Ok(Millis((1.0 - availability) * self.window.0 / f64::from(self.count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_vehicle_goes_on_and_then_brakes() {
        let uav = Vehicle::uav(MetresPerSec(5.0));
        // 5 m/s · (1000 + 30 + 10) ms + 25 · 3/10 m.
        assert!((uav.deviation(Millis(1000.0)).unwrap().0 - 12.7).abs() < 1e-12);
        let error = uav.downtime_for(Metres(7.0)).unwrap_err().to_string();
        assert!(error.ends_with("the least feasible deviation is 7.70 m"), "{error}");
        assert!(Vehicle::uav(MetresPerSec(0.0)).downtime_for(Metres(1.0)).is_err());
    }

    #[test]
    fn metres_are_of_the_speed_that_the_vehicle_tells_while_it_moves() {
        let uav = Vehicle::going_on(MetresPerSec(5.0));
        assert_eq!(uav.downtime_for(Metres(0.5)), Ok(Millis(100.0)));
        assert_eq!(uav.at(Some(MetresPerSec(9.97))).downtime_for(Metres(0.5)), Ok(Millis(50.0)));
        for told in [None, Some(0.0), Some(0.3), Some(f64::NAN)] {
            assert_eq!(uav.at(told.map(MetresPerSec)), uav, "{told:?}");
        }
    }

    #[test]
    fn frames_and_availability_have_their_limits() {
        assert_eq!(lost_frames(FramesPerSec(30.0), Millis(500.0)), Ok(15.0));
        assert_eq!(downtime_for_frames(FramesPerSec(30.0), 15.0), Ok(Millis(500.0)));
        assert!(downtime_for_frames(FramesPerSec(30.0), 0.0).is_err());
        let hourly = Handovers { count: 4, window: Millis(3.6e6) };
        assert!((hourly.downtime_for(0.999).unwrap().0 - 900.0).abs() < 1e-6);
        for share in [1.0, 1.5, -0.1, f64::NAN] {
            assert!(hourly.downtime_for(share).is_err(), "{share}");
        }
        assert_eq!(Handovers { count: 0, ..hourly }.availability(Millis(1.0)), Err(InputError::NoHandover));
        assert_eq!(hourly.availability(Millis(1e9)), Ok(0.0));
    }

    #[test]
    fn lengths_and_speeds_are_read() {
        assert_eq!("2.5m".parse(), Ok(Metres(2.5)));
        assert_eq!("18 km/h".parse(), Ok(MetresPerSec(5.0)));
        assert!("5".parse::<Metres>().is_err());
        assert!("-5m/s".parse::<MetresPerSec>().is_err());
    }

    proptest! {
        #[test]
        fn every_mapping_leads_there_and_back(downtime in 1.0..1e5_f64, speed in 0.1..50.0_f64, rate in 1.0..240.0_f64) {
            let near = |a: Millis| (a.0 - downtime).abs() < 1e-6 * downtime;
            let uav = Vehicle::uav(MetresPerSec(speed));
            prop_assert!(near(uav.downtime_for(uav.deviation(Millis(downtime)).unwrap()).unwrap()));
            let frames = lost_frames(FramesPerSec(rate), Millis(downtime)).unwrap();
            prop_assert!(near(downtime_for_frames(FramesPerSec(rate), frames).unwrap()));
            let day = Handovers { count: 10, window: Millis(8.64e7) };
            prop_assert!(near(day.downtime_for(day.availability(Millis(downtime)).unwrap()).unwrap()));
        }
    }
}
