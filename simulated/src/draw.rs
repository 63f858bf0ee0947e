//! Step times: drawn around the components of the model, so that a plan made with the same calibration means something.
//!
//! Each draw is the fit times a factor whose logarithm is normally distributed: its median is 1, and it stays within the
//! calibration's spread as often as the measurements that it was fitted to do. Draws follow from the seed, the service, the
//! component and how many there were before.

use std::time::Duration;

use mose_pam::{Bytes, Calibration, Costs, Millis, Model, NormalizedRate, Spread};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A calibration's spreads are the quantiles at 97 %: so many standard deviations of a normal distribution.
const AT_97_PERCENT: f64 = 1.881;
/// Where a calibration has no spread, draws still differ by about that much.
const LEAST_SPREAD: f64 = 1.04;
/// Draws farther out than so many standard deviations are cut off.
const FARTHEST: f64 = 2.5;

/// A part of a migration that has a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Component {
    Prepare,
    PreDump,
    Round,
    Dump,
    Restore,
    Overlay,
}

impl Component {
    const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::PreDump => "pre-dump",
            Self::Round => "round",
            Self::Dump => "dump",
            Self::Restore => "restore",
            Self::Overlay => "overlay",
        }
    }

    const fn of(self, costs: &Costs) -> Millis {
        match self {
            Self::Prepare => costs.prepare,
            Self::PreDump => costs.predump,
            Self::Round => costs.round,
            Self::Dump => costs.dump,
            Self::Restore => costs.restore,
            Self::Overlay => costs.overlay,
        }
    }

    fn spread(self, spread: &Spread, own_rounds: bool) -> f64 {
        match self {
            Self::Prepare => spread.prepare,
            Self::PreDump => spread.predump,
            Self::Round if own_rounds => spread.round,
            Self::Round | Self::Dump => spread.dump,
            Self::Restore => spread.restore,
            Self::Overlay => spread.overlay,
        }
    }
}

/// Where step times come from.
pub(crate) struct Times {
    seed: u64,
    model: Model,
    spread: Spread,
    own_rounds: bool,
}

impl Times {
    pub(crate) fn new(seed: u64, calibration: &Calibration) -> Self {
        let own_rounds = calibration.round.is_some();
        Self { seed, model: Model::new(calibration), spread: calibration.spread, own_rounds }
    }

    /// The time of draw number `number` of a service's component, for a state of `memory` of which the share `dirty` is to be
    /// dumped.
    pub(crate) fn draw(
        &self,
        component: Component,
        service: &str,
        number: u64,
        memory: Bytes,
        dirty: f64,
    ) -> Duration {
        let rate = NormalizedRate::new(dirty.clamp(0.0, 1.0)).unwrap_or(NormalizedRate::GREATEST);
        let fitted = component.of(&self.model.fitted(memory, rate, true));
        let spread = component.spread(&self.spread, self.own_rounds).max(LEAST_SPREAD);
        let what = format!("{service}/{}/{number}", component.name());
        let factor =
            (normal(xxh3_64_with_seed(what.as_bytes(), self.seed)) * spread.ln() / AT_97_PERCENT).exp();
        Duration::from_secs_f64((fitted.0 * factor / 1e3).clamp(0.0, 3600.0))
    }
}

/// A draw from the standard normal distribution (Box and Muller, 1958), without its far ends.
fn normal(bits: u64) -> f64 {
    let unit =
        |bits: u64| (f64::from((bits & u64::from(u32::MAX)) as u32) + 0.5) / (f64::from(u32::MAX) + 1.0);
    let radius = (-2.0 * unit(bits).ln()).sqrt();
    (radius * (std::f64::consts::TAU * unit(bits >> 32)).cos()).clamp(-FARTHEST, FARTHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64, spread: f64) -> Vec<f64> {
        let mut calibration = Calibration::tnsm2024();
        calibration.spread.restore = spread;
        let times = Times::new(seed, &calibration);
        let fitted = times.model.fitted(Bytes(10_000_000), NormalizedRate::LEAST, true).restore.0;
        (0..2000)
            .map(|n| {
                times.draw(Component::Restore, "web", n, Bytes(10_000_000), 0.0).as_secs_f64() * 1e3 / fitted
            })
            .collect()
    }

    #[test]
    fn draws_lie_around_the_fit_and_mostly_within_the_spread() {
        let mut all = draws(1, 1.5);
        let within = all.iter().filter(|factor| **factor <= 1.5).count();
        assert!((1900..=1980).contains(&within), "{within} of 2000");
        all.sort_by(f64::total_cmp);
        assert!((all[1000] - 1.0).abs() < 0.03, "{}", all[1000]);
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_one_does_not() {
        assert_eq!(draws(7, 1.5), draws(7, 1.5));
        assert_ne!(draws(7, 1.5), draws(8, 1.5));
    }
}
