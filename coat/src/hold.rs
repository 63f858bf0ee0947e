//! The cut-over guard's memory: packets to an address that is nowhere at the moment, in order, bounded.
//!
//! One lock orders everything: a packet is either queued before a release and goes out with it, or arrives after it and goes
//! out behind it. The lock is held for memory operations only.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::Ipv4Addr,
};

use parking_lot::{Mutex, MutexGuard};

/// How much is held for one address before further packets are dropped, and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    /// Packets.
    pub packets: usize,
    /// Bytes of their Ethernet frames.
    pub bytes: usize,
}

impl Default for HoldLimits {
    fn default() -> Self {
        // Some thousands of connections, each with what TCP sends again meanwhile.
        Self { packets: 32_768, bytes: 32 << 20 }
    }
}

/// A packet and the port it came in by.
struct Packet {
    in_port: Option<u32>,
    frame: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Packet>,
    /// What TCP sent again meanwhile: it goes last, so that it delays nobody's first.
    again: VecDeque<Packet>,
    segments: HashSet<Segment>,
    bytes: usize,
    overflowed: u64,
}

/// Whose segment, and which: sender, receiver, ports and sequence number, as they stand in the headers.
type Segment = [u8; 16];

impl Queue {
    fn len(&self) -> usize {
        self.packets.len() + self.again.len()
    }

    /// Takes in a packet if there is room.
    fn put(&mut self, packet: Packet, limits: HoldLimits) -> bool {
        if self.len() >= limits.packets || self.bytes + packet.frame.len() > limits.bytes {
            self.overflowed += 1;
            return false;
        }
        self.bytes += packet.frame.len();
        if is_arp(&packet.frame) {
            // The answer to who the clients are comes first: whatever is said to them waits for it.
            self.packets.push_front(packet);
            return true;
        }
        let again = segment(&packet.frame).is_some_and(|segment| !self.segments.insert(segment));
        if again {
            self.again.push_back(packet)
        } else {
            self.packets.push_back(packet)
        }
        true
    }

    fn next(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front().or_else(|| self.again.pop_front())?;
        self.bytes -= packet.frame.len();
        Some(packet)
    }
}

enum AddressState {
    Holding(Queue),
    /// Going out to a port, a part at a time; what arrives meanwhile goes behind it.
    Leaving(Queue, u32),
    /// Stale megaflows may still send packets here: on they go.
    Passing(u32),
}

/// What became of a packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Held,
    Passed,
    /// The hold was full.
    Overflowed,
    /// To an address without a route, or no IPv4 or ARP.
    Unknown,
    /// It would have gone back to where it came from.
    Returned,
}

/// What a release did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Released {
    pub(crate) released: u64,
    pub(crate) overflowed: u64,
}

/// What a part of a release did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Part {
    pub(crate) released: u64,
    pub(crate) overflowed: u64,
    /// Nothing is left.
    pub(crate) over: bool,
}

struct Inner {
    states: HashMap<Ipv4Addr, AddressState>,
    /// Until the routes have been read back, packets to addresses not heard of are held too.
    adopting: bool,
}

/// Addresses that may be held before the routes have been read back.
const ADOPTED: usize = 256;

/// All holds of a bridge.
pub(crate) struct HoldTable {
    inner: Mutex<Inner>,
    limits: HoldLimits,
}

impl HoldTable {
    pub(crate) fn new(limits: HoldLimits) -> Self {
        let inner = Inner { states: HashMap::new(), adopting: true };
        Self { inner: Mutex::new(inner), limits }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half way through a change.
        self.inner.lock()
    }

