//! Many connections in one thread: each asks on a schedule of its own, one request at a time, and the time from every request to
//! its reply is judged.
//!
//! A thread for each of a thousand connections would measure the machine's scheduler. The connections' schedules are spread over
//! their period, so that they are no burst by themselves.

use super::frames::mix;
use super::ping::unix_us;
use super::protocol::{Answer, Dialect, Protocol};
use super::readable::Readable;
use super::sent_again::SentAgain;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Waits longer than this are listed one by one.
const LISTED: Duration = Duration::from_millis(20);
/// Most waits listed; the longest is kept in any case.
const MAX_LISTED: usize = 200_000;
/// How long after a wait it is known which segments were needless: the service hears the last of them by then.
const KNOWN: Duration = Duration::from_secs(2);
/// How often the loop looks whether it was asked to end.
const GLANCE: Duration = Duration::from_millis(50);
/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The service.
    pub connect: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Number of connections, all opened at the start.
    pub connections: u32,
    /// Requests per second and connection.
    pub rate: u32,
    /// How long to send; `None` until asked to stop.
    pub duration: Option<Duration>,
    /// How long to wait at the end for replies that are still outstanding.
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: SocketAddr::from(([127, 0, 0, 1], 6379)),
            protocol: Protocol::Redis,
            connections: 1000,
            rate: 2,
            duration: Some(Duration::from_secs(10)),
            grace: Duration::from_secs(30),
        }
    }
}

/// A request that took long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Wait {
    /// Which connection, from 0.
    pub connection: u32,
    /// When it was sent, in µs since 1970 on the client's clock.
    pub sent_at_unix_us: u64,
    /// From the request to its reply, in ms; where none came, to the end of the client's time.
    pub ms: f64,
    /// Whether the reply came.
    pub answered: bool,
    /// Segments that the client's kernel sent again and that the service had not had before: without them there would have been
    /// no reply.
    pub needed_again: u32,
}

/// What the client saw.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The protocol spoken.
    pub workload: String,
    /// The address asked.
    pub target: String,
    /// Connections opened; none is ever opened again.
    pub connections: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub received: u64,
    /// Requests never answered.
    pub lost: u64,
    /// Replies to requests already answered.
    pub repeated: u64,
    /// Replies that cannot be read, or tell of lost state.
    pub corrupted: u64,
    /// Connections that ended with a reset.
    pub resets: u64,
    /// Connections that the service closed.
    pub closed: u64,
    /// The longest time from a request to its reply, in ms.
    pub worst_ms: f64,
    /// Every wait over 20 ms, in order of time.
    pub waits: Vec<Wait>,
    /// Waits over 20 ms that are not listed because there were too many.
    pub unlisted: u64,
    /// Segments that the client's kernel sent again, over all connections.
    pub sent_again: u64,
    /// Of those, the ones that the service had had before.
    pub needlessly: u64,
    /// When the first request was due, in ms since 1970.
    pub started_at_unix_ms: u64,
    /// When the last connection was done, in ms since 1970.
    pub ended_at_unix_ms: u64,
    /// What went wrong on a connection, in words.
    pub errors: Vec<String>,
}

impl Report {
    /// Whether every request was answered once, on the connections it began with.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.received > 0
            && self.lost + self.repeated + self.corrupted + self.resets + self.closed == 0
            && self.errors.is_empty()
    }
}

/// One connection.
struct Line {
    stream: TcpStream,
    dialect: Dialect,
    heard: Vec<u8>,
    sent: u64,
    /// The request that is not answered yet: when it was sent, by both clocks.
    asked: Option<(Instant, u64)>,
    next: Instant,
    /// What had been sent again when the request was sent.
    before: SentAgain,
    /// The place in the list of the last wait, and when that ended, until what it took is known: that a segment was needless is
    /// told of some time after the reply.
    listed: Option<(usize, Instant)>,
    over: bool,
}

impl Line {
    fn open(config: &Config, nonce: u64) -> io::Result<Self> {
        let (stream, dialect) = Dialect::connect(config.connect, config.protocol, nonce)?;
        stream.set_nonblocking(true)?;
        let before = SentAgain::of(&stream)?;
        Ok(Self {
            stream,
            dialect,
            heard: Vec::new(),
            sent: 0,
            asked: None,
            next: Instant::now(),
            before,
            listed: None,
            over: false,
        })
    }

    fn ask(&mut self, start: Instant) -> io::Result<()> {
        let now = Instant::now();
        let mut request = Vec::new();
        self.dialect.request(self.sent, now.saturating_duration_since(start).as_nanos() as u64, &mut request);
        self.asked = Some((now, unix_us()));
        self.sent += 1;
        // A request is some 50 bytes and the one before was answered: it fits, or the connection is broken.
        let written = self.stream.write(&request)?;
        if written == request.len() {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::WriteZero, "a request did not fit into the socket"))
    }
}

