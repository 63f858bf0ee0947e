//! How far the bounds must lie above the fit: the least quantiles of measured / fitted at which a migration's downtime, and
//! what lies before it, are covered as often as is wanted, and a little more.

use super::sample::{Pass, Sample};
use crate::calibration::Spread;
use crate::model::{Costs, Model};
use crate::service::NormalizedRate;
use crate::units::Millis;

/// Measured / fitted, in order, of each group of components. The parts of a group share a factor: their borders are where
/// one step happens to end and the next to begin, and only their sum is what anyone waits for.
#[derive(Default)]
struct Ratios {
    /// Preparation, pre-dump and rounds, without their transfers.
    before: Vec<f64>,
    /// Dump, restore and overlay, without the transfer.
    stopped: Vec<f64>,
    /// Everything that was sent.
    volume: Vec<f64>,
}

impl Ratios {
    fn of(observed: &[(&Sample, Costs)]) -> Self {
        let mut ratios = Self::default();
        let note = |into: &mut Vec<f64>, parts: &[(Option<f64>, f64)]| {
            let known = parts.iter().filter_map(|(measured, fitted)| Some(((*measured)?, *fitted)));
            let (measured, fitted) = known.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
            if fitted > 0.0 {
                into.push(measured / fitted);
            }
        };
        let time = |pass: &Pass| pass.time.0;
        let volume = |pass: &Pass| pass.volume.0 as f64;
        for (sample, costs) in observed {
            let mut before = vec![
                (sample.prepare.map(|t| t.0), costs.prepare.0),
                (sample.predump.as_ref().map(time), costs.predump.0),
            ];
            before.extend(sample.rounds.iter().map(|round| (Some(time(round)), costs.round.0)));
            note(&mut ratios.before, &before);
            note(
                &mut ratios.stopped,
                &[
                    (sample.dump.as_ref().map(time), costs.dump.0),
                    (sample.restore.map(|t| t.0), costs.restore.0),
                    (sample.overlay.map(|t| t.0), costs.overlay.0),
                ],
            );
            let mut sent = vec![
                (sample.predump.as_ref().map(volume), costs.predump_volume),
                (sample.dump.as_ref().map(volume), costs.dump_volume),
            ];
            sent.extend(sample.rounds.iter().map(|round| (Some(volume(round)), costs.dump_volume)));
            note(&mut ratios.volume, &sent);
        }
        for list in [&mut ratios.before, &mut ratios.stopped, &mut ratios.volume] {
            list.sort_by(f64::total_cmp);
        }
        ratios
    }

    /// The spreads at one quantile of what lies before the freeze, and another of what stops the service and is sent.
    fn at(&self, before: f64, stopped: f64) -> Spread {
        let factor = |sorted: &[f64], level| quantile(sorted, level).max(1.0);
        let volume = factor(&self.volume, stopped);
        let (before, stopped) = (factor(&self.before, before), factor(&self.stopped, stopped));
        Spread {
            prepare: before,
            predump: before,
            round: before,
            dump: stopped,
            restore: stopped,
            overlay: stopped,
            volume,
        }
    }
}

/// The quantile of an ordered list, between two values in proportion; 1 of an empty one.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 1.0 };
    let position = level.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    low + (position - below as f64) * (high - low)
}

/// The downtime, and what lies before it, as the sums of what was measured, and of the bounds of just that.
fn sums(sample: &Sample, costs: &Costs, spread: &Spread) -> [(f64, f64); 2] {
    let time = |measured: Option<Millis>, fitted: Millis, spread: f64| {
        measured.map_or((0.0, 0.0), |measured| (measured.0, fitted.0 * spread))
    };
    let pass = |measured: &Pass, fitted: Millis, factor: f64, volume: f64| {
        let transfer = 8e3 / sample.bandwidth.0 as f64;
        let bound = fitted.0 * factor + volume * spread.volume * transfer;
        (measured.time.0 + measured.volume.0 as f64 * transfer, bound)
    };
    let add = |a: (f64, f64), b: (f64, f64)| (a.0 + b.0, a.1 + b.1);
    let stopped = [
        sample.dump.map_or((0.0, 0.0), |dump| pass(&dump, costs.dump, spread.dump, costs.dump_volume)),
        time(sample.restore, costs.restore, spread.restore),
        time(sample.overlay, costs.overlay, spread.overlay),
    ];
    let downtime = stopped.into_iter().fold((0.0, 0.0), add);
    let before = sample
        .predump
        .iter()
        .map(|p| pass(p, costs.predump, spread.predump, costs.predump_volume))
        .chain(sample.rounds.iter().map(|p| pass(p, costs.round, spread.round, costs.dump_volume)))
        .fold(time(sample.prepare, costs.prepare, spread.prepare), add);
    [downtime, before]
}

/// The least quantile at which the share `coverage` of the samples is bounded: their downtimes (0) or what lies before (1).
fn least(observed: &[(&Sample, Costs)], coverage: f64, which: usize, spread: impl Fn(f64) -> Spread) -> f64 {
    let covered = |spread: &Spread| {
        let within = |(sample, costs): &&(&Sample, Costs)| {
            let (measured, bound) = sums(sample, costs, spread)[which];
            measured <= bound * (1.0 + 1e-9)
        };
        observed.iter().filter(within).count() as f64 / observed.len() as f64
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if covered(&spread(middle)) >= coverage {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// The least spreads with which the share `coverage` of the samples is bounded, widened: what exceeds the fit is taken
/// 1 + 1/√n times before the freeze and 1 + 2/√n times in the downtime, which has the heavier tail. A quantile of n samples is
/// itself uncertain, and the more so the fewer they are; a few that lie far off would move it more than that if all had to be
/// covered.
pub(super) fn spreads(model: &Model, samples: &[Sample], coverage: f64) -> Spread {
    let observed: Vec<(&Sample, Costs)> = samples
        .iter()
        .map(|sample| {
            let rate = NormalizedRate::clamped(sample.dumped_at());
            (sample, model.fitted(sample.memory, rate, true))
        })
        .collect();
    let ratios = Ratios::of(&observed);
    let stopped = least(&observed, coverage, 0, |level| ratios.at(0.0, level));
    let before = least(&observed, coverage, 1, |level| ratios.at(level, stopped));
    let Spread { prepare, predump, round, dump, restore, overlay, volume } = ratios.at(before, stopped);
    let root = (observed.len().max(1) as f64).sqrt();
    let wide = |factor: f64, by: f64| 1.0 + (factor - 1.0) * (1.0 + by / root);
    Spread {
        prepare: wide(prepare, 1.0),
        predump: wide(predump, 1.0),
        round: wide(round, 1.0),
        dump: wide(dump, 2.0),
        restore: wide(restore, 2.0),
        overlay: wide(overlay, 2.0),
        volume: wide(volume, 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_values() {
        assert_eq!(quantile(&[], 0.5), 1.0);
        assert_eq!(quantile(&[2.0], 0.9), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), 4.0);
    }
}
