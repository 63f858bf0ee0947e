//! A calibration finds again what synthetic migrations were made of, as surely as it says, and bounds them.

#![expect(clippy::unwrap_used, reason = "what is made for a test is made of possible figures")]

use mose_pam::{
    BitsPerSec, Bytes, Calibration, FitOptions, Millis, Model, NormalizedRate, Parameter, Parameters, Pass,
    RoundCost, Sample, Strategy as Moved, fit,
};
use proptest::prelude::*;

/// Normally distributed numbers from a seed: xorshift and Box–Muller.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn factor(&mut self, deviation: f64) -> f64 {
        let (radius, angle) = ((1.0 - self.uniform()).ln(), self.uniform() * std::f64::consts::TAU);
        (1.0 + deviation * (-2.0 * radius).sqrt() * angle.cos()).max(0.01)
    }
}

/// A calibration of the form that a fit gives.
fn truth() -> Calibration {
    let [zero, one] = [Parameter::exact(0.0), Parameter::exact(1.0)];
    Calibration {
        name: "truth".into(),
        provenance: None,
        parameters: Parameters {
            alpha1: one,
            alpha2: one,
            alpha3: one,
            alpha4: one,
            sigma: 4096.0.into(),
            beta: zero,
            phi_p: 25.0.into(),
            phi_d: 30.0.into(),
            zeta: 12.0.into(),
            xi_min: 5.0.into(),
            xi_max: 20.0.into(),
            delta: zero,
            lambda: zero,
            gamma: 1e-7.into(),
            tau1: one,
            tau2_min: one,
            tau2_max: one,
            mu_p: 50.0.into(),
            mu_d: 40.0.into(),
            nu_p: 2.4e-4.into(),
            nu_d_min: 1e-5.into(),
            nu_d_max: 2.4e-4.into(),
            psi: 45.0.into(),
            omega: 9e-7.into(),
            ns_clear: zero,
            ns_conf: zero,
            flow: 20.0.into(),
            rho: one,
            prepare: 80.0.into(),
        },
        round: Some(RoundCost { base: 18.0.into(), per_byte: 6e-7.into() }),
        spread: Default::default(),
    }
}

/// Migrations over a grid of sizes and rates, `repeats` times each, their components `deviation` off.
fn migrations(truth: &Calibration, repeats: usize, deviation: f64, seed: u64) -> Vec<Sample> {
    let model = Model::new(truth);
    let mut noise = Noise::new(seed);
    let mut samples = Vec::new();
    for (strategy, iterations) in [(Moved::Cold, 0), (Moved::Precopy, 0), (Moved::IterativePrecopy, 2)] {
        for megabytes in [1, 4, 16, 64] {
            for rate in [0.0, 1.0] {
                for _ in 0..repeats {
                    let memory = Bytes(megabytes * 1_000_000);
                    let cold = strategy == Moved::Cold;
                    let dumped_at = NormalizedRate::new(if cold { 1.0 } else { rate }).unwrap();
                    let costs = model.fitted(memory, dumped_at, true);
                    let mut time = |time: Millis| Millis(time.0 * noise.factor(deviation));
                    let times = [costs.prepare, costs.predump, costs.dump, costs.restore, costs.overlay]
                        .map(&mut time);
                    let rounds: Vec<Millis> = (0..iterations).map(|_| time(costs.round)).collect();
                    let mut volume = |volume: f64| Bytes((volume * noise.factor(deviation)) as u64);
                    samples.push(Sample {
                        memory,
                        rate,
                        strategy,
                        bandwidth: BitsPerSec(1_000_000_000),
                        prepare: Some(times[0]),
                        predump: (!cold)
                            .then(|| Pass { time: times[1], volume: volume(costs.predump_volume) }),
                        rounds: rounds
                            .into_iter()
                            .map(|time| Pass { time, volume: volume(costs.dump_volume) })
                            .collect(),
                        dump: Some(Pass { time: times[2], volume: volume(costs.dump_volume) }),
                        restore: Some(times[3]),
                        overlay: Some(times[4]),
                    });
                }
            }
        }
    }
    samples
}

fn measured(calibration: &Calibration) -> Vec<(&'static str, Parameter)> {
    let round = calibration.round.unwrap();
    calibration
        .parameters
        .named()
        .into_iter()
        .chain([("round.base", round.base), ("round.per_byte", round.per_byte)])
        .collect()
}

