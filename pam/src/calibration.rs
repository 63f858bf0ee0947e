//! A calibration: the parameters of one pair of hosts, and where they come from. People know its file as a *calibration profile*.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::parameter::Parameter;
use crate::units::Bytes;

/// The largest value that a parameter may have: beyond it nothing is plausible, and below it no sum can overflow.
const LARGEST: f64 = 1e12;

/// A calibration profile: what the model knows of one pair of hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "Profile", deny_unknown_fields)]
pub struct Calibration {
    /// What it is called.
    pub name: String,
    /// Where its numbers come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// The parameters of the published model.
    pub parameters: Parameters,
    /// What a pre-copy iteration costs apart from its transfer, where that differs from a final dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<RoundCost>,
    /// How far measurements lie above the fit.
    #[serde(default)]
    pub spread: Spread,
}

/// Where a profile's numbers come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The publication or procedure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When it was measured, such as `2026-11-22`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The source host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The destination host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The versions of the tools that were measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, String>,
    /// What was migrated to measure them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<Grid>,
    /// How well the fit explains each component.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub residuals: BTreeMap<String, Residuals>,
}

/// The migrations that a calibration was made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// The state sizes.
    pub memory: Vec<Bytes>,
    /// The normalised dirty-page rates.
    pub rates: Vec<f64>,
    /// How many migrations in all.
    pub samples: usize,
}

/// How well a fit explains one component.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Residuals {
    /// How many observations there were.
    pub samples: usize,
    /// Root mean square of measured − fitted, in ms (for volumes: bytes).
    pub rms: f64,
    /// The greatest |measured − fitted| / fitted.
    pub max_relative: f64,
    /// The share of the variance that the fit explains, R²; absent where nothing varied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r2: Option<f64>,
}

/// The parameters of Table III, by the names of its symbols. Times in ms, sizes in bytes, volumes in pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// α1: factor on what the source does; times α2.
    pub alpha1: Parameter,
    /// α2: factor on what the source does; times α1.
    pub alpha2: Parameter,
    /// α3: factor on the restore; times α4.
    pub alpha3: Parameter,
    /// α4: factor on the restore; times α3.
    pub alpha4: Parameter,
    /// σ: page size (bytes).
    pub sigma: Parameter,
    /// β: constant time of a pre-dump and of a dump (ms).
    pub beta: Parameter,
    /// φ_p: constant time for which a pre-dump holds the service (ms).
    pub phi_p: Parameter,
    /// φ_d: constant time for which a dump holds the service (ms).
    pub phi_d: Parameter,
    /// ζ: time of a pre-dump per byte of state, in multiples of Γ.
    pub zeta: Parameter,
    /// ξ at the least dirty-page rate: time of a dump per byte of state, in multiples of Γ.
    pub xi_min: Parameter,
    /// ξ at the greatest dirty-page rate.
    pub xi_max: Parameter,
    /// δ: constant time of a pre-dump alone (ms).
    pub delta: Parameter,
    /// Λ: time of a pre-dump alone per byte of state (ms/B).
    pub lambda: Parameter,
    /// Γ: unit of ζ and ξ (ms/B).
    pub gamma: Parameter,
    /// τ1: factor on the volume of a pre-dump.
    pub tau1: Parameter,
    /// τ2 at the least dirty-page rate: factor on the volume of a dump.
    pub tau2_min: Parameter,
    /// τ2 at the greatest dirty-page rate.
    pub tau2_max: Parameter,
    /// μ_p: constant volume of a pre-dump (pages).
    pub mu_p: Parameter,
    /// μ_d: constant volume of a dump (pages).
    pub mu_d: Parameter,
    /// ν_p: volume of a pre-dump per byte of state (pages/B).
    pub nu_p: Parameter,
    /// ν_d at the least dirty-page rate: volume of a dump per byte of state (pages/B).
    pub nu_d_min: Parameter,
    /// ν_d at the greatest dirty-page rate.
    pub nu_d_max: Parameter,
    /// ψ: constant time of a restore (ms).
    pub psi: Parameter,
    /// ω: time of restoring a byte (ms/B).
    pub omega: Parameter,
    /// Time of clearing the namespace at the source (ms).
    pub ns_clear: Parameter,
    /// Time of configuring the namespace at the destination (ms).
    pub ns_conf: Parameter,
    /// Time of redirecting the flow (ms).
    pub flow: Parameter,
    /// ρ: compressed / raw volume; 1 when uncompressed.
    #[serde(default = "one")]
    pub rho: Parameter,
    /// Time of preparing the destination before the service is touched (ms). Not in Table III: 0 there.
    #[serde(default = "zero")]
    pub prepare: Parameter,
}

const fn one() -> Parameter {
    Parameter::exact(1.0)
}

const fn zero() -> Parameter {
    Parameter::exact(0.0)
}

/// A pre-copy iteration takes `base` + `per_byte` · M (ms), and the transfer of V(r).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "Round", deny_unknown_fields)]
pub struct RoundCost {
    /// Constant time (ms).
    pub base: Parameter,
    /// Time per byte of state (ms/B).
    pub per_byte: Parameter,
}

