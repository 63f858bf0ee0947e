//! The process itself, a second thread, and children in every state: what is told of each by the kernel.

use std::fs;
use std::io;
use std::path::Path;

use super::sys::{ok, prctl, proc_lines};
use super::{Object, Told};

pub(super) struct Processes {
    children: Vec<(&'static str, libc::pid_t)>,
    thread: libc::pid_t,
}

/// What of `/proc/PID/status` is a process's state, and not only how much it did.
const STATUS: [&str; 33] = [
    "Name",
    "Umask",
    "State",
    "Tgid",
    "Pid",
    "PPid",
    "TracerPid",
    "Uid",
    "Gid",
    "Groups",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
    "Threads",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Cpus_allowed_list",
    "Mems_allowed_list",
    "CoreDumping",
    "THP_enabled",
    "VmLck",
];

/// Fields of `/proc/PID/stat` from the third on, by number (proc_pid_stat(5)).
const STAT: [(&str, usize); 13] = [
    ("pgrp", 5),
    ("session", 6),
    ("tty", 7),
    ("priority", 18),
    ("nice", 19),
    ("code begins", 26),
    ("code ends", 27),
    ("stack begins", 28),
    ("exit signal", 38),
    ("rt priority", 40),
    ("policy", 41),
    ("arguments begin", 48),
    ("exit code", 52),
];

/// What prctl(2) tells of the process that asks.
const PRCTL: [(&str, libc::c_int); 10] = [
    ("dumpable", libc::PR_GET_DUMPABLE),
    ("keep capabilities", libc::PR_GET_KEEPCAPS),
    ("secure bits", libc::PR_GET_SECUREBITS),
    ("timer slack", libc::PR_GET_TIMERSLACK),
    ("no new privileges", libc::PR_GET_NO_NEW_PRIVS),
    ("no huge pages", libc::PR_GET_THP_DISABLE),
    ("machine checks", libc::PR_MCE_KILL_GET),
    ("i/o flusher", 58),
    ("memory, write or execute", libc::PR_GET_MDWE),
    ("merges memory", libc::PR_GET_MEMORY_MERGE),
];

extern "C" fn nothing(_: libc::c_int) {}

/// Makes a child do something and then wait for ever.
fn child(what: impl FnOnce()) -> io::Result<libc::pid_t> {
    // SAFETY: this process has one thread. The child calls only system calls, and never returns.
    let pid = ok(unsafe { libc::fork() })?;
    if pid == 0 {
        what();
        loop {
            // SAFETY: pause(2) takes nothing.
            unsafe { libc::pause() };
        }
    }
    Ok(pid)
}

/// What a child with odd attributes does to itself.
fn become_odd() {
    // SAFETY: calls with numbers, and with structures and strings that outlive them.
    unsafe {
        libc::setsid();
        libc::umask(0o017);
        libc::setpriority(libc::PRIO_PROCESS, 0, 7);
        libc::prctl(libc::PR_SET_NAME, c"an odd child".as_ptr(), 0, 0, 0);
        libc::prctl(libc::PR_SET_TIMERSLACK, 123_456, 0, 0, 0);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let parameter = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameter);
        // ioprio_set(2): the process itself, the idle class.
        libc::syscall(libc::SYS_ioprio_set, 1, 0, 3 << 13);
        let limit = libc::rlimit { rlim_cur: 77, rlim_max: 88 };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        libc::signal(libc::SIGUSR2, libc::SIG_IGN);
        libc::chdir(c"/etc".as_ptr());
        // It stays root: CRIU reads the limits of another user's process only with a capability that not every machine has.
        libc::setgroups(2, [7, 8].as_ptr());
        // A filter that allows everything (seccomp(2)).
        let allow = libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
        let program = libc::sock_fprog { len: 1, filter: (&raw const allow).cast_mut() };
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0);
    }
}

