//! The records of the migrations that this host was the source of, kept across restarts.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mose_protocol::MigrationId;
use mose_protocol::record::Record;
use parking_lot::Mutex;

/// How many records are kept.
const KEPT: usize = 1000;

/// The most of CRIU's logs in a list of records, in bytes.
const LOGS: usize = 1 << 20;

/// The records, oldest first; on disk as a JSON line each.
pub struct History {
    path: PathBuf,
    records: Mutex<Vec<Record>>,
    writing: tokio::sync::Mutex<()>,
}

impl History {
    /// Reads what `folder` holds; a line that cannot be read is skipped with a warning.
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        let path = folder.join("history.ndjson");
        let mut records: Vec<Record> = Vec::new();
        if let Ok(file) = fs::File::open(&path) {
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                match serde_json::from_str::<Record>(&line) {
                    Ok(record) => put(&mut records, record.as_told_now()),
                    Err(error) => tracing::warn!(%error, "a line of the history cannot be read"),
                }
            }
        }
        Self { path, records: Mutex::new(records), writing: tokio::sync::Mutex::default() }
    }

    /// Adds a record, or replaces the one of the same migration.
    pub async fn add(&self, record: Record) {
        let line = serde_json::to_string(&record);
        put(&mut self.records.lock(), record);
        // Of two that are added, the later one is the later line.
        let _turn = self.writing.lock().await;
        let path = self.path.clone();
        let write = move || {
            let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            writeln!(file, "{}", line?)
        };
        if let Err(error) = tokio::task::spawn_blocking(write).await.unwrap_or_else(|lost| Err(lost.into())) {
            tracing::error!(history = %self.path.display(), %error, "a record is not on disk");
        }
    }

    /// The newest records, at most `count`, newest first. Of CRIU's logs no more than [`LOGS`] bytes in all, those of the newest:
    /// many together would be more than a message carries. [`History::get`] has each.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Record> {
        let records = self.records.lock();
        let mut left = LOGS;
        let mut newest: Vec<Record> = records.iter().rev().take(count).cloned().collect();
        for refusal in newest.iter_mut().filter_map(|record| record.reason.as_mut()) {
            let length = refusal.log.as_ref().map_or(0, String::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => refusal.log = None,
            }
        }
        newest
    }

    /// The record of one migration.
    #[must_use]
    pub fn get(&self, migration: &MigrationId) -> Option<Record> {
        let records = self.records.lock();
        records.iter().rev().find(|record| &record.migration == migration).cloned()
    }
}

fn put(records: &mut Vec<Record>, record: Record) {
    if let Some(old) = records.iter_mut().find(|old| old.migration == record.migration) {
        *old = record;
        return;
    }
    records.push(record);
    if records.len() > KEPT {
        records.remove(0);
    }
}
