//! Processes in odd states, and with namespaces of their own.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::system::{call, path, word};

/// Another process of this program, which holds a thing of its own; returns when it does.
pub(super) fn child(kind: &str) -> io::Result<Child> {
    started(Command::new("/proc/self/exe").args(["hold", kind]))
}

/// Another process that holds a kind itself.
pub(super) fn child_here(kind: &str) -> io::Result<Child> {
    started(Command::new("/proc/self/exe").args(["here", kind]))
}

fn started(command: &mut Command) -> io::Result<Child> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(out) = child.stdout.as_mut() {
        BufReader::new(out).read_line(&mut line)?;
    }
    if line.trim() == super::HOLDING {
        Ok(child)
    } else {
        Err(io::Error::other(format!("the child says `{line}`")))
    }
}

pub(super) fn with_child(kind: &str) -> io::Result<()> {
    child(kind).map(drop)
}

pub(super) fn traced() -> io::Result<()> {
    const PTRACE_SEIZE: usize = 0x4206;
    let child = child("nothing")?;
    call("ptrace", libc::SYS_ptrace, &[PTRACE_SEIZE, child.id() as usize, 0, 0]).map(drop)
}

pub(super) fn zombie() -> io::Result<()> {
    let mut child = child("nothing")?;
    child.kill()
}

/// The first thread ends, and the others go on.
pub(super) fn leader_gone() -> io::Result<()> {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    });
    std::thread::spawn(|| {
        super::say_holding();
    });
    std::thread::sleep(std::time::Duration::from_millis(100));
    call("exit", libc::SYS_exit, &[0]).map(drop)
}

/// A thread with a table of descriptors, or a working folder, of its own.
pub(super) fn thread_apart(flag: i32) -> io::Result<()> {
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = say.send(call("unshare", libc::SYS_unshare, &[word(flag)]).map(drop));
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    });
    hear.recv().map_err(io::Error::other)?
}

/// A thread that is another user.
pub(super) fn thread_user() -> io::Result<()> {
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = say.send(call("setresuid", libc::SYS_setresuid, &[1000, 1000, 0]).map(drop));
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    });
    hear.recv().map_err(io::Error::other)?
}

/// Leaves a namespace for a new one; of PIDs its next child does.
pub(super) fn unshare(flag: i32) -> io::Result<()> {
    call("unshare", libc::SYS_unshare, &[word(flag)])?;
    if flag == libc::CLONE_NEWPID || flag == libc::CLONE_NEWTIME { with_child("nothing") } else { Ok(()) }
}

/// Runs as another user.
pub(super) fn other_user() -> io::Result<()> {
    started(Command::new("/proc/self/exe").args(["hold", "nothing"]).uid(1000).gid(1000)).map(drop)
}

/// A process whose program was replaced or deleted since.
pub(super) fn program(name: &str, replaced: bool) -> io::Result<()> {
    fs::copy("/proc/self/exe", name)?;
    started(Command::new(name).args(["hold", "nothing"]))?;
    if replaced {
        let new = format!("{name}.new");
        fs::copy("/proc/self/exe", &new)?;
        fs::rename(new, name)
    } else {
        fs::remove_file(name)
    }
}

/// A process of the image's program, in whose place another is put.
pub(super) fn image_program() -> io::Result<()> {
    Command::new("/usr/bin/busybox").args(["sleep", "100000"]).spawn()?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    fs::copy("/usr/bin/busybox", "/usr/bin/busybox.new")?;
    fs::rename("/usr/bin/busybox.new", "/usr/bin/busybox")
}

/// A library of the image, in whose place another is put while it is mapped.
pub(super) fn image_library() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let library = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|name| name.contains("libc.so"))
        .ok_or_else(|| io::Error::other("no libc is mapped"))?
        .to_owned();
    let new = format!("{library}.new");
    fs::copy(&library, &new)?;
    fs::rename(new, library)
}

/// A POSIX timer that signals a thread.
pub(super) fn posix_timer() -> io::Result<()> {
    let mut event = [0_u8; 64];
    event[8] = libc::SIGUSR1 as u8;
    event[12] = 1; // SIGEV_NONE
    let timer = 0_i32;
    call("timer_create", libc::SYS_timer_create, &[1, event.as_ptr() as usize, &raw const timer as usize])?;
    let setting = [3600_u64, 0, 3600, 0];
    call("timer_settime", libc::SYS_timer_settime, &[timer as usize, 0, setting.as_ptr() as usize, 0])
        .map(drop)
}

/// A signal for a debugger that waits to be taken.
pub(super) fn pending_trap() -> io::Result<()> {
    let mask = 1_u64 << (libc::SIGTRAP - 1);
    call("sigprocmask", libc::SYS_rt_sigprocmask, &[0, &raw const mask as usize, 0, 8])?;
    call("kill", libc::SYS_kill, &[std::process::id() as usize, word(libc::SIGTRAP)]).map(drop)
}

/// Timers that may be late by more than usual.
pub(super) fn timer_slack() -> io::Result<()> {
    call("prctl", libc::SYS_prctl, &[word(libc::PR_SET_TIMERSLACK), 77_777]).map(drop)
}

/// Another root folder.
pub(super) fn chroot() -> io::Result<()> {
    fs::create_dir_all("/tmp/root")?;
    std::os::unix::fs::chroot("/tmp/root")
}

/// A key in the session's keyring.
pub(super) fn key() -> io::Result<()> {
    const KEY_SPEC_SESSION_KEYRING: i32 = -3;
    let (kind, name, payload) = (path("user"), path("mose"), *b"secret");
    let arguments = [
        kind.as_ptr() as usize,
        name.as_ptr() as usize,
        payload.as_ptr() as usize,
        payload.len(),
        word(KEY_SPEC_SESSION_KEYRING),
    ];
    call("add_key", libc::SYS_add_key, &arguments).map(drop)
}
