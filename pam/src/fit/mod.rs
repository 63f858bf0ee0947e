//! The fit: from measured migrations to a calibration.
//!
//! Of the published parameters only sums and products can be told apart by measuring: α, τ = 1 and β = δ = Λ = 0 are set,
//! Γ = 1e-7 ms/B is the unit of ζ and ξ, and the overlay's time is counted as the flow's. Then
//!
//! | component | fitted |
//! |---|---|
//! | pre-dump | φ_p + Γ·ζ·M |
//! | dump | φ_d + Γ·ξ(r)·M, ξ_max ≥ ξ_min |
//! | restore | ψ + ω·M |
//! | pre-dump volume | (μ_p + ν_p·M)·σ |
//! | dump volume | (μ_d + ν_d(r)·M)·σ, ν_d,max ≥ ν_d,min; rounds count too |
//! | round | base + per_byte·M |
//! | preparation, overlay | constants |

mod least_squares;
mod sample;
mod spreads;

use std::collections::BTreeMap;

pub use sample::{Pass, Sample};

use self::least_squares::{Fit, Row};
use crate::calibration::{
    Calibration, CalibrationError, Grid, Parameters, Provenance, Residuals, RoundCost, Spread,
};
use crate::input_error::InputError;
use crate::model::Model;
use crate::parameter::Parameter;
use crate::units::Bytes;

/// Γ (ms/B) of a fitted calibration: fixed, for only its products with ζ and ξ are measured.
const GAMMA: f64 = 1e-7;

/// What a fit is told besides its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// The calibration's name.
    pub name: String,
    /// Where, when and with which tools it was measured; the grid and the residuals are filled in.
    pub provenance: Provenance,
    /// The share of samples whose downtime, and what lies before it, the bounds are to cover before they are widened.
    pub coverage: f64,
    /// σ.
    pub page_size: Bytes,
}

impl FitOptions {
    /// A fit whose bounds cover 93 % of its samples before they are widened, with pages of 4096 bytes.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), provenance: Provenance::default(), coverage: 0.93, page_size: Bytes(4096) }
    }
}

/// Why samples make no calibration.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// A sample with an impossible figure.
    #[error("sample {number}: {source}")]
    Sample {
        /// Which, from 1 on.
        number: usize,
        /// What is wrong with it.
        source: InputError,
    },
    /// Fewer observations than the fit needs.
    #[error(
        "the {component} was measured in {found} samples, at least {needed} are needed: measure more migrations"
    )]
    TooFew {
        /// Of which component.
        component: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        needed: usize,
    },
    /// All observations at one state size.
    #[error("the {component} was measured with one state size only ({size}): measure a second one")]
    OneSize {
        /// Of which component.
        component: &'static str,
        /// Which size.
        size: Bytes,
    },
    /// All observations at one dirty-page rate.
    #[error(
        "the {component} was measured at one dirty-page rate only (r = {rate}): measure at R_min and at R_max"
    )]
    OneRate {
        /// Of which component.
        component: &'static str,
        /// Which r.
        rate: f64,
    },
    /// State size and dirty-page rate vary together.
    #[error(
        "state size and dirty-page rate of the {component}'s samples vary together: measure each size at both rates"
    )]
    Confounded {
        /// Of which component.
        component: &'static str,
    },
    /// A share that is none.
    #[error("the coverage is {coverage}: it lies above 0 and is at most 1")]
    Coverage {
        /// What was given.
        coverage: f64,
    },
    /// What was fitted is no possible calibration, such as with an impossible page size.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
}

/// An observation of one component: at M and r.
#[derive(Clone, Copy)]
struct Observation {
    memory: f64,
    rate: f64,
    measured: f64,
}

/// What is collected of one component.
struct Component {
    name: &'static str,
    observations: Vec<Observation>,
}

impl Component {
    /// What `pick` finds in each sample, at the sample's M and the r that it dumps at.
    fn of<I: IntoIterator<Item = f64>>(
        name: &'static str,
        samples: &[Sample],
        pick: impl Fn(&Sample) -> I,
    ) -> Self {
        let observe = |sample: &Sample| {
            let (memory, rate) = (sample.memory.0 as f64, sample.dumped_at());
            pick(sample)
                .into_iter()
                .map(|measured| Observation { memory, rate, measured })
                .collect::<Vec<_>>()
        };
        Self { name, observations: samples.iter().flat_map(observe).collect() }
    }

