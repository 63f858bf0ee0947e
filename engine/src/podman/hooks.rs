//! Where CRIU's action scripts (criu(8), `--action-script`) meet the agent.
//!
//! CRIU runs `mose-criu-hook` at every stage of every dump and restore on the host. For a container that MOSE
//! moves, a marker file named by the container's id lies in [`FOLDER`]; the hook then asks here and waits for
//! the answer. Without a marker it lets CRIU go on at once, so that other people's checkpoints are none of our
//! business; with a marker and no answer it makes CRIU fail, so that an agent that died leaves a service that
//! goes on. CRIU does not fail at `pre-resume`, whatever its script says: there the hook ends what was restored, unless the agent
//! has noted ([`RELEASED`]) that clients may have heard of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use mose_protocol::{Refusal, RefusalCode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::{Moment, Moments, Stage};

/// The folder of the hook's socket and markers.
pub const FOLDER: &str = "/run/mose/criu";

/// What is put after a marker's name in that of the file which says that what was held for the service is being let out.
pub const RELEASED: &str = ".released";

/// The longest question of a hook, in bytes.
const MAX_QUESTION: usize = 512;

/// CRIU's names of the stages at which the engine itself does something.
const POST_DUMP: &str = "post-dump";
const PRE_RESTORE: &str = "pre-restore";

/// How long CRIU may take to come to its hook when the Podman that started it was killed meanwhile.
const ORPHANED: Duration = Duration::from_secs(60);

/// How long a hook may take to say what it wants.
const QUESTION_DEADLINE: Duration = Duration::from_secs(2);

/// How it is tried again to accept a hook: other work gives descriptors back.
const AGAIN: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(10))
    .with_max_delay(Duration::from_millis(100))
    .without_max_times();

/// Who waits for the moments of a container, by its id, and the number of that wait.
type Waiting = Arc<Mutex<HashMap<String, (u64, mpsc::Sender<Moment>)>>>;

/// What the engine itself does at a stage.
type Deed = Box<dyn FnOnce() -> std::io::Result<()> + Send>;

/// By the container's id and the stage.
type Deeds = Arc<Mutex<HashMap<(String, &'static str), Deed>>>;

/// The agent's end of the hooks.
pub(super) struct Hooks {
    folder: PathBuf,
    waiting: Waiting,
    deeds: Deeds,
    waits: AtomicU64,
    _server: AbortOnDropHandle<()>,
}

/// Where CRIU reads its configuration when runc runs it (criu(8), runc's `org.criu.config`).
pub(super) const CRIU_CONFIGURATIONS: [&str; 2] = ["/etc/criu/runc.conf", "/etc/criu/default.conf"];

/// Refuses a host whose CRIU would not come to the agent: a dump could then be neither timed nor taken back.
pub(super) fn check_configured() -> Result<(), Refusal> {
    let configured = CRIU_CONFIGURATIONS.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    for line in configured.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()) {
        let words: Vec<&str> = line.trim().trim_start_matches("--").split_whitespace().collect();
        if let ["action-script", script] = words[..]
            && Path::new(script).file_name().is_some_and(|name| name == "mose-criu-hook")
            && Path::new(script).exists()
        {
            return Ok(());
        }
    }
    Err(Refusal::new(
        RefusalCode::Engine,
        format!("CRIU on this host is not told of mose-criu-hook in {}", CRIU_CONFIGURATIONS[0]),
        "install mose-criu-hook and add the line `action-script /usr/local/bin/mose-criu-hook` there",
    ))
}

fn failed(folder: &Path, error: &std::io::Error) -> Refusal {
    Refusal::new(
        RefusalCode::Engine,
        format!("CRIU's hooks cannot meet the agent in {}: {error}", folder.display()),
        "run the agent as root, with /run writable",
    )
}

