//! The secrets of a container: out of the store here, into the store there.
//!
//! A service that has moved keeps the secrets in its memory and its files; but Podman looks them up by name, in its store, whenever
//! the container is started again or something is executed in it. A secret that was put into the store for a container bears a
//! label, by which it is removed with the container, unless another one uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use mose_protocol::secret::{Confidential, MAX_SECRETS, Secret};
use mose_protocol::{Refusal, RefusalCode, ServiceName};
use nix::fcntl::OFlag;
use serde_json::{Value, json};

use super::super::socket::{Socket, encoded};
use super::super::{CALL_DEADLINE, io_refusal};
use super::{elements, text};

/// The label of a secret that came with a container, with the container's name.
const LABEL: &str = "mose.came-with";

/// The driver whose secrets lie on the host itself.
const DRIVER: &str = "file";

/// The folder of the files that a container is given, in the container's folder.
const GIVEN: &str = "secrets";

/// The names of all secrets in libpod's configuration of a container.
pub(in super::super) fn names(config: &Value) -> BTreeSet<String> {
    let files = elements(&config["secrets"]).iter();
    let variables = config["secret_env"].as_object().into_iter().flat_map(|all| all.values());
    files.chain(variables).filter_map(|secret| secret["name"].as_str()).map(str::to_owned).collect()
}

/// The secrets of a container whose folder is `folder`, with their values.
pub(in super::super) async fn gather(
    socket: &Socket,
    name: &ServiceName,
    config: &Value,
    folder: &Path,
) -> Result<Vec<Secret>, Refusal> {
    let mut gathered = Vec::new();
    for secret in names(config) {
        gathered.push(one(socket, name, &secret, folder).await?);
    }
    let size: usize = gathered.iter().map(Secret::size).sum();
    if size > MAX_SECRETS {
        return Err(Refusal::new(
            RefusalCode::Unmovable,
            format!("{name} cannot be moved: its secrets amount to {size} bytes, more than {MAX_SECRETS}"),
            "give it large files in its image",
        ));
    }
    Ok(gathered)
}

async fn one(socket: &Socket, name: &ServiceName, secret: &str, folder: &Path) -> Result<Secret, Refusal> {
    let stored = look_up(socket, secret).await?.ok_or_else(|| {
        Refusal::new(
            RefusalCode::Unmovable,
            format!("{name} cannot be moved: its secret {secret} is not in Podman's store any more, so that it could not be started again"),
            format!("put it there again: podman secret create {secret} -"),
        )
    })?;
    if stored.driver != DRIVER {
        return Err(Refusal::new(
            RefusalCode::Unmovable,
            format!(
                "{name} cannot be moved: its secret {secret} is kept by the driver `{}`, whose store stays here",
                stored.driver
            ),
            "keep the secret with the driver `file`",
        ));
    }
    let given = match fs::read(folder.join(GIVEN).join(secret)) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(io_refusal(&format!("the secret {secret} of {name} cannot be read"), &error));
        }
    };
    let told = stored.told;
    // Podman tells a value as text; what is not UTF-8 is known from the file.
    let (value, given) = match given {
        Some(bytes) if String::from_utf8_lossy(&bytes) == told => (bytes, None),
        Some(bytes) if told.contains(char::REPLACEMENT_CHARACTER) => {
            return Err(unreadable(name, secret, bytes.len()));
        }
        Some(bytes) => (told.into_bytes(), Some(bytes)),
        None => (told.into_bytes(), None),
    };
    Ok(Secret {
        name: secret.to_owned(),
        value: Confidential::new(value),
        labels: stored.labels,
        given: given.map(Confidential::new),
    })
}

fn unreadable(name: &ServiceName, secret: &str, size: usize) -> Refusal {
    Refusal::new(
        RefusalCode::Unmovable,
        format!(
            "{name} cannot be moved: its secret {secret} ({size} bytes) was replaced in the store by one that is no text"
        ),
        "create the container anew with the secret as it is now",
    )
}

/// A secret as a store has it.
struct Stored {
    id: String,
    driver: String,
    labels: BTreeMap<String, String>,
    /// Its value as Podman tells it: what is not UTF-8 in it is replaced.
    told: String,
}

