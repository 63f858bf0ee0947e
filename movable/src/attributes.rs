//! Attributes of processes and threads that CRIU does not carry: timer slack, processors, I/O priority, what a core dump holds.
//! A restored process has them of CRIU, which has them of the agent. So what differs from what processes have here is lost.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use mose_protocol::check::Severity::LeftBehind;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::collected::Findings;
use super::task::Task;

/// The timer slack of a thread that asked for nothing, in nanoseconds (prctl(2): `PR_SET_TIMERSLACK`).
const SLACK: u64 = 50_000;

/// The default `coredump_filter` (core(5)).
const CORE_FILTER: u32 = 0x33;

/// The I/O priority that stands for none: best effort, in the middle (ioprio_set(2)).
const BEST_EFFORT: i64 = 2 << CLASS | 4;

/// Where the class begins in an I/O priority.
const CLASS: u32 = 13;

const REASON: &str = "CRIU does not carry it: after the move it is as the system sets it";
const REMEDY: &str = "have the program set it again after the move, or start it again there";

/// What processes have here that asked for nothing.
#[derive(Default)]
pub(super) struct Usual {
    /// The processors, by control group.
    processors: HashMap<String, Vec<CpuSet>>,
    core_filter: Option<u32>,
    io_priority: i64,
}

impl Usual {
    /// What the agent itself has, which CRIU inherits.
    pub(super) fn here() -> Self {
        let own = std::process::id();
        Self { core_filter: core_filter(own), io_priority: io_priority(own), ..Self::default() }
    }

    /// The processors of a process: all that its control group allows, or of those the ones that the agent itself is kept to. None
    /// where they are not known.
    fn processors(&mut self, task: &Task) -> &[CpuSet] {
        let group = fs::read_to_string(task.file("cpuset")).unwrap_or_default();
        self.processors.entry(group).or_insert_with_key(|group| {
            let Some(allowed) = allowed(group) else { return Vec::new() };
            let own = affinity(std::process::id()).map(|own| both(&own, &allowed));
            own.filter(|own| *own != CpuSet::new()).into_iter().chain([allowed]).collect()
        })
    }
}

/// Looks at one process and its threads.
pub(super) fn look(task: &Task, usual: &mut Usual, findings: &mut Findings) {
    let io_usual = usual.io_priority;
    let processors = usual.processors(task);
    for thread in &task.threads {
        let mut lost = |what: &str, remedy: &str| {
            let number = ("thread", number_in_container(task, *thread));
            findings.numbered(LeftBehind, &task.told, number, what, REASON, remedy);
        };
        // A thread of real time has none, by the kernel's own doing.
        if slack(*thread).is_some_and(|slack| slack != SLACK && slack != 0) {
            lost("timer slack", REMEDY);
        }
        if is_kept(affinity(*thread), processors) {
            lost("processor affinity", "have the program set it again after the move; --cpuset-cpus moves");
        }
        let priority = io_priority(*thread);
        if priority >> CLASS > 0 && priority != BEST_EFFORT && priority != io_usual {
            lost("I/O priority", REMEDY);
        }
    }
    let filter = core_filter(task.pid);
    if filter.is_some_and(|filter| filter != CORE_FILTER) && filter != usual.core_filter {
        findings.add(LeftBehind, &task.told, "coredump_filter", REASON, REMEDY);
    }
}

/// Whether a thread is kept to other processors than the usual ones, where those are known.
fn is_kept(affinity: Option<CpuSet>, usual: &[CpuSet]) -> bool {
    !usual.is_empty() && affinity.is_some_and(|affinity| !usual.contains(&affinity))
}

/// The number of a thread in the container.
fn number_in_container(task: &Task, thread: u32) -> String {
    let status = fs::read_to_string(task.file(&format!("task/{thread}/status"))).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    numbers.split_whitespace().next_back().map_or_else(|| thread.to_string(), str::to_owned)
}

/// The timer slack of a thread. `/proc` has it of every thread by its number, though it lists only processes.
fn slack(thread: u32) -> Option<u64> {
    fs::read_to_string(format!("/proc/{thread}/timerslack_ns")).ok()?.trim().parse().ok()
}

/// What a core dump of a process is to hold; one that has ended has none.
fn core_filter(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/coredump_filter")).ok()?;
    u32::from_str_radix(text.trim(), 16).ok()
}

/// The I/O priority of a thread; 0 for none, or where it has ended.
fn io_priority(thread: u32) -> i64 {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: ioprio_get(2) takes integers only.
    unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, thread) }.max(0)
}

/// The processors on which a thread may run.
fn affinity(thread: u32) -> Option<CpuSet> {
    sched_getaffinity(Pid::from_raw(i32::try_from(thread).ok()?)).ok()
}

/// The processors that a control group allows, by its path as `/proc/PID/cpuset` has it.
fn allowed(group: &str) -> Option<CpuSet> {
    let group = group.trim().strip_prefix('/')?;
    let file = |root: &str, name: &str| -> PathBuf { Path::new(root).join(group).join(name) };
    let v1 = fs::read_to_string(file("/sys/fs/cgroup/cpuset", "cpuset.effective_cpus"));
    let text = v1.or_else(|_| fs::read_to_string(file("/sys/fs/cgroup", "cpuset.cpus.effective"))).ok()?;
    listed(&text)
}

