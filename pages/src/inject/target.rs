//! What is known of a target before it is touched, and the processes that are better left alone.

use super::Refusal;
use std::fs;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

/// How long a better moment is waited for, and how often it is looked for.
const PATIENCE: Duration = Duration::from_millis(100);
const GLANCE: Duration = Duration::from_micros(500);

/// What `/proc/PID/status` says of a target (proc_pid_status(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Whether its system calls pass a filter.
    pub(super) filtered: bool,
}

impl Target {
    /// Looks at the first thread of a process and refuses those that must not be touched.
    pub(super) fn of(pid: u32) -> Result<Self, Refusal> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|_| Refusal::Gone)?;
        let target = judge(&status)?;
        let mut head = [0u8; 20];
        let read = fs::File::open(format!("/proc/{pid}/exe")).and_then(|mut file| file.read_exact(&mut head));
        // Class 2 is 64 bits, machine 62 is x86_64 (elf(5)).
        if read.is_ok() && (&head[..4] != b"\x7fELF" || head[4] != 2 || head[18] != 62) {
            return Err(Refusal::Never("it is not a 64-bit program for x86_64".to_owned()));
        }
        Ok(target)
    }
}

fn judge(status: &str) -> Result<Target, Refusal> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("", str::trim)
    };
    match field("State").as_bytes().first() {
        Some(b'Z' | b'X') if field("Threads").parse().unwrap_or(1) > 1 => {
            return Err(Refusal::Never("its first thread has ended".to_owned()));
        }
        Some(b'Z' | b'X') => return Err(Refusal::Gone),
        Some(b'T') => return Err(Refusal::Later("it is stopped by a signal".to_owned())),
        _ => {}
    }
    if !matches!(field("TracerPid"), "" | "0") {
        return Err(Refusal::Later(format!("process {} traces it already", field("TracerPid"))));
    }
    if field("x86_Thread_features").split_whitespace().any(|feature| feature == "shstk") {
        return Err(Refusal::Never("it has a shadow stack".to_owned()));
    }
    match field("Seccomp") {
        "1" => Err(Refusal::Never("it runs in strict seccomp mode".to_owned())),
        filters => Ok(Target { filtered: filters == "2" }),
    }
}

/// Waits a little for a moment when the first thread is not in a wait that, once interrupted, has to begin its time anew
/// (those that answer `EINTR` when a thread is merely stopped). The service would wait longer than it asked for, once.
pub(super) fn good_moment(pid: u32) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match fs::read_to_string(format!("/proc/{pid}/syscall")) {
            Ok(line) if begins_anew(&line) => thread::sleep(GLANCE),
            _ => return,
        }
    }
}

/// Whether `/proc/PID/syscall` shows a call with a time limit that is not kept over an interruption.
fn begins_anew(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let Some(call) = words.next().and_then(|word| word.parse::<i64>().ok()) else { return false };
    let arguments: Vec<u64> =
        words.map_while(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()).collect();
    let argument = |at: usize| arguments.get(at).copied().unwrap_or(0);
    match call {
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => argument(3) as u32 as i32 > 0,
        libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => argument(3) != 0,
        libc::SYS_rt_sigtimedwait => argument(2) != 0,
        libc::SYS_io_getevents => argument(4) != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "Name:\tx\nState:\tS (sleeping)\nTracerPid:\t0\nThreads:\t3\nSeccomp:\t0\n";

    fn with(from: &str, to: &str) -> Result<Target, Refusal> {
        assert!(PLAIN.contains(from));
        judge(&PLAIN.replace(from, to))
    }

    #[test]
    fn a_plain_process_is_taken_and_filters_are_noted() {
        assert_eq!(judge(PLAIN), Ok(Target { filtered: false }));
        assert_eq!(with("Seccomp:\t0", "Seccomp:\t2"), Ok(Target { filtered: true }));
    }

    #[test]
    fn those_that_must_be_left_alone_are_refused() {
        assert_eq!(with("S (sl", "Z (zo").unwrap_err().word(), "never");
        assert_eq!(
            with("S (sleeping)\nTracerPid:\t0\nThreads:\t3", "Z (zombie)").unwrap_err(),
            Refusal::Gone
        );
        assert_eq!(with("S (sl", "T (st").unwrap_err().word(), "later");
        assert_eq!(with("Pid:\t0", "Pid:\t9").unwrap_err().word(), "later");
        assert_eq!(with("Seccomp:\t0", "Seccomp:\t1").unwrap_err().word(), "never");
        assert_eq!(with("Seccomp", "x86_Thread_features:\tshstk wrss\nSeccomp").unwrap_err().word(), "never");
    }

    #[test]
    fn waits_with_a_limit_that_begins_anew_are_known() {
        assert!(begins_anew("232 0x4 0x7ffd0 0x1 0x3e8 0x0 0x8 0x7ffc 0x7f1"));
        assert!(!begins_anew("232 0x4 0x7ffd0 0x1 0xffffffff 0x0 0x8 0x7ffc 0x7f1"), "no limit");
        assert!(!begins_anew("7 0x7ffd0 0x1 0x3e8 0x0 0x0 0x8 0x7ffc 0x7f1"), "poll keeps its limit");
        assert!(!begins_anew("running"));
        assert!(!begins_anew(""));
    }
}
