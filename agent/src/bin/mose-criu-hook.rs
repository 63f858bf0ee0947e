//! CRIU's action script: asks the agent, at the stages that a hand-over acts on, and waits for its answer.
//!
//! If there is no answer, or it is *no*, CRIU fails, and this hook does what CRIU does not: at a dump it has the service thawed; at
//! `pre-resume`, where CRIU would run the copy in any case, it kills the copy.
//!
//! Runs inside the downtime, many times: no runtime, no allocation to speak of, little but the standard library.
//! The other end is `mose_engine::podman::hooks`, which says what the marker means.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use mose_engine::podman::freezer::set_frozen;
use mose_engine::podman::hooks::RELEASED;
use mose_engine::podman::processes::{end_tree, status_number};

/// Must be the folder in which the agent listens.
const FOLDER: &str = "/run/mose/criu";

/// How long the agent may take where the service stands still, if the marker does not say: what it does takes milliseconds. An agent that
/// died is noticed at once.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long it may take before the freeze: pre-copy's last round is then on its way.
const RUNNING_DEADLINE: Duration = Duration::from_secs(600);

/// The argument with which this program runs itself, to thaw the processes of its second argument once that of its third is gone.
const THAW: &str = "thaw-after";

/// How long that may wait for CRIU to end, which has no more to do than to let go.
const LETTING_GO: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let [_, thaw, pid, criu] = &env::args().collect::<Vec<_>>()[..]
        && thaw == THAW
    {
        return thaw_after(pid, criu);
    }
    let Ok(stage) = env::var("CRTOOLS_SCRIPT_ACTION") else { return ExitCode::SUCCESS };
    if !matches!(stage.as_str(), "pre-dump" | "post-dump" | "pre-restore" | "post-restore" | "pre-resume") {
        return ExitCode::SUCCESS;
    }
    let Some(id) = container() else { return ExitCode::SUCCESS };
    let Ok(marker) = fs::read_to_string(Path::new(FOLDER).join(&id)) else { return ExitCode::SUCCESS };
    let patience = marker.trim().parse().map_or(DEADLINE, Duration::from_millis);
    let reason = match ask(&stage, &id, patience) {
        Ok(answer) if answer == "ok\n" => return ExitCode::SUCCESS,
        Ok(answer) if !answer.is_empty() => answer.trim().to_owned(),
        answer => {
            let error = answer.err().map(|error| error.to_string());
            say(&format!("the agent does not answer: {}", error.as_deref().unwrap_or("it is gone")));
            // Its clients may have heard that it has what they sent.
            if stage == "pre-resume" && Path::new(FOLDER).join(id + RELEASED).exists() {
                say("what was held for the service is let out: it runs");
                return ExitCode::SUCCESS;
            }
            "CRIU may go on only if the agent says so".to_owned()
        }
    };
    say(&reason);
    let done = match (stage.as_str(), service()) {
        // CRIU still holds every task: nothing of them has run, and what is in their way keeps in what their connections say. CRIU itself
        // would wait for tasks that wait for it to end.
        ("pre-resume", Some(pid)) => {
            end_tree(pid);
            end_criu();
            Ok(())
        }
        // The agent that froze it may be gone.
        ("post-dump", Some(pid)) => thaw_later(pid),
        _ => Ok(()),
    };
    if let Err(error) = done {
        say(&format!("the service's cgroup is as it was: {error}"));
    }
    ExitCode::FAILURE
}

/// Ends CRIU.
fn end_criu() {
    if let Some(criu) = criu() {
        end_tree(criu);
    }
}

/// CRIU, which has started this program by a shell.
fn criu() -> Option<u32> {
    let mut pid = std::process::id();
    for _ in 0..4 {
        pid = parent(pid)?;
        if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("criu")) {
            return Some(pid);
        }
    }
    None
}

/// Has the service of `pid` thawed once CRIU is gone. Before that it would be frozen again: CRIU leaves a cgroup as it found it.
fn thaw_later(pid: u32) -> std::io::Result<()> {
    let criu =
        criu().ok_or_else(|| std::io::Error::other("CRIU is not among those who have started this"))?;
    let mut later = Command::new(env::current_exe()?);
    later.args([THAW, &pid.to_string(), &criu.to_string()]);
    later.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().map(drop)
}

fn thaw_after(pid: &str, criu: &str) -> ExitCode {
    let (Ok(pid), criu) = (pid.parse(), Path::new("/proc").join(criu)) else { return ExitCode::FAILURE };
    let begun = Instant::now();
    while criu.exists() && begun.elapsed() < LETTING_GO {
        std::thread::sleep(Duration::from_millis(2));
    }
    if set_frozen(pid, false).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parent(pid: u32) -> Option<u32> {
    u32::try_from(status_number(pid, "PPid", 10)?).ok().filter(|parent| *parent > 1)
}

/// The first of the processes that CRIU works on. At a dump's first stage it does not know them yet.
fn service() -> Option<u32> {
    env::var("CRTOOLS_INIT_PID").ok()?.parse().ok()
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