impl Hooks {
    /// Listens in `folder`; markers of an agent that died are left for its reconciliation to remove.
    pub(super) fn listen(folder: &Path) -> Result<Self, Refusal> {
        let refusal = |error: std::io::Error| failed(folder, &error);
        std::fs::create_dir_all(folder).map_err(refusal)?;
        let socket = folder.join("sock");
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refusal(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(refusal)?;
        let (waiting, deeds) = (Waiting::default(), Deeds::default());
        let server = tokio::spawn(serve(listener, waiting.clone(), deeds.clone()));
        let _server = AbortOnDropHandle::new(server);
        Ok(Self { folder: folder.to_owned(), waiting, deeds, waits: AtomicU64::default(), _server })
    }

    /// From now on CRIU waits for the agent at every stage of the container `id`, until the receiver is dropped
    /// and [`Hooks::forget`] is called. Where the service stands still it waits for `patience` and no longer: the marker says so, in
    /// milliseconds.
    pub(super) fn expect(&self, id: &str, patience: Duration) -> Result<Moments, Refusal> {
        let (sender, receiver) = mpsc::channel(4);
        let number = self.waits.fetch_add(1, Ordering::Relaxed);
        // An earlier restore's.
        self.remove(&self.released(id));
        self.waiting.lock().insert(id.to_owned(), (number, sender));
        std::fs::write(self.folder.join(id), patience.as_millis().to_string())
            .map_err(|error| failed(&self.folder, &error))?;
        Ok(receiver)
    }

    /// Notes that what is held for the container `id`, which CRIU is about to let run, is being let out.
    pub(super) fn releases(&self, id: &str) -> Result<(), Refusal> {
        std::fs::write(self.released(id), []).map_err(|error| failed(&self.folder, &error))
    }

    /// Whether a restore of the container `id` was begun, in whichever life of the agent, and neither released nor seen to its end.
    pub(super) fn is_unreleased(&self, id: &str) -> bool {
        self.folder.join(id).exists() && !self.released(id).exists()
    }

    /// Asks the engine for a dump or a restore of the container `id`, which is expected, and returns its answer; `None` if the call was
    /// lost. A Podman that hangs does what it was asked for once it wakes, however long nobody has waited for its answer. Until it has
    /// `answered` CRIU asks at every stage, and so fails if the hand-over has ended. So the task has no owner: it ends a while after Podman
    /// has answered or gone away.
    pub(super) async fn to_the_end<T: Send + 'static>(
        self: &Arc<Self>,
        id: &str,
        call: impl Future<Output = T> + Send + 'static,
        answered: impl FnOnce(&T) -> bool + Send + 'static,
    ) -> Option<T> {
        let (hooks, id) = (self.clone(), id.to_owned());
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let wait = hooks.wait_of(&id);
            let answer = call.await;
            let over = answered(&answer);
            let _ = tell.send(answer);
            if !over {
                tokio::time::sleep(ORPHANED).await;
            }
            hooks.forget_wait(&id, wait);
        });
        told.await.ok()
    }

    fn released(&self, id: &str) -> PathBuf {
        self.folder.join(id.to_owned() + RELEASED)
    }

    /// Has `deed` done when CRIU is about to restore the container `id`; CRIU fails where it fails. To be called after
    /// [`Hooks::expect`].
    pub(super) fn before_restore(
        &self,
        id: &str,
        deed: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) {
        self.put(id, PRE_RESTORE, Box::new(deed));
    }

    /// Has `deed` done when the container `id` is dumped and CRIU is about to end it; CRIU lets it go on where it fails. To be called
    /// after [`Hooks::expect`].
    pub(super) fn after_dump(&self, id: &str, deed: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
        self.put(id, POST_DUMP, Box::new(deed));
    }

    fn put(&self, id: &str, stage: &'static str, deed: Deed) {
        self.deeds.lock().insert((id.to_owned(), stage), deed);
    }

    /// The number of the wait for the container `id`.
    pub(super) fn wait_of(&self, id: &str) -> Option<u64> {
        self.waiting.lock().get(id).map(|(number, _)| *number)
    }

    /// Whether CRIU would ask about the container `id` and find nobody, as whoever has waited is gone.
    pub(super) fn is_left_over(&self, id: &str) -> bool {
        self.wait_of(id).is_none() && self.folder.join(id).exists()
    }

    /// As [`Hooks::forget`], unless it waits for something later.
    pub(super) fn forget_wait(&self, id: &str, number: Option<u64>) {
        if self.wait_of(id) == number {
            self.forget(id);
        }
    }

    /// CRIU no longer waits for the agent about the container `id`.
    pub(super) fn forget(&self, id: &str) {
        self.waiting.lock().remove(id);
        self.deeds.lock().retain(|(known, _), _| known != id);
        self.remove(&self.folder.join(id));
        self.remove(&self.released(id));
    }

    fn remove(&self, path: &Path) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a hook's marker cannot be removed");
            }
            _ => {}
        }
    }
}

/// Answers hooks; with the task that does so end all answers.
async fn serve(listener: UnixListener, waiting: Waiting, deeds: Deeds) {
    let mut answers = JoinSet::new();
    loop {
        let accept = (|| listener.accept())
            .retry(AGAIN)
            .notify(|error, _| tracing::error!(%error, "CRIU's hooks cannot be accepted"));
        let accepted = tokio::select! {
            accepted = accept => accepted,
            Some(_) = answers.join_next() => continue,
        };
        // Tried until it is.
        let Ok((stream, _)) = accepted else { continue };
        let (waiting, deeds) = (waiting.clone(), deeds.clone());
        answers.spawn(async move {
            if let Err(error) = answer(stream, &waiting, &deeds).await {
                tracing::warn!(%error, "a CRIU hook went unanswered");
            }
        });
    }
}

