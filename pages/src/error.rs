//! What can go wrong when another process is looked at: the thing, the reason, the remedy.

use std::io;

/// Why the memory of a process could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process has ended, or has begun to.
    #[error("process {pid} is gone")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// This machine cannot do it.
    #[error("{what} is not supported here: {why}")]
    Unsupported {
        /// What was wanted.
        what: &'static str,
        /// What is missing, and what would help.
        why: String,
    },
    /// The kernel does not allow it.
    #[error("{what} of process {pid} is not allowed: run as root, or with CAP_SYS_PTRACE and CAP_SYS_ADMIN")]
    Denied {
        /// What was wanted.
        what: &'static str,
        /// The process.
        pid: u32,
    },
    /// Something else that the kernel said.
    #[error("{what} of process {pid}: {source}")]
    Io {
        /// What was wanted.
        what: &'static str,
        /// The process.
        pid: u32,
        /// The kernel's words.
        source: io::Error,
    },
    /// The kernel's text is not what proc(5) says.
    #[error("{what} of process {pid} cannot be read: `{line}`")]
    Malformed {
        /// Which file.
        what: &'static str,
        /// The process.
        pid: u32,
        /// The line that is not understood.
        line: String,
    },
}

impl Error {
    /// The error for what the kernel said about `what` of `pid`.
    pub(crate) fn from_io(what: &'static str, pid: u32, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT) => Self::Gone { pid },
            Some(libc::EPERM | libc::EACCES) => Self::Denied { what, pid },
            _ => Self::Io { what, pid, source },
        }
    }

    /// Whether it says that the process ended.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}
