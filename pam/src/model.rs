//! The components of a migration's time and volume, as functions of M and r (TNSM 2024, eqs 1–6).

use crate::calibration::Calibration;
use crate::files::FileCosts;
use crate::service::{DirtyRate, NormalizedRate, Service};
use crate::units::{BitsPerSec, Bytes, Millis, PagesPerSec};

/// `base` + `slope` · M.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Affine {
    pub(crate) base: f64,
    pub(crate) slope: f64,
}

impl Affine {
    fn at(self, memory: f64) -> f64 {
        self.base + self.slope * memory
    }

    fn times(self, factor: f64) -> Self {
        Self { base: self.base * factor, slope: self.slope * factor }
    }
}

/// A time that depends on the bandwidth: a constant, and bytes to transfer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// What no bandwidth shortens (ms).
    pub fixed: Millis,
    /// What is sent (bytes).
    pub volume: f64,
}

impl Line {
    /// Its time at a bandwidth above zero.
    #[must_use]
    pub fn at(self, bandwidth: BitsPerSec) -> Millis {
        Millis(self.fixed.0 + self.volume * 8e3 / bandwidth.0 as f64)
    }
}

/// What a migration costs, whatever the bandwidth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Preparing the destination.
    pub prepare: Millis,
    /// T_p.
    pub predump: Millis,
    /// V_0 (bytes).
    pub predump_volume: f64,
    /// T_round: a pre-copy iteration without its transfer.
    pub round: Millis,
    /// T_d(r).
    pub dump: Millis,
    /// V(r) (bytes): of an iteration and of the final dump.
    pub dump_volume: f64,
    /// T_r.
    pub restore: Millis,
    /// T_add; 0 without the overlay.
    pub overlay: Millis,
    /// Files that move beside the memory.
    pub files: FileCosts,
}

impl Costs {
    /// T_down: from the freeze until the service answers at the destination.
    #[must_use]
    pub fn downtime(&self) -> Line {
        Line {
            fixed: Millis(self.dump.0 + self.restore.0 + self.overlay.0),
            volume: self.dump_volume + self.files.changed,
        }
    }

    /// T_mig of a pre-copy migration with `iterations` after the pre-dump.
    #[must_use]
    pub fn duration(&self, iterations: u64) -> Line {
        let rounds = iterations as f64;
        let stopped = self.downtime();
        Line {
            fixed: Millis(self.prepare.0 + self.predump.0 + rounds * self.round.0 + stopped.fixed.0),
            volume: self.files.first
                + self.predump_volume
                + rounds * (self.dump_volume + self.files.changed)
                + stopped.volume,
        }
    }

    /// T_mig of a cold migration, where these are the costs at r = 1.
    #[must_use]
    pub fn cold_duration(&self) -> Line {
        let stopped = self.downtime();
        Line { fixed: Millis(self.prepare.0 + stopped.fixed.0), volume: self.files.first + stopped.volume }
    }
}

/// A calibration made ready to be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub(crate) page: f64,
    prepare: f64,
    predump: Affine,
    predump_volume: Affine,
    round: Option<Affine>,
    pub(crate) dump: [Affine; 2],
    volume: [Affine; 2],
    restore: Affine,
    overlay: f64,
    spread: crate::calibration::Spread,
    /// The part of a pre-dump and of a dump for which the service stands still, so that it dirties nothing.
    pub(crate) frozen_predump: Affine,
    pub(crate) frozen_dump: [Affine; 2],
    /// ρ · τ1: bytes sent per dirty byte.
    pub(crate) sent_per_dirty: f64,
}

impl Model {
    /// The model with a calibration's parameters, which [`Calibration::check`] has accepted.
    #[must_use]
    pub fn new(calibration: &Calibration) -> Self {
        let p = &calibration.parameters;
        let source = p.alpha1.value * p.alpha2.value;
        let destination = p.alpha3.value * p.alpha4.value;
        let gamma = p.gamma.value;
        let pages = |share: f64, mu: f64, nu: f64| {
            Affine { base: mu, slope: nu }.times(p.rho.value * share * p.sigma.value)
        };
        let frozen = |xi: f64| Affine { base: p.phi_d.value, slope: gamma * xi };
        let dump = |xi: f64| Affine { base: p.beta.value + p.phi_d.value, slope: gamma * xi }.times(source);
        Self {
            page: p.sigma.value,
            prepare: p.prepare.value,
            predump: Affine {
                base: p.beta.value + p.phi_p.value + p.delta.value,
                slope: gamma * p.zeta.value + p.lambda.value,
            }
            .times(source),
            predump_volume: pages(p.tau1.value, p.mu_p.value, p.nu_p.value),
            round: calibration.round.map(|r| Affine { base: r.base.value, slope: r.per_byte.value }),
            dump: [dump(p.xi_min.value), dump(p.xi_max.value)],
            volume: [
                pages(p.tau2_min.value, p.mu_d.value, p.nu_d_min.value),
                pages(p.tau2_max.value, p.mu_d.value, p.nu_d_max.value),
            ],
            restore: Affine { base: p.psi.value, slope: p.omega.value }.times(destination),
            overlay: p.ns_clear.value + p.ns_conf.value + p.flow.value,
            spread: calibration.spread,
            frozen_predump: Affine { base: p.phi_p.value, slope: gamma * p.zeta.value },
            frozen_dump: [frozen(p.xi_min.value), frozen(p.xi_max.value)],
            sent_per_dirty: p.rho.value * p.tau1.value,
        }
    }

