//! A program that holds one thing of the kernel's, of a kind that is named: what can be moved, and what cannot, made on purpose.
//!
//! `mose check` is held against it: whatever CRIU cannot move must be found, and nothing that it can.

mod descriptors;
mod files;
mod mappings;
mod mounts;
mod processes;
mod sockets;
mod system;

use std::io::{self, Write};

/// What a holder says once it holds what it was asked for.
pub const HOLDING: &str = "holding";

/// What begins the line about a kind that a holder does not have.
pub const LACKS: &str = "lacks ";

/// What is to become of a container that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It moves, and the check finds nothing.
    Moves,
    /// It is refused: in CRIU 4.2 the dump or the restore fails, or something is lost by them.
    Refused,
    /// It moves, and the check says what stays behind.
    LeftBehind,
    /// The other end of another kind, to be run outside of the container.
    Outside,
}

/// One kind of thing.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What is to become of it.
    pub fate: Fate,
    /// A word of what the check must say of it; empty where it has nothing to say.
    pub says: &'static str,
    /// Whether a child of the holder's is to hold it.
    below: bool,
    hold: fn() -> io::Result<()>,
}

impl Kind {
    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Takes hold of it.
    ///
    /// # Errors
    /// The kernel has no such thing, or does not let it be had.
    pub fn hold(&self) -> io::Result<()> {
        if self.below { processes::child_here(self.name).map(drop) } else { (self.hold)() }
    }

    /// Takes hold of it in this very process.
    ///
    /// # Errors
    /// As [`Kind::hold`].
    pub fn hold_here(&self) -> io::Result<()> {
        (self.hold)()
    }
}

/// Says that it holds what it was asked for.
#[expect(clippy::print_stdout, reason = "it is what the one who started it waits for")]
pub fn say_holding() {
    println!("{HOLDING}");
    let _ = io::stdout().flush();
}

const fn moves(name: &'static str, hold: fn() -> io::Result<()>) -> Kind {
    Kind { name, fate: Fate::Moves, says: "", below: false, hold }
}

const fn refused(name: &'static str, says: &'static str, hold: fn() -> io::Result<()>) -> Kind {
    Kind { name, fate: Fate::Refused, says, below: false, hold }
}

const fn left(name: &'static str, says: &'static str, hold: fn() -> io::Result<()>) -> Kind {
    Kind { name, fate: Fate::LeftBehind, says, below: false, hold }
}

impl Kind {
    /// The same, held by a child.
    const fn below(self) -> Self {
        Self { below: true, ..self }
    }
}