/// The share of migrations whose downtime and duration lie within the calibration's bounds.
fn covered(calibration: &Calibration, samples: &[Sample]) -> f64 {
    let model = Model::new(calibration);
    let within = |sample: &&Sample| {
        let cold = sample.strategy == Moved::Cold;
        let rate = NormalizedRate::new(if cold { 1.0 } else { sample.rate }).unwrap();
        let costs = model.bound(sample.memory, rate, true);
        let sent = |pass: &Pass| pass.time.0 + pass.volume.time_at(sample.bandwidth).unwrap().0;
        let downtime = sample.dump.iter().map(sent).sum::<f64>()
            + [sample.restore, sample.overlay].into_iter().flatten().map(|time| time.0).sum::<f64>();
        let before = sample.predump.iter().chain(&sample.rounds).map(sent).sum::<f64>();
        let duration = sample.prepare.unwrap().0 + before + downtime;
        let bound = if cold { costs.cold_duration() } else { costs.duration(sample.rounds.len() as u64) };
        let close = 1.0 + 1e-6;
        downtime <= costs.downtime().at(sample.bandwidth).0 * close
            && duration <= bound.at(sample.bandwidth).0 * close
    };
    samples.iter().filter(within).count() as f64 / samples.len() as f64
}

#[test]
fn without_noise_every_parameter_is_found() {
    let truth = truth();
    let fitted = fit(&migrations(&truth, 1, 0.0, 1), &FitOptions::new("lab")).unwrap();
    for ((name, wanted), (_, found)) in measured(&truth).into_iter().zip(measured(&fitted)) {
        // Volumes are whole bytes.
        assert!(
            (found.value - wanted.value).abs() <= 1e-4 * wanted.value,
            "{name}: {found:?} for {wanted:?}"
        );
    }
    assert!(fitted.spread.named().iter().all(|(_, factor)| *factor < 1.001), "{:?}", fitted.spread);
    let provenance = fitted.provenance.unwrap();
    assert_eq!(provenance.grid.unwrap().memory.len(), 4);
    let residuals = provenance.residuals;
    let names: Vec<&str> = residuals.keys().map(String::as_str).collect();
    let wanted =
        ["dump", "dump_volume", "overlay", "predump", "predump_volume", "prepare", "restore", "round"];
    assert_eq!(names, wanted);
    assert!(residuals["restore"].r2.unwrap() > 0.999_999);
}

#[test]
fn ninety_in_a_hundred_intervals_cover_the_truth() {
    const TRIALS: usize = 400;
    let truth = truth();
    let mut hits = std::collections::BTreeMap::new();
    for seed in 0..TRIALS {
        let fitted = fit(&migrations(&truth, 3, 0.05, seed as u64 + 1), &FitOptions::new("lab")).unwrap();
        for ((name, wanted), (_, found)) in measured(&truth).into_iter().zip(measured(&fitted)) {
            if let Some([low, high]) = found.ci90 {
                *hits.entry(name).or_insert(0) += usize::from((low..=high).contains(&wanted.value));
            }
        }
    }
    assert_eq!(hits.len(), 16, "{hits:?}");
    for (name, hits) in hits {
        let share = hits as f64 / TRIALS as f64;
        // Four standard errors of a share of 0.9 in 400 trials are 0.06.
        assert!((0.84..=0.96).contains(&share), "{name}: {share}");
    }
}

#[test]
fn the_bounds_cover_what_is_wanted_and_no_more() {
    let truth = truth();
    let samples = migrations(&truth, 20, 0.05, 7);
    let fitted = fit(&samples, &FitOptions::new("lab")).unwrap();
    let share = covered(&fitted, &samples);
    assert!((0.93..0.98).contains(&share), "{share}");
    // Other migrations of the same hosts, which the fit has not seen.
    let share = covered(&fitted, &migrations(&truth, 20, 0.05, 8));
    assert!(share > 0.92, "{share}");
    // The bound of a sum needs less than that of each part: sums even out.
    assert!(fitted.spread.named().iter().all(|(_, factor)| *factor < 1.1), "{:?}", fitted.spread);
    let all = FitOptions { coverage: 1.0, ..FitOptions::new("lab") };
    let looser = fit(&samples, &all).unwrap();
    assert_eq!(covered(&looser, &samples), 1.0);
    assert!(looser.spread.dump > fitted.spread.dump);
}

#[test]
fn a_fitted_calibration_is_written_and_read_back() {
    let fitted = fit(&migrations(&truth(), 2, 0.05, 3), &FitOptions::new("lab")).unwrap();
    assert_eq!(Calibration::from_toml(&fitted.to_toml().unwrap()).unwrap(), fitted);
}

