//! What Podman tells of a container when it is inspected.

use std::path::{Path, PathBuf};

use mose_protocol::{Refusal, RefusalCode, ServiceName};
use serde_json::Value;

use crate::Container;

pub(super) fn is_running(inspect: &Value) -> bool {
    inspect["State"]["Status"] == "running"
}

pub(super) fn pid(inspect: &Value) -> Option<u32> {
    u32::try_from(inspect["State"]["Pid"].as_u64()?).ok().filter(|pid| *pid > 0)
}

/// The network namespace that the container was given by path.
pub(super) fn netns(inspect: &Value) -> Option<&str> {
    inspect["HostConfig"]["NetworkMode"].as_str()?.strip_prefix("ns:")
}

/// A container out of libpod's inspection.
pub(super) fn container(name: &ServiceName, inspect: &Value) -> Result<Container, Refusal> {
    let field = |value: &Value, what: &str| {
        value.as_str().map(str::to_owned).ok_or_else(|| {
            Refusal::new(
                RefusalCode::Engine,
                format!("Podman's inspection of {name} lacks {what}"),
                "use Podman 5 with the overlay storage driver",
            )
        })
    };
    let folder = PathBuf::from(field(&inspect["StaticDir"], "its static folder")?);
    Ok(Container {
        id: field(&inspect["Id"], "its id")?,
        name: name.clone(),
        running: is_running(inspect),
        pid: pid(inspect),
        netns: netns(inspect).map(PathBuf::from),
        image: field(&inspect["ImageName"], "its image's name")?,
        image_id: field(&inspect["Image"], "its image's id")?,
        rootfs_changes: field(&inspect["GraphDriver"]["Data"]["UpperDir"], "the folder of its changes")?
            .into(),
        checkpoint: folder.join("checkpoint"),
    })
}

/// The folder of all that Podman keeps of a container beside its root file system.
pub(super) fn folder_of(container: &Container) -> &Path {
    container.checkpoint.parent().unwrap_or(&container.checkpoint)
}

/// Whether a path lies in one of the folders in which Podman makes files for the container `id`.
pub(super) fn is_own(path: &Path, id: &str) -> bool {
    let names: Vec<_> = path.iter().collect();
    names.windows(2).any(|pair| pair[0] == id && pair[1] == "userdata")
}