impl RoundCost {
    /// How long an agent waits between two rounds, which a round's constant time includes: what is dirtied at once again need not
    /// be sent at once again, and the service's host has other work than reading memory.
    pub const PAUSE: Duration = Duration::from_millis(50);
}

/// By which factor ≥ 1 the bounds multiply each component: an upper quantile of measured / fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Spread {
    /// Of preparing the destination.
    pub prepare: f64,
    /// Of T_p.
    pub predump: f64,
    /// Of T_round; only where a profile has one.
    pub round: f64,
    /// Of T_d.
    pub dump: f64,
    /// Of T_r.
    pub restore: f64,
    /// Of T_add.
    pub overlay: f64,
    /// Of V_0 and V.
    pub volume: f64,
}

impl Default for Spread {
    /// None: the bound is the fit.
    fn default() -> Self {
        Self { prepare: 1.0, predump: 1.0, round: 1.0, dump: 1.0, restore: 1.0, overlay: 1.0, volume: 1.0 }
    }
}

impl Spread {
    /// Its factors with their names.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("prepare", self.prepare),
            ("predump", self.predump),
            ("round", self.round),
            ("dump", self.dump),
            ("restore", self.restore),
            ("overlay", self.overlay),
            ("volume", self.volume),
        ]
    }
}

/// Why a text is no calibration.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// It is no TOML, or a key is missing, unknown or of the wrong kind; the message names it and its place.
    #[error("the profile cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// A value that no measurement can give.
    #[error("profile `{calibration}`: `{key}` is {value}: it must be {wanted}")]
    Value {
        /// The calibration's name.
        calibration: String,
        /// Which value.
        key: String,
        /// What it is.
        value: f64,
        /// What it must be.
        wanted: &'static str,
    },
    /// A pair whose value at R_min lies above that at R_max: the bounds would not grow with r.
    #[error(
        "profile `{calibration}`: {pair} is {min} at the least dirty-page rate and {max} at the greatest: exchange them"
    )]
    Order {
        /// The calibration's name.
        calibration: String,
        /// Which pair.
        pair: &'static str,
        /// Its value at R_min.
        min: f64,
        /// Its value at R_max.
        max: f64,
    },
    /// A calibration that has no name.
    #[error("the profile's `name` is empty: give it one")]
    Nameless,
}

impl Calibration {
    /// The parameters published in 2024 (IEEE TNSM 21(2), Table III).
    #[must_use]
    #[expect(clippy::expect_used, reason = "the text is part of the program, and a test reads it")]
    pub fn tnsm2024() -> Self {
        Self::from_toml(include_str!("../../assets/profiles/tnsm2024.toml")).expect("a valid profile")
    }

    /// Reads a calibration.
    ///
    /// # Errors
    ///
    /// [`CalibrationError`] where a key is missing or unknown, or a value impossible.
    pub fn from_toml(text: &str) -> Result<Self, CalibrationError> {
        let calibration: Self = toml::from_str(text)?;
        calibration.check()?;
        Ok(calibration)
    }

    /// Writes the calibration, so that [`Calibration::from_toml`] reads it back.
    ///
    /// # Errors
    ///
    /// If the TOML writer refuses; it has no reason to.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Whether all values are possible and all pairs in order.
    ///
    /// # Errors
    ///
    /// [`CalibrationError::Value`] or [`CalibrationError::Order`], naming the key.
    pub fn check(&self) -> Result<(), CalibrationError> {
        if self.name.trim().is_empty() {
            return Err(CalibrationError::Nameless);
        }
        let refused = |key: String, value: f64, wanted: &'static str| CalibrationError::Value {
            calibration: self.name.clone(),
            key,
            value,
            wanted,
        };
        let round = self.round.map(|round| [("round.base", round.base), ("round.per_byte", round.per_byte)]);
        for (key, parameter) in self.parameters.named().into_iter().chain(round.into_iter().flatten()) {
            if !(0.0..=LARGEST).contains(&parameter.value) {
                return Err(refused(key.to_owned(), parameter.value, "a number between 0 and 1e12"));
            }
            if let Some([low, high]) = parameter.ci90 {
                if !(low.is_finite() && low <= parameter.value) {
                    return Err(refused(format!("{key}.ci90"), low, "finite, and not above the value"));
                }
                if !(high.is_finite() && high >= parameter.value) {
                    return Err(refused(format!("{key}.ci90"), high, "finite, and not below the value"));
                }
            }
        }
        for (key, parameter) in [("sigma", self.parameters.sigma), ("rho", self.parameters.rho)] {
            if parameter.value <= 0.0 {
                return Err(refused(key.to_owned(), parameter.value, "above zero"));
            }
        }
        for (key, factor) in self.spread.named() {
            if !(1.0..=LARGEST).contains(&factor) {
                return Err(refused(format!("spread.{key}"), factor, "a number between 1 and 1e12"));
            }
        }
        let p = &self.parameters;
        let slopes = (p.tau2_min.value * p.nu_d_min.value, p.tau2_max.value * p.nu_d_max.value);
        for (pair, min, max) in
            [("ξ (`xi_min`, `xi_max`)", p.xi_min.value, p.xi_max.value), ("τ2·ν_d", slopes.0, slopes.1)]
        {
            if min > max {
                return Err(CalibrationError::Order { calibration: self.name.clone(), pair, min, max });
            }
        }
        Ok(())
    }
}

