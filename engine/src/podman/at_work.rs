//! CRIU while it dumps a container: found without asking Podman, watched for signs of life, and made to let go.
//!
//! Podman holds the container's lock for as long as a checkpoint takes, so that whoever asks it about a dump that hangs hangs as
//! well. All that is needed is in `/proc` and in CRIU's log.
//!
//! CRIU may be killed only while it seizes the processes: they are traced then and nothing else, and the kernel lets go of
//! what its tracer leaves. Once it has locked the network (`network_lock` in CRIU's `cr_dump_tasks`), sockets are in repair
//! mode and CRIU's code runs in the processes; killed then, it leaves a service whose connections are dead. From there on it is
//! only woken, and waited for.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mose_protocol::{Refusal, RefusalCode};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{criu_log, freezer, io_refusal, processes};
use crate::Container;
use crate::aside::aside;

/// How often CRIU is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long CRIU may do nothing, once it is to let go, before it is woken.
const QUIET: Duration = Duration::from_secs(1);

/// How long a CRIU that may not be killed may do nothing, once woken, before that is said.
const HOPELESS: Duration = Duration::from_secs(20);

/// What CRIU's log says right before it touches more than the processes' run state.
const TOUCHED: &str = "Lock network";

/// The longest log that is searched, in bytes: what is looked for stands in its first part.
const LONGEST_SEARCHED: u64 = 4 << 20;

/// CRIU at a dump of one container.
pub(super) struct AtWork<'a> {
    container: &'a Container,
}

/// What changes while CRIU works: the size of what it has written, and the processor time that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pulse {
    pids: BTreeSet<u32>,
    written: u64,
    ticks: u64,
}

impl<'a> AtWork<'a> {
    pub(super) const fn on(container: &'a Container) -> Self {
        Self { container }
    }

    fn log(&self) -> PathBuf {
        self.container.checkpoint.with_file_name("dump.log")
    }

