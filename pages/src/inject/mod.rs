//! Write-protection from outside, first part: getting a userfaultfd of another process.
//!
//! A userfaultfd(2) belongs to the memory of the process that creates it. So the call is made in the target's place: its first
//! thread is stopped for a fraction of a millisecond, makes the call, the descriptor is taken out (pidfd_getfd(2)) and closed in
//! the target. That happens in a process of its own, `mose-write-protect`, which is started for it and ends: nothing that
//! befalls the process that wants the descriptor can then befall the target.

#[cfg(target_arch = "x86_64")]
mod frame;
#[cfg(target_arch = "x86_64")]
mod gadget;
mod helper;
#[cfg(target_arch = "x86_64")]
mod place;
#[cfg(target_arch = "x86_64")]
mod take;
#[cfg(target_arch = "x86_64")]
mod target;
#[cfg(target_arch = "x86_64")]
mod trace;

pub(crate) use helper::Helper;
pub use helper::serve;

use crate::Error;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Why no userfaultfd could be had of a process. The process goes on as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It has ended.
    #[error("it is gone")]
    Gone,
    /// Not now; another time it may do.
    #[error("{0}")]
    Later(String),
    /// Not of this process.
    #[error("{0}")]
    Never(String),
}

impl Refusal {
    /// The word for it between the helper and whoever started it.
    fn word(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Later(_) => "later",
            Self::Never(_) => "never",
        }
    }
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        match e {
            Error::Gone { .. } => Self::Gone,
            Error::Io { .. } => Self::Later(e.to_string()),
            _ => Self::Never(e.to_string()),
        }
    }
}

/// A userfaultfd of another process.
#[derive(Debug)]
pub struct Taken {
    /// It, without any handshake made yet (UFFDIO_API).
    pub descriptor: OwnedFd,
    /// How long the first thread of the process was stopped at most.
    pub stopped: Duration,
}

/// What has been done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum InjectionStep {
    /// All is prepared and the target not yet touched.
    Planned,
    /// The target is traced and runs.
    Seized,
    /// Its first thread is stopped.
    Stopped,
    /// The frame that leads back is on its stack.
    Written,
    /// The registers are those for the first call.
    Replaced,
    /// Its signals are held back.
    Masked,
    /// The first call was made.
    Created,
    /// The descriptor is ours.
    Fetched,
    /// The registers are those for the second call.
    Closing,
    /// The second call was made.
    Closed,
    /// Its signals are its own again.
    Unmasked,
    /// The registers are its own again.
    Restored,
    /// It runs, untraced.
    Detached,
}

/// Creates a userfaultfd in a process and takes it out; `at` is told of each step. It should be called in a process
/// that does nothing else: `mose-write-protect`.
///
/// # Errors
/// Why it was not done; the process goes on as before in any case.
pub fn take(pid: u32, at: &mut dyn FnMut(InjectionStep)) -> Result<Taken, Refusal> {
    #[cfg(target_arch = "x86_64")]
    return take::take(pid, at);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (pid, at);
        Err(Refusal::Never("this is made for x86_64".to_owned()))
    }
}
