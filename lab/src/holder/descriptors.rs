//! Descriptors of what is no socket and no file.

use std::io;

use super::system::{bind, call, close, open, pair, path, send_descriptor, socket, unix, word, write};

pub(super) fn io_uring() -> io::Result<()> {
    let parameters = [0_u8; 120];
    call("io_uring_setup", libc::SYS_io_uring_setup, &[8, parameters.as_ptr() as usize]).map(drop)
}

pub(super) fn userfaultfd() -> io::Result<()> {
    call("userfaultfd", libc::SYS_userfaultfd, &[word(libc::O_CLOEXEC)]).map(drop)
}

pub(super) fn perf_event() -> io::Result<()> {
    // PERF_TYPE_SOFTWARE with PERF_COUNT_SW_CPU_CLOCK.
    let mut attributes = [0_u8; 128];
    attributes[0] = 1;
    attributes[4] = 128;
    let arguments = [attributes.as_ptr() as usize, 0, usize::MAX, usize::MAX, 0];
    call("perf_event_open", libc::SYS_perf_event_open, &arguments).map(drop)
}

fn bpf(command: usize, words: &[(usize, u32)], addresses: &[(usize, usize)]) -> io::Result<usize> {
    let mut attributes = [0_u8; 128];
    for (at, value) in words {
        attributes[*at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    for (at, value) in addresses {
        attributes[*at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    call("bpf", libc::SYS_bpf, &[command, attributes.as_ptr() as usize, 128])
}

pub(super) fn bpf_map() -> io::Result<()> {
    // BPF_MAP_CREATE of a BPF_MAP_TYPE_ARRAY with keys and values of 4 bytes.
    bpf(0, &[(0, 2), (4, 4), (8, 4), (12, 4)], &[]).map(drop)
}

/// `r0 = 0; exit`, as a program of that type.
pub(super) fn bpf_program(kind: u32) -> io::Result<usize> {
    let code: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let license = b"GPL\0";
    bpf(5, &[(0, kind), (4, 2)], &[(8, code.as_ptr() as usize), (16, license.as_ptr() as usize)])
}

pub(super) fn bpf_prog() -> io::Result<()> {
    bpf_program(1).map(drop)
}

pub(super) fn landlock() -> io::Result<()> {
    // LANDLOCK_ACCESS_FS_EXECUTE handled.
    let attributes = 1_u64.to_ne_bytes();
    call("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, &[attributes.as_ptr() as usize, 8, 0])
        .map(drop)
}

pub(super) fn seccomp_notify() -> io::Result<()> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    const SECCOMP_FILTER_FLAG_NEW_LISTENER: usize = 8;
    // BPF_RET | BPF_K with SECCOMP_RET_ALLOW.
    let mut program = 6_u16.to_ne_bytes().to_vec();
    program.extend([0, 0]);
    program.extend(0x7fff_0000_u32.to_ne_bytes());
    let header = [1_usize, program.as_ptr() as usize];
    call(
        "seccomp",
        libc::SYS_seccomp,
        &[SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, header.as_ptr() as usize],
    )
    .map(drop)
}

pub(super) fn pidfd_thread() -> io::Result<()> {
    call("pidfd_open", libc::SYS_pidfd_open, &[std::process::id() as usize, word(libc::O_EXCL)]).map(drop)
}

pub(super) fn pidfd() -> io::Result<()> {
    call("pidfd_open", libc::SYS_pidfd_open, &[std::process::id() as usize, 0]).map(drop)
}

pub(super) fn eventfd() -> io::Result<()> {
    call("eventfd", libc::SYS_eventfd2, &[3, 0]).map(drop)
}

/// A counter of which each read takes one; the kernel must tell it from another.
pub(super) fn eventfd_semaphore() -> io::Result<()> {
    let made = call("eventfd", libc::SYS_eventfd2, &[3, word(libc::EFD_SEMAPHORE)])?;
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{made}"))?;
    if told.contains("eventfd-semaphore") {
        Ok(())
    } else {
        Err(io::Error::other("the kernel does not tell of it"))
    }
}

pub(super) fn timerfd() -> io::Result<()> {
    let timer = call("timerfd_create", libc::SYS_timerfd_create, &[1, 0])?;
    let setting = [3600_u64, 0, 3600, 0];
    call("timerfd_settime", libc::SYS_timerfd_settime, &[timer, 0, setting.as_ptr() as usize, 0]).map(drop)
}

pub(super) fn signalfd() -> io::Result<()> {
    let mask = 1_u64 << (libc::SIGUSR1 - 1);
    call("signalfd", libc::SYS_signalfd4, &[usize::MAX, &raw const mask as usize, 8, 0]).map(drop)
}

pub(super) fn pipes() -> io::Result<()> {
    let [_, writer] = pair("pipe", libc::SYS_pipe2, &[], &[0])?;
    write(writer, b"not read yet")
}

fn watch(epoll: usize, descriptor: usize) -> io::Result<()> {
    let event = [1_u8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
    call("epoll_ctl", libc::SYS_epoll_ctl, &[epoll, 1, descriptor, event.as_ptr() as usize]).map(drop)
}

pub(super) fn epoll() -> io::Result<()> {
    let made = call("epoll_create", libc::SYS_epoll_create1, &[0])?;
    let [reader, _] = pair("pipe", libc::SYS_pipe2, &[], &[0])?;
    watch(made, reader)
}

/// An epoll that watches a file whose descriptor is closed here: a copy of it is in a queue.
pub(super) fn epoll_escaped() -> io::Result<()> {
    let made = call("epoll_create", libc::SYS_epoll_create1, &[0])?;
    let [reader, _] = pair("pipe", libc::SYS_pipe2, &[], &[0])?;
    watch(made, reader)?;
    // The file lives on in a message.
    let [one, _] =
        pair("socketpair", libc::SYS_socketpair, &[word(libc::AF_UNIX), word(libc::SOCK_STREAM), 0], &[])?;
    send_descriptor(one, reader)?;
    close(reader)
}

pub(super) fn device(name: &str, flags: i32) -> io::Result<()> {
    open(name, flags).map(drop)
}

/// A device that the container has no file of, at a file that is made.
pub(super) fn made_device(name: &str, kind: u32, major: u32, minor: u32, flags: i32) -> io::Result<usize> {
    let file = path(name);
    let number = libc::makedev(major, minor) as usize;
    let mode = (kind | 0o600) as usize;
    match call("mknod", libc::SYS_mknodat, &[word(libc::AT_FDCWD), file.as_ptr() as usize, mode, number]) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => open(name, flags),
    }
}

/// A pseudo-terminal, both ends.
pub(super) fn pty() -> io::Result<()> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTPEER: usize = 0x5441;
    let master = open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
    let unlocked = 0_i32;
    call("ioctl", libc::SYS_ioctl, &[master, TIOCSPTLCK, &raw const unlocked as usize])?;
    call("ioctl", libc::SYS_ioctl, &[master, TIOCGPTPEER, word(libc::O_RDWR | libc::O_NOCTTY)]).map(drop)
}

pub(super) fn fs_context() -> io::Result<()> {
    let name = path("tmpfs");
    call("fsopen", libc::SYS_fsopen, &[name.as_ptr() as usize, 0]).map(drop)
}

/// A mount that hangs nowhere.
pub(super) fn detached_mount() -> io::Result<()> {
    const OPEN_TREE_CLONE: usize = 1;
    let name = path("/etc");
    call("open_tree", libc::SYS_open_tree, &[word(libc::AT_FDCWD), name.as_ptr() as usize, OPEN_TREE_CLONE])
        .map(drop)
}

pub(super) fn datagrams() -> io::Result<()> {
    let made = socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
    bind(made, &unix("/tmp/datagrams.sock"))
}

pub(super) fn mqueue() -> io::Result<()> {
    let name = path("q");
    let flags = word(libc::O_CREAT | libc::O_RDWR);
    call("mq_open", libc::SYS_mq_open, &[name.as_ptr() as usize, flags, 0o600, 0]).map(drop)
}

/// A tun device of the container's network namespace.
pub(super) fn tun() -> io::Result<()> {
    const TUNSETIFF: usize = 0x4004_54ca;
    const IFF_TUN: u16 = 1;
    let device = open("/dev/net/tun", libc::O_RDWR)?;
    let mut request = [0_u8; 40];
    request[..4].copy_from_slice(b"tun0");
    request[16..18].copy_from_slice(&IFF_TUN.to_ne_bytes());
    call("ioctl", libc::SYS_ioctl, &[device, TUNSETIFF, request.as_ptr() as usize]).map(drop)
}