    /// The CRIU processes that have the container's images or its dump's log open.
    fn pids(&self) -> BTreeSet<u32> {
        let ours = |target: &Path| target.starts_with(&self.container.checkpoint) || target == self.log();
        let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.starts_with("criu") && descriptors(*pid).any(|target| ours(&target))
        })
        .collect()
    }

    /// It is looked for among all processes of the host, so not on an async thread.
    async fn pulse(&self) -> Result<Pulse, Refusal> {
        let container = self.container.clone();
        aside(move || Ok(AtWork::on(&container).pulse_now())).await
    }

    fn pulse_now(&self) -> Pulse {
        let pids = self.pids();
        let length = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let images = fs::read_dir(&self.container.checkpoint).into_iter().flatten().flatten();
        let written =
            images.map(|entry| length(&entry.path())).fold(length(&self.log()), u64::saturating_add);
        let ticks = pids.iter().map(|pid| ticks(*pid)).sum();
        Pulse { pids, written, ticks }
    }

    /// Whether CRIU has done no more to the processes than to seize them. Where that cannot be told it may have.
    fn only_seizes(&self) -> bool {
        let read = || -> io::Result<String> {
            let mut text = String::new();
            let file = fs::File::open(self.log())?;
            io::Read::read_to_string(&mut io::Read::take(file, LONGEST_SEARCHED), &mut text)?;
            Ok(text)
        };
        read().is_ok_and(|text| text.contains("Dumping processes") && !text.contains(TOUCHED))
    }

    /// What CRIU is in the midst of, as people read it.
    fn says(&self) -> String {
        let states = self.pids().into_iter().map(|pid| {
            let state = processes::state(pid).unwrap_or('?');
            let place = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
            let place = if matches!(place.trim(), "" | "0") { "nowhere known" } else { place.trim() };
            format!("process {pid} in state {state}, in {place}")
        });
        let states: Vec<String> = states.collect();
        let last = criu_log::last_line(&self.log()).unwrap_or_else(|| "nothing".to_owned());
        let who = if states.is_empty() { "it is gone".to_owned() } else { states.join("; ") };
        format!("{who}; the last line of its log: {last}")
    }

    /// Returns once CRIU has done nothing for `patience`, and says what it is in the midst of.
    pub(super) async fn hangs(&self, patience: Duration) -> Refusal {
        let looks = u32::try_from(patience.as_millis() / LOOK.as_millis()).unwrap_or(u32::MAX);
        stands_still(looks, || tokio::time::sleep(LOOK), || async { self.pulse().await.ok() }).await;
        // Not the engine's own word, which is only that its call ended: this is why.
        Refusal::new(
            RefusalCode::Failed,
            format!(
                "CRIU did nothing for {patience:?} while {} stood still: {}",
                self.container.name,
                self.says()
            ),
            "see CRIU's log on the source, and migrate again when the cause is gone",
        )
        .with_log(criu_log::end(&self.log()).ok().as_deref())
    }

    /// Has CRIU let go of the container's processes and lets them go on; whether they still stand.
    pub(super) async fn let_go(&self) -> Result<bool, Refusal> {
        self.end().await?;
        freezer::thaw_container(self.container)
            .map_err(|error| io_refusal(&format!("{} cannot be thawed", self.container.name), &error))?;
        Ok(processes::stands(self.container))
    }

    /// Returns once no CRIU is at work on the container: it is waited for as long as it does something, then woken, and
    /// killed where that does no harm.
    async fn end(&self) -> Result<(), Refusal> {
        let mut woken = false;
        let mut pulse = self.pulse().await?;
        let mut since = Instant::now();
        while !pulse.pids.is_empty() {
            tokio::time::sleep(LOOK).await;
            let now = self.pulse().await?;
            if now != pulse {
                (pulse, since) = (now, Instant::now());
                continue;
            }
            if since.elapsed() < QUIET {
                continue;
            }
            let harmless = self.only_seizes();
            if !woken {
                tracing::warn!(service = %self.container.name, says = self.says(), harmless, "a CRIU that hangs is woken");
                pulse.pids.iter().for_each(|pid| processes::signal(*pid, Signal::SIGCONT));
                if harmless {
                    // It waits for processes that cannot move while their cgroup is frozen.
                    let _ = freezer::thaw_container(self.container);
                }
                woken = true;
                since = Instant::now();
            } else if harmless {
                tracing::warn!(service = %self.container.name, says = self.says(), "a CRIU that hangs is killed");
                pulse.pids.iter().for_each(|pid| processes::signal(*pid, Signal::SIGKILL));
                since = Instant::now();
            } else if since.elapsed() > HOPELESS {
                return Err(Refusal::new(
                    RefusalCode::Engine,
                    format!(
                        "CRIU hangs in the midst of the dump of {}, where killing it would break the service's connections: {}",
                        self.container.name,
                        self.says()
                    ),
                    "see what it waits for (a disk?); as soon as CRIU ends the service goes on by itself",
                ));
            }
        }
        Ok(())
    }
}

/// Returns once `look` has seen the same thing so many times in a row, with a pause between. Counted in looks, since on a machine
/// that itself stood still no time has passed for CRIU either.
pub(super) async fn stands_still<T: PartialEq, P: Future<Output = ()>, L: Future<Output = T>>(
    looks: u32,
    mut pause: impl FnMut() -> P,
    mut look: impl FnMut() -> L,
) {
    let (mut seen, mut same) = (look().await, 0);
    while same < looks {
        pause().await;
        let now = look().await;
        same = if now == seen { same + 1 } else { 0 };
        seen = now;
    }
}

/// The targets of a process's descriptors.
pub(super) fn descriptors(pid: u32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok())
}

