//! The injection itself: one thread stopped, two system calls made in its place, everything put back.
//!
//! Whoever reads this should ask at each line: and if the tracer is killed here? The kernel then detaches, and the thread goes
//! on with the registers that it has. Those are either its own, or the frame's: a `syscall; ret` whose return leads to
//! sigreturn(2), which gives it its own registers, signal mask and extended state back. There is no third state: the frame
//! is written before the registers are replaced, in memory that nobody uses; signals are held back only while the registers are
//! the frame's; no single step is made (a thread whose tracer dies in one is killed by SIGTRAP). What remains then is one open
//! descriptor in the target, which does nothing. If a filter would kill the target for userfaultfd(2), and the tracer is killed
//! in the microseconds between the change of registers and the call, the filter is back and does so: the one gap there is.

use super::frame::{self, Frame};
use super::target::{Target, good_moment};
use super::trace::{Stop, Tracee};
use super::{InjectionStep, Refusal, Taken, gadget, place};
use crate::maps::{Task, look};
use libc::user_regs_struct as Registers;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

/// How long the thread may take to stop, and then all the rest.
const TO_STOP: Duration = Duration::from_millis(300);
const TO_FINISH: Duration = Duration::from_secs(2);
/// How often a thread is stopped anew that was caught at a bad place.
const ATTEMPTS: u32 = 20;
/// The code segment of 64-bit programs.
const CODE_64: u64 = 0x33;
/// No system call: the kernel will not make one again.
const NO_CALL: u64 = u64::MAX;
/// `UFFD_USER_MODE_ONLY`: the kernel's own writes are resolved by the kernel in any case, and so no privilege is needed.
const USER_MODE_ONLY: u64 = 1;

fn refuse(what: &'static str) -> impl Fn(io::Error) -> Refusal {
    move |e| match e.raw_os_error() {
        Some(libc::ESRCH) => Refusal::Gone,
        Some(libc::EPERM) => Refusal::Never(format!("the kernel does not allow {what}")),
        _ if e.kind() == io::ErrorKind::TimedOut => Refusal::Later(format!("{what} took too long")),
        _ => Refusal::Later(format!("{what}: {e}")),
    }
}

fn checked(result: libc::c_long) -> io::Result<libc::c_int> {
    libc::c_int::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; gives a new descriptor.
    let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: new, open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor of the target's, as one of ours.
fn fetch(pidfd: &OwnedFd, theirs: u64) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; gives a new descriptor.
    let fd = checked(unsafe {
        libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), theirs as libc::c_int, 0)
    })?;
    // SAFETY: new, open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn write(pid: u32, at: u64, bytes: &[u8]) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the local memory is only read; the remote address is the target's and chosen by `place`.
    let done =
        unsafe { libc::process_vm_writev(pid.cast_signed(), &raw const local, 1, &raw const remote, 1, 0) };
    if usize::try_from(done) == Ok(bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read_word(pid: u32, at: u64) -> Option<u64> {
    let mut word = 0u64;
    let local = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: 8 };
    let remote = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: 8 };
    // SAFETY: writes eight bytes into a local.
    let got =
        unsafe { libc::process_vm_readv(pid.cast_signed(), &raw const local, 1, &raw const remote, 1, 0) };
    (got == 8).then_some(word)
}

/// Whether the thread is in a restartable sequence (rseq(2)), which it must leave by itself: the kernel would forget that it has
/// to begin it anew.
fn in_sequence(pid: u32, tracee: &Tracee, at: u64) -> bool {
    let Some(area) = tracee.rseq() else { return false };
    match read_word(pid, area + 8) {
        Some(0) | None => false,
        Some(sequence) => {
            let bounds = read_word(pid, sequence + 8).zip(read_word(pid, sequence + 16));
            bounds.is_none_or(|(start, length)| at.wrapping_sub(start) < length)
        }
    }
}

/// What is prepared before the target is touched.
struct Plan {
    task: Task,
    pidfd: OwnedFd,
    filtered: bool,
    call: u64,
    way: Vec<u64>,
    place: place::Place,
}

