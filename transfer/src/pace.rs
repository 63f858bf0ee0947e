//! Keeping to the bandwidth that a plan allots to its migration.
//!
//! A limit L is in bits per second *on the link*: Ethernet, IP and TCP headers are counted, as a queue or an interface on
//! the way counts them (not the 24 bytes of preamble, checksum and gap that only the wire sees). So L can be compared
//! with, and taken off, what the link carries.
//!
//! Frames are made as small as a few milliseconds of L and leave at their times: no burst, and over any fifth of a second the
//! rate is L. What TCP sends again is paid for as well. Beneath that, the kernel paces a TCP connection just above L
//! (`SO_MAX_PACING_RATE`, socket(7)), so that what a blocked link held up does not come all at once. Over Zenoh the
//! window alone bounds that, and headers are those of Ethernet's usual segments. All of this is state of the sender and of its
//! socket: it ends with them.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mose_pam::BitsPerSec;
use mose_protocol::transfer::TransferBounds;
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};

use super::error::TransferError;
use super::flow::max_frame;
use crate::tcp_info::Segments;

/// The least bandwidth that a plan can allot: with less, the smallest frames take seconds, and a slow transfer cannot be
/// told from a dead one.
pub const LEAST_BANDWIDTH: BitsPerSec = BitsPerSec(64_000);

/// What a frame takes at the limit, unless it is the smallest there is.
const FRAME: Duration = Duration::from_millis(4);
/// How much of the time that a late thread lost it may make up for at once.
const CATCH_UP: Duration = Duration::from_millis(6);
/// More than that is made up for by going faster by this part, and no more than so much of it.
const HASTE: u32 = 50;
const OWED: Duration = Duration::from_millis(200);
/// The smallest frames, in bytes of content.
const SMALLEST: u64 = 4 << 10;

/// Refuses a limit that no transfer can keep to.
///
/// # Errors
/// [`TransferError::Setup`] below [`LEAST_BANDWIDTH`].
pub fn check_bandwidth(limit: BitsPerSec) -> Result<(), TransferError> {
    if limit < LEAST_BANDWIDTH {
        return Err(TransferError::setup(
            format!("a bandwidth of {limit} is below the least of {LEAST_BANDWIDTH}"),
            "allot more, or leave the bandwidth out to use all there is",
        ));
    }
    Ok(())
}