/// The processor time of a process, in clock ticks (proc_pid_stat(5): utime and stime).
pub(super) fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn what_changes_now_and_then_does_not_stand_still() {
        let mut looks = 0_u32;
        // It changes at every fortieth look, until it stops doing so.
        let look = || {
            looks += 1;
            std::future::ready((looks / 40).min(10))
        };
        stands_still(50, || std::future::ready(()), look).await;
        assert_eq!(looks, 400 + 50);
    }

    /// A container's folder with a log, and a process that CRIU could be, which has the log open and does nothing.
    struct Hanging {
        folder: tempfile::TempDir,
        process: Child,
    }

    impl Hanging {
        fn with(log: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("checkpoint")).unwrap();
            fs::write(folder.path().join("dump.log"), log).unwrap();
            // By its own name, as the kernel tells it. A link, and no copy: what was just written cannot be run while another test's
            // child still has it open.
            let program = folder.path().join("criu");
            let sleep = ["/usr/bin/sleep", "/bin/sleep"].into_iter().find(|path| Path::new(path).exists());
            std::os::unix::fs::symlink(sleep.unwrap(), &program).unwrap();
            let log = fs::File::open(folder.path().join("dump.log")).unwrap();
            let process =
                Command::new(&program).arg0("sleep").arg("600").stdin(Stdio::from(log)).spawn().unwrap();
            // A parent may go on a moment before the kernel has given its child the program's name.
            let name = PathBuf::from(format!("/proc/{}/comm", process.id()));
            let named = (0..1000).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                fs::read_to_string(&name).unwrap() == "criu\n"
            });
            assert!(named, "the process has another name");
            Self { folder, process }
        }

        fn container(&self) -> Container {
            Container {
                id: "0".repeat(64),
                name: "s".parse().unwrap(),
                running: true,
                pid: None,
                netns: None,
                image: String::new(),
                image_id: String::new(),
                rootfs_changes: PathBuf::new(),
                checkpoint: self.folder.path().join("checkpoint"),
            }
        }
    }

    impl Drop for Hanging {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    const SEIZING: &str = "(00.001) Dumping processes (pid: 7 comm: x)\n(00.002) SEIZE 7 (comm x): success\n";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_criu_that_hangs_before_it_touched_anything_is_killed() {
        let mut hanging = Hanging::with(SEIZING);
        let container = hanging.container();
        let work = AtWork::on(&container);
        assert_eq!(work.pids().into_iter().collect::<Vec<_>>(), [hanging.process.id()]);
        let reaped = tokio::task::spawn_blocking(move || {
            let status = hanging.process.wait().unwrap();
            (status, hanging)
        });
        work.end().await.unwrap();
        let (status, _hanging) = reaped.await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }

    #[test]
    fn a_criu_that_may_have_touched_the_processes_is_never_killed() {
        for log in [format!("{SEIZING}(00.003) Lock network\n"), String::new(), "rubbish".to_owned()] {
            let hanging = Hanging::with(&log);
            assert!(!AtWork::on(&hanging.container()).only_seizes(), "{log}");
        }
        let hanging = Hanging::with(SEIZING);
        assert!(AtWork::on(&hanging.container()).only_seizes());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_criu_that_was_stopped_is_woken_and_waited_for() {
        let mut hanging = Hanging::with(&format!("{SEIZING}(00.003) Lock network\n"));
        processes::signal(hanging.process.id(), Signal::SIGSTOP);
        let container = hanging.container();
        let work = AtWork::on(&container);
        let refusal = work.hangs(Duration::from_millis(300)).await;
        assert!(refusal.reason.contains("state T") && refusal.reason.contains("Lock network"), "{refusal}");
        let pid = hanging.process.id();
        let ended = tokio::task::spawn_blocking(move || {
            // It goes on once it is woken; then, as CRIU does, it ends.
            while processes::state(pid) == Some('T') {
                std::thread::sleep(Duration::from_millis(20));
            }
            hanging.process.kill().unwrap();
            hanging.process.wait().unwrap();
            hanging
        });
        work.end().await.unwrap();
        ended.await.unwrap();
    }
}
