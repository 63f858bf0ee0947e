//! Conmon, which stands by each container: it writes the log, and has Podman clean up when the container ends.

use std::fs;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::processes::PidWatch;
use crate::ExitWatch;

/// How long conmon may take, after a container's end, to write down what the container had said last.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The conmon of a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conmon {
    pid: i32,
}

impl Conmon {
    /// The conmon of an inspected container; `None` where it is gone.
    pub(super) fn of(inspect: &Value) -> Option<Self> {
        let pid = i32::try_from(inspect["State"]["ConmonPid"].as_u64()?).ok().filter(|pid| *pid > 1)?;
        // The number may be another process's by now.
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let id = inspect["Id"].as_str()?;
        let conmon = Self { pid };
        (conmon.is_there() && command.split('\0').any(|word| word == id)).then_some(conmon)
    }

    /// The conmon of a container by the first of the container's processes, whose parent it is.
    pub(super) fn over(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        let conmon = Self { pid: parent.trim().parse().ok()? };
        conmon.is_there().then_some(conmon)
    }

    /// Whether it still is conmon: once all is written down, it becomes the command that cleans up.
    fn is_there(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/comm", self.pid)).is_ok_and(|name| name.trim() == "conmon")
    }

    /// Ends it at once: nobody has the container cleaned up then.
    pub(super) fn end(self) {
        if let Err(error) = self.signal(Signal::SIGKILL) {
            tracing::debug!(pid = self.pid, %error, "conmon ended by itself");
        }
    }

    /// Has it stand still: it does not notice then how its container ends.
    pub(super) fn stop(self) -> std::io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub(super) fn go_on(self) {
        if let Err(error) = self.signal(Signal::SIGCONT) {
            tracing::debug!(pid = self.pid, %error, "conmon ended by itself");
        }
    }

    fn signal(self, signal: Signal) -> std::io::Result<()> {
        Ok(kill(Pid::from_raw(self.pid), signal)?)
    }

    /// Whether it was stopped (proc_pid_stat(5)).
    pub(super) fn is_stopped(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }
}

/// Watches for the end of a container's last process, and for its last words to be in the log.
pub(super) struct EndWatch {
    exit: PidWatch,
    conmon: Option<Conmon>,
}

impl EndWatch {
    /// The watch of the container whose first process is `pid`.
    pub(super) fn of(pid: u32) -> std::io::Result<Self> {
        Ok(Self { exit: PidWatch::of(pid)?, conmon: Conmon::over(pid) })
    }
}

#[async_trait]
impl ExitWatch for EndWatch {
    async fn gone(&mut self) {
        self.exit.gone().await;
        let Some(conmon) = &self.conmon else { return };
        let deadline = tokio::time::Instant::now() + LAST_WORDS;
        // Where it was stopped, it had nothing left to write.
        while conmon.is_there() && !conmon.is_stopped() {
            if tokio::time::Instant::now() > deadline {
                tracing::warn!(pid = conmon.pid, "conmon still writes; the end of the log may be missing");
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_is_another_process_by_now_is_not_taken_for_conmon() {
        let inspect = |pid: u32| json!({"Id": "1", "State": {"ConmonPid": pid}});
        assert!(Conmon::of(&inspect(std::process::id())).is_none());
        assert!(Conmon::of(&inspect(0)).is_none());
        assert!(Conmon::of(&inspect(1)).is_none());
    }
}
