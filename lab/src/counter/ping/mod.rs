//! The ping-pong client: one request outstanding per connection, sent on a schedule, and every reply judged.
//!
//! It never connects again: a connection that ends is what a migration must not cause, so it is reported and that is that.
//! After a gap the schedule goes on from where it is, without a burst, so a gap costs messages in time but not in number.

mod judge;
mod report;

use super::frames::mix;
use super::protocol::{Dialect, Protocol};
use judge::Judge;
use report::ms;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use report::{GAP, Gap, Report, Rtt};

/// How often a waiting connection looks whether it was asked to end.
const GLANCE: Duration = Duration::from_millis(100);
/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The service.
    pub connect: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Requests per second and connection.
    pub rate: u32,
    /// How long to send; `None` until asked to stop.
    pub duration: Option<Duration>,
    /// Number of connections, all opened at the start.
    pub connections: u32,
    /// Requests outstanding per connection: 1 is ping-pong.
    pub window: u32,
    /// After this long without its reply a request no longer holds back the next one.
    pub timeout: Duration,
    /// How long to wait at the end for replies that are still outstanding.
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect: SocketAddr::from(([127, 0, 0, 1], super::server::DEFAULT_PORT)),
            protocol: Protocol::Counter,
            rate: 200,
            duration: Some(Duration::from_secs(10)),
            connections: 1,
            window: 1,
            timeout: Duration::from_secs(60),
            grace: Duration::from_secs(5),
        }
    }
}

/// Now, in ms since 1970.
pub(crate) fn unix_ms() -> u64 {
    unix_us() / 1000
}

/// Now, in µs since 1970.
pub(crate) fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    Asked,
    Reset,
    Closed,
    Failed(io::Error),
}

/// Sleeps until there is something to read or the time has come; precise to the timer, where a socket's own read time-out
/// is rounded up to the kernel's tick.
fn readable(stream: &TcpStream, wait: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let wait = libc::timespec {
        tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(wait.subsec_nanos()),
    };
    // SAFETY: one live pollfd, a live timespec, no signal mask.
    match unsafe { libc::ppoll(&raw mut poll, 1, &raw const wait, std::ptr::null()) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => match io::Error::last_os_error() {
            e if e.kind() == ErrorKind::Interrupted => Ok(false),
            e => Err(e),
        },
    }
}

fn talk(
    config: &Config,
    stream: &mut TcpStream,
    dialect: &Dialect,
    judge: &mut Judge,
    stop: &AtomicBool,
) -> End {
    let start = Instant::now();
    let period = Duration::from_secs(1) / config.rate.max(1);
    let window = config.window.max(1) as usize;
    let (mut request, mut heard, mut chunk) = (Vec::new(), Vec::new(), [0u8; 4096]);
    let mut next = start;
    let mut ending: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let over = config.duration.is_some_and(|duration| now.saturating_duration_since(start) >= duration);
        if ending.is_none() && (over || stop.load(Relaxed)) {
            ending = Some(now + config.grace);
        }
        let wait = if let Some(end) = ending {
            if judge.outstanding.is_empty() || now >= end {
                return End::Asked;
            }
            end - now
        } else if judge.holding(now, config.timeout) < window {
            if now >= next {
                let seq = judge.sends(now);
                dialect.request(seq, now.saturating_duration_since(start).as_nanos() as u64, &mut request);
                if let Err(e) = stream.write_all(&request) {
                    return End::from(e);
                }
                next += period;
                if next < now {
                    next = now + period;
                }
                continue;
            }
            next - now
        } else {
            GLANCE
        };
        match readable(stream, wait.min(GLANCE)) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(e) => return End::Failed(e),
        }
        match stream.read(&mut chunk) {
            Ok(0) => return End::Closed,
            Ok(n) => heard.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return End::from(e),
        }
        let (now, now_unix_ms) = (Instant::now(), unix_ms());
        let mut taken = 0;
        while let Some((length, answer)) = dialect.answer(&heard[taken..]) {
            taken += length;
            judge.hears(answer, now, now_unix_ms);
        }
        heard.drain(..taken);
    }
}

impl From<io::Error> for End {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Failed(e),
        }
    }
}

