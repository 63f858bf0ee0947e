//! A restore at work: found without asking Podman, watched for signs of life, woken and ended.
//!
//! Until what was held for the service is released, nobody can have heard of it: what leaves the namespace is dropped. So all of it may be
//! killed at any time. From then on its connections may have taken in what their clients believe delivered, and it is only woken.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use mose_protocol::{Refusal, RefusalCode};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::at_work::{descriptors, stands_still, ticks};
use super::{criu_log, freezer, io_refusal, processes, runtime_state};
use crate::Container;
use crate::aside::aside;

/// How often a restore is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long the processes of a restore may take to end once they are killed.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// How often it is looked whether they have.
const ENDING: Duration = Duration::from_millis(10);

/// The restore of one container.
pub(super) struct Restoring<'a> {
    container: &'a Container,
}

/// Who has to do with a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    /// runc and CRIU, with everything that they have started and not let go yet.
    at_work: BTreeSet<u32>,
    /// The container's own processes.
    own: BTreeSet<u32>,
}

/// What changes while a restore goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pulse {
    found: Found,
    written: u64,
    ticks: u64,
}

impl<'a> Restoring<'a> {
    pub(super) const fn of(container: &'a Container) -> Self {
        Self { container }
    }

    fn log(&self) -> PathBuf {
        self.container.checkpoint.with_file_name("restore.log")
    }

    /// Looks through all processes of the host. If it cannot, that says nothing: not that there are none.
    fn look(&self) -> Result<Found, Refusal> {
        let entries =
            fs::read_dir("/proc").map_err(|error| io_refusal("no process can be looked at", &error))?;
        let mut found = Found::default();
        for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if self.restores(pid, comm.trim()) {
                found.at_work.extend(processes::tree(pid));
            } else if comm.trim() != "conmon" && self.is_own(pid) {
                found.own.insert(pid);
            }
        }
        found.own = found.own.difference(&found.at_work).copied().collect();
        Ok(found)
    }

    /// Whether a process is runc or CRIU, restoring this container.
    fn restores(&self, pid: u32, comm: &str) -> bool {
        if comm.starts_with("criu") {
            let log = self.log();
            return descriptors(pid)
                .any(|target| target == log || target.starts_with(&self.container.checkpoint));
        }
        if !comm.starts_with("runc") && !comm.starts_with("crun") {
            return false;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = command.split(|byte| *byte == 0).collect();
        words.contains(&b"restore".as_slice()) && words.contains(&self.container.id.as_bytes())
    }

    /// Whether a process is in the container's cgroup, or in one below it.
    fn is_own(&self, pid: u32) -> bool {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let name = format!("libpod-{}", self.container.id);
        let scope = format!("{name}.scope");
        let ours = |part: &str| part == name || part == scope;
        cgroup.lines().any(|line| line.rsplit(':').next().is_some_and(|path| path.split('/').any(ours)))
            && !matches!(processes::state(pid), None | Some('Z' | 'X'))
    }

    async fn looked(&self) -> Result<Found, Refusal> {
        let container = self.container.clone();
        aside(move || Restoring::of(&container).look()).await
    }

    fn pulse_now(&self) -> Result<Pulse, Refusal> {
        let found = self.look()?;
        let ticks = found.at_work.iter().map(|pid| ticks(*pid)).sum();
        Ok(Pulse { found, written: fs::metadata(self.log()).map_or(0, |log| log.len()), ticks })
    }

    /// Returns once nothing has happened for `patience`, and says what it hangs in.
    pub(super) async fn hangs(&self, patience: Duration) -> Refusal {
        // Most restores are over before they are looked at, which costs time of the same processor.
        let first = patience / 4;
        tokio::time::sleep(first).await;
        let looks = u32::try_from((patience - first).as_millis() / LOOK.as_millis()).unwrap_or(u32::MAX);
        let pulse = || {
            let container = self.container.clone();
            async move { aside(move || Restoring::of(&container).pulse_now()).await.ok() }
        };
        stands_still(looks, || tokio::time::sleep(LOOK), pulse).await;
        Refusal::new(
            RefusalCode::Failed,
            format!(
                "the restore of {} did nothing for {patience:?}: {}",
                self.container.name,
                self.says().await
            ),
            "see that Podman, runc and CRIU work there (mose doctor), and migrate again",
        )
        .with_log(criu_log::end(&self.log()).ok().as_deref())
    }

    /// What it is in the midst of, as people read it.
    async fn says(&self) -> String {
        let at_work = self.looked().await.map(|found| found.at_work).unwrap_or_default();
        let described = at_work.iter().map(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let state = processes::state(*pid).unwrap_or('?');
            format!("{} (process {pid}) in state {state}", comm.trim())
        });
        let described: Vec<_> = described.take(4).collect();
        match (described.is_empty(), criu_log::last_line(&self.log())) {
            (true, None) => "Podman has not begun it".to_owned(),
            (true, Some(last)) => {
                format!("Podman does not say how it ended; the last line of CRIU's log: {last}")
            }
            (false, None) => format!("{}; CRIU has said nothing", described.join(", ")),
            (false, Some(last)) => format!("{}; the last line of CRIU's log: {last}", described.join(", ")),
        }
    }

    /// Has the restore and the service go on, whatever has stopped them.
    pub(super) async fn wake(&self) -> Option<bool> {
        let found = self.looked().await.ok()?;
        for pid in &found.at_work {
            processes::signal(*pid, Signal::SIGCONT);
        }
        if found.at_work.is_empty() {
            thaw(&found.own);
        }
        self.has_ended().await
    }

    /// Whether the service's processes are there; `None` while a restore is at work, or if that cannot be seen.
    pub(super) async fn has_ended(&self) -> Option<bool> {
        let found = self.looked().await.ok()?;
        found.at_work.is_empty().then_some(!found.own.is_empty())
    }

    /// Ends the restore and everything that it has made.
    pub(super) async fn end(&self) -> Result<(), Refusal> {
        let deadline = Instant::now() + END_DEADLINE;
        loop {
            let found = self.looked().await?;
            if found == Found::default() {
                return runtime_state::remove(&self.container.id).await;
            }
            if Instant::now() > deadline {
                return Err(self.does_not_end(&(&found.at_work | &found.own)));
            }
            // CRIU first: it would take the end of a task for a failure of its own, and tell.
            for pid in found.at_work.iter().chain(&found.own) {
                processes::signal(*pid, Signal::SIGKILL);
            }
            // On cgroup v1 a frozen process ends once it is thawed; it comes no further than to its end.
            thaw(&found.own);
            tokio::time::sleep(ENDING).await;
        }
    }

    fn does_not_end(&self, processes: &BTreeSet<u32>) -> Refusal {
        let processes: Vec<String> = processes.iter().take(8).map(u32::to_string).collect();
        Refusal::new(
            RefusalCode::Engine,
            format!(
                "what was restored of {} does not end: processes {}",
                self.container.name,
                processes.join(", ")
            ),
            "see what they wait for",
        )
    }
}

