//! ptrace(2), as far as it is needed, with deadlines.

use libc::user_regs_struct as Registers;
use std::io;
use std::ptr;
use std::time::{Duration, Instant};

/// `PTRACE_O_TRACESYSGOOD`: a stop at a system call is told apart from a signal, also by the kernel when the tracer dies.
const SYSCALL_STOPS: u64 = 1;
/// `PTRACE_O_SUSPEND_SECCOMP`.
const NO_FILTERS: u64 = 1 << 21;
const EVENT_STOP: i32 = 128;
const NT_X86_XSTATE: usize = 0x202;
const GET_RSEQ: libc::c_uint = 0x420f;

/// Why a traced thread stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// At a system call.
    Call,
    /// Because it was interrupted.
    Interrupt,
    /// With its whole process, by a stop signal.
    Group,
    /// Before it gets a signal.
    Signal(i32),
    /// It is no more.
    Ended,
}

/// A thread that this one traces; the thread goes on when this is dropped, if it is at a stop.
#[derive(Debug)]
pub(super) struct Tracee {
    tid: libc::pid_t,
    attached: bool,
}

fn request(request: libc::c_uint, tid: libc::pid_t, address: u64, data: u64) -> io::Result<()> {
    // SAFETY: only used with requests that take numbers, or pointers to locals of the callers that outlive the call.
    let done = unsafe { libc::ptrace(request, tid, address, data) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Tracee {
    /// Attaches, without a stop. `filters`: the thread has seccomp filters, which are to be suspended.
    pub(super) fn seize(tid: u32, filters: bool) -> io::Result<Self> {
        let tid = tid.cast_signed();
        let options = SYSCALL_STOPS | if filters { NO_FILTERS } else { 0 };
        request(libc::PTRACE_SEIZE, tid, 0, options)?;
        Ok(Self { tid, attached: true })
    }

    /// Asks it to stop before it next goes on in its own code.
    pub(super) fn interrupt(&self) -> io::Result<()> {
        request(libc::PTRACE_INTERRUPT, self.tid, 0, 0)
    }

    /// Lets it run to the next system call's beginning or end.
    pub(super) fn to_call(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_SYSCALL, self.tid, 0, u64::from(signal.cast_unsigned()))
    }

    /// Lets it run.
    pub(super) fn go(&self, signal: i32) -> io::Result<()> {
        request(libc::PTRACE_CONT, self.tid, 0, u64::from(signal.cast_unsigned()))
    }

    /// Lets it go for good.
    pub(super) fn detach(mut self) -> io::Result<()> {
        self.attached = false;
        request(libc::PTRACE_DETACH, self.tid, 0, 0)
    }

    /// Waits for the next stop; an error of kind `TimedOut` if there is none by the deadline. SIGCHLD must be blocked.
    pub(super) fn wait(&mut self, deadline: Instant) -> io::Result<Stop> {
        loop {
            let mut status = 0;
            // SAFETY: a place for the status; the thread is traced by this one.
            let found = unsafe { libc::waitpid(self.tid, &raw mut status, libc::WNOHANG | libc::__WALL) };
            if found == self.tid {
                let stop = stop(status);
                self.attached &= stop != Stop::Ended;
                return Ok(stop);
            }
            if found < 0 {
                let error = io::Error::last_os_error();
                if error.raw_os_error() == Some(libc::ECHILD) {
                    self.attached = false;
                    return Ok(Stop::Ended);
                }
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            child_signal(left.min(Duration::from_millis(20)));
        }
    }

    pub(super) fn registers(&self) -> io::Result<Registers> {
        // SAFETY: plain numbers, for which zero is a value.
        let mut registers: Registers = unsafe { std::mem::zeroed() };
        request(libc::PTRACE_GETREGS, self.tid, 0, (&raw mut registers) as u64)?;
        Ok(registers)
    }

    pub(super) fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        request(libc::PTRACE_SETREGS, self.tid, 0, ptr::from_ref(registers) as u64)
    }

    /// The extended state: floating point and vectors.
    pub(super) fn state(&self) -> io::Result<Vec<u8>> {
        let mut state = vec![0u8; 32 << 10];
        let mut into = libc::iovec { iov_base: state.as_mut_ptr().cast(), iov_len: state.len() };
        request(libc::PTRACE_GETREGSET, self.tid, NT_X86_XSTATE as u64, (&raw mut into) as u64)?;
        state.truncate(into.iov_len);
        Ok(state)
    }

    /// The signals that it holds back.
    pub(super) fn mask(&self) -> io::Result<u64> {
        let mut mask = 0u64;
        request(libc::PTRACE_GETSIGMASK, self.tid, 8, (&raw mut mask) as u64)?;
        Ok(mask)
    }

    pub(super) fn set_mask(&self, mask: u64) -> io::Result<()> {
        request(libc::PTRACE_SETSIGMASK, self.tid, 8, (&raw const mask) as u64)
    }

    /// Address of its `struct rseq` (rseq(2)), if it has one.
    pub(super) fn rseq(&self) -> Option<u64> {
        // struct ptrace_rseq_configuration: an address, three numbers, padding.
        let mut configuration = [0u64; 3];
        let length = size_of_val(&configuration) as u64;
        request(GET_RSEQ, self.tid, length, configuration.as_mut_ptr() as u64).ok()?;
        Some(configuration[0]).filter(|address| *address != 0)
    }

    /// Whether the process has its system calls sent back to itself (prctl(2), PR_SET_SYSCALL_USER_DISPATCH).
    pub(super) fn dispatches(&self) -> bool {
        // struct ptrace_sud_config: mode, selector, offset, length.
        let mut configuration = [0u64; 4];
        let length = size_of_val(&configuration) as u64;
        let asked = request(
            libc::PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG,
            self.tid,
            length,
            configuration.as_mut_ptr() as u64,
        );
        asked.is_ok() && configuration[0] != 0
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if self.attached {
            // If it is not at a stop this fails, and the end of this process lets it go.
            let _ = request(libc::PTRACE_DETACH, self.tid, 0, 0);
        }
    }
}

fn stop(status: libc::c_int) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Ended;
    }
    let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
    match (event, signal) {
        (EVENT_STOP, libc::SIGTRAP) => Stop::Interrupt,
        (EVENT_STOP, _) => Stop::Group,
        (_, signal) if signal == libc::SIGTRAP | 0x80 => Stop::Call,
        (_, signal) => Stop::Signal(signal),
    }
}

/// Sleeps until SIGCHLD, which is blocked, or for so long.
fn child_signal(longest: Duration) {
    let limit = libc::timespec { tv_sec: 0, tv_nsec: i64::from(longest.subsec_nanos()) };
    // SAFETY: a set and a limit that live until the call returns.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_told_apart() {
        let stopped = |signal: i32, event: i32| (signal << 8) | 0x7f | (event << 16);
        assert_eq!(stop(stopped(libc::SIGTRAP | 0x80, 0)), Stop::Call);
        assert_eq!(stop(stopped(libc::SIGTRAP, EVENT_STOP)), Stop::Interrupt);
        assert_eq!(stop(stopped(libc::SIGSTOP, EVENT_STOP)), Stop::Group);
        assert_eq!(stop(stopped(libc::SIGUSR1, 0)), Stop::Signal(libc::SIGUSR1));
        assert_eq!(stop(libc::SIGKILL), Stop::Ended);
        assert_eq!(stop(0), Stop::Ended);
    }
}