async fn look_up(socket: &Socket, secret: &str) -> Result<Option<Stored>, Refusal> {
    let path = format!("/secrets/{secret}/json?showsecret=true");
    let found = match socket.get(&format!("look up the secret {secret}"), &path).await {
        Ok(found) => found,
        Err(refusal) if refusal.code == RefusalCode::UnknownService => return Ok(None),
        Err(refusal) => return Err(refusal),
    };
    let labels = found["Spec"]["Labels"].as_object().into_iter().flatten();
    Ok(Some(Stored {
        id: text(&found["ID"]).to_owned(),
        driver: text(&found["Spec"]["Driver"]["Name"]).to_owned(),
        labels: labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        told: found["SecretData"].as_str().unwrap_or_default().to_owned(),
    }))
}

/// Puts the secrets of the container `name` into the store here, where they are not, and has its configuration speak of those.
pub(in super::super) async fn put(
    socket: &Socket,
    name: &ServiceName,
    secrets: &[Secret],
    config: &mut Value,
) -> Result<(), Refusal> {
    let size: usize = secrets.iter().map(Secret::size).sum();
    let sent: BTreeSet<String> = secrets.iter().map(|secret| secret.name.clone()).collect();
    if size > MAX_SECRETS || sent != names(config) {
        return Err(Refusal::new(
            RefusalCode::Malformed,
            format!("the secrets sent with {name} are not those of its configuration, or too large"),
            "run the same release of MOSE on both hosts",
        ));
    }
    for secret in secrets {
        let id = put_one(socket, name, secret).await?;
        speak_of(config, &secret.name, &id);
    }
    Ok(())
}

/// Refuses secrets that could not be put into the store here, as others of their names are there.
pub(in super::super) async fn admit(
    socket: &Socket,
    name: &ServiceName,
    secrets: &[Secret],
) -> Result<(), Refusal> {
    for secret in secrets {
        id_here(socket, name, secret).await?;
    }
    Ok(())
}

/// The identity of a secret in the store here; `None` where it is not there.
async fn id_here(socket: &Socket, name: &ServiceName, secret: &Secret) -> Result<Option<String>, Refusal> {
    let Some(stored) = look_up(socket, &secret.name).await? else { return Ok(None) };
    if String::from_utf8_lossy(secret.value.bytes()) == stored.told {
        return Ok(Some(stored.id));
    }
    Err(Refusal::new(
        RefusalCode::Conflict,
        format!(
            "the store here already has a secret named {}, of another value than that of {name}",
            secret.name
        ),
        format!("remove it there, if nothing needs it: podman secret rm {}", secret.name),
    ))
}

async fn put_one(socket: &Socket, name: &ServiceName, secret: &Secret) -> Result<String, Refusal> {
    if let Some(id) = id_here(socket, name, secret).await? {
        return Ok(id);
    }
    let mut labels = secret.labels.clone();
    labels.insert(LABEL.to_owned(), name.to_string());
    let labels = encoded(&json!(labels).to_string());
    let path = format!("/secrets/create?name={}&driver={DRIVER}&labels={labels}", encoded(&secret.name));
    let value = secret.value.bytes().to_vec();
    let what = format!("keep the secret {}", secret.name);
    let made = socket.post_bytes(&what, &path, "application/octet-stream", value, CALL_DEADLINE).await?;
    Ok(text(&made["ID"]).to_owned())
}

/// A secret's identity differs from host to host.
fn speak_of(config: &mut Value, secret: &str, id: &str) {
    let mut put = |found: &mut Value| {
        if found["name"] == secret {
            found["id"] = id.into();
        }
    };
    if let Some(files) = config["secrets"].as_array_mut() {
        files.iter_mut().for_each(&mut put);
    }
    if let Some(variables) = config["secret_env"].as_object_mut() {
        variables.values_mut().for_each(&mut put);
    }
}

