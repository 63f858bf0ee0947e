//! One measurement of a link: a few round trips on a TCP connection of its own and, if asked for, a short burst after them.
//!
//! The path is that of a migration's images: the underlay, from agent to agent. The receiver has the kernel note when each
//! segment came (`SO_TIMESTAMPNS`, socket(7)), so that a receiver that is held up on its processor does not distort what
//! the link did. All of it blocks, for two seconds at most.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mose_protocol::link::{Carried, MAX_BURST};
use mose_transfer::tcp_info::{Segments, TcpInfo, tcp_info};
use mose_transfer::{same_secret, token};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send as send_bytes, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::interface::{between, carried};

/// Announces the format, before the token.
const MAGIC: &[u8; 8] = b"MOSElink";
/// Round trips of one measurement.
const PINGS: usize = 8;
/// Longest wait for the other end.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest burst: a link that is slower than it was is not kept busy with the rest.
const LONGEST: Duration = Duration::from_millis(400);
/// Strangers that may come to one offer.
const STRANGERS: usize = 8;
/// Bytes taken off the socket at once: what one read takes in has one time, that of its last segment.
const PIECE: usize = 4 << 10;
/// Pieces that a burst leaves in, and the most segments of one: larger ones, and the receiver sees too few; smaller ones,
/// and a fast link waits for the processor.
const PIECES: u64 = 64;
const TOGETHER: u64 = 44;
/// How many arrivals are told at most, and the largest message that tells them.
const ARRIVALS: u64 = 200;
const MAX_MESSAGE: usize = 16 << 10;

/// What the receiver saw of a burst.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Arrival {
    /// Nanoseconds by the receiver's clock, and bytes that had come by then.
    pub(super) arrivals: Vec<(u64, u64)>,
    /// Bytes on the link that the interface received meanwhile, in all.
    pub(super) interface: u64,
    /// Nanoseconds that took.
    pub(super) took: u64,
}

/// What the sender saw.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) round_trip: TcpInfo,
    /// Bytes of the burst.
    pub(super) bytes: u64,
    /// What others sent and received during the burst at either end, in bits per second.
    pub(super) others: (f64, f64),
    pub(super) arrivals: Vec<(u64, u64)>,
}

/// Where a measurement is awaited.
pub(super) struct Listening {
    listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) token: String,
}

/// Starts to listen on the underlay.
pub(super) async fn listen(bind: Ipv4Addr) -> io::Result<Listening> {
    let listener = TcpListener::bind((bind, 0)).await?;
    // The kernel begins to note times some milliseconds after the first socket has asked for it. Those that are accepted here
    // inherit the wish.
    setsockopt(&listener, sockopt::ReceiveTimestampns, &true)?;
    let address = listener.local_addr()?;
    let token = token().map_err(io::Error::other)?;
    Ok(Listening { listener, address, token })
}

impl Listening {
    /// Serves the one who knows the token, for a burst of `bytes`.
    pub(super) async fn serve(self, bytes: u64, interface: Option<String>) -> io::Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for _ in 0..STRANGERS {
            let (stream, peer) = tokio::time::timeout_at(deadline, self.listener.accept()).await??;
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            let token = self.token.clone();
            let asked = tokio::task::spawn_blocking(move || -> io::Result<Option<TcpStream>> {
                let mut stream = stream;
                prepare(&stream)?;
                let mut shown = vec![0; MAGIC.len() + token.len()];
                stream.read_exact(&mut shown)?;
                let known = shown.starts_with(MAGIC) && same_secret(&shown[MAGIC.len()..], token.as_bytes());
                Ok(known.then_some(stream))
            });
            if let Ok(Ok(Some(stream))) = asked.await {
                let serving =
                    tokio::task::spawn_blocking(move || receive(stream, bytes, interface.as_deref()));
                return serving.await.map_err(io::Error::other)?;
            }
            tracing::warn!(%peer, "closed a connection that did not show the token of a link's measurement");
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "only strangers came"))
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn receive(mut stream: TcpStream, bytes: u64, interface: Option<&str>) -> io::Result<()> {
    let mut one = [0; 1];
    for _ in 0..PINGS {
        stream.read_exact(&mut one)?;
        stream.write_all(&one)?;
    }
    if bytes == 0 {
        return Ok(());
    }
    let arrival = take_burst(&stream, bytes, interface)?;
    let body = serde_json::to_vec(&arrival)?;
    stream.write_all(&(body.len() as u32).to_le_bytes())?;
    stream.write_all(&body)?;
    // The sender may have read it all, and be gone.
    drop(stream.shutdown(Shutdown::Write));
    // What is still under way is read away: closing on it would reset the connection, and that can overtake the answer.
    let deadline = Instant::now() + PATIENCE;
    let mut waste = vec![0; PIECE];
    while Instant::now() < deadline && matches!(stream.read(&mut waste), Ok(1..)) {}
    Ok(())
}

