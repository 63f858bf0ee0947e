//! The destination's end of a transfer, as the migration's steps use it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mose_protocol::transfer::{TransportKind, TransportOffer};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::error::TransferError;
use super::flow::{Inlet, Stop, token};
use super::pages::seed;
use super::recv::{Counters, ReceiveState, Sink};
use super::{Folders, Progress, Received, TransferLimits, tcp, zenoh};

/// A transfer that arrives. Runs in the background from [`Receiver::open`] on; dropping it aborts it.
///
/// What arrived before an abort stays in the folders: they are the caller's to remove.
pub struct Receiver {
    stop: Arc<Stop>,
    counters: Arc<Counters>,
    state: watch::Receiver<ReceiveState>,
    /// Waits for the source, then starts the thread that writes.
    _accepting: AbortOnDropHandle<()>,
}

impl Receiver {
    /// Prepares the folders, starts to listen on `bind` (TCP) or to subscribe on `session` (Zenoh), and returns the offer
    /// to be sent to the source. The source has `limits.stall` to connect.
    ///
    /// # Errors
    ///
    /// [`TransferError::Setup`] if the checkpoint folder is not empty, `session` is missing, or the migration's name cannot
    /// be part of a key; [`TransferError::Io`] for folders and sockets.
    pub fn open(
        kind: TransportKind,
        bind: Ipv4Addr,
        session: Option<::zenoh::Session>,
        migration: &str,
        folders: Folders,
        limits: TransferLimits,
    ) -> BoxFuture<'_, Result<(Self, TransportOffer), TransferError>> {
        Box::pin(async move {
            let bounds = limits.bounds();
            let stall = Duration::from_millis(bounds.stall_ms);
            let (counters, stop) = (Arc::<Counters>::default(), Arc::<Stop>::default());
            let (publish, state) = watch::channel(ReceiveState::default());
            let token = token()?;
            let sink = Sink::open(folders, bounds, seed(&token), Arc::clone(&counters), publish.clone())?;
            let stopping = Arc::clone(&stop);
            let (offer, accepting) = match kind {
                TransportKind::Tcp => {
                    let (listener, address) = tcp::listen(bind).await?;
                    let secret = token.clone();
                    let accepting = tokio::spawn(async move {
                        let inlet = tcp::accept(listener, &secret, bounds, stall, &stopping).await;
                        start(inlet, sink, stopping, &publish);
                    });
                    (TransportOffer::Tcp { address, token, bounds }, accepting)
                }
                TransportKind::Zenoh => {
                    let session = session.ok_or_else(|| {
                        TransferError::setup(
                            "a transfer over Zenoh needs a session",
                            "pass the agent's bulk session",
                        )
                    })?;
                    let prefix = zenoh::prefix(migration)?;
                    let listening = zenoh::listen(&session, &prefix, &token, bounds, stall, &stop).await?;
                    let accepting = tokio::spawn(async move {
                        let inlet = listening.accept(&stopping).await;
                        start(inlet, sink, stopping, &publish);
                    });
                    (TransportOffer::Zenoh { prefix, token, bounds }, accepting)
                }
            };
            Ok((Self { stop, counters, state, _accepting: AbortOnDropHandle::new(accepting) }, offer))
        })
    }

    /// Bytes received so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.counters.progress()
    }

    /// Waits for the container image's archive and returns its file.
    ///
    /// # Errors
    ///
    /// [`TransferError::NoStream`] if the transfer ended well without one, else why it ended.
    pub async fn stream_received(&mut self) -> Result<PathBuf, TransferError> {
        let arrived = |state: &ReceiveState| state.stream.is_some() || state.outcome.is_some();
        let state = self.state.wait_for(arrived).await.map_err(|_| TransferError::Cancelled)?;
        match (&state.stream, &state.outcome) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(Err(error))) => Err(error.clone()),
            (None, _) => Err(TransferError::NoStream),
        }
    }

    /// Waits until everything arrived and was verified, and the source was told. Can be called again.
    ///
    /// # Errors
    ///
    /// Why the transfer ended; what lies in the folders must not be restored then.
    pub async fn finished(&mut self) -> Result<Received, TransferError> {
        let state = self.state.wait_for(|state| state.outcome.is_some()).await;
        let state = state.map_err(|_| TransferError::Cancelled)?;
        state.outcome.clone().unwrap_or(Err(TransferError::Cancelled))
    }

    /// Ends the transfer now; the source is told.
    pub fn abort(self) {
        drop(self);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Starts the thread that writes. Nobody waits for it: once `stop` says so it tells the source, and ends.
fn start(
    inlet: Result<Inlet, TransferError>,
    sink: Sink,
    stop: Arc<Stop>,
    publish: &watch::Sender<ReceiveState>,
) {
    let started = inlet.and_then(|inlet| {
        let thread = thread::Builder::new().name("mose-bulk-sink".into());
        let spawned = thread.spawn(move || sink.run(inlet, &stop));
        spawned.map_err(|e| TransferError::io("start a thread for", "a transfer", e))
    });
    if let Err(error) = started {
        publish.send_modify(|state| state.outcome = Some(Err(error)));
    }
}
