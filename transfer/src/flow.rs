//! What a transfer needs of a transport, and the window that keeps both ends' memory small.
//!
//! A transport moves frames one way, in order, and replies the other way. All else (acknowledgement, back-pressure,
//! deadlines, cancelling) is here, once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Queue, RecvTimeoutError};
use std::time::{Duration, Instant};

use mose_protocol::transfer::TransferBounds;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::buf::{Buf, HEADER};
use super::digest::Digest;
use super::error::TransferError;
use super::frame::{MAX_META, Reply};
use crate::tcp_info::Segments;

/// The source's half of a transport.
pub(crate) trait Outlet: Send {
    /// Takes a sealed frame. May block while the connection is busy; what goes wrong afterwards is told to the [`Flow`].
    fn send(&mut self, frame: Buf) -> Result<(), TransferError>;
    /// Gives up at once; `last` says so to the other end where the transport cannot show it by closing.
    fn abort(&mut self, last: Buf);
    /// Lets go of the connection after the destination's verdict.
    fn close(&mut self);
    /// How it cuts frames into segments.
    fn segments(&self) -> Segments {
        Segments::USUAL
    }
    /// Bytes that it sent again of itself so far, where it can tell.
    fn resent(&self) -> u64 {
        0
    }
}

/// The destination's way back.
pub(crate) trait ReplyPort: Send {
    /// Sends a reply; fails if the source is gone.
    fn reply(&mut self, reply: &Reply) -> Result<(), TransferError>;
    /// Lets the last reply reach the source, then lets go of the connection.
    fn close(&mut self);
}

/// What a destination does while nothing comes.
pub(crate) const WAITING: &str = "waiting for the source";

/// A frame counts for at least this fraction of a chunk.
const SMALLEST: usize = 4;

/// How many frames can be under way at the same time.
pub(crate) fn frames_in_window(bounds: &TransferBounds) -> usize {
    SMALLEST * (bounds.window / bounds.chunk.max(1)) as usize + 1
}

/// The largest frame that a transport may take in.
pub(crate) fn max_frame(chunk: usize) -> usize {
    HEADER + chunk + 2 * MAX_META
}

/// Frames whose memory can be used again.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    free: Arc<Mutex<Vec<Buf>>>,
    chunk: usize,
}

impl Pool {
    pub(crate) fn new(chunk: usize) -> Self {
        Self { free: Arc::default(), chunk }
    }

    pub(crate) fn take(&self) -> Buf {
        let buf = self.free.lock().pop();
        buf.map_or_else(
            || Buf::new(self.chunk),
            |mut buf| {
                buf.clear();
                buf
            },
        )
    }

    /// A buffer for a frame of known length: small ones are not worth a chunk's memory.
    pub(crate) fn take_for(&self, length: usize) -> Buf {
        if length <= self.chunk / 16 { Buf::new(0) } else { self.take() }
    }

    pub(crate) fn give(&self, buf: Buf) {
        if buf.chunk() == self.chunk {
            self.free.lock().push(buf);
        }
    }
}

/// What the destination said at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Verified { bytes: u64, digest: Digest },
    Differs { digest: Digest },
}

#[derive(Default)]
struct FlowState {
    /// Frames acknowledged.
    acked: u64,
    /// What each frame that is under way counts for, the oldest first.
    pending: VecDeque<u64>,
    under_way: u64,
    last: Option<Instant>,
    welcome: bool,
    verdict: Option<Verdict>,
    failure: Option<TransferError>,
}

/// The source's view of what is under way: blocks the sending thread while the window is full.
pub(crate) struct Flow {
    state: Mutex<FlowState>,
    changed: Condvar,
    peer: String,
    window: u64,
    /// What a frame counts for at least.
    least: u64,
    stall: Duration,
    /// Bytes of content sent so far.
    pub(crate) content: Arc<AtomicU64>,
    on_fail: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Flow {
    pub(crate) fn new(peer: String, window: usize, chunk: usize, stall: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            peer,
            window: window as u64,
            least: (chunk / SMALLEST) as u64,
            stall,
            content: Arc::default(),
            on_fail: Mutex::new(None),
        })
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// What to do at once when the transfer fails, such as shutting down a socket that a thread is blocked on.
    pub(crate) fn on_fail(&self, action: impl Fn() + Send + 'static) {
        *self.on_fail.lock() = Some(Box::new(action));
    }

    /// Ends the transfer; the first reason stays.
    pub(crate) fn fail(&self, error: TransferError) -> TransferError {
        let mut state = self.state.lock();
        let error = state.failure.get_or_insert(error).clone();
        self.changed.notify_all();
        drop(state);
        if let Some(action) = &*self.on_fail.lock() {
            action();
        }
        error
    }

