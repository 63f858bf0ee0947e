//! The connection to the bridge's management socket: one thread of its own, so that packets to be held are taken off the
//! switch's short queue (100 of them, the rest is dropped) whatever the rest of the process does.
//!
//! It reconnects by itself. Meanwhile every request fails at once and says why.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
};

use super::messages::{self, BundleStep, FlowEntry, FlowMod, HEADER, Header, PacketIn, kind};
use crate::CoatError;

/// Bytes that may wait to be written before packets are dropped: a switch that reads nothing must not eat memory.
const QUEUE_LIMIT: usize = 64 << 20;
/// Flows taken from one dump.
const FLOWS_LIMIT: usize = 1 << 18;

/// How it is tried again to connect.
const LONGEST: Duration = Duration::from_secs(1);
const AGAIN: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(20))
    .with_max_delay(LONGEST)
    .without_max_times();

/// Takes packets that the switch sends here. Called on the connection's thread: it must not block.
pub(crate) trait PacketSink: Send + Sync + 'static {
    /// A packet, and the way to send it on.
    fn packet_in(&self, packet: &PacketIn<'_>, sender: &Sender);
}

/// Puts messages on the connection.
#[derive(Clone)]
pub(crate) struct Sender {
    queue: mpsc::UnboundedSender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
}

impl Sender {
    fn send(&self, bytes: Vec<u8>) -> bool {
        self.queued.fetch_add(bytes.len(), Ordering::Relaxed);
        self.queue.send(bytes).is_ok()
    }

    /// Sends a frame out of a port of the bridge; `false` if it was dropped.
    pub(crate) fn packet_out(&self, port: u32, frame: &[u8]) -> bool {
        if self.queued.load(Ordering::Relaxed) > QUEUE_LIMIT {
            return false;
        }
        messages::packet_out(0, port, frame).is_some_and(|bytes| self.send(bytes))
    }
}

type Refusal = Arc<Mutex<Option<String>>>;

/// Who waits for an answer to a transaction number.
enum Waiter {
    /// Only an error is of interest.
    Refusal(Refusal),
    Barrier(oneshot::Sender<()>),
    Flows(Vec<FlowEntry>, oneshot::Sender<Result<Vec<FlowEntry>, String>>),
}

enum Connection {
    Up(Sender),
    Down(String),
}

struct Shared {
    path: PathBuf,
    connection: Mutex<Connection>,
    waiters: Mutex<HashMap<u32, Waiter>>,
    next: AtomicU32,
    sink: Arc<dyn PacketSink>,
    /// How often the connection came up.
    generation: watch::Sender<u64>,
}

impl Shared {
    /// A transaction number; never 0, which packet-outs carry.
    fn xid(&self) -> u32 {
        loop {
            match self.next.fetch_add(1, Ordering::Relaxed) {
                0 => {}
                xid => return xid,
            }
        }
    }

    fn sender(&self) -> Result<Sender, CoatError> {
        match &*self.connection.lock() {
            Connection::Up(sender) => Ok(sender.clone()),
            Connection::Down(reason) => Err(self.unreachable(reason.clone())),
        }
    }

    fn unreachable(&self, reason: String) -> CoatError {
        CoatError::Unreachable { path: self.path.clone(), reason, daemon: "ovs-vswitchd" }
    }

    /// The connection broke while something was waited for.
    fn broken(&self) -> CoatError {
        let reason = match &*self.connection.lock() {
            Connection::Down(reason) => reason.clone(),
            Connection::Up(_) => "the connection broke".to_owned(),
        };
        self.unreachable(reason)
    }

    fn dispatch(&self, header: Header, body: &[u8], sender: &Sender) -> io::Result<()> {
        match header.kind {
            kind::PACKET_IN => match messages::parse_packet_in(body) {
                Some(packet) => self.sink.packet_in(&packet, sender),
                None => return Err(malformed("packet-in")),
            },
            kind::ECHO_REQUEST => {
                if let Some(bytes) = messages::echo_reply(header.xid, body) {
                    sender.send(bytes);
                }
            }
            kind::ERROR => self.refused(header.xid, messages::describe_error(body)),
            kind::BARRIER_REPLY => {
                if let Some(Waiter::Barrier(done)) = self.waiters.lock().remove(&header.xid) {
                    // Whoever waited may have given up.
                    let _ = done.send(());
                }
            }
            kind::MULTIPART_REPLY => {
                let (entries, more) =
                    messages::parse_flow_stats(body).ok_or_else(|| malformed("flow dump"))?;
                self.flows(header.xid, entries, more);
            }
            _ => {}
        }
        Ok(())
    }

