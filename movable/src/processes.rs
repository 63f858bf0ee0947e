//! Processes in states, and with identities, that CRIU cannot take hold of.

use std::fs;

use mose_protocol::check::Severity::{Blocks, LeftBehind};

use super::collected::Findings;
use super::task::Task;

/// A signal that a debugger's instructions raise.
const SIGTRAP: u64 = 5;

/// The agent's own helper stops a process for a moment, to look at its memory.
const OWN_TRACER: &str = "mose-write-prot";

/// The kind of kcmp(2) that compares the tables of descriptors, and that of working folders.
const KCMP_FILES: libc::c_int = 2;
const KCMP_FS: libc::c_int = 3;

/// Looks at one process.
pub(super) fn look(task: &Task, raises_limits: bool, findings: &mut Findings) {
    state(task, findings);
    if let Some(tracer) = debugger(task.tracer) {
        findings.add(
            Blocks,
            &task.told,
            "debugger",
            &format!("it is traced by {tracer}, and CRIU has to trace it itself"),
            "end the debugger, then migrate",
        );
    }
    if task.pending & (1 << (SIGTRAP - 1)) != 0 {
        findings.add(
            Blocks,
            &task.told,
            "pending SIGTRAP",
            "CRIU cannot dump a process for which this signal waits",
            "have the process take the signal, then migrate",
        );
    }
    if !raises_limits && task.ids.iter().any(|id| *id != 0) {
        findings.add(
            Blocks,
            &task.told,
            "not root",
            "this machine gives its programs no CAP_SYS_RESOURCE, without which CRIU cannot dump the limits of a process \
             that is not root",
            "give Podman and the agent CAP_SYS_RESOURCE, or run the service as root in its container",
        );
    }
    threads(task, findings);
}

fn state(task: &Task, findings: &mut Findings) {
    match task.state {
        'Z' if task.threads.len() > 1 => findings.add(
            Blocks,
            &task.told,
            "first thread",
            "its first thread has ended and others go on, which CRIU does not support",
            "restart the service; its program must not end its main thread first",
        ),
        'D' => findings.add(
            mose_protocol::check::Severity::Note,
            &task.told,
            "waiting in the kernel",
            "it waits for a device or a file system, and cannot be frozen while it does",
            "if the migration fails to freeze it, see what it waits for",
        ),
        _ => {}
    }
}

/// Threads that do not share what threads of a process share: CRIU gives them the first one's, without a word.
fn threads(task: &Task, findings: &mut Findings) {
    for thread in task.threads.iter().skip(1) {
        for (kind, what) in [(KCMP_FILES, "descriptors"), (KCMP_FS, "working folder")] {
            // SAFETY: kcmp(2) takes integers only.
            let compared = unsafe { libc::syscall(libc::SYS_kcmp, task.pid, *thread, kind, 0, 0) };
            if compared > 0 {
                findings.add(
                    Blocks,
                    &task.told,
                    &format!("thread with {what} of its own"),
                    "CRIU gives each thread what the first one has, so that this is lost",
                    "the program must keep them shared (no unshare(2) of them in a thread)",
                );
            }
        }
    }
}

/// Processes in the container's control group that are not its first one's descendants: those of `podman exec`.
pub(super) fn strangers(others: &[Task], findings: &mut Findings) {
    for task in others {
        findings.add(
            LeftBehind,
            &task.told,
            "exec session",
            "it was started by podman exec: it does not move, and ends with the container here",
            "start it again at the destination",
        );
    }
}

/// What traces a process, by the id that its status tells: `None` where nothing does, or the agent's own helper, or where it has ended
/// since, as the kernel then has let the process go.
fn debugger(tracer: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{tracer}/comm")).ok()?;
    (name.trim() != OWN_TRACER).then(|| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_traces_nothing() {
        assert!(debugger(std::process::id()).is_some());
        assert_eq!(debugger(0), None);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(debugger(child.id()), None);
    }
}