/// The time that `bytes` take at `limit`.
fn time_of(bytes: u64, limit: BitsPerSec) -> Duration {
    let nanoseconds = u128::from(bytes) * 8_000_000_000 / u128::from(limit.0.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// The bounds of a transfer that keeps to `limit`: smaller frames, so that they leave smoothly and are acknowledged often.
pub(crate) fn bounds_at(bounds: TransferBounds, limit: BitsPerSec) -> TransferBounds {
    let frame = u128::from(limit.0) * FRAME.as_nanos() / 8_000_000_000;
    let chunk = u64::try_from(frame).unwrap_or(u64::MAX).clamp(SMALLEST.min(bounds.chunk), bounds.chunk);
    TransferBounds { chunk, ..bounds }
}

/// How much longer than usual an acknowledgement may take at `limit`: the time of the largest frame.
pub(crate) fn patience_at(limit: BitsPerSec, chunk: usize) -> Duration {
    time_of(max_frame(chunk) as u64, limit)
}

sockopt_impl!(
    /// The most that the kernel sends on a socket, in bytes of payload per second.
    MaxPacingRate, SetOnly, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, u64
);

/// Has the kernel send no faster than a twenty-fifth above the limit.
pub(crate) fn cap(socket: &impl AsFd, limit: BitsPerSec) -> io::Result<()> {
    let Segments { payload, headers } = Segments::of(socket);
    let bytes = u128::from(limit.0) / 8 * 26 / 25 * u128::from(payload) / u128::from(payload + headers);
    setsockopt(socket, MaxPacingRate, &u64::try_from(bytes).unwrap_or(u64::MAX - 1))?;
    Ok(())
}

/// Says when the next frame may leave. A virtual clock (as in the generic cell rate algorithm, ITU-T I.371): each frame
/// advances it by what the frame takes at the limit.
#[derive(Debug)]
pub(crate) struct Pacer {
    limit: BitsPerSec,
    segments: Segments,
    due: Instant,
    /// Whether a frame is waiting for its time.
    waiting: bool,
    /// Time that was lost because the thread that waited was not woken: a busy host must not cost a migration its share.
    owed: Duration,
}

impl Pacer {
    pub(crate) fn new(limit: BitsPerSec, segments: Segments, now: Instant) -> Self {
        Self { limit, segments, due: now, waiting: false, owed: Duration::ZERO }
    }

    /// When the next frame may leave, if that is not `now`. The frame is there, and waits for it.
    pub(crate) fn wait(&mut self, now: Instant) -> Option<Instant> {
        self.waiting = self.due > now;
        self.waiting.then_some(self.due)
    }

    /// Counts what leaves `now`: a frame of `bytes`, and `resent` bytes that the transport sent again of itself.
    pub(crate) fn charge(&mut self, bytes: usize, resent: u64, now: Instant) {
        let on_link = self.segments.on_link(bytes as u64) + self.segments.on_link(resent);
        // Who had nothing to send has not saved anything up.
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        if std::mem::take(&mut self.waiting) {
            self.owed = (self.owed + earliest.saturating_duration_since(self.due)).min(OWED);
        }
        let takes = time_of(on_link, self.limit);
        let haste = self.owed.min(takes / HASTE);
        self.owed -= haste;
        self.due = self.due.max(earliest) + takes - haste;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENTS: Segments = Segments::USUAL;

    fn bounds() -> TransferBounds {
        TransferBounds { chunk: 1 << 20, window: 16 << 20, stall_ms: 15_000, total: 1 << 40, entries: 10 }
    }

    /// Sends frames for `span` on a clock of its own, each `late` after its time; bits on the link by when they left.
    fn run(limit: BitsPerSec, late: Duration, span: Duration) -> Vec<(Duration, u64)> {
        let begin = Instant::now() + Duration::from_secs(1);
        let mut pacer = Pacer::new(limit, SEGMENTS, begin);
        let frame = bounds_at(bounds(), limit).chunk as usize;
        let (mut now, mut sent) = (begin, Vec::new());
        while now < begin + span {
            sent.push((now - begin, SEGMENTS.on_link(frame as u64) * 8));
            pacer.charge(frame, 0, now);
            now = pacer.wait(now).unwrap_or(now) + late;
        }
        sent
    }

    #[test]
    fn over_any_fifth_of_a_second_the_rate_is_the_limit() {
        let window = Duration::from_millis(200);
        for megabits in [20, 100, 500, 2_000, 10_000] {
            for late in [Duration::ZERO, Duration::from_micros(700)] {
                let limit = BitsPerSec(megabits * 1_000_000);
                let sent = run(limit, late, Duration::from_secs(2));
                for (at, _) in sent.iter().filter(|(at, _)| *at + window < Duration::from_secs(2)) {
                    let within = sent.iter().filter(|(t, _)| t >= at && *t < *at + window);
                    let rate = within.map(|(_, bits)| *bits as f64).sum::<f64>() / window.as_secs_f64();
                    let ratio = rate / limit.0 as f64;
                    assert!((0.95..=1.05).contains(&ratio), "{limit} {late:?} at {at:?}: {ratio}");
                }
            }
        }
    }

    #[test]
    fn a_late_thread_makes_up_for_a_moment_and_not_for_a_pause() {
        let limit = BitsPerSec(100_000_000);
        let begin = Instant::now() + Duration::from_secs(5);
        let mut pacer = Pacer::new(limit, SEGMENTS, begin);
        pacer.charge(50_000, 0, begin);
        let frame = time_of(SEGMENTS.on_link(50_000), limit);
        assert_eq!(pacer.due, begin + frame);
        // Two milliseconds late: the frame after it is due as if it had been in time.
        pacer.charge(50_000, 0, begin + frame + Duration::from_millis(2));
        assert_eq!(pacer.due, begin + 2 * frame);
        // After a second of nothing: no more than the allowance.
        let later = begin + Duration::from_secs(1);
        pacer.charge(50_000, 0, later);
        assert_eq!(pacer.due, later - CATCH_UP + frame);
        assert_eq!(pacer.owed, Duration::ZERO);
    }

    #[test]
    fn a_thread_that_was_not_woken_goes_a_little_faster_until_it_has_made_up_for_it() {
        let limit = BitsPerSec(100_000_000);
        let begin = Instant::now() + Duration::from_secs(5);
        let mut pacer = Pacer::new(limit, SEGMENTS, begin);
        let takes = time_of(SEGMENTS.on_link(50_000), limit);
        let (mut now, mut frames) = (begin, 0_u32);
        while now < begin + Duration::from_secs(6) {
            pacer.charge(50_000, 0, now);
            frames += 1;
            now = pacer.wait(now).unwrap_or(now);
            // Now and then, during the first second, not woken for 40 ms.
            if frames % 80 == 0 && now < begin + Duration::from_secs(1) {
                now += Duration::from_millis(40);
            }
        }
        assert!(frames * takes > Duration::from_millis(5_990), "{:?}", frames * takes);
        assert!(frames * takes < Duration::from_millis(6_010), "{:?}", frames * takes);
    }

    #[test]
    fn what_is_sent_again_is_paid_for() {
        let limit = BitsPerSec(8_000_000);
        let begin = Instant::now();
        let mut pacer = Pacer::new(limit, SEGMENTS, begin);
        pacer.charge(1448, 14_480, begin);
        assert_eq!(pacer.due, begin + Duration::from_micros(11 * 1514));
    }

    #[test]
    fn frames_are_milliseconds_of_the_limit_and_within_the_bounds() {
        let chunk = |bits| bounds_at(bounds(), BitsPerSec(bits)).chunk;
        assert_eq!(chunk(64_000), SMALLEST);
        assert_eq!(chunk(100_000_000), 50_000);
        assert_eq!(chunk(u64::MAX), 1 << 20);
        assert_eq!(bounds_at(bounds(), BitsPerSec(1_000_000)).window, bounds().window);
    }

    #[test]
    fn the_slower_the_limit_the_longer_the_patience() {
        let chunk = SMALLEST as usize;
        assert!(patience_at(LEAST_BANDWIDTH, chunk) > Duration::from_secs(30));
        assert!(patience_at(BitsPerSec(1_000_000_000), 500_000) < Duration::from_millis(10));
    }

    #[test]
    fn a_bandwidth_of_next_to_nothing_is_refused_with_its_reason() {
        assert!(check_bandwidth(LEAST_BANDWIDTH).is_ok());
        for bits in [0, 63_999] {
            let error = check_bandwidth(BitsPerSec(bits)).unwrap_err().to_string();
            assert!(error.contains("64.0 kb/s") && error.contains("allot more"), "{error}");
        }
    }

    #[test]
    fn the_kernel_takes_the_cap() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        cap(&stream, BitsPerSec(20_000_000)).unwrap();
    }
}
