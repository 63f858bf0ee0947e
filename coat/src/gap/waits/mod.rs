//! What each connection waited for: from a request until something was heard in answer, by the packets alone.
//!
//! A request is data that the client had not sent before, or a connection that it opens. It is answered by data, or by the end of
//! the connection. Acknowledgements come from the kernel, not from the service, so they answer nothing; except where one side
//! sends on and on ([`BULK`]) without a word from the other: there they are all there is to hear.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::{Duration, SystemTime},
};

use super::answers::{Answers, Around, Newest};
use super::packet::{Flow, Packet, Segment};

/// Connections that are followed at once: some 8 MB.
const MAX_FLOWS: usize = 1 << 16;
/// Beginnings of requests that are remembered.
const MAX_ASKS: usize = 1 << 15;
/// Connections whose newest answers are kept: some 100 KB.
const MAX_NEWEST: usize = 64;
/// Bytes one way without a word the other way, from which on it is a stream and no longer a request or a reply.
const BULK: u64 = 64 << 10;

/// The longest of some waits, and when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// How long.
    pub length: Duration,
    /// When it began.
    pub since: SystemTime,
}

impl Wait {
    /// The clock may be set back in between: then no length is made up.
    pub(super) fn between(since: SystemTime, until: SystemTime) -> Self {
        Self { length: until.duration_since(since).unwrap_or_default(), since }
    }
}

/// The time in which a service stood still, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outage {
    /// From when on it answered nobody.
    pub from: Option<SystemTime>,
    /// When it was back.
    pub until: Option<SystemTime>,
}

/// What the connections waited for, over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Connections that asked for something, or received a stream.
    pub asked: u64,
    /// The longest that one of them heard nothing, while something was outstanding.
    pub longest: Option<Wait>,
    /// The longest that is not over yet. Once the service is back, only of those that wait since before.
    pub open: Option<Wait>,
    /// How many of those there are.
    pub waiting: u64,
    /// When a client first asked while the service stood still.
    pub first_ask: Option<SystemTime>,
    /// Packets of connections that could not be followed since there were too many.
    pub unfollowed: u64,
}

/// One connection.
#[derive(Default)]
struct ConnectionState {
    /// When the present wait began.
    since: Option<SystemTime>,
    /// What waits is a stream to the service, all of it acknowledged: it may go on, or be answered.
    acknowledged: bool,
    /// The sequence number after the client's newest byte.
    sent: Option<u32>,
    /// The sequence number after the service's newest byte.
    heard: Option<u32>,
    /// Bytes from the client since the service's last word.
    up: u64,
    /// Bytes from the service since the client's last word.
    down: u64,
    /// When the service last sent data.
    last: Option<SystemTime>,
    /// Whether it counts among those that asked.
    counted: bool,
    /// When its newest answers came, where that is kept.
    newest: Option<Newest>,
}

/// All connections.
#[derive(Default)]
pub(super) struct Followed {
    flows: HashMap<Flow, ConnectionState>,
    asks: VecDeque<SystemTime>,
    told: Waits,
    /// Whose wait the longest was, and the answers around it.
    waited: Option<Flow>,
    around: Around,
    /// How many connections have their newest answers kept.
    newest: usize,
    /// Unfollowed packets until the next look for connections that can be let go.
    patience: u64,
}

/// Whether one sequence number comes after another, around the corner too.
const fn after(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() > 0
}

