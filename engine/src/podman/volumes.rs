//! Volumes of Podman's local driver: described at the source, made at the destination, removed where they are no longer the truth.
//!
//! A volume that a hand-over made carries a mark beside its data until the hand-over is settled, so that what an agent that
//! died has left behind is known as that, and nothing else is ever removed.

use std::fs;
use std::path::{Path, PathBuf};

use mose_pam::Bytes;
use mose_protocol::container::VolumeDescription;
use mose_protocol::{MigrationId, Refusal, RefusalCode};
use mose_transfer::write_back;
use serde_json::{Value, json};

use super::socket::{Socket, encoded};
use super::{CALL_DEADLINE, io_refusal, space};

/// The mark's name, in the folder that the volume's `_data` lies in.
const MARK: &str = ".mose-incoming";

/// The longest mark that is read, in bytes.
const MAX_MARK: u64 = 256;

/// What a volume's tree is called on every host.
pub(super) fn tree_name(volume: &str) -> String {
    format!("volume {volume}")
}

/// The volumes of a container: their names, and where they lie here.
pub(super) fn places(inspect: &Value) -> Vec<(String, PathBuf)> {
    let mounts = inspect["Mounts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut places: Vec<(String, PathBuf)> = Vec::new();
    for mount in mounts.iter().filter(|mount| mount["Type"] == "volume") {
        let (Some(name), Some(source)) = (mount["Name"].as_str(), mount["Source"].as_str()) else { continue };
        // A volume may be mounted more than once, and then is one all the same. Of a part of it, the source is that part.
        let inner = mount["SubPath"].as_str().unwrap_or_default().trim_matches('/');
        let whole = source.strip_suffix(inner).unwrap_or(source).trim_end_matches('/');
        if !places.iter().any(|(known, _)| known == name) {
            places.push((name.to_owned(), PathBuf::from(whole)));
        }
    }
    places
}

fn unmovable(reason: String, remedy: &str) -> Refusal {
    Refusal::new(RefusalCode::Unmovable, reason, remedy)
}

/// The volumes of a container as another host must make them.
///
/// # Errors
/// Where one cannot be moved: it is another driver's, is mounted by its driver, or another container uses it.
pub(super) async fn describe(
    socket: &Socket,
    name: &str,
    inspect: &Value,
) -> Result<Vec<VolumeDescription>, Refusal> {
    let mut volumes = Vec::new();
    for mount in inspect["Mounts"].as_array().into_iter().flatten().filter(|m| m["Type"] == "volume") {
        let volume = mount["Name"].as_str().unwrap_or_default();
        let found = socket.get("inspect a volume", &format!("/volumes/{volume}/json")).await?;
        let driver = found["Driver"].as_str().unwrap_or_default();
        if driver != "local" {
            return Err(unmovable(
                format!("{name} uses the volume {volume}, which the driver {driver} keeps"),
                "only volumes of the local driver move; use one, or keep the data in a service of its own",
            ));
        }
        if let Some(option) = ["type", "device", "o"].iter().find(|key| {
            let value = found["Options"][**key].as_str().unwrap_or_default();
            let harmless = value.is_empty() || (**key == "o" && is_plain(value));
            !harmless
        }) {
            return Err(unmovable(
                format!(
                    "{name} uses the volume {volume}, which is mounted with {option}={}",
                    found["Options"][*option].as_str().unwrap_or("?")
                ),
                "only volumes that are plain folders move; use one without mount options",
            ));
        }
        if let Some(other) = used_by_other(socket, volume, inspect).await? {
            return Err(unmovable(
                format!("{name} uses the volume {volume}, and so does the container {other}"),
                "a volume moves with one service; give each a volume of its own, or remove the other container",
            ));
        }
        let data = PathBuf::from(found["Mountpoint"].as_str().unwrap_or_default());
        let (bytes, entries) = tokio::task::spawn_blocking(move || space::taken(&data))
            .await
            .map_err(|error| io_refusal("a volume cannot be measured", &std::io::Error::other(error)))?
            .map_err(|error| io_refusal(&format!("the volume {volume} cannot be read"), &error))?;
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let mut options = texts(&mount["Options"]);
        if mount["RW"] == false && !options.iter().any(|option| option == "ro") {
            options.push("ro".into());
        }
        volumes.push(VolumeDescription {
            name: volume.to_owned(),
            destination: mount["Destination"].as_str().unwrap_or_default().to_owned(),
            options,
            anonymous: found["Anonymous"] == true,
            sub_path: mount["SubPath"].as_str().filter(|path| !path.is_empty()).map(str::to_owned),
            labels: found["Labels"].clone(),
            driver_options: found["Options"].clone(),
            bytes,
            entries,
        });
    }
    Ok(volumes)
}

/// Whether the local driver's `o` only says who owns the volume, or how large it may become.
fn is_plain(options: &str) -> bool {
    options.split(',').all(|option| {
        let key = option.split('=').next().unwrap_or_default();
        matches!(key, "uid" | "gid" | "size" | "inodes" | "noquota" | "nocopy" | "")
    })
}

/// Another container that uses the volume.
async fn used_by_other(socket: &Socket, volume: &str, inspect: &Value) -> Result<Option<String>, Refusal> {
    let filter = encoded(&json!({ "volume": [volume] }).to_string());
    let path = format!("/containers/json?all=true&filters={filter}");
    let users = socket.get("look for a volume's containers", &path).await?;
    let other = users.as_array().into_iter().flatten().find(|user| user["Id"] != inspect["Id"]);
    Ok(other.map(|user| user["Names"][0].as_str().or(user["Id"].as_str()).unwrap_or("?").to_owned()))
}

/// Has a container's configuration say which of its volumes go with it: Podman makes those with it.
pub(super) fn tell_anonymous(volumes: &[VolumeDescription], config: &mut Value) {
    let Some(named) = config["namedVolumes"].as_array_mut() else { return };
    for entry in named {
        if volumes.iter().any(|volume| volume.anonymous && entry["volumeName"] == volume.name.as_str()) {
            entry["setAnonymous"] = true.into();
        }
    }
}

async fn inspect(socket: &Socket, name: &str) -> Result<Option<Value>, Refusal> {
    match socket.get("inspect a volume", &format!("/volumes/{name}/json")).await {
        Ok(found) => Ok(Some(found)),
        Err(refusal) if refusal.code == RefusalCode::UnknownService => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn data_of(found: &Value) -> PathBuf {
    PathBuf::from(found["Mountpoint"].as_str().unwrap_or_default())
}

fn mark_of(found: &Value) -> PathBuf {
    data_of(found).with_file_name(MARK)
}

/// The migration that made a volume and has not been settled.
fn marked(found: &Value) -> Option<String> {
    let path = mark_of(found);
    let length = fs::metadata(&path).ok()?.len();
    (length <= MAX_MARK).then(|| fs::read_to_string(path).ok()).flatten()
}

/// Looks whether the volumes could be made here; changes nothing.
///
/// # Errors
/// Where one of that name holds something that may not be lost, or there is no room.
pub(super) async fn admit(
    socket: &Socket,
    volumes: &[VolumeDescription],
    overwrite: bool,
) -> Result<(), Refusal> {
    for volume in volumes {
        let Some(found) = inspect(socket, &volume.name).await? else { continue };
        if let Some(user) = used_by_other(socket, &volume.name, &Value::Null).await? {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                format!("the volume {} is there already, and the container {user} uses it", volume.name),
                "remove that container and the volume there, or rename the service's volume",
            ));
        }
        if marked(&found).is_none() && !overwrite && !is_empty(&data_of(&found)) {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                format!("a volume named {} with contents of its own is there already", volume.name),
                "remove it there (podman volume rm), or insist with --overwrite-volume: what it holds is then lost",
            ));
        }
    }
    let needed = volumes.iter().map(|volume| volume.bytes.0).fold(0, u64::saturating_add);
    if needed > 0 {
        let info = socket.get("say where its storage is", "/info").await?;
        let root = info["store"]["volumePath"].as_str().or(info["store"]["graphRoot"].as_str());
        space::check(Path::new(root.unwrap_or("/var/lib/containers/storage")), Bytes(needed))?;
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Makes the volumes that Podman does not make with the container, marked as the migration's. What [`admit`] has let pass gives way.
pub(super) async fn make(
    socket: &Socket,
    volumes: &[VolumeDescription],
    migration: &MigrationId,
) -> Result<(), Refusal> {
    for volume in volumes {
        if let Some(found) = inspect(socket, &volume.name).await? {
            // The same volume, mounted at a second place.
            if marked(&found).as_deref() == Some(migration.as_str()) {
                continue;
            }
            remove(socket, &volume.name).await?;
        }
        // An anonymous one has to be made with its container, else Podman takes it for a named one.
        if volume.anonymous {
            continue;
        }
        let body = json!({
            "Name": volume.name, "Driver": "local",
            "Labels": volume.labels, "Options": volume.driver_options,
        });
        let what = format!("create the volume {}", volume.name);
        let made = socket.post(&what, "/volumes/create", Some(&body), CALL_DEADLINE).await?;
        mark(&made, migration)?;
    }
    Ok(())
}

/// Marks those that came with the container.
pub(super) async fn mark_anonymous(
    socket: &Socket,
    volumes: &[VolumeDescription],
    migration: &MigrationId,
) -> Result<(), Refusal> {
    for volume in volumes.iter().filter(|volume| volume.anonymous) {
        if let Some(found) = inspect(socket, &volume.name).await? {
            mark(&found, migration)?;
        }
    }
    Ok(())
}

fn mark(found: &Value, migration: &MigrationId) -> Result<(), Refusal> {
    fs::write(mark_of(found), migration.as_str())
        .map_err(|error| io_refusal("a volume cannot be marked as coming", &error))
}

/// The hand-over is settled: the volumes are the service's, and no left-overs.
pub(super) async fn keep(socket: &Socket, volumes: &[VolumeDescription]) -> Result<(), Refusal> {
    for volume in volumes {
        let Some(found) = inspect(socket, &volume.name).await? else { continue };
        // The source removes its copy once it hears that the service is here: this one must outlive a loss of power by then.
        let data = data_of(&found);
        tokio::task::spawn_blocking(move || write_back(&data))
            .await
            .map_err(std::io::Error::other)
            .and_then(|written| written)
            .map_err(|error| io_refusal("a volume cannot be put on the disk", &error))?;
        match fs::remove_file(mark_of(&found)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_refusal("a volume's mark cannot be removed", &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes those that this migration made here, and none else.
pub(super) async fn discard(
    socket: &Socket,
    volumes: &[VolumeDescription],
    migration: &MigrationId,
) -> Result<(), Refusal> {
    for volume in volumes {
        let Some(found) = inspect(socket, &volume.name).await? else { continue };
        if marked(&found).as_deref() == Some(migration.as_str()) {
            remove(socket, &volume.name).await?;
        }
    }
    Ok(())
}

/// Removes a volume; not being there is no error.
pub(super) async fn remove(socket: &Socket, name: &str) -> Result<(), Refusal> {
    match socket.delete(&format!("remove the volume {name}"), &format!("/volumes/{name}")).await {
        Err(refusal) if refusal.code != RefusalCode::UnknownService => Err(refusal),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_mounted_twice_or_in_part_is_one_volume() {
        let inspect = json!({"Mounts": [
            {"Type": "bind", "Source": "/x"},
            {"Type": "volume", "Name": "v", "Source": "/volumes/v/_data", "Destination": "/a"},
            {"Type": "volume", "Name": "v", "Source": "/volumes/v/_data", "Destination": "/b"},
            {"Type": "volume", "Name": "w", "Source": "/volumes/w/_data/in", "SubPath": "/in", "Destination": "/c"},
        ]});
        let expected =
            [("v", "/volumes/v/_data"), ("w", "/volumes/w/_data")].map(|(n, p)| (n.to_owned(), p.into()));
        assert_eq!(places(&inspect), expected);
    }

    #[test]
    fn owner_and_size_are_plain_options_and_a_mount_is_none() {
        assert!(is_plain("uid=1000,gid=1000") && is_plain("size=10m") && is_plain("noquota"));
        assert!(!is_plain("addr=192.0.2.1,rw") && !is_plain("bind"));
    }
}
