//! Recordings: what came from the agents, with its times, one JSON line each. A bug report is such a file.

use std::collections::BTreeMap;

use mose_protocol::envelope::{OLDEST_READ, PROTOCOL_VERSION};
use mose_protocol::{HostName, MigrationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fleet_event::FleetEvent;

/// The first line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Says that it is one, and of which form.
    pub mose_recording: u32,
    /// The protocol's version.
    pub protocol: u32,
    /// The release that wrote it.
    pub release: String,
    /// When it begins, on the console's clock.
    pub begun: Timestamp,
    /// Where it comes from, for people.
    pub source: String,
}

/// The form that this release writes.
pub const FORM: u32 = 1;

impl Header {
    /// The header of a recording that begins now.
    #[must_use]
    pub fn new(begun: Timestamp, source: String) -> Self {
        let release = env!("CARGO_PKG_VERSION").to_owned();
        Self { mose_recording: FORM, protocol: PROTOCOL_VERSION, release, begun, source }
    }
}

/// A line after the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When it came, on the console's clock.
    pub at: Timestamp,
    /// What.
    pub event: FleetEvent,
}

/// Why a text is no recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The first line says nothing of the kind.
    #[error(
        "line 1 is no head of a recording: {0}; a recording is written by `mose record` or by the console"
    )]
    NoHeader(serde_json::Error),
    /// Another form.
    #[error(
        "the recording is of form {found}, and this release reads form {FORM}: replay it with the release that wrote it"
    )]
    OtherForm {
        /// What it says.
        found: u32,
    },
    /// Another protocol.
    #[error(
        "the recording speaks protocol {found}, and this release reads {OLDEST_READ} to {PROTOCOL_VERSION}: replay it with the \
         release that wrote it ({release})"
    )]
    OtherProtocol {
        /// What it says.
        found: u32,
        /// The release that wrote it.
        release: String,
    },
    /// A line that cannot be read; the last may be cut short.
    #[error("line {line}: {source}")]
    Line {
        /// Which, from 1 on.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// There is nothing in it.
    #[error("the recording is empty: nothing was heard while it ran")]
    Empty,
}

/// A whole recording, in order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Its head.
    pub header: Header,
    /// What came, in order.
    pub lines: Vec<Line>,
}

impl Recording {
    /// Reads a recording. A last line that was cut short, as by a crash, is left out.
    ///
    /// # Errors
    /// [`RecordingError`], with the line.
    pub fn parse(text: &str) -> Result<Self, RecordingError> {
        let mut rows = text.lines().enumerate().filter(|(_, row)| !row.trim().is_empty());
        let first = rows.next().map_or("", |(_, row)| row);
        let header: Header = serde_json::from_str(first).map_err(RecordingError::NoHeader)?;
        if header.mose_recording != FORM {
            return Err(RecordingError::OtherForm { found: header.mose_recording });
        }
        if !(OLDEST_READ..=PROTOCOL_VERSION).contains(&header.protocol) {
            return Err(RecordingError::OtherProtocol { found: header.protocol, release: header.release });
        }
        let mut lines: Vec<Line> = Vec::new();
        let whole = text.ends_with('\n');
        let mut rows = rows.peekable();
        while let Some((number, row)) = rows.next() {
            match serde_json::from_str(row) {
                Ok(line) => lines.push(line),
                Err(_) if !whole && rows.peek().is_none() => {}
                Err(source) => return Err(RecordingError::Line { line: number + 1, source }),
            }
        }
        if lines.is_empty() {
            return Err(RecordingError::Empty);
        }
        Ok(Self { header, lines: in_order(lines) })
    }

    /// Its first and its last moment.
    #[must_use]
    pub fn span(&self) -> (Timestamp, Timestamp) {
        let at = |line: Option<&Line>| line.map_or(self.header.begun, |line| line.at);
        (at(self.lines.first()).min(self.header.begun), at(self.lines.last()))
    }

    /// The lines after `from` up to `to`.
    #[must_use]
    pub fn between(&self, from: Timestamp, to: Timestamp) -> &[Line] {
        let begin = self.lines.partition_point(|line| line.at <= from);
        let end = self.lines.partition_point(|line| line.at <= to);
        self.lines.get(begin..end).unwrap_or_default()
    }
}

