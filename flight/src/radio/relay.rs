//! Passes frames between the UAV and the rest of the underlay, each after the delay that the radio's conditions give it, or not at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::ether::{End, FRAME};
use super::{Conditions, Radio};
use crate::wire::{self, Message, Outgoing};

/// The most frames that wait, in both directions together: what comes beyond is lost, as in any queue.
const WAITING: usize = 4096;

/// How often the agent hears of the cell.
const TOLD: Duration = Duration::from_millis(200);

/// How long the relay may take to notice that it is to end.
const TICK: Duration = Duration::from_millis(100);

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Up,
    Down,
}

/// A frame that waits, by when it is due; of two with one time, the first that came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    number: u64,
    way: Way,
    frame: Vec<u8>,
}

/// The edge host that a frame goes to or comes from: the number of its site.
fn site(frame: &[u8], way: Way, edges: &[Ipv4Addr]) -> Option<usize> {
    // Ethernet's type, then IPv4's addresses (RFC 791).
    if frame.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    let at = match way {
        Way::Up => 30,
        Way::Down => 26,
    };
    let address: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
    edges.iter().position(|edge| *edge == Ipv4Addr::from(address))
}

/// The frames on the air.
struct Air {
    edges: Vec<Ipv4Addr>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    number: u64,
    /// When the last frame of each edge host, and of all others, is due, by way: none overtakes another.
    last: Vec<[Option<Instant>; 2]>,
    random: fastrand::Rng,
}

impl Air {
    fn new(edges: Vec<Ipv4Addr>, seed: u64) -> Self {
        let last = vec![[None; 2]; edges.len() + 1];
        Self { edges, waiting: BinaryHeap::new(), number: 0, last, random: fastrand::Rng::with_seed(seed) }
    }

    /// Takes a frame on; or loses it.
    fn take(&mut self, frame: &[u8], way: Way, now: Instant, conditions: &Conditions) {
        if self.waiting.len() >= WAITING || self.random.f64() < conditions.lost {
            return;
        }
        let site = site(frame, way, &self.edges);
        let last = &mut self.last[site.unwrap_or(self.edges.len())][way as usize];
        let due = now + conditions.delay(site);
        let due = last.map_or(due, |last| due.max(last));
        *last = Some(due);
        self.number += 1;
        self.waiting.push(Reverse(Waiting { due, number: self.number, way, frame: frame.into() }));
    }

    /// The next frame that is due.
    fn due(&mut self, now: Instant) -> Option<Waiting> {
        if self.next().is_none_or(|due| due > now) {
            return None;
        }
        self.waiting.pop().map(|Reverse(waiting)| waiting)
    }

    /// When the next frame is due.
    fn next(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.due)
    }
}

/// What the relay is between, and whom it listens to.
#[derive(Debug)]
pub struct Ends {
    /// The UAV's port.
    pub uav: End,
    /// The rest of the underlay.
    pub underlay: End,
    /// Where the vehicle sends its position to, in MAVLink.
    pub vehicle: UdpSocket,
    /// Where the UAV's agent hears which cell serves it.
    pub agent: SocketAddr,
}

