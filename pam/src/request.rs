//! What the designer is asked for: a service and its link, the targets and the objective.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::input_error::InputError;
use crate::rounds::RoundsRule;
use crate::service::{Service, Targets, available};
use crate::units::BitsPerSec;

/// What a plan is to minimise while it meets its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The downtime, with all the bandwidth there is.
    Downtime,
    /// The bandwidth, with a cold migration.
    Resources,
}

impl Objective {
    /// Every objective, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::Downtime, Self::Resources];

    /// The name that the command line and the wire use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Downtime => "downtime",
            Self::Resources => "resources",
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no objective.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no objective: choose downtime or resources")]
pub struct UnknownObjective(String);

impl FromStr for Objective {
    type Err = UnknownObjective;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|o| o.name() == text).ok_or_else(|| UnknownObjective(text.to_owned()))
    }
}

/// What no plan exceeds, whatever the targets allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most pre-copy iterations.
    pub iterations: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { iterations: 1000 }
    }
}

/// What is to be planned. Its figures are finite and possible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanRequest {
    pub(crate) service: Service,
    pub(crate) bandwidth: BitsPerSec,
    pub(crate) targets: Targets,
    pub(crate) objective: Objective,
    pub(crate) overlay: bool,
    pub(crate) limits: Limits,
    pub(crate) rounds: RoundsRule,
}

impl PlanRequest {
    /// A migration over the overlay, of `service` over a link with `bandwidth` available.
    ///
    /// # Errors
    ///
    /// [`InputError::NotPositive`] where there is no bandwidth.
    pub fn new(
        service: Service,
        bandwidth: BitsPerSec,
        targets: Targets,
        objective: Objective,
    ) -> Result<Self, InputError> {
        let bandwidth = available(bandwidth)?;
        Ok(Self {
            service,
            bandwidth,
            targets,
            objective,
            overlay: true,
            limits: Limits::default(),
            rounds: RoundsRule::default(),
        })
    }

    /// The same without the overlay: T_add = 0.
    #[must_use]
    pub const fn without_overlay(self) -> Self {
        Self { overlay: false, ..self }
    }

    /// The same within other limits.
    #[must_use]
    pub const fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The same with the number of rounds chosen by another rule.
    #[must_use]
    pub const fn choosing(self, rounds: RoundsRule) -> Self {
        Self { rounds, ..self }
    }

    /// The same with other targets.
    #[must_use]
    pub const fn aiming_at(self, targets: Targets) -> Self {
        Self { targets, ..self }
    }

    /// The same with another bandwidth available.
    ///
    /// # Errors
    ///
    /// [`InputError::NotPositive`] where it is zero.
    pub fn over(self, bandwidth: BitsPerSec) -> Result<Self, InputError> {
        Ok(Self { bandwidth: available(bandwidth)?, ..self })
    }

    /// What is moved.
    #[must_use]
    pub const fn service(&self) -> &Service {
        &self.service
    }

    /// What is demanded.
    #[must_use]
    pub const fn targets(&self) -> &Targets {
        &self.targets
    }

    /// How the number of rounds is chosen.
    #[must_use]
    pub const fn rounds(&self) -> RoundsRule {
        self.rounds
    }

    /// What the link has available.
    #[must_use]
    pub const fn bandwidth(&self) -> BitsPerSec {
        self.bandwidth
    }
}
