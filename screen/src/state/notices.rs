//! What happened that one should know, newest last, each once.

use std::collections::VecDeque;

use mose_protocol::Timestamp;

/// How many are kept.
const KEPT: usize = 500;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Info,
    /// It worked, but.
    Warning,
    /// It did not work.
    Error,
}

impl Level {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warn",
            Self::Error => "error",
        }
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// When it was last so.
    pub at: Timestamp,
    /// How bad.
    pub level: Level,
    /// What.
    pub text: String,
    /// How often in a row.
    pub times: u32,
    /// Whether the theatre shows it too, in an audience's words.
    pub staged: bool,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notices {
    kept: VecDeque<Notice>,
    /// The newest is shown in the footer until then.
    pub fresh_until: Timestamp,
}

/// How long the footer shows a notice, in microseconds.
const FRESH: u64 = 8_000_000;

impl Notices {
    /// Adds one; the same again is counted.
    pub fn say(&mut self, level: Level, text: impl Into<String>, at: Timestamp) {
        self.add(level, text.into(), at, false);
    }

    /// Adds one that goes well and that the theatre shows too.
    pub fn stage(&mut self, text: impl Into<String>, at: Timestamp) {
        self.add(Level::Info, text.into(), at, true);
    }

    fn add(&mut self, level: Level, text: String, at: Timestamp, staged: bool) {
        self.fresh_until = Timestamp(at.0 + FRESH);
        if let Some(last) = self.kept.back_mut().filter(|last| last.text == text) {
            (last.at, last.times) = (at, last.times + 1);
            return;
        }
        self.kept.push_back(Notice { at, level, text, times: 1, staged });
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }

    /// All of them, oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Notice> + ExactSizeIterator {
        self.kept.iter()
    }

    /// The newest, while it is fresh.
    #[must_use]
    pub fn fresh(&self, now: Timestamp) -> Option<&Notice> {
        self.kept.back().filter(|_| now < self.fresh_until)
    }

    /// The newest is read.
    pub fn dismiss(&mut self) {
        self.fresh_until = Timestamp(0);
    }
}