impl Followed {
    /// Takes in a packet.
    pub(super) fn take(&mut self, packet: &Packet, at: SystemTime) {
        let Some(flow) = packet.flow else { return };
        if !self.flows.contains_key(&flow) && !self.room() {
            self.told.unfollowed += 1;
            return;
        }
        let Self { flows, asks, told, waited, around, newest, .. } = self;
        let state = match flows.entry(flow) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(ConnectionState::default()),
        };
        let (longest, answer) = (told.longest, packet.heard && packet.data > 0 && !state.had(packet));
        let over =
            if packet.heard { state.hears(packet, at, told) } else { state.says(packet, at, told, asks) };
        if let Some(wait) = told.longest.filter(|wait| longest != Some(*wait)) {
            *waited = Some(flow);
            around.longest(state.newest.as_ref(), wait.since);
        }
        if answer {
            if *waited == Some(flow) {
                around.add(at);
            }
            if state.newest.is_none() && *newest < MAX_NEWEST {
                state.newest = Some(Newest::new());
                *newest += 1;
            }
            if let Some(newest) = &mut state.newest {
                newest.add(at);
            }
        }
        if over && let Some(gone) = flows.remove(&flow) {
            self.newest -= usize::from(gone.newest.is_some());
        }
    }

    /// Whether another connection can be followed. Those that wait for nothing are let go if need be.
    fn room(&mut self) -> bool {
        if self.flows.len() < MAX_FLOWS {
            return true;
        }
        if self.patience > 0 {
            self.patience -= 1;
            return false;
        }
        self.flows.retain(|_, state| state.since.is_some());
        self.newest = self.flows.values().filter(|state| state.newest.is_some()).count();
        let room = self.flows.len() < MAX_FLOWS;
        if !room {
            self.patience = MAX_FLOWS as u64 / 16;
        }
        room
    }

    /// What was waited for so far.
    pub(super) fn report(&self, now: SystemTime, outage: Outage) -> Waits {
        let (mut waiting, mut oldest) = (0, None::<SystemTime>);
        for (since, _) in self.open(outage) {
            waiting += 1;
            oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
        }
        let within = |at: &SystemTime| {
            outage.from.is_some_and(|from| *at >= from) && outage.until.is_none_or(|until| *at < until)
        };
        let first_ask = self.asks.iter().copied().filter(within).min();
        Waits { waiting, open: oldest.map(|since| Wait::between(since, now)), first_ask, ..self.told }
    }

    /// The answers around the longest of these waits, which [`Self::report`] told.
    pub(super) fn answers(&self, waits: &Waits, outage: Outage) -> Answers {
        let over = waits.longest.map_or(Duration::ZERO, |longest| longest.length);
        // What a service owes that never stood still is no matter of its migration.
        if let Some(open) = waits.open.filter(|open| outage.from.is_some() && open.length >= over) {
            let waits = self.open(outage).find(|(since, _)| *since == open.since);
            let newest = waits.and_then(|(_, state)| state.newest.as_ref());
            let at = newest.into_iter().flat_map(|newest| newest.until(open.since)).collect();
            return Answers { since: Some(open.since), at };
        }
        waits.longest.map_or_else(Answers::default, |longest| self.around.tell(longest.since))
    }

    /// The connections that wait, and since when. Once the service is back, only those that wait since before.
    fn open(&self, outage: Outage) -> impl Iterator<Item = (SystemTime, &ConnectionState)> {
        let open = self.flows.values().filter(|state| !state.acknowledged);
        let open = open.filter_map(|state| Some((state.since?, state)));
        open.filter(move |(since, _)| outage.until.is_none_or(|until| *since < until))
    }
}

impl ConnectionState {
    fn ends(&mut self, at: SystemTime, told: &mut Waits) {
        if let Some(since) = self.since.take() {
            note(told, Wait::between(since, at));
        }
        self.acknowledged = false;
    }

    fn counts(&mut self, told: &mut Waits) {
        told.asked += u64::from(!std::mem::replace(&mut self.counted, true));
    }

    /// Whether the client had the data of a packet of the service before: a restored kernel sends it again before the service runs.
    fn had(&self, packet: &Packet) -> bool {
        let Some(Segment { end, reset: false, .. }) = packet.segment else { return false };
        packet.data > 0 && self.heard.is_some_and(|heard| !after(end, heard))
    }

    /// The service says something; whether the connection is over.
    fn hears(&mut self, packet: &Packet, at: SystemTime, told: &mut Waits) -> bool {
        let Segment { end, acknowledged, syn, fin, reset } = packet.segment.unwrap_or_default();
        if self.had(packet) {
            return false;
        }
        if packet.segment.is_some() && packet.data > 0 {
            self.heard = Some(end);
        }
        let received = match (acknowledged, self.sent) {
            (Some(acknowledged), Some(sent)) => !after(sent, acknowledged),
            _ => true,
        };
        if packet.data > 0 || syn || fin || reset {
            if let (None, Some(last)) = (self.since, self.last)
                && self.down > BULK
            {
                self.counts(told);
                note(told, Wait::between(last, at));
            }
            self.ends(at, told);
            // What it had not got when it answered is still to be answered.
            self.since = (!received && !reset).then_some(at);
            self.up = 0;
            self.down += u64::from(packet.data);
            self.last = Some(at);
            return fin || reset;
        }
        if self.up > BULK && self.since.is_some() && !self.acknowledged {
            self.ends(at, told);
            self.since = Some(at);
            self.acknowledged = received;
        }
        false
    }

    /// The client says something; whether the connection is over.
    fn says(
        &mut self,
        packet: &Packet,
        at: SystemTime,
        told: &mut Waits,
        asks: &mut VecDeque<SystemTime>,
    ) -> bool {
        let news = match packet.segment {
            None => packet.data > 0,
            Some(Segment { reset: true, .. }) => {
                // It gives up what it waited for: it waited that long.
                self.ends(at, told);
                return true;
            }
            Some(segment) => {
                let new = self.sent.is_none_or(|sent| after(segment.end, sent));
                if new && (packet.data > 0 || segment.syn) {
                    self.sent = Some(segment.end);
                }
                if segment.fin && packet.data == 0 && self.since.is_none() {
                    return true;
                }
                new && (packet.data > 0 || segment.syn)
            }
        };
        if !news {
            return false;
        }
        self.counts(told);
        self.down = 0;
        self.up += u64::from(packet.data);
        if std::mem::take(&mut self.acknowledged) {
            // The stream goes on: what was acknowledged before waited for nothing.
            self.since = None;
        }
        if self.since.is_none() {
            self.since = Some(at);
            if asks.len() == MAX_ASKS {
                asks.pop_front();
            }
            asks.push_back(at);
        }
        false
    }
}

fn note(told: &mut Waits, wait: Wait) {
    if told.longest.is_none_or(|longest| wait.length > longest.length) {
        told.longest = Some(wait);
    }
}

#[cfg(test)]
mod tests;