/// Processors by their numbers: `0-3,8`.
fn listed(text: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for number in first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?.min(CpuSet::count()) {
            set.set(number).ok()?;
        }
    }
    Some(set)
}

/// The processors that are in both sets.
fn both(one: &CpuSet, other: &CpuSet) -> CpuSet {
    let mut both = CpuSet::new();
    for number in 0..CpuSet::count() {
        if one.is_set(number) == Ok(true) && other.is_set(number) == Ok(true) {
            // The number is one that a set has.
            let _ = both.set(number);
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::sched_setaffinity;

    /// What is said of the calling thread and its process.
    fn said(usual: &mut Usual) -> Vec<String> {
        let mut task = Task::of(std::process::id()).unwrap();
        // Other threads are other tests'.
        task.threads = vec![u32::try_from(nix::unistd::gettid().as_raw()).unwrap()];
        let mut findings = Findings::default();
        look(&task, usual, &mut findings);
        findings.told().into_iter().map(|finding| finding.resource).collect()
    }

    /// What this process has, whatever it was started with.
    fn usual(processors: &[CpuSet]) -> Usual {
        let group = fs::read_to_string("/proc/self/cpuset").unwrap_or_default();
        let processors = HashMap::from([(group, processors.to_vec())]);
        Usual { processors, io_priority: 0, ..Usual::here() }
    }

    /// Each test sets what it sets on a thread of its own.
    fn thread(work: impl FnOnce() + Send + 'static) {
        std::thread::spawn(work).join().unwrap();
    }

    #[test]
    fn a_thread_that_asked_for_nothing_has_nothing_to_lose() {
        thread(|| assert_eq!(said(&mut usual(&[affinity(0).unwrap()])), [""; 0]));
    }

    #[test]
    fn timer_slack_is_told_with_the_thread() {
        thread(|| {
            // SAFETY: prctl(2) with a number.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 77_777_u64) }, 0);
            let me = number_in_container(
                &Task::of(std::process::id()).unwrap(),
                u32::try_from(nix::unistd::gettid().as_raw()).unwrap(),
            );
            assert_eq!(said(&mut usual(&[])), [format!("thread {me} (timer slack)")]);
        });
    }

    #[test]
    fn processors_are_told_where_they_are_not_those_of_the_container() {
        thread(|| {
            let all = affinity(0).unwrap();
            let mut one = CpuSet::new();
            let first = (0..CpuSet::count()).find(|number| all.is_set(*number) == Ok(true)).unwrap();
            one.set(first).unwrap();
            sched_setaffinity(Pid::from_raw(0), &one).unwrap();
            assert_eq!(said(&mut usual(&[])), [""; 0], "they are not known");
            assert_eq!(said(&mut usual(&[all, one])), [""; 0], "the agent has the same");
            // With a single processor there is no affinity to lose.
            let told = said(&mut usual(&[all]));
            assert_eq!(told.len(), usize::from(all != one), "{told:?}");
            assert!(told.iter().all(|told| told.ends_with("(processor affinity)")), "{told:?}");
        });
    }

    #[test]
    fn the_processors_of_this_process_are_those_of_its_group() {
        let me = Task::of(std::process::id()).unwrap();
        let mut usual = Usual::here();
        let processors = usual.processors(&me);
        assert!(!is_kept(affinity(me.pid), processors), "{processors:?}");
        assert_eq!((allowed(""), allowed("/no/such/group")), (None, None));
    }

    #[test]
    fn an_io_priority_is_told_unless_it_is_what_all_have() {
        thread(|| {
            let set = |priority: i64| {
                // SAFETY: ioprio_set(2) takes numbers.
                assert_eq!(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, priority) }, 0);
            };
            set(BEST_EFFORT);
            assert_eq!(said(&mut usual(&[])), [""; 0]);
            let low = 2 << CLASS | 7;
            set(low);
            assert_eq!(said(&mut usual(&[])).len(), 1);
            assert_eq!(said(&mut Usual { io_priority: low, ..usual(&[]) }), [""; 0]);
        });
    }

    #[test]
    fn a_core_filter_is_told_where_it_is_not_that_of_all() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let look_at = |child: &std::process::Child| {
            let task = Task::of(child.id()).unwrap();
            let mut findings = Findings::default();
            look(&Task { threads: Vec::new(), ..task }, &mut usual(&[]), &mut findings);
            findings.told().len()
        };
        assert_eq!(look_at(&child), 0);
        fs::write(format!("/proc/{}/coredump_filter", child.id()), "0x7").unwrap();
        assert_eq!(look_at(&child), 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn lists_of_processors_are_read() {
        let set = listed("0-1,4\n").unwrap();
        let has: Vec<usize> = (0..8).filter(|number| set.is_set(*number) == Ok(true)).collect();
        assert_eq!(has, [0, 1, 4]);
        assert_eq!((listed(""), listed("1-x"), listed("0-4000000000")), (None, None, None));
        assert_eq!(both(&set, &listed("1-3").unwrap()), listed("1").unwrap());
    }
}
