//! The source's end of a transfer, as the migration's steps use it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Queue, RecvTimeoutError, Sender as QueueSender, channel};
use std::thread;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mose_pam::Bytes;
use mose_protocol::transfer::TransportOffer;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};

use super::digest::FileHasher;
use super::error::TransferError;
use super::flow::{Flow, Pool, tag};
use super::follow::{self, DumpSignal};
use super::pages::{self, RoundSent};
use super::send::{Engine, ReadPages, Rounds};
use super::tree::Root;
use super::{Pass, Sent, TransferLimits, pace, tcp, tree, zenoh};

/// Bytes of an archive read at once, and how many such pieces may wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 8;

type Done<T> = oneshot::Sender<Result<T, TransferError>>;

enum Command {
    Stream(mpsc::Receiver<Piece>, Done<u64>),
    Tree { number: u16, root: Root, frozen: bool, done: Done<Pass> },
    Images { folder: PathBuf, dump: DumpSignal, interlude: Option<Interlude>, done: Done<Pass> },
    Finished { folder: PathBuf, name: String, done: Done<Pass> },
    Round(ReadPages, Done<RoundSent>),
    Finish(Done<Sent>),
}

/// A tree that is sent once the dump is done, before the rest of the images.
struct Interlude {
    number: u16,
    root: Root,
    done: oneshot::Sender<Pass>,
}

enum Piece {
    Bytes(Vec<u8>),
    /// The reader has nothing at the moment: the destination is to hear that we are alive.
    Idle,
    End,
    Failed(TransferError),
}

/// The bytes of content that a transfer has sent so far, however it ends.
#[derive(Debug, Clone, Default)]
pub struct SentSoFar(Arc<AtomicU64>);

impl SentSoFar {
    /// How many.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        Bytes(self.0.load(Ordering::Relaxed))
    }
}

/// A transfer that is sent, one call after another. Dropping it, or one of its calls halfway, aborts it.
pub struct Sender {
    commands: QueueSender<Command>,
    flow: Arc<Flow>,
    keepalive: Duration,
}