/// Passes frames on until `ends` says so. `told` hears of each change of the serving cell.
///
/// Until the vehicle has said where it is, it is where its flight begins.
///
/// # Errors
/// A device is gone, or there is no cell.
pub fn relay(
    mut radio: Radio,
    mut ends: Ends,
    seed: u64,
    over: &AtomicBool,
    mut told: impl FnMut(&Radio, &Conditions),
) -> io::Result<()> {
    let begun = Instant::now();
    let mut air = Air::new(radio.sites().iter().map(|site| site.edge).collect(), seed);
    let no_cell =
        || io::Error::new(io::ErrorKind::InvalidInput, "a radio needs a cell: give one with --cell");
    let mut place = crate::ned::Ned::default();
    let mut conditions = radio.at(place, 0.0).ok_or_else(no_cell)?;
    told(&radio, &conditions);
    ends.vehicle.set_nonblocking(true)?;
    let mut modem = Outgoing::over(Datagrams(ends.vehicle.try_clone()?, ends.agent));
    let mut tell_at = begun;
    let mut frame = [0; FRAME];
    while !over.load(Ordering::Relaxed) {
        let now = Instant::now();
        while let Ok(length) = ends.vehicle.recv(&mut frame) {
            for message in wire::datagram(&frame[..length]) {
                if let Message::Position { place: there, .. } = message {
                    place = there;
                }
            }
        }
        let before = conditions.serving;
        conditions = radio.at(place, (now - begun).as_secs_f64()).ok_or_else(no_cell)?;
        if conditions.serving != before {
            told(&radio, &conditions);
            tell_at = now;
        }
        if now >= tell_at {
            tell_at = now + TOLD;
            let area = radio.sites()[conditions.serving].area;
            // An agent that is not there hears it the next time.
            let _ = modem.send(Message::Cell { area, signal_percent: Some(conditions.signal_percent) });
        }
        for (way, end) in [(Way::Up, &mut ends.uav), (Way::Down, &mut ends.underlay)] {
            while let Some(length) = end.receive(&mut frame)? {
                if let Some(frame) = frame.get(..length) {
                    air.take(frame, way, Instant::now(), &conditions);
                }
            }
        }
        while let Some(waiting) = air.due(Instant::now()) {
            match waiting.way {
                Way::Up => ends.underlay.send(&waiting.frame)?,
                Way::Down => ends.uav.send(&waiting.frame)?,
            }
        }
        let patience = air.next().map_or(TICK, |due| due.saturating_duration_since(Instant::now()).min(TICK));
        wait(&ends, patience.min(tell_at.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Waits until something has come, or so long.
fn wait(ends: &Ends, patience: Duration) {
    let mut polled = [ends.uav.as_fd(), ends.underlay.as_fd(), ends.vehicle.as_fd()].map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let patience = libc::timespec {
        tv_sec: patience.as_secs() as libc::time_t,
        tv_nsec: patience.subsec_nanos().into(),
    };
    // SAFETY: the pointers are to live values; no signal mask is given. An interrupted wait is as good as one that is over.
    unsafe {
        libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &raw const patience, std::ptr::null())
    };
}

/// Writes each message as a datagram of its own.
pub struct Datagrams(pub UdpSocket, pub SocketAddr);

impl io::Write for Datagrams {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_to(bytes, self.1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 99, 0, 11), Ipv4Addr::new(10, 99, 0, 12)];
    const NOW: Conditions = Conditions {
        serving: 0,
        signal_percent: 100,
        air: Duration::from_millis(3),
        backhaul: Duration::from_millis(12),
        lost: 0.0,
    };

    /// A frame between the UAV and an edge host, with a mark at its end.
    fn frame(edge: Ipv4Addr, way: Way, mark: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12] = 0x08;
        let at = if way == Way::Up { 30 } else { 26 };
        frame[at..at + 4].copy_from_slice(&edge.octets());
        frame[59] = mark;
        frame
    }

    fn due(air: &mut Air, at: Instant) -> Vec<u8> {
        std::iter::from_fn(|| air.due(at)).map(|waiting| waiting.frame[59]).collect()
    }

    #[test]
    fn a_frame_is_delayed_by_the_way_to_its_edge_host() {
        let (mut air, begun) = (Air::new(EDGES.into(), 1), Instant::now());
        air.take(&frame(EDGES[1], Way::Up, 1), Way::Up, begun, &NOW);
        air.take(&frame(EDGES[0], Way::Down, 2), Way::Down, begun, &NOW);
        air.take(&[0xff; 60], Way::Up, begun, &NOW);
        assert_eq!(due(&mut air, begun + Duration::from_millis(2)), []);
        assert_eq!(
            due(&mut air, begun + Duration::from_millis(3)),
            [2, 0xff],
            "what is for all goes the short way"
        );
        assert_eq!(due(&mut air, begun + Duration::from_millis(14)), []);
        assert_eq!(due(&mut air, begun + Duration::from_millis(15)), [1]);
    }

    #[test]
    fn no_frame_overtakes_another_when_the_way_becomes_shorter() {
        let (mut air, begun) = (Air::new(EDGES.into(), 1), Instant::now());
        air.take(&frame(EDGES[1], Way::Up, 1), Way::Up, begun, &NOW);
        let moved = Conditions { serving: 1, ..NOW };
        air.take(&frame(EDGES[1], Way::Up, 2), Way::Up, begun + Duration::from_millis(1), &moved);
        assert_eq!(due(&mut air, begun + Duration::from_millis(14)), []);
        assert_eq!(due(&mut air, begun + Duration::from_millis(15)), [1, 2]);
    }

    #[test]
    fn as_many_are_lost_as_the_conditions_say_and_a_full_queue_loses_the_rest() {
        let (mut air, begun) = (Air::new(EDGES.into(), 7), Instant::now());
        let bad = Conditions { lost: 0.1, ..NOW };
        for _ in 0..2000 {
            air.take(&frame(EDGES[0], Way::Up, 0), Way::Up, begun, &bad);
        }
        let passed = due(&mut air, begun + Duration::from_secs(1)).len();
        assert!((1740..1860).contains(&passed), "{passed}");
        for _ in 0..2 * WAITING {
            air.take(&frame(EDGES[0], Way::Up, 0), Way::Up, begun, &NOW);
        }
        assert_eq!(due(&mut air, begun + Duration::from_secs(1)).len(), WAITING);
    }
}
