//! Why something was not done: the thing, the reason, the remedy.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

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
    /// The operator aborted it: nothing failed.
    Aborted,
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
    /// The end of CRIU's own log, where CRIU had a part in it: at most [`LONGEST_LOG`] bytes, whole lines, without control
    /// characters, whoever sent it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "log_as_carried")]
    pub log: Option<String>,
}

/// The most of CRIU's log that a refusal carries, in bytes.
pub const LONGEST_LOG: usize = 8 << 10;

impl Refusal {
    /// A refusal of kind `code`.
    pub fn new(code: RefusalCode, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), remedy: remedy.into(), log: None }
    }

    /// The same with the end of CRIU's log, as much of it as is carried.
    #[must_use]
    pub fn with_log(mut self, log: Option<&str>) -> Self {
        self.log = log.map(as_carried).filter(|log| !log.is_empty());
        self
    }
}

/// A log as a refusal carries it.
fn as_carried(log: &str) -> String {
    end_of(log).chars().filter(|char| *char == '\n' || !char.is_control()).collect()
}

fn log_as_carried<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let log = Option::<String>::deserialize(deserializer)?;
    Ok(log.as_deref().map(as_carried))
}

/// The last whole lines of a text that there is room for.
fn end_of(log: &str) -> &str {
    let log = log.trim_end();
    let Some(over) = log.len().checked_sub(LONGEST_LOG).filter(|over| *over > 0) else { return log };
    let from = |begin: usize| (begin..).find_map(|begin| log.get(begin..)).unwrap_or_default();
    // From the byte before on: a line that begins right behind it is whole.
    from(over - 1).split_once('\n').map_or_else(|| from(over), |(_, lines)| lines)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_too_long_is_carried_from_its_last_lines_on() {
        let refusal = || Refusal::new(RefusalCode::Engine, "the dump failed", "");
        assert_eq!(refusal().with_log(Some("one\ntwo\n")).log.as_deref(), Some("one\ntwo"));
        assert_eq!(refusal().with_log(Some("\n")).log, None);
        let long = "ö line of CRIU's log\n".repeat(2000);
        let kept = refusal().with_log(Some(&long)).log.unwrap();
        assert!(kept.len() <= LONGEST_LOG && kept.len() > LONGEST_LOG - 50, "{}", kept.len());
        assert!(kept.lines().all(|line| line == "ö line of CRIU's log"));
        // What fits is carried whole, and a line that begins where the room does too.
        let line = "x".repeat(63) + "\n";
        let full = line.repeat(LONGEST_LOG / 64 - 1) + &"y".repeat(64);
        assert_eq!(refusal().with_log(Some(&full)).log.as_ref(), Some(&full));
        assert_eq!(refusal().with_log(Some(&format!("{line}{full}"))).log.as_ref(), Some(&full));
        assert_eq!(refusal().with_log(Some(&"z".repeat(9000))).log.unwrap().len(), LONGEST_LOG);
        // Nor does a peer make it longer, or talk to the terminal.
        let sent = serde_json::json!({
            "code": "failed", "reason": "", "remedy": "", "log": format!("{long}\u{1b}[2Jend")
        });
        let log = serde_json::from_value::<Refusal>(sent).unwrap().log.unwrap();
        assert!(log.len() <= LONGEST_LOG && log.ends_with("\n[2Jend"), "{log}");
    }

    #[test]
    fn a_refusal_of_a_release_that_sends_no_log_is_read() {
        let text = r#"{"code":"failed","reason":"it broke","remedy":"mend it"}"#;
        let refusal: Refusal = serde_json::from_str(text).unwrap();
        assert_eq!(refusal, Refusal::new(RefusalCode::Failed, "it broke", "mend it"));
        assert_eq!(serde_json::to_string(&refusal).unwrap(), text);
    }
}
