//! A container's processes as the kernel sees them: run state, end of life, memory.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use async_trait::async_trait;
use mose_coat::sockets::TcpSockets;
use mose_pam::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use crate::{Container, ExitWatch};

/// The TCP sockets in the network namespace of `pid`.
fn sockets(pid: u32) -> io::Result<TcpSockets> {
    mose_coat::sockets::tcp(Path::new(&format!("/proc/{pid}/ns/net")))
}

/// How many connections wait in the accept queues of the network namespace of `pid` (proc(5): of a listening socket
/// the receive queue counts them, where the kernel has no sock_diag).
pub(super) fn unaccepted(pid: u32) -> u32 {
    match sockets(pid) {
        Ok(sockets) => sockets.waiting,
        Err(_) => tcp_tables(pid).map(|table| accept_queues(&table)).sum(),
    }
}

/// How many TCP connections stand in the network namespace of `pid`; `None` where it is gone.
pub(super) fn connections(pid: u32) -> Option<u32> {
    if let Ok(sockets) = sockets(pid) {
        return Some(u32::try_from(sockets.connections.len()).unwrap_or(u32::MAX));
    }
    const ESTABLISHED: &str = "01";
    let stand = |table: String| {
        let states = table.lines().filter_map(|line| line.split_whitespace().nth(3));
        u32::try_from(states.filter(|state| *state == ESTABLISHED).count()).unwrap_or(u32::MAX)
    };
    tcp_tables(pid).map(stand).reduce(u32::saturating_add)
}

/// The kernel's tables of TCP sockets in the network namespace of `pid`.
fn tcp_tables(pid: u32) -> impl Iterator<Item = String> {
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    tables.into_iter().flatten()
}

/// The sum of the accept queues in a table of `/proc/net/tcp`'s form.
fn accept_queues(table: &str) -> u32 {
    const LISTEN: &str = "0A";
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(3);
            let state = fields.next()?;
            let (_, waiting) = fields.next()?.split_once(':')?;
            (state == LISTEN).then(|| u32::from_str_radix(waiting, 16).ok()).flatten()
        })
        .sum()
}

/// The end of a PID namespace: the kernel reaps its first process last (pid_namespaces(7)).
pub(super) struct PidWatch(AsyncFd<OwnedFd>);

impl PidWatch {
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: pidfd_open(2) takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made for this process and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the descriptor is owned by the AsyncFd from here on and stays open as long as it.
        let fd = unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) };
        fd.map(Self).map_err(Into::into)
    }
}

#[async_trait]
impl ExitWatch for PidWatch {
    async fn gone(&mut self) {
        if let Err(error) = self.0.readable().await {
            tracing::error!(fd = self.0.as_raw_fd(), %error, "cannot wait for a process to end");
        }
    }
}

/// The run state of a thread or process, as proc_pid_stat(5) has it; `None` where it is gone.
pub(super) fn state(id: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// A number of `/proc/PID/status`, in the base in which it stands there.
#[must_use]
pub fn status_number(id: u32, field: &str, base: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    u64::from_str_radix(line.split_whitespace().next()?, base).ok()
}

/// Whether the container's first process is there and will go on: it is the container's (pids are used again), has its
/// memory, and nobody has killed it.
pub(super) fn stands(container: &Container) -> bool {
    const KILLED: u64 = 1 << (libc::SIGKILL - 1);
    let Some(pid) = container.pid else { return false };
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let pending = status_number(pid, "SigPnd", 16);
    cgroup.contains(&container.id)
        && state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
        && pending.is_some_and(|pending| pending & KILLED == 0)
        && fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// The processes below (and with) `pid`.
pub(super) fn tree(pid: u32) -> Vec<u32> {
    let mut todo = vec![pid];
    let mut found = Vec::new();
    while let Some(pid) = todo.pop() {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        found.push(pid);
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            todo.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
        }
    }
    found
}

/// Sends a signal to a process; one that is gone needs none.
pub(super) fn signal(pid: u32, signal: Signal) {
    let Ok(number) = i32::try_from(pid) else { return };
    if let Err(error) = kill(Pid::from_raw(number), signal) {
        tracing::debug!(pid, %signal, %error, "a signal was not sent");
    }
}

/// Ends the processes below (and with) `pid` at once.
pub fn end_tree(pid: u32) {
    tree(pid).into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
}

/// Resident memory and number of the processes below (and with) `pid`.
pub(super) fn memory(pid: u32) -> Option<(Bytes, u32)> {
    let (mut bytes, mut processes) = (0, 0);
    // SAFETY: sysconf(3) only reads a constant of the system.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    for pid in tree(pid) {
        let Ok(statm) = fs::read_to_string(format!("/proc/{pid}/statm")) else { continue };
        let resident: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        bytes += resident * page;
        processes += 1;
    }
    (processes > 0).then_some((Bytes(bytes), processes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn this_process_has_memory_and_is_at_least_one_process() {
        let (bytes, processes) = memory(std::process::id()).unwrap();
        assert!(bytes.0 > 4096);
        assert!(processes >= 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut watch = PidWatch::of(child.id()).unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(50), watch.gone()).await.is_err(),
            "it still lives"
        );
        child.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(5), watch.gone()).await.unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_connection_that_nobody_accepts_is_counted() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000\n   \
                     1: 0100007F:1F90 0100007F:A001 01 00000000:00000007 00:00000000\n";
        assert_eq!(accept_queues(table), 3);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _waiting = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(unaccepted(std::process::id()) >= 1);
    }

    #[test]
    fn connections_that_stand_are_counted_at_their_sockets() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _one = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _other = listener.accept().unwrap();
        assert!(connections(std::process::id()).unwrap() >= 2, "both ends are in this namespace");
        assert_eq!(connections(u32::MAX), None);
    }

    #[test]
    fn a_process_stands_until_it_ends_and_only_in_its_container() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        let container = |id: &str| Container {
            id: id.to_owned(),
            name: "s".parse().unwrap(),
            running: true,
            pid: Some(child.id()),
            netns: None,
            image: String::new(),
            image_id: String::new(),
            rootfs_changes: Path::new("/").into(),
            checkpoint: Path::new("/").into(),
        };
        let (own, other) = (container(cgroup.trim()), container("of-another-container"));
        assert!(stands(&own) && !stands(&other));
        child.kill().unwrap();
        assert!(!stands(&own), "its end is on its way, or over");
        child.wait().unwrap();
        assert!(!stands(&own));
        assert_eq!(state(u32::MAX), None);
    }

    #[test]
    fn no_process_has_no_memory() {
        assert_eq!(memory(u32::MAX), None);
    }
}
