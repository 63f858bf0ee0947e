//! What an agent finds when it looks at its own host for what usually breaks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most checks of one answer.
pub const MAX_CHECKS: usize = 64;

/// The longest text of a check, in bytes.
pub const MAX_TEXT: usize = 1024;

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// It is as it should be.
    Ok,
    /// It is not, and something else will be used instead.
    Fallback,
    /// It is not, and migrations fail by it.
    Broken,
    /// It could not be checked, or a later release says something that this one does not know.
    #[serde(other)]
    Unknown,
}

impl CheckState {
    /// The name that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fallback => "fallback",
            Self::Unknown => "unknown",
            Self::Broken => "broken",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// What it came to.
    pub state: CheckState,
    /// What was found; where nothing could be, why not.
    pub found: String,
    /// What will be used instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// What the operator can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn new(what: &str, state: CheckState, found: &str) -> Self {
        Self { what: plain(what), state, found: plain(found), fallback: None, remedy: None }
    }

    /// It is as it should be.
    #[must_use]
    pub fn ok(what: &str, found: impl AsRef<str>) -> Self {
        Self::new(what, CheckState::Ok, found.as_ref())
    }

    /// It is not, and `fallback` will be used.
    #[must_use]
    pub fn fallback(
        what: &str,
        found: impl AsRef<str>,
        fallback: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) -> Self {
        Self {
            fallback: Some(plain(fallback.as_ref())),
            remedy: Some(plain(remedy.as_ref())),
            ..Self::new(what, CheckState::Fallback, found.as_ref())
        }
    }

    /// It is not, and migrations fail by it.
    #[must_use]
    pub fn broken(what: &str, found: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self { remedy: Some(plain(remedy.as_ref())), ..Self::new(what, CheckState::Broken, found.as_ref()) }
    }

    /// It could not be checked, for that reason.
    #[must_use]
    pub fn unknown(what: &str, reason: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self { remedy: Some(plain(remedy.as_ref())), ..Self::new(what, CheckState::Unknown, reason.as_ref()) }
    }

    /// It could not be checked within that time.
    #[must_use]
    pub fn late(what: &str, limit: Duration) -> Self {
        Self::unknown(
            what,
            format!("no answer within {limit:?}"),
            "look at the agent's log, and whether that host is overloaded; then ask again",
        )
    }
}

/// Checks as they may be sent and shown, whoever made them: at most [`MAX_CHECKS`], no text longer than [`MAX_TEXT`] or with
/// control characters. What is left out is said.
#[must_use]
pub fn bounded(mut checks: Vec<Check>) -> Vec<Check> {
    if checks.len() > MAX_CHECKS {
        let left_out = checks.len() - (MAX_CHECKS - 1);
        checks.truncate(MAX_CHECKS - 1);
        checks.push(Check::unknown(
            "further checks",
            format!("{left_out} are left out"),
            "see the agent's log",
        ));
    }
    for check in &mut checks {
        check.what = plain(&check.what);
        check.found = plain(&check.found);
        check.fallback = check.fallback.as_deref().map(plain);
        check.remedy = check.remedy.as_deref().map(plain);
    }
    checks
}

/// A text on one line, of a length that people read: much of it is what other programs print.
pub(crate) fn plain(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        if line.len() + word.len() > MAX_TEXT - 4 {
            let room = (MAX_TEXT - 4).saturating_sub(line.len());
            line.extend(word.char_indices().take_while(|(at, c)| at + c.len_utf8() <= room).map(|(_, c)| c));
            line.push('…');
            break;
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_release_says_is_unknown_and_never_ok() {
        let text = r#"{"what":"x","state":"splendid","found":"y"}"#;
        assert_eq!(serde_json::from_str::<Check>(text).unwrap().state, CheckState::Unknown);
    }

    #[test]
    fn texts_of_other_programs_are_cut_to_a_line_that_can_be_shown() {
        let check = Check::ok("CRIU", format!("\x1b[31mred\n  {}", "é".repeat(MAX_TEXT)));
        assert!(check.found.starts_with("[31mred éé"), "{}", check.found);
        assert!(check.found.len() <= MAX_TEXT && check.found.ends_with('…'));
    }

    #[test]
    fn an_answer_is_bounded_and_says_what_it_lacks() {
        let many = vec![Check { found: "a\u{7}b".into(), ..Check::ok("x", "") }; MAX_CHECKS + 5];
        let bounded = bounded(many);
        assert_eq!(bounded.len(), MAX_CHECKS);
        assert_eq!(bounded[0].found, "a b");
        let last = bounded.last().unwrap();
        assert_eq!((last.state, last.found.as_str()), (CheckState::Unknown, "6 are left out"));
    }
}