fn thaw(processes: &BTreeSet<u32>) {
    for pid in processes {
        if let Err(error) = freezer::thaw(*pid) {
            tracing::debug!(pid, %error, "a process was not thawed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// Each test has an id of its own, as they run beside each other.
    fn container(folder: &std::path::Path, digit: &str) -> Container {
        Container {
            id: digit.repeat(64),
            name: "s".parse().unwrap(),
            running: false,
            pid: None,
            netns: None,
            image: String::new(),
            image_id: String::new(),
            rootfs_changes: PathBuf::new(),
            checkpoint: folder.join("checkpoint"),
        }
    }

    /// A process that could be runc, restoring the container, and has started another one.
    fn runc(folder: &std::path::Path, id: &str) -> Child {
        let program = folder.join("runc");
        let shell = fs::canonicalize("/bin/sh").unwrap();
        fs::copy(shell, &program).unwrap();
        let mut runc = Command::new(&program);
        runc.args(["-c", "sleep 600 & wait", "runc", "restore", id]);
        runc.spawn().unwrap()
    }

    async fn at_work(restoring: &Restoring<'_>, wanted: usize) {
        for _ in 0..500 {
            if restoring.looked().await.unwrap().at_work.len() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", restoring.looked().await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_restore_that_hangs_is_seen_told_and_ended_with_what_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let container = container(folder.path(), "a");
        let restoring = Restoring::of(&container);
        assert_eq!(restoring.has_ended().await, Some(false), "nothing was ever begun");
        let mut process = runc(folder.path(), &container.id);
        at_work(&restoring, 2).await;
        assert_eq!(restoring.has_ended().await, None);
        let hang = restoring.hangs(Duration::from_millis(500)).await;
        assert!(hang.reason.contains("runc (process"), "{hang}");
        let reaped = tokio::task::spawn_blocking(move || process.wait().unwrap());
        restoring.end().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&reaped.await.unwrap()), Some(9));
        assert_eq!(restoring.looked().await.unwrap(), Found::default());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_restore_that_was_stopped_is_woken() {
        let folder = tempfile::tempdir().unwrap();
        let container = container(folder.path(), "b");
        let restoring = Restoring::of(&container);
        let mut process = runc(folder.path(), &container.id);
        at_work(&restoring, 2).await;
        processes::signal(process.id(), Signal::SIGSTOP);
        assert_eq!(restoring.wake().await, None, "it is at work");
        for _ in 0..500 {
            if processes::state(process.id()) != Some('T') {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(processes::state(process.id()), Some('S'));
        let reaped = tokio::task::spawn_blocking(move || process.wait().unwrap());
        restoring.end().await.unwrap();
        reaped.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_restore_that_podman_never_began_is_told_as_that() {
        let folder = tempfile::tempdir().unwrap();
        let container = container(folder.path(), "c");
        let hang = Restoring::of(&container).hangs(Duration::from_millis(200)).await;
        assert!(hang.reason.ends_with("Podman has not begun it"), "{hang}");
    }
}
