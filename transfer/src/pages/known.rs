//! The source's knowledge of the destination's store: which slot holds which content, and which place needs it.

use std::collections::HashMap;

use super::{PAGE, Place, digest};
use crate::runs::ZERO;

/// What is to be done with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// Nothing: it is all zero.
    Zero,
    /// Nothing: the destination has its content.
    Known,
    /// It is to be sent into this slot.
    Send(u32),
}

struct Slot {
    digest: u128,
    /// Places whose content it is, as far as was seen.
    users: u32,
    /// Whether it is in the list of free slots.
    listed: bool,
}

/// Slots by content and by place. Costs some 100 bytes for each page of the service.
pub(crate) struct Known {
    seed: u64,
    zero: u128,
    by_digest: HashMap<u128, u32>,
    by_place: HashMap<Place, u32>,
    slots: Vec<Slot>,
    /// Slots that lost their last user; one that found a new user since is skipped.
    free: Vec<u32>,
}

impl Known {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            zero: digest(seed, &[0; PAGE]),
            by_digest: HashMap::new(),
            by_place: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Whether the destination has anything at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn digest(&self, page: &[u8]) -> u128 {
        digest(self.seed, page)
    }

    /// The slot that holds the content of this digest, [`ZERO`] for the zero page.
    pub(crate) fn slot(&self, digest: u128) -> Option<u32> {
        if digest == self.zero { Some(ZERO) } else { self.by_digest.get(&digest).copied() }
    }

    /// Notes the content of a place, and says what the destination needs to have it too.
    ///
    /// The store stays about as large as the service: a page that changed is written over its old content unless
    /// another place has that too.
    pub(crate) fn place(&mut self, place: Place, page: &[u8]) -> Placed {
        let digest = self.digest(page);
        let old = self.by_place.get(&place).copied();
        if let Some(old) = old
            && self.slots[old as usize].digest == digest
        {
            return Placed::Known;
        }
        if digest == self.zero {
            self.by_place.remove(&place);
            self.release(old);
            return Placed::Zero;
        }
        if let Some(&slot) = self.by_digest.get(&digest) {
            self.slots[slot as usize].users += 1;
            self.by_place.insert(place, slot);
            self.release(old);
            return Placed::Known;
        }
        let slot = match old {
            Some(old) if self.slots[old as usize].users == 1 => old,
            _ => {
                self.release(old);
                self.vacant()
            }
        };
        let overwritten =
            std::mem::replace(&mut self.slots[slot as usize], Slot { digest, users: 1, listed: false });
        if self.by_digest.get(&overwritten.digest) == Some(&slot) {
            self.by_digest.remove(&overwritten.digest);
        }
        self.by_digest.insert(digest, slot);
        self.by_place.insert(place, slot);
        Placed::Send(slot)
    }

    fn release(&mut self, slot: Option<u32>) {
        let Some(slot) = slot else { return };
        let known = &mut self.slots[slot as usize];
        known.users -= 1;
        if known.users == 0 && !known.listed {
            known.listed = true;
            self.free.push(slot);
        }
    }

    /// A slot that nobody uses, or a new one.
    fn vacant(&mut self) -> u32 {
        while let Some(slot) = self.free.pop() {
            self.slots[slot as usize].listed = false;
            if self.slots[slot as usize].users == 0 {
                return slot;
            }
        }
        // 16 TiB of pages: a transfer's limit on bytes comes first.
        let slot = u32::try_from(self.slots.len()).unwrap_or(ZERO - 1).min(ZERO - 1);
        // Until its content is noted it has the digest of no page that is looked up: the zero page's.
        self.slots.push(Slot { digest: self.zero, users: 0, listed: false });
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of one repeated byte.
    fn page(byte: u8) -> Vec<u8> {
        vec![byte; PAGE]
    }

    #[test]
    fn equal_and_zero_pages_are_not_sent() {
        let mut known = Known::new(3);
        assert_eq!(known.place((1, 0), &page(0)), Placed::Zero);
        assert!(known.is_empty());
        assert_eq!(known.place((1, 0), &page(7)), Placed::Send(0));
        assert_eq!(known.place((1, 4096), &page(7)), Placed::Known);
        assert_eq!(known.place((1, 0), &page(7)), Placed::Known);
        assert_eq!(known.slot(known.digest(&page(0))), Some(ZERO));
    }

    #[test]
    fn a_changed_page_is_written_over_its_old_content_unless_another_has_it() {
        let mut known = Known::new(3);
        known.place((1, 0), &page(7));
        assert_eq!(known.place((1, 0), &page(8)), Placed::Send(0));
        assert_eq!(known.slot(known.digest(&page(7))), None);
        known.place((2, 0), &page(8));
        assert_eq!(known.place((1, 0), &page(9)), Placed::Send(1), "process 2 still has the old content");
        assert_eq!(known.slot(known.digest(&page(8))), Some(0));
    }

    /// The store as the destination would have it always holds what the source believes, for any history.
    #[test]
    fn belief_and_store_agree_over_random_histories() {
        let mut state = 0x1234_5678_9abc_def1_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut known = Known::new(9);
        let mut store: Vec<Vec<u8>> = Vec::new();
        for _ in 0..20_000 {
            let content = page(random(40) as u8);
            let place = (random(3) as u32, random(20) * 4096);
            match known.place(place, &content) {
                Placed::Send(slot) => {
                    let slot = slot as usize;
                    assert!(slot <= store.len());
                    if slot == store.len() {
                        store.push(content.clone());
                    } else {
                        store[slot].clone_from(&content);
                    }
                }
                Placed::Zero => assert_eq!(content, page(0)),
                Placed::Known => {}
            }
            for byte in 0..40 {
                if let Some(slot) = known.slot(known.digest(&page(byte)))
                    && slot != ZERO
                {
                    assert_eq!(store[slot as usize], page(byte));
                }
            }
        }
        assert!(store.len() <= 61, "{} slots for 60 places", store.len());
    }
}
