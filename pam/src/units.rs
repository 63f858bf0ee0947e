//! Newtypes for the quantities of a migration, so that no bare number crosses a crate's boundary.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A bandwidth in bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BitsPerSec(pub u64);

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub f64);

/// A text that names no quantity of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseUnitError {
    text: String,
    wanted: &'static str,
}

impl fmt::Display for ParseUnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not {}", self.text, self.wanted)
    }
}

impl std::error::Error for ParseUnitError {}

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

/// Splits `1.5MB` into its number and its unit.
fn split(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let value: f64 = text[..end].parse().ok()?;
    Some((value, text[end..].trim().to_ascii_lowercase()))
}

/// `value` × `factor` as a whole number; `None` where it is not a finite amount that fits.
fn whole(value: f64, factor: f64) -> Option<u64> {
    let product = value * factor;
    (product.is_finite() && (0.0..1.8e19).contains(&product)).then_some(product.round() as u64)
}

impl FromStr for Bytes {
    type Err = ParseUnitError;

    /// Reads `64MiB`, `10MB`, `4096`; decimal and binary prefixes are told apart.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseUnitError { text: text.to_owned(), wanted: "a size such as `10MB` or `64MiB`" };
        let (value, unit) = split(text).ok_or_else(error)?;
        let factor = match unit.as_str() {
            "" | "b" => 1.0,
            "kb" | "k" => 1e3,
            "mb" | "m" => 1e6,
            "gb" | "g" => 1e9,
            "tb" | "t" => 1e12,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            "tib" => 1024.0_f64.powi(4),
            _ => return Err(error()),
        };
        whole(value, factor).map(Self).ok_or_else(error)
    }
}

impl FromStr for BitsPerSec {
    type Err = ParseUnitError;

    /// Reads `1Gbps`, `100 Mb/s`, `500mbit`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error =
            || ParseUnitError { text: text.to_owned(), wanted: "a bandwidth such as `1Gbps` or `100Mb/s`" };
        let (value, unit) = split(text).ok_or_else(error)?;
        let prefix = ["bps", "bit/s", "b/s", "bit"].iter().find_map(|u| unit.strip_suffix(u));
        let factor = match prefix {
            Some("") => 1.0,
            Some("k") => 1e3,
            Some("m") => 1e6,
            Some("g") => 1e9,
            Some("t") => 1e12,
            _ => return Err(error()),
        };
        whole(value, factor).map(Self).ok_or_else(error)
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
