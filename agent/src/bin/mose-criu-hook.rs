//! CRIU's action script: asks the agent, at the stages that a hand-over acts on, and waits for its answer.
//!
//! Where there is none, or it is *no*, CRIU fails. What of that CRIU cannot do is done here: a service that stands still at its source
//! is let go on, and one that was restored is kept from running, as CRIU would let it run after `pre-resume` in any case.
//!
//! Runs inside the downtime, many times: no runtime, no allocation to speak of, little but the standard library.
//! The other end is `mose_engine::podman::hooks`, which says what the marker means.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use mose_engine::podman::freezer::set_frozen;

/// Must be the folder in which the agent listens.
const FOLDER: &str = "/run/mose/criu";

/// How long the agent may take where the service stands still, if the marker does not say: what it does takes milliseconds. An agent that
/// died is noticed at once.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long it may take before the freeze: pre-copy's last round is then on its way.
const RUNNING_DEADLINE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let Ok(stage) = env::var("CRTOOLS_SCRIPT_ACTION") else { return ExitCode::SUCCESS };
    if !matches!(stage.as_str(), "pre-dump" | "post-dump" | "pre-restore" | "post-restore" | "pre-resume") {
        return ExitCode::SUCCESS;
    }
    let Some(id) = container() else { return ExitCode::SUCCESS };
    let Ok(marker) = fs::read_to_string(Path::new(FOLDER).join(&id)) else { return ExitCode::SUCCESS };
    let patience = marker.trim().parse().map_or(DEADLINE, Duration::from_millis);
    let reason = match ask(&stage, &id, patience) {
        Ok(answer) if answer == "ok\n" => return ExitCode::SUCCESS,
        Ok(answer) => answer.trim().to_owned(),
        Err(error) => format!("the agent does not answer: {error}"),
    };
    say(&reason);
    let done = match stage.as_str() {
        // CRIU still holds every task: nothing of them runs in between.
        "pre-resume" => hold_still(true),
        // The agent that froze it may be gone.
        "pre-dump" | "post-dump" => hold_still(false),
        _ => Ok(()),
    };
    if let Err(error) = done {
        say(&format!("the service's cgroup is as it was: {error}"));
    }
    ExitCode::FAILURE
}

/// Freezes or thaws the processes that CRIU works on. CRIU does not know them yet at a dump's first stage.
fn hold_still(still: bool) -> std::io::Result<()> {
    let Some(pid) = env::var("CRTOOLS_INIT_PID").ok().and_then(|pid| pid.parse().ok()) else { return Ok(()) };
    set_frozen(pid, still)
}

/// The container whose images CRIU works on: `…/overlay-containers/<id>/userdata/checkpoint`.
fn container() -> Option<String> {
    let folder = fs::read_link(env::var_os("CRTOOLS_IMAGE_DIR")?).ok()?;
    let id = folder.parent()?.parent()?.file_name()?.to_str()?;
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

fn ask(stage: &str, id: &str, patience: Duration) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(Path::new(FOLDER).join("sock"))?;
    stream.set_read_timeout(Some(if stage == "pre-dump" { RUNNING_DEADLINE } else { patience }))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("{stage} {id}\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(512).read_to_string(&mut answer)?;
    Ok(answer)
}

/// CRIU's log shows what its scripts say.
fn say(reason: &str) {
    let _ = writeln!(std::io::stderr(), "mose-criu-hook: {reason}");
}
