//! Why a plan is as it is, and what would have to change for a target that it misses.

use std::fmt;

use crate::units::{BitsPerSec, Millis};

/// The branch that the orchestration algorithm took, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// Minimise downtime: fewer iterations than fit have the same downtime.
    Enough {
        /// I.
        rounds: u32,
        /// The most that fit.
        most: u32,
        /// The downtime that is expected with I.
        downtime: Millis,
        /// The least that is expected with any number that fits.
        least: Millis,
        /// θ_mig.
        target: Millis,
        /// Whether the most is the limit on iterations, not what θ_mig allows.
        capped: bool,
    },
    /// Minimise downtime: as many iterations as the bound allows.
    Iterative {
        /// I.
        iterations: u32,
        /// Bound of T_mig with I.
        duration: Millis,
        /// Bound of T_mig with one more.
        next: Millis,
        /// θ_mig.
        target: Millis,
        /// Whether I is the limit on iterations, not what θ_mig allows.
        capped: bool,
    },
    /// Minimise downtime: the pre-dump fits, an iteration does not.
    Precopy {
        /// Bound of T_mig without iterations.
        duration: Millis,
        /// Bound of T_mig with one.
        next: Millis,
        /// θ_mig.
        target: Millis,
        /// Whether the limit on iterations allows none.
        capped: bool,
    },
    /// Minimise downtime: not even the pre-dump fits.
    NotEvenPrecopy {
        /// Bound of T_mig without iterations.
        duration: Millis,
        /// θ_mig.
        target: Millis,
    },
    /// Minimise resource usage: a cold migration with no more bandwidth than it needs.
    LeastBandwidth {
        /// What it needs.
        least: BitsPerSec,
        /// What there is.
        available: BitsPerSec,
        /// θ_down.
        target: Millis,
    },
    /// Minimise resource usage: θ_down alone needs less, θ_mig sets the bandwidth.
    LeastBandwidthForDuration {
        /// What both targets need.
        least: BitsPerSec,
        /// What there is.
        available: BitsPerSec,
        /// θ_mig.
        target: Millis,
    },
    /// Minimise resource usage: there is less than a cold migration needs.
    BandwidthShort {
        /// What it needs; `None` where no bandwidth is enough.
        least: Option<BitsPerSec>,
        /// What there is.
        available: BitsPerSec,
        /// Bound of the downtime at infinite bandwidth.
        fixed: Millis,
        /// θ_down.
        target: Millis,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Enough { rounds, most, downtime, least, target, capped } => {
                match rounds {
                    0 => write!(f, "no round after the first copy is needed")?,
                    1 => write!(f, "1 round is enough")?,
                    _ => write!(f, "{rounds} rounds are enough")?,
                }
                write!(f, ": the expected downtime is {downtime}, and {least} with {most}, ")?;
                if capped {
                    f.write_str("the most that may be made")
                } else {
                    write!(f, "the most that fit into max duration = {target}")
                }
            }
            Self::Iterative { iterations, duration, next, target, capped: false } => write!(
                f,
                "the bound meets θ_mig = {target} up to I = {iterations} ({duration}); I = {} would take {next}",
                u64::from(iterations) + 1
            ),
            Self::Iterative { iterations, duration, target, capped: true, .. } => write!(
                f,
                "θ_mig = {target} would allow more iterations, but no more than {iterations} are made ({duration})"
            ),
            Self::Precopy { duration, next, target, capped: false } => write!(
                f,
                "the bound meets θ_mig = {target} with a pre-dump alone ({duration}); one iteration more would take {next}"
            ),
            Self::Precopy { duration, target, capped: true, .. } => {
                write!(f, "θ_mig = {target} would allow iterations, but none are to be made ({duration})")
            }
            Self::NotEvenPrecopy { duration, target } => write!(
                f,
                "not even a pre-dump without iterations meets θ_mig = {target}: its bound is {duration}"
            ),
            Self::LeastBandwidth { least, available, target } => write!(
                f,
                "a cold migration meets θ_down = {target} with {least} of the {available} available"
            ),
            Self::LeastBandwidthForDuration { least, available, target } => write!(
                f,
                "a cold migration needs {least} of the {available} available for θ_mig = {target}, more than for θ_down"
            ),
            Self::BandwidthShort { least: Some(least), available, target, .. } => write!(
                f,
                "a cold migration would need {least} for θ_down = {target}, but only {available} are available"
            ),
            Self::BandwidthShort { least: None, fixed, target, .. } => write!(
                f,
                "no bandwidth lets a cold migration meet θ_down = {target}: without any transfer it takes {fixed}"
            ),
        }
    }
}

/// What would meet the targets that a plan misses: either more bandwidth, or looser targets instead of those missed.
/// Planning again with the one or the other meets them all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// The least bandwidth with which all targets are met; `None` where none is enough.
    pub bandwidth: Option<BitsPerSec>,
    /// The tightest θ_down that is met; `None` where the wanted one is.
    pub downtime: Option<Millis>,
    /// The tightest θ_mig that is met; `None` where the wanted one is.
    pub duration: Option<Millis>,
}

/// `time` in whole milliseconds, rounded up, so that what is read and typed again still holds.
fn up(time: Millis) -> String {
    format!("{:.0} ms", time.0.ceil())
}

/// `bandwidth` in three figures, rounded up likewise.
fn up_bandwidth(bandwidth: BitsPerSec) -> BitsPerSec {
    let digits = bandwidth.0.checked_ilog10().unwrap_or(0);
    let unit = 10_u64.pow(digits.saturating_sub(2));
    BitsPerSec(bandwidth.0.div_ceil(unit).saturating_mul(unit))
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bandwidth {
            Some(bandwidth) => write!(f, "met with a bandwidth of {}, or with", up_bandwidth(bandwidth))?,
            None => f.write_str("no bandwidth is enough; met with")?,
        }
        match (self.downtime, self.duration) {
            (Some(downtime), Some(duration)) => {
                write!(f, " θ_down = {} and θ_mig = {}", up(downtime), up(duration))
            }
            (Some(downtime), None) => write!(f, " θ_down = {}", up(downtime)),
            (None, Some(duration)) => write!(f, " θ_mig = {}", up(duration)),
            (None, None) => f.write_str(" the targets as they are"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearest_is_rounded_so_that_it_still_meets() {
        let nearest = Nearest {
            bandwidth: Some(BitsPerSec(2_224_100_001)),
            downtime: None,
            duration: Some(Millis(1225.2)),
        };
        assert_eq!(nearest.to_string(), "met with a bandwidth of 2.23 Gb/s, or with θ_mig = 1226 ms");
        assert_eq!(up_bandwidth(BitsPerSec(7)), BitsPerSec(7));
        assert_eq!(up_bandwidth(BitsPerSec(0)), BitsPerSec(0));
        assert_eq!(up_bandwidth(BitsPerSec(u64::MAX)), BitsPerSec(u64::MAX));
        let never =
            Nearest { bandwidth: None, downtime: Some(Millis(907.0)), duration: Some(Millis(1226.0)) };
        assert_eq!(never.to_string(), "no bandwidth is enough; met with θ_down = 907 ms and θ_mig = 1226 ms");
    }
}
