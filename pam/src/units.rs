//! Newtypes for the quantities of a migration, so that no bare number crosses a crate's boundary.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A bandwidth in bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct BitsPerSec(pub u64);

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Millis(pub f64);

/// A rate at which a service dirties pages of its memory, in pages per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct PagesPerSec(pub f64);

/// A length in metres.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metres(pub f64);

/// A speed in metres per second.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MetresPerSec(pub f64);

/// A rate of frames in 1/s.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct FramesPerSec(pub f64);

/// A text that names no quantity of the wanted kind: what was read, why it cannot be used, and what it should look like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}: {fault}")]
pub struct ParseUnitError {
    text: String,
    wanted: &'static str,
    fault: Fault,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("it does not begin with a number")]
    NoNumber,
    #[error("it is negative")]
    Negative,
    #[error("it is not a finite number")]
    NotFinite,
    #[error("it has no unit")]
    NoUnit,
    #[error("its unit is of another kind")]
    UnknownUnit,
    #[error("it is too large")]
    TooLarge,
}

impl Bytes {
    /// The time that this many bytes take at `rate`; `None` where the rate is zero.
    #[must_use]
    pub fn time_at(self, rate: BitsPerSec) -> Option<Millis> {
        (rate.0 > 0).then(|| Millis(self.0 as f64 * 8e3 / rate.0 as f64))
    }
}

impl From<Duration> for Millis {
    fn from(d: Duration) -> Self {
        Self(d.as_secs_f64() * 1e3)
    }
}

impl fmt::Display for Bytes {
    /// Decimal prefixes and three figures, as link rates are read: `1.40 MB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0 as f64, &["B", "kB", "MB", "GB", "TB"]))
    }
}

impl fmt::Display for BitsPerSec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0 as f64, &["bit/s", "kb/s", "Mb/s", "Gb/s", "Tb/s"]))
    }
}

impl fmt::Display for PagesPerSec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&scaled(self.0, &["p/s", "kp/s", "Mp/s", "Gp/s"]))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = if self.0.abs() < 10.0 {
            2
        } else if self.0.abs() < 100.0 {
            1
        } else {
            0
        };
        f.pad(&format!("{:.precision$} ms", self.0))
    }
}

impl fmt::Display for Metres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2} m", self.0))
    }
}

/// `value` with the largest prefix that leaves it at least 1, in three figures.
fn scaled(value: f64, names: &[&str]) -> String {
    let mut value = value;
    let mut at = 0;
    while value >= 999.5 && at + 1 < names.len() {
        value /= 1e3;
        at += 1;
    }
    let precision = if at == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.precision$} {}", names[at])
}

/// Reads a number and its unit, in lower case, as a multiple of what `factor` says of the unit.
fn read(
    text: &str,
    wanted: &'static str,
    factor: impl FnOnce(&str) -> Option<f64>,
) -> Result<f64, ParseUnitError> {
    let error = |fault| ParseUnitError { text: text.to_owned(), wanted, fault };
    let lower = text.trim().to_ascii_lowercase();
    let unsigned = lower.trim_start_matches(['-', '+']);
    if unsigned.starts_with("nan") || unsigned.starts_with("inf") {
        return Err(error(Fault::NotFinite));
    }
    if lower.starts_with('-') {
        return Err(error(Fault::Negative));
    }
    let end = lower.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(lower.len());
    let value: f64 = lower[..end].parse().map_err(|_| error(Fault::NoNumber))?;
    let unit = lower[end..].trim();
    let fault = if unit.is_empty() { Fault::NoUnit } else { Fault::UnknownUnit };
    let product = value * factor(unit).ok_or_else(|| error(fault))?;
    if product.is_finite() { Ok(product) } else { Err(error(Fault::TooLarge)) }
}

/// As [`read`], rounded to a whole number.
fn read_whole(
    text: &str,
    wanted: &'static str,
    factor: impl FnOnce(&str) -> Option<f64>,
) -> Result<u64, ParseUnitError> {
    let value = read(text, wanted, factor)?.round();
    if value < 1.8e19 {
        Ok(value as u64)
    } else {
        Err(ParseUnitError { text: text.to_owned(), wanted, fault: Fault::TooLarge })
    }
}

impl FromStr for Bytes {
    type Err = ParseUnitError;

    /// Reads `64MiB`, `10MB`, `4096`; decimal and binary prefixes are told apart.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = read_whole(text, "a size such as `10MB` or `64MiB`", |unit| {
            Some(match unit {
                "" | "b" => 1.0,
                "kb" | "k" => 1e3,
                "mb" | "m" => 1e6,
                "gb" | "g" => 1e9,
                "tb" | "t" => 1e12,
                "kib" => 1024.0,
                "mib" => 1024.0 * 1024.0,
                "gib" => 1024.0 * 1024.0 * 1024.0,
                "tib" => 1024.0_f64.powi(4),
                _ => return None,
            })
        })?;
        Ok(Self(value))
    }
}

impl FromStr for BitsPerSec {
    type Err = ParseUnitError;

