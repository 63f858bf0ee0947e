//! The open descriptors of a process: what CRIU has no image for.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use mose_protocol::check::Severity::{Blocks, LeftBehind, Note};

use super::collected::Findings;
use super::files;
use super::mounts::Mounts;
use super::options::Options;
use super::task::Task;
use super::watches;

/// Anonymous kinds that CRIU dumps, as `/proc/PID/fd` names them.
const ANONYMOUS: [&str; 6] = ["eventfd", "eventpoll", "inotify", "signalfd", "timerfd", "pidfd"];

/// What was learnt of descriptors that are looked at in another way.
#[derive(Default)]
pub(super) struct Seen {
    /// How many there are.
    pub(super) count: usize,
    /// Sockets: whose (by its place among the processes), descriptor, inode.
    pub(super) sockets: Vec<(usize, u32, u64)>,
}

/// What surrounds the descriptors of one process.
pub(super) struct Around<'a> {
    /// All processes of the service.
    pub(super) pids: &'a [u32],
    /// The way to the container's root.
    pub(super) root: &'a Path,
    /// The mounts of the process's mount namespace.
    pub(super) mounts: &'a Mounts,
    /// What CRIU is told here.
    pub(super) options: &'a Options,
}

/// Looks at the descriptors of one process, `index` being its place among all; at most `most` of them.
pub(super) fn look(
    (index, task): (usize, &Task),
    around: &Around<'_>,
    most: usize,
    seen: &mut Seen,
    findings: &mut Findings,
) {
    // A process that has ended has none.
    let Ok(entries) = fs::read_dir(task.file("fd")) else { return };
    for entry in entries.flatten().take(most) {
        seen.count += 1;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy().into_owned();
        let one = One { task, number, link: &link, around };
        if let Some(inode) = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            seen.sockets.extend(inode.parse().map(|inode| (index, number, inode)));
        } else if let Some(kind) = link.strip_prefix("anon_inode:") {
            one.anonymous(kind.trim_matches(['[', ']']), findings);
        } else if link.starts_with('/') && !link.starts_with("/memfd:") {
            one.file(findings);
        }
    }
}

/// One descriptor.
struct One<'a> {
    task: &'a Task,
    number: u32,
    link: &'a str,
    around: &'a Around<'a>,
}

