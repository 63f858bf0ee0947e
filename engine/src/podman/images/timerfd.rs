//! Timers that are read from a descriptor (timerfd_create(2)).
//!
//! CRIU writes down what `/proc/PID/fdinfo` says: the time that is left, the interval, the expiries that were not read. Two of its
//! images say something else than was meant:
//!
//! - A periodic timer that has expired and was not read yet has no time left: the kernel starts it again when it is read.
//!   Restored as such it is disarmed, and never expires again. It is given one nanosecond, so that it expires at once, as it did;
//!   the expiries that were not read are then set by CRIU (`TFD_IOC_SET_TICKS`).
//! - A timer that was set to an absolute time and has no time left, nor an interval, is one that is over. CRIU adds the clock's
//!   time to what is left, and so arms it again: it would expire once more. It is made a relative one, which none left disarms.

use super::entries::Patch;
use super::field::{fields, message, number};

/// `file_entry.type`, its value for a timer, and the field that then says more (`fdinfo.proto`).
const TYPE: u64 = 1;
const TIMERFD: u64 = 17;
const TFD: u64 = 12;

/// Fields of `timerfd_entry` (`timerfd.proto`).
const TICKS: u64 = 5;
const SETTIME_FLAGS: u64 = 6;
const LEFT_SECONDS: u64 = 7;
const LEFT_NANOSECONDS: u64 = 8;
const INTERVAL_SECONDS: u64 = 9;
const INTERVAL_NANOSECONDS: u64 = 10;

/// `TFD_TIMER_ABSTIME`.
const ABSOLUTE: u64 = 1;

/// What is to be changed in an entry of `files.img`.
pub(super) fn mend(entry: &[u8]) -> Vec<Patch> {
    timer(entry).into_iter().collect()
}

fn timer(entry: &[u8]) -> Option<Patch> {
    let file = fields(entry)?;
    if number(&file, TYPE)?.0 != TIMERFD {
        return None;
    }
    let (bytes, begin) = message(&file, TFD)?;
    let timer = fields(bytes)?;
    let value = |field| number(&timer, field).map(|(value, _)| value);
    // Changes the lowest seven bits of a number where it stands; it keeps its length.
    let change = |field, to: &dyn Fn(u8) -> u8| {
        let at = number(&timer, field)?.1;
        let byte = *bytes.get(at)?;
        Some(Patch { at: begin + at, byte: (byte & 0x80) | (to(byte) & 0x7f) })
    };
    if (value(LEFT_SECONDS)?, value(LEFT_NANOSECONDS)?) != (0, 0) {
        return None;
    }
    let absolute = value(SETTIME_FLAGS)? & ABSOLUTE != 0;
    let periodic = (value(INTERVAL_SECONDS)?, value(INTERVAL_NANOSECONDS)?) != (0, 0);
    match (periodic && value(TICKS)? > 0, absolute) {
        // Absolute: CRIU adds the clock's time, and it expires at once.
        (true, true) => None,
        (true, false) => change(LEFT_NANOSECONDS, &|byte| byte | 1),
        (false, true) => change(SETTIME_FLAGS, &|byte| byte & !1),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::written::{self, bytes_field, numbers};
    use super::*;
    use proptest::prelude::*;

    /// An entry of `files.img` for a timer; with what this program knows nothing of around it.
    fn entry(ticks: u64, flags: u64, left: (u64, u64), interval: (u64, u64)) -> Vec<u8> {
        let timer = [
            numbers(&[(1, 7), (2, 0o2)]),
            bytes_field(3, &numbers(&[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)])),
            numbers(&[
                (4, 1),
                (5, ticks),
                (6, flags),
                (7, left.0),
                (8, left.1),
                (9, interval.0),
                (10, interval.1),
            ]),
            numbers(&[(99, 5)]),
        ]
        .concat();
        [numbers(&[(1, TIMERFD), (2, 7)]), bytes_field(12, &timer), bytes_field(77, b"later")].concat()
    }

    fn mended(entry: Vec<u8>) -> Vec<u8> {
        written::mended(entry, mend)
    }

    const PERIOD: (u64, u64) = (0, 100_000_000);

    #[test]
    fn a_periodic_timer_with_an_unread_expiry_ticks_on() {
        assert_eq!(mended(entry(1, 0, (0, 0), PERIOD)), entry(1, 0, (0, 1), PERIOD));
        assert_eq!(mended(entry(70_000, 0, (0, 0), (3, 0))), entry(70_000, 0, (0, 1), (3, 0)));
    }

    #[test]
    fn an_absolute_timer_that_is_over_does_not_expire_again() {
        assert_eq!(mended(entry(0, 1, (0, 0), (0, 0))), entry(0, 0, (0, 0), (0, 0)));
        assert_eq!(mended(entry(1, 3, (0, 0), (0, 0))), entry(1, 2, (0, 0), (0, 0)));
        // Disarmed, though it was given an interval.
        assert_eq!(mended(entry(0, 1, (0, 0), PERIOD)), entry(0, 0, (0, 0), PERIOD));
    }

    #[test]
    fn every_other_timer_is_left_as_it_is() {
        for whole in [
            entry(0, 0, (0, 0), (0, 0)),
            entry(1, 0, (0, 0), (0, 0)),
            entry(0, 0, (0, 0), PERIOD),
            entry(1, 1, (0, 0), PERIOD),
            entry(1, 0, (0, 5), PERIOD),
            entry(0, 1, (5, 0), (0, 0)),
        ] {
            assert_eq!(mended(whole.clone()), whole);
        }
    }

    #[test]
    fn a_number_that_is_written_longer_than_needed_keeps_its_length() {
        let timer =
            [numbers(&[(5, 1), (6, 0), (7, 0)]), vec![8 << 3, 0x80, 0x00], numbers(&[(9, 1), (10, 0)])]
                .concat();
        let whole = [numbers(&[(1, TIMERFD)]), bytes_field(12, &timer)].concat();
        let after = mended(whole.clone());
        assert_eq!(after.len(), whole.len());
        let file = fields(&after).unwrap();
        assert_eq!(number(&fields(message(&file, 12).unwrap().0).unwrap(), 8).unwrap().0, 1);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics_and_a_patch_lies_within(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for patch in mend(&bytes) {
                prop_assert!(patch.at < bytes.len());
            }
        }

        #[test]
        fn at_most_one_byte_of_an_entry_changes_and_once_is_enough(
            ticks in any::<u64>(), flags in 0_u64..4, left in (0_u64..2, 0_u64..2), interval in (0_u64..2, 0_u64..1000),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = entry(ticks, flags, left, interval);
            let once = mended(whole.clone());
            prop_assert_eq!(once.len(), whole.len());
            prop_assert!(whole.iter().zip(&once).filter(|(a, b)| a != b).count() <= 1);
            prop_assert_eq!(mended(once.clone()), once);
            // A message that is cut short is none, or one without what is needed.
            let cut = cut.index(whole.len());
            let _ = mend(&whole[..cut]);
        }
    }
}
