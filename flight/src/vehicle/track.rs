//! How far a vehicle was from where it ought to be, over time.

use std::collections::VecDeque;

/// The most that is kept: ten minutes at 50 Hz.
const KEPT: usize = 30_000;

/// How far the vehicle was from where it ought to be, at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When, in milliseconds since 1970, on the clock of the vehicle's host.
    pub at_ms: u64,
    /// From the moving reference, in metres.
    pub deviation_m: f64,
    /// From the orbit's nearest point, in metres.
    pub cross_track_m: f64,
}

/// The worst of a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worst {
    /// From the moving reference, in metres.
    pub deviation_m: f64,
    /// From the orbit's nearest point, in metres.
    pub cross_track_m: f64,
}

/// The newest samples, in their order.
#[derive(Debug, Default)]
pub struct Track(VecDeque<Sample>);

impl Track {
    /// Adds a sample, and forgets the oldest where there are too many.
    pub fn add(&mut self, sample: Sample) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The worst from one moment up to another, in milliseconds since 1970. None where nothing of that time is known.
    #[must_use]
    pub fn worst(&self, from_ms: u64, to_ms: u64) -> Option<Worst> {
        let within = self.0.iter().filter(|sample| (from_ms..to_ms).contains(&sample.at_ms));
        within
            .map(|sample| Worst { deviation_m: sample.deviation_m, cross_track_m: sample.cross_track_m })
            .reduce(|worst, one| Worst {
                deviation_m: worst.deviation_m.max(one.deviation_m),
                cross_track_m: worst.cross_track_m.max(one.cross_track_m),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_a_time_is_told_and_of_one_that_is_not_known_nothing() {
        let mut track = Track::default();
        for at_ms in 0..100 {
            let (deviation_m, cross_track_m) = (at_ms as f64, 100.0 - at_ms as f64);
            track.add(Sample { at_ms, deviation_m, cross_track_m });
        }
        assert_eq!(track.worst(10, 20), Some(Worst { deviation_m: 19.0, cross_track_m: 90.0 }));
        assert_eq!(track.worst(100, 200), None);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut track = Track::default();
        (0..KEPT as u64 + 5)
            .for_each(|at_ms| track.add(Sample { at_ms, deviation_m: 1.0, cross_track_m: 1.0 }));
        assert_eq!((track.0.len(), track.worst(0, 5)), (KEPT, None));
    }
}