/// When how much of a burst had come, no denser than is told.
struct Arrivals {
    told: Vec<(u64, u64)>,
    /// Bytes between two that are told, at least.
    spacing: u64,
}

impl Arrivals {
    /// Notes that a segment that came `at` a time, in nanoseconds, makes it `total` bytes.
    ///
    /// A segment that was lost and sent again fills a gap before others that came earlier: everything up to it has come
    /// when the latest of them has. What the kernel put no time to is not noted: the
    /// time at which it was read says nothing of the link.
    fn note(&mut self, at: u64, total: u64, last: bool) {
        match self.told.last_mut() {
            // More of what had come by that time.
            Some(earlier) if at <= earlier.0 => earlier.1 = total,
            Some(earlier) if total - earlier.1 < self.spacing && !last => {}
            _ => self.told.push((at, total)),
        }
    }
}

fn take_burst(stream: &TcpStream, bytes: u64, interface: Option<&str>) -> io::Result<Arrival> {
    let received =
        || interface.and_then(|name| carried(name).ok()).map_or(Carried::default(), |now| now.received);
    let (before, began) = (received(), Instant::now());
    let mut arrivals = Arrivals { told: Vec::new(), spacing: bytes / ARRIVALS };
    let mut buffer = vec![0; PIECE];
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut total = 0;
    let mut deadline: Option<Instant> = None;
    while total < bytes && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let message =
            match recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()) {
                Ok(message) => message,
                Err(Errno::EINTR) => continue,
                // It came to a standstill: what is there is told.
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(errno.into()),
            };
        if message.bytes == 0 {
            break;
        }
        if deadline.is_none() {
            deadline = Some(Instant::now() + LONGEST);
            stream.set_read_timeout(Some(LONGEST))?;
        }
        total += message.bytes as u64;
        let stamped = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
            _ => None,
        });
        if let Some(at) = stamped {
            arrivals.note(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX), total, total >= bytes);
        }
    }
    let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Arrival { arrivals: arrivals.told, interface: between(before, received()), took })
}

/// Connects to an offer, measures some round trips, and sends a burst of `bytes` if that is more than nothing.
///
/// # Errors
/// Where the other end does not answer in time, or answers something else.
pub(super) fn send(
    address: SocketAddr,
    token: &str,
    bytes: u64,
    interface: Option<&str>,
) -> io::Result<Sent> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    prepare(&stream)?;
    stream.write_all(&[MAGIC, token.as_bytes()].concat())?;
    let mut one = [0; 1];
    for _ in 0..PINGS {
        stream.write_all(&one)?;
        stream.read_exact(&mut one)?;
    }
    let round_trip = tcp_info(&stream)?;
    if bytes == 0 {
        return Ok(Sent { round_trip, bytes: 0, others: (0.0, 0.0), arrivals: Vec::new() });
    }
    // Whatever is still queued when this ends is dropped, not sent.
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    let left = || interface.and_then(|name| carried(name).ok()).map_or(Carried::default(), |now| now.sent);
    let (before, began) = (left(), Instant::now());
    let sent = send_burst(&stream, bytes.min(MAX_BURST.0), began)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let arrival = read_arrival(&mut stream)?;
    let took = began.elapsed();
    let own = Segments::of(&stream).on_link(arrival.arrivals.last().map_or(0, |(_, bytes)| *bytes));
    let others = |bytes: u64, seconds: f64| bytes.saturating_sub(own) as f64 * 8.0 / seconds.max(1e-6);
    Ok(Sent {
        round_trip,
        bytes: sent,
        others: (
            others(between(before, left()), took.as_secs_f64()),
            others(arrival.interface, arrival.took as f64 / 1e9),
        ),
        arrivals: arrival.arrivals,
    })
}

