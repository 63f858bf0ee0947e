//! A process of the service as `/proc/PID/status` tells of it.

use std::fs;
use std::io;

use mose_protocol::check::Process;

/// The most threads of one process that are looked at.
const MOST_THREADS: usize = 4096;

/// One process.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Its number where the agent is.
    pub(crate) pid: u32,
    /// How it is told of.
    pub(crate) told: Process,
    /// The letter of its state (proc_pid_stat(5)).
    pub(crate) state: char,
    /// Who traces it; 0 if nobody does.
    pub(crate) tracer: u32,
    /// Its real, effective, saved and file system user ids and group ids.
    pub(crate) ids: Vec<u32>,
    /// Signals that wait for it, a bit each from SIGHUP on.
    pub(crate) pending: u64,
    /// Its threads, itself first.
    pub(crate) threads: Vec<u32>,
}

impl Task {
    /// The process `pid`; an error where it is gone.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mut task = Self::parse(pid, &text);
        let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
        let threads = threads.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        task.threads = threads.take(MOST_THREADS).collect();
        task.threads.sort_by_key(|thread| (*thread != pid, *thread));
        Ok(task)
    }

    fn parse(pid: u32, status: &str) -> Self {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim()
        };
        let numbers = |name: &str| field(name).split_whitespace().filter_map(|number| number.parse().ok());
        let signals = |name: &str| u64::from_str_radix(field(name), 16).unwrap_or(0);
        Self {
            pid,
            told: Process {
                pid: numbers("NSpid").next_back().unwrap_or(pid),
                command: field("Name").to_owned(),
            },
            state: field("State").chars().next().unwrap_or('?'),
            tracer: numbers("TracerPid").next().unwrap_or(0),
            ids: numbers("Uid").chain(numbers("Gid")).collect(),
            pending: signals("SigPnd") | signals("ShdPnd"),
            threads: Vec::new(),
        }
    }

    /// A file of its in `/proc`.
    pub(crate) fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_number_in_the_container() {
        let status = "Name:\tredis server\nState:\tT (stopped)\nTracerPid:\t9\nUid:\t0\t0\t0\t999\nGid:\t0\t0\t0\t0\n\
                      NSpid:\t4711\t812\t7\nSigPnd:\t0000000000000010\nShdPnd:\t0000000000000001\n";
        let task = Task::parse(4711, status);
        assert_eq!(task.told.to_string(), "process 7 (redis server)");
        assert_eq!((task.state, task.tracer, task.pending), ('T', 9, 0x11));
        assert_eq!(task.ids, [0, 0, 0, 999, 0, 0, 0, 0]);
    }

    #[test]
    fn this_process_is_there_and_no_other() {
        let me = Task::of(std::process::id()).unwrap();
        assert!(me.threads.first() == Some(&me.pid) && me.state == 'S' || me.state == 'R', "{me:?}");
        assert!(Task::of(u32::MAX).is_err());
    }
}
