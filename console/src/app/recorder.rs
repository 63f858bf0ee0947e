//! Recordings are written as it happens, by a thread of their own: what is in the file when the program dies can be replayed, and
//! a disk that is slow holds nobody up.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mose_protocol::Timestamp;
use mose_screen::fleet_event::FleetEvent;
use mose_screen::recording::{Header, Line};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Lines that wait to be written, at most.
const WAITING: usize = 4096;
/// How long is waited at the end until all is written.
const ENDING: Duration = Duration::from_secs(2);

/// Why something is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The file cannot be made, or not be written.
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
    /// More happens than is written.
    #[error("{path} is written too slowly: {WAITING} lines wait already, and later ones are left out")]
    Slow {
        /// Which.
        path: PathBuf,
    },
    /// What waits was not written in time at the end.
    #[error("{path} is incomplete: it was not written within {ENDING:?}")]
    Late {
        /// Which.
        path: PathBuf,
    },
}

/// A recording that is being written.
pub struct Recorder {
    path: PathBuf,
    /// `None` once it was broken off.
    lines: Option<mpsc::Sender<Line>>,
    failed: oneshot::Receiver<RecorderError>,
    writing: JoinHandle<()>,
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
        let mut out = Out { path: path.to_owned(), out: BufWriter::new(file) };
        out.write(&Header::new(now, source.to_owned()))?;
        out.flush()?;
        Ok(Self::begin(path, move |lines| out.write_all(lines)))
    }

    /// Has a thread write what comes.
    fn begin(
        path: &Path,
        write: impl FnOnce(&mut mpsc::Receiver<Line>) -> Result<(), RecorderError> + Send + 'static,
    ) -> Self {
        let (lines, mut waiting) = mpsc::channel(WAITING);
        let (failing, failed) = oneshot::channel();
        let writing = tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&mut waiting) {
                // Told before the channel is closed. Where nobody asks any more, nobody wants to know.
                let _ = failing.send(error);
            }
        });
        Self { path: path.to_owned(), lines: Some(lines), failed, writing }
    }

    /// Whether it takes no more, as was told.
    #[must_use]
    pub const fn is_broken_off(&self) -> bool {
        self.lines.is_none()
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has it written down what came. Waits for nothing; one that was broken off takes no more.
    ///
    /// # Errors
    /// Where the file could not be written, as on a full disk, or is written too slowly: the recording is broken off then, and this
    /// is told once.
    pub fn note(&mut self, at: Timestamp, event: &FleetEvent) -> Result<(), RecorderError> {
        let Some(lines) = &self.lines else { return Ok(()) };
        match lines.try_send(Line { at, event: event.clone() }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.lines = None;
                Err(RecorderError::Slow { path: self.path.clone() })
            }
            Err(TrySendError::Closed(_)) => self.broken(),
        }
    }

    /// As [`Recorder::note`], but waits where more happens than is written.
    ///
    /// # Errors
    /// Where the file could not be written.
    pub async fn note_in_time(&mut self, at: Timestamp, event: &FleetEvent) -> Result<(), RecorderError> {
        let Some(lines) = &self.lines else { return Ok(()) };
        match lines.send(Line { at, event: event.clone() }).await {
            Ok(()) => Ok(()),
            Err(_) => self.broken(),
        }
    }

    /// Why the writing ended before its time; told once.
    fn broken(&mut self) -> Result<(), RecorderError> {
        self.lines = None;
        self.failed.try_recv().map_or(Ok(()), Err)
    }

    /// Ends it: returns when all that came is written.
    ///
    /// # Errors
    /// Where it could not be written, and that was not told yet, or takes too long.
    pub async fn end(mut self) -> Result<(), RecorderError> {
        // The thread writes what waits, then ends.
        self.lines = None;
        match tokio::time::timeout(ENDING, &mut self.writing).await {
            Ok(_) => self.broken(),
            Err(_) => Err(RecorderError::Late { path: self.path }),
        }
    }
}

/// The file.
struct Out {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Out {
    /// Writes what comes until nobody sends any more; out of the program as soon as nothing waits.
    fn write_all(mut self, lines: &mut mpsc::Receiver<Line>) -> Result<(), RecorderError> {
        while let Some(line) = lines.blocking_recv() {
            self.write(&line)?;
            if lines.is_empty() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn write(&mut self, line: &impl serde::Serialize) -> Result<(), RecorderError> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.out.write_all(&text).map_err(|source| self.fail(source))
    }

    fn flush(&mut self) -> Result<(), RecorderError> {
        self.out.flush().map_err(|source| self.fail(source))
    }

    fn fail(&self, source: std::io::Error) -> RecorderError {
        RecorderError::File { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mose_screen::recording::Recording;

    fn seen() -> FleetEvent {
        FleetEvent::Seen("edge-a".parse().unwrap())
    }

    #[tokio::test]
    async fn all_that_is_recorded_is_read_back_and_nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/one.ndjson");
        let mut recorder = Recorder::create(&path, "test", Timestamp(1)).unwrap();
        for at in 2..1002 {
            recorder.note(Timestamp(at), &seen()).unwrap();
        }
        recorder.end().await.unwrap();
        let recording = Recording::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(recording.lines.len(), 1000);
        assert!(Recorder::create(&path, "test", Timestamp(3)).is_err());
    }

    #[tokio::test]
    async fn a_full_disk_is_told_once_and_breaks_it_off() {
        let mut recorder = Recorder::begin(Path::new("full"), |lines| {
            lines.blocking_recv();
            let source = std::io::ErrorKind::StorageFull.into();
            Err(RecorderError::File { path: "full".into(), source })
        });
        let told = loop {
            if let Err(error) = recorder.note(Timestamp(2), &seen()) {
                break error.to_string();
            }
            tokio::task::yield_now().await;
        };
        assert!(told.starts_with("full cannot be written"), "{told}");
        recorder.note(Timestamp(3), &seen()).unwrap();
        recorder.end().await.unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_is_too_slow_breaks_it_off_and_what_waits_is_written() {
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let (count, counted) = std::sync::mpsc::channel();
        let mut recorder = Recorder::begin(Path::new("slow"), move |lines| {
            let _ = held.recv();
            let mut written = 0;
            while lines.blocking_recv().is_some() {
                written += 1;
            }
            count.send(written).unwrap();
            Ok(())
        });
        for at in 0..WAITING as u64 {
            recorder.note(Timestamp(at), &seen()).unwrap();
        }
        let told = recorder.note(Timestamp(9), &seen()).unwrap_err();
        assert!(matches!(told, RecorderError::Slow { .. }), "{told}");
        recorder.note(Timestamp(9), &seen()).unwrap();
        go_on.send(()).unwrap();
        recorder.end().await.unwrap();
        assert_eq!(counted.recv().unwrap(), WAITING);
    }
}