impl Processes {
    pub(super) fn make(place: &Path) -> io::Result<Self> {
        // SAFETY: calls with numbers, and with a handler that does nothing.
        unsafe {
            libc::umask(0o031);
            libc::signal(libc::SIGWINCH, nothing as *const () as libc::sighandler_t);
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        }
        let folder = place.join("here");
        fs::create_dir_all(&folder)?;
        std::env::set_current_dir(&folder)?;
        let waiting = child(|| {})?;
        let odd = child(become_odd)?;
        let stopped = child(|| {})?;
        let grandchild_of_group = child(|| {
            // SAFETY: setpgid(2) takes numbers.
            unsafe { libc::setpgid(0, 0) };
        })?;
        // SAFETY: as in `child`; this one ends at once and is left a zombie.
        let zombie = ok(unsafe { libc::fork() })?;
        if zombie == 0 {
            // SAFETY: _exit(2) takes a number.
            unsafe { libc::_exit(7) };
        }
        fs::write(format!("/proc/{waiting}/oom_score_adj"), "321")?;
        fs::write(format!("/proc/{waiting}/coredump_filter"), "0x7")?;
        // SAFETY: kill(2) takes numbers.
        unsafe {
            libc::kill(stopped, libc::SIGSTOP);
            libc::kill(waiting, libc::SIGTTOU);
        }
        prctl(libc::PR_SET_CHILD_SUBREAPER, 1)?;
        prctl(libc::PR_SET_PDEATHSIG, libc::SIGHUP as libc::c_ulong)?;
        prctl(libc::PR_SET_TIMERSLACK, 77_777)?;
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("second thread".into()).spawn(move || {
            // SAFETY: calls with numbers, and with structures that outlive them; the stack is never freed.
            unsafe {
                let mut processors: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(0, &mut processors);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const processors);
                libc::setpriority(libc::PRIO_PROCESS, 0, 5);
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&raw mut set, libc::SIGIO);
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
                let _ = tell.send(libc::gettid());
                loop {
                    libc::pause();
                }
            }
        })?;
        let thread = told.recv().map_err(io::Error::other)?;
        Ok(Self {
            children: vec![
                ("that waits", waiting),
                ("that is odd", odd),
                ("that is stopped", stopped),
                ("with a group of its own", grandchild_of_group),
                ("that ended", zombie),
            ],
            thread,
        })
    }
}

fn tell(what: &str, path: &str, told: &mut Told) {
    for (word, value) in proc_lines(&format!("{path}/status"), &STATUS) {
        told.say(format_args!("{what}, {word}"), value);
    }
    let stat = fs::read_to_string(format!("{path}/stat")).unwrap_or_default();
    let after: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, after)| after).split_whitespace().collect();
    for (name, number) in STAT {
        told.say(format_args!("{what}, {name}"), after.get(number - 3).unwrap_or(&"?"));
    }
    for file in ["oom_score_adj", "timerslack_ns", "personality", "coredump_filter"] {
        let value = fs::read_to_string(format!("{path}/{file}")).unwrap_or_default();
        told.say(format_args!("{what}, {file}"), value.trim());
    }
    for link in ["cwd", "root", "exe"] {
        let target = fs::read_link(format!("{path}/{link}")).unwrap_or_default();
        told.say(format_args!("{what}, {link}"), target.display());
    }
    let limits = fs::read_to_string(format!("{path}/limits")).unwrap_or_default();
    for line in limits.lines().skip(1) {
        told.say(format_args!("{what}, limit"), line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

impl Object for Processes {
    fn tell(&self, told: &mut Told) {
        tell("process", "/proc/self", told);
        for (name, option) in PRCTL {
            told.say(
                name,
                prctl(option, 0).map_or_else(|error| error.to_string(), |value| value.to_string()),
            );
        }
        for (name, option) in
            [("subreaper", libc::PR_GET_CHILD_SUBREAPER), ("parent's death", libc::PR_GET_PDEATHSIG)]
        {
            let mut value = 0_i32;
            // SAFETY: these options write one int.
            let got = unsafe { libc::prctl(option, &raw mut value, 0, 0, 0) };
            told.say(name, format_args!("{got} {value}"));
        }
        tell("second thread", &format!("/proc/self/task/{}", self.thread), told);
        for (what, pid) in &self.children {
            tell(&format!("child {what}"), &format!("/proc/{pid}"), told);
            // SAFETY: ioprio_get(2) takes numbers.
            let priority = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, *pid) };
            told.say(format_args!("child {what}, i/o priority"), format_args!("{priority:#x}"));
        }
    }

    fn prove(&self, told: &mut Told) {
        for (what, pid) in &self.children {
            let mut status = 0;
            // SAFETY: kill(2) takes numbers; waitpid(2) writes one int.
            let ended = unsafe {
                libc::kill(*pid, libc::SIGCONT);
                libc::kill(*pid, libc::SIGKILL);
                libc::waitpid(*pid, &raw mut status, 0)
            };
            told.say(format_args!("child {what}"), format_args!("ended {} with {status:#x}", ended == *pid));
        }
    }
}