    fn constant(&self, residuals: &mut Notes) -> Result<Parameter, FitError> {
        let fit = self.fit(residuals, |_| [1.0])?;
        Ok(parameter(fit.sum([1.0])))
    }

    /// Base and slope, the slope in units of `unit` per byte.
    fn affine(&self, unit: f64, residuals: &mut Notes) -> Result<[Parameter; 2], FitError> {
        self.several_sizes()?;
        let fit = self.fit(residuals, |o| [1.0, unit * o.memory])?;
        Ok([parameter(fit.sum([1.0, 0.0])), parameter(fit.sum([0.0, 1.0]))])
    }

    /// Base, slope at r = 0 and slope at r = 1, which is at least that. The columns are the slope at r = 0 and what r = 1
    /// adds to it, so that neither being negative is all that has to hold.
    fn affine_by_rate(&self, unit: f64, residuals: &mut Notes) -> Result<[Parameter; 3], FitError> {
        self.several_sizes()?;
        if let Some(first) = self.observations.first()
            && self.observations.iter().all(|o| o.rate == first.rate)
        {
            return Err(FitError::OneRate { component: self.name, rate: first.rate });
        }
        let fit = self.fit(residuals, |o| [1.0, unit * o.memory, unit * o.memory * o.rate])?;
        let pick = |contrast| parameter(fit.sum(contrast));
        Ok([pick([1.0, 0.0, 0.0]), pick([0.0, 1.0, 0.0]), pick([0.0, 1.0, 1.0])])
    }

    fn several_sizes(&self) -> Result<(), FitError> {
        match self.observations.first() {
            Some(first) if self.observations.iter().all(|o| o.memory == first.memory) => {
                Err(FitError::OneSize { component: self.name, size: Bytes(first.memory as u64) })
            }
            _ => Ok(()),
        }
    }

    fn fit<const K: usize>(
        &self,
        residuals: &mut Notes,
        columns: impl Fn(&Observation) -> [f64; K],
    ) -> Result<Fit<K>, FitError> {
        let found = self.observations.len();
        if found <= K {
            return Err(FitError::TooFew { component: self.name, found, needed: K + 1 });
        }
        let rows: Vec<Row<K>> = self.observations.iter().map(|o| (columns(o), o.measured)).collect();
        let fit = Fit::new(&rows).map_err(|_| FitError::Confounded { component: self.name })?;
        residuals.insert(self.name.replace(' ', "_"), explained(&rows, &fit.coefficients));
        Ok(fit)
    }
}

/// The residuals by component.
type Notes = BTreeMap<String, Residuals>;

fn parameter((value, ci90): (f64, [f64; 2])) -> Parameter {
    Parameter { value, ci90: Some(ci90) }
}

fn explained<const K: usize>(rows: &[Row<K>], coefficients: &[f64; K]) -> Residuals {
    let fitted = |columns: &[f64; K]| -> f64 { columns.iter().zip(coefficients).map(|(x, b)| x * b).sum() };
    let count = rows.len() as f64;
    let mean = rows.iter().map(|(_, y)| y).sum::<f64>() / count;
    let squares: f64 = rows.iter().map(|(x, y)| (y - fitted(x)).powi(2)).sum();
    let total: f64 = rows.iter().map(|(_, y)| (y - mean).powi(2)).sum();
    let relative = rows.iter().filter(|(x, _)| fitted(x) > 0.0).map(|(x, y)| (y / fitted(x) - 1.0).abs());
    Residuals {
        samples: rows.len(),
        rms: (squares / count).sqrt(),
        max_relative: relative.fold(0.0, f64::max),
        r2: (total > 0.0).then(|| 1.0 - squares / total),
    }
}

