//! A container, as the engine of its host describes it to that of another.

use std::path::PathBuf;

use mose_pam::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All that another host needs to make the same container, but for its secrets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerDescription {
    /// The name of its image; empty where it has none.
    pub image: String,
    /// Its configuration, in its engine's own words.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub config: Value,
    /// What of the OCI runtime configuration that comes of it must be the same on both hosts.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub essence: Value,
    /// Its volumes.
    pub volumes: Vec<VolumeDescription>,
    /// What of its host it has mounted.
    pub binds: Vec<BindDescription>,
    /// The names of the trees of files that come with it, in the order in which they are sent.
    pub trees: Vec<String>,
    /// Whether there is no such container but in a simulation.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub simulated: bool,
}

/// A volume, as another host must make it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeDescription {
    /// Its name; of an anonymous one, what its engine called it.
    pub name: String,
    /// Where the container has it.
    pub destination: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// Whether it goes with its container.
    pub anonymous: bool,
    /// The folder in it that is mounted, if not all of it.
    pub sub_path: Option<String>,
    /// Its labels.
    pub labels: Value,
    /// The options of its driver.
    pub driver_options: Value,
    /// What its files take on the disk.
    pub bytes: Bytes,
    /// Files, folders and links.
    pub entries: u64,
}

/// A bind mount, as another host must find it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BindDescription {
    /// Its path on the hosts.
    pub source: PathBuf,
    /// What is mounted.
    pub kind: BindKind,
    /// What is copied takes on the disk; nothing where it is not copied.
    pub bytes: Bytes,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindKind {
    /// A folder.
    Folder,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// Something else.
    Other,
}

impl BindKind {
    /// What it is called, with its article.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Folder => "a folder",
            Self::File => "a file",
            Self::Socket => "a socket",
            Self::Other => "a special file",
        }
    }
}

impl ContainerDescription {
    /// The name of its image, if it has one.
    #[must_use]
    pub fn image_name(&self) -> Option<&str> {
        (!self.image.is_empty()).then_some(self.image.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_description_of_release_0_1_0_is_read_and_written_as_it_was() {
        let told = json!({
            "image": "localhost/web", "config": {"id": "0"}, "essence": {"hooks": []}, "trees": ["volume data"],
            "volumes": [{
                "name": "data", "destination": "/data", "options": ["rw"], "anonymous": false, "sub_path": null,
                "labels": {}, "driver_options": {}, "bytes": 4096, "entries": 2,
            }],
            "binds": [{"source": "/etc/web", "kind": "folder", "bytes": 0}],
        });
        let description: ContainerDescription = serde_json::from_value(told.clone()).unwrap();
        assert_eq!(description.binds[0].kind, BindKind::Folder);
        assert_eq!(serde_json::to_value(&description).unwrap(), told);
    }

    #[test]
    fn what_is_not_told_is_empty() {
        let description: ContainerDescription = serde_json::from_value(json!({"image": "x"})).unwrap();
        assert_eq!(
            description,
            ContainerDescription { image: "x".into(), ..ContainerDescription::default() }
        );
        assert_eq!(
            (description.image_name(), ContainerDescription::default().image_name()),
            (Some("x"), None)
        );
    }
}