impl One<'_> {
    fn blocks(&self, what: &str, reason: &str, remedy: &str, findings: &mut Findings) {
        let number = ("descriptor", self.number.to_string());
        findings.numbered(Blocks, &self.task.told, number, what, reason, remedy);
    }

    fn info(&self) -> String {
        fs::read_to_string(self.task.file(&format!("fdinfo/{}", self.number))).unwrap_or_default()
    }

    /// Whether it is still there, and the same: the agent's own sampler makes a userfaultfd for a moment.
    fn lasts(&self) -> bool {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let now = fs::read_link(self.task.file(&format!("fd/{}", self.number)));
        now.is_ok_and(|now| now.to_string_lossy() == self.link)
    }

    fn anonymous(&self, kind: &str, findings: &mut Findings) {
        match kind {
            "inotify" | "fanotify" => self.watches(kind, findings),
            "eventpoll" => self.epoll(findings),
            "pidfd" => self.pidfd(findings),
            "eventfd" => self.eventfd(findings),
            kind if ANONYMOUS.contains(&kind) => {}
            "userfaultfd" if !self.lasts() => {}
            kind => self.blocks(
                kind,
                &format!("CRIU has no way to dump a descriptor of {kind}"),
                remedy_of(kind),
                findings,
            ),
        }
    }

    fn watches(&self, kind: &str, findings: &mut Findings) {
        let lost = watches::lost(&self.info(), self.around.root, self.around.mounts, self.around.options);
        if lost > 0 {
            self.blocks(
                kind,
                &format!("CRIU does not find the path of what it watches ({lost} of its watches)"),
                "put `irmap-scan-path FOLDER` into /etc/criu/runc.conf on this host, with the folder in the container that \
                 is watched, or end the watch",
                findings,
            );
        }
    }

    /// A watched file that has no descriptor here any more.
    fn epoll(&self, findings: &mut Findings) {
        let info = self.info();
        let watched = info.lines().filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next());
        let gone = watched
            .filter_map(|number| number.parse::<u32>().ok())
            .filter(|number| fs::symlink_metadata(self.task.file(&format!("fd/{number}"))).is_err());
        let gone: Vec<String> = gone.take(4).map(|number| number.to_string()).collect();
        if !gone.is_empty() {
            self.blocks(
                "epoll",
                &format!(
                    "it watches a file whose descriptor is closed ({}), and CRIU cannot tell which",
                    gone.join(", ")
                ),
                "the program must take a descriptor out of the epoll before it closes it",
                findings,
            );
        }
    }

    /// A semaphore, where the kernel tells it from another counter.
    fn eventfd(&self, findings: &mut Findings) {
        if self.info().lines().any(semaphore) {
            let number = ("descriptor", self.number.to_string());
            findings.numbered(
                LeftBehind,
                &self.task.told,
                number,
                "eventfd with EFD_SEMAPHORE",
                "CRIU makes a plain counter of it: one read takes all that is counted",
                "have the program create a new one after the move",
            );
        }
    }

    fn pidfd(&self, findings: &mut Findings) {
        /// PIDFD_THREAD, which is O_EXCL.
        const THREAD: u32 = 0o200;
        let info = self.info();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let flags = field("flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok()).unwrap_or(0);
        let pid = field("Pid:").and_then(|pid| pid.parse::<i64>().ok()).unwrap_or(-1);
        if flags & THREAD != 0 {
            self.blocks("pidfd of a thread", "CRIU dumps pidfds of processes only", "close it", findings);
        } else if pid > 0 && u32::try_from(pid).is_ok_and(|pid| !self.around.pids.contains(&pid)) {
            self.blocks("pidfd", "it is of a process outside of the service", "close it", findings);
        }
    }

    fn file(&self, findings: &mut Findings) {
        let Ok(held) = fs::metadata(self.task.file(&format!("fd/{}", self.number))) else { return };
        let kind = held.file_type();
        if kind.is_block_device() {
            let remedy = "close it, or run the service where its device is";
            return self.blocks(self.link, "it is a block device, which CRIU cannot dump", remedy, findings);
        }
        if kind.is_char_device() {
            return self.device(held.rdev(), findings);
        }
        let info = self.info();
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok());
        if let Some(mount) = mount {
            if !self.around.mounts.has(mount) {
                return self.hidden(&held, findings);
            }
            if self.around.mounts.covered(mount) {
                return self.blocks(
                    self.link,
                    "another mount covers the one that the file is on",
                    "unmount what covers it, or close the file",
                    findings,
                );
            }
        }
        self.path(&held, findings);
    }

    /// A file on a mount that nobody sees.
    fn hidden(&self, held: &fs::Metadata, findings: &mut Findings) {
        let queue =
            fs::symlink_metadata(self.task.file("root/dev/mqueue")).is_ok_and(|at| at.dev() == held.dev());
        let (what, reason) = match self.link {
            link if queue => {
                (format!("message queue {link}"), "CRIU has no way to dump a POSIX message queue")
            }
            link if link.starts_with("/secretmem") => ("secret memory".to_owned(), "CRIU cannot read it"),
            link => (format!("{link} on a mount that hangs nowhere"), "CRIU does not find its mount"),
        };
        self.blocks(&what, reason, "close it; a program that needs it cannot be moved", findings);
    }

    /// A file by its path. Those of processes and of terminals have ways of their own.
    fn path(&self, held: &fs::Metadata, findings: &mut Findings) {
        let skipped = ["/proc/", "/dev/pts/"].iter().any(|folder| self.link.starts_with(folder));
        let regular = held.is_file() || held.is_dir() || held.is_symlink();
        if skipped || !regular {
            return;
        }
        if let Some(trouble) = files::look(held, self.link, self.around.root, self.around.options) {
            let number = ("descriptor", self.number.to_string());
            let severity = if trouble.blocks { Blocks } else { Note };
            findings.numbered(severity, &self.task.told, number, "file", &trouble.reason, &trouble.remedy);
        }
    }

    /// A character device: memory's and terminals' are known to CRIU, and a few others.
    fn device(&self, device: u64, findings: &mut Findings) {
        const MEMORY: u32 = 1;
        const TERMINALS: [u32; 3] = [4, 5, 204];
        const MISCELLANEOUS: u32 = 10;
        const TUN: u32 = 200;
        const AUTOFS: u32 = 235;
        let (major, minor) = (libc::major(device), libc::minor(device));
        match (major, minor) {
            (MEMORY, _) | (128..=143, _) | (MISCELLANEOUS, AUTOFS) => {}
            (major, _) if TERMINALS.contains(&major) => {}
            (MISCELLANEOUS, TUN) => {
                if let Some(name) = self.info().lines().find_map(|line| line.strip_prefix("iff:")) {
                    self.blocks(
                        &format!("tun device {}", name.trim()),
                        "it is in the network namespace, which the destination makes anew",
                        "run what needs a tunnel of its own elsewhere",
                        findings,
                    );
                }
            }
            _ => self.blocks(
                self.link,
                &format!("CRIU cannot dump an open device {major}:{minor}"),
                "close it, or run the service where its device is",
                findings,
            ),
        }
    }
}