/// Gives a container what it was given where the store has another value by now.
pub(in super::super) fn give(secrets: &[Secret], folder: &Path) -> io::Result<()> {
    for secret in secrets {
        let Some(given) = &secret.given else { continue };
        // Podman has made the file, with its owner and mode. Names come from the wire; a store takes none with a slash.
        if secret.name.contains('/') {
            return Err(io::Error::other("a secret's name has a slash"));
        }
        let path = folder.join(GIVEN).join(&secret.name);
        let mut file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)?;
        file.write_all(given.bytes())?;
    }
    Ok(())
}

/// Removes the secrets that came with the container `name`, which is gone, and that no other container here uses.
pub(in super::super) async fn remove(socket: &Socket, name: &ServiceName) -> Result<(), Refusal> {
    let all = socket.get("list its secrets", "/secrets/json").await?;
    let ours: Vec<&str> = elements(&all)
        .iter()
        .filter(|secret| secret["Spec"]["Labels"][LABEL] == name.as_str())
        .filter_map(|secret| secret["Spec"]["Name"].as_str())
        .collect();
    if ours.is_empty() {
        return Ok(());
    }
    let used = used(socket).await?;
    for secret in ours.into_iter().filter(|secret| !used.contains(*secret)) {
        let what = format!("remove the secret {secret}");
        match socket.delete(&what, &format!("/secrets/{secret}")).await {
            Err(refusal) if refusal.code != RefusalCode::UnknownService => return Err(refusal),
            _ => {}
        }
    }
    Ok(())
}

/// The names of the secrets that the containers here use.
async fn used(socket: &Socket) -> Result<BTreeSet<String>, Refusal> {
    let mut used = BTreeSet::new();
    let containers = socket.get("list its containers", "/containers/json?all=true").await?;
    for container in elements(&containers) {
        let path = format!("/containers/{}/json", text(&container["Id"]));
        match socket.get("inspect a container", &path).await {
            Ok(inspect) => used.extend(named(&inspect)),
            // It was removed since it was listed.
            Err(refusal) if refusal.code == RefusalCode::UnknownService => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(used)
}

/// The secrets that an inspection names: of files in a list, of variables in place of their values.
fn named(inspect: &Value) -> BTreeSet<String> {
    let config = &inspect["Config"];
    let files = elements(&config["Secrets"]).iter().filter_map(|secret| secret["Name"].as_str());
    let variables =
        elements(&config["Env"]).iter().filter_map(|line| line.as_str()?.strip_suffix("=*******"));
    files.chain(variables).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        json!({
            "secrets": [{"name": "key", "id": "1"}, {"name": "token", "id": "2"}],
            "secret_env": {"TOKEN": {"name": "token", "id": "2"}},
        })
    }

    #[test]
    fn each_secret_is_found_once_and_spoken_of_by_its_new_identity() {
        let mut config = config();
        assert_eq!(Vec::from_iter(names(&config)), ["key", "token"]);
        speak_of(&mut config, "token", "9");
        assert_eq!(config["secrets"][0]["id"], "1");
        assert_eq!(config["secrets"][1]["id"], "9");
        assert_eq!(config["secret_env"]["TOKEN"]["id"], "9");
    }

    #[test]
    fn the_secrets_that_an_inspection_names_are_found() {
        let inspect = json!({"Config": {
            "Env": ["A=b", "token=*******"], "Secrets": [{"Name": "key", "ID": "1"}],
        }});
        assert_eq!(Vec::from_iter(named(&inspect)), ["key", "token"]);
    }

    #[test]
    fn a_container_is_given_what_it_had_and_nothing_outside_of_its_folder_is_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(GIVEN)).unwrap();
        let file = folder.path().join(GIVEN).join("token");
        fs::write(&file, "new and longer").unwrap();
        let secret = |name: &str| Secret {
            name: name.into(),
            value: Confidential::new(*b"new and longer"),
            labels: BTreeMap::new(),
            given: Some(Confidential::new(*b"old")),
        };
        give(&[secret("token")], folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        fs::write(folder.path().join("victim"), "").unwrap();
        assert!(give(&[secret("../victim")], folder.path()).is_err());
        std::os::unix::fs::symlink(folder.path().join("victim"), folder.path().join(GIVEN).join("link"))
            .unwrap();
        assert!(give(&[secret("link")], folder.path()).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("victim")).unwrap(), "");
    }
}