    /// The other end is gone.
    pub(crate) fn closed(&self) -> TransferError {
        TransferError::Closed { peer: self.peer.clone(), bytes: self.content.load(Ordering::Relaxed) }
    }

    /// Takes in what the destination said.
    pub(crate) fn reply(&self, reply: Reply) -> Result<(), TransferError> {
        let mut state = self.state.lock();
        state.last = Some(Instant::now());
        let problem = match reply {
            Reply::Welcome => {
                state.welcome = true;
                None
            }
            Reply::Ack(frames)
                if (state.acked..=state.acked + state.pending.len() as u64).contains(&frames) =>
            {
                while state.acked < frames {
                    state.acked += 1;
                    state.under_way -= state.pending.pop_front().unwrap_or_default();
                }
                None
            }
            Reply::Ack(_) => {
                Some(TransferError::malformed(&self.peer, "an acknowledgement of what was not sent"))
            }
            Reply::Verified { bytes, digest } => {
                state.verdict = Some(Verdict::Verified { bytes, digest });
                None
            }
            Reply::Differs { digest } => {
                state.verdict = Some(Verdict::Differs { digest });
                None
            }
            Reply::Abort(message) => Some(TransferError::Remote { peer: self.peer.clone(), message }),
        };
        self.changed.notify_all();
        drop(state);
        problem.map_or(Ok(()), |problem| Err(self.fail(problem)))
    }

    /// Waits until a frame of `bytes` fits into the window, and counts it as sent. A small frame counts for more than its
    /// bytes, since each one occupies a buffer.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), TransferError> {
        let cost = (bytes as u64).max(self.least);
        let fits = |s: &FlowState| s.under_way == 0 || s.under_way + cost <= self.window;
        let mut state = self.wait("waiting for the destination to write what was sent", fits)?;
        if state.pending.is_empty() {
            // Nothing was due until now: the deadline of this frame begins here.
            state.last = Some(Instant::now());
        }
        state.pending.push_back(cost);
        state.under_way += cost;
        Ok(())
    }

    /// Waits until everything that was sent is acknowledged, `within` a time; whether it is.
    pub(crate) fn drained(&self, within: Duration) -> Result<bool, TransferError> {
        let open = |s: &mut FlowState| !s.pending.is_empty() && s.failure.is_none();
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, open, within);
        state.failure.clone().map_or(Ok(state.pending.is_empty()), Err)
    }

    /// Fails if the transfer failed, or if what is under way has not been acknowledged for too long.
    pub(crate) fn check(&self) -> Result<(), TransferError> {
        let state = self.state.lock();
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        let since = state.last.map_or(Duration::ZERO, |last| last.elapsed());
        if !state.pending.is_empty() && since >= self.stall {
            drop(state);
            return Err(self.stalled("waiting for an acknowledgement"));
        }
        Ok(())
    }

    /// Waits for a point in time, or for the transfer to fail.
    pub(crate) fn pause(&self, until: Instant) -> Result<(), TransferError> {
        let left = until.saturating_duration_since(Instant::now());
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |s| s.failure.is_none(), left);
        state.failure.clone().map_or(Ok(()), Err)
    }

    /// Waits for the destination to accept the token.
    pub(crate) fn welcomed(&self, within: Duration) -> Result<bool, TransferError> {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |s| !s.welcome && s.failure.is_none(), within);
        state.failure.clone().map_or(Ok(state.welcome), Err)
    }

    /// Waits for the destination's word on the whole.
    pub(crate) fn verdict(&self) -> Result<Verdict, TransferError> {
        let state = self.wait("waiting for the destination's verdict", |s| s.verdict.is_some())?;
        state.verdict.ok_or_else(|| self.closed())
    }

    /// Waits a moment for the failure that another thread may be about to report; it knows the reason better.
    pub(crate) fn failure_or(&self, error: TransferError) -> TransferError {
        let patience = Duration::from_millis(500);
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |s| s.failure.is_none(), patience);
        let known = state.failure.clone();
        drop(state);
        self.fail(known.unwrap_or(error))
    }

    fn stalled(&self, doing: &'static str) -> TransferError {
        let bytes = self.content.load(Ordering::Relaxed);
        self.fail(TransferError::Stalled { peer: self.peer.clone(), doing, bytes, after: self.stall })
    }

    fn wait(
        &self,
        doing: &'static str,
        ready: impl Fn(&FlowState) -> bool,
    ) -> Result<MutexGuard<'_, FlowState>, TransferError> {
        let began = Instant::now();
        let mut state = self.state.lock();
        loop {
            if let Some(error) = &state.failure {
                return Err(error.clone());
            }
            if ready(&state) {
                return Ok(state);
            }
            // Progress of the other end moves the deadline.
            let deadline = state.last.map_or(began, |last| last.max(began)) + self.stall;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                return Err(self.stalled(doing));
            }
            self.changed.wait_for(&mut state, left);
        }
    }
}