async fn answer(mut stream: UnixStream, waiting: &Waiting, deeds: &Deeds) -> std::io::Result<()> {
    let mut question = [0; MAX_QUESTION];
    let mut length = 0;
    while !question[..length].contains(&b'\n') && length < MAX_QUESTION {
        let read = tokio::time::timeout(QUESTION_DEADLINE, stream.read(&mut question[length..])).await??;
        if read == 0 {
            break;
        }
        length += read;
    }
    let question = String::from_utf8_lossy(&question[..length]);
    let (stage, id) = question.trim().split_once(' ').unwrap_or_default();
    let verdict = match stage {
        PRE_RESTORE => act(deeds, id, PRE_RESTORE),
        "pre-dump" => ask(waiting, Stage::PreDump, id).await,
        POST_DUMP => ask(waiting, Stage::PostDump, id).await.and_then(|()| act(deeds, id, POST_DUMP)),
        "post-restore" => ask(waiting, Stage::PostRestore, id).await,
        "pre-resume" => ask(waiting, Stage::PreResume, id).await,
        other => return Err(std::io::Error::other(format!("`{other}` is no stage"))),
    };
    let line = match verdict {
        Ok(()) => "ok\n".to_owned(),
        Err(reason) => format!("{}\n", reason.replace('\n', " ")),
    };
    stream.write_all(line.as_bytes()).await
}

/// Asks whoever moves the container.
async fn ask(waiting: &Waiting, stage: Stage, id: &str) -> Result<(), String> {
    let found = waiting.lock().get(id).cloned();
    let (_, sender) = found.ok_or_else(|| format!("nobody moves container {id}"))?;
    let (answer, verdict) = oneshot::channel();
    let broken_off = || "the migration was broken off".to_owned();
    sender.send(Moment { stage, answer }).await.map_err(|_| broken_off())?;
    verdict.await.unwrap_or_else(|_| Err(broken_off()))
}

/// Does what is to be done at a stage, if anything is.
fn act(deeds: &Deeds, id: &str, stage: &'static str) -> Result<(), String> {
    let deed = deeds.lock().remove(&(id.to_owned(), stage));
    deed.map_or(Ok(()), |deed| deed().map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(folder: &Path, question: &str) -> String {
        let mut stream = UnixStream::connect(folder.join("sock")).await.unwrap();
        stream.write_all(question.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hook_waits_for_the_answer_and_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let hooks = Hooks::listen(folder.path()).unwrap();
        let mut moments = hooks.expect("abc", Duration::from_secs(1)).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("abc")).unwrap(), "1000");
        let asked = tokio::spawn({
            let folder = folder.path().to_owned();
            async move { ask(&folder, "pre-dump abc\n").await }
        });
        let moment = moments.recv().await.unwrap();
        assert_eq!(moment.stage, Stage::PreDump);
        moment.answer.send(Err("not now".into())).unwrap();
        assert_eq!(asked.await.unwrap(), "not now\n");
        hooks.forget("abc");
        assert!(!folder.path().join("abc").exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_to_be_done_before_a_restore_is_done_once_and_its_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let hooks = Hooks::listen(folder.path()).unwrap();
        hooks.before_restore("abc", || Err(std::io::Error::other("no room")));
        assert_eq!(ask(folder.path(), "pre-restore abc\n").await, "no room\n");
        assert_eq!(ask(folder.path(), "pre-restore abc\n").await, "ok\n");
        hooks.before_restore("abc", || Err(std::io::Error::other("no room")));
        hooks.forget("abc");
        assert_eq!(ask(folder.path(), "pre-restore abc\n").await, "ok\n");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_of_an_old_dump_does_not_end_the_wait_for_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let hooks = Hooks::listen(folder.path()).unwrap();
        drop(hooks.expect("abc", Duration::from_secs(1)).unwrap());
        let old = hooks.wait_of("abc");
        let mut moments = hooks.expect("abc", Duration::from_secs(1)).unwrap();
        hooks.forget_wait("abc", old);
        assert!(folder.path().join("abc").exists() && !hooks.is_left_over("abc"));
        std::fs::write(folder.path().join("of-an-earlier-life"), []).unwrap();
        assert!(hooks.is_left_over("of-an-earlier-life") && !hooks.is_left_over("of-none"));
        // What was not released must not run in a later life; what is over, or was released, does.
        assert!(hooks.is_unreleased("of-an-earlier-life") && !hooks.is_unreleased("of-none"));
        hooks.releases("of-an-earlier-life").unwrap();
        assert!(!hooks.is_unreleased("of-an-earlier-life"));
        hooks.forget("of-an-earlier-life");
        assert!(!hooks.is_left_over("of-an-earlier-life") && !hooks.is_unreleased("of-an-earlier-life"));
        hooks.forget_wait("abc", hooks.wait_of("abc"));
        assert!(!folder.path().join("abc").exists());
        assert!(moments.recv().await.is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_migration_that_was_broken_off_makes_criu_fail() {
        let folder = tempfile::tempdir().unwrap();
        let hooks = Hooks::listen(folder.path()).unwrap();
        drop(hooks.expect("abc", Duration::from_secs(1)).unwrap());
        assert_ne!(ask(folder.path(), "post-dump abc\n").await, "ok\n");
        assert_ne!(ask(folder.path(), "post-dump another\n").await, "ok\n");
    }
}
