//! The journals of the hand-overs: what an agent must still know when it comes back from the dead.
//!
//! One file per migration and side, a JSON line per change of state, each on disk (fdatasync) before the state is
//! acted on. The first line holds what the migration is about; the last whole one tells where it stands.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mose_engine::Container;
use mose_protocol::handover::{HandoverState, Place, Prepare, Task};
use mose_protocol::{MigrationId, Refusal, RefusalCode, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The largest journal that is read, in bytes.
const MAX_JOURNAL: u64 = 8 << 20;

/// What the source's side is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The order.
    pub task: Task,
    /// The hand-over's epoch.
    pub epoch: u64,
    /// Where the service is on the overlay.
    pub place: Place,
    /// When it began.
    pub started_at: Timestamp,
    /// The volumes that are removed here once the service lives elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// What leaves, so that it can be let go without asking an engine that may hang; not in the journals of older agents.
    #[serde(default)]
    pub container: Option<Container>,
}

pub use mose_handover::SourceState;

/// Where the destination stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestinationState {
    /// What it would say of it.
    #[serde(flatten)]
    pub said: HandoverState,
    /// Whether something of a hand-over that was refused may still be here. Older agents did not say so, nor did they look at their next
    /// start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

/// An open journal. `H` is what it is about, `S` a state.
pub struct Journal<S> {
    path: PathBuf,
    file: File,
    /// How much of the file is whole, in bytes.
    length: u64,
    state: std::marker::PhantomData<fn(S)>,
}

fn refusal(path: &Path, error: &io::Error) -> Refusal {
    Refusal::new(
        RefusalCode::Failed,
        format!("the journal {} cannot be written: {error}", path.display()),
        "give the agent's state folder free space on a writable file system",
    )
}

impl<S: Serialize> Journal<S> {
    /// Begins a journal; on disk, its name included, when this returns.
    fn begin<H: Serialize>(path: PathBuf, head: &H, state: &S) -> Result<Self, Refusal> {
        let open = || -> io::Result<(File, u64)> {
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
            let bytes = lines(&[&serde_json::to_vec(head)?, &serde_json::to_vec(state)?]);
            file.write_all(&bytes)?;
            file.sync_all()?;
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok((file, bytes.len() as u64))
        };
        let (file, length) = open().map_err(|error| refusal(&path, &error))?;
        Ok(Self { path, file, length, state: std::marker::PhantomData })
    }

    /// Adds a state; on disk when this returns.
    ///
    /// # Errors
    /// Where the disk does not take it; the state must then not be acted on, though it may be found at the next start.
    pub fn write(&mut self, state: &S) -> Result<(), Refusal> {
        let write = || -> io::Result<u64> {
            let bytes = lines(&[&serde_json::to_vec(state)?]);
            let end = self.length + bytes.len() as u64;
            self.file.write_all_at(&bytes, self.length)?;
            // What an earlier write left that failed must not come after it.
            self.file.set_len(end)?;
            self.file.sync_data()?;
            Ok(end)
        };
        match write() {
            Ok(end) => {
                self.length = end;
                Ok(())
            }
            Err(error) => {
                let _ = self.file.set_len(self.length);
                Err(refusal(&self.path, &error))
            }
        }
    }

    /// Removes the journal: the hand-over is settled on both sides.
    pub fn close(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(journal = %self.path.display(), %error, "a journal cannot be removed");
        }
    }
}

/// Writes a state down off the async threads; where there is no journal yet, `begin` begins it with that state.
///
/// # Errors
/// As [`Journal::write`], or where there is nothing to begin a journal with.
pub(crate) async fn write_down<S: Serialize + Send + 'static>(
    journal: &mut Option<Journal<S>>,
    state: S,
    begin: Option<impl FnOnce(&S) -> Result<Journal<S>, Refusal> + Send + 'static>,
) -> Result<(), Refusal> {
    let taken = journal.take();
    let write = move || match (taken, begin) {
        (Some(mut journal), _) => {
            let written = journal.write(&state);
            (Some(journal), written)
        }
        (None, Some(begin)) => match begin(&state) {
            Ok(journal) => (Some(journal), Ok(())),
            Err(refusal) => (None, Err(refusal)),
        },
        (None, None) => {
            let reason = "a state came before what it is about was known";
            (None, Err(Refusal::new(RefusalCode::Failed, reason, "report it")))
        }
    };
    let (kept, written) = match tokio::task::spawn_blocking(write).await {
        Ok(done) => done,
        // The panic is the hand-over's: what is on disk by now its next life sees.
        Err(lost) => match lost.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The agent is ending.
            Err(_) => std::future::pending().await,
        },
    };
    *journal = kept;
    written
}

/// Removes a journal, if there is one, off the async threads.
pub(crate) async fn close<S: Serialize + Send + 'static>(journal: &mut Option<Journal<S>>) {
    if let Some(journal) = journal.take()
        && let Err(error) = tokio::task::spawn_blocking(move || journal.close()).await
    {
        tracing::warn!(%error, "a journal may not be removed");
    }
}

