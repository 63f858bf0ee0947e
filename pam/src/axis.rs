//! The inputs that can be varied.

use std::fmt;

use crate::units::{BitsPerSec, Bytes, Millis, PagesPerSec};

/// What can be varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// θ_down (ms).
    TargetDowntime,
    /// θ_mig (ms).
    TargetDuration,
    /// L available (bit/s).
    Bandwidth,
    /// M (bytes).
    StateSize,
    /// R̂ (pages/s).
    DirtyRate,
    /// r.
    NormalizedDirtyRate,
}

impl Axis {
    /// Every axis.
    pub const ALL: [Self; 6] = [
        Self::TargetDowntime,
        Self::TargetDuration,
        Self::Bandwidth,
        Self::StateSize,
        Self::DirtyRate,
        Self::NormalizedDirtyRate,
    ];

    /// The name that the command line uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TargetDowntime => "target-downtime",
            Self::TargetDuration => "target-duration",
            Self::Bandwidth => "bandwidth",
            Self::StateSize => "state-size",
            Self::DirtyRate => "dirty-rate",
            Self::NormalizedDirtyRate => "normalized-dirty-rate",
        }
    }

    /// Its unit, as a suffix of a column's name; empty where it has none.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::TargetDowntime | Self::TargetDuration => "ms",
            Self::Bandwidth => "bps",
            Self::StateSize => "bytes",
            Self::DirtyRate => "pages_per_s",
            Self::NormalizedDirtyRate => "",
        }
    }

    /// A value on it, for people to read.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::TargetDowntime | Self::TargetDuration => Millis(value).to_string(),
            Self::Bandwidth => BitsPerSec(value as u64).to_string(),
            Self::StateSize => Bytes(value as u64).to_string(),
            Self::DirtyRate => PagesPerSec(value).to_string(),
            Self::NormalizedDirtyRate => format!("{value:.3}"),
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