/// All kinds.
pub static KINDS: &[Kind] = &[
    moves("nothing", || Ok(())),
    // Descriptors.
    refused("io-uring", "io_uring", descriptors::io_uring),
    refused("userfaultfd", "userfaultfd", descriptors::userfaultfd),
    refused("perf-event", "perf_event", descriptors::perf_event),
    refused("bpf-map", "bpf-map", descriptors::bpf_map),
    refused("bpf-program", "bpf-prog", descriptors::bpf_prog),
    refused("landlock-rules", "landlock-ruleset", descriptors::landlock),
    refused("seccomp-notify", "seccomp notify", descriptors::seccomp_notify),
    refused("pidfd-thread", "pidfd of a thread", descriptors::pidfd_thread),
    refused("fs-context", "fscontext", descriptors::fs_context),
    refused("detached-mount", "hangs nowhere", descriptors::detached_mount),
    refused("message-queue", "message queue", descriptors::mqueue),
    refused("epoll-escaped", "epoll", descriptors::epoll_escaped),
    refused("device-fuse", "/tmp/fuse-device", || {
        descriptors::made_device("/tmp/fuse-device", libc::S_IFCHR, 10, 229, libc::O_RDWR).map(drop)
    }),
    refused("device-kvm", "/tmp/kvm", || {
        descriptors::made_device("/tmp/kvm", libc::S_IFCHR, 10, 232, libc::O_RDWR).map(drop)
    }),
    refused("device-loop", "/tmp/loop-control", || {
        descriptors::made_device("/tmp/loop-control", libc::S_IFCHR, 10, 237, libc::O_RDWR).map(drop)
    }),
    refused("device-random-hardware", "/tmp/hwrng", || {
        descriptors::made_device("/tmp/hwrng", libc::S_IFCHR, 10, 183, libc::O_RDONLY).map(drop)
    }),
    refused("block-device", "/tmp/loop0", || {
        descriptors::made_device("/tmp/loop0", libc::S_IFBLK, 7, 0, libc::O_RDONLY).map(drop)
    }),
    refused("tun", "tun device", descriptors::tun),
    moves("pidfd", descriptors::pidfd),
    moves("eventfd", descriptors::eventfd),
    left("eventfd-semaphore", "EFD_SEMAPHORE", descriptors::eventfd_semaphore),
    moves("timerfd", descriptors::timerfd),
    moves("signalfd", descriptors::signalfd),
    moves("pipes", descriptors::pipes),
    moves("epoll", descriptors::epoll),
    moves("pty", descriptors::pty),
    moves("datagrams", descriptors::datagrams),
    moves("device-null", || descriptors::device("/dev/null", libc::O_RDWR)),
    moves("device-random", || descriptors::device("/dev/urandom", libc::O_RDONLY)),
    moves("device-kmsg", || {
        descriptors::made_device("/tmp/kmsg", libc::S_IFCHR, 1, 11, libc::O_RDONLY).map(drop)
    }),
    // Sockets.
    refused("mptcp", "MPTCP", sockets::mptcp),
    refused("sctp", "SCTP", sockets::sctp),
    refused("vsock", "VSOCK", || sockets::family(40, libc::SOCK_STREAM)),
    refused("xdp", "XDP", || sockets::family(44, libc::SOCK_RAW)),
    refused("algorithm", "ALG", || sockets::family(38, libc::SOCK_SEQPACKET)),
    refused("ipsec-keys", "PF_KEY", || sockets::family(15, libc::SOCK_RAW)),
    moves("packet", sockets::packet),
    moves("raw", sockets::raw),
    moves("ping", sockets::ping),
    moves("netlink-uevent", sockets::netlink_uevent),
    moves("netlink-generic", || sockets::netlink_of(libc::NETLINK_GENERIC)),
    moves("netlink-netfilter", || sockets::netlink_of(libc::NETLINK_NETFILTER)),
    moves("netlink-audit", || sockets::netlink_of(libc::NETLINK_AUDIT)),
    moves("netlink-connector", || sockets::netlink_of(libc::NETLINK_CONNECTOR)),
    refused("netlink-groups", "first 32", sockets::netlink_groups),
    refused("netlink-unbound", "without an address", sockets::netlink_unbound),
    refused("netlink-unread", "answer of the kernel", sockets::netlink_unread),
    moves("netlink-route", sockets::netlink_route),
    refused("udp-corked", "corked", sockets::udp_corked),
    left("udp-queued", "datagrams", sockets::udp_queued),
    left("multicast", "multicast", sockets::multicast),
    moves("syn-sent", sockets::syn_sent),
    moves("tcp", sockets::tcp_open),
    left("tcp-user-timeout", "TCP_USER_TIMEOUT", sockets::tcp_user_timeout),
    refused("tls", "TLS", sockets::tls),
    refused("socket-filter", "eBPF", sockets::socket_filter),
    Kind { name: "unix-server", fate: Fate::Outside, says: "", below: false, hold: sockets::unix_server },
    refused("unix-outside", "outside of the container", sockets::unix_outside),
    refused("unix-unaccepted-data", "has sent something", sockets::unix_unaccepted_data),
    refused("unix-unaccepted-gone", "closed before it was accepted", sockets::unix_unaccepted_gone),
    moves("unix-unaccepted", sockets::unix_unaccepted),
    moves("unix-unlinked", sockets::unix_unlinked),
    moves("unix-descriptor-queued", sockets::unix_descriptor_queued),
    refused("unix-credentials-queued", "credentials", sockets::unix_credentials_queued),
    moves("unix-pairs", sockets::unix_pairs),
    left("unix-datagram-empty", "without content", sockets::unix_datagram_empty),
    // Files.
    moves("deleted-large", || files::deleted("/tmp/large", 8 << 20)),
    moves("deleted-small", || files::deleted("/tmp/small", 8 << 10)),
    moves("deleted-linked", files::deleted_linked),
    moves("other-name-deleted", files::other_name_deleted),
    moves("image-file-replaced", || files::replaced("/etc/passwd")),
    moves("image-file-deleted", || files::image_deleted("/etc/group")),
    moves("folder-deleted", files::folder_deleted),
    moves("working-folder-deleted", files::working_folder_deleted).below(),
    moves("unnamed-file", files::unnamed),
    moves("fifo", files::fifo),
    moves("process-file", || files::process_file(false)),
    moves("process-file-ended", || files::process_file(true)),
    moves("locks", files::locks),
    moves("lease", files::lease),
    moves("inotify-empty", files::inotify_empty),
    moves("inotify-image-file", || files::inotify("/etc/passwd", false)),
    refused("inotify-image-folder", "inotify", || files::inotify("/usr/bin/", false)),
    moves("inotify-etc", || files::inotify("/etc/made", true)),
    refused("inotify-made-file", "inotify", || files::inotify("/tmp/made", true)),
    refused("inotify-made-folder", "inotify", || files::inotify("/tmp/made-folder/", true)),
    moves("inotify-shm", || files::inotify("/dev/shm/made", true)),
    refused("inotify-deleted", "inotify", files::inotify_deleted),
    refused("fanotify-file", "fanotify", || files::fanotify("/tmp/fan", false)),
    moves("fanotify-mount", || files::fanotify("/tmp", true)),
    // Memory.
    refused("memory-secret", "secret memory", mappings::secret),
    refused("memory-huge", "huge pages", mappings::huge),
    refused("memory-device", "memory of a device", mappings::device),
    refused("memory-ring", "mapping", mappings::ring),
    refused("memory-perf", "perf_event", mappings::perf_buffer),
    moves("packet-ring", mappings::packet_ring),
    moves("memfd", mappings::memfd),
    moves("memory-shared", mappings::shared),
    moves("memory-reserved", mappings::reserved),
    moves("memory-deleted-file", mappings::deleted_file),
    moves("memory-droppable", mappings::droppable),
    moves("memory-locked", mappings::locked),
    moves("sysv", mappings::sysv),
    moves("aio", mappings::aio),
    // Processes.
    refused("traced", "debugger", processes::traced),
    refused("leader-gone", "first thread", processes::leader_gone).below(),
    refused("thread-files", "thread with descriptors", || processes::thread_apart(libc::CLONE_FILES)).below(),
    refused("thread-folder", "thread with working folder", || processes::thread_apart(libc::CLONE_FS))
        .below(),
    moves("thread-user", processes::thread_user).below(),
    refused("namespace-pid", "pid namespace", || processes::unshare(libc::CLONE_NEWPID)).below(),
    refused("namespace-user", "user namespace", || processes::unshare(libc::CLONE_NEWUSER)).below(),
    refused("namespace-network", "net namespace", || processes::unshare(libc::CLONE_NEWNET)).below(),
    moves("namespace-mounts", || processes::unshare(libc::CLONE_NEWNS)).below(),
    refused("namespace-ipc", "ipc namespace", || processes::unshare(libc::CLONE_NEWIPC)).below(),
    refused("namespace-uts", "uts namespace", || processes::unshare(libc::CLONE_NEWUTS)).below(),
    refused("namespace-cgroup", "cgroup namespace", || processes::unshare(libc::CLONE_NEWCGROUP)).below(),
    refused("namespace-time", "time namespace", || processes::unshare(libc::CLONE_NEWTIME)).below(),
    refused("not-root", "not root", processes::other_user),
    moves("chroot", processes::chroot).below(),
    moves("zombie", processes::zombie),
    left("timer-slack", "timer slack", processes::timer_slack).below(),
    moves("program-deleted", || processes::program("/tmp/program", false)),
    moves("program-replaced", || processes::program("/tmp/program", true)),
    moves("image-program-replaced", processes::image_program),
    moves("image-library-replaced", processes::image_library),
    moves("posix-timer", processes::posix_timer),
    refused("pending-trap", "SIGTRAP", processes::pending_trap).below(),
    refused("key", "key", processes::key),
    // Mounts.
    moves("mount-tmpfs", || mounts::mount("tmpfs", "/tmp/mounted", "")),
    moves("mount-bind", mounts::bind),
    refused("mount-fuse", "mount of fuse", mounts::fuse),
    refused("mount-overlay", "mount of overlay", mounts::overlay),
    refused("mount-ramfs", "mount of ramfs", || mounts::mount("ramfs", "/tmp/ram", "")),
    moves("mount-proc", || mounts::mount("proc", "/tmp/proc", "")),
    moves("mount-devpts", || mounts::mount("devpts", "/tmp/pts", "newinstance")),
    moves("mount-mqueue", || mounts::mount("mqueue", "/tmp/queues", "")),
    refused("mount-hugetlbfs", "mount of hugetlbfs", || mounts::mount("hugetlbfs", "/tmp/huge", "")),
    refused("file-covered", "covers", mounts::covered),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_kind_and_what_is_to_be_found_has_a_word() {
        for (number, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..number].iter().all(|other| other.name != kind.name), "{} twice", kind.name);
            let found = matches!(kind.fate, Fate::Refused | Fate::LeftBehind);
            assert_eq!(found, !kind.says.is_empty(), "{}", kind.name);
        }
        assert!(Kind::named("io-uring").is_some() && Kind::named("doom").is_none());
    }
}