impl Parameters {
    /// The parameters with the names of their keys.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, Parameter); 29] {
        [
            ("alpha1", self.alpha1),
            ("alpha2", self.alpha2),
            ("alpha3", self.alpha3),
            ("alpha4", self.alpha4),
            ("sigma", self.sigma),
            ("beta", self.beta),
            ("phi_p", self.phi_p),
            ("phi_d", self.phi_d),
            ("zeta", self.zeta),
            ("xi_min", self.xi_min),
            ("xi_max", self.xi_max),
            ("delta", self.delta),
            ("lambda", self.lambda),
            ("gamma", self.gamma),
            ("tau1", self.tau1),
            ("tau2_min", self.tau2_min),
            ("tau2_max", self.tau2_max),
            ("mu_p", self.mu_p),
            ("mu_d", self.mu_d),
            ("nu_p", self.nu_p),
            ("nu_d_min", self.nu_d_min),
            ("nu_d_max", self.nu_d_max),
            ("psi", self.psi),
            ("omega", self.omega),
            ("ns_clear", self.ns_clear),
            ("ns_conf", self.ns_conf),
            ("flow", self.flow),
            ("rho", self.rho),
            ("prepare", self.prepare),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = include_str!("../../assets/profiles/tnsm2024.toml");

    fn complaint(text: &str) -> String {
        Calibration::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn the_built_in_calibration_is_read_and_written_back() {
        let calibration = Calibration::tnsm2024();
        assert_eq!(calibration.parameters.alpha3, Parameter::exact(3.3));
        assert_eq!(calibration.parameters.prepare, Parameter::exact(0.0));
        assert_eq!(Calibration::from_toml(&calibration.to_toml().unwrap()).unwrap(), calibration);
    }

    #[test]
    fn a_fitted_calibration_keeps_its_intervals_and_residuals() {
        let mut calibration = Calibration::tnsm2024();
        calibration.parameters.phi_d = Parameter { value: 40.0, ci90: Some([38.5, 41.5]) };
        calibration.round = Some(RoundCost { base: 12.0.into(), per_byte: 1e-7.into() });
        calibration.spread.dump = 1.4;
        let residuals = Residuals { samples: 9, rms: 1.5, max_relative: 0.2, r2: Some(0.98) };
        let provenance = calibration.provenance.get_or_insert_default();
        provenance.residuals.insert("dump".into(), residuals);
        provenance.grid = Some(Grid { memory: vec![Bytes(1 << 20)], rates: vec![0.0, 1.0], samples: 18 });
        assert_eq!(Calibration::from_toml(&calibration.to_toml().unwrap()).unwrap(), calibration);
    }

    #[test]
    fn a_missing_or_unknown_key_is_named() {
        for (key, _) in Calibration::tnsm2024().parameters.named() {
            let without: String = PUBLISHED
                .lines()
                .filter(|line| !line.starts_with(&format!("{key} =")))
                .flat_map(|line| [line, "\n"])
                .collect();
            match key {
                "rho" | "prepare" => assert!(Calibration::from_toml(&without).is_ok()),
                _ => assert!(complaint(&without).contains(&format!("missing field `{key}`")), "{key}"),
            }
        }
        let unknown = complaint(&PUBLISHED.replace("beta =", "betta ="));
        assert!(unknown.contains("unknown field `betta`"), "{unknown}");
        assert!(complaint("gibberish").contains("cannot be read"));
        assert!(
            complaint(&PUBLISHED.replace("phi_d = 40", "phi_d = { value = 40, ci = [1, 2] }"))
                .contains("`ci`")
        );
        assert!(
            complaint(&PUBLISHED.replace("phi_d = 40", "phi_d = \"40\"")).contains("a number, or a table")
        );
    }

    #[test]
    fn an_impossible_value_is_named() {
        for (from, to, named) in [
            ("beta = 84", "beta = -1", "`beta` is -1"),
            ("beta = 84", "beta = nan", "`beta` is NaN"),
            ("beta = 84", "beta = inf", "`beta` is inf"),
            ("sigma = 4096", "sigma = 0", "`sigma` is 0"),
            ("xi_min = 0", "xi_min = 31", "`xi_min`"),
            ("nu_d_min = 0", "nu_d_min = 1", "τ2·ν_d"),
            ("beta = 84", "beta = { value = 84, ci90 = [85, 86] }", "`beta.ci90` is 85"),
            ("name = \"tnsm2024\"", "name = \"\"", "name"),
        ] {
            let text = complaint(&PUBLISHED.replace(from, to));
            assert!(text.contains(named), "{to}: {text}");
        }
        assert!(complaint(&format!("{PUBLISHED}[spread]\ndump = 0.9")).contains("`spread.dump` is 0.9"));
    }
}