/// Lines in order of time. Steps that came late, as those of a migration that was under way when the recording began, come no
/// later than those that they were before.
fn in_order(lines: Vec<Line>) -> Vec<Line> {
    let mut steps: BTreeMap<(MigrationId, HostName), BTreeMap<u64, Line>> = BTreeMap::new();
    let mut others = Vec::new();
    for line in lines {
        let FleetEvent::Step(event) = &line.event else {
            others.push(line);
            continue;
        };
        let (key, seq, at) = ((event.migration.clone(), event.host.clone()), event.seq, line.at);
        // The first time that it came counts.
        let known = steps.entry(key).or_default().entry(seq).or_insert(line);
        known.at = known.at.min(at);
    }
    let mut all: Vec<Line> = Vec::new();
    for of in steps.into_values() {
        let mut before: Option<Timestamp> = None;
        let mut rows: Vec<Line> = of.into_values().rev().collect();
        for line in &mut rows {
            line.at = before.map_or(line.at, |next| line.at.min(next));
            before = Some(line.at);
        }
        all.extend(rows.into_iter().rev());
    }
    // What is said of the hosts comes before what they do.
    others.extend(all);
    others.sort_by_key(|line| line.at);
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(events: &[(u64, &str)]) -> String {
        let mut text = serde_json::to_string(&Header::new(Timestamp(1), "test".into())).unwrap() + "\n";
        for (at, host) in events {
            let line = Line { at: Timestamp(*at), event: FleetEvent::Seen(host.parse().unwrap()) };
            text += &(serde_json::to_string(&line).unwrap() + "\n");
        }
        text
    }

    #[test]
    fn a_recording_is_read_back_and_cut_by_time() {
        let recording = Recording::parse(&text(&[(5, "a"), (3, "b"), (9, "c")])).unwrap();
        assert_eq!(recording.span(), (Timestamp(1), Timestamp(9)));
        let hosts: Vec<_> =
            recording.between(Timestamp(3), Timestamp(9)).iter().map(|line| line.at.0).collect();
        assert_eq!(hosts, [5, 9]);
    }

    #[test]
    fn what_is_no_recording_is_told_with_its_line() {
        assert!(matches!(Recording::parse("hello"), Err(RecordingError::NoHeader(_))));
        assert!(matches!(Recording::parse(&text(&[])), Err(RecordingError::Empty)));
        let broken = text(&[(1, "a"), (2, "b")]).replace("\"at\":1", "\"at\":-1");
        assert!(Recording::parse(&broken).unwrap_err().to_string().starts_with("line 2"));
        let other = text(&[(1, "a")]).replace("\"mose_recording\":1", "\"mose_recording\":7");
        assert!(matches!(Recording::parse(&other), Err(RecordingError::OtherForm { found: 7 })));
        let speaking = |version: u32| {
            text(&[(1, "a")])
                .replace(&format!("\"protocol\":{PROTOCOL_VERSION}"), &format!("\"protocol\":{version}"))
        };
        for version in [OLDEST_READ - 1, PROTOCOL_VERSION + 1] {
            let refused = Recording::parse(&speaking(version));
            assert!(
                matches!(refused, Err(RecordingError::OtherProtocol { found, .. }) if found == version),
                "{version}: {refused:?}"
            );
        }
        assert!(Recording::parse(&speaking(OLDEST_READ)).is_ok(), "what an earlier release wrote is read");
    }

    #[test]
    fn steps_that_were_told_late_are_replayed_before_those_that_followed_them() {
        let step = |at: u64, seq: u64, step: &str, phase: &str| {
            let event: FleetEvent = serde_json::from_value(serde_json::json!({ "step": {
                "migration": "m1", "seq": seq, "host": "edge-a", "step": step, "phase": phase, "at": seq,
                "bytes": null, "round": null, "detail": null, "task": null
            } }))
            .unwrap();
            Line { at: Timestamp(at), event }
        };
        let seen = Line { at: Timestamp(11), event: FleetEvent::Seen("edge-a".parse().unwrap()) };
        // The recording begins in the midst of a pre-dump; what came before is told later, and again what was seen.
        let lines = vec![
            step(10, 3, "pre-dump", "finished"),
            seen,
            step(12, 4, "iteration", "started"),
            step(20, 0, "prepare", "started"),
            step(20, 1, "prepare", "finished"),
            step(20, 2, "pre-dump", "started"),
            step(21, 3, "pre-dump", "finished"),
            step(22, 4, "iteration", "started"),
            step(30, 5, "iteration", "finished"),
        ];
        let told: Vec<(u64, Option<u64>)> = in_order(lines)
            .iter()
            .map(|line| {
                (line.at.0, if let FleetEvent::Step(event) = &line.event { Some(event.seq) } else { None })
            })
            .collect();
        let step = |at: u64, seq: u64| (at, Some(seq));
        assert_eq!(
            told,
            [step(10, 0), step(10, 1), step(10, 2), step(10, 3), (11, None), step(12, 4), step(30, 5)]
        );
    }

    #[test]
    fn a_last_line_that_was_cut_short_is_left_out() {
        let whole = text(&[(1, "a"), (2, "b")]);
        let cut = &whole[..whole.len() - 9];
        assert_eq!(Recording::parse(cut).unwrap().lines.len(), 1);
    }
}
