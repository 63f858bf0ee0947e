//! From what was measured of a link to what is said of it. Pure arithmetic.

use std::collections::VecDeque;

use mose_pam::{BitsPerSec, Bytes, Millis};
use mose_protocol::link::{CapacityFrom, Carried, LinkMetrics, MAX_BURST, RttFrom};
use mose_protocol::{HostName, Timestamp};
use mose_transfer::tcp_info::Segments;

use super::interface::between;

/// Round trips of which the median is told.
const ROUND_TRIPS: usize = 15;
/// Bursts of which the median is the capacity.
const BURSTS: usize = 3;
/// Transfers that are remembered.
const TRANSFERS: usize = 8;
/// How long a capacity is believed, in microseconds.
const BELIEVED: u64 = 15 * 60 * 1_000_000;
/// The time over which use is averaged, in microseconds.
const USE_OVER: u64 = 10_000_000;
/// The shortest time that tells a use, in microseconds.
const USE_AT_LEAST: u64 = 300_000;
/// The part of a burst that is left out: TCP gets up to speed, and what a shaper lets pass at once is no rate.
const SETTLING: f64 = 0.4;
/// Nanoseconds that the rest has to last to tell a rate.
const TELLING: u64 = 5_000_000;
/// A gap of more than this part of it shows that a host was held up, and not the link.
const GAP: u64 = 4;
/// How long a burst should last on the link.
const BURST_FOR_MS: u64 = 30;
/// The smallest burst; also the first.
const LEAST_BURST: u64 = 64 << 10;
/// How much longer the next burst is, when one was too short to tell.
const GROWTH: u64 = 8;
/// A transfer of less does not fill the link for long enough to tell anything.
const LEAST_TRANSFER: Bytes = Bytes(8 << 20);

/// Two interfaces' counters, each with its own host's time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    pub(super) sent: Carried,
    pub(super) sent_at: Timestamp,
    pub(super) received: Carried,
    pub(super) received_at: Timestamp,
    /// Bytes that our own bursts had put on the link by then: nobody's use.
    pub(super) own: u64,
}

/// How a burst arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Burst {
    /// Nanoseconds on the receiver's clock, and bytes that had come by then.
    pub(super) arrivals: Vec<(u64, u64)>,
    /// What others sent meanwhile, as the interfaces at both ends counted it, in bits per second.
    pub(super) others: (f64, f64),
}

/// What arrived once the burst had settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Settled {
    /// Bytes of payload per second.
    pub(super) rate: f64,
    /// Nanoseconds that it was watched for.
    pub(super) lasted: u64,
    /// The longest of these without any arrival.
    pub(super) gap: u64,
}

/// The rate in the later part of a burst, by least squares: each arrival is a little late, none is early.
pub(super) fn settled(arrivals: &[(u64, u64)]) -> Option<Settled> {
    let whole = arrivals.last()?.1;
    let begin = arrivals.iter().position(|(_, bytes)| *bytes as f64 >= whole as f64 * SETTLING)?;
    let later = &arrivals[begin..];
    let (first, last) = (later.first()?, later.last()?);
    let lasted = last.0.checked_sub(first.0)?;
    if later.len() < 4 || lasted == 0 {
        return None;
    }
    let count = later.len() as f64;
    let points =
        || later.iter().map(|(t, b)| (t.saturating_sub(first.0) as f64, b.saturating_sub(first.1) as f64));
    let (sum_t, sum_b) = points().fold((0.0, 0.0), |(t, b), point| (t + point.0, b + point.1));
    let (mean_t, mean_b) = (sum_t / count, sum_b / count);
    let (covariance, variance) = points().fold((0.0, 0.0), |(c, v), (t, b)| {
        (c + (t - mean_t) * (b - mean_b), v + (t - mean_t) * (t - mean_t))
    });
    let rate = covariance / variance * 1e9;
    let gap = later.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0)).max()?;
    (rate.is_finite() && rate > 0.0).then_some(Settled { rate, lasted, gap })
}

