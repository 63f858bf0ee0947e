//! Pages that travel before the dump, and the dump that is then told by what already travelled.
//!
//! While the service runs, its pages are read and put into the destination's [`store::PageStore`], each into a numbered *slot*.
//! When CRIU has dumped the frozen service, the page files are sent as runs of slots, and only a page whose content the
//! destination has in no slot is sent itself. What was read from the running service may be torn or stale: that costs
//! a slot that is never used, nothing else, because the dump alone says what the memory is.
//!
//! A page is known by its xxh3-128 digest with a seed that both ends derive from the transfer's secret, so that nobody
//! who merely fills a service's memory can prepare two pages that pass for each other.

pub(crate) mod known;
mod rounds;
mod sink;
pub(crate) mod store;

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_128_with_seed;

pub(crate) use rounds::Rounds;
pub use rounds::{ReadPages, TakePage};

/// Bytes of a page (x86-64, and σ of the model).
pub const PAGE: usize = 4096;

/// The slot of the page that is all zero, which is in no store.
pub(crate) const ZERO: u32 = u32::MAX;

/// Bytes of an encoded [`Run`].
pub(crate) const RUN: usize = 8;

/// Pages that one record may ask to be copied: the destination answers between two records (64 MiB).
pub(crate) const MAX_REUSE: u64 = 16 << 10;

/// Where a page was found: the process and the address.
pub type Place = (u32, u64);

/// What one round did with the pages that it was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundSent {
    /// Pages that were looked at.
    pub pages: u64,
    /// Of these, pages that were sent.
    pub sent: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Of these pages, those that were all zero.
    pub zero: u64,
    /// From the first page to the destination's acknowledgement of the last.
    pub elapsed: Duration,
}

/// Slots `first`, `first + 1` … of the store; all of them the zero page where `first` is [`ZERO`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Run {
    /// Whether `slot` can be told as one more page of this run.
    pub(crate) fn continues_with(self, slot: u32) -> bool {
        if self.first == ZERO {
            return slot == ZERO && self.count < u32::MAX;
        }
        slot != ZERO && u64::from(self.first) + u64::from(self.count) == u64::from(slot)
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
    }
}

/// The runs of a record; its length was checked to be a multiple of [`RUN`].
pub(crate) fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    bytes.chunks_exact(RUN).map(move |run| Run { first: word(&run[..4]), count: word(&run[4..]) })
}

/// The seed of a transfer's page digests, out of its token (hexadecimal digits; checked before).
pub(crate) fn seed(token: &str) -> u64 {
    token.get(16..32).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// The digest of a page, or of the shorter piece at a file's end.
pub(crate) fn digest(seed: u64, page: &[u8]) -> u128 {
    xxh3_128_with_seed(page, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back_as_they_were() {
        let all = [Run { first: 7, count: 3 }, Run { first: ZERO, count: 1 }];
        let mut bytes = Vec::new();
        all.iter().for_each(|run| run.encode(&mut bytes));
        assert!(runs(&bytes).eq(all));
    }

    #[test]
    fn a_run_goes_on_with_the_next_slot_or_with_zeros() {
        let run = Run { first: 7, count: 3 };
        assert!(run.continues_with(10) && !run.continues_with(9) && !run.continues_with(ZERO));
        let zeros = Run { first: ZERO, count: 3 };
        assert!(zeros.continues_with(ZERO) && !zeros.continues_with(0));
        let last = Run { first: ZERO - 2, count: 2 };
        assert!(!last.continues_with(ZERO), "the zero page follows no slot");
    }

    #[test]
    fn the_seed_is_the_second_half_of_the_token() {
        assert_eq!(seed("000000000000000000000000000000ff"), 255);
        assert_ne!(digest(1, &[1; PAGE]), digest(2, &[1; PAGE]));
    }
}