fn plan(pid: u32) -> Result<Plan, Refusal> {
    let pidfd = pidfd(pid).map_err(|_| Refusal::Gone)?;
    let Target { filtered } = Target::of(pid)?;
    let (task, mappings) = look(pid)?;
    if task.tid != pid {
        return Err(Refusal::Never("its first thread has ended".to_owned()));
    }
    let (call, way) = gadget::find(task, &mappings)?
        .way()
        .ok_or_else(|| Refusal::Never("its code offers no way back (no restorer)".to_owned()))?;
    let place = place::find(task, &mappings)?
        .ok_or_else(|| Refusal::Never("its first thread's stack is not the kernel's".to_owned()))?;
    Ok(Plan { task, pidfd, filtered, call, way, place })
}

/// Holds SIGCHLD back in this thread, which is how a stop is waited for; as before when dropped.
struct Held(libc::sigset_t);

impl Held {
    fn child_signals() -> Self {
        // SAFETY: sets as locals; only this thread's mask changes.
        unsafe {
            let (mut set, mut before): (libc::sigset_t, libc::sigset_t) =
                (std::mem::zeroed(), std::mem::zeroed());
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Creates a userfaultfd in a process and takes it out: see [`super::take`].
pub(super) fn take(pid: u32, at: &mut dyn FnMut(InjectionStep)) -> Result<Taken, Refusal> {
    let _held = Held::child_signals();
    let plan = plan(pid)?;
    at(InjectionStep::Planned);
    for _ in 0..ATTEMPTS {
        good_moment(pid);
        if let Some(taken) = attempt(&plan, at)? {
            return Ok(taken);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(Refusal::Later("it could not be stopped at a good place".to_owned()))
}

/// Stops the thread; `None` if it was caught at a bad place and has been let go.
fn attempt(plan: &Plan, at: &mut dyn FnMut(InjectionStep)) -> Result<Option<Taken>, Refusal> {
    let pid = plan.task.pid;
    let mut tracee = Tracee::seize(pid, plan.filtered).map_err(refuse("tracing it"))?;
    at(InjectionStep::Seized);
    let begun = Instant::now();
    tracee.interrupt().map_err(refuse("stopping it"))?;
    loop {
        match tracee.wait(begun + TO_STOP).map_err(refuse("stopping it"))? {
            Stop::Interrupt => break,
            Stop::Signal(signal) => tracee.go(signal).map_err(refuse("giving it its signal"))?,
            Stop::Group => return Err(Refusal::Later("it is stopped by a signal".to_owned())),
            Stop::Ended => return Err(Refusal::Gone),
            Stop::Call => return Err(Refusal::Later("it stopped where it should not".to_owned())),
        }
    }
    at(InjectionStep::Stopped);
    let own = tracee.registers().map_err(refuse("reading its registers"))?;
    if own.cs != CODE_64 {
        return Err(Refusal::Never("it runs in 32-bit mode".to_owned()));
    }
    if tracee.dispatches() {
        return Err(Refusal::Never("its system calls are dispatched to itself".to_owned()));
    }
    if in_sequence(pid, &tracee, own.rip) {
        return Ok(None);
    }
    let mask = tracee.mask().map_err(refuse("reading its signal mask"))?;
    let state = tracee.state().map_err(refuse("reading its extended state"))?;
    let room = frame::room(state.len());
    let place = plan
        .place
        .frame(own.rsp, room)
        .ok_or_else(|| Refusal::Later("there is no free room on its stack".to_owned()))?;
    let frame = frame::lay_out(place, &plan.way, &own, &state, mask)
        .ok_or_else(|| Refusal::Never("its extended state has an unknown form".to_owned()))?;
    write(pid, frame.at, &frame.bytes).map_err(refuse("writing to its stack"))?;
    at(InjectionStep::Written);
    let mut stopped = Stopped { tracee, plan, own, mask, frame, until: begun + TO_FINISH };
    let got = stopped.calls(at);
    let back = stopped.put_back(at);
    let length = begun.elapsed();
    let descriptor = got?;
    back.map_err(refuse("letting it go on"))?;
    Ok(Some(Taken { descriptor, stopped: length }))
}

/// A thread that is stopped, with its frame written.
struct Stopped<'a> {
    tracee: Tracee,
    plan: &'a Plan,
    own: Registers,
    mask: u64,
    frame: Frame,
    until: Instant,
}

impl Stopped<'_> {
    /// Makes the calls; afterwards the thread is stopped as at first, but for its registers and mask. An error of kind
    /// `TimedOut` means that it is not stopped.
    fn calls(&mut self, at: &mut dyn FnMut(InjectionStep)) -> Result<OwnedFd, Refusal> {
        let flags = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u64 | USER_MODE_ONLY;
        let create = self.registers(libc::SYS_userfaultfd, flags);
        self.tracee.set_registers(&create).map_err(refuse("replacing its registers"))?;
        at(InjectionStep::Replaced);
        self.tracee.set_mask(u64::MAX).map_err(refuse("holding its signals back"))?;
        at(InjectionStep::Masked);
        let theirs = self.call().map_err(refuse("userfaultfd(2) in its place"))?;
        at(InjectionStep::Created);
        if theirs < 0 {
            let error = io::Error::from_raw_os_error(theirs.unsigned_abs() as i32);
            return Err(Refusal::Never(format!("it may not have a userfaultfd: {error}")));
        }
        let ours = fetch(&self.plan.pidfd, theirs.cast_unsigned());
        at(InjectionStep::Fetched);
        let close = self.registers(libc::SYS_close, theirs.cast_unsigned());
        self.tracee.set_registers(&close).map_err(refuse("replacing its registers"))?;
        at(InjectionStep::Closing);
        self.call().map_err(refuse("close(2) in its place"))?;
        at(InjectionStep::Closed);
        ours.map_err(refuse("pidfd_getfd(2)"))
    }

    /// The registers for one call, with the frame behind it.
    fn registers(&self, number: libc::c_long, argument: u64) -> Registers {
        let mut registers = self.own;
        registers.rip = self.plan.call;
        registers.rsp = self.frame.at;
        registers.rax = number.cast_unsigned();
        registers.rdi = argument;
        registers.orig_rax = NO_CALL;
        // The direction flag is clear wherever the ABI matters; a single step of its own debugger's is not ours.
        registers
    }

    /// Makes the one call that its registers say, and stops it behind it; what the call gave.
    fn call(&mut self) -> io::Result<i64> {
        self.tracee.to_call(0)?;
        self.wait_for(Stop::Call)?;
        // So it stops again as soon as the call is made, and in no other way: like at first, before it is back in its code.
        self.tracee.interrupt()?;
        self.tracee.go(0)?;
        self.wait_for(Stop::Interrupt)?;
        Ok(self.tracee.registers()?.rax.cast_signed())
    }

    fn wait_for(&mut self, wanted: Stop) -> io::Result<()> {
        loop {
            let stop = self.tracee.wait(self.until)?;
            // While its whole process is being stopped by a signal, an interruption is told as that.
            if stop == wanted || (stop, wanted) == (Stop::Group, Stop::Interrupt) {
                return Ok(());
            }
            match (stop, wanted) {
                (Stop::Ended, _) => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
                // A stop of the whole process waits until it is let go: it is stopped then.
                (Stop::Signal(signal), Stop::Call) => self.tracee.to_call(signal)?,
                (Stop::Group | Stop::Interrupt, Stop::Call) => self.tracee.to_call(0)?,
                (Stop::Signal(signal), _) => self.tracee.go(signal)?,
                (Stop::Call | Stop::Interrupt | Stop::Group, _) => self.tracee.go(0)?,
            }
        }
    }

    /// Gives the thread everything back and lets it go. If that cannot be done, it gets everything back by itself.
    fn put_back(self, at: &mut dyn FnMut(InjectionStep)) -> io::Result<()> {
        let Self { tracee, plan, own, mask, frame, .. } = self;
        tracee.set_mask(mask)?;
        at(InjectionStep::Unmasked);
        tracee.set_registers(&frame::undisturbed(&own))?;
        at(InjectionStep::Restored);
        // What was in its registers need not lie about.
        let wiped = write(plan.task.pid, frame.at, &vec![0; frame.bytes.len()]);
        let detached = tracee.detach();
        at(InjectionStep::Detached);
        wiped.and(detached)
    }
}