/// Sends until the burst is out or its time is over; how much went out.
fn send_burst(stream: &TcpStream, bytes: u64, began: Instant) -> io::Result<u64> {
    stream.set_write_timeout(Some(LONGEST))?;
    // Not zeroes: something on the way might compress.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let segment = Segments::of(stream).payload;
    let length = usize::try_from((bytes / PIECES / segment).clamp(1, TOGETHER) * segment).unwrap_or(PIECE);
    let mut piece = vec![0; length.next_multiple_of(8)];
    for word in piece.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    let mut sent = 0;
    while sent < bytes && began.elapsed() < LONGEST {
        let most = usize::try_from(bytes - sent).map_or(length, |left| left.min(length));
        // The mark of a record's end keeps the kernel from joining the pieces again (tcp_sendmsg).
        match send_bytes(stream.as_raw_fd(), &piece[..most], MsgFlags::MSG_EOR | MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => sent += count as u64,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(sent)
}

fn read_arrival(stream: &mut TcpStream) -> io::Result<Arrival> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    let strange = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if length > MAX_MESSAGE {
        return Err(strange(format!("an account of a burst of {length} bytes")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let arrival: Arrival = serde_json::from_slice(&body)?;
    if arrival.arrivals.len() as u64 > ARRIVALS + 1 {
        return Err(strange(format!("{} arrivals of a burst", arrival.arrivals.len())));
    }
    Ok(arrival)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn what_fills_a_gap_counts_from_the_latest_before_it() {
        let mut arrivals = Arrivals { told: Vec::new(), spacing: 100 };
        for (at, total) in [(10, 50), (12, 200), (30, 400), (14, 450), (15, 600), (31, 650), (40, 720)] {
            arrivals.note(at, total, total == 720);
        }
        assert_eq!(arrivals.told, [(10, 50), (12, 200), (30, 600), (40, 720)]);
    }

    async fn measured(bytes: u64) -> io::Result<Sent> {
        let listening = listen(Ipv4Addr::LOCALHOST).await?;
        let (address, token) = (listening.address, listening.token.clone());
        let serving = tokio::spawn(listening.serve(bytes, Some("lo".into())));
        let sent = tokio::task::spawn_blocking(move || send(address, &token, bytes, Some("lo"))).await?;
        serving.await??;
        sent
    }

    #[tokio::test]
    async fn round_trips_alone_send_no_burst() {
        let sent = measured(0).await.unwrap();
        assert!(sent.bytes == 0 && sent.arrivals.is_empty());
        assert!(sent.round_trip.rtt > Duration::ZERO && sent.round_trip.rtt < PATIENCE, "{sent:?}");
    }

    #[tokio::test]
    async fn a_burst_arrives_whole_with_the_kernels_times() {
        // A busy machine reads much of a burst at once, and has few times of it; not each time.
        let mut most = 0;
        for _ in 0..20 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
            let sent = measured(3_000_000).await.unwrap();
            assert_eq!(sent.bytes, 3_000_000);
            let (last, bytes) = *sent.arrivals.last().unwrap();
            assert_eq!(bytes, 3_000_000);
            assert!(last >= now && last < now + 10_000_000_000, "nanoseconds since 1970");
            assert!(sent.arrivals.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1));
            assert!(sent.arrivals.len() as u64 <= ARRIVALS + 1, "{}", sent.arrivals.len());
            most = most.max(sent.arrivals.len());
            if most > 20 {
                return;
            }
        }
        panic!("at most {most} times of a burst");
    }

    #[tokio::test]
    async fn a_stranger_is_closed_and_does_not_keep_the_other_out() {
        let listening = listen(Ipv4Addr::LOCALHOST).await.unwrap();
        let (address, token) = (listening.address, listening.token.clone());
        let serving = tokio::spawn(listening.serve(0, None));
        let stranger = tokio::task::spawn_blocking(move || send(address, &"0".repeat(32), 0, None));
        assert!(stranger.await.unwrap().is_err());
        tokio::task::spawn_blocking(move || send(address, &token, 0, None)).await.unwrap().unwrap();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_offer_that_nobody_takes_up_ends() {
        let listening = listen(Ipv4Addr::LOCALHOST).await.unwrap();
        assert_eq!(listening.serve(0, None).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn an_account_that_is_too_long_is_refused_before_it_is_read() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut two, _) = listener.accept().unwrap();
        two.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(read_arrival(&mut one).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
