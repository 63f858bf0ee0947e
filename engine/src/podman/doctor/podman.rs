//! Podman behind its socket: release, runtime, storage driver, room for images.

use std::path::PathBuf;

use mose_movable::disk;
use mose_pam::Bytes;
use mose_protocol::doctor::Check;
use serde_json::Value;

use super::{ANSWER, Socket};

const WHAT: &str = "Podman";

/// The least release whose REST interface does all that is asked of it.
const LEAST: u64 = 5;

pub(super) async fn checks(socket: &Socket, room: Bytes) -> Vec<Check> {
    let info = match tokio::time::timeout(ANSWER, socket.get("tell of itself", "/info")).await {
        Ok(Ok(info)) => info,
        Ok(Err(refusal)) => {
            return vec![Check::broken(WHAT, refusal.reason, refusal.remedy), storage_unknown()];
        }
        Err(_) => return vec![Check::late(WHAT, ANSWER), storage_unknown()],
    };
    let mut checks = judge(&info);
    checks.push(match info["store"]["graphRoot"].as_str() {
        Some(folder) => {
            let holds = "the largest service elsewhere: its images, and the pages that come before them";
            disk(STORAGE, PathBuf::from(folder), room, holds).await
        }
        None => storage_unknown(),
    });
    checks
}

const STORAGE: &str = "container storage";

fn storage_unknown() -> Check {
    Check::unknown(
        STORAGE,
        "Podman does not say where its storage is",
        "see the check of Podman, then ask again",
    )
}

/// What Podman says of itself.
fn judge(info: &Value) -> Vec<Check> {
    let version = info["version"]["Version"].as_str().unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    let release = match major {
        Some(major) if major >= LEAST => Check::ok(WHAT, version),
        Some(_) => Check::broken(
            WHAT,
            format!("Podman {version} is older than {LEAST}"),
            format!("install Podman {LEAST} or newer"),
        ),
        None => Check::unknown(
            WHAT,
            "it does not tell its version",
            format!("see that it is Podman {LEAST} or newer"),
        ),
    };
    let chosen = |what: &str, found: &Value, wanted: &str, remedy: &str| match found.as_str() {
        Some(name) if name == wanted => Check::ok(what, name),
        Some(name) => {
            Check::broken(what, format!("it is {name}; containers are moved with {wanted}"), remedy)
        }
        None => Check::unknown(what, "Podman does not name it", remedy),
    };
    vec![
        release,
        chosen(
            "OCI runtime",
            &info["host"]["ociRuntime"]["name"],
            "runc",
            "install runc, put runtime=\"runc\" under [engine] in /etc/containers/containers.conf, and create the \
             containers anew",
        ),
        chosen(
            "storage driver",
            &info["store"]["graphDriverName"],
            "overlay",
            "put driver=\"overlay\" under [storage] in /etc/containers/storage.conf; podman system reset removes all \
             that is stored by the other",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mose_protocol::doctor::CheckState;
    use serde_json::json;

    use super::*;

    fn states(info: &Value) -> Vec<CheckState> {
        judge(info).into_iter().map(|check| check.state).collect()
    }

    #[test]
    fn what_podman_says_is_held_against_what_is_needed() {
        let info = |version: &str, runtime: &str, driver: &str| {
            json!({ "version": { "Version": version }, "host": { "ociRuntime": { "name": runtime } },
                "store": { "graphDriverName": driver } })
        };
        use CheckState::{Broken, Ok, Unknown};
        assert_eq!(states(&info("5.4.2", "runc", "overlay")), [Ok, Ok, Ok]);
        assert_eq!(states(&info("4.9.3", "crun", "vfs")), [Broken, Broken, Broken]);
        assert_eq!(states(&json!({})), [Unknown, Unknown, Unknown], "silence is never ok");
        assert_eq!(states(&info("five", "runc", "overlay"))[0], Unknown);
    }

    #[tokio::test]
    async fn a_socket_without_podman_is_broken_with_the_command_that_starts_it() {
        let checks = checks(&Socket::new(Path::new("/nowhere/podman.sock")), Bytes(1)).await;
        assert_eq!(checks[0].state, CheckState::Broken);
        assert!(checks[0].remedy.as_deref().unwrap().contains("podman system service"), "{checks:?}");
        assert_eq!(checks[1].state, CheckState::Unknown);
    }
}
