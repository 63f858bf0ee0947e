//! Runs of slots of the destination's store of pages, as they are told.

/// The slot of the page that is all zero, which is in no store.
pub(crate) const ZERO: u32 = u32::MAX;

/// Bytes of an encoded [`Run`].
pub(crate) const RUN: usize = 8;

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
}
