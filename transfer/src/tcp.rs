//! A data connection of its own: the destination listens on its underlay address, the source shows the token first.
//!
//! Blocking threads with large buffers, because at several gigabytes a second each hop through an executor costs more
//! than the copy. The accepting side alone runs on tokio: it waits for the source for as long as the deadline.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use mose_pam::BitsPerSec;
use mose_protocol::transfer::TransferBounds;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream as AsyncTcpStream};
use tokio::task::JoinSet;

use super::buf::{Buf, HEADER};
use super::error::TransferError;
use super::flow::{Flow, Inlet, Outlet, Pool, ReplyPort, Stop, WAITING, max_frame, same_secret, tag};
use super::frame::Reply;
use super::pace;
use crate::tcp_info::{Segments, tcp_info};

/// Announces the format, before the token.
const MAGIC: &[u8; 8] = b"MOSEbulk";
/// Time for one who connected to show the token.
const TOKEN_WITHIN: Duration = Duration::from_secs(5);
/// How it is tried again to accept one. Most likely descriptors were missing: those who are pending will give some back.
const AGAIN: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(10))
    .with_max_delay(Duration::from_millis(100))
    .without_max_times();
/// Connections that may be showing their token at the same time.
const PENDING: usize = 16;
/// Socket buffers in bytes, as far as the system's limits allow.
const SOCKET_BUFFER: usize = 4 << 20;

/// Starts to listen; the socket accepts from here on.
pub(crate) async fn listen(bind: Ipv4Addr) -> Result<(TcpListener, SocketAddr), TransferError> {
    let wanted = SocketAddr::new(IpAddr::V4(bind), 0);
    let failed = |e| TransferError::io("listen on", bind.to_string(), e);
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Waits for the one who knows the token; closes all others.
pub(crate) async fn accept(
    listener: TcpListener,
    token: &str,
    bounds: TransferBounds,
    stall: Duration,
    stop: &Stop,
) -> Result<Inlet, TransferError> {
    let deadline = tokio::time::Instant::now() + stall;
    let mut pending = JoinSet::new();
    let (stream, peer) = loop {
        tokio::select! {
            Ok((stream, peer)) = (|| listener.accept()).retry(AGAIN), if pending.len() < PENDING => {
                pending.spawn(authenticate(stream, peer, token.to_owned()));
            }
            Some(done) = pending.join_next() => {
                if let Ok(Some(source)) = done {
                    break source;
                }
            }
            () = stop.stopped() => return Err(TransferError::Cancelled),
            () = tokio::time::sleep_until(deadline) => {
                let doing = "waiting for the source to connect";
                return Err(TransferError::Stalled { peer: "the source".into(), doing, bytes: 0, after: stall });
            }
        }
    };
    drop(listener);
    let failed = |e| TransferError::io("set up the connection of", peer.to_string(), e);
    let stream = stream.into_std().map_err(failed)?;
    prepare(&stream, stall).map_err(failed)?;
    inlet(stream, peer, token, bounds, stall, stop).map_err(failed)
}

async fn authenticate(
    mut stream: AsyncTcpStream,
    peer: SocketAddr,
    token: String,
) -> Option<(AsyncTcpStream, SocketAddr)> {
    let mut shown = vec![0; MAGIC.len() + token.len()];
    let read = tokio::time::timeout(TOKEN_WITHIN, stream.read_exact(&mut shown)).await;
    let known = matches!(read, Ok(Ok(_)))
        && shown.starts_with(MAGIC)
        && same_secret(&shown[MAGIC.len()..], token.as_bytes());
    if !known {
        tracing::warn!(%peer, "closed a data connection that did not show the transfer's token");
    }
    known.then_some((stream, peer))
}

fn prepare(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(stall))?;
    // The kernel grows the receive buffer by itself, and better so than when it is set.
    setsockopt(stream, sockopt::SndBuf, &SOCKET_BUFFER)?;
    Ok(())
}

