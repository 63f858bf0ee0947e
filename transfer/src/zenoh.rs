//! Chunks over Zenoh, for networks where only its connections pass.
//!
//! A put's `Ok` does not mean delivered, and Zenoh drops in silence what a stalled receiver or a broken connection kept from
//! arriving: hence our own sequence numbers, acknowledgements and window. The window also keeps the receiving callback
//! from ever blocking, since one that blocks loses data and holds up others. Give this transport a session of its own:
//! beside a bulk transfer on one connection a control message waits for tens of milliseconds.

use std::sync::Arc;
use std::sync::mpsc::{Receiver as Queue, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mose_protocol::transfer::TransferBounds;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use zenoh::bytes::ZBytes;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority};
use zenoh::{Session, Wait as _};

use super::buf::{Buf, HEADER};
use super::error::TransferError;
use super::flow::{
    Flow, Inlet, Outlet, Pool, ReplyPort, Stop, frames_in_window, max_frame, same_secret, tag,
};
use super::frame::Reply;

/// Begins the message that shows the token; repeated until answered, as the routes may not be known at first.
const HELLO: &[u8; 8] = b"MOSEbulk";
/// Between two attempts to be heard.
const HELLO_EVERY: Duration = Duration::from_millis(50);

/// The key prefix of a migration's bulk data.
pub(crate) fn prefix(migration: &str) -> Result<String, TransferError> {
    let prefix = format!("mose/bulk/{migration}");
    let one_chunk = !migration.is_empty() && !migration.contains(['/', '*', '$', '?', '#']);
    if !one_chunk {
        return Err(TransferError::setup(
            format!("{migration:?} cannot be part of a key"),
            "name the migration with letters, digits and dashes",
        ));
    }
    Ok(prefix)
}

fn failed(prefix: &str) -> impl Fn(zenoh::Error) -> TransferError {
    let peer = prefix.to_owned();
    move |e| TransferError::Connect { peer: peer.clone(), reason: e.to_string() }
}

/// A destination that subscribed and waits for its source.
pub(crate) struct Listening {
    hellos: mpsc::Receiver<()>,
    frames: Queue<Result<Buf, TransferError>>,
    pool: Pool,
    replies: ZenohReplies,
    welcome: Publisher<'static>,
    stall: Duration,
}

/// Subscribes; data can arrive from here on.
pub(crate) async fn listen(
    session: &Session,
    prefix: &str,
    token: &str,
    bounds: TransferBounds,
    stall: Duration,
    stop: &Stop,
) -> Result<Listening, TransferError> {
    let chunk = bounds.chunk as usize;
    let pool = Pool::new(chunk);
    let (hello, hellos) = mpsc::channel(1);
    let (frames, queue) = sync_channel(frames_in_window(&bounds) + 1);
    let interrupt = frames.clone();
    stop.interrupt_by(move || drop(interrupt.try_send(Err(TransferError::Cancelled))));
    let intake = Intake {
        hello,
        frames,
        pool: pool.clone(),
        token: token.to_owned(),
        tag: tag(token),
        max: max_frame(chunk),
        peer: prefix.to_owned(),
    };
    let subscriber = session.declare_subscriber(format!("{prefix}/data"));
    let subscriber =
        subscriber.callback(move |sample| intake.take(sample.payload())).await.map_err(failed(prefix))?;
    let publisher = || {
        session
            .declare_publisher(format!("{prefix}/ack"))
            .congestion_control(CongestionControl::Block)
            .priority(Priority::InteractiveHigh)
            .express(true)
    };
    let welcome = publisher().await.map_err(failed(prefix))?;
    let publisher = publisher().await.map_err(failed(prefix))?;
    let replies = ZenohReplies {
        publisher,
        subscriber: Some(subscriber),
        tag: tag(token),
        peer: prefix.to_owned(),
        answering: None,
        _session: session.clone(),
    };
    Ok(Listening { hellos, frames: queue, pool, replies, welcome, stall })
}

impl Listening {
    /// Waits for the source to show the token.
    pub(crate) async fn accept(self, stop: &Stop) -> Result<Inlet, TransferError> {
        let Self { mut hellos, frames, pool, mut replies, welcome, stall } = self;
        let (tag, peer) = (replies.tag, replies.peer.clone());
        let answer = message(tag, &Reply::Welcome);
        tokio::select! {
            hello = hellos.recv() => hello.ok_or(TransferError::Cancelled)?,
            () = stop.stopped() => return Err(TransferError::Cancelled),
            () = tokio::time::sleep(stall) => {
                let doing = "waiting for the source to connect";
                return Err(TransferError::Stalled { peer, doing, bytes: 0, after: stall });
            }
        }
        // The answer can be lost while routes are being made, so each repeated question gets one.
        let answering = tokio::spawn(async move {
            loop {
                if welcome.put(answer.clone()).await.is_err() || hellos.recv().await.is_none() {
                    return;
                }
            }
        });
        replies.answering = Some(AbortOnDropHandle::new(answering));
        Ok(Inlet { frames, replies: Box::new(replies), pool, peer, tag, stall: Some(stall), next: 0 })
    }
}

/// Runs in Zenoh's receiving thread: copies, queues, never waits.
struct Intake {
    hello: mpsc::Sender<()>,
    frames: SyncSender<Result<Buf, TransferError>>,
    pool: Pool,
    token: String,
    tag: u32,
    max: usize,
    peer: String,
}

