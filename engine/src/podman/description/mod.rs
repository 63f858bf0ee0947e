//! A container as another host must make it: libpod's own configuration of it.
//!
//! Podman's checkpoint archives carry a container as this configuration (`config.dump`), and Podman makes a container out of it
//! again when such an archive is imported. So nothing that Podman knows of a container, from its limits to the way its health is
//! looked at, is lost on the way or has to be guessed from what `podman inspect` tells; its identity stays as well.
//!
//! What comes of a configuration depends on the host all the same. So the destination holds the OCI runtime configuration that
//! comes of it there against the source's own ([`essence`]), and refuses what would come back different.

pub(super) mod archive;
pub(super) mod essence;
pub(super) mod export;
pub(super) mod import;
mod movable;
pub(super) mod secrets;

use mose_protocol::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use movable::check;

/// A container, described to another host's Podman.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Description {
    /// The name of its image.
    pub(super) image: String,
    /// Its configuration, in libpod's words.
    pub(super) config: Value,
    /// What of its OCI runtime configuration must come back the same.
    pub(super) essence: Value,
}

impl Description {
    /// A description that came from another host.
    pub(super) fn read(described: &Value) -> Result<Self, Refusal> {
        let unreadable = |why: &str| {
            Refusal::new(
                RefusalCode::Malformed,
                format!("the container's description cannot be read: {why}"),
                "run the same release of MOSE on both hosts",
            )
        };
        if id(described).is_none() {
            return Err(unreadable("its id is not 64 hexadecimal digits"));
        }
        serde_json::from_value(described.clone()).map_err(|error| unreadable(&without_values(&error)))
    }

    pub(super) fn write(&self) -> Result<Value, Refusal> {
        serde_json::to_value(self).map_err(|error| {
            Refusal::new(RefusalCode::Failed, format!("the container cannot be described: {error}"), "")
        })
    }
}

/// The id that a container of this description has on every host.
pub(super) fn id(described: &Value) -> Option<&str> {
    let id = described["config"]["id"].as_str()?;
    (id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(id)
}

/// What is wrong with JSON, without a word of it.
fn without_values(error: &serde_json::Error) -> String {
    format!("{:?} error in line {}, column {}", error.classify(), error.line(), error.column())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// The elements of an array; none where it is no array.
fn elements(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_description_that_is_none_is_refused_without_being_quoted() {
        let config = json!({"id": "0".repeat(64)});
        let refusal = Description::read(&json!({"image": {"env": "hunter2"}, "config": config})).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Malformed);
        assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
    }

    #[test]
    fn an_id_is_64_digits_or_none_at_all() {
        let described = |id: &str| json!({"image": "i", "essence": {}, "config": {"id": id}});
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(id(&described(&good)), Some(good.as_str()));
        assert!(Description::read(&described(&good)).is_ok());
        for bad in ["", "web", &good[1..], "../containers/prune", &good.replace('0', "/")] {
            assert_eq!(id(&described(bad)), None);
            let refusal = Description::read(&described(bad)).err().unwrap();
            assert!(refusal.reason.contains("64 hexadecimal digits"), "{refusal}");
        }
    }
}
