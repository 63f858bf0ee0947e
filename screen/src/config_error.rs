//! What is wrong with a file that an operator wrote: the place, the reason, the remedy. Config, keymap, layouts and themes are
//! read through [`Source`], so that all of them say it in the same way.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;

/// A place in a file; both are counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{at}: {reason}{}: {remedy}", self.other.map(|at| format!(" (first at {file}:{at})")).unwrap_or_default())]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: String,
    /// Where in it.
    pub at: Position,
    /// What is wrong.
    pub reason: String,
    /// The other place in the same file, where two do not go together.
    pub other: Option<Position>,
    /// What to do about it.
    pub remedy: String,
}

/// A file's text, and the name by which errors call it.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) text: &'a str,
    pub(crate) path: &'a str,
}

impl<'a> Source<'a> {
    pub(crate) const fn new(text: &'a str, path: &'a str) -> Self {
        Self { text, path }
    }

    /// The file's name without folder and ending.
    pub(crate) fn name(&self) -> String {
        Path::new(self.path).file_stem().map_or(self.path.into(), |stem| stem.to_string_lossy()).into_owned()
    }

    /// Where `offset` is, in bytes from the begin of the text.
    fn position(&self, offset: usize) -> Position {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        Position { line, column }
    }

    pub(crate) fn error(
        &self,
        span: Range<usize>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            file: self.path.to_owned(),
            at: self.position(span.start),
            reason: reason.into(),
            other: None,
            remedy: remedy.into(),
        }
    }

    /// Two places that do not go together; `span` is the later one.
    pub(crate) fn conflict(
        &self,
        span: Range<usize>,
        first: Range<usize>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError { other: Some(self.position(first.start)), ..self.error(span, reason, remedy) }
    }

    /// A name that is none of the known ones.
    pub(crate) fn unknown<'k>(
        &self,
        span: Range<usize>,
        kind: &str,
        written: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> ConfigError {
        let known: Vec<&str> = known.into_iter().collect();
        self.error(span, format!("there is no {kind} `{written}`"), suggest(written, &known))
    }

    /// The whole file as a `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(self.text).map_err(|error| self.explain(&error))
    }

    /// What the parser said. Names that serde did not know stand in backquotes, the wrong one first.
    fn explain(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().replace('\n', "; ");
        let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        if let Some((written, known)) = names.split_first() {
            if message.starts_with("unknown field") {
                return self.unknown(span, "setting", written, known.iter().copied());
            }
            if message.starts_with("unknown variant") {
                return self.error(span, format!("`{written}` is not known here"), suggest(written, known));
            }
            if message.starts_with("missing field") {
                return self.error(span, format!("the setting `{written}` is missing"), "add it");
            }
        }
        let remedy = if message.starts_with("duplicate key") {
            "keep one of the two"
        } else if message.starts_with("invalid type") {
            "write a value of that kind"
        } else {
            "correct this line"
        };
        self.error(span, message, remedy)
    }
}

/// Which of the known names may have been meant.
pub(crate) fn suggest(written: &str, known: &[&str]) -> String {
    const LISTED: usize = 12;
    let lower = written.to_lowercase();
    let mut by_likeness: Vec<(f64, &str)> =
        known.iter().map(|&name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name)).collect();
    by_likeness.sort_by(|a, b| b.0.total_cmp(&a.0));
    match by_likeness.first() {
        None => "remove it: nothing is known here".to_owned(),
        Some((likeness, name)) if *likeness > 0.8 => format!("did you mean `{name}`?"),
        Some(_) => {
            let shown: Vec<String> = known.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
            let rest = known.len() - shown.len();
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            format!("known here: {}{more}", shown.join(", "))
        }
    }
}

/// What was read of a file that comes with the program.
#[expect(clippy::panic, reason = "the texts are part of the program, and tests read each of them")]
pub(crate) fn built_in<T>(read: Result<T, ConfigError>) -> T {
    match read {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read to see what cannot be")]
    struct Example {
        colour: String,
        #[serde(default)]
        size: u16,
    }

    fn fault(text: &str) -> String {
        Source::new(text, "x.toml").read::<Example>().unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_a_remedy() {
        assert_eq!(
            fault("colour = 'ä'\nsise = 3"),
            "x.toml:2:1: there is no setting `sise`: did you mean `size`?"
        );
        assert_eq!(
            fault("colour = 'a'\nfrequency = 3"),
            "x.toml:2:1: there is no setting `frequency`: known here: `colour`, `size`"
        );
        assert_eq!(fault("size = 3"), "x.toml:1:1: the setting `colour` is missing: add it");
        let kind = fault("colour = 'ä'; size = 3");
        assert!(kind.starts_with("x.toml:1:13: "), "{kind}");
        let kind = fault("colour = 3");
        assert!(kind.starts_with("x.toml:1:10: invalid type: integer"), "{kind}");
        let twice = fault("colour = 'a'\ncolour = 'b'");
        assert!(
            twice.starts_with("x.toml:2:1: duplicate key") && twice.ends_with("keep one of the two"),
            "{twice}"
        );
        let large = fault("colour = 'a'\nsize = 70000");
        assert!(large.starts_with("x.toml:2:8: "), "{large}");
    }

    #[test]
    fn a_place_is_found_in_any_text() {
        let source = Source::new("ä\nbö", "x");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(1), Position { line: 1, column: 1 });
        assert_eq!(source.position(4), Position { line: 2, column: 2 });
        assert_eq!(source.position(99), Position { line: 2, column: 3 });
    }
}