    fn refused(&self, xid: u32, reason: String) {
        let mut waiters = self.waiters.lock();
        match waiters.remove(&xid) {
            Some(Waiter::Refusal(slot)) => {
                slot.lock().get_or_insert(reason);
            }
            Some(Waiter::Flows(_, done)) => {
                let _ = done.send(Err(reason));
            }
            Some(waiter @ Waiter::Barrier(_)) => {
                waiters.insert(xid, waiter);
            }
            None => tracing::warn!(xid, reason, "the switch refused a packet"),
        }
    }

    fn flows(&self, xid: u32, mut entries: Vec<FlowEntry>, more: bool) {
        let mut waiters = self.waiters.lock();
        let Some(Waiter::Flows(mut flows, done)) = waiters.remove(&xid) else {
            return;
        };
        flows.append(&mut entries);
        if flows.len() > FLOWS_LIMIT {
            let _ = done.send(Err(format!("more than {FLOWS_LIMIT} flows")));
        } else if more {
            waiters.insert(xid, Waiter::Flows(flows, done));
        } else {
            let _ = done.send(Ok(flows));
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {what}"))
}

/// Forgets transaction numbers when the request ends, however it ends.
struct Registered<'a> {
    shared: &'a Shared,
    xids: Vec<u32>,
}

impl Registered<'_> {
    fn add(&mut self, waiter: Waiter) -> u32 {
        let xid = self.shared.xid();
        self.shared.waiters.lock().insert(xid, waiter);
        self.xids.push(xid);
        xid
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut waiters = self.shared.waiters.lock();
        for xid in &self.xids {
            waiters.remove(xid);
        }
    }
}

