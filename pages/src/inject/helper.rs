//! The process that gets the descriptor, `mose-write-protect`, and how it is started and answers.
//!
//! It is started with one end of a socket pair as its standard input, sends one message there (what it came to, and the
//! descriptor: SCM_RIGHTS, unix(7)) and ends. It does not end for SIGTERM or SIGINT, is in a session of its own and the last
//! that the kernel would kill for want of memory; it needs nobody who waits for it.

use super::{InjectionStep, Refusal, Taken, take};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The name of the program.
const NAME: &str = "mose-write-protect";
/// How long it may take in all: longer than its own deadlines together.
const DEADLINE: Duration = Duration::from_secs(8);
/// Bytes of its message at most.
const MESSAGE: usize = 1024;

/// The program, found.
#[derive(Debug, Clone)]
pub(crate) struct Helper {
    path: PathBuf,
}

impl Helper {
    /// Finds the program: the one given, or the one beside the program that is running.
    pub(crate) fn find(given: Option<&Path>) -> Result<Self, String> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()
                .map_err(|e| format!("where this program is: {e}"))?
                .with_file_name(NAME),
        };
        if path.is_file() {
            Ok(Self { path })
        } else {
            Err(format!(
                "{} is not there; install it beside this program, or say where it is",
                path.display()
            ))
        }
    }

    /// Has the userfaultfd of a process fetched.
    pub(crate) fn take(&self, pid: u32) -> Result<Taken, Refusal> {
        let later = |what: &'static str| move |e: io::Error| Refusal::Later(format!("{NAME}: {what}: {e}"));
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|e| Refusal::Later(format!("{NAME}: a socket pair: {e}")))?;
        let mut child = Command::new(&self.path)
            .args(["--pid", &pid.to_string()])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(later("starting it"))?;
        let deadline = Instant::now() + DEADLINE;
        let answer = receive(&ours, deadline);
        // It ends right after its answer. One that does not is left alone: it may be about to put something back.
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                thread::spawn(move || child.wait());
                return Err(Refusal::Later(format!("{NAME} did not end within {} s", DEADLINE.as_secs())));
            }
            thread::sleep(Duration::from_micros(200));
        }
        answer
    }
}

fn receive(socket: &OwnedFd, deadline: Instant) -> Result<Taken, Refusal> {
    let broken = |what: &str| Refusal::Later(format!("{NAME}: {what}"));
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // SAFETY: one live pollfd.
        match unsafe { libc::poll(&raw mut poll, 1, i32::try_from(left.as_millis()).unwrap_or(i32::MAX)) } {
            0 => return Err(broken("no answer in time")),
            1.. => break,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(broken(&format!("waiting for it: {}", io::Error::last_os_error()))),
        }
    }
    let mut text = [0u8; MESSAGE];
    let mut into = [IoSliceMut::new(&mut text)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut space), flags)
        .map_err(|e| broken(&format!("its answer: {e}")))?;
    let length = message.bytes;
    let mut descriptor = None;
    for control in message.cmsgs().map_err(|e| broken(&format!("its answer: {e}")))? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            for fd in descriptors {
                // SAFETY: the kernel made it for us with this message; it is nobody else's.
                descriptor = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if length == 0 {
        return Err(broken("it ended without an answer"));
    }
    understand(&String::from_utf8_lossy(&text[..length]), descriptor)
}

fn understand(text: &str, descriptor: Option<OwnedFd>) -> Result<Taken, Refusal> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match (word, rest.parse(), descriptor) {
        ("granted", Ok(nanoseconds), Some(descriptor)) => {
            Ok(Taken { descriptor, stopped: Duration::from_nanos(nanoseconds) })
        }
        ("gone", _, _) => Err(Refusal::Gone),
        ("never", _, _) => Err(Refusal::Never(rest.to_owned())),
        ("later", _, _) => Err(Refusal::Later(rest.to_owned())),
        _ => Err(Refusal::Later(format!("{NAME} answered `{text}`, which is not understood"))),
    }
}

/// Makes this process fit for its task: as hard to end in the middle as can be.
fn prepare() -> io::Result<()> {
    // SAFETY: a set of all signals, as a local; the calls change properties of this process alone.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        // It fails for the first process of a group, which is as good.
        libc::setsid();
    }
    let _ = fs::write("/proc/self/oom_score_adj", "-1000")
        .or_else(|_| fs::write("/proc/self/oom_score_adj", "0"));
    let _ = std::env::set_current_dir("/");
    Ok(())
}

/// Goes ahead of everything ordinary, so that the target is not kept stopped while others run. Not everybody may.
fn hurry(step: InjectionStep) {
    if step == InjectionStep::Planned {
        let first = libc::sched_param { sched_priority: 1 };
        // SAFETY: a local; a property of this process changes, which ends soon.
        unsafe {
            libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const first)
        };
    }
}

/// What the program `mose-write-protect` does: gets the userfaultfd of a process and sends it to standard input.
pub fn serve(pid: u32) -> ExitCode {
    let outcome = match prepare() {
        Ok(()) => take(pid, &mut hurry),
        Err(e) => Err(Refusal::Later(format!("holding signals back: {e}"))),
    };
    let (text, descriptor) = match outcome {
        Ok(taken) => (format!("granted {}", taken.stopped.as_nanos()), Some(taken.descriptor)),
        Err(refusal) => (format!("{} {refusal}", refusal.word()), None),
    };
    let text = &text.as_bytes()[..text.len().min(MESSAGE)];
    let descriptors: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    // Whoever wanted it may be no more; then it is closed here, and that is all.
    match sendmsg::<()>(libc::STDIN_FILENO, &[IoSlice::new(text)], rights, flags, None) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood_or_said_not_to_be() {
        assert_eq!(understand("gone it is gone", None).unwrap_err(), Refusal::Gone);
        assert_eq!(understand("never so it is", None).unwrap_err(), Refusal::Never("so it is".into()));
        let file = || Some(OwnedFd::from(fs::File::open("/dev/null").unwrap()));
        assert_eq!(understand("granted 1500", file()).unwrap().stopped.as_nanos(), 1500);
        assert_eq!(understand("granted 1500", None).unwrap_err().word(), "later");
        assert!(understand("granted x", file()).unwrap_err().to_string().contains("granted x"));
    }

    #[test]
    fn a_helper_that_is_not_there_is_said_to_be_missing_with_its_path() {
        assert!(Helper::find(Some(Path::new("/nowhere/helper"))).unwrap_err().contains("/nowhere/helper"));
    }

    #[test]
    fn a_program_that_answers_nothing_is_an_error_and_no_wait() {
        let helper = Helper { path: "/bin/true".into() };
        assert!(helper.take(1).unwrap_err().to_string().contains("without an answer"));
    }
}
