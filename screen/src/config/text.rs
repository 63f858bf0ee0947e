//! Quantities with their units, as text: `"500ms"`, `"5m/s"`.

use std::fmt::Display;
use std::str::FromStr;

use mose_pam::{MetresPerSec, Millis};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// A quantity written with all its digits.
pub(super) trait Quantity {
    fn written(&self) -> String;
}

impl Quantity for Millis {
    fn written(&self) -> String {
        format!("{}ms", self.0)
    }
}

impl Quantity for MetresPerSec {
    fn written(&self) -> String {
        format!("{}m/s", self.0)
    }
}

pub(super) fn serialize<T: Quantity, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.written())
}

pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}
