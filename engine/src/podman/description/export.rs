//! Libpod's configuration of a running container, as Podman itself writes it down for a checkpoint archive.
//!
//! There is no request for it alone. But Podman writes it before it looks whether a checkpoint with a previous one can be made; so
//! it is asked for a checkpoint on top of a previous one of which there is none, and fails, before it takes the container's lock
//! or touches it. Were there one all the same, the service would be left running (`leaveRunning`).

use std::fs;
use std::path::Path;

use mose_protocol::envelope::without_values;
use mose_protocol::{Refusal, RefusalCode};
use serde_json::Value;

use super::super::socket::Socket;
use super::super::{CALL_DEADLINE, io_refusal};
use super::elements;
use crate::Container;

/// The files that Podman writes, in the container's folder. The second one tells the values of secrets.
pub(in super::super) const WRITTEN: [&str; 2] = ["config.dump", "spec.dump"];

/// The largest configuration that is read, in bytes: it has to fit into a message.
const MAX_CONFIG: u64 = 2 << 20;

/// Where Podman keeps, and looks for, the previous checkpoint.
const PREVIOUS: &str = "pre-checkpoint";

/// The parents that Podman gives to the cgroups of containers by itself, for its two ways to manage them.
const CGROUP_PARENTS: [&str; 2] = ["/libpod_parent", "machine.slice"];

/// The configuration of a container that runs.
pub(in super::super) async fn export(socket: &Socket, container: &Container) -> Result<Value, Refusal> {
    let folder = container.checkpoint.parent().unwrap_or(&container.checkpoint);
    if fs::symlink_metadata(folder.join(PREVIOUS)).is_ok() {
        return Err(Refusal::new(
            RefusalCode::Conflict,
            format!("a pre-checkpoint of {} lies in {}", container.name, folder.display()),
            "wait for the migration that makes it, or remove it if there is none",
        ));
    }
    let trouble = |error: &std::io::Error| {
        io_refusal(&format!("the configuration of {} cannot be had", container.name), error)
    };
    forget(folder).map_err(|error| trouble(&error))?;
    let path = format!(
        "/containers/{}/checkpoint?export=true&withPrevious=true&leaveRunning=true&ignoreRootFS=true",
        container.id
    );
    let asked = socket.post(&format!("describe {}", container.name), &path, None, CALL_DEADLINE).await;
    let read = read(&folder.join(WRITTEN[0]));
    forget(folder).map_err(|error| trouble(&error))?;
    let config = match (read, asked) {
        (Ok(config), _) => config,
        (Err(error), Err(refusal)) if error.kind() == std::io::ErrorKind::NotFound => return Err(refusal),
        (Err(error), _) => return Err(trouble(&error)),
    };
    if config["id"] != container.id.as_str() {
        return Err(Refusal::new(
            RefusalCode::Engine,
            format!("Podman described another container than {}", container.name),
            "migrate again",
        ));
    }
    Ok(portable(config))
}

/// Removes what Podman wrote.
fn forget(folder: &Path) -> std::io::Result<()> {
    for name in WRITTEN {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn read(path: &Path) -> std::io::Result<Value> {
    if fs::metadata(path)?.len() > MAX_CONFIG {
        return Err(std::io::Error::other(format!("it is larger than {MAX_CONFIG} bytes")));
    }
    serde_json::from_slice(&fs::read(path)?).map_err(|error| std::io::Error::other(without_values(&error)))
}

/// Takes out what belongs to this host: Podman fills it in again.
fn portable(mut config: Value) -> Value {
    if CGROUP_PARENTS.iter().any(|parent| config["cgroupParent"] == *parent) {
        config["cgroupParent"] = "".into();
    }
    // Podman adds its folder for /dev/shm to the mounts of whatever it imports.
    let shm = config["ShmDir"].clone();
    let mounts: Vec<Value> =
        elements(&config["mounts"]).iter().filter(|mount| **mount != shm).cloned().collect();
    if let Some(fields) = config.as_object_mut() {
        fields.insert("mounts".into(), mounts.into());
    }
    config
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_belongs_to_the_host_is_taken_out_and_nothing_else() {
        let config = json!({
            "id": "1", "cgroupParent": "/libpod_parent", "ShmDir": "/s/shm", "mounts": ["/s/shm", "/other"],
        });
        let expected = json!({"id": "1", "cgroupParent": "", "ShmDir": "/s/shm", "mounts": ["/other"]});
        assert_eq!(portable(config), expected);
        let own = json!({"cgroupParent": "/mine", "ShmDir": "/s/shm", "mounts": []});
        assert_eq!(portable(own.clone()), own);
    }
}
