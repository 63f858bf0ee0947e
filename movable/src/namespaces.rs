//! Namespaces of a process's own: CRIU dumps those of the container's first process, and of mounts further ones.

use std::fs;

use mose_protocol::check::Severity::Blocks;

use super::collected::Findings;
use super::task::Task;

/// What CRIU cannot dump a second one of, by the names in `/proc/PID/ns`.
const SINGLE: [&str; 8] =
    ["cgroup", "ipc", "net", "pid", "pid_for_children", "time_for_children", "user", "uts"];

/// The namespaces of a process, in the order of [`SINGLE`].
fn of(task: &Task) -> Vec<Option<std::path::PathBuf>> {
    SINGLE.iter().map(|name| fs::read_link(task.file(&format!("ns/{name}"))).ok()).collect()
}

/// Looks at the namespaces of all processes; the first one's are the container's.
pub(super) fn look(tasks: &[Task], findings: &mut Findings) {
    let Some((first, others)) = tasks.split_first() else { return };
    let ours = of(first);
    for task in others {
        for ((name, theirs), ours) in SINGLE.iter().zip(of(task)).zip(&ours) {
            if theirs.is_some() && ours.is_some() && theirs != *ours {
                let (name, _) = name.split_once("_for").unwrap_or((*name, ""));
                findings.add(
                    Blocks,
                    &task.told,
                    &format!("{name} namespace"),
                    "it has one of its own within the container, which CRIU cannot dump",
                    "run what needs it (a sandbox, a container in the container) elsewhere",
                );
            }
        }
    }
}
