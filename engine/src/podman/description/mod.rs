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

use mose_protocol::container::ContainerDescription;
use mose_protocol::{Refusal, RefusalCode};
use serde_json::Value;

pub(super) use movable::check;

/// The id that a described container has on every host, if the description is one that a container can be made of.
///
/// # Errors
/// Where it is none.
pub(super) fn sound(described: &ContainerDescription) -> Result<&str, Refusal> {
    let unreadable = |why: &str| {
        Refusal::new(
            RefusalCode::Malformed,
            format!("the container's description cannot be read: {why}"),
            "run the same release of MOSE on both hosts",
        )
    };
    if described.image.is_empty() || described.essence.is_null() {
        return Err(unreadable("it tells no image, or not what must come back the same"));
    }
    id(described).ok_or_else(|| unreadable("its id is not 64 hexadecimal digits"))
}

/// The id that a container of this description has on every host.
pub(super) fn id(described: &ContainerDescription) -> Option<&str> {
    let id = described.config["id"].as_str()?;
    (id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(id)
}

/// The AppArmor profile that a described container is confined by, if it is none that Podman loads itself.
pub(super) fn apparmor_profile(described: &ContainerDescription) -> Option<&str> {
    let profile = described.config["spec"]["process"]["apparmorProfile"].as_str()?;
    let by_hand =
        !profile.is_empty() && profile != "unconfined" && !profile.starts_with("containers-default");
    by_hand.then_some(profile)
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
    fn a_description_without_its_image_or_its_essence_is_refused() {
        let whole = ContainerDescription {
            image: "i".into(),
            config: json!({"id": "0".repeat(64)}),
            essence: json!({}),
            ..ContainerDescription::default()
        };
        assert_eq!(sound(&whole).unwrap(), "0".repeat(64));
        for part in [
            ContainerDescription { image: String::new(), ..whole.clone() },
            ContainerDescription { essence: Value::Null, ..whole },
        ] {
            assert_eq!(sound(&part).unwrap_err().code, RefusalCode::Malformed);
        }
    }

    #[test]
    fn only_a_profile_of_the_operators_own_must_be_loaded_by_hand() {
        let with = |profile: &str| ContainerDescription {
            config: json!({ "spec": { "process": { "apparmorProfile": profile } } }),
            ..ContainerDescription::default()
        };
        for loaded in ["", "unconfined", "containers-default-0.62"] {
            assert_eq!(apparmor_profile(&with(loaded)), None);
        }
        assert_eq!(apparmor_profile(&ContainerDescription::default()), None);
        assert_eq!(apparmor_profile(&with("mine")), Some("mine"));
    }

    #[test]
    fn an_id_is_64_digits_or_none_at_all() {
        let described = |id: &str| ContainerDescription {
            image: "i".into(),
            config: json!({"id": id}),
            essence: json!({}),
            ..ContainerDescription::default()
        };
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(id(&described(&good)), Some(good.as_str()));
        for bad in ["", "web", &good[1..], "../containers/prune", &good.replace('0', "/")] {
            assert_eq!(id(&described(bad)), None);
            let refusal = sound(&described(bad)).unwrap_err();
            assert!(refusal.reason.contains("64 hexadecimal digits"), "{refusal}");
        }
    }
}