fn inlet(
    stream: TcpStream,
    peer: SocketAddr,
    token: &str,
    bounds: TransferBounds,
    stall: Duration,
    stop: &Stop,
) -> io::Result<Inlet> {
    let handle = stream.try_clone()?;
    stop.interrupt_by(move || drop(handle.shutdown(Shutdown::Read)));
    let reading = stream.try_clone()?;
    reading.set_read_timeout(Some(stall))?;
    let chunk = bounds.chunk as usize;
    let pool = Pool::new(chunk);
    // What is acknowledged was written, so a source that keeps to the window never has more than this on the way.
    let (frames, queue) = sync_channel((bounds.window / bounds.chunk.max(1)) as usize + 1);
    let (max, peer) = (max_frame(chunk), peer.to_string());
    let reader = Reader { stream: reading, frames, pool: pool.clone(), max, peer: peer.clone(), stall };
    // Nobody waits for it: it ends when `stop` shuts the socket down, when nothing comes for `stall`, or when nobody takes its frames.
    thread::Builder::new().name("mose-bulk-in".into()).spawn(move || reader.run())?;
    let replies = Box::new(TcpReplies { stream, peer: peer.clone() });
    Ok(Inlet { frames: queue, replies, pool, peer, tag: tag(token), stall: None, next: 0 })
}

/// Reads frames off the socket while another thread writes the ones before to files.
struct Reader {
    stream: TcpStream,
    frames: SyncSender<Result<Buf, TransferError>>,
    pool: Pool,
    max: usize,
    peer: String,
    stall: Duration,
}

impl Reader {
    fn run(mut self) {
        loop {
            match self.frame() {
                Ok(Some(frame)) => {
                    if self.frames.send(Ok(frame)).is_err() {
                        return;
                    }
                }
                // The other side of the queue makes an error of it.
                Ok(None) => return,
                Err(error) => {
                    drop(self.frames.send(Err(error)));
                    return;
                }
            }
        }
    }

    /// A frame, or nothing when the connection is at its end.
    fn frame(&mut self) -> Result<Option<Buf>, TransferError> {
        let mut head = [0; HEADER];
        if let Err(error) = self.stream.read_exact(&mut head) {
            return self.ended(&error);
        }
        let [a, b, c, d, ..] = head;
        let length = HEADER + u32::from_le_bytes([a, b, c, d]) as usize;
        if length > self.max {
            return Err(TransferError::malformed(&self.peer, format!("a frame of {length} bytes")));
        }
        let mut frame = self.pool.take_for(length);
        let stream = &mut self.stream;
        let read = frame.receive(length, |to| {
            to[..HEADER].copy_from_slice(&head);
            stream.read_exact(&mut to[HEADER..])
        });
        read.map_or_else(|error| self.ended(&error), |()| Ok(Some(frame)))
    }

    fn ended(&self, error: &io::Error) -> Result<Option<Buf>, TransferError> {
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            let (peer, after) = (self.peer.clone(), self.stall);
            return Err(TransferError::Stalled { peer, doing: WAITING, bytes: 0, after });
        }
        Ok(None)
    }
}

struct TcpReplies {
    stream: TcpStream,
    peer: String,
}

impl ReplyPort for TcpReplies {
    fn reply(&mut self, reply: &Reply) -> Result<(), TransferError> {
        let body = reply.encode();
        let mut message = (body.len() as u32).to_le_bytes().to_vec();
        message.extend_from_slice(&body);
        self.stream.write_all(&message).map_err(|e| TransferError::io("reply to", &self.peer, e))
    }

    /// Data still under way would turn the close into a reset, which can overtake the last reply: so it is read away.
    fn close(&mut self) {
        drop(self.stream.shutdown(Shutdown::Write));
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut waste = vec![0; 256 << 10];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                break;
            }
            if !matches!(self.stream.read(&mut waste), Ok(1..)) {
                break;
            }
        }
        drop(self.stream.shutdown(Shutdown::Both));
    }
}

