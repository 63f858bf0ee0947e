//! One input varied over a range, the others held.

use std::str::FromStr;

use crate::axis::Axis;
use crate::input_error::{InputError, not_negative, positive};
use crate::model::Model;
use crate::request::PlanRequest;
use crate::service::{DirtyRate, NormalizedRate};
use crate::units::{BitsPerSec, Bytes, Millis, PagesPerSec, ParseUnitError};

impl Axis {
    fn read(self, text: &str) -> Result<f64, ParseSweepError> {
        Ok(match self {
            Self::TargetDowntime | Self::TargetDuration => text.parse::<Millis>()?.0,
            Self::Bandwidth => text.parse::<BitsPerSec>()?.0 as f64,
            Self::StateSize => text.parse::<Bytes>()?.0 as f64,
            Self::DirtyRate => text.parse::<PagesPerSec>()?.0,
            Self::NormalizedDirtyRate => {
                let value = text.parse().map_err(|_| ParseSweepError::Number(text.to_owned()))?;
                NormalizedRate::new(value)?.get()
            }
        })
    }

    /// A value that this axis can have.
    fn check(self, value: f64) -> Result<f64, InputError> {
        match self {
            Self::TargetDowntime => positive("target downtime in ms", value),
            Self::TargetDuration => positive("target duration in ms", value),
            // Both are whole numbers: what is below one is none.
            Self::Bandwidth => positive("bandwidth in bit/s", value.round()),
            Self::StateSize => positive("state size in bytes", value.round()),
            Self::DirtyRate => not_negative("dirty-page rate in pages/s", value),
            Self::NormalizedDirtyRate => NormalizedRate::new(value).map(NormalizedRate::get),
        }
    }
}

impl FromStr for Axis {
    type Err = ParseSweepError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|axis| axis.name() == text)
            .ok_or_else(|| ParseSweepError::Axis(text.to_owned()))
    }
}

/// How the values of a sweep follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// By the same difference.
    Linear,
    /// By the same ratio.
    Logarithmic,
}

/// Why a text is no sweep.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParseSweepError {
    /// It has another form.
    #[error("`{0}` is not a sweep such as `target-duration=0.8s..6s/50` or `bandwidth=1Mbps..10Gbps/40/log`")]
    Form(String),
    /// What is to be varied is not known.
    #[error(
        "`{0}` cannot be swept: choose target-downtime, target-duration, bandwidth, state-size, dirty-rate or \
         normalized-dirty-rate"
    )]
    Axis(String),
    /// An end that is no number.
    #[error("`{0}` is not a number")]
    Number(String),
    /// An end that is no quantity of the axis' kind.
    #[error(transparent)]
    Unit(#[from] ParseUnitError),
    /// An impossible value or range.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// One input varied from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sweep {
    axis: Axis,
    from: f64,
    to: f64,
    steps: usize,
    scale: Scale,
}

impl Sweep {
    /// As many values as a sweep may have.
    pub const MOST_STEPS: usize = 100_000;

    /// `steps` values on `axis`, both ends among them; a single one is the begin.
    ///
    /// # Errors
    ///
    /// [`InputError`] where an end is impossible, a logarithmic one zero, or there is nothing to vary.
    pub fn new(axis: Axis, from: f64, to: f64, steps: usize, scale: Scale) -> Result<Self, InputError> {
        let (from, to) = (axis.check(from)?, axis.check(to)?);
        if steps == 0 || steps > Self::MOST_STEPS || (steps > 1 && from == to) {
            return Err(InputError::EmptySweep { axis, from, to, steps, most: Self::MOST_STEPS });
        }
        if scale == Scale::Logarithmic && (from == 0.0 || to == 0.0) {
            return Err(InputError::ZeroInLogarithm { axis });
        }
        Ok(Self { axis, from, to, steps, scale })
    }

    /// What is varied.
    #[must_use]
    pub const fn axis(&self) -> Axis {
        self.axis
    }

    /// How many values there are.
    #[must_use]
    pub const fn steps(&self) -> usize {
        self.steps
    }

    /// The value at a position from 0 on, in the axis' unit.
    #[must_use]
    pub fn value(&self, position: usize) -> f64 {
        // The ends exactly as they were given.
        if position == 0 || self.steps == 1 {
            return self.from;
        }
        if position + 1 >= self.steps {
            return self.to;
        }
        let share = position as f64 / (self.steps - 1) as f64;
        match self.scale {
            Scale::Linear => self.from + share * (self.to - self.from),
            Scale::Logarithmic => self.from * (self.to / self.from).powf(share),
        }
    }

