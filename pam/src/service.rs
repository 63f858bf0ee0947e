//! What the model is asked about: a service's state and how fast it changes, and what may be demanded of its migration.

use serde::{Deserialize, Serialize};

use crate::files::FileCosts;
use crate::input_error::{InputError, not_negative, positive};
use crate::units::{BitsPerSec, Bytes, Millis, PagesPerSec};

/// r: where a dirty-page rate lies between R_min (0) and R_max (1).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NormalizedRate(f64);

impl NormalizedRate {
    /// Nothing is dirtied.
    pub const LEAST: Self = Self(0.0);
    /// Everything is dirtied; what a cold migration moves.
    pub const GREATEST: Self = Self(1.0);

    /// A normalised rate.
    ///
    /// # Errors
    ///
    /// [`InputError::NotNormalized`] outside [0, 1].
    pub fn new(value: f64) -> Result<Self, InputError> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(InputError::NotNormalized { value }) }
    }

    /// A normalised rate, from a number that rounding may have moved past an end.
    pub(crate) const fn clamped(value: f64) -> Self {
        Self(value.clamp(0.0, 1.0))
    }

    /// r = (R̂ − R_min) / (R_max − R_min), clamped to [0, 1], where R_min is one page and R_max all `pages` within
    /// `interval` (ΔT). A state of one page is either untouched or dirty as a whole.
    #[must_use]
    pub(crate) fn of(rate: PagesPerSec, pages: f64, interval: Millis) -> Self {
        let within = rate.0 * interval.0 / 1e3;
        if within >= pages {
            Self::GREATEST
        } else if within <= 1.0 {
            Self::LEAST
        } else {
            Self(((within - 1.0) / (pages - 1.0)).clamp(0.0, 1.0))
        }
    }

    /// The rate R that this is, for a state of `pages`.
    #[must_use]
    pub(crate) fn rate(self, pages: f64, interval: Millis) -> PagesPerSec {
        PagesPerSec((1.0 + self.0 * (pages - 1.0)) * 1e3 / interval.0)
    }

    /// Its value in [0, 1].
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// How fast a service dirties its memory, at worst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DirtyRate {
    /// R̂, in pages per second.
    Measured(PagesPerSec),
    /// r, where R_min and R_max are those of the service.
    Normalized(NormalizedRate),
}

/// What is to be moved. Its figures are finite and possible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    pub(crate) memory: f64,
    pub(crate) dirty_rate: DirtyRate,
    pub(crate) interval: Millis,
    pub(crate) working_set: Option<f64>,
    pub(crate) files: FileCosts,
}

impl Service {
    /// A service with a state of `memory` (M), dirtied at `dirty_rate`, as observed over windows of `interval` (ΔT).
    ///
    /// # Errors
    ///
    /// [`InputError`] where a figure is zero, negative or no finite number; a rate may be zero.
    pub fn new(memory: Bytes, dirty_rate: DirtyRate, interval: Millis) -> Result<Self, InputError> {
        let memory = positive("state size in bytes", memory.0 as f64)?;
        positive("observation interval ΔT in ms", interval.0)?;
        if let DirtyRate::Measured(rate) = dirty_rate {
            not_negative("dirty-page rate in pages/s", rate.0)?;
        }
        Ok(Self { memory, dirty_rate, interval, working_set: None, files: FileCosts::default() })
    }

    /// The same with a writable working set: the most that is ever dirty at once.
    ///
    /// # Errors
    ///
    /// [`InputError::NotPositive`] where it is zero.
    pub fn with_working_set(self, working_set: Bytes) -> Result<Self, InputError> {
        Ok(Self {
            working_set: Some(positive("writable working set in bytes", working_set.0 as f64)?),
            ..self
        })
    }

    /// The same with files of `size` that move with it, to which it writes `written_per_s` bytes a second at worst.
    #[must_use]
    pub fn with_files(self, size: Bytes, written_per_s: Bytes) -> Self {
        Self { files: FileCosts::new(size, written_per_s, self.interval), ..self }
    }

    /// M.
    #[must_use]
    pub const fn memory(&self) -> Bytes {
        Bytes(self.memory as u64)
    }
}

/// What is demanded of a migration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Targets {
    pub(crate) downtime: Millis,
    pub(crate) duration: Millis,
}

impl Targets {
    /// θ_down and θ_mig.
    ///
    /// # Errors
    ///
    /// [`InputError::NotPositive`] where one is zero, negative or no finite number; [`InputError::Contradiction`] where
    /// the downtime is longer than the migration that it is part of.
    pub fn new(downtime: Millis, duration: Millis) -> Result<Self, InputError> {
        positive("target downtime in ms", downtime.0)?;
        positive("target duration in ms", duration.0)?;
        if downtime > duration {
            return Err(InputError::Contradiction { downtime, duration });
        }
        Ok(Self { downtime, duration })
    }

    /// θ_down.
    #[must_use]
    pub const fn downtime(&self) -> Millis {
        self.downtime
    }

    /// θ_mig.
    #[must_use]
    pub const fn duration(&self) -> Millis {
        self.duration
    }
}

/// A bandwidth that can carry something.
pub(crate) fn available(bandwidth: BitsPerSec) -> Result<BitsPerSec, InputError> {
    positive("bandwidth in bit/s", bandwidth.0 as f64).map(|_| bandwidth)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Millis = Millis(1000.0);

    #[test]
    fn a_rate_is_normalised_between_one_page_and_all_within_the_interval() {
        let of = |rate| NormalizedRate::of(PagesPerSec(rate), 2442.0, SECOND).get();
        assert_eq!(of(0.0), 0.0);
        assert_eq!(of(1.0), 0.0);
        assert_eq!(of(2442.0), 1.0);
        assert_eq!(of(1e9), 1.0);
        assert!((of(300.0) - 299.0 / 2441.0).abs() < 1e-12);
        let back = NormalizedRate(299.0 / 2441.0).rate(2442.0, SECOND);
        assert!((back.0 - 300.0).abs() < 1e-9);
        // Twice the interval sees twice the pages.
        assert_eq!(NormalizedRate::of(PagesPerSec(1221.0), 2442.0, Millis(2000.0)).get(), 1.0);
    }

    #[test]
    fn one_page_is_clean_or_dirty() {
        assert_eq!(NormalizedRate::of(PagesPerSec(0.5), 1.0, SECOND).get(), 0.0);
        assert_eq!(NormalizedRate::of(PagesPerSec(1.0), 1.0, SECOND).get(), 1.0);
    }

    #[test]
    fn impossible_figures_are_refused_with_their_name() {
        let rate = DirtyRate::Measured(PagesPerSec(1.0));
        let text = |result: Result<Service, InputError>| result.unwrap_err().to_string();
        assert!(text(Service::new(Bytes(0), rate, SECOND)).starts_with("the state size in bytes is 0"));
        assert!(text(Service::new(Bytes(1), rate, Millis(0.0))).contains("ΔT"));
        for value in [-1.0, f64::NAN, f64::INFINITY] {
            let rate = DirtyRate::Measured(PagesPerSec(value));
            assert!(text(Service::new(Bytes(1), rate, SECOND)).contains("dirty-page rate"));
            assert!(NormalizedRate::new(value).is_err());
            assert!(Targets::new(Millis(value), SECOND).is_err());
            assert!(Targets::new(SECOND, Millis(value)).is_err());
        }
        let contradiction = Targets::new(Millis(2000.0), SECOND).unwrap_err().to_string();
        assert!(contradiction.contains("2000 ms does not fit into a duration of 1000 ms"), "{contradiction}");
    }
}