    /// Takes in a packet: holds it, or passes it to `send` with the port it goes to.
    pub(crate) fn arrive(
        &self,
        in_port: Option<u32>,
        frame: &[u8],
        send: impl FnOnce(u32, &[u8]),
    ) -> Arrival {
        let Some(address) = destination(frame) else {
            return Arrival::Unknown;
        };
        let mut inner = self.lock();
        let adopt = inner.adopting && inner.states.len() < ADOPTED;
        if adopt && !inner.states.contains_key(&address) {
            inner.states.insert(address, AddressState::Holding(Queue::default()));
        }
        match inner.states.get_mut(&address) {
            None => Arrival::Unknown,
            Some(AddressState::Passing(port)) if Some(*port) == in_port => Arrival::Returned,
            Some(AddressState::Passing(port)) => {
                send(*port, frame);
                Arrival::Passed
            }
            Some(AddressState::Holding(queue) | AddressState::Leaving(queue, _)) => {
                let packet = Packet { in_port, frame: frame.to_vec() };
                if queue.put(packet, self.limits) { Arrival::Held } else { Arrival::Overflowed }
            }
        }
    }

    /// From now on packets to the address are held. What is held already stays.
    pub(crate) fn hold(&self, address: Ipv4Addr) {
        let mut inner = self.lock();
        let queue = match inner.states.remove(&address) {
            Some(AddressState::Holding(queue) | AddressState::Leaving(queue, _)) => queue,
            Some(AddressState::Passing(_)) | None => Queue::default(),
        };
        inner.states.insert(address, AddressState::Holding(queue));
    }

    /// From now on what is held goes to a port, as [`Self::part`] sends it.
    pub(crate) fn leave(&self, address: Ipv4Addr, port: u32) {
        let mut inner = self.lock();
        let state = match inner.states.remove(&address) {
            Some(AddressState::Holding(queue) | AddressState::Leaving(queue, _)) => {
                AddressState::Leaving(queue, port)
            }
            Some(AddressState::Passing(_)) | None => AddressState::Passing(port),
        };
        inner.states.insert(address, state);
    }

    /// Sends the next packets of what leaves, at most `most`. Once nothing is left, what arrives is passed on.
    pub(crate) fn part(&self, address: Ipv4Addr, most: usize, mut send: impl FnMut(u32, &[u8])) -> Part {
        let mut inner = self.lock();
        let Some(AddressState::Leaving(queue, port)) = inner.states.get_mut(&address) else {
            return Part { over: true, ..Part::default() };
        };
        let port = *port;
        let mut part = Part::default();
        while part.released < most as u64
            && let Some(packet) = queue.next()
        {
            if packet.in_port != Some(port) {
                send(port, &packet.frame);
                part.released += 1;
            }
        }
        part.overflowed = std::mem::take(&mut queue.overflowed);
        part.over = queue.len() == 0;
        if part.over {
            inner.states.insert(address, AddressState::Passing(port));
        }
        part
    }

    /// Sends what is held to a port, in order, and from now on passes on what arrives.
    pub(crate) fn release(&self, address: Ipv4Addr, port: u32, mut send: impl FnMut(u32, &[u8])) -> Released {
        let mut inner = self.lock();
        let before = inner.states.insert(address, AddressState::Passing(port));
        let Some(AddressState::Holding(mut queue) | AddressState::Leaving(mut queue, _)) = before else {
            return Released::default();
        };
        let mut done = Released { released: 0, overflowed: queue.overflowed };
        while let Some(packet) = queue.next() {
            if packet.in_port != Some(port) {
                send(port, &packet.frame);
                done.released += 1;
            }
        }
        done
    }

    /// Drops what is held for an address and whatever arrives for it.
    pub(crate) fn forget(&self, address: Ipv4Addr) {
        self.lock().states.remove(&address);
    }

    /// The routes have been read back: `held` says which addresses are to be held, `passing` where the others go.
    pub(crate) fn settle(
        &self,
        held: &[Ipv4Addr],
        passing: &[(Ipv4Addr, u32)],
        mut send: impl FnMut(u32, &[u8]),
    ) {
        for address in held {
            self.hold(*address);
        }
        for (address, port) in passing {
            self.release(*address, *port, &mut send);
        }
        let mut inner = self.lock();
        inner.adopting = false;
        inner
            .states
            .retain(|address, state| !matches!(state, AddressState::Holding(_)) || held.contains(address));
    }