impl Sender {
    /// Connects to the destination that made `offer`, and shows the offer's token.
    ///
    /// # Errors
    ///
    /// [`TransferError::Setup`] if the offer, the session or the bandwidth does not fit; [`TransferError::Connect`],
    /// [`TransferError::Refused`] or [`TransferError::Stalled`] if nobody, or somebody else, answers.
    pub fn connect<'a>(
        offer: &'a TransportOffer,
        session: Option<::zenoh::Session>,
        migration: &'a str,
        limits: TransferLimits,
    ) -> BoxFuture<'a, Result<Self, TransferError>> {
        Box::pin(async move {
            let mut bounds = limits.meet(offer.bounds())?;
            let mut stall = limits.stall;
            if let Some(limit) = limits.bandwidth {
                pace::check_bandwidth(limit)?;
                bounds = pace::bounds_at(bounds, limit);
                stall += pace::patience_at(limit, bounds.chunk as usize);
            }
            let (chunk, window) = (bounds.chunk as usize, bounds.window as usize);
            // The destination's queue is measured in its own chunks.
            let theirs = usize::try_from(offer.bounds().chunk).unwrap_or(usize::MAX);
            let pool = Pool::new(chunk);
            let token = offer.token().to_owned();
            if token.len() < 32 || !token.bytes().all(|b| b.is_ascii_hexdigit()) || token.len() > 256 {
                return Err(TransferError::setup(
                    "the offer's token is too short",
                    "update the destination's agent",
                ));
            }
            let (tag, seed) = (tag(&token), pages::seed(&token));
            let (outlet, flow) = match offer {
                TransportOffer::Tcp { address, .. } => {
                    let flow = Flow::new(address.to_string(), window, theirs, stall);
                    let (address, flow2, pool2) = (*address, Arc::clone(&flow), pool.clone());
                    // Should nobody wait for it any more, it ends by its deadlines, and with it its connection.
                    let connecting = tokio::task::spawn_blocking(move || {
                        tcp::connect(address, &token, &flow2, pool2, limits.stall, limits.bandwidth)
                    });
                    (connecting.await.unwrap_or(Err(TransferError::Cancelled))?, flow)
                }
                TransportOffer::Zenoh { prefix, .. } => {
                    let session = session.ok_or_else(|| {
                        TransferError::setup(
                            "a transfer over Zenoh needs a session",
                            "pass the agent's bulk session",
                        )
                    })?;
                    if *prefix != zenoh::prefix(migration)? {
                        return Err(TransferError::setup(
                            format!("the offer's key {prefix} is not of migration {migration}"),
                            "ask the destination for a fresh offer",
                        ));
                    }
                    let flow = Flow::new(prefix.clone(), window, theirs, stall);
                    (zenoh::connect(&session, prefix, &token, &flow, pool.clone(), limits.stall).await?, flow)
                }
            };
            let engine = Engine::new(outlet, Arc::clone(&flow), pool, tag, bounds, limits, seed);
            let keepalive = engine.keepalive();
            let (commands, queue) = channel();
            // Nobody waits for it: it tells the destination of an abort, and ends, once the flow has failed.
            let started =
                thread::Builder::new().name("mose-bulk-send".into()).spawn(move || run(engine, &queue));
            started.map_err(|e| TransferError::io("start a thread for", "a transfer", e))?;
            Ok(Self { commands, flow, keepalive })
        })
    }

    /// What counts the bytes of content that this transfer sends; the count stays when the transfer is gone.
    pub fn sent(&self) -> SentSoFar {
        SentSoFar(Arc::clone(&self.flow.content))
    }

    /// Sends a container image's archive; returns its bytes.
    ///
    /// # Errors
    ///
    /// [`TransferError::Io`] if the reader fails, or why the transfer ended. The transfer is over in either case.
    pub async fn send_stream(
        &mut self,
        mut reader: impl AsyncRead + Unpin + Send,
    ) -> Result<u64, TransferError> {
        let (pieces, queue) = mpsc::channel(PIECES);
        let guard = Guard::new(&self.flow);
        let (done, result) = oneshot::channel();
        self.command(Command::Stream(queue, done))?;
        loop {
            let mut bytes = Vec::with_capacity(PIECE);
            let piece = match tokio::time::timeout(self.keepalive, reader.read_buf(&mut bytes)).await {
                Ok(Ok(0)) => Piece::End,
                Ok(Ok(_)) => Piece::Bytes(bytes),
                Ok(Err(e)) => Piece::Failed(TransferError::io("read", "the container image", e)),
                Err(_) => Piece::Idle,
            };
            let last = matches!(piece, Piece::End | Piece::Failed(_));
            // The thread that hung up says why in its result.
            if pieces.send(piece).await.is_err() || last {
                break;
            }
        }
        guard.disarm(result.await)
    }

    /// Sends a tree, by its number at the destination, while the container runs: what moves under the reader is left to
    /// [`Sender::final_tree`]. Can be repeated: each pass sends what changed since the one before.
    ///
    /// # Errors
    ///
    /// [`TransferError::Unsupported`] for what has no copy, or why the transfer ended.
    pub async fn precopy_tree(&mut self, number: u16, root: Root) -> Result<Pass, TransferError> {
        self.call(|done| Command::Tree { number, root, frozen: false, done }).await
    }

    /// Sends those of the running service's pages that the destination does not have, as `read` yields them; returns
    /// once it has them. Can be repeated: each round sends what the ones before did not.
    ///
    /// # Errors
    ///
    /// What `read` fails with, or why the transfer ended. The transfer is over in either case.
    pub async fn round(&mut self, read: ReadPages) -> Result<RoundSent, TransferError> {
        self.call(|done| Command::Round(read, done)).await
    }

    /// Sends CRIU's checkpoint folder while it is written; returns when all of its files are sent, after `dump` said
    /// that it is done. The folder may not exist yet.
    ///
    /// # Errors
    ///
    /// [`TransferError::DumpAbandoned`] if the dump came to nothing, or why the transfer ended.
    pub async fn follow_images(&mut self, folder: &Path, dump: DumpSignal) -> Result<Pass, TransferError> {
        let folder = folder.to_owned();
        self.call(|done| Command::Images { folder, dump, interlude: None, done }).await
    }

    /// As [`Sender::follow_images`]. As soon as the dump is done, and before the rest of the images, it sends what changed of a tree, as
    /// [`Sender::final_tree`] does: `read` learns when the container, which is frozen until then, may go on.
    ///
    /// # Errors
    ///
    /// As both.
    pub async fn follow_images_and_tree(
        &mut self,
        folder: &Path,
        dump: DumpSignal,
        (number, root): (u16, Root),
        read: oneshot::Sender<Pass>,
    ) -> Result<Pass, TransferError> {
        let folder = folder.to_owned();
        let interlude = Some(Interlude { number, root, done: read });
        self.call(|done| Command::Images { folder, dump, interlude, done }).await
    }

    /// Sends a folder of CRIU's that is complete, such as a pre-dump's, into the folder `name` of the destination's checkpoint
    /// folder; returns when the destination has it.
    ///
    /// # Errors
    ///
    /// [`TransferError::Path`] where `name` is no plain name, [`TransferError::Unstable`] if the folder is not complete, or why
    /// the transfer ended.
    pub async fn finished_images(&mut self, folder: &Path, name: &str) -> Result<Pass, TransferError> {
        let (folder, name) = (folder.to_owned(), name.to_owned());
        self.call(|done| Command::Finished { folder, name, done }).await
    }

    /// Sends what changed since the first pass (everything, if there was none), with the container frozen: the
    /// destination then has an exact copy.
    ///
    /// # Errors
    ///
    /// [`TransferError::Unstable`] if a file keeps changing, or why the transfer ended.
    pub async fn final_tree(&mut self, number: u16, root: Root) -> Result<Pass, TransferError> {
        self.call(|done| Command::Tree { number, root, frozen: true, done }).await
    }

    /// Waits until the destination has written and verified everything.
    ///
    /// # Errors
    ///
    /// [`TransferError::Mismatch`] if what arrived is not what was read, or why the transfer ended.
    pub async fn finish(self) -> Result<Sent, TransferError> {
        self.call(Command::Finish).await
    }

    async fn call<T>(&self, command: impl FnOnce(Done<T>) -> Command) -> Result<T, TransferError> {
        let guard = Guard::new(&self.flow);
        let (done, result) = oneshot::channel();
        self.command(command(done))?;
        guard.disarm(result.await)
    }

    fn command(&self, command: Command) -> Result<(), TransferError> {
        // The thread ends only when the transfer failed, and the flow knows why.
        self.commands.send(command).map_err(|_| self.flow.fail(TransferError::Cancelled))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // After a finished transfer this changes nothing; before, it wakes the thread wherever it waits.
        self.flow.fail(TransferError::Cancelled);
    }
}