    /// Reads `1Gbps`, `100 Mb/s`, `500mbit`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = read_whole(text, "a bandwidth such as `1Gbps` or `100Mb/s`", |unit| {
            let prefix = ["bps", "bit/s", "b/s", "bit"].iter().find_map(|u| unit.strip_suffix(u))?;
            Some(match prefix {
                "" => 1.0,
                "k" => 1e3,
                "m" => 1e6,
                "g" => 1e9,
                "t" => 1e12,
                _ => return None,
            })
        })?;
        Ok(Self(value))
    }
}

impl FromStr for Millis {
    type Err = ParseUnitError;

    /// Reads `1s`, `800ms`, `0.8s`, `2min`; a bare number is refused, for nobody can tell which unit it means.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = read(text, "a time such as `800ms` or `5s`", |unit| {
            Some(match unit {
                "us" | "µs" | "μs" => 1e-3,
                "ms" => 1.0,
                "s" => 1e3,
                "min" => 6e4,
                "h" => 3.6e6,
                _ => return None,
            })
        })?;
        Ok(Self(value))
    }
}

impl FromStr for PagesPerSec {
    type Err = ParseUnitError;

    /// Reads `300p/s`, `300 pages/s`, `1.2kp/s`, `300`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = read(text, "a dirty-page rate such as `300p/s`", |unit| {
            Some(match unit {
                "" | "p/s" | "pages/s" => 1.0,
                "kp/s" => 1e3,
                "mp/s" => 1e6,
                _ => return None,
            })
        })?;
        Ok(Self(value))
    }
}

impl FromStr for Metres {
    type Err = ParseUnitError;

    /// Reads `2.5m`, `80cm`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text, "a length such as `2.5m`", |unit| match unit {
            "m" => Some(1.0),
            "cm" => Some(1e-2),
            "km" => Some(1e3),
            _ => None,
        })
        .map(Self)
    }
}

impl FromStr for MetresPerSec {
    type Err = ParseUnitError;

    /// Reads `5m/s`, `18km/h`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text, "a speed such as `5m/s`", |unit| match unit {
            "m/s" => Some(1.0),
            "km/h" => Some(1.0 / 3.6),
            _ => None,
        })
        .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_tell_decimal_from_binary_prefixes() {
        assert_eq!("10MB".parse(), Ok(Bytes(10_000_000)));
        assert_eq!("64 MiB".parse(), Ok(Bytes(67_108_864)));
        assert_eq!("4096".parse(), Ok(Bytes(4096)));
        assert!("10 parsecs".parse::<Bytes>().is_err());
        assert!("-1MB".parse::<Bytes>().is_err());
        assert!("NaN".parse::<Bytes>().is_err());
    }

    #[test]
    fn bandwidths_are_read_in_every_usual_spelling() {
        for text in ["1Gbps", "1 Gb/s", "1gbit", "1000Mbit/s", "1000000000bps"] {
            assert_eq!(text.parse(), Ok(BitsPerSec(1_000_000_000)), "{text}");
        }
        assert!("1GB".parse::<BitsPerSec>().is_err());
    }

    #[test]
    fn times_need_a_unit_and_rates_do_not() {
        assert_eq!("0.8s".parse(), Ok(Millis(800.0)));
        assert_eq!("800 ms".parse(), Ok(Millis(800.0)));
        assert_eq!("300p/s".parse(), Ok(PagesPerSec(300.0)));
        assert_eq!("300".parse(), Ok(PagesPerSec(300.0)));
        assert!("800".parse::<Millis>().is_err());
    }

    #[test]
    fn a_text_that_is_no_quantity_is_told_why() {
        let why = |text: &str| text.parse::<Millis>().map_err(|error| error.to_string()).unwrap_err();
        assert_eq!(why("-1s"), "`-1s` is not a time such as `800ms` or `5s`: it is negative");
        assert!(why("NaN").ends_with("it is not a finite number"), "{}", why("NaN"));
        assert!(why("-inf").ends_with("it is not a finite number"));
        assert!(why("soon").ends_with("it does not begin with a number"));
        assert!(why("5").ends_with("it has no unit"));
        assert!(why("5 fortnights").ends_with("its unit is of another kind"));
        assert!(why(&format!("1{}h", "0".repeat(308))).ends_with("it is too large"));
        assert!("99999999999TB".parse::<Bytes>().is_err());
        assert!("".parse::<PagesPerSec>().is_err());
        assert!("1..5s".parse::<Millis>().is_err());
    }

    #[test]
    fn quantities_are_shown_in_three_figures() {
        assert_eq!(Bytes(1_400_000).to_string(), "1.40 MB");
        assert_eq!(Bytes(999_999).to_string(), "1.00 MB");
        assert_eq!(Bytes(12).to_string(), "12 B");
        assert_eq!(BitsPerSec(941_000_000).to_string(), "941 Mb/s");
        assert_eq!(Millis(203.4).to_string(), "203 ms");
        assert_eq!(Millis(1.234).to_string(), "1.23 ms");
    }

    #[test]
    fn a_megabyte_takes_eight_milliseconds_at_one_gigabit() {
        assert_eq!(Bytes(1_000_000).time_at(BitsPerSec(1_000_000_000)), Some(Millis(8.0)));
        assert_eq!(Bytes(1).time_at(BitsPerSec(0)), None);
    }
}