    /// Packets and bytes held for an address.
    pub(crate) fn held(&self, address: Ipv4Addr) -> (u64, u64) {
        match self.lock().states.get(&address) {
            Some(AddressState::Holding(queue) | AddressState::Leaving(queue, _)) => {
                (queue.len() as u64, queue.bytes as u64)
            }
            _ => (0, 0),
        }
    }
}

/// The overlay address a frame is for: IPv4's destination or ARP's target.
pub(crate) fn destination(frame: &[u8]) -> Option<Ipv4Addr> {
    let at = match frame.get(12..14)? {
        [0x08, 0x00] => 30,
        [0x08, 0x06] => 38,
        _ => return None,
    };
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?))
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x06])
}

/// Which TCP segment a frame carries; `None` for other frames, and for segments that carry nothing (an acknowledgement repeats its
/// sequence number).
fn segment(frame: &[u8]) -> Option<Segment> {
    const TCP: u8 = 6;
    const SYN_OR_FIN: u8 = 0x03;
    if frame.get(12..14)? != [0x08, 0x00] || *frame.get(23)? != TCP {
        return None;
    }
    let header = usize::from(frame.get(14)? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?]));
    let tcp = frame.get(14 + header..)?;
    let data = total.saturating_sub(header + usize::from(tcp.get(12)? >> 4) * 4);
    if data == 0 && tcp.get(13)? & SYN_OR_FIN == 0 {
        return None;
    }
    let mut segment = Segment::default();
    segment[..8].copy_from_slice(frame.get(26..34)?);
    segment[8..].copy_from_slice(tcp.get(..8)?);
    Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);

    fn frame(mark: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12] = 0x08;
        frame[30..34].copy_from_slice(&X.octets());
        frame[40] = mark;
        frame
    }

    fn settled(limits: HoldLimits) -> HoldTable {
        let table = HoldTable::new(limits);
        table.settle(&[], &[], |_, _| {});
        table
    }

    fn never(_: u32, _: &[u8]) {
        panic!("nothing is to be sent");
    }

    #[test]
    fn held_packets_go_out_in_order_and_later_ones_behind_them() {
        let table = settled(HoldLimits::default());
        table.hold(X);
        for mark in 0..5 {
            assert_eq!(table.arrive(Some(1), &frame(mark), never), Arrival::Held);
        }
        assert_eq!(table.held(X), (5, 300));
        let mut sent = Vec::new();
        let done = table.release(X, 9, |port, f| sent.push((port, f[40])));
        assert_eq!(done.released, 5);
        assert_eq!(table.arrive(Some(1), &frame(5), |port, f| sent.push((port, f[40]))), Arrival::Passed);
        assert_eq!(sent, (0..6).map(|mark| (9, mark)).collect::<Vec<_>>());
        assert_eq!(table.held(X), (0, 0));
    }

    #[test]
    fn what_leaves_in_parts_stays_in_order_with_what_arrives_meanwhile() {
        let table = settled(HoldLimits::default());
        table.hold(X);
        for mark in 0..5 {
            table.arrive(Some(1), &frame(mark), never);
        }
        table.leave(X, 9);
        let mut sent = Vec::new();
        assert!(!table.part(X, 3, |port, f| sent.push((port, f[40]))).over);
        assert_eq!(table.arrive(Some(1), &frame(5), never), Arrival::Held, "behind what is still there");
        assert_eq!(table.held(X), (3, 180));
        let last = table.part(X, 3, |port, f| sent.push((port, f[40])));
        assert_eq!(last, Part { released: 3, overflowed: 0, over: true });
        assert_eq!(table.arrive(Some(1), &frame(6), |port, f| sent.push((port, f[40]))), Arrival::Passed);
        assert_eq!(sent, (0..7).map(|mark| (9, mark)).collect::<Vec<_>>());
        assert!(table.part(X, 3, never).over);
    }

    #[test]
    fn what_was_sent_again_goes_behind_everything_that_was_not() {
        let tcp = |sequence: u8, payload: u8, mark: u8| {
            let mut frame = vec![0; 80];
            frame[12] = 0x08;
            (frame[14], frame[17], frame[23]) = (0x45, 40 + payload, 6);
            frame[30..34].copy_from_slice(&X.octets());
            (frame[41], frame[46], frame[79]) = (sequence, 0x50, mark);
            frame
        };
        let table = settled(HoldLimits::default());
        table.hold(X);
        // A request, the same again, two acknowledgements, which have a number but carry nothing, and the next request.
        for (sequence, payload, mark) in [(1, 9, 0), (1, 9, 1), (10, 0, 2), (10, 0, 3), (10, 5, 4)] {
            table.arrive(Some(1), &tcp(sequence, payload, mark), never);
        }
        assert_eq!(table.held(X), (5, 400));
        let mut marks = Vec::new();
        assert_eq!(table.release(X, 9, |_, frame| marks.push(frame[79])).released, 5);
        assert_eq!(marks, [0, 2, 3, 4, 1]);
    }

    #[test]
    fn what_says_who_a_neighbour_is_goes_before_everything() {
        let table = settled(HoldLimits::default());
        table.hold(X);
        table.arrive(Some(1), &frame(0), never);
        let mut arp = frame(1);
        arp[13] = 0x06;
        arp[38..42].copy_from_slice(&X.octets());
        table.arrive(Some(1), &arp, never);
        let mut kinds = Vec::new();
        table.release(X, 9, |_, frame| kinds.push(frame[13]));
        assert_eq!(kinds, [0x06, 0x00]);
    }

    #[test]
    fn what_leaves_can_be_held_again() {
        let table = settled(HoldLimits::default());
        table.hold(X);
        for mark in 0..3 {
            table.arrive(Some(1), &frame(mark), never);
        }
        table.leave(X, 9);
        table.part(X, 1, |_, _| {});
        table.hold(X);
        assert!(table.part(X, 9, never).over, "no part goes out of a hold");
        let mut marks = Vec::new();
        assert_eq!(table.release(X, 8, |port, f| marks.push((port, f[40]))).released, 2);
        assert_eq!(marks, [(8, 1), (8, 2)]);
    }

    #[test]
    fn what_exceeds_either_bound_is_dropped_and_counted() {
        for limits in [HoldLimits { packets: 2, bytes: 1 << 20 }, HoldLimits { packets: 100, bytes: 130 }] {
            let table = settled(limits);
            table.hold(X);
            for mark in 0..5 {
                table.arrive(None, &frame(mark), never);
            }
            assert_eq!(table.held(X), (2, 120));
            let mut marks = Vec::new();
            let done = table.release(X, 9, |_, f| marks.push(f[40]));
            assert_eq!((done.released, done.overflowed), (2, 3));
            assert_eq!(marks, [0, 1], "the first are kept");
        }
    }

    #[test]
    fn holding_again_keeps_what_is_held() {
        let table = settled(HoldLimits::default());
        table.hold(X);
        table.arrive(None, &frame(0), never);
        table.hold(X);
        assert_eq!(table.held(X).0, 1);
        table.forget(X);
        assert_eq!(table.held(X).0, 0);
        assert_eq!(table.arrive(None, &frame(1), never), Arrival::Unknown);
    }

    #[test]
    fn nothing_returns_to_the_port_it_came_from() {
        let table = settled(HoldLimits::default());
        table.hold(X);
        table.arrive(Some(9), &frame(0), never);
        assert_eq!(table.release(X, 9, never).released, 0);
        assert_eq!(table.arrive(Some(9), &frame(1), never), Arrival::Returned);
    }

    #[test]
    fn packets_are_held_until_the_routes_have_been_read_back() {
        let table = HoldTable::new(HoldLimits::default());
        table.arrive(None, &frame(0), never);
        let mut sent = 0;
        table.settle(&[], &[(X, 4)], |port, _| sent += port);
        assert_eq!(sent, 4);
    }

    #[test]
    fn a_frame_is_for_its_ipv4_destination_or_arp_target() {
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        arp[38..42].copy_from_slice(&X.octets());
        assert_eq!(destination(&arp), Some(X));
        assert_eq!(destination(&frame(0)), Some(X));
        assert_eq!(destination(&arp[..41]), None);
        arp[12..14].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(destination(&arp), None);
    }
}