/// What is known of one link.
#[derive(Debug)]
pub(super) struct Estimate {
    round_trips: VecDeque<(Millis, Millis, RttFrom)>,
    counters: VecDeque<Counters>,
    bursts: VecDeque<(f64, Timestamp)>,
    transfers: VecDeque<(f64, Timestamp)>,
    /// Bytes on the link of our own bursts so far.
    own: u64,
    /// What was used when it could last be told.
    last_used: Option<f64>,
    burst: u64,
    measured_at: Timestamp,
}

impl Default for Estimate {
    fn default() -> Self {
        Self {
            round_trips: VecDeque::new(),
            counters: VecDeque::new(),
            bursts: VecDeque::new(),
            transfers: VecDeque::new(),
            own: 0,
            last_used: None,
            burst: LEAST_BURST,
            measured_at: Timestamp::default(),
        }
    }
}

/// Keeps the newest.
fn push<T>(kept: &mut VecDeque<T>, most: usize, new: T) {
    kept.push_back(new);
    while kept.len() > most {
        kept.pop_front();
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Estimate {
    /// The length of the next burst.
    pub(super) const fn next_burst(&self) -> Bytes {
        Bytes(self.burst)
    }

    /// How many bursts have told something.
    pub(super) fn bursts(&self) -> usize {
        self.bursts.len()
    }

    pub(super) fn round_trip(&mut self, rtt: Millis, jitter: Millis, from: RttFrom, at: Timestamp) {
        push(&mut self.round_trips, ROUND_TRIPS, (rtt, jitter, from));
        self.measured_at = at;
    }

    /// Takes counters in that are no older than those before.
    pub(super) fn count(&mut self, new: Counters) {
        let new = Counters { own: self.own, ..new };
        let last = self.counters.back();
        // An interface that was made anew counts from nought, and a clock may have been set.
        if last.is_some_and(|last| {
            new.sent.bytes < last.sent.bytes
                || new.received.bytes < last.received.bytes
                || new.sent_at <= last.sent_at
                || new.received_at <= last.received_at
        }) {
            self.counters.clear();
        }
        self.counters.push_back(new);
        while self.counters.len() > 2
            && self.counters.front().is_some_and(|first| new.sent_at.0 - first.sent_at.0 > USE_OVER)
        {
            self.counters.pop_front();
        }
        self.measured_at = new.sent_at;
        self.last_used = self.used();
    }

    /// Begins to count anew, so that the traffic of a migration is not taken for the use of others.
    pub(super) fn recount(&mut self) {
        self.counters.clear();
    }

    /// Notes what a burst of our own put on the link.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.own += Segments::USUAL.on_link(bytes);
    }

    /// What others use, in bits per second: what left here and arrived there. What only one end carries goes elsewhere.
    fn used(&self) -> Option<f64> {
        self.used_now().or(self.last_used)
    }

    fn used_now(&self) -> Option<f64> {
        let (first, last) = (self.counters.front()?, self.counters.back()?);
        let rate = |bytes: u64, microseconds: u64| {
            let bytes = bytes.saturating_sub(last.own - first.own);
            (microseconds >= USE_AT_LEAST).then(|| bytes as f64 * 8e6 / microseconds as f64)
        };
        let sent = rate(between(first.sent, last.sent), last.sent_at.0 - first.sent_at.0)?;
        let received =
            rate(between(first.received, last.received), last.received_at.0 - first.received_at.0)?;
        Some(sent.min(received))
    }

    /// Takes a burst in. Whether it told something; if not, the next one is longer.
    pub(super) fn burst(&mut self, burst: &Burst, at: Timestamp) -> bool {
        let settled = settled(&burst.arrivals);
        let longest = self.burst >= MAX_BURST.0;
        let Some(settled) = settled.filter(|settled| settled.lasted >= TELLING || longest) else {
            self.burst = (self.burst * GROWTH).min(MAX_BURST.0);
            return false;
        };
        if settled.gap > settled.lasted / GAP {
            return false;
        }
        let next = settled.rate * BURST_FOR_MS as f64 / 1e3;
        self.burst = (next as u64).clamp(LEAST_BURST, MAX_BURST.0);
        let Segments { payload, headers } = Segments::USUAL;
        let own = settled.rate * 8.0 * (payload + headers) as f64 / payload as f64;
        // Counters that are brought up to date only now and then show more than there was: hence no more than twice the use
        // over the last seconds.
        let others = burst.others.0.min(burst.others.1).min(2.0 * self.used().unwrap_or(0.0));
        push(&mut self.bursts, BURSTS, (own + others.max(0.0), at));
        true
    }

    /// Takes in that a transfer of `bytes` took `took`, with nothing but the link to hold it up, if that tells anything.
    pub(super) fn transfer(&mut self, bytes: Bytes, took: Millis, at: Timestamp) {
        if bytes >= LEAST_TRANSFER && took.0 > 0.0 {
            let on_link = Segments::USUAL.on_link(bytes.0);
            push(&mut self.transfers, TRANSFERS, (on_link as f64 * 8e3 / took.0, at));
        }
    }

    /// The capacity: the median of the last bursts, unless a transfer since was faster still.
    fn capacity(&self, now: Timestamp) -> Option<(f64, CapacityFrom, Timestamp)> {
        let recent = |at: Timestamp| at.0.saturating_add(BELIEVED) > now.0;
        let bursts = || self.bursts.iter().filter(|(_, at)| recent(*at));
        let since = bursts().map(|(_, at)| *at).min();
        let probed = median(bursts().map(|(rate, _)| *rate).collect());
        let transfers = self.transfers.iter().filter(|(_, at)| recent(*at) && since.is_none_or(|s| *at >= s));
        let moved = transfers.max_by(|a, b| a.0.total_cmp(&b.0));
        match (probed, moved) {
            (Some(probed), Some((rate, at))) if *rate > probed => Some((*rate, CapacityFrom::Transfer, *at)),
            (None, Some((rate, at))) => Some((*rate, CapacityFrom::Transfer, *at)),
            (Some(probed), _) => Some((probed, CapacityFrom::Probe, bursts().map(|(_, at)| *at).max()?)),
            (None, None) => None,
        }
    }

    /// What is to be told of it.
    pub(super) fn metrics(&self, to: &HostName, now: Timestamp) -> LinkMetrics {
        let rate = |bits: f64| BitsPerSec(bits.round().max(0.0) as u64);
        let capacity = self.capacity(now);
        let used = self.used();
        let from = self.round_trips.back().map(|(_, _, from)| *from);
        let same = || self.round_trips.iter().filter(|(_, _, f)| Some(*f) == from);
        LinkMetrics {
            to: to.clone(),
            capacity: capacity.map(|(bits, ..)| rate(bits)),
            capacity_from: capacity.map(|(_, from, _)| from),
            capacity_at: capacity.map(|(.., at)| at),
            used: used.map(rate),
            available: capacity.zip(used).map(|((capacity, ..), used)| rate(capacity - used)),
            rtt: median(same().map(|(rtt, ..)| rtt.0).collect()).map(Millis),
            rtt_jitter: median(same().map(|(_, jitter, _)| jitter.0).collect()).map(Millis),
            rtt_from: from,
            measured_at: self.measured_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// A burst of `bytes` at `rate` bytes per second, of which the first `free` come at once.
    fn arriving(bytes: u64, rate: f64, free: u64) -> Vec<(u64, u64)> {
        (1..=100)
            .map(|i| bytes * i / 100)
            .map(|b| ((b.saturating_sub(free) as f64 / rate * 1e9) as u64, b))
            .collect()
    }

    fn burst(arrivals: Vec<(u64, u64)>) -> Burst {
        Burst { arrivals, others: (0.0, 0.0) }
    }

    fn counted(seconds: u64, sent: u64, received: u64) -> Counters {
        // The other host's clock is somewhere else altogether.
        let (sent_at, received_at) = (Timestamp(seconds * SECOND), Timestamp((seconds + 777) * SECOND));
        let carried = |bytes: u64| Carried { bytes, packets: bytes / 1000 };
        Counters { sent: carried(sent), sent_at, received: carried(received), received_at, own: 0 }
    }

    fn to() -> HostName {
        "edge-b".parse().unwrap()
    }

    fn near(value: Option<BitsPerSec>, wanted: f64) -> bool {
        value.is_some_and(|value| (value.0 as f64 / wanted - 1.0).abs() < 0.01)
    }

    #[test]
    fn what_a_shaper_lets_pass_at_once_is_no_rate() {
        let settled = settled(&arriving(4_000_000, 125e6, 300_000)).unwrap();
        assert!((settled.rate / 125e6 - 1.0).abs() < 0.01, "{settled:?}");
    }

    #[test]
    fn arrivals_that_are_late_now_and_then_hardly_matter() {
        let mut arrivals = arriving(4_000_000, 125e6, 0);
        for late in [50, 51, 70, 90] {
            arrivals[late].0 += 300_000;
        }
        let settled = settled(&arrivals).unwrap();
        assert!((settled.rate / 125e6 - 1.0).abs() < 0.02, "{settled:?}");
    }

    #[test]
    fn what_cannot_tell_a_rate_tells_none() {
        assert_eq!(settled(&[]), None);
        assert_eq!(settled(&[(0, 1), (1, 2)]), None);
        assert_eq!(settled(&[(5, 10); 20]), None);
        // From a peer that tells nonsense: time that runs back.
        assert_eq!(settled(&[(9, 10), (8, 20), (7, 30), (6, 40), (5, 50)]), None);
    }

    #[test]
    fn a_burst_that_was_held_up_tells_nothing() {
        let mut arrivals = arriving(4_000_000, 125e6, 0);
        arrivals[70..].iter_mut().for_each(|(at, _)| *at += 9_000_000);
        let mut estimate = Estimate { burst: 4_000_000, ..Estimate::default() };
        assert!(!estimate.burst(&burst(arrivals), Timestamp(1)));
        assert_eq!((estimate.bursts(), estimate.next_burst()), (0, Bytes(4_000_000)));
    }

    #[test]
    fn bursts_grow_until_they_tell_and_then_last_for_some_milliseconds() {
        let mut estimate = Estimate::default();
        let rate = 125e6;
        let mut sizes = Vec::new();
        for at in 0..6 {
            let size = estimate.next_burst().0;
            sizes.push(size);
            estimate.burst(&burst(arriving(size, rate, 250_000)), Timestamp(at));
        }
        assert_eq!(sizes[..3], [64 << 10, 512 << 10, 4 << 20]);
        assert!(sizes[3..].iter().all(|size| (3_700_000..3_800_000).contains(size)), "{sizes:?}");
        assert_eq!(estimate.bursts(), 3);
        let metrics = estimate.metrics(&to(), Timestamp(10));
        assert!(near(metrics.capacity, 1e9 * 1514.0 / 1448.0), "{metrics:?}");
        assert_eq!(metrics.capacity_from, Some(CapacityFrom::Probe));
    }

    #[test]
    fn the_median_of_the_last_three_bursts_is_the_capacity_so_that_a_slower_link_shows_soon() {
        let mut estimate = Estimate { burst: MAX_BURST.0, ..Estimate::default() };
        let capacity = |estimate: &Estimate| estimate.metrics(&to(), Timestamp(10)).capacity;
        for rate in [125e6, 60e6, 170e6] {
            estimate.burst(&burst(arriving(3_000_000, rate, 0)), Timestamp(1));
        }
        assert!(near(capacity(&estimate), 125e6 * 8.0 * 1514.0 / 1448.0));
        for _ in 0..2 {
            estimate.burst(&burst(arriving(3_000_000, 12.5e6, 0)), Timestamp(2));
        }
        assert!(near(capacity(&estimate), 12.5e6 * 8.0 * 1514.0 / 1448.0));
    }

    #[test]
    fn use_is_what_left_here_and_arrived_there() {
        let mut estimate = Estimate::default();
        // 37.5 MB a second leave, of which 25 MB go to this peer; it hears 30 MB a second in all.
        for second in 0..5 {
            estimate.count(counted(second, second * 37_500_000, second * 30_000_000));
        }
        assert!(near(estimate.metrics(&to(), Timestamp(0)).used, 240e6));
        // Elsewhere only: no use of this link.
        let mut estimate = Estimate::default();
        for second in 0..5 {
            estimate.count(counted(second, second * 37_500_000, 100));
        }
        assert_eq!(estimate.metrics(&to(), Timestamp(0)).used, Some(BitsPerSec(0)));
    }

    #[test]
    fn use_is_of_the_last_seconds_and_starts_anew_with_the_counters() {
        let mut estimate = Estimate::default();
        for second in 0..60 {
            let bytes = 1_000_000 * second.min(40);
            estimate.count(counted(second, bytes, bytes));
        }
        assert_eq!(estimate.used(), Some(0.0));
        estimate.count(counted(61, 5, 5));
        assert_eq!(estimate.used(), Some(0.0), "as it was");
        estimate.count(counted(62, 1_000_005, 1_000_005));
        assert_eq!(estimate.used(), Some(8e6));
    }

    #[test]
    fn our_own_bursts_are_nobodys_use() {
        let mut estimate = Estimate::default();
        estimate.count(counted(1, 1_000, 500));
        estimate.sent(4_000_000);
        let on_link = Segments::USUAL.on_link(4_000_000);
        estimate.count(counted(2, 1_000 + on_link, 500 + on_link));
        assert_eq!(estimate.used(), Some(0.0));
    }

    #[test]
    fn what_others_sent_during_a_burst_belongs_to_the_capacity() {
        let mut estimate = Estimate { burst: MAX_BURST.0, ..Estimate::default() };
        for second in 0..3 {
            estimate.count(counted(second, second * 37_500_000, second * 37_500_000));
        }
        // The burst got 700 Mb/s of a gigabit, the rest was others'.
        let arrivals = arriving(3_000_000, 700e6 / 8.0 * 1448.0 / 1514.0, 0);
        estimate.burst(&Burst { arrivals: arrivals.clone(), others: (300e6, 310e6) }, Timestamp(3));
        let metrics = estimate.metrics(&to(), Timestamp(4));
        assert!(near(metrics.capacity, 1e9) && near(metrics.available, 700e6), "{metrics:?}");
        // An interface that counts in jumps shows far more; it is believed up to twice the use.
        let mut estimate = Estimate { burst: MAX_BURST.0, ..Estimate::default() };
        estimate.burst(&Burst { arrivals, others: (9e9, 9e9) }, Timestamp(3));
        assert!(near(estimate.metrics(&to(), Timestamp(4)).capacity, 700e6));
    }

    #[test]
    fn a_transfer_shows_what_the_link_carries_at_least() {
        let mut estimate = Estimate::default();
        estimate.transfer(Bytes(1000), Millis(0.001), Timestamp(1));
        assert_eq!(estimate.metrics(&to(), Timestamp(1)).capacity, None);
        estimate.transfer(Bytes(100_000_000), Millis(1000.0), Timestamp(1));
        let metrics = estimate.metrics(&to(), Timestamp(2));
        assert!(near(metrics.capacity, 800e6 * 1514.0 / 1448.0), "{metrics:?}");
        assert_eq!(metrics.capacity_from, Some(CapacityFrom::Transfer));
        // A faster burst wins; a faster transfer after that wins again.
        estimate.burst = MAX_BURST.0;
        estimate.burst(&burst(arriving(3_000_000, 120e6, 0)), Timestamp(3));
        assert_eq!(estimate.metrics(&to(), Timestamp(4)).capacity_from, Some(CapacityFrom::Probe));
        estimate.transfer(Bytes(100_000_000), Millis(700.0), Timestamp(5));
        assert_eq!(estimate.metrics(&to(), Timestamp(6)).capacity_from, Some(CapacityFrom::Transfer));
        // Three bursts later it is too old, and so is everything in the end.
        for at in 6..9 {
            estimate.burst(&burst(arriving(3_000_000, 12e6, 0)), Timestamp(at));
        }
        assert!(near(estimate.metrics(&to(), Timestamp(9)).capacity, 96e6 * 1514.0 / 1448.0));
        assert_eq!(estimate.metrics(&to(), Timestamp(BELIEVED + 10)).capacity, None);
    }

    #[test]
    fn round_trips_are_told_by_their_median() {
        let mut estimate = Estimate::default();
        for rtt in [9.0, 0.3, 0.2, 0.4, 0.3] {
            estimate.round_trip(Millis(rtt), Millis(rtt / 10.0), RttFrom::Tcp, Timestamp(1));
        }
        let metrics = estimate.metrics(&to(), Timestamp(2));
        assert_eq!((metrics.rtt, metrics.rtt_jitter), (Some(Millis(0.3)), Some(Millis(0.03))));
        assert_eq!(metrics.rtt_from, Some(RttFrom::Tcp));
    }
}