/// All connections, and what they saw.
struct Crowd {
    lines: Vec<Line>,
    report: Report,
}

impl Crowd {
    fn lists(&mut self, number: usize, wait: Wait) {
        self.report.worst_ms = self.report.worst_ms.max(wait.ms);
        if wait.ms <= LISTED.as_secs_f64() * 1e3 {
            return;
        }
        if self.report.waits.len() >= MAX_LISTED {
            self.report.unlisted += 1;
            return;
        }
        self.account(number, true);
        self.lines[number].listed = Some((self.report.waits.len(), Instant::now()));
        self.report.waits.push(wait);
    }

    /// Notes what the last listed wait took of the kernel, once that is known, or now.
    fn account(&mut self, number: usize, now: bool) {
        let line = &mut self.lines[number];
        let Some((place, _)) = line.listed.take_if(|(_, ended)| now || ended.elapsed() > KNOWN) else {
            return;
        };
        if let Ok(now) = SentAgain::of(&line.stream) {
            if let Some(wait) = self.report.waits.get_mut(place) {
                wait.needed_again = now.needed_since(line.before);
            }
            line.before = now;
        }
    }

    fn ended(&mut self, number: usize, error: Option<&io::Error>) {
        self.lines[number].over = true;
        match error.map(io::Error::kind) {
            None => self.report.closed += 1,
            Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe) => {
                self.report.resets += 1;
            }
            Some(_) => {
                let text = error.map(ToString::to_string).unwrap_or_default();
                self.report.errors.push(format!("connection {number}: {text}"));
            }
        }
    }

    /// Reads what a connection has to say; whether a request of its was answered.
    fn hear(&mut self, number: usize) -> bool {
        let mut chunk = [0u8; 4096];
        let line = &mut self.lines[number];
        let got = match line.stream.read(&mut chunk) {
            Ok(0) => {
                self.ended(number, None);
                return false;
            }
            Ok(got) => got,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return false,
            Err(e) => {
                self.ended(number, Some(&e));
                return false;
            }
        };
        let now = Instant::now();
        line.heard.extend_from_slice(&chunk[..got]);
        let mut taken = 0;
        let mut answered = None;
        while let Some((length, answer)) = line.dialect.answer(&line.heard[taken..]) {
            taken += length;
            match (answer, line.asked) {
                (Answer::To(reply), Some(asked)) if reply.seq + 1 == line.sent => {
                    self.report.received += 1;
                    line.asked = None;
                    answered = Some(asked);
                }
                (Answer::To(reply), _) if reply.seq < line.sent => self.report.repeated += 1,
                _ => self.report.corrupted += 1,
            }
        }
        line.heard.drain(..taken);
        let Some((asked, sent_at_unix_us)) = answered else { return false };
        let ms = ms(now.saturating_duration_since(asked));
        let connection = u32::try_from(number).unwrap_or(u32::MAX);
        self.lists(number, Wait { connection, sent_at_unix_us, ms, answered: true, needed_again: 0 });
        true
    }

    /// What was never answered, and what the kernel says of each connection.
    fn finish(mut self) -> Report {
        let now = Instant::now();
        let mut needless = Vec::with_capacity(self.lines.len());
        for number in 0..self.lines.len() {
            self.account(number, true);
            if let Some((asked, sent_at_unix_us)) = self.lines[number].asked.take() {
                self.report.lost += 1;
                let ms = ms(now.saturating_duration_since(asked));
                let connection = u32::try_from(number).unwrap_or(u32::MAX);
                self.lists(
                    number,
                    Wait { connection, sent_at_unix_us, ms, answered: false, needed_again: 0 },
                );
            }
            let again = SentAgain::of(&self.lines[number].stream);
            needless.push(again.as_ref().is_ok_and(|again| again.needless >= again.segments));
            if let Ok(again) = again {
                self.report.sent_again += u64::from(again.segments);
                self.report.needlessly += u64::from(again.needless);
            }
            self.report.sent += self.lines[number].sent;
        }
        // That a segment was needless may be told after a wait was judged. Where that is so of all of them, none was needed.
        for wait in &mut self.report.waits {
            if needless.get(wait.connection as usize) == Some(&true) {
                wait.needed_again = 0;
            }
        }
        self.report.waits.sort_by_key(|wait| wait.sent_at_unix_us);
        self.report.ended_at_unix_ms = unix_us() / 1000;
        self.report
    }
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Runs the client until its time is over, `stop` is set, or every connection has ended. `ready` is called once all
/// connections are open.
///
/// # Errors
/// A connection that cannot be opened at the start; everything after that is in the report.
pub fn run(config: &Config, stop: &AtomicBool, ready: impl FnOnce()) -> io::Result<Report> {
    let drawn = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    let readable = Readable::new()?;
    let mut lines = Vec::new();
    for number in 0..config.connections.max(1) {
        let line = Line::open(config, mix(drawn.wrapping_add(u64::from(number))))?;
        readable.add(&line.stream, lines.len())?;
        lines.push(line);
    }
    ready();
    let report = Report {
        workload: config.protocol.name().to_owned(),
        target: config.connect.to_string(),
        connections: lines.len() as u64,
        started_at_unix_ms: unix_us() / 1000,
        ..Report::default()
    };
    let mut crowd = Crowd { lines, report };
    let start = Instant::now();
    let period = Duration::from_secs(1) / config.rate.max(1);
    let count = u32::try_from(crowd.lines.len()).unwrap_or(u32::MAX);
    let mut due = BinaryHeap::new();
    for (number, line) in crowd.lines.iter_mut().enumerate() {
        line.next = start + period * u32::try_from(number).unwrap_or(0) / count;
        due.push(Reverse((line.next, number)));
    }
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
    let mut ending = None;
    loop {
        let now = Instant::now();
        let over = config.duration.is_some_and(|duration| now.saturating_duration_since(start) >= duration);
        if ending.is_none() && (over || stop.load(Relaxed)) {
            ending = Some(now + config.grace);
        }
        if crowd.lines.iter().all(|line| line.over) {
            break;
        }
        if let Some(end) = ending
            && (now >= end || crowd.lines.iter().all(|line| line.over || line.asked.is_none()))
        {
            break;
        }
        while ending.is_none()
            && let Some(Reverse((at, number))) = due.peek().copied()
            && at <= now
        {
            due.pop();
            if crowd.lines[number].over {
                continue;
            }
            crowd.account(number, false);
            if let Err(e) = crowd.lines[number].ask(start) {
                crowd.ended(number, Some(&e));
            }
        }
        let next = due.peek().map_or(GLANCE, |Reverse((at, _))| at.saturating_duration_since(now));
        let wait = if ending.is_some() { GLANCE } else { next.min(GLANCE) };
        let got = readable.wait(&mut events, wait)?;
        for event in &events[..got] {
            let number = event.u64 as usize;
            if crowd.lines[number].over {
                continue;
            }
            if crowd.hear(number) {
                // After a wait the schedule goes on from where it is, without a burst, and keeps its place among the others.
                let line = &mut crowd.lines[number];
                let now = Instant::now();
                while line.next <= now {
                    line.next += period;
                }
                due.push(Reverse((line.next, number)));
            }
        }
    }
    Ok(crowd.finish())
}

