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

/// The most times of answers around clients' gaps in a list of records: 200 KB or so.
const ANSWERS: usize = 20_000;

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
        let migration = record.migration.clone();
        put(&mut self.records.lock(), record);
        self.write(&migration).await;
    }

    /// Changes the record of a migration, unless `change` says that there is nothing to change; what it is then.
    pub async fn amend(
        &self,
        migration: &MigrationId,
        change: impl FnOnce(&Record) -> Option<Record>,
    ) -> Option<Record> {
        let amended = {
            let mut records = self.records.lock();
            let amended = change(records.iter().rev().find(|record| &record.migration == migration)?)?;
            put(&mut records, amended.clone());
            amended
        };
        self.write(migration).await;
        Some(amended)
    }

    async fn write(&self, migration: &MigrationId) {
        // Two may change one record at a time: the second one starts from what the first one wrote.
        let _turn = self.writing.lock().await;
        let Some(record) = self.get(migration) else { return };
        let line = serde_json::to_string(&record);
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
    /// many together would be more than a message carries. Of the answers around clients' gaps [`ANSWERS`], likewise. [`History::get`]
    /// has each.
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
        let mut left = ANSWERS;
        for client in newest.iter_mut().flat_map(|record| &mut record.downtime.clients) {
            match left.checked_sub(client.answers_ms.len()) {
                Some(rest) => left = rest,
                None => client.answers_ms.clear(),
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

#[cfg(test)]
mod tests {
    use mose_pam::{Bytes, Metres, Millis, Plan};
    use mose_protocol::Timestamp;
    use mose_protocol::flight::{FlightError, FlightReport};
    use mose_protocol::record::{ClientGap, Downtime, MOST_ANSWERS, Outcome};

    use super::*;

    fn record(migration: &str) -> Record {
        Record {
            migration: migration.parse().unwrap(),
            simulated: false,
            by_hand: false,
            rehearsal: None,
            service: "autopilot".parse().unwrap(),
            from: "a".parse().unwrap(),
            to: "b".parse().unwrap(),
            plan: Plan::cold(),
            transport: None,
            started_at: Timestamp(1_000_000),
            duration: Millis(900.0),
            outcome: Outcome::Done,
            reason: None,
            image: Bytes(7),
            downtime: Downtime::default(),
            forecast: None,
            flights: Vec::new(),
            rounds: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn with_flight(record: &Record) -> Record {
        let worst = FlightError { deviation_m: Metres(0.31), cross_track_m: Some(Metres(0.12)) };
        let host = "uav".parse().unwrap();
        let report = FlightReport { host, worst, undisturbed: None, watched_ms: Millis(9000.0) };
        Record { flights: vec![report], ..record.clone() }
    }

    #[tokio::test]
    async fn what_is_amended_survives_a_restart_whatever_else_is_written_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path());
        history.add(record("m1")).await;
        history.add(record("m2")).await;
        let id: MigrationId = "m1".parse().unwrap();
        let reason = mose_protocol::Refusal::new(mose_protocol::RefusalCode::Failed, "late", "");
        let (amended, righted, _) = futures_util::join!(
            history.amend(&id, |record| Some(with_flight(record))),
            history.amend(&id, |record| Some(Record { reason: Some(reason.clone()), ..record.clone() })),
            history.add(record("m3")),
        );
        assert!(amended.is_some() && righted.is_some());
        let expected = Record { reason: Some(reason), ..with_flight(&record("m1")) };
        assert_eq!(history.get(&id), Some(expected.clone()));
        let again = History::open(folder.path());
        assert_eq!(again.newest(9), [record("m3"), record("m2"), expected], "each once, and in their order");
    }

    #[tokio::test]
    async fn where_nothing_is_to_be_amended_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path());
        let id: MigrationId = "m1".parse().unwrap();
        assert_eq!(history.amend(&id, |record| Some(record.clone())).await, None, "there is no such record");
        history.add(record("m1")).await;
        let file = folder.path().join("history.ndjson");
        let before = fs::read(&file).unwrap();
        assert_eq!(history.amend(&id, |_| None).await, None);
        assert_eq!(fs::read(&file).unwrap(), before);
    }

    #[tokio::test]
    async fn a_list_of_records_holds_no_more_answers_than_a_message_carries() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path());
        let each = 2 * MOST_ANSWERS;
        for number in 0..ANSWERS / each + 10 {
            let mut record = record(&format!("m{number}"));
            record.downtime.clients.push(ClientGap {
                host: "uav".parse().unwrap(),
                gap: None,
                at_least: false,
                note: None,
                asked: 1,
                unanswered: 0,
                packets: 9,
                resets: 0,
                accepted: 0,
                answers_ms: vec![Millis(1.0); each],
            });
            put(&mut history.records.lock(), record);
        }
        let newest = history.newest(1000);
        let answers: Vec<usize> =
            newest.iter().map(|record| record.downtime.clients[0].answers_ms.len()).collect();
        assert_eq!(answers.iter().sum::<usize>(), ANSWERS);
        assert_eq!((answers[0], answers[answers.len() - 1]), (each, 0), "the newest have theirs");
        assert_eq!(history.get(&"m0".parse().unwrap()).unwrap().downtime.clients[0].answers_ms.len(), each);
    }
}