    /// The costs that the fit gives for a state of `memory` dirtied at `rate`.
    #[must_use]
    pub fn fitted(&self, memory: Bytes, rate: NormalizedRate, overlay: bool) -> Costs {
        self.costs(memory.0 as f64, rate, overlay)
    }

    /// Upper bounds of the same: each component times its spread.
    #[must_use]
    pub fn bound(&self, memory: Bytes, rate: NormalizedRate, overlay: bool) -> Costs {
        self.bounds(memory.0 as f64, rate, overlay)
    }

    /// The longest time for which pages can get dirty between two rounds: that of the pre-dump, and of one iteration. A dirty-page
    /// rate holds per second; what a round has to send depends on how long the one before took. It is what ΔT should be.
    #[must_use]
    pub fn between_rounds(&self, memory: Bytes, bandwidth: BitsPerSec) -> Millis {
        let costs = self.bound(memory, NormalizedRate::LEAST, true);
        Millis(costs.predump.0 + costs.round.0 + costs.predump_volume * 8e3 / bandwidth.0.max(1) as f64)
    }

    pub(crate) fn costs(&self, memory: f64, rate: NormalizedRate, overlay: bool) -> Costs {
        let r = rate.get();
        let between = |[least, greatest]: [f64; 2]| least + r * (greatest - least);
        let dump = between(self.dump.map(|line| line.at(memory)));
        Costs {
            prepare: Millis(self.prepare),
            predump: Millis(self.predump.at(memory)),
            predump_volume: self.predump_volume.at(memory),
            round: Millis(self.round.map_or(dump, |line| line.at(memory))),
            dump: Millis(dump),
            dump_volume: between(self.dump_volumes(memory)),
            restore: Millis(self.restore.at(memory)),
            overlay: Millis(if overlay { self.overlay } else { 0.0 }),
            files: FileCosts::default(),
        }
    }

    pub(crate) fn bounds(&self, memory: f64, rate: NormalizedRate, overlay: bool) -> Costs {
        let fitted = self.costs(memory, rate, overlay);
        let spread = &self.spread;
        let times = |value: Millis, factor: f64| Millis(value.0 * factor);
        Costs {
            prepare: times(fitted.prepare, spread.prepare),
            predump: times(fitted.predump, spread.predump),
            predump_volume: fitted.predump_volume * spread.volume,
            // A calibration without rounds of its own takes them for dumps.
            round: times(fitted.round, if self.round.is_some() { spread.round } else { spread.dump }),
            dump: times(fitted.dump, spread.dump),
            dump_volume: fitted.dump_volume * spread.volume,
            restore: times(fitted.restore, spread.restore),
            overlay: times(fitted.overlay, spread.overlay),
            files: fitted.files,
        }
    }

    /// V(0) and V(1) (bytes). With a state so small that the published V(1) lies below V(0) (under 120 kB with the
    /// published parameters), V(0) holds for both: a bound must not fall where more is dirtied.
    pub(crate) fn dump_volumes(&self, memory: f64) -> [f64; 2] {
        let [least, greatest] = self.volume.map(|line| line.at(memory));
        [least, greatest.max(least)]
    }

    /// T_round without its transfer, as a constant; `None` where an iteration costs what a dump does.
    pub(crate) fn own_round(&self, memory: f64) -> Option<f64> {
        self.round.map(|line| line.at(memory))
    }

    pub(crate) fn frozen_in_predump(&self, memory: f64) -> f64 {
        self.frozen_predump.at(memory)
    }

    /// ⌈M/σ⌉.
    pub(crate) fn pages(&self, memory: f64) -> f64 {
        (memory / self.page).ceil()
    }

    /// r of a service.
    #[must_use]
    pub fn normalized(&self, service: &Service) -> NormalizedRate {
        match service.dirty_rate {
            DirtyRate::Measured(rate) => {
                NormalizedRate::of(rate, self.pages(service.memory), service.interval)
            }
            DirtyRate::Normalized(rate) => rate,
        }
    }

