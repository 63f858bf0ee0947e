//! Can a running service move as it is now? Looked for in `/proc` while the service runs, and never by trying: what CRIU cannot dump
//! or restore, and what stays behind. Each finding names process, resource and remedy.
//!
//! It looks at the processes of one container ([`look`]) and at what their host has for them ([`machine()`], [`Options`], [`disk()`]).
//! It knows no container engine and no other host: which processes, and which other host, is for those who ask.

mod attributes;
mod beside;
mod collected;
mod descriptors;
mod disk;
mod empty_datagram;
mod files;
mod machine;
mod mappings;
mod mounts;
mod namespaces;
mod options;
mod processes;
mod socket_options;
mod sockets;
mod task;
mod watches;

use std::path::PathBuf;

use mose_protocol::check::{Finding, Severity};

use self::attributes::Usual;
pub use self::beside::{device_files, log_that_stays};
use self::collected::Findings;
use self::descriptors::{Around, Seen};
pub use self::disk::disk;
pub use self::machine::{limits, machine, under_systemd};
use self::mounts::Mounts;
pub use self::mounts::plain as mount_point;
pub use self::options::Options;
use self::task::Task;

/// The most processes that are looked at.
const MOST_PROCESSES: usize = 4096;

/// The most descriptors of all processes together that are looked at.
const MOST_DESCRIPTORS: usize = 262_144;

/// What is known of a container before its processes are looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its processes, the first one first.
    pub processes: Vec<u32>,
    /// Those in its control group that are not the first one's descendants.
    pub strangers: Vec<u32>,
    /// Where it was created with something mounted.
    pub places: Vec<PathBuf>,
    /// What CRIU is told on this host.
    pub options: Options,
    /// Whether its session's keyring may have keys: the name of that keyring.
    pub keyring: String,
}

/// What was found of a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// What was found.
    pub findings: Vec<Finding>,
    /// How many processes were looked at.
    pub processes: u32,
    /// How many descriptors.
    pub descriptors: u32,
    /// Whether it has processes that are not root.
    pub not_root: bool,
}

/// Looks at a running container. Blocks for some milliseconds; the container goes on.
#[must_use]
pub fn look(subject: &Subject) -> Looked {
    let mut findings = Findings::default();
    let tasks = |pids: &[u32]| -> Vec<Task> {
        // A process that has ended since needs no looking at.
        pids.iter().take(MOST_PROCESSES).filter_map(|pid| Task::of(*pid).ok()).collect()
    };
    let (ours, strangers) = (tasks(&subject.processes), tasks(&subject.strangers));
    let Some(first) = ours.first() else { return Looked::default() };
    let raises_limits = machine().raises_limits;
    let root = PathBuf::from(first.file("root"));
    let places = Mounts::of(first).unwrap_or_default();
    mounts::look(first, &places, &subject.places, &mut findings);
    namespaces::look(&ours, &mut findings);
    processes::strangers(&strangers, &mut findings);
    keys(&subject.keyring, &mut findings);
    let all = Mounts::of_all(&ours);
    let mut seen = Seen::default();
    let mut usual = Usual::here();
    for (index, task) in ours.iter().enumerate() {
        processes::look(task, raises_limits, &mut findings);
        attributes::look(task, &mut usual, &mut findings);
        let around =
            Around { pids: &subject.processes, root: &root, mounts: &all, options: &subject.options };
        let most = MOST_DESCRIPTORS.saturating_sub(seen.count);
        descriptors::look((index, task), &around, most, &mut seen, &mut findings);
        mappings::look(task, &around, &mut findings);
    }
    sockets::look(&ours, &seen.sockets, &mut findings);
    socket_options::look(&ours, &seen.sockets, &mut findings);
    if subject.processes.len() > MOST_PROCESSES || seen.count >= MOST_DESCRIPTORS {
        findings.whole(
            Severity::Note,
            "bounds",
            &format!("only {MOST_PROCESSES} processes and {MOST_DESCRIPTORS} descriptors are looked at"),
            "the rest is left to CRIU",
        );
    }
    Looked {
        findings: findings.told(),
        processes: u32::try_from(ours.len()).unwrap_or(u32::MAX),
        descriptors: u32::try_from(seen.count).unwrap_or(u32::MAX),
        not_root: ours.iter().any(|task| task.ids.iter().any(|id| *id != 0)),
    }
}

/// Keys in the container's session keyring, which the runtime makes anew at a restore (keyrings(7)).
fn keys(keyring: &str, findings: &mut Findings) {
    let text = std::fs::read_to_string("/proc/keys").unwrap_or_default();
    if text.lines().any(|line| has_keys(line, keyring)) {
        findings.whole(
            Severity::Blocks,
            "key in the session's keyring",
            "the kernel tells nobody its content, and CRIU leaves it behind",
            "have the service keep it in a file or in memory",
        );
    }
}

/// Whether a line of `/proc/keys` is that of a keyring that is not empty.
fn has_keys(line: &str, keyring: &str) -> bool {
    let Some((_, rest)) = line.split_once(" keyring ") else { return false };
    let Some((name, held)) = rest.trim().rsplit_once(": ") else { return false };
    name == keyring && held != "empty"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_that_holds_something_is_seen() {
        let line = "21a41fd5 I--Q---    17 perm 3f1b0000     0     0 keyring   _ses.abc: 1";
        assert!(has_keys(line, "_ses.abc"));
        assert!(!has_keys(line, "_ses.ab"));
        assert!(!has_keys(&line.replace(": 1", ": empty"), "_ses.abc"));
        assert!(!has_keys("21a41fd5 I--Q--- 17 perm 3f1b0000 0 0 user mose: 6", "mose"));
    }

    #[test]
    fn this_process_is_looked_at_without_harm() {
        let subject = Subject {
            processes: vec![std::process::id()],
            strangers: Vec::new(),
            places: Vec::new(),
            options: Options::read(&["/nowhere"]),
            keyring: "_ses.none".into(),
        };
        let looked = look(&subject);
        assert_eq!(looked.processes, 1);
        assert!(looked.descriptors >= 3, "{looked:?}");
    }
}
