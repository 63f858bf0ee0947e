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
pub(crate) mod store;

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Bytes of a page (x86-64, and σ of the model).
pub const PAGE: usize = 4096;

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
    fn the_seed_is_the_second_half_of_the_token() {
        assert_eq!(seed("000000000000000000000000000000ff"), 255);
        assert_ne!(digest(1, &[1; PAGE]), digest(2, &[1; PAGE]));
    }
}
