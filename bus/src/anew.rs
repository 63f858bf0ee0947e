//! Closes stale sessions: those whose peer has already opened a new one.
//!
//! A peer drops its session when the lease expires, and opens a new one. A process that was stopped does not notice, and keeps its old
//! session. Zenoh 1.10 adds the new connection to that old session, because `add_link` in zenoh-transport limits only incoming
//! connections. The two sides then disagree about what they have declared, and stay blind to each other until the connection closes.
//!
//! A stale session loses all of its own connections soon after a new one joins. Closing the new ones makes both sides start over.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use zenoh::sample::SampleKind;

use crate::sockets::Connection;

/// How long a peer may be silent before its session counts as dead, in milliseconds. The death of a process is seen
/// at once, by its connection; this is for hosts and links that die.
pub(crate) const LEASE_MS: u64 = 3000;

/// A connection belongs to a session once it has been open for this long beside one that does: a dead one is gone by then.
const PROOF: Duration = Duration::from_millis(LEASE_MS + 1000);

/// The connections of a session with one peer.
#[derive(Default)]
pub(crate) struct Connections {
    /// The one that the session began with, and those that have proved to belong to it.
    own: HashSet<Connection>,
    /// Those that joined, and when.
    joined: HashMap<Connection, Instant>,
    /// Nothing of its own is left.
    stale: bool,
}

impl Connections {
    /// Notes that one is open or has ended; returns whether any must be closed.
    pub(crate) fn note(&mut self, kind: SampleKind, connection: Connection, now: Instant) -> bool {
        match kind {
            SampleKind::Put => self.joined(connection, now),
            SampleKind::Delete => self.ended(connection, now),
        }
        self.stale && !self.joined.is_empty()
    }

    /// Notes an open one, which may be known already.
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

    /// Takes those that must be closed.
    pub(crate) fn take_stale(&mut self) -> Vec<Connection> {
        if self.stale { self.joined.drain().map(|(connection, _)| connection).collect() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

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
        assert_eq!(session.take_stale(), []);
        session.ended(all[0], now + PROOF * 3 / 2);
        assert_eq!(session.take_stale(), [all[2]]);
        assert_eq!(session.take_stale(), []);
        // What is still being dialled joins it for nothing.
        session.joined(all[3], now + PROOF * 2);
        assert_eq!(session.take_stale(), [all[3]]);
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
        assert_eq!(session.take_stale(), []);
        session.ended(all[2], now + PROOF * 2);
        assert_eq!(session.take_stale(), []);
    }
}
