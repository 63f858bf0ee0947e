//! Which process is ours. A pid alone proves nothing (it is reused), so a process is a pid with its start time; and should
//! the state file be lost, every process of the lab carries a mark in its environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The environment variable that marks a process of the lab; its value is the state folder.
pub(crate) const MARK: &str = "MOSE_LAB";

/// A process, told apart from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Process {
    /// Its pid as the machine sees it.
    pub pid: i32,
    /// Clock ticks from boot to its start.
    pub start: u64,
}

impl Process {
    /// The process that has this pid now.
    pub(crate) fn of(pid: i32) -> Option<Process> {
        let (start, state) = stat(pid)?;
        (state != 'Z' && state != 'X').then_some(Process { pid, start })
    }

    /// Whether it still runs. A zombie does not.
    pub fn alive(&self) -> bool {
        Process::of(self.pid) == Some(*self)
    }

    /// Whether it has begun to exit. A pid 1 stays in this state until all of its namespace is dead.
    pub(crate) fn dying(&self) -> bool {
        const PF_EXITING: u64 = 4;
        let flags = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok().and_then(|text| {
            let fields = &text[text.rfind(')')? + 1..];
            fields.split_whitespace().nth(6)?.parse::<u64>().ok()
        });
        self.alive() && flags.is_some_and(|flags| flags & PF_EXITING != 0)
    }

    /// Sends a signal if it is still the same process.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.alive() {
            // Gone between the look and the signal is what was wanted.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Start time and state letter of a process.
fn stat(pid: i32) -> Option<(u64, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields are behind its end.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    Some((fields.get(19)?.parse().ok()?, fields.first()?.chars().next()?))
}

/// All pids there are.
pub(crate) fn pids() -> Vec<i32> {
    fs::read_dir("/proc").map_or_else(
        |_| Vec::new(),
        |dir| dir.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect(),
    )
}

/// The processes marked as this lab's.
pub(crate) fn marked(state_dir: &Path) -> Vec<Process> {
    let mark = [MARK.as_bytes(), b"=", state_dir.as_os_str().as_encoded_bytes()].concat();
    pids()
        .into_iter()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| env.split(|b| *b == 0).any(|var| var == mark))
        })
        .filter_map(Process::of)
        .collect()
}

/// The pid a process has in its own, innermost pid namespace.
pub(crate) fn inner_pid(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// What `/proc/PID/ns/KIND` points to, e.g. `net:[4026531840]`.
pub(crate) fn namespace(pid: i32, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

/// The processes that live in the pid namespace of `pid`, with the pid they have there.
pub(crate) fn in_pid_namespace_of(pid: i32) -> Vec<(i32, i32)> {
    let Some(ns) = namespace(pid, "pid") else {
        return Vec::new();
    };
    pids()
        .into_iter()
        .filter(|p| namespace(*p, "pid").as_ref() == Some(&ns))
        .filter_map(|p| Some((p, inner_pid(p)?)))
        .collect()
}

/// Waits until all are gone; those that are not at the deadline.
pub(crate) fn wait_gone(processes: &[Process], deadline: Duration) -> Vec<Process> {
    let end = Instant::now() + deadline;
    loop {
        let left: Vec<Process> = processes.iter().copied().filter(Process::alive).collect();
        if left.is_empty() || Instant::now() >= end {
            return left;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_not_taken_for_another_with_its_pid() {
        let me = Process::of(std::process::id() as i32).unwrap();
        assert!(me.alive());
        let earlier = Process { start: me.start + 1, ..me };
        assert!(!earlier.alive());
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        let end = Instant::now() + Duration::from_secs(5);
        while Process::of(pid).is_some() && Instant::now() < end {
            thread::yield_now();
        }
        assert_eq!(Process::of(pid), None);
        child.wait().unwrap();
    }
}