fn lines(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part);
        bytes.push(b'\n');
    }
    bytes
}

/// A journal that was found at start.
pub struct Found<H, S> {
    /// What it is about.
    pub head: H,
    /// Where it stood.
    pub state: S,
    /// The journal, to go on with.
    pub journal: Journal<S>,
}

/// The folder of the journals.
#[derive(Debug, Clone)]
pub struct Journals {
    folder: PathBuf,
}

impl Journals {
    /// The journals in `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn open(folder: &Path) -> Result<Self, Refusal> {
        fs::create_dir_all(folder).map_err(|error| refusal(folder, &error))?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, migration: &MigrationId, side: &str) -> PathBuf {
        self.folder.join(format!("{migration}.{side}"))
    }

    /// Begins the source's journal of a migration.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn begin_source(
        &self,
        head: &Outgoing,
        state: &SourceState,
    ) -> Result<Journal<SourceState>, Refusal> {
        Journal::begin(self.path(&head.task.migration, "source"), head, state)
    }

    /// Begins the destination's journal of a migration. Secrets are not kept in it: an agent that comes back restores nothing,
    /// and what it must remove it knows by label.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn begin_destination(
        &self,
        head: &Prepare,
        state: &DestinationState,
    ) -> Result<Journal<DestinationState>, Refusal> {
        Journal::begin(self.path(&head.task.migration, "destination"), &head.without_secrets(), state)
    }

    /// The source's journals that were left open.
    #[must_use]
    pub fn sources(&self) -> Vec<Found<Outgoing, SourceState>> {
        self.found("source")
    }

    /// The destination's journals that were left open.
    #[must_use]
    pub fn destinations(&self) -> Vec<Found<Prepare, DestinationState>> {
        self.found("destination")
    }

    fn found<H: DeserializeOwned, S: DeserializeOwned>(&self, side: &str) -> Vec<Found<H, S>> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut found = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != side) {
                continue;
            }
            match read(&path) {
                Ok(journal) => found.push(journal),
                Err(error) => {
                    tracing::error!(journal = %path.display(), %error, "a journal cannot be read; it is kept aside");
                    let _ = fs::rename(&path, path.with_extension("unreadable"));
                }
            }
        }
        found
    }
}

fn read<H: DeserializeOwned, S: DeserializeOwned>(path: &Path) -> io::Result<Found<H, S>> {
    if fs::metadata(path)?.len() > MAX_JOURNAL {
        return Err(io::Error::other(format!("it is larger than {MAX_JOURNAL} bytes")));
    }
    let text = fs::read_to_string(path)?;
    let mut whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let head = whole.next().ok_or_else(|| io::Error::other("it is empty"))?;
    let head = serde_json::from_str(head)?;
    // A line that was cut short by the crash was never acted on.
    let state = whole.next_back().ok_or_else(|| io::Error::other("it tells no state"))?;
    let state = serde_json::from_str(state)?;
    let file = OpenOptions::new().write(true).open(path)?;
    let length = text.rfind('\n').map_or(0, |at| at as u64 + 1);
    file.set_len(length)?;
    let journal = Journal { path: path.to_owned(), file, length, state: std::marker::PhantomData };
    Ok(Found { head, state, journal })
}

#[cfg(test)]
mod tests {
    use mose_protocol::secret::{Confidential, Secret};
    use serde_json::json;

    use mose_protocol::container::ContainerDescription;

    use super::*;

    fn outgoing(id: &str) -> Outgoing {
        Outgoing {
            task: Task {
                migration: id.parse().unwrap(),
                service: "s".parse().unwrap(),
                from: "a".parse().unwrap(),
                to: "b".parse().unwrap(),
                plan: mose_pam::Plan::cold(),
                transport: None,
                image_policy: Default::default(),
                pre_copy: None,
                rehearsal: false,
                files: Default::default(),
                forecast: None,
            },
            epoch: 2,
            place: Place {
                name: "s".into(),
                address: "10.0.0.1/24".parse().unwrap(),
                mac: "02:00:00:00:00:01".into(),
            },
            started_at: Timestamp(1),
            volumes: vec!["data".into()],
            container: None,
        }
    }