/// An OpenFlow connection that keeps itself alive.
pub(crate) struct OfClient {
    shared: Arc<Shared>,
    deadline: Duration,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OfClient {
    /// Starts the connection's thread; [`Self::up`] says when it is connected.
    pub(crate) fn start(
        path: &Path,
        deadline: Duration,
        sink: Arc<dyn PacketSink>,
    ) -> Result<Self, CoatError> {
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            connection: Mutex::new(Connection::Down("not connected yet".to_owned())),
            waiters: Mutex::default(),
            next: AtomicU32::new(1),
            sink,
            generation: watch::Sender::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| CoatError::kernel("start the OpenFlow connection's runtime", e))?;
        let (stop, stopped) = oneshot::channel();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("coat-openflow".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped => {}
                        () = keep_alive(&of_thread, deadline) => {}
                    }
                });
            })
            .map_err(|e| CoatError::kernel("start the OpenFlow connection's thread", e))?;
        Ok(Self { shared, deadline, stop: Some(stop), thread: Some(thread) })
    }

    /// Counts how often the connection came up.
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Waits until connected.
    pub(crate) async fn up(&self, within: Duration) -> Result<(), CoatError> {
        let mut generation = self.generation();
        let connected = tokio::time::timeout(within, generation.wait_for(|n| *n > 0)).await;
        match connected {
            Ok(Ok(_)) => Ok(()),
            _ => Err(self.shared.broken()),
        }
    }

    /// The way to send packets, if connected.
    pub(crate) fn sender(&self) -> Result<Sender, CoatError> {
        self.shared.sender()
    }

    /// Makes all changes at once, or none: one atomic bundle, then a barrier.
    pub(crate) async fn commit(&self, what: &str, changes: &[FlowMod]) -> Result<(), CoatError> {
        let shared = &*self.shared;
        let sender = shared.sender()?;
        let refusal = Refusal::default();
        let mut registered = Registered { shared, xids: Vec::with_capacity(changes.len() + 3) };
        let control = |registered: &mut Registered<'_>| registered.add(Waiter::Refusal(Arc::clone(&refusal)));
        let bundle = shared.xid();
        let mut bytes = messages::bundle_control(control(&mut registered), bundle, BundleStep::Open);
        for change in changes {
            bytes.extend(messages::bundle_add(control(&mut registered), bundle, change));
        }
        bytes.extend(messages::bundle_control(control(&mut registered), bundle, BundleStep::Commit));
        let (done, barrier) = oneshot::channel();
        bytes.extend(messages::barrier(registered.add(Waiter::Barrier(done))));
        sender.send(bytes);
        match tokio::time::timeout(self.deadline, barrier).await {
            Err(_) => Err(self.late(what)),
            Ok(Err(_)) => Err(shared.broken()),
            Ok(Ok(())) => match refusal.lock().take() {
                None => Ok(()),
                Some(reason) => Err(CoatError::OpenFlow { what: what.to_owned(), reason }),
            },
        }
    }

    /// Waits until the switch has done everything it was told before.
    pub(crate) async fn barrier(&self, what: &str) -> Result<(), CoatError> {
        let shared = &*self.shared;
        let sender = shared.sender()?;
        let mut registered = Registered { shared, xids: Vec::with_capacity(1) };
        let (done, barrier) = oneshot::channel();
        sender.send(messages::barrier(registered.add(Waiter::Barrier(done))));
        match tokio::time::timeout(self.deadline, barrier).await {
            Err(_) => Err(self.late(what)),
            Ok(Err(_)) => Err(shared.broken()),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Every flow of the bridge.
    pub(crate) async fn flows(&self) -> Result<Vec<FlowEntry>, CoatError> {
        let shared = &*self.shared;
        let sender = shared.sender()?;
        let mut registered = Registered { shared, xids: Vec::new() };
        let (done, flows) = oneshot::channel();
        let xid = registered.add(Waiter::Flows(Vec::new(), done));
        sender.send(messages::flow_stats_request(xid));
        match tokio::time::timeout(self.deadline, flows).await {
            Err(_) => Err(self.late("the dump of its flows")),
            Ok(Err(_)) => Err(shared.broken()),
            Ok(Ok(flows)) => flows
                .map_err(|reason| CoatError::OpenFlow { what: "the dump of its flows".to_owned(), reason }),
        }
    }

    fn late(&self, what: &str) -> CoatError {
        CoatError::Deadline { what: what.to_owned(), after: self.deadline }
    }
}

impl Drop for OfClient {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // Joined, so that no packet is taken in by a connection nobody owns any more. The thread waits for nothing but its
        // sockets, so it ends at once.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Connects, serves, connects again.
async fn keep_alive(shared: &Shared, deadline: Duration) {
    let mut pauses = AGAIN.build();
    loop {
        let ended = match connect(&shared.path, deadline).await {
            Ok((reader, writer)) => {
                pauses = AGAIN.build();
                serve(shared, reader, writer).await
            }
            Err(error) => error,
        };
        *shared.connection.lock() = Connection::Down(ended.to_string());
        // Dropping the waiters tells those who wait.
        shared.waiters.lock().clear();
        tracing::debug!(path = %shared.path.display(), error = %ended, "no OpenFlow connection");
        tokio::time::sleep(pauses.next().unwrap_or(LONGEST)).await;
    }
}

async fn connect(path: &Path, deadline: Duration) -> io::Result<(BufReader<OwnedReadHalf>, OwnedWriteHalf)> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no greeting");
    tokio::time::timeout(deadline, async {
        let (reader, mut writer) = UnixStream::connect(path).await?.into_split();
        let mut reader = BufReader::with_capacity(256 << 10, reader);
        writer.write_all(&messages::hello(1)).await?;
        let mut body = Vec::new();
        let hello = read_message(&mut reader, &mut body).await?;
        match hello.kind {
            kind::HELLO if hello.version >= messages::VERSION => {}
            kind::ERROR => return Err(io::Error::other(messages::describe_error(&body))),
            _ => {
                return Err(io::Error::other(
                    "the bridge does not allow OpenFlow 1.4 (its `protocols` in the database must name OpenFlow14)",
                ));
            }
        }
        writer.write_all(&messages::set_config(2)).await?;
        Ok((reader, writer))
    })
    .await
    .map_err(late)?
}

/// Reads one message: its header is returned, its body left in `body`. At most 64 KiB, as the length field has 16 bits.
async fn read_message(reader: &mut BufReader<OwnedReadHalf>, body: &mut Vec<u8>) -> io::Result<Header> {
    let mut head = [0; HEADER];
    reader.read_exact(&mut head).await?;
    let header = Header::parse(head).ok_or_else(|| malformed("header"))?;
    body.resize(header.length - HEADER, 0);
    reader.read_exact(body).await?;
    Ok(header)
}

/// Serves a connection until it breaks; returns why it did.
async fn serve(shared: &Shared, mut reader: BufReader<OwnedReadHalf>, writer: OwnedWriteHalf) -> io::Error {
    let (queue, queued) = mpsc::unbounded_channel();
    let sender = Sender { queue, queued: Arc::default() };
    *shared.connection.lock() = Connection::Up(sender.clone());
    shared.generation.send_modify(|n| *n += 1);
    let read = async {
        let mut body = Vec::new();
        loop {
            let header = match read_message(&mut reader, &mut body).await {
                Ok(header) => header,
                Err(error) => return error,
            };
            if let Err(error) = shared.dispatch(header, &body, &sender) {
                return error;
            }
        }
    };
    tokio::select! {
        error = read => error,
        error = write(writer, queued, &sender.queued) => error,
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: &AtomicUsize,
) -> io::Error {
    let mut batch = Vec::new();
    loop {
        if queue.recv_many(&mut batch, 64).await == 0 {
            return io::Error::other("closed");
        }
        let bytes = batch.concat();
        batch.clear();
        let written = writer.write_all(&bytes).await;
        queued.fetch_sub(bytes.len(), Ordering::Relaxed);
        if let Err(error) = written {
            return error;
        }
    }
}
