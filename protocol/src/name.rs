//! Names that travel: bounded and checked at the edge, so that the rest may trust them in paths and keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a {kind} name: 1 to {MAX_NAME} letters, digits, `_`, `.` or `-`, the first a letter or digit"
)]
pub struct NameError {
    text: String,
    kind: &'static str,
}

/// The longest name, in bytes.
pub const MAX_NAME: usize = 63;

/// Whether `text` may be used in a key expression, a path and an OVSDB map alike.
fn well_formed(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if well_formed(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { text: text.chars().take(MAX_NAME).collect(), kind: $kind })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": concat!("The name of a ", $kind, "."),
                    "maxLength": MAX_NAME,
                    "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$",
                })
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The name of a host that an agent speaks for.
    HostName,
    "host"
);
name!(
    /// The name of a service: its container's.
    ServiceName,
    "service"
);
name!(
    /// The identity of one migration, unique for all time.
    MigrationId,
    "migration"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_folder_or_key_is_refused() {
        for bad in ["", ".", "../etc", "a/b", "a*", "-a", "é", &"a".repeat(64)] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
            assert!(serde_json::from_value::<HostName>(bad.into()).is_err(), "{bad}");
        }
        assert_eq!("edge-a.lab_1".parse::<HostName>().unwrap().as_str(), "edge-a.lab_1");
    }
}
