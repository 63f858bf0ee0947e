//! What the answers on a connection say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::report::{GAP, Gap, ms};
use crate::counter::protocol::{Answer, Numbered};

/// Most gaps listed; the longest one is kept in any case.
const MAX_GAPS: usize = 10_000;

/// Judges the answers of one connection: pure bookkeeping, time is passed in.
#[derive(Debug, Default)]
pub(super) struct Judge {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) repeated: u64,
    pub(super) reordered: u64,
    pub(super) corrupted: u64,
    pub(super) restarts: u64,
    pub(super) outstanding: BTreeMap<u64, Instant>,
    highest: Option<u64>,
    last_connection: u64,
    last_instance: Option<u64>,
    last_at: Option<(Instant, u64)>,
    pub(super) globals: Vec<u64>,
    pub(super) rtts_us: Vec<u32>,
    pub(super) gaps: Vec<Gap>,
    pub(super) longest: Duration,
}

impl Judge {
    pub(super) fn sends(&mut self, now: Instant) -> u64 {
        let seq = self.sent;
        self.sent += 1;
        self.outstanding.insert(seq, now);
        seq
    }

    /// Requests that still hold back the next one.
    pub(super) fn holding(&self, now: Instant, timeout: Duration) -> usize {
        self.outstanding.values().filter(|sent| now.saturating_duration_since(**sent) < timeout).count()
    }

    pub(super) fn silence(&mut self, now: Instant) {
        if let Some((last, at_unix_ms)) = self.last_at {
            let silence = now.saturating_duration_since(last);
            self.longest = self.longest.max(silence);
            if silence > GAP && self.gaps.len() < MAX_GAPS {
                self.gaps.push(Gap { at_unix_ms, ms: ms(silence) });
            }
        }
    }

    pub(super) fn hears(&mut self, answer: Answer, now: Instant, now_unix_ms: u64) {
        self.silence(now);
        self.last_at = Some((now, now_unix_ms));
        match answer {
            Answer::Corrupted => self.corrupted += 1,
            Answer::To(reply) => self.judge(reply, now),
        }
    }

    fn judge(&mut self, reply: Numbered, now: Instant) {
        if let Some(sent) = self.outstanding.remove(&reply.seq) {
            self.received += 1;
            let rtt = now.saturating_duration_since(sent).as_micros();
            self.rtts_us.push(u32::try_from(rtt).unwrap_or(u32::MAX));
            self.reordered += u64::from(self.highest.is_some_and(|highest| reply.seq < highest));
            self.highest = self.highest.max(Some(reply.seq));
        } else if reply.seq < self.sent {
            self.repeated += 1;
            return;
        } else {
            self.corrupted += 1;
            return;
        }
        let back = reply.connection <= self.last_connection
            || reply.global.is_some_and(|global| self.globals.last().is_some_and(|last| global <= *last))
            || (self.last_instance.is_some() && reply.instance != self.last_instance);
        self.restarts += u64::from(back);
        self.last_connection = reply.connection;
        self.last_instance = reply.instance.or(self.last_instance);
        self.globals.extend(reply.global);
    }
}
