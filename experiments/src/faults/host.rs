//! What the table does on the lab's hosts: shell lines with a deadline, signals for daemons, files seen from outside.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use color_eyre::eyre::{WrapErr, eyre};
use mose_lab::Lab;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a shell line on a host may take: a Podman that hangs must not hang the table.
const SHELL: Duration = Duration::from_secs(20);

/// How often something is looked at that is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Runs a shell's lines on a host; what they printed.
pub(crate) fn sh(lab: &Lab, host: &str, script: &str) -> color_eyre::Result<String> {
    let seconds = SHELL.as_secs().to_string();
    let mut command = lab.exec(host, &["timeout", "--signal=KILL", &seconds, "sh", "-c", script])?;
    let output = command.stdin(Stdio::null()).output().wrap_err("a shell cannot be run on a host")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(eyre!("`{script}` on {host} ended with {}: {}", output.status, said.trim()))
}

/// The same where nothing depends on it: what is undone may be gone already.
pub(crate) fn try_sh(lab: &Lab, host: &str, script: &str) {
    if let Err(error) = sh(lab, host, script) {
        tracing::warn!(%error, "something was not undone");
    }
}

/// A daemon's process, as the machine sees it.
pub(crate) fn daemon_pid(lab: &Lab, host: &str, daemon: &str) -> Option<i32> {
    let status = lab.status();
    let host = status.hosts.iter().find(|told| told.host.name == host)?;
    host.daemons.iter().find(|told| told.name == daemon)?.machine_pid
}

/// Signals a process of the machine, if it is there.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// A path of a host, as this machine sees it.
pub(crate) fn outside(lab: &Lab, host: &str, path: &str) -> color_eyre::Result<PathBuf> {
    Ok(PathBuf::from(format!("/proc/{}/root{path}", lab.host_pid(host)?)))
}

/// Waits until something holds; whether it did in time.
pub(crate) fn wait_until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}