    #[test]
    fn the_last_state_that_was_written_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::open(folder.path()).unwrap();
        let mut journal = journals.begin_source(&outgoing("m1"), &SourceState::Preparing).unwrap();
        journal.write(&SourceState::Dumping).unwrap();
        drop(journal);
        let found = journals.sources();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].head, outgoing("m1"));
        assert_eq!(found[0].state, SourceState::Dumping);
    }

    #[test]
    fn a_journal_holds_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::open(folder.path()).unwrap();
        let Outgoing { task, epoch, place, .. } = outgoing("m1");
        let value = Confidential::new(*b"hunter2");
        let secret = Secret { name: "token".into(), value, labels: Default::default(), given: None };
        let prepare = Prepare {
            task,
            epoch,
            place,
            container: ContainerDescription { image: "x".into(), ..ContainerDescription::default() },
            secrets: vec![secret],
            image_id: "1".into(),
            limit: mose_pam::Bytes(1),
        };
        let preparing = DestinationState { said: HandoverState::Preparing, left: false };
        journals.begin_destination(&prepare, &preparing).unwrap();
        let found = journals.destinations().pop().unwrap();
        assert_eq!(found.head, prepare.without_secrets());
        let written = fs::read_to_string(folder.path().join("m1.destination")).unwrap();
        let hexadecimal = "68756e74657232";
        assert!(!written.contains("hunter2") && !written.contains(hexadecimal), "{written}");
    }

    #[test]
    fn a_destinations_states_are_read_as_they_were_and_as_older_agents_wrote_them() {
        let refused = HandoverState::Refused(Refusal::new(RefusalCode::Failed, "no", "migrate again"));
        let figures = json!({
            "started_at": 1, "released_at": 2, "finished_at": 3, "criu_restore": 85.25, "held": 4, "overflowed": 0
        });
        let restored = HandoverState::Restored(serde_json::from_value(figures).unwrap());
        for said in [HandoverState::Preparing, HandoverState::Restoring, refused, restored] {
            let older = serde_json::to_value(&said).unwrap();
            let clean = DestinationState { said: said.clone(), left: false };
            assert_eq!(serde_json::from_value::<DestinationState>(older.clone()).unwrap(), clean);
            assert_eq!(serde_json::to_value(&clean).unwrap(), older);
            let state = DestinationState { said, left: true };
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<DestinationState>(&text).unwrap(), state);
        }
    }

    #[test]
    fn journals_that_release_0_1_0_left_are_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        let task = r#"{"migration":"m1","service":"web","from":"edge-a","to":"edge-b","plan":{"strategy":"cold","iterations":null,"bandwidth":null},"transport":null,"image_policy":"bring","forecast":null}"#;
        let place = r#"{"name":"web","address":"10.77.0.20/24","mac":"0a:00:0a:4d:00:14"}"#;
        let source = format!(
            "{{\"task\":{task},\"epoch\":3,\"place\":{place},\"started_at\":1700000000000000}}\n{{\"state\":\"preparing\"}}\n{{\"state\":\"dumping\"}}\n\
             {{\"state\":\"relinquished\",\"digest\":\"d1\"}}\n"
        );
        fs::write(folder.path().join("m1.source"), source).unwrap();
        let container = r#"{"image":"localhost/web","config":{"id":"c1"},"essence":{},"volumes":[{"name":"data","destination":"/data","options":[],"anonymous":true,"sub_path":null,"labels":{},"driver_options":{},"bytes":1,"entries":1}],"binds":[],"trees":["volume data"]}"#;
        let destination = format!(
            "{{\"task\":{task},\"epoch\":3,\"place\":{place},\"container\":{container},\"image_id\":\"i1\",\"limit\":1}}\n\
             {{\"state\":\"preparing\"}}\n{{\"state\":\"restoring\"}}\n"
        );
        fs::write(folder.path().join("m1.destination"), destination).unwrap();
        let journals = Journals::open(folder.path()).unwrap();
        let found = journals.sources().pop().unwrap();
        assert_eq!((found.head.epoch, found.state), (3, SourceState::Relinquished { digest: "d1".into() }));
        let found = journals.destinations().pop().unwrap();
        assert_eq!(found.state, DestinationState { said: HandoverState::Restoring, left: false });
        assert_eq!(found.head.container.volumes[0].name, "data");
        assert_eq!(found.head.container.trees, ["volume data"]);
    }

    #[test]
    fn a_line_cut_short_by_a_crash_counts_as_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::open(folder.path()).unwrap();
        let mut journal = journals.begin_source(&outgoing("m1"), &SourceState::Preparing).unwrap();
        journal.write(&SourceState::Dumping).unwrap();
        journal.file.write_all_at(b"{\"state\":\"relinq", journal.length).unwrap();
        let mut found = journals.sources().pop().unwrap();
        assert_eq!(found.state, SourceState::Dumping);
        found.journal.write(&SourceState::Reclaiming).unwrap();
        assert_eq!(journals.sources().pop().unwrap().state, SourceState::Reclaiming);
    }

    #[test]
    fn a_closed_journal_is_gone_and_a_broken_one_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::open(folder.path()).unwrap();
        journals.begin_source(&outgoing("m1"), &SourceState::Preparing).unwrap().close();
        fs::write(folder.path().join("m2.source"), "rubbish\n").unwrap();
        assert!(journals.sources().is_empty());
        assert!(folder.path().join("m2.unreadable").exists());
    }
}
