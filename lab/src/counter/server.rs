//! The counter service: holds state, dirties it at a given rate, numbers every reply.
//!
//! Plain threads and plain sockets, so that CRIU meets nothing but what every service has. Every number the client judges
//! by lives in the processes' memory alone: if the service was started anew instead of migrated, or two copies answer, the
//! numbers say so.

use super::frames::{CounterStatus, Kind, REQUEST_LEN, Reply, Request, hash, mix};
use super::state::{CounterState, PAGE_BYTES, PageSweep, Region};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The port it listens on if none is given.
pub const DEFAULT_PORT: u16 = 7070;
/// Most processes one service may have.
pub const MAX_PROCESSES: usize = 32;
/// Bytes of one record in the service's file.
pub const RECORD_BYTES: usize = 32;
/// Longest time the dirtying thread sleeps: how soon it hears of a verification.
const IDLE: Duration = Duration::from_millis(50);
/// Above this rate pages are dirtied in batches, one per tick.
const TICK: Duration = Duration::from_millis(2);
/// A longer silence than this was a freeze, not a late wake-up: what it missed is not made up for, as a real service's
/// work would not be either.
const FREEZE: Duration = Duration::from_millis(250);
/// Pages dirtied or checked before the state is given to others for a moment.
const BATCH: u64 = 64;
const STACK_BYTES: usize = 256 * 1024;

/// How the service is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// State in bytes, over all processes.
    pub state_bytes: u64,
    /// Pages dirtied per second, over all processes.
    pub dirty_rate: u64,
    /// Number of processes, at least one.
    pub processes: usize,
    /// A file to append to.
    pub file: Option<PathBuf>,
    /// Records appended to it per second.
    pub file_rate: u64,
    /// What the state's contents are derived from.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT)),
            state_bytes: 64 << 20,
            dirty_rate: 300,
            processes: 1,
            file: None,
            file_rate: 10,
            seed: 1,
        }
    }
}

/// One process's part of what all processes see.
#[repr(C)]
struct Slot {
    pages: AtomicU64,
    dirtied: AtomicU64,
    busy_ns: AtomicU64,
    verified: AtomicU64,
    verified_pages: AtomicU64,
    verify_ns: AtomicU64,
    bad_pages: AtomicU64,
    stale: AtomicU64,
}

/// What all processes see: a page of zeroed memory, so every field must be valid as zero.
#[repr(C)]
struct Board {
    instance: AtomicU64,
    replies: AtomicU64,
    accepted: AtomicU64,
    open: AtomicU64,
    file_records: AtomicU64,
    verify: AtomicU64,
    slots: [Slot; MAX_PROCESSES],
}

const _: () = assert!(size_of::<Board>() <= PAGE_BYTES);

/// The [`Board`] in memory that a fork shares.
struct Shared {
    region: Region,
}

// SAFETY: the region is only ever reached as a `Board`, which is nothing but atomics.
unsafe impl Sync for Shared {}

impl Shared {
    fn board(&self) -> &Board {
        // SAFETY: the region is one zeroed, page-aligned page, large enough for a `Board` (asserted above), whose fields
        // are all valid as zero, and it lives as long as `self`.
        unsafe { self.region.as_ptr().cast::<Board>().as_ref() }
    }
}