/// How the destination's transfer is stopped from outside.
#[derive(Default)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    notify: tokio::sync::Notify,
    action: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Stop {
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.notify.notify_one();
        if let Some(action) = &*self.action.lock() {
            action();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits to be stopped; for one waiter.
    pub(crate) async fn stopped(&self) {
        self.notify.notified().await;
    }

    /// What interrupts the transport; done at once if it was stopped before.
    pub(crate) fn interrupt_by(&self, action: impl Fn() + Send + 'static) {
        let mut slot = self.action.lock();
        if self.is_stopped() {
            action();
        }
        *slot = Some(Box::new(action));
    }
}

/// The destination's half: frames in order, each checked for its place in the row.
pub(crate) struct Inlet {
    pub(crate) frames: Queue<Result<Buf, TransferError>>,
    pub(crate) replies: Box<dyn ReplyPort>,
    pub(crate) pool: Pool,
    pub(crate) peer: String,
    pub(crate) tag: u32,
    /// Longest silence, for a transport whose connection does not watch it by itself.
    pub(crate) stall: Option<Duration>,
    pub(crate) next: u64,
}

impl Inlet {
    /// The next frame; waits for as long as the stall deadline. `bytes` of content had come before, for the message.
    pub(crate) fn next(&mut self, bytes: u64) -> Result<Buf, TransferError> {
        let received = match self.stall {
            Some(stall) => self.frames.recv_timeout(stall),
            None => self.frames.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let peer = || self.peer.clone();
        let frame = match received {
            Ok(Ok(frame)) => frame,
            Ok(Err(TransferError::Stalled { after, doing, .. })) => {
                return Err(TransferError::Stalled { peer: peer(), doing, bytes, after });
            }
            Ok(Err(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) => {
                let after = self.stall.unwrap_or_default();
                return Err(TransferError::Stalled { peer: peer(), doing: WAITING, bytes, after });
            }
            Err(RecvTimeoutError::Disconnected) => return Err(TransferError::Closed { peer: peer(), bytes }),
        };
        let (tag, got) = frame.stamp();
        if tag != self.tag {
            return Err(TransferError::malformed(&self.peer, "a frame of another transfer"));
        }
        if got != self.next {
            return Err(TransferError::Gap { peer: self.peer.clone(), expected: self.next, got });
        }
        self.next += 1;
        Ok(frame)
    }
}

/// A secret of 128 bits in hexadecimal.
///
/// # Errors
/// Where the kernel gives no random bytes.
pub fn token() -> Result<String, TransferError> {
    use std::io::Read as _;
    let mut bytes = [0u8; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|e| TransferError::io("read", "/dev/urandom", e))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Marks the frames of one transfer, so that a straggler of an earlier one is recognised.
pub(crate) fn tag(token: &str) -> u32 {
    u32::from_str_radix(token.get(..8).unwrap_or("0"), 16).unwrap_or(0)
}

/// Compares in a time that depends on the length alone.
#[must_use]
pub fn same_secret(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len() && one.iter().zip(two).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(stall: Duration) -> Arc<Flow> {
        Flow::new("peer".into(), 100, 16, stall)
    }

    #[test]
    fn the_window_admits_no_more_than_its_size_until_acknowledged() {
        let flow = flow(Duration::from_millis(30));
        flow.reserve(60).unwrap();
        flow.reserve(40).unwrap();
        assert!(matches!(flow.reserve(1), Err(TransferError::Stalled { .. })));
    }

    #[test]
    fn an_acknowledgement_opens_the_window() {
        let flow = flow(Duration::from_secs(60));
        flow.reserve(100).unwrap();
        let other = Arc::clone(&flow);
        let thread = std::thread::spawn(move || other.reserve(80));
        flow.reply(Reply::Ack(1)).unwrap();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn small_frames_count_for_the_buffer_they_occupy() {
        let flow = flow(Duration::from_millis(30));
        (0..25).for_each(|_| flow.reserve(1).unwrap());
        assert!(flow.reserve(1).is_err());
    }

    #[test]
    fn a_frame_larger_than_the_window_passes_alone() {
        flow(Duration::from_millis(30)).reserve(500).unwrap();
    }

    #[test]
    fn acknowledging_what_was_not_sent_ends_the_transfer() {
        let flow = flow(Duration::from_secs(60));
        flow.reserve(10).unwrap();
        assert!(flow.reply(Reply::Ack(2)).is_err());
        assert!(flow.reserve(1).is_err());
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, two) = (token().unwrap(), token().unwrap());
        assert_eq!(one.len(), 32);
        assert!(!same_secret(one.as_bytes(), two.as_bytes()) && same_secret(one.as_bytes(), one.as_bytes()));
    }
}