#[cfg(test)]
mod tests {
    use super::super::server;
    use super::*;
    use std::net::TcpListener;

    fn brief(connect: SocketAddr) -> Config {
        Config {
            connect,
            protocol: Protocol::Counter,
            connections: 20,
            rate: 20,
            duration: Some(Duration::from_millis(300)),
            grace: Duration::from_millis(200),
        }
    }

    #[test]
    fn a_sound_service_gives_a_clean_report() {
        let service = server::Service::bind(server::Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            state_bytes: 1 << 20,
            ..server::Config::default()
        })
        .unwrap();
        let address = service.address().unwrap();
        std::thread::spawn(move || service.run());
        let report = run(&brief(address), &AtomicBool::new(false), || {}).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.connections, report.sent), (20, report.received));
        assert!(report.sent >= 20 && report.worst_ms > 0.0, "{report:?}");
    }

    #[test]
    fn a_service_that_never_answers_is_lost_requests_with_their_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                kept.push(stream);
            }
        });
        let report =
            run(&Config { connections: 3, ..brief(address) }, &AtomicBool::new(false), || {}).unwrap();
        assert_eq!((report.lost, report.received, report.sent), (3, 0, 3), "{report:?}");
        assert!(report.waits.iter().all(|wait| !wait.answered && wait.ms >= 200.0), "{report:?}");
        assert_eq!(report.waits.len(), 3);
    }

    #[test]
    fn connections_that_the_service_ends_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for _ in 0..2 {
                drop(listener.accept().unwrap());
            }
        });
        let report =
            run(&Config { connections: 2, ..brief(address) }, &AtomicBool::new(false), || {}).unwrap();
        assert_eq!(report.closed + report.resets, 2, "{report:?}");
        assert!(!report.is_clean());
    }

    #[test]
    fn it_ends_when_asked_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config { connections: 1, duration: None, ..brief(listener.local_addr().unwrap()) };
        let report = run(&config, &AtomicBool::new(true), || {}).unwrap();
        assert_eq!((report.sent, report.lost), (0, 0));
    }
}
