//! Files that move with a service beside its memory: volumes and shared memory.
//!
//! All of them are sent once while the service runs, what changed since again before each further round, and the rest after the freeze.
//! What was written to in ΔT is sent by blocks, so that a page costs as much as a block at worst.

use crate::units::{BitsPerSec, Bytes, Millis};

/// Bytes that are sent where one page was written to, over the page's: a transfer's blocks have 128 KiB, pages 4 KiB.
const BLOCK_PER_PAGE: f64 = 32.0;

/// Bytes on the link for each byte of a file: Ethernet's frames of 1538 bytes carry 1448 of TCP's (RFC 894, RFC 7323).
const WITH_HEADERS: f64 = 1538.0 / 1448.0;

/// What files cost, in bytes on the link.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FileCosts {
    /// The first pass, while the service runs.
    pub first: f64,
    /// Each pass after it; the last one is part of the downtime. An upper bound.
    pub changed: f64,
}

impl FileCosts {
    /// Those of files of `size`, written to with `written_per_s` bytes a second, of which `interval` (ΔT) lies between two passes.
    #[must_use]
    pub fn new(size: Bytes, written_per_s: Bytes, interval: Millis) -> Self {
        let all = size.0 as f64 * WITH_HEADERS;
        let written = written_per_s.0 as f64 * interval.0.max(0.0) / 1e3;
        Self { first: all, changed: (written * BLOCK_PER_PAGE * WITH_HEADERS).min(all) }
    }

    /// How long the first pass travels at a bandwidth above zero.
    #[must_use]
    pub fn first_at(&self, bandwidth: BitsPerSec) -> Millis {
        Millis(self.first * 8e3 / bandwidth.0 as f64)
    }

    /// How long each pass after it travels at a bandwidth above zero.
    #[must_use]
    pub fn changed_at(&self, bandwidth: BitsPerSec) -> Millis {
        Millis(self.changed * 8e3 / bandwidth.0 as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_changes_than_there_is() {
        let second = Millis(1000.0);
        let none = FileCosts::new(Bytes(1 << 30), Bytes(0), second);
        assert_eq!(none.changed, 0.0);
        let little = FileCosts::new(Bytes(1 << 30), Bytes(4096), second);
        assert!((little.changed - f64::from(128 << 10) * WITH_HEADERS).abs() < 1.0);
        let much = FileCosts::new(Bytes(1 << 20), Bytes(1 << 30), second);
        assert_eq!(much.changed, much.first);
        // 1 GiB at 1 Gb/s with its headers.
        let took = none.first_at(BitsPerSec(1_000_000_000));
        assert!((took.0 - 9124.0).abs() < 1.0, "{took:?}");
    }
}