/// Runs the client until its time is over, `stop` is set, or every connection has ended. `ready` is called once all
/// connections are open.
///
/// # Errors
/// A connection that cannot be opened at the start; everything after that is in the report.
pub fn run(config: &Config, stop: &AtomicBool, ready: impl FnOnce()) -> io::Result<Report> {
    let drawn = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    let mut opened = Vec::new();
    for n in 0..u64::from(config.connections.max(1)) {
        opened.push(Dialect::connect(config.connect, config.protocol, mix(drawn.wrapping_add(n)))?);
    }
    ready();
    let started_at_unix_ms = unix_ms();
    let connections = opened.len() as u64;
    let ended: Vec<(Judge, End)> = std::thread::scope(|scope| {
        let running: Vec<_> = opened
            .into_iter()
            .map(|(mut stream, dialect)| {
                scope.spawn(move || {
                    let mut judge = Judge::default();
                    let end = talk(config, &mut stream, &dialect, &mut judge, stop);
                    if !judge.outstanding.is_empty() {
                        judge.silence(Instant::now());
                    }
                    (judge, end)
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });

    let mut report = Report {
        workload: config.protocol.name().to_owned(),
        target: config.connect.to_string(),
        connections,
        started_at_unix_ms,
        ended_at_unix_ms: unix_ms(),
        ..Report::default()
    };
    if (ended.len() as u64) < connections {
        report.errors.push("a connection's thread failed".to_owned());
    }
    let (mut globals, mut rtts) = (Vec::new(), Vec::new());
    for (judge, end) in ended {
        report.sent += judge.sent;
        report.received += judge.received;
        report.lost += judge.outstanding.len() as u64;
        report.repeated += judge.repeated;
        report.reordered += judge.reordered;
        report.corrupted += judge.corrupted;
        report.restarts += judge.restarts;
        report.longest_gap_ms = report.longest_gap_ms.max(ms(judge.longest));
        report.last_counter = report.last_counter.max(judge.globals.last().copied());
        report.gaps.extend(judge.gaps);
        globals.extend(judge.globals);
        rtts.extend(judge.rtts_us);
        match end {
            End::Asked => {}
            End::Reset => report.resets += 1,
            End::Closed => report.closed += 1,
            End::Failed(e) => report.errors.push(e.to_string()),
        }
    }
    // The same count on two connections: two copies of the service answered.
    globals.sort_unstable();
    report.repeated += globals.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    report.gaps.sort_by_key(|gap| gap.at_unix_ms);
    rtts.sort_unstable();
    let at = |part: usize| rtts.get((rtts.len() * part / 100).min(rtts.len().saturating_sub(1)));
    let of = |part: usize| at(part).map_or(0.0, |us| f64::from(*us) / 1e3);
    report.rtt_ms = Rtt { p50: of(50), p99: of(99), max: of(100) };
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::frames::{REQUEST_LEN, Reply, Request};
    use super::super::server;
    use super::super::state::expected_sum;
    use super::*;
    use std::net::TcpListener;

    fn brief(connect: SocketAddr) -> Config {
        Config {
            connect,
            rate: 1000,
            duration: Some(Duration::from_millis(200)),
            grace: Duration::from_millis(100),
            timeout: Duration::from_millis(40),
            ..Config::default()
        }
    }

    fn measured(config: &Config) -> Report {
        run(config, &AtomicBool::new(false), || {}).unwrap()
    }

    /// A service that does to its replies whatever `misbehave` says: it gets the sound reply to each request and gives the
    /// bytes to send, or `None` to close.
    fn fake(mut misbehave: impl FnMut(Reply) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut frame = [0u8; REQUEST_LEN];
            let mut counter = 0;
            while stream.read_exact(&mut frame).is_ok() {
                let request = Request::decode(&frame).unwrap();
                counter += 1;
                let reply = Reply {
                    nonce: request.nonce,
                    seq: request.seq,
                    connection_counter: counter,
                    global_counter: counter,
                    instance: 1,
                    page_sum: expected_sum(0, 0, 0),
                    ..Reply::default()
                };
                let Some(bytes) = misbehave(reply) else { return };
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        });
        address
    }

    fn sound(reply: Reply) -> Vec<u8> {
        reply.encode().to_vec()
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
        let report = measured(&Config { connections: 3, rate: 500, ..brief(address) });
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.sent, report.connections), (report.received, 3));
        assert!(report.received > 100, "{report:?}");
        assert_eq!(report.last_counter, Some(report.received));
    }

    #[test]
    fn a_repeated_reply_is_counted() {
        let address = fake(|r| Some(if r.seq == 10 { [sound(r), sound(r)].concat() } else { sound(r) }));
        let report = measured(&brief(address));
        assert_eq!((report.repeated, report.lost, report.corrupted), (1, 0, 0), "{report:?}");
    }

    #[test]
    fn a_lost_reply_is_counted_and_its_silence_is_a_gap_no_shorter_than_the_timeout() {
        let address = fake(|r| Some(if r.seq == 10 { vec![] } else { sound(r) }));
        let report = measured(&brief(address));
        assert_eq!((report.lost, report.repeated), (1, 0), "{report:?}");
        assert!(report.longest_gap_ms >= 40.0, "{report:?}");
    }

    #[test]
    fn a_late_reply_is_reordered_not_lost() {
        let mut late = None;
        let address = fake(move |r| match r.seq {
            10 => {
                late = Some(r);
                Some(vec![])
            }
            12 => Some([sound(r), late.take().map(sound).unwrap_or_default()].concat()),
            _ => Some(sound(r)),
        });
        let report = measured(&brief(address));
        assert_eq!((report.reordered, report.lost, report.repeated), (1, 0, 0), "{report:?}");
    }

    #[test]
    fn a_corrupted_reply_is_counted() {
        let address = fake(|r| {
            let mut bytes = sound(r);
            bytes[40] ^= u8::from(r.seq == 10);
            Some(bytes)
        });
        let report = measured(&brief(address));
        assert_eq!((report.corrupted, report.lost), (1, 1), "{report:?}");
    }

    #[test]
    fn a_service_started_anew_is_seen() {
        let address = fake(|mut r| {
            if r.seq >= 10 {
                r.connection_counter -= 10;
                r.global_counter -= 10;
                r.instance = 2;
            }
            Some(sound(r))
        });
        assert_eq!(measured(&brief(address)).restarts, 1);
    }

    #[test]
    fn the_end_of_a_connection_is_reported_and_it_is_not_opened_again() {
        let address = fake(|r| (r.seq < 10).then(|| sound(r)));
        let report = measured(&brief(address));
        assert_eq!(
            (report.closed + report.resets, report.connections, report.sent),
            (1, 1, 11),
            "{report:?}"
        );
        assert_eq!(report.lost, 1);
    }

    #[test]
    fn a_reset_is_told_from_a_close() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            // Closing with unread bytes makes the kernel send a reset.
            assert!(readable(&stream, Duration::from_secs(5)).unwrap());
        });
        let report = measured(&brief(address));
        assert_eq!((report.resets, report.closed), (1, 0), "{report:?}");
    }

    #[test]
    fn a_pause_is_one_gap_and_no_burst_follows() {
        let address = fake(|r| {
            if r.seq == 10 {
                std::thread::sleep(Duration::from_millis(120));
            }
            Some(sound(r))
        });
        let report = measured(&Config {
            timeout: Duration::from_secs(5),
            duration: Some(Duration::from_millis(400)),
            ..brief(address)
        });
        assert_eq!(report.gaps.iter().filter(|gap| gap.ms >= 120.0).count(), 1, "{report:?}");
        assert!(report.sent <= 300, "a burst made up for the pause: {report:?}");
        assert!(report.is_clean());
    }

    #[test]
    fn silence_at_the_end_counts_while_a_reply_is_owed() {
        let address = fake(|r| Some(if r.seq >= 10 { vec![] } else { sound(r) }));
        let report = measured(&Config { timeout: Duration::from_secs(5), ..brief(address) });
        assert_eq!(report.lost, 1);
        assert!(report.longest_gap_ms > 100.0, "{report:?}");
    }

    #[test]
    fn it_ends_when_asked_to() {
        let address = fake(|r| Some(sound(r)));
        let config = Config { duration: None, ..brief(address) };
        let report = run(&config, &AtomicBool::new(true), || {}).unwrap();
        assert_eq!((report.sent, report.lost), (0, 0));
    }
}
