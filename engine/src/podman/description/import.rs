//! Making a container from another host's configuration of it, as Podman itself does from a checkpoint archive.
//!
//! Podman is given an archive that holds the configuration alone. It makes the container, finds no checkpoint, and ends the call
//! with an error; the container is there, configured and never run. Its images come later, into its own checkpoint folder.

use mose_protocol::{Refusal, RefusalCode, ServiceName};
use serde_json::Value;

use super::super::CALL_DEADLINE;
use super::super::socket::Socket;
use super::archive::archive;

/// What Podman says of an archive that holds no checkpoint.
const NO_CHECKPOINT: &str = "complete checkpoint for this container cannot be found";

/// Makes the container `name` from `config`, of which nothing is taken as it is but what Podman's own import takes.
pub(in super::super) async fn import(
    socket: &Socket,
    name: &ServiceName,
    config: &Value,
) -> Result<(), Refusal> {
    if config["name"] != name.as_str() {
        return Err(Refusal::new(RefusalCode::Malformed, format!("{name} is described by another name"), ""));
    }
    let written = |value: &Value| value.to_string().into_bytes();
    let archive = archive(&[("config.dump", &written(config)), ("spec.dump", &written(&config["spec"]))]);
    let what = format!("create {name}");
    let path = format!("/containers/{name}/restore?import=true&ignoreVolumes=true");
    match socket.post_bytes(&what, &path, "application/x-tar", archive, CALL_DEADLINE).await {
        Err(refusal) if refusal.reason.contains(NO_CHECKPOINT) => Ok(()),
        Err(refusal) => Err(refusal),
        Ok(_) => Err(Refusal::new(
            RefusalCode::Engine,
            format!("Podman restored {name} from an archive without a checkpoint"),
            "use Podman 5",
        )),
    }
}
