//! CRIU's action script: asks the agent, at the stages that a hand-over acts on, and waits for its answer.
//!
//! Runs inside the downtime, many times: no runtime, no allocation to speak of, the standard library alone.
//! The other end is `mose_engine::podman::hooks`, which says what the marker means.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Must be the folder in which the agent listens.
const FOLDER: &str = "/run/mose/criu";

/// How long the agent may take where the service stands still: what it does takes milliseconds. An agent that died is
/// noticed at once.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long it may take before the freeze: pre-copy's last round is then on its way.
const RUNNING_DEADLINE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let Ok(stage) = env::var("CRTOOLS_SCRIPT_ACTION") else { return ExitCode::SUCCESS };
    if !matches!(stage.as_str(), "pre-dump" | "post-dump" | "pre-restore" | "pre-resume") {
        return ExitCode::SUCCESS;
    }
    let Some(id) = container() else { return ExitCode::SUCCESS };
    if !Path::new(FOLDER).join(&id).exists() {
        return ExitCode::SUCCESS;
    }
    match ask(&stage, &id) {
        Ok(answer) if answer == "ok\n" => ExitCode::SUCCESS,
        Ok(answer) => fail(answer.trim()),
        Err(error) => fail(&format!("the agent does not answer: {error}")),
    }
}

/// The container whose images CRIU works on: `…/overlay-containers/<id>/userdata/checkpoint`.
fn container() -> Option<String> {
    let folder = fs::read_link(env::var_os("CRTOOLS_IMAGE_DIR")?).ok()?;
    let id = folder.parent()?.parent()?.file_name()?.to_str()?;
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

fn ask(stage: &str, id: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(Path::new(FOLDER).join("sock"))?;
    stream.set_read_timeout(Some(if stage == "pre-dump" { RUNNING_DEADLINE } else { DEADLINE }))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(format!("{stage} {id}\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(512).read_to_string(&mut answer)?;
    Ok(answer)
}

/// CRIU's log shows what its scripts say.
fn fail(reason: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "mose-criu-hook: {reason}");
    ExitCode::FAILURE
}
