//! What an OCI runtime keeps of a container that it runs.
//!
//! A runtime that was killed while it restored a container leaves that behind, Podman does not know of it, and no container of that id
//! could be made again.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use mose_protocol::{Refusal, RefusalCode};
use tokio::process::Command;

use super::wording::in_short;

/// The runtimes, and where they keep it where nobody says otherwise (runc(8), crun(1): `--root`).
const RUNTIMES: [(&str, &str); 2] = [("runc", "/run/runc"), ("crun", "/run/crun")];

/// How long a runtime may take to remove it.
const DEADLINE: Duration = Duration::from_secs(10);

/// Removes what is left of the container `id`, of which no process is left.
pub(super) async fn remove(id: &str) -> Result<(), Refusal> {
    for (runtime, folder) in RUNTIMES {
        if !Path::new(folder).join(id).exists() {
            continue;
        }
        let mut delete = Command::new(runtime);
        delete.args(["--root", folder, "delete", "--force", id]).stdin(Stdio::null()).kill_on_drop(true);
        let failed = |what: String| {
            Refusal::new(
                RefusalCode::Engine,
                format!("{runtime} does not remove what it keeps of a container that has ended: {what}"),
                format!("remove it by hand: {runtime} delete --force {id}"),
            )
        };
        match tokio::time::timeout(DEADLINE, delete.output()).await {
            Ok(Ok(output)) if output.status.success() => {}
            Ok(Ok(output)) => return Err(failed(in_short(&String::from_utf8_lossy(&output.stderr)))),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("it did nothing for {DEADLINE:?}"))),
        }
    }
    Ok(())
}