/// Connects, shows the token, and waits to be welcomed. The kernel keeps the connection near `bandwidth`. Blocks.
pub(crate) fn connect(
    address: SocketAddr,
    token: &str,
    flow: &Arc<Flow>,
    pool: Pool,
    stall: Duration,
    bandwidth: Option<BitsPerSec>,
) -> Result<Box<dyn Outlet>, TransferError> {
    let failed = |e: io::Error| TransferError::Connect { peer: address.to_string(), reason: e.to_string() };
    let mut stream = TcpStream::connect_timeout(&address, stall).map_err(failed)?;
    prepare(&stream, stall).map_err(failed)?;
    if let Some(limit) = bandwidth {
        pace::cap(&stream, limit).map_err(failed)?;
    }
    stream.write_all(&[MAGIC, token.as_bytes()].concat()).map_err(failed)?;
    let handle = stream.try_clone().map_err(failed)?;
    flow.on_fail(move || drop(handle.shutdown(Shutdown::Both)));

    let (replies, acks) = (stream.try_clone().map_err(failed)?, Arc::clone(flow));
    // Nobody waits for it: it ends with the last reply, or when a flow that fails or the outlet's end shuts the socket down.
    let reading = thread::Builder::new().name("mose-bulk-ack".into());
    reading.spawn(move || read_replies(replies, &acks)).map_err(failed)?;
    match flow.welcomed(stall) {
        Ok(true) => {}
        Ok(false) => return Err(flow.fail(TransferError::Refused { peer: address.to_string() })),
        Err(TransferError::Closed { peer, .. }) => return Err(TransferError::Refused { peer }),
        Err(error) => return Err(error),
    }

    let (frames, queue) = channel();
    let (writing, errors) = (stream.try_clone().map_err(failed)?, Arc::clone(flow));
    let writer = thread::Builder::new().name("mose-bulk-out".into());
    let writer = writer.spawn(move || write_frames(writing, &queue, &pool, &errors)).map_err(failed)?;
    Ok(Box::new(TcpOutlet { frames: Some(frames), writer: Some(writer), stream }))
}

fn read_replies(mut stream: TcpStream, flow: &Flow) {
    let mut one = || -> Result<Reply, TransferError> {
        let mut length = [0; 4];
        stream.read_exact(&mut length).map_err(|_| flow.closed())?;
        let length = u32::from_le_bytes(length) as usize;
        if length > Reply::MAX {
            return Err(TransferError::malformed(flow.peer(), format!("a reply of {length} bytes")));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).map_err(|_| flow.closed())?;
        Reply::decode(&body).map_err(|what| TransferError::malformed(flow.peer(), what))
    };
    loop {
        let last = match one() {
            Ok(reply) => {
                let last = matches!(reply, Reply::Verified { .. } | Reply::Differs { .. });
                flow.reply(reply).map(|()| last)
            }
            Err(error) => Err(flow.fail(error)),
        };
        if !matches!(last, Ok(false)) {
            return;
        }
    }
}

fn write_frames(mut stream: TcpStream, queue: &Receiver<Buf>, pool: &Pool, flow: &Flow) {
    while let Ok(frame) = queue.recv() {
        if stream.write_all(frame.bytes()).is_err() {
            // The destination may have said why before it closed: that is the better message.
            flow.failure_or(flow.closed());
            return;
        }
        pool.give(frame);
    }
}

struct TcpOutlet {
    frames: Option<Sender<Buf>>,
    writer: Option<JoinHandle<()>>,
    stream: TcpStream,
}

impl Outlet for TcpOutlet {
    fn send(&mut self, frame: Buf) -> Result<(), TransferError> {
        // A writer that ended has told the flow why.
        self.frames.as_ref().map(|frames| frames.send(frame));
        Ok(())
    }

    fn abort(&mut self, _last: Buf) {
        drop(self.stream.shutdown(Shutdown::Both));
        self.close();
    }

    fn close(&mut self) {
        self.frames = None;
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
        drop(self.stream.shutdown(Shutdown::Both));
    }

    fn segments(&self) -> Segments {
        Segments::of(&self.stream)
    }

    fn resent(&self) -> u64 {
        tcp_info(&self.stream).map_or(0, |info| info.resent)
    }
}

impl Drop for TcpOutlet {
    fn drop(&mut self) {
        drop(self.stream.shutdown(Shutdown::Both));
        self.close();
    }
}
