//! What a plan was made from, and what it promises: kept beside what was measured, so that a bound can be seen to hold.

use mose_pam::{
    BitsPerSec, Bytes, Components, Kpis, Millis, Objective, PagesPerSec, PlanRequest, Proposal, Rounds,
    Targets,
};
use serde::{Deserialize, Serialize};

/// A downtime and a duration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Figures {
    /// T_down: from the freeze until the service answers at the destination.
    pub downtime: Millis,
    /// T_mig: from the order until the service answers at the destination.
    pub duration: Millis,
}

impl From<Kpis> for Figures {
    fn from(kpis: Kpis) -> Self {
        Self { downtime: kpis.downtime, duration: kpis.duration }
    }
}

impl From<&Targets> for Figures {
    fn from(targets: &Targets) -> Self {
        Self { downtime: targets.downtime(), duration: targets.duration() }
    }
}

/// A designed plan's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Forecast {
    /// The calibration profile that it was made with.
    pub profile: String,
    /// M.
    pub state: Bytes,
    /// R̂, at worst.
    pub dirty_rate: PagesPerSec,
    /// r.
    pub normalized_dirty_rate: f64,
    /// What the link had available.
    pub available: BitsPerSec,
    /// What was to be minimised.
    pub objective: Objective,
    /// θ_down and θ_mig.
    pub targets: Figures,
    /// Upper bounds.
    pub bound: Figures,
    /// What was probably going to happen.
    pub expected: Figures,
    /// Upper bounds of the parts.
    pub components: Components,
    /// Why the plan is as it is.
    pub why: String,
    /// How many rounds were chosen, among how many and by which rule. None for a cold migration, and from older consoles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<Rounds>,
}

impl Forecast {
    /// What `proposal` promises, made from `request` with `profile`.
    #[must_use]
    pub fn of(
        proposal: &Proposal,
        request: &PlanRequest,
        objective: Objective,
        rate: PagesPerSec,
        profile: &str,
    ) -> Self {
        Self {
            profile: profile.to_owned(),
            state: request.service().memory(),
            dirty_rate: rate,
            normalized_dirty_rate: proposal.rate.get(),
            available: request.bandwidth(),
            objective,
            targets: request.targets().into(),
            bound: proposal.bound.into(),
            expected: proposal.expected.into(),
            components: proposal.components,
            why: proposal.why.to_string(),
            rounds: proposal.rounds,
        }
    }

    /// Whether every figure is finite and the texts are of a length that people read.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let figures = [self.targets, self.bound, self.expected].map(|f| [f.downtime, f.duration]);
        let finite = figures.iter().flatten().all(|ms| ms.0.is_finite() && ms.0 >= 0.0);
        finite && self.profile.len() <= 256 && self.why.len() <= 4096
    }
}