#[test]
fn what_is_missing_is_named() {
    let all = migrations(&truth(), 2, 0.02, 5);
    let why = |samples: Vec<Sample>| fit(&samples, &FitOptions::new("lab")).unwrap_err().to_string();
    let only = |keep: &dyn Fn(&Sample) -> bool| all.iter().filter(|s| keep(s)).cloned().collect::<Vec<_>>();
    assert!(why(Vec::new()).contains("the predump was measured in 0 samples, at least 3"));
    assert!(why(only(&|s| s.strategy == Moved::Cold)).contains("predump was measured in 0 samples"));
    let one_size = why(only(&|s| s.memory == Bytes(4_000_000)));
    assert!(one_size.contains("predump was measured with one state size only (4.00 MB)"), "{one_size}");
    let one_rate = why(only(&|s| s.strategy != Moved::Cold && s.rate == 0.0));
    assert!(one_rate.contains("dump was measured at one dirty-page rate only (r = 0)"), "{one_rate}");
    let together = why(only(&|s| {
        s.strategy != Moved::Cold && [(1_000_000, 0.0), (64_000_000, 1.0)].contains(&(s.memory.0, s.rate))
    }));
    assert!(together.contains("vary together"), "{together}");
    let without = |change: &dyn Fn(&mut Sample)| {
        let mut samples = all.clone();
        samples.iter_mut().for_each(change);
        samples
    };
    assert!(why(without(&|s| s.restore = None)).contains("restore was measured in 0 samples"));
    assert!(
        why(without(&|s| s.rate = f64::NAN)).starts_with("sample 1: the normalised dirty-page rate is NaN")
    );
    assert!(why(without(&|s| s.restore = Some(Millis(-1.0)))).contains("restore time in ms is -1"));
    assert!(why(without(&|s| s.bandwidth = BitsPerSec(0))).contains("bandwidth in bit/s is 0"));
    let none = FitOptions { coverage: 0.0, ..FitOptions::new("lab") };
    assert!(fit(&all, &none).unwrap_err().to_string().contains("coverage is 0"));
    let no_pages = FitOptions { page_size: Bytes(0), ..FitOptions::new("lab") };
    assert!(fit(&all, &no_pages).is_err());
}

#[test]
fn without_iterations_a_round_is_taken_for_a_dump_and_what_never_happened_takes_no_time() {
    let mut samples = migrations(&truth(), 2, 0.02, 5);
    for sample in &mut samples {
        sample.rounds.clear();
        sample.prepare = None;
        sample.overlay = None;
    }
    let fitted = fit(&samples, &FitOptions::new("lab")).unwrap();
    assert_eq!(fitted.round, None);
    assert_eq!(
        (fitted.parameters.prepare, fitted.parameters.flow),
        (Parameter::exact(0.0), Parameter::exact(0.0))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever the parameters, zeros among them, and the noise.
    #[test]
    fn any_truth_is_found_within_the_noise(
        base in prop::array::uniform5(prop_oneof![1 => Just(0.0), 4 => 0.1..300.0_f64]),
        slope in prop::array::uniform6(prop_oneof![1 => Just(0.0), 4 => 0.1..40.0_f64]),
        rise in prop_oneof![1 => Just(0.0), 4 => 0.0..40.0_f64],
        deviation in 0.0..0.15_f64,
        seed in 1_u64..,
    ) {
        let mut truth = truth();
        let p = &mut truth.parameters;
        [p.phi_p, p.phi_d, p.psi, p.mu_p, p.mu_d] = base.map(Parameter::exact);
        [p.zeta, p.xi_min] = [slope[0], slope[1]].map(Parameter::exact);
        p.xi_max = Parameter::exact(slope[1] + rise);
        p.omega = Parameter::exact(slope[2] * 1e-7);
        [p.nu_p, p.nu_d_min] = [slope[3] * 1e-5, slope[4] * 1e-5].map(Parameter::exact);
        p.nu_d_max = Parameter::exact((slope[4] + rise) * 1e-5);
        truth.check().unwrap();
        let samples = migrations(&truth, 3, deviation, seed);
        let fitted = fit(&samples, &FitOptions::new("lab")).unwrap();
        for ((name, wanted), (_, found)) in measured(&truth).into_iter().zip(measured(&fitted)) {
            prop_assert!(found.value.is_finite() && found.value >= 0.0, "{name}");
            if let Some([low, high]) = found.ci90 {
                prop_assert!((0.0..=found.value).contains(&low) && high >= found.value, "{name}: {found:?}");
                // Six standard errors, and the rounding of volumes to bytes.
                let room = 3.0 * (high - low) + 1e-3 * wanted.value + 1e-3;
                prop_assert!((found.value - wanted.value).abs() <= room, "{name}: {found:?} for {wanted:?}");
            }
        }
        // Downtime and duration, each in as many samples.
        prop_assert!(covered(&fitted, &samples) >= 2.0 * 0.93 - 1.0);
    }
}
