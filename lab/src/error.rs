//! What can go wrong in the lab. Every error names the thing, the reason and what to do about it: whoever reads it
//! has a machine in front of them, not this source.

use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;

/// Something the machine lacks, and how to get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What is missing, e.g. `mmdebstrap`.
    pub what: String,
    /// What it is needed for.
    pub why: String,
    /// What to do, a command where there is one.
    pub remedy: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.what, self.why, self.remedy)
    }
}

/// An error of the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The machine lacks what the lab is made of.
    #[error("this machine cannot run the lab yet:{}", list(.0))]
    Machine(Vec<Missing>),
    /// The lab belongs to root.
    #[error("the lab is root's: run it as root, e.g. with sudo")]
    NotRoot,
    /// There is no lab to act on.
    #[error("the lab is not up; start it with `mose lab up`")]
    NotUp,
    /// No host has this name.
    #[error("there is no host `{name}` in the lab; the hosts are {known}")]
    UnknownHost {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A host of the lab is not running (any more).
    #[error("host `{name}` is not running; `mose lab up` starts it again")]
    HostDown {
        /// The host's name.
        name: String,
    },
    /// No workload has this name.
    #[error("there is no workload `{name}`; the workloads are {known}")]
    UnknownService {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No software that is tried has this name.
    #[error("there is no software `{name}` to try; there is {known}")]
    UnknownSoftware {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// What was tried did not do what it should.
    #[error("{what}: {why}")]
    Trial {
        /// What was being done.
        what: String,
        /// What came of it instead.
        why: String,
    },
    /// No client belongs to this workload.
    #[error("there is no client for the workload `{name}`; there is one for {known}")]
    NoClient {
        /// The workload.
        name: String,
        /// The workloads that have one.
        known: String,
    },
    /// A file operation or system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// The reason.
        source: io::Error,
    },
    /// A program we ran failed.
    #[error("{what} failed ({status}): {stderr}\n  the command was: {command}")]
    Command {
        /// What the command was for.
        what: String,
        /// The command line.
        command: String,
        /// Its exit status, in words.
        status: String,
        /// The end of what it printed.
        stderr: String,
    },
    /// A host or one of its daemons did not come up in time.
    #[error("host `{host}`: {what} is not ready after {seconds} s; the end of its log:\n{log}")]
    NotReady {
        /// The host.
        host: String,
        /// The daemon, or what else.
        what: String,
        /// How long it had.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// A guest did not come to its script's end.
    #[error("the guest failed after {seconds} s: {what}; the end of its console:\n{log}")]
    Guest {
        /// How far it came.
        what: &'static str,
        /// How long it ran.
        seconds: u64,
        /// The end of what it said.
        log: String,
    },
    /// Something in a file or an argument makes no sense.
    #[error("{what}: {reason}")]
    Invalid {
        /// What is wrong, with the path or argument.
        what: String,
        /// Why, and what would be right.
        reason: String,
    },
    /// Something outlived `down`.
    #[error("the lab is not gone entirely: {0}")]
    Leftover(String),
}

fn list(missing: &[Missing]) -> String {
    missing.iter().map(|m| format!("\n  - {m}")).collect()
}

/// Attaches what was being done to an I/O error.
pub(crate) trait Context<T> {
    /// Names the operation and the path it was on.
    fn on(self, doing: &str, path: impl AsRef<Path>) -> Result<T, LabError>;
    /// Names the operation.
    fn doing(self, what: &str) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn on(self, doing: &str, path: impl AsRef<Path>) -> Result<T, LabError> {
        self.map_err(|e| LabError::Io {
            what: format!("{doing} {}", path.as_ref().display()),
            source: e.into(),
        })
    }

    fn doing(self, what: &str) -> Result<T, LabError> {
        self.map_err(|e| LabError::Io { what: what.to_owned(), source: e.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_missing_is_told_in_one_message_with_its_remedy() {
        let missing = |what: &str| Missing {
            what: what.into(),
            why: "needed".into(),
            remedy: format!("apt-get install {what}"),
        };
        let text = LabError::Machine(vec![missing("mmdebstrap"), missing("iproute2")]).to_string();
        assert!(text.contains("apt-get install mmdebstrap"), "{text}");
        assert!(text.contains("apt-get install iproute2"), "{text}");
    }
}