/// Fits a calibration to measured migrations.
///
/// Pre-dump, dump, restore and both volumes must have been measured with two state sizes, the dump at two dirty-page
/// rates; without iterations a round is taken for a dump, and what was never prepared or redirected takes no time.
///
/// # Errors
///
/// [`FitError`], naming the component and what is missing.
pub fn fit(samples: &[Sample], options: &FitOptions) -> Result<Calibration, FitError> {
    let coverage = options.coverage;
    if !(coverage > 0.0 && coverage <= 1.0) {
        return Err(FitError::Coverage { coverage });
    }
    for (index, sample) in samples.iter().enumerate() {
        sample.check().map_err(|source| FitError::Sample { number: index + 1, source })?;
    }
    let sigma = options.page_size.0 as f64;
    let mut notes = Notes::new();
    let of = |name, pick: fn(&Sample) -> Option<f64>| Component::of(name, samples, pick);

    let [phi_p, zeta] = of("predump", |s| Some(s.predump?.time.0)).affine(GAMMA, &mut notes)?;
    let [phi_d, xi_min, xi_max] = of("dump", |s| Some(s.dump?.time.0)).affine_by_rate(GAMMA, &mut notes)?;
    let [psi, omega] = of("restore", |s| Some(s.restore?.0)).affine(1.0, &mut notes)?;
    let in_pages = |parameter: Parameter| Parameter {
        value: parameter.value / sigma,
        ci90: parameter.ci90.map(|ends| ends.map(|end| end / sigma)),
    };
    let predump_volume = of("predump volume", |s| Some(s.predump?.volume.0 as f64));
    let [mu_p, nu_p] = predump_volume.affine(1.0, &mut notes)?.map(in_pages);
    let dump_volume = Component::of("dump volume", samples, |s| {
        s.rounds.iter().chain(&s.dump).map(|pass| pass.volume.0 as f64).collect::<Vec<_>>()
    });
    let [mu_d, nu_d_min, nu_d_max] = dump_volume.affine_by_rate(1.0, &mut notes)?.map(in_pages);
    let rounds =
        Component::of("round", samples, |s| s.rounds.iter().map(|pass| pass.time.0).collect::<Vec<_>>());
    let round = if rounds.observations.is_empty() {
        None
    } else {
        let [base, per_byte] = rounds.affine(1.0, &mut notes)?;
        Some(RoundCost { base, per_byte })
    };
    let mut constant_or_none = |component: Component| {
        if component.observations.is_empty() {
            Ok(Parameter::exact(0.0))
        } else {
            component.constant(&mut notes)
        }
    };
    let prepare = constant_or_none(of("prepare", |s| Some(s.prepare?.0)))?;
    let flow = constant_or_none(of("overlay", |s| Some(s.overlay?.0)))?;

    let [none, one] = [Parameter::exact(0.0), Parameter::exact(1.0)];
    let mut calibration = Calibration {
        name: options.name.clone(),
        provenance: Some(Provenance {
            grid: Some(grid(samples)),
            residuals: notes,
            ..options.provenance.clone()
        }),
        parameters: Parameters {
            alpha1: one,
            alpha2: one,
            alpha3: one,
            alpha4: one,
            sigma: sigma.into(),
            beta: none,
            phi_p,
            phi_d,
            zeta,
            xi_min,
            xi_max,
            delta: none,
            lambda: none,
            gamma: GAMMA.into(),
            tau1: one,
            tau2_min: one,
            tau2_max: one,
            mu_p,
            mu_d,
            nu_p,
            nu_d_min,
            nu_d_max,
            psi,
            omega,
            ns_clear: none,
            ns_conf: none,
            flow,
            rho: one,
            prepare,
        },
        round,
        spread: Spread::default(),
    };
    calibration.check()?;
    calibration.spread = spreads::spreads(&Model::new(&calibration), samples, coverage);
    calibration.check()?;
    Ok(calibration)
}

fn grid(samples: &[Sample]) -> Grid {
    let mut memory: Vec<Bytes> = samples.iter().map(|sample| sample.memory).collect();
    memory.sort_unstable();
    memory.dedup();
    let mut rates: Vec<f64> = samples.iter().map(|sample| sample.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    Grid { memory, rates, samples: samples.len() }
}