/// Aborts the transfer if a call is dropped before its result is there.
struct Guard<'a> {
    flow: Option<&'a Flow>,
}

impl<'a> Guard<'a> {
    fn new(flow: &'a Flow) -> Self {
        Self { flow: Some(flow) }
    }

    fn disarm<T>(
        mut self,
        result: Result<Result<T, TransferError>, oneshot::error::RecvError>,
    ) -> Result<T, TransferError> {
        let flow = self.flow.take();
        result.unwrap_or_else(|_| {
            let unknown = TransferError::Cancelled;
            Err(flow.map_or(unknown.clone(), |flow| flow.fail(unknown)))
        })
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(flow) = self.flow {
            flow.fail(TransferError::Cancelled);
        }
    }
}

fn run(mut engine: Engine, queue: &Queue<Command>) {
    loop {
        let result = match queue.recv_timeout(engine.keepalive()) {
            Ok(Command::Stream(pieces, done)) => {
                let result = stream(&mut engine, pieces);
                answer(&mut engine, done, result)
            }
            Ok(Command::Tree { number, root, frozen, done }) => {
                let result = engine.pass(|engine| tree::pass(engine, number, &root, frozen));
                answer(&mut engine, done, result)
            }
            Ok(Command::Images { folder, dump, interlude: None, done }) => {
                let result = engine.pass(|engine| follow::follow(engine, &folder, &dump, None));
                answer(&mut engine, done, result)
            }
            Ok(Command::Images { folder, dump, interlude: Some(interlude), done }) => {
                let result = follow_and_pass(&mut engine, &folder, &dump, interlude);
                answer(&mut engine, done, result)
            }
            Ok(Command::Finished { folder, name, done }) => {
                let result = engine.pass(|engine| follow::finished(engine, &folder, &name));
                answer(&mut engine, done, result)
            }
            Ok(Command::Round(read, done)) => {
                let result = Rounds::round(&mut engine, read);
                answer(&mut engine, done, result)
            }
            Ok(Command::Finish(done)) => {
                let result = engine.finish();
                drop(answer(&mut engine, done, result));
                return;
            }
            Err(RecvTimeoutError::Timeout) => engine.tick(),
            Err(RecvTimeoutError::Disconnected) => Err(TransferError::Cancelled),
        };
        if let Err(error) = result {
            engine.abort(&error);
            return;
        }
    }
}

/// Sends the images of a dump and, once it is done, a tree; what was sent of the images.
fn follow_and_pass(
    engine: &mut Engine,
    folder: &Path,
    dump: &DumpSignal,
    Interlude { number, root, done }: Interlude,
) -> Result<Pass, TransferError> {
    let (mut done, mut of_tree) = (Some(done), (0, 0));
    let mut interlude = |engine: &mut Engine| {
        let pass = engine.pass(|engine| tree::pass(engine, number, &root, true))?;
        of_tree = (pass.bytes, pass.entries);
        // Who does not wait for it lets the container go on by itself.
        done.take().map(|done| done.send(pass));
        Ok(())
    };
    let pass = engine.pass(|engine| follow::follow(engine, folder, dump, Some(&mut interlude)))?;
    Ok(Pass {
        bytes: pass.bytes.saturating_sub(of_tree.0),
        entries: pass.entries.saturating_sub(of_tree.1),
        ..pass
    })
}

/// Hands over a result. A failed call ends the transfer, before the caller hears of it.
fn answer<T>(
    engine: &mut Engine,
    done: Done<T>,
    result: Result<T, TransferError>,
) -> Result<(), TransferError> {
    let error = result.as_ref().err().cloned();
    if let Some(error) = &error {
        engine.abort(error);
    }
    // Whoever dropped the call has aborted the transfer by that.
    drop(done.send(result));
    error.map_or(Ok(()), Err)
}

fn stream(engine: &mut Engine, mut pieces: mpsc::Receiver<Piece>) -> Result<u64, TransferError> {
    let mut hasher = FileHasher::new();
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => {
                hasher.update(&bytes);
                engine.stream(&bytes)?;
            }
            Some(Piece::Idle) => engine.tick()?,
            Some(Piece::End) => return engine.end_stream(&hasher),
            Some(Piece::Failed(error)) => return Err(error),
            None => return Err(TransferError::Cancelled),
        }
    }
}
