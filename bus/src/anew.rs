//! Peers that have begun anew, unnoticed.
//!
//! A peer that was silent for longer than its lease is forgotten, and dials again, or is dialled. If the other side has not noticed the
//! silence, Zenoh 1.10 takes the new connection into the session that it still has (`add_link` of zenoh-transport counts only connections
//! that came in, so that two peers may dial each other). Then one side tells nothing again of what it has told once, the other drops what
//! it does not expect, and neither sees the other for as long as the connection lasts. Such a session shows by its connections: all that
//! it began with end soon after another has joined. It is ended by ending what has joined, and both begin anew.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use zenoh::Session;
use zenoh::sample::SampleKind;
use zenoh::session::{Link, ZenohId};

use crate::session::LEASE_MS;

/// How long a connection must be there beside one that belongs to its session to belong to it too: what is dead is gone by then.
const PROOF: Duration = Duration::from_millis(LEASE_MS + 1000);

/// How long it is waited for others that join it, so that all end together: Zenoh may forget what comes after a session that ends twice.
const SETTLING: Duration = Duration::from_millis(300);

/// A connection by its two ends: here, there.
type Connection = (SocketAddr, SocketAddr);

/// Ends each session of `session` with a peer that has begun anew.
///
/// # Errors
/// Where the connections cannot be followed.
pub(crate) async fn end_what_is_stale(session: &Session) -> zenoh::Result<()> {
    let known = Arc::new(Mutex::new(HashMap::<ZenohId, Connections>::new()));
    let of_links = known.clone();
    session
        .info()
        .transport_events_listener()
        .history(true)
        .callback(move |event| {
            let peer = *event.transport().zid();
            match event.kind() {
                SampleKind::Put => known.lock().insert(peer, Connections::default()),
                SampleKind::Delete => known.lock().remove(&peer),
            };
        })
        .background()
        .await?;
    session
        .info()
        .link_events_listener()
        .history(true)
        .callback(move |event| {
            let Some(connection) = connection(event.link()) else { return };
            let peer = *event.link().zid();
            if !of_links.lock().entry(peer).or_default().note(event.kind(), connection, Instant::now()) {
                return;
            }
            // Zenoh calls from a thread that may wait.
            std::thread::sleep(SETTLING);
            let stale = of_links.lock().get_mut(&peer).map(Connections::to_end).unwrap_or_default();
            if !stale.is_empty() {
                tracing::info!(%peer, "it has begun anew; so does the session with it");
                end(&stale);
            }
        })
        .background()
        .await
}

/// The connections of the session with one peer.
#[derive(Default)]
struct Connections {
    /// Those that the session began with, and those that have proved to belong to it.
    own: HashSet<Connection>,
    /// Those that joined, and when.
    joined: HashMap<Connection, Instant>,
    /// Nothing of its own is left.
    stale: bool,
}

impl Connections {
    /// Notes one that is there, or has ended; whether there are any to end.
    fn note(&mut self, kind: SampleKind, connection: Connection, now: Instant) -> bool {
        match kind {
            SampleKind::Put => self.joined(connection, now),
            SampleKind::Delete => self.ended(connection, now),
        }
        self.stale && !self.joined.is_empty()
    }

    /// Notes one that is there, once or again.
    fn joined(&mut self, connection: Connection, now: Instant) {
        if self.own.is_empty() && !self.stale {
            self.own.insert(connection);
        } else if !self.own.contains(&connection) {
            self.joined.entry(connection).or_insert(now);
        }
    }

    /// Notes one that has ended.
    fn ended(&mut self, connection: Connection, now: Instant) {
        self.joined.remove(&connection);
        if !self.own.remove(&connection) || !self.own.is_empty() {
            return;
        }
        // Until now, one of its own was there.
        let proved = self.joined.extract_if(|_, since| now.duration_since(*since) >= PROOF);
        self.own = proved.map(|(connection, _)| connection).collect();
        self.stale = self.own.is_empty();
    }

    /// Those to end, each told once.
    fn to_end(&mut self) -> Vec<Connection> {
        if self.stale { self.joined.drain().map(|(connection, _)| connection).collect() } else { Vec::new() }
    }
}

/// The ends of a link over TCP.
fn connection(link: &Link) -> Option<Connection> {
    let end = |locator: &zenoh::config::Locator| locator.address().as_str().parse().ok();
    Some((end(link.src())?, end(link.dst())?))
}

/// Ends connections of this process. Zenoh cannot be asked to; that they have ended it notices. What has come already it still takes in:
/// were writing to fail as well, it might take in something after it has forgotten the session, and not forget that.
fn end(connections: &[Connection]) {
    let Ok(files) = fs::read_dir("/proc/self/fd") else { return };
    let descriptors = files.flatten().filter_map(|file| file.file_name().to_str()?.parse().ok());
    for stream in descriptors.filter_map(socket) {
        let (Ok(here), Ok(there)) = (stream.local_addr(), stream.peer_addr()) else { continue };
        if connections.contains(&(here, there))
            && let Err(error) = stream.shutdown(Shutdown::Read)
        {
            tracing::debug!(%here, %there, %error, "it ended by itself");
        }
    }
}

/// A descriptor of this process as a stream of its own, whatever becomes of that descriptor.
fn socket(descriptor: RawFd) -> Option<TcpStream> {
    // SAFETY: the kernel refuses a descriptor that is none.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: it is new and nobody else's. One that is no TCP socket answers every call with an error.
    (copy >= 0).then(|| TcpStream::from(unsafe { OwnedFd::from_raw_fd(copy) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(count: u16) -> Vec<Connection> {
        let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (0..count).map(|number| (end(7447), end(40_000 + number))).collect()
    }

    #[test]
    fn what_joined_a_session_of_which_nothing_is_left_ends() {
        let (now, all) = (Instant::now(), connections(4));
        let mut session = Connections::default();
        session.joined(all[0], now);
        session.joined(all[1], now + PROOF);
        session.joined(all[2], now + PROOF);
        session.ended(all[1], now + PROOF);
        assert_eq!(session.to_end(), []);
        session.ended(all[0], now + PROOF * 3 / 2);
        assert_eq!(session.to_end(), [all[2]]);
        assert_eq!(session.to_end(), []);
        // What is still being dialled joins it for nothing.
        session.joined(all[3], now + PROOF * 2);
        assert_eq!(session.to_end(), [all[3]]);
    }

    #[test]
    fn two_that_dial_each_other_stay() {
        let (now, all) = (Instant::now(), connections(3));
        let mut session = Connections::default();
        session.joined(all[0], now);
        session.joined(all[1], now);
        session.joined(all[1], now + PROOF / 2);
        session.ended(all[0], now + PROOF);
        // What has proved to belong to it proves it of others.
        session.joined(all[2], now + PROOF);
        session.ended(all[1], now + PROOF * 2);
        assert_eq!(session.to_end(), []);
        session.ended(all[2], now + PROOF * 2);
        assert_eq!(session.to_end(), []);
    }

    #[test]
    fn only_the_connections_that_are_named_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dial = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stays, goes) = (dial(), dial());
        let (_near, _far) = (listener.accept().unwrap(), listener.accept().unwrap());
        end(&[(goes.local_addr().unwrap(), goes.peer_addr().unwrap())]);
        let read = |mut stream: &TcpStream| {
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            std::io::Read::read(&mut stream, &mut [0])
        };
        assert_eq!(read(&goes).unwrap(), 0);
        assert_eq!(read(&stays).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
