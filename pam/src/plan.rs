//! What the designer hands to the agents: the strategy and what it may use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::units::BitsPerSec;

/// How a service's state is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Stop-and-copy: everything is dumped and sent while the service stands still.
    Cold,
    /// One pre-dump while the service runs, then stop-and-copy of what it dirtied since.
    Precopy,
    /// A pre-dump and several iterations, each of what was dirtied since the one before.
    IterativePrecopy,
}

impl Strategy {
    /// Every strategy, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Cold, Self::Precopy, Self::IterativePrecopy];

    /// The name that the command line and the wire use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Precopy => "precopy",
            Self::IterativePrecopy => "iterative-precopy",
        }
    }

    /// The words that people read.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Precopy => "pre-copy",
            Self::IterativePrecopy => "iterative pre-copy",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownStrategy(String);

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no strategy: choose cold, precopy or iterative-precopy", self.0)
    }
}

impl std::error::Error for UnknownStrategy {}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| UnknownStrategy(text.to_owned()))
    }
}

/// How one migration is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// How the state is moved.
    pub strategy: Strategy,
    /// Pre-copy iterations after the pre-dump; `None` for a cold migration.
    pub iterations: Option<u32>,
    /// What the migration may use of the link; `None`: all that is there.
    pub bandwidth: Option<BitsPerSec>,
    /// Whether the iterations end as soon as one no longer pays, so that fewer may be made than are planned. The last one, right
    /// before the freeze, is made in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end_early: bool,
}

impl Plan {
    /// The plan that needs no model: stop-and-copy with all the bandwidth there is.
    #[must_use]
    pub const fn cold() -> Self {
        Self { strategy: Strategy::Cold, iterations: None, bandwidth: None, end_early: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_reads_back_from_its_name() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
        }
        assert!("lukewarm".parse::<Strategy>().is_err());
    }
}
