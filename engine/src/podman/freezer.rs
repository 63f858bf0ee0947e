//! The freezer cgroup of a container.
//!
//! On cgroup v1 a frozen process that was stopped before (SIGSTOP) cannot be seized: ptrace(2) waits for it to move from *stopped*
//! to *traced*, and it cannot move. CRIU, which seizes while the cgroup is frozen, waits there for ever, however the cgroup was
//! frozen. So the cgroup is thawed as soon as CRIU has come to such a process: what CRIU seized before stays where it is, the
//! others run for the instant that they would have run without a freezer, and the stopped process stays stopped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::processes;
use crate::Container;

/// How long tasks may take to freeze; they do it at once unless they hang in the kernel.
const FREEZE_DEADLINE: Duration = Duration::from_secs(2);

/// How long CRIU may take to come to a stopped process: it seizes right after it was let go on.
const SEIZE_DEADLINE: Duration = Duration::from_secs(10);

/// How often it is looked whether CRIU has come to a stopped process.
const LOOK: Duration = Duration::from_millis(1);

/// The control file of the freezer of a process's cgroup, and what to write to it.
#[derive(Debug, Clone)]
struct Freezer {
    control: PathBuf,
    state: PathBuf,
    v2: bool,
}

impl Freezer {
    /// The freezer of the cgroup of `pid` (cgroup-v1/freezer-subsystem, cgroup-v2 `cgroup.freeze`).
    fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let path_of = |wanted: &dyn Fn(&str) -> bool| {
            text.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let controllers = parts.next()?;
                let path = parts.next()?;
                wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let v1 = Path::new("/sys/fs/cgroup/freezer");
        if v1.is_dir()
            && let Some(path) = path_of(&|c| c.split(',').any(|name| name == "freezer"))
        {
            let folder = v1.join(path);
            let control = folder.join("freezer.state");
            return Ok(Self { state: control.clone(), control, v2: false });
        }
        let path = path_of(&|c: &str| c.is_empty())
            .ok_or_else(|| io::Error::other(format!("process {pid} is in no freezer cgroup")))?;
        let folder = Path::new("/sys/fs/cgroup").join(path);
        Ok(Self { control: folder.join("cgroup.freeze"), state: folder.join("cgroup.events"), v2: true })
    }

    fn set(&self, frozen: bool) -> io::Result<()> {
        let value = match (self.v2, frozen) {
            (false, true) => "FROZEN",
            (false, false) => "THAWED",
            (true, true) => "1",
            (true, false) => "0",
        };
        fs::write(&self.control, value)
    }

    fn is(&self, frozen: bool) -> io::Result<bool> {
        let text = fs::read_to_string(&self.state)?;
        Ok(match (self.v2, frozen) {
            (false, true) => text.trim() == "FROZEN",
            (false, false) => text.trim() == "THAWED",
            (true, true) => text.lines().any(|line| line == "frozen 1"),
            (true, false) => text.lines().any(|line| line == "frozen 0"),
        })
    }
}

/// The processes in the cgroup of `pid`.
pub(super) fn members(pid: u32) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(Freezer::of(pid)?.control.with_file_name("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Freezes the cgroup of `pid` and returns when every task stands.
pub(super) fn freeze(pid: u32) -> io::Result<()> {
    let freezer = Freezer::of(pid)?;
    // To be asked before: a frozen task no longer tells that it was stopped.
    let stopped = if freezer.v2 { Vec::new() } else { stopped(pid) };
    freezer.set(true)?;
    let deadline = Instant::now() + FREEZE_DEADLINE;
    while !freezer.is(true)? {
        if Instant::now() > deadline {
            freezer.set(false)?;
            return Err(io::Error::other(format!("its tasks did not freeze within {FREEZE_DEADLINE:?}")));
        }
        std::thread::yield_now();
    }
    if !stopped.is_empty() {
        // CRIU comes after this has returned, so nobody waits for the thread. It ends after `SEIZE_DEADLINE` at the latest.
        std::thread::Builder::new().name("seize-watch".into()).spawn(move || {
            thaw_when_seized(&freezer, &stopped);
        })?;
    }
    Ok(())
}

/// The threads of the processes below (and with) `pid` that are stopped.
fn stopped(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for process in processes::tree(pid) {
        let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let threads = threads.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        found.extend(threads.filter(|thread| processes::state(*thread) == Some('T')));
    }
    found
}

/// Thaws as soon as somebody has begun to trace one of these threads.
fn thaw_when_seized(freezer: &Freezer, stopped: &[u32]) {
    let deadline = Instant::now() + SEIZE_DEADLINE;
    let traced =
        |thread: &u32| processes::status_number(*thread, "TracerPid", 10).is_some_and(|tracer| tracer != 0);
    while Instant::now() < deadline {
        if stopped.iter().any(traced) {
            if let Err(error) = freezer.set(false) {
                tracing::warn!(%error, "a cgroup with a stopped process cannot be thawed for CRIU");
            }
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Has the cgroup of a process stand still, or go on. Nothing is waited for.
///
/// # Errors
/// The process is gone or in no freezer cgroup, or the kernel refuses.
pub fn set_frozen(pid: u32, frozen: bool) -> io::Result<()> {
    Freezer::of(pid)?.set(frozen)
}

/// Lets the cgroup of `pid` go on; a process that is gone needs no thawing.
pub(super) fn thaw(pid: u32) -> io::Result<()> {
    match Freezer::of(pid).and_then(|freezer| freezer.set(false)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lets a container's processes go on where its first one still stands.
pub(super) fn thaw_container(container: &Container) -> io::Result<()> {
    match container.pid {
        Some(pid) if processes::stands(container) => thaw(pid),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_found_and_one_that_runs_is_not() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(stopped(child.id()).is_empty());
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(stopped(child.id()), [child.id()]);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_cgroup_is_thawed_once_its_stopped_process_is_traced() {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("freezer.state");
        fs::write(&control, "FROZEN").unwrap();
        let freezer = Freezer { control: control.clone(), state: control.clone(), v2: false };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let watch = std::thread::spawn({
            let freezer = freezer.clone();
            move || thaw_when_seized(&freezer, &[pid])
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(freezer.is(true).unwrap(), "nobody traces it yet");
        // SAFETY: ptrace(2) with PTRACE_SEIZE reads and writes no memory; the process is this test's own.
        let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, libc::pid_t::try_from(pid).unwrap(), 0, 0) };
        assert_eq!(seized, 0);
        watch.join().unwrap();
        assert!(freezer.is(false).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
