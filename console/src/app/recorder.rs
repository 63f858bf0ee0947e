//! Recordings are written as it happens: what is in the file when the program dies can be replayed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use mose_protocol::Timestamp;
use mose_screen::fleet_event::FleetEvent;
use mose_screen::recording::{Header, Line};

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The file cannot be made.
    #[error("{path} cannot be written: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something cannot be told in JSON.
    #[error("a line cannot be written: {0}")]
    Line(#[from] serde_json::Error),
}

/// A recording that is being written.
pub struct Recorder {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Recorder {
    /// Begins a recording in a file that is not there yet.
    ///
    /// # Errors
    /// Where the file cannot be made, or is there: a recording is never written over.
    pub fn create(path: &Path, source: &str, now: Timestamp) -> Result<Self, RecorderError> {
        let fail = |source| RecorderError::File { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        let file = File::create_new(path).map_err(fail)?;
        let mut recorder = Self { path: path.to_owned(), out: BufWriter::new(file) };
        recorder.write(&Header::new(now, source.to_owned()))?;
        Ok(recorder)
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down what came.
    ///
    /// # Errors
    /// Where the file cannot be written, as on a full disk.
    pub fn note(&mut self, at: Timestamp, event: &FleetEvent) -> Result<(), RecorderError> {
        self.write(&Line { at, event: event.clone() })
    }

    fn write(&mut self, line: &impl serde::Serialize) -> Result<(), RecorderError> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let written = self.out.write_all(&text).and_then(|()| self.out.flush());
        written.map_err(|source| RecorderError::File { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mose_screen::recording::Recording;

    #[test]
    fn what_is_recorded_is_read_back_and_nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/one.ndjson");
        let mut recorder = Recorder::create(&path, "test", Timestamp(1)).unwrap();
        recorder.note(Timestamp(2), &FleetEvent::Seen("edge-a".parse().unwrap())).unwrap();
        let recording = Recording::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(recording.lines.len(), 1);
        assert!(Recorder::create(&path, "test", Timestamp(3)).is_err());
    }
}