/// Whether a line of an eventfd's `fdinfo` says that it is a semaphore.
fn semaphore(line: &str) -> bool {
    line.strip_prefix("eventfd-semaphore:").is_some_and(|value| value.trim() == "1")
}

/// What one can do about an anonymous kind.
fn remedy_of(kind: &str) -> &'static str {
    match kind {
        "io_uring" => {
            "have the program use epoll instead (node: UV_USE_IO_URING=0; nginx, PostgreSQL, databases: their setting of the \
             I/O method), and restart it"
        }
        "perf_event" => "end the profiler in the container",
        "bpf-map" | "bpf-prog" | "bpf_link" => "run what loads BPF programs outside of the service",
        "seccomp notify" => "end what supervises system calls in the container",
        _ => "have the program close it; one that needs it cannot be moved",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semaphore_is_told_from_a_counter() {
        assert!(semaphore("eventfd-semaphore: 1"));
        assert!(!semaphore("eventfd-semaphore: 0") && !semaphore("eventfd-count:                1"));
    }

    #[test]
    fn a_semaphore_of_this_process_is_left_behind_where_the_kernel_tells() {
        // SAFETY: eventfd(2) takes numbers.
        let made = unsafe {
            (libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_SEMAPHORE), libc::eventfd(0, libc::EFD_CLOEXEC))
        };
        let task = Task::of(std::process::id()).unwrap();
        let (mounts, options) = (Mounts::default(), Options::read(&["/nowhere"]));
        let around = Around { pids: &[task.pid], root: Path::new("/"), mounts: &mounts, options: &options };
        let said = |number: i32| {
            let mut findings = Findings::default();
            let number = u32::try_from(number).unwrap();
            One { task: &task, number, link: "anon_inode:[eventfd]", around: &around }
                .anonymous("eventfd", &mut findings);
            findings.told()
        };
        let tells = fs::read_to_string(task.file(&format!("fdinfo/{}", made.0)))
            .unwrap()
            .contains("eventfd-semaphore");
        assert_eq!(said(made.0).len(), usize::from(tells));
        assert_eq!(said(made.1), []);
        // SAFETY: both are this test's.
        unsafe { (libc::close(made.0), libc::close(made.1)) };
    }
}
