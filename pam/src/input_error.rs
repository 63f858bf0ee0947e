//! Figures that the model cannot work with, each told by name and with what to give instead.

use crate::axis::Axis;
use crate::units::{Metres, Millis};

/// The largest quantity that is taken for a figure; no sum of such can overflow.
const LARGEST: f64 = 1e18;

/// A figure that the model cannot work with.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InputError {
    /// Zero, negative, infinite or no number, where only a finite figure above zero makes sense.
    #[error("the {quantity} is {value}: give a finite figure above zero")]
    NotPositive {
        /// Of what.
        quantity: &'static str,
        /// What was given.
        value: f64,
    },
    /// Negative, infinite or no number.
    #[error("the {quantity} is {value}: give a finite figure, zero or more")]
    Negative {
        /// Of what.
        quantity: &'static str,
        /// What was given.
        value: f64,
    },
    /// A normalised rate outside its range.
    #[error("the normalised dirty-page rate is {value}: it lies between 0 (R_min) and 1 (R_max)")]
    NotNormalized {
        /// What was given.
        value: f64,
    },
    /// The downtime is part of the duration.
    #[error(
        "the targets contradict each other: a downtime of {downtime} does not fit into a duration of {duration}; \
         lower the target downtime or raise the target duration"
    )]
    Contradiction {
        /// θ_down.
        downtime: Millis,
        /// θ_mig.
        duration: Millis,
    },
    /// A deviation that not even an immediate migration keeps.
    #[error(
        "no downtime keeps a vehicle within {demanded} of its path: the least feasible deviation is {least}"
    )]
    InfeasibleDeviation {
        /// D*.
        demanded: Metres,
        /// D with a downtime of zero.
        least: Metres,
    },
    /// An availability that leaves no time at all for a handover, or that is no share.
    #[error(
        "the availability is {value}: give a share from 0 to below 1, for every handover takes some downtime"
    )]
    NoAvailability {
        /// What was given.
        value: f64,
    },
    /// Fewer than one handover.
    #[error("the number of handovers is 0: give at least 1")]
    NoHandover,
    /// A range that sweeps nothing.
    #[error(
        "the sweep of {axis} has {steps} steps from {from} to {to}: give 1 to {most} steps between two values"
    )]
    EmptySweep {
        /// Of what.
        axis: Axis,
        /// From.
        from: f64,
        /// To.
        to: f64,
        /// In so many values.
        steps: usize,
        /// As many as there may be.
        most: usize,
    },
    /// Logarithms end at zero.
    #[error("the sweep of {axis} begins or ends at zero: a logarithmic one cannot; leave out `/log`")]
    ZeroInLogarithm {
        /// Of what.
        axis: Axis,
    },
    /// A region map whose two axes are one.
    #[error("both axes of the map are {axis}: choose two different ones")]
    SameAxes {
        /// Which.
        axis: Axis,
    },
}

pub(crate) fn positive(quantity: &'static str, value: f64) -> Result<f64, InputError> {
    if value > 0.0 && value <= LARGEST { Ok(value) } else { Err(InputError::NotPositive { quantity, value }) }
}

pub(crate) fn not_negative(quantity: &'static str, value: f64) -> Result<f64, InputError> {
    if (0.0..=LARGEST).contains(&value) { Ok(value) } else { Err(InputError::Negative { quantity, value }) }
}