impl Intake {
    fn take(&self, payload: &ZBytes) {
        let length = payload.len();
        if length == HELLO.len() + self.token.len() {
            let shown = payload.to_bytes();
            if shown.starts_with(HELLO) && same_secret(&shown[HELLO.len()..], self.token.as_bytes()) {
                // One that waits already is enough.
                let _ = self.hello.try_send(());
                return;
            }
        }
        if !(HEADER..=self.max).contains(&length) {
            tracing::warn!(key = self.peer, length, "ignored a frame whose length is out of bounds");
            return;
        }
        let mut frame = self.pool.take_for(length);
        let copied = frame.receive(length, |to| {
            let mut at = 0;
            for slice in payload.slices() {
                to[at..at + slice.len()].copy_from_slice(slice);
                at += slice.len();
            }
            Ok::<_, ()>(())
        });
        let stated = frame.stated_length();
        if copied.is_err() || frame.stamp().0 != self.tag || stated != length {
            tracing::warn!(key = self.peer, "ignored a frame of another transfer");
            self.pool.give(frame);
            return;
        }
        if let Err(TrySendError::Full(_)) = self.frames.try_send(Ok(frame)) {
            // The gap in the sequence numbers ends the transfer.
            tracing::warn!(key = self.peer, "dropped a frame: the source does not keep to the window");
        }
    }
}

fn message(tag: u32, reply: &Reply) -> Vec<u8> {
    let mut bytes = tag.to_le_bytes().to_vec();
    bytes.extend_from_slice(&reply.encode());
    bytes
}

struct ZenohReplies {
    publisher: Publisher<'static>,
    subscriber: Option<Subscriber<()>>,
    tag: u32,
    peer: String,
    /// Answers the source while it asks to be let in.
    answering: Option<AbortOnDropHandle<()>>,
    /// The last clone that is dropped closes the session, whatever was declared on it.
    _session: Session,
}

impl ReplyPort for ZenohReplies {
    fn reply(&mut self, reply: &Reply) -> Result<(), TransferError> {
        self.publisher.put(message(self.tag, reply)).wait().map_err(failed(&self.peer))
    }

    fn close(&mut self) {
        if let Some(subscriber) = self.subscriber.take() {
            drop(subscriber.undeclare().wait());
        }
        self.answering = None;
    }
}

/// Subscribes to the replies and shows the token until it is welcomed.
pub(crate) async fn connect(
    session: &Session,
    prefix: &str,
    token: &str,
    flow: &Arc<Flow>,
    pool: Pool,
    stall: Duration,
) -> Result<Box<dyn Outlet>, TransferError> {
    let (replies, ours, peer) = (Arc::clone(flow), tag(token), prefix.to_owned());
    let subscriber = session
        .declare_subscriber(format!("{prefix}/ack"))
        .callback(move |sample| {
            let bytes = sample.payload().to_bytes();
            if let Some((head, body)) = bytes.split_first_chunk::<4>()
                && u32::from_le_bytes(*head) == ours
                && body.len() <= Reply::MAX
            {
                match Reply::decode(body) {
                    // What a reply ends, the sending thread hears of from the flow.
                    Ok(reply) => drop(replies.reply(reply)),
                    Err(what) => drop(replies.fail(TransferError::malformed(&peer, what))),
                }
            }
        })
        .await
        .map_err(failed(prefix))?;
    let publisher = session
        .declare_publisher(format!("{prefix}/data"))
        .congestion_control(CongestionControl::Block)
        .priority(Priority::Background)
        .await
        .map_err(failed(prefix))?;
    let hello = [HELLO, token.as_bytes()].concat();
    let deadline = Instant::now() + stall;
    loop {
        publisher.put(hello.clone()).await.map_err(failed(prefix))?;
        let waiting = Arc::clone(flow);
        let welcomed = tokio::task::spawn_blocking(move || waiting.welcomed(HELLO_EVERY)).await;
        if welcomed.unwrap_or(Err(TransferError::Cancelled))? {
            break;
        }
        if Instant::now() >= deadline {
            let reason = format!("nobody answered on {prefix} within {:.1} s", stall.as_secs_f64());
            return Err(flow.fail(TransferError::Connect { peer: prefix.to_owned(), reason }));
        }
    }
    let (peer, subscriber, _session) = (prefix.to_owned(), Some(subscriber), session.clone());
    Ok(Box::new(ZenohOutlet { publisher, pool, peer, subscriber, _session }))
}

struct ZenohOutlet {
    publisher: Publisher<'static>,
    pool: Pool,
    peer: String,
    subscriber: Option<Subscriber<()>>,
    _session: Session,
}

/// A frame on loan to Zenoh; comes back to the pool when Zenoh has let go of it.
struct Loan {
    frame: Option<Buf>,
    pool: Pool,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        self.frame.as_ref().map_or(&[], Buf::bytes)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.pool.give(frame);
        }
    }
}

impl Outlet for ZenohOutlet {
    fn send(&mut self, frame: Buf) -> Result<(), TransferError> {
        let loan = Loan { frame: Some(frame), pool: self.pool.clone() };
        self.publisher.put(Bytes::from_owner(loan)).wait().map_err(failed(&self.peer))
    }

    fn abort(&mut self, last: Buf) {
        // A session that is closed cannot say so; the other end then runs into its deadline.
        drop(self.send(last));
        self.close();
    }

    fn close(&mut self) {
        if let Some(subscriber) = self.subscriber.take() {
            drop(subscriber.undeclare().wait());
        }
    }
}