    /// R of a service.
    #[must_use]
    pub fn dirty_rate(&self, service: &Service) -> PagesPerSec {
        match service.dirty_rate {
            DirtyRate::Measured(rate) => rate,
            DirtyRate::Normalized(rate) => rate.rate(self.pages(service.memory), service.interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Calibration, RoundCost};
    use crate::parameter::Parameter;

    const GIGABIT: BitsPerSec = BitsPerSec(1_000_000_000);

    /// M in MB, L in Mb/s, r; T_down, T_mig at I = 0, 1, 10, cold.
    const PUBLISHED: [(u64, u64, f64, [f64; 5]); 5] = [
        (10, 1000, 0.0, [907.0, 1226.0, 1465.0, 3620.0, 1045.0]),
        (10, 1000, 1.0, [1045.0, 1364.0, 1742.0, 5144.0, 1045.0]),
        (10, 100, 0.0, [919.0, 1988.0, 2239.0, 4500.0, 1786.0]),
        (100, 1000, 1.0, [2752.0, 4345.0, 5978.0, 20681.0, 2752.0]),
        (1000, 1000, 1.0, [19824.0, 34145.0, 48336.0, 176_049.0, 19824.0]),
    ];

    #[test]
    fn the_published_check_values_come_out() {
        let model = Model::new(&Calibration::tnsm2024());
        for (megabytes, megabits, r, wanted) in PUBLISHED {
            let memory = Bytes(megabytes * 1_000_000);
            let bandwidth = BitsPerSec(megabits * 1_000_000);
            let costs = model.bound(memory, NormalizedRate::new(r).unwrap(), true);
            let cold = model.bound(memory, NormalizedRate::GREATEST, true);
            let got = [
                costs.downtime(),
                costs.duration(0),
                costs.duration(1),
                costs.duration(10),
                cold.cold_duration(),
            ]
            .map(|line| line.at(bandwidth).0.round());
            assert_eq!(got, wanted, "{memory} at {bandwidth}, r = {r}");
        }
    }

    #[test]
    fn without_the_overlay_nothing_is_added() {
        let model = Model::new(&Calibration::tnsm2024());
        let at =
            |overlay| model.bound(Bytes(10_000_000), NormalizedRate::LEAST, overlay).downtime().at(GIGABIT);
        assert!((at(true).0 - at(false).0 - 241.0).abs() < 1e-9);
    }

    #[test]
    fn preparation_lengthens_the_migration_and_not_the_downtime() {
        let mut calibration = Calibration::tnsm2024();
        let before = Model::new(&calibration).bound(Bytes(1 << 20), NormalizedRate::LEAST, true);
        calibration.parameters.prepare = Parameter::exact(100.0);
        let after = Model::new(&calibration).bound(Bytes(1 << 20), NormalizedRate::LEAST, true);
        assert_eq!(before.downtime(), after.downtime());
        assert!((after.duration(3).fixed.0 - before.duration(3).fixed.0 - 100.0).abs() < 1e-9);
        assert!((after.cold_duration().fixed.0 - before.cold_duration().fixed.0 - 100.0).abs() < 1e-9);
    }

    #[test]
    fn rounds_of_their_own_change_the_iterations_alone() {
        let mut calibration = Calibration::tnsm2024();
        calibration.round = Some(RoundCost { base: 10.0.into(), per_byte: 1e-6.into() });
        let costs = Model::new(&calibration).bound(Bytes(10_000_000), NormalizedRate::LEAST, true);
        assert_eq!(costs.duration(0).at(GIGABIT).0.round(), 1226.0);
        let rounds = costs.duration(10).fixed.0 - costs.duration(0).fixed.0;
        assert!((rounds - 10.0 * 20.0).abs() < 1e-9);
    }

    #[test]
    fn pages_get_dirty_for_as_long_as_the_pre_dump_travels() {
        let model = Model::new(&Calibration::tnsm2024());
        let slow = model.between_rounds(Bytes(10_000_000), BitsPerSec(100_000_000));
        let fast = model.between_rounds(Bytes(10_000_000), BitsPerSec(1_000_000_000));
        assert!(slow.0 > fast.0 + 600.0, "{slow} {fast}");
        assert!(model.between_rounds(Bytes(1), BitsPerSec(0)).0.is_finite());
    }

    #[test]
    fn spreads_lift_the_bound_and_leave_the_fit() {
        let mut calibration = Calibration::tnsm2024();
        let plain = Model::new(&calibration).fitted(Bytes(10_000_000), NormalizedRate::GREATEST, true);
        calibration.spread.dump = 2.0;
        calibration.spread.volume = 1.5;
        let model = Model::new(&calibration);
        assert_eq!(model.fitted(Bytes(10_000_000), NormalizedRate::GREATEST, true), plain);
        let bound = model.bound(Bytes(10_000_000), NormalizedRate::GREATEST, true);
        assert_eq!(bound.dump.0, 2.0 * plain.dump.0);
        assert_eq!(bound.round.0, 2.0 * plain.round.0);
        assert_eq!(bound.dump_volume, 1.5 * plain.dump_volume);
        assert_eq!(bound.restore, plain.restore);
    }
}