/// A service bound to its address, with its state filled, not yet serving.
pub struct Service {
    config: Config,
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// One process of the service.
struct Worker {
    number: usize,
    config: Config,
    shared: Arc<Shared>,
    state: Mutex<CounterState>,
}

fn lock(state: &Mutex<CounterState>) -> MutexGuard<'_, CounterState> {
    // A panic under the lock would leave a page half written; the sums would tell, so going on loses nothing.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux and the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

impl Service {
    /// Binds the address and lays out what the processes share.
    ///
    /// # Errors
    /// An address that cannot be bound, a file that cannot be written, no memory, or too many processes.
    pub fn bind(config: Config) -> io::Result<Self> {
        if config.processes == 0 || config.processes > MAX_PROCESSES {
            let why = format!("the number of processes must be from 1 to {MAX_PROCESSES}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = TcpListener::bind(config.listen)?;
        let region = Region::map(1, config.processes > 1)?;
        let shared = Arc::new(Shared { region });
        let drawn = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        shared.board().instance.store(drawn | 1, SeqCst);
        Ok(Self { config, listener, shared })
    }

    /// The address it listens on, with the port the kernel chose if it was left open.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves in this process and, if asked for, in children forked from it. Does not come back unless something failed.
    ///
    /// Must be called before the process has other threads if there is to be more than one process: a fork takes along
    /// one thread only.
    ///
    /// # Errors
    /// No memory for the state, no process, no thread, or a file that cannot be written.
    pub fn run(self) -> io::Result<()> {
        let mut number = 0;
        for child in 1..self.config.processes {
            // SAFETY: the caller has no other threads yet (see above), so the child may use everything it inherits.
            match unsafe { libc::fork() } {
                -1 => return Err(io::Error::last_os_error()),
                0 => {
                    // Nobody else would end the children of a service that is no container's first process.
                    // SAFETY: plain arguments, no memory involved.
                    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                    number = child;
                    break;
                }
                _ => {}
            }
        }
        let processes = self.config.processes as u64;
        let bytes = self.config.state_bytes.div_ceil(processes);
        let state = CounterState::new(bytes, mix(self.config.seed.wrapping_add(number as u64)))?;
        let worker =
            Arc::new(Worker { number, config: self.config, shared: self.shared, state: Mutex::new(state) });
        worker.slot().pages.store(lock(&worker.state).pages(), SeqCst);

        let dirtying = Arc::clone(&worker);
        std::thread::Builder::new()
            .name("dirty".into())
            .stack_size(STACK_BYTES)
            .spawn(move || dirtying.keep_dirtying())?;
        if let (0, Some(path)) = (number, worker.config.file.clone()) {
            // What an earlier instance left there would be taken for this one's.
            let file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
            let appending = Arc::clone(&worker);
            std::thread::Builder::new()
                .name("append".into())
                .stack_size(STACK_BYTES)
                .spawn(move || appending.keep_appending(file))?;
        }
        loop {
            let (stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                // A client that gave up, or no descriptors left for now: neither may end the service.
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
            };
            let serving = Arc::clone(&worker);
            std::thread::Builder::new().name("client".into()).stack_size(STACK_BYTES).spawn(move || {
                let board = serving.shared.board();
                board.accepted.fetch_add(1, SeqCst);
                board.open.fetch_add(1, SeqCst);
                // A client that goes away or talks nonsense ends its own connection only.
                let _ = serving.converse(stream);
                board.open.fetch_sub(1, SeqCst);
            })?;
        }
    }
}

impl Worker {
    fn slot(&self) -> &Slot {
        &self.shared.board().slots[self.number]
    }

    /// Dirties pages at the configured rate and, being the only one that changes the state, verifies it when asked.
    fn keep_dirtying(&self) {
        let processes = self.config.processes as u64;
        let rate = self.config.dirty_rate / processes
            + u64::from((self.number as u64) < self.config.dirty_rate % processes);
        let mut random = mix(self.config.seed ^ (self.number as u64 + 1) << 32);
        let mut owed_since = Instant::now();
        let mut paid = 0u64;
        let mut last = owed_since;
        loop {
            let now = Instant::now();
            if now.saturating_duration_since(last) > FREEZE || now < last {
                (owed_since, paid) = (now, 0);
            }
            last = now;
            let due = (now.saturating_duration_since(owed_since).as_nanos() * u128::from(rate)
                / 1_000_000_000) as u64;
            let mut left = due.saturating_sub(paid);
            paid = paid.max(due);
            if left > 0 {
                while left > 0 {
                    let mut state = lock(&self.state);
                    for _ in 0..left.min(BATCH) {
                        random = mix(random);
                        state.dirty(random);
                    }
                    self.slot().dirtied.store(state.dirtied(), Relaxed);
                    left -= left.min(BATCH);
                }
                self.slot().busy_ns.fetch_add(now.elapsed().as_nanos() as u64, Relaxed);
            }
            let asked = self.shared.board().verify.load(SeqCst);
            if self.slot().verified.load(SeqCst) < asked {
                self.verify(asked);
            }
            let next = match rate {
                0 => IDLE,
                // When the next page is due, but not more often than a tick: that would cost more than the dirtying.
                _ => {
                    let at = Duration::from_nanos(
                        ((u128::from(paid) + 1) * 1_000_000_000).div_ceil(u128::from(rate)) as u64,
                    );
                    (owed_since + at).saturating_duration_since(Instant::now()).clamp(TICK, IDLE)
                }
            };
            std::thread::sleep(next);
        }
    }

    fn verify(&self, generation: u64) {
        let start = Instant::now();
        let mut sweep = PageSweep::default();
        while !lock(&self.state).sweep(&mut sweep, BATCH) {}
        let slot = self.slot();
        slot.verified_pages.store(sweep.pages, SeqCst);
        slot.bad_pages.store(sweep.bad, SeqCst);
        slot.stale.store(u64::from(sweep.stale), SeqCst);
        slot.verify_ns.store(start.elapsed().as_nanos() as u64, SeqCst);
        slot.verified.store(generation, SeqCst);
    }

    fn keep_appending(&self, mut file: File) {
        let board = self.shared.board();
        let pause = Duration::from_nanos(1_000_000_000 / self.config.file_rate.max(1));
        if self.config.file_rate == 0 {
            return;
        }
        loop {
            let next = board.file_records.load(SeqCst);
            if file.write_all(&record(board.instance.load(SeqCst), next)).is_ok() {
                board.file_records.store(next + 1, SeqCst);
            }
            std::thread::sleep(pause);
        }
    }

    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let board = self.shared.board();
        let mut counter = 0u64;
        let mut frame = [0u8; REQUEST_LEN];
        loop {
            stream.read_exact(&mut frame)?;
            let request =
                Request::decode(&frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            match request.kind {
                Kind::Ping => {
                    counter += 1;
                    let global = board.replies.fetch_add(1, SeqCst) + 1;
                    let (sample, seed, dirtied) = {
                        let state = lock(&self.state);
                        (state.sample(mix(request.nonce ^ request.seq)), state.seed(), state.dirtied())
                    };
                    let reply = Reply {
                        nonce: request.nonce,
                        seq: request.seq,
                        sent_ns: request.sent_ns,
                        connection_counter: counter,
                        global_counter: global,
                        instance: board.instance.load(SeqCst),
                        worker: self.number as u64,
                        dirtied,
                        seed,
                        page: sample.page,
                        version: sample.version,
                        page_sum: sample.sum,
                        fault: u64::from(!sample.sound),
                    };
                    stream.write_all(&reply.encode())?;
                }
                Kind::Stat => stream.write_all(&self.status(false).encode())?,
                Kind::Verify => stream.write_all(&self.status(true).encode())?,
            }
        }
    }

    fn status(&self, verify: bool) -> CounterStatus {
        let board = self.shared.board();
        let slots = &board.slots[..self.config.processes];
        if verify {
            let asked = board.verify.fetch_add(1, SeqCst) + 1;
            while slots.iter().any(|slot| slot.verified.load(SeqCst) < asked) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let total = |of: fn(&Slot) -> &AtomicU64| slots.iter().map(|slot| of(slot).load(SeqCst)).sum::<u64>();
        let mut status = CounterStatus {
            instance: board.instance.load(SeqCst),
            workers: self.config.processes as u64,
            replies: board.replies.load(SeqCst),
            accepted: board.accepted.load(SeqCst),
            open: board.open.load(SeqCst),
            pages: total(|s| &s.pages),
            dirtied: total(|s| &s.dirtied),
            dirty_rate: self.config.dirty_rate,
            at_ns: monotonic_ns(),
            busy_ns: total(|s| &s.busy_ns),
            ..CounterStatus::default()
        };
        if verify {
            status.bad_pages = total(|s| &s.bad_pages);
            status.stale_workers = total(|s| &s.stale);
            status.verified_pages = total(|s| &s.verified_pages);
            status.verify_ns = slots.iter().map(|s| s.verify_ns.load(SeqCst)).max().unwrap_or(0);
        }
        if let Some(path) = &self.config.file {
            status.file = 1;
            status.file_records = board.file_records.load(SeqCst);
            let found = check_file(path, status.instance, status.file_records).unwrap_or(FileCheck {
                bytes: 0,
                hash: 0,
                bad: status.file_records,
            });
            (status.file_bytes, status.file_hash, status.file_bad_records) =
                (found.bytes, found.hash, found.bad);
        }
        status
    }
}

/// The record number `n`: can be told from any other record of this or another instance.
fn record(instance: u64, n: u64) -> [u8; RECORD_BYTES] {
    let mut line = [b' '; RECORD_BYTES];
    let text = format!("{n:014} {:016x}\n", mix(mix(instance) ^ n));
    line.copy_from_slice(&text.as_bytes()[..RECORD_BYTES]);
    line
}

struct FileCheck {
    bytes: u64,
    hash: u64,
    bad: u64,
}

/// Reads the service's file as it is on disk: at least `records` of them must be there, and each must be the right one.
fn check_file(path: &Path, instance: u64, records: u64) -> io::Result<FileCheck> {
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(path)?);
    let mut check = FileCheck { bytes: 0, hash: 0, bad: 0 };
    let mut line = [0u8; RECORD_BYTES];
    let mut n = 0u64;
    while reader.read_exact(&mut line).is_ok() {
        check.hash = hash(&line, check.hash);
        check.bad += u64::from(line != record(instance, n));
        n += 1;
    }
    check.bytes = n * RECORD_BYTES as u64;
    check.bad += records.saturating_sub(n);
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::frames::query;

    /// A service on the loopback, for as long as the test process lives.
    pub(crate) fn service(config: Config) -> SocketAddr {
        let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..config };
        let service = Service::bind(config).unwrap();
        let address = service.address().unwrap();
        std::thread::spawn(move || service.run());
        address
    }

    fn ask(address: SocketAddr, kind: Kind) -> CounterStatus {
        query(&mut TcpStream::connect(address).unwrap(), kind, 1).unwrap()
    }

    #[test]
    fn dirties_as_many_pages_as_it_was_told_to() {
        for rate in [300, 20_000] {
            let address = service(Config { state_bytes: 4 << 20, dirty_rate: rate, ..Config::default() });
            let first = ask(address, Kind::Stat);
            while ask(address, Kind::Stat).at_ns - first.at_ns < 1_000_000_000 {
                std::thread::sleep(Duration::from_millis(20));
            }
            let second = ask(address, Kind::Stat);
            let seconds = (second.at_ns - first.at_ns) as f64 / 1e9;
            let measured = (second.dirtied - first.dirtied) as f64 / seconds;
            let off = (measured / rate as f64 - 1.0).abs();
            assert!(off < 0.05, "{measured} instead of {rate}");
        }
    }

    #[test]
    fn its_own_verification_finds_nothing_wrong() {
        let address = service(Config { state_bytes: 1 << 20, dirty_rate: 5000, ..Config::default() });
        let status = ask(address, Kind::Verify);
        assert_eq!((status.verified_pages, status.bad_pages, status.stale_workers), (256, 0, 0));
    }

    #[test]
    fn what_it_appended_is_on_disk_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let address = service(Config {
            state_bytes: 4096,
            file: Some(path.clone()),
            file_rate: 1000,
            ..Config::default()
        });
        let status = loop {
            let status = ask(address, Kind::Stat);
            if status.file_records > 5 {
                break status;
            }
        };
        assert_eq!(status.file_bad_records, 0);
        assert!(status.file_bytes >= status.file_records * RECORD_BYTES as u64);

        let intact = std::fs::read(&path).unwrap();
        let whole = intact.len() / RECORD_BYTES;
        // A copy, as the service goes on appending.
        let copy = dir.path().join("copy");
        std::fs::write(&copy, &intact[..(whole - 1) * RECORD_BYTES]).unwrap();
        let shorter = check_file(&copy, status.instance, whole as u64).unwrap();
        assert_eq!(shorter.bad, 1);
        assert_eq!(check_file(&copy, status.instance ^ 2, 0).unwrap().bad, whole as u64 - 1);
    }

    #[test]
    fn too_many_processes_are_refused() {
        let config = Config { processes: MAX_PROCESSES + 1, ..Config::default() };
        assert!(Service::bind(config).is_err());
    }
}
