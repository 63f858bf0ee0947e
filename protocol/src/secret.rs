//! The secrets of a container, on their way to the destination's store. Their values are shown by nothing but the wire.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most that the values of one container's secrets may amount to, in bytes: they travel in a message.
pub const MAX_SECRETS: usize = 1 << 20;

/// A secret of the container engine's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its name in the store.
    pub name: String,
    /// Its value in the store.
    pub value: Confidential,
    /// Its labels in the store.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the container was given as a file, where the store has another value by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Confidential>,
}

impl Secret {
    /// How many bytes of values it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        self.value.bytes().len() + self.given.as_ref().map_or(0, |given| given.bytes().len())
    }
}

/// Bytes that go over the wire and are shown nowhere: what is derived from them by `Debug` does not tell them.
#[derive(Clone, PartialEq, Eq)]
pub struct Confidential(Vec<u8>);

impl Confidential {
    /// Wraps `bytes`.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Confidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(confidential)")
    }
}

/// On the wire: hexadecimal digits.
impl Serialize for Confidential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = String::with_capacity(self.0.len() * 2);
        for byte in &self.0 {
            // Writing to a string cannot fail.
            let _ = write!(digits, "{byte:02x}");
        }
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for Confidential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        // Errors of serde quote what they found: this one does not.
        let wrong =
            || serde::de::Error::custom("a confidential value is not written in pairs of hexadecimal digits");
        let digits = digits.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err(wrong());
        }
        let pairs = digits.chunks_exact(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            pair.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(pair, 16).ok())?
        });
        pairs.collect::<Option<Vec<u8>>>().map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret {
            name: "token".into(),
            value: Confidential::new(*b"hunter2\0\xff"),
            labels: BTreeMap::new(),
            given: Some(Confidential::new(*b"hunter1")),
        }
    }

    #[test]
    fn a_value_arrives_to_the_byte() {
        let wire = serde_json::to_string(&secret()).unwrap();
        assert_eq!(serde_json::from_str::<Secret>(&wire).unwrap(), secret());
    }

    #[test]
    fn a_value_is_not_shown() {
        let shown = format!("{:?}", secret());
        assert!(!shown.contains("hunter") && !shown.contains("104"), "{shown}");
        assert!(shown.contains("token"));
    }

    #[test]
    fn what_is_no_value_is_refused_without_being_quoted() {
        for wrong in ["\"hunter2\"", "\"abc\"", "\"+1\"", "\"é1\""] {
            let error = serde_json::from_str::<Confidential>(wrong).unwrap_err().to_string();
            assert!(error.contains("hexadecimal") && !error.contains("hunter"), "{error}");
        }
    }
}