    /// Every value in turn.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.steps).map(|position| self.value(position))
    }

    /// The request with the value at a position.
    ///
    /// Targets are not held against each other here: a sweep may pass through a θ_mig shorter than θ_down, where then
    /// the one of them says nothing.
    #[must_use]
    pub fn apply(&self, request: &PlanRequest, position: usize) -> PlanRequest {
        let value = self.value(position);
        let mut request = *request;
        match self.axis {
            Axis::TargetDowntime => request.targets.downtime = Millis(value),
            Axis::TargetDuration => request.targets.duration = Millis(value),
            Axis::Bandwidth => request.bandwidth = BitsPerSec(value.round().max(1.0) as u64),
            Axis::StateSize => request.service.memory = value.round().max(1.0),
            Axis::DirtyRate => request.service.dirty_rate = DirtyRate::Measured(PagesPerSec(value)),
            Axis::NormalizedDirtyRate => {
                let rate = NormalizedRate::clamped(value);
                request.service.dirty_rate = DirtyRate::Normalized(rate);
            }
        }
        request
    }

    /// A plan for every value.
    pub fn plans<'a>(
        &'a self,
        model: &'a Model,
        request: &'a PlanRequest,
    ) -> impl Iterator<Item = (f64, crate::designer::Proposal)> + 'a {
        (0..self.steps).map(move |position| {
            (self.value(position), crate::designer::plan(model, &self.apply(request, position)))
        })
    }
}

impl FromStr for Sweep {
    type Err = ParseSweepError;

    /// Reads `target-duration=0.8s..6s/50` and `bandwidth=1Mbps..10Gbps/40/log`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ParseSweepError::Form(text.to_owned());
        let (axis, range) = text.split_once('=').ok_or_else(form)?;
        let axis: Axis = axis.trim().parse()?;
        let (range, scale) = match range.strip_suffix("/log") {
            Some(range) => (range, Scale::Logarithmic),
            None => (range.strip_suffix("/lin").unwrap_or(range), Scale::Linear),
        };
        // From the end: units such as `p/s` have a stroke of their own.
        let (range, steps) = range.rsplit_once('/').ok_or_else(form)?;
        let (from, to) = range.split_once("..").ok_or_else(form)?;
        let steps = steps.trim().parse().map_err(|_| form())?;
        Ok(Self::new(axis, axis.read(from.trim())?, axis.read(to.trim())?, steps, scale)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_read_and_has_both_ends() {
        let sweep: Sweep = "target-duration=0.8s..6s/50".parse().unwrap();
        let values: Vec<f64> = sweep.values().collect();
        assert_eq!((values.len(), values[0], values[49]), (50, 800.0, 6000.0));
        assert!((values[1] - values[0] - 5200.0 / 49.0).abs() < 1e-9);
        let sweep: Sweep = "bandwidth=1Mbps..1Gbps/4/log".parse().unwrap();
        let values: Vec<f64> = sweep.values().map(f64::round).collect();
        assert_eq!(values, [1e6, 1e7, 1e8, 1e9]);
        let sweep: Sweep = "dirty-rate=10p/s..300p/s/3".parse().unwrap();
        assert_eq!(sweep.values().collect::<Vec<_>>(), [10.0, 155.0, 300.0]);
        let single: Sweep = "state-size=10MB..10MB/1".parse().unwrap();
        assert_eq!(single.values().collect::<Vec<_>>(), [1e7]);
    }

    #[test]
    fn what_is_no_sweep_is_told_why() {
        let why = |text: &str| text.parse::<Sweep>().unwrap_err().to_string();
        assert!(why("target-duration").contains("is not a sweep such as"));
        assert!(why("target-duration=1s..2s").contains("is not a sweep such as"));
        assert!(why("target-duration=1s..2s/x").contains("is not a sweep such as"));
        assert!(why("colour=1s..2s/9").contains("`colour` cannot be swept"));
        assert!(why("target-duration=1s..2/9").contains("it has no unit"));
        assert!(why("target-duration=0s..2s/9").contains("target duration in ms is 0"));
        assert!(why("target-duration=1s..1s/9").contains("between two values"));
        assert!(why("target-duration=1s..2s/0").contains("0 steps"));
        assert!(why("target-duration=1s..2s/1000000").contains("100000 steps"));
        assert!(why("dirty-rate=0..10/5/log").contains("leave out `/log`"));
        assert!(why("normalized-dirty-rate=0..2/5").contains("between 0 (R_min) and 1"));
        assert!(why("normalized-dirty-rate=x..1/5").contains("is not a number"));
    }
}
