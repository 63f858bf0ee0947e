//! Dumping a container that was started with `--rm`.
//!
//! Podman dumps such a container only into an archive, since conmon has it removed as soon as its processes are gone. But its images
//! are wanted as any other's, and the container must stay until the destination has it. So Podman is given a pipe for the archive,
//! whose content nobody keeps, and conmon is stopped before CRIU ends the processes, and ended once they are gone. Where they go on, conmon
//! is left alone.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use mose_protocol::record::CriuTimes;
use mose_protocol::{Refusal, RefusalCode};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;

use super::conmon::Conmon;
use super::dump_kind::DumpKind;
use super::hooks::{self, Hooks};
use super::wording::in_short;
use super::{CRIU_DEADLINE, criu_times, description, io_refusal, pid_of};
use crate::Container;

/// The annotation by which libpod knows such a container.
const ANNOTATION: &str = "io.podman.annotations.autoremove";

/// Whether a container is one, by its OCI configuration.
pub(super) fn is_removable(runtime: &Value) -> bool {
    runtime["annotations"][ANNOTATION] == "TRUE"
}

/// The pipe in which an archive is lost. It is gone when this is dropped.
struct Pipe(PathBuf);

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(pipe = %self.0.display(), %error, "a pipe is left over");
        }
    }
}

/// Dumps a container that is one into its checkpoint folder.
pub(super) async fn dump(hooks: &Hooks, container: &Container, kind: DumpKind) -> Result<CriuTimes, Refusal> {
    let trouble = |error: std::io::Error| io_refusal(&format!("{} cannot be dumped", container.name), &error);
    let conmon = Conmon::over(pid_of(container)?).ok_or_else(|| {
        Refusal::new(
            RefusalCode::Engine,
            format!("{} has no conmon, so that nobody would learn of its end", container.name),
            "start it again",
        )
    })?;
    let path = Path::new(hooks::FOLDER).join(format!("{}.archive", container.id));
    let _ = std::fs::remove_file(&path);
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| trouble(errno.into()))?;
    let pipe = Pipe(path);
    let reader = pipe::OpenOptions::new().open_receiver(&pipe.0).map_err(trouble)?;
    // Whoever waits for the dump may give up, and Podman goes on: it needs its reader until it is done.
    let lost = tokio::spawn(tokio::time::timeout(CRIU_DEADLINE, lose(reader)));
    if !kind.goes_on {
        hooks.after_dump(&container.id, move || conmon.stop());
    }
    let dumped = ask(container, &pipe.0, kind).await;
    lost.abort();
    for name in description::export::WRITTEN {
        let _ = std::fs::remove_file(container.checkpoint.with_file_name(name));
    }
    match dumped {
        Ok(times) if kind.goes_on => Ok(times),
        Ok(times) => {
            conmon.end();
            Ok(times)
        }
        Err(refusal) => {
            conmon.go_on();
            Err(refusal)
        }
    }
}

/// Reads the archive and keeps nothing of it.
async fn lose(mut reader: pipe::Receiver) {
    let mut buffer = vec![0; 1 << 16];
    while reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

async fn ask(container: &Container, archive: &Path, kind: DumpKind) -> Result<CriuTimes, Refusal> {
    let failed = |reason: &str| {
        Refusal::new(
            RefusalCode::Engine,
            format!("Podman could not dump {}: {}", container.name, in_short(reason)),
            "see the agent's log and CRIU's own log on that host",
        )
    };
    let mut podman = Command::new("podman");
    podman.args(["container", "checkpoint", "--keep", "--tcp-established", "--file-locks", "--print-stats"]);
    podman.args(["--ignore-rootfs", "--ignore-volumes", "--compress", "none", "--export"]).arg(archive);
    if kind.with_previous {
        podman.arg("--with-previous");
    }
    if kind.goes_on {
        podman.arg("--leave-running");
    }
    // Podman is not killed with whoever waits for it: CRIU would leave its code in the service.
    let asked = podman.arg(&container.id).stdin(Stdio::null()).output();
    match tokio::time::timeout(CRIU_DEADLINE, asked).await {
        Ok(Ok(output)) if output.status.success() => {
            let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            Ok(criu_times(&told["container_statistics"][0]))
        }
        Ok(Ok(output)) => Err(failed(String::from_utf8_lossy(&output.stderr).trim())),
        Ok(Err(error)) => Err(failed(&format!("it cannot be run: {error}"))),
        Err(_) => Err(failed(&format!("it did not answer within {CRIU_DEADLINE:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_to_be_removed_is_known_by_its_annotation() {
        assert!(is_removable(&json!({"annotations": {ANNOTATION: "TRUE"}})));
        assert!(!is_removable(&json!({"annotations": {ANNOTATION: "FALSE"}})));
        assert!(!is_removable(&json!({})));
    }
}
