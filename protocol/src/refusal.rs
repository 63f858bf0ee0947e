//! Why something was not done: the thing, the reason, the remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of refusal it is, for programs; people read the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// The message's protocol version is not spoken here.
    Version,
    /// The message was too large or could not be read.
    Malformed,
    /// No such host among the live agents.
    UnknownHost,
    /// The host runs no container of that name.
    UnknownService,
    /// Source and destination are the same.
    SameHost,
    /// The container is there but does not run.
    NotRunning,
    /// The container cannot be moved as it is.
    Unmovable,
    /// The destination lacks the container's image and may not be sent it.
    ImageMissing,
    /// The container engine does not answer.
    Engine,
    /// The overlay network does not answer or does not fit.
    Overlay,
    /// Another migration of the same service is under way, or its name is taken at the destination.
    Conflict,
    /// The peer lacks a capability that the task needs.
    Capability,
    /// The peer did not answer in time.
    Unreachable,
    /// The message does not fit the state of the migration that it names.
    OutOfTurn,
    /// No plan meets the targets, and only one that does was wanted.
    Targets,
    /// Something failed on the way that no other code names.
    Failed,
}

/// A request that was not carried out, and left nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refusal {
    /// What kind it is.
    pub code: RefusalCode,
    /// The thing and the reason, as a sentence without its full stop.
    pub reason: String,
    /// What the operator can do about it.
    pub remedy: String,
}

impl Refusal {
    /// A refusal of kind `code`.
    pub fn new(code: RefusalCode, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.remedy.is_empty() {
            write!(f, " — {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
