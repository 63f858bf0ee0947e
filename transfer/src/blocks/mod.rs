//! Files in blocks: of a file that the destination has in an earlier state, only the blocks that differ are sent, and runs of
//! zeros are told instead of sent, so that a sparse file stays sparse.
//!
//! Both ends remember the digest of every block of every file of a tree. A file's digest is made of its blocks' digests.

mod arriving;

use std::sync::LazyLock;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::digest::Digest;

pub(crate) use arriving::ArrivingFile;

/// Bytes of a block: small enough that a database that rewrites one of its pages costs little, large enough that the digests
/// of all blocks of a full transfer fit into memory (16 bytes each).
pub(crate) const BLOCK: usize = 128 << 10;

static ZERO_BLOCK: LazyLock<u128> = LazyLock::new(|| xxh3_128(&vec![0; BLOCK]));

/// The blocks of a file, as both ends remember them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Blocks(Vec<u128>);

impl Blocks {
    pub(crate) fn get(&self, block: usize) -> Option<u128> {
        self.0.get(block).copied()
    }
}

/// The digest of a file in the making, fed in order of its bytes.
#[derive(Default)]
pub(crate) struct BlockHasher {
    done: Vec<u128>,
    current: Option<Box<Xxh3>>,
    bytes: u64,
}

impl BlockHasher {
    /// Bytes fed so far: where the next ones belong.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How far into the current block it is.
    fn within(&self) -> usize {
        (self.bytes % BLOCK as u64) as usize
    }

    /// The number of the block that the next byte belongs to.
    pub(crate) fn block(&self) -> usize {
        (self.bytes / BLOCK as u64) as usize
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (head, tail) = bytes.split_at(bytes.len().min(BLOCK - self.within()));
            if head.len() == BLOCK {
                self.done.push(xxh3_128(head));
            } else {
                self.current.get_or_insert_with(|| Box::new(Xxh3::new())).update(head);
            }
            self.bytes += head.len() as u64;
            self.close_full();
            bytes = tail;
        }
    }

    /// Feeds `count` zeros.
    pub(crate) fn zeros(&mut self, mut count: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            if self.within() == 0 && count >= BLOCK as u64 {
                self.done.push(*ZERO_BLOCK);
                self.bytes += BLOCK as u64;
                count -= BLOCK as u64;
            } else {
                let piece = count.min(ZEROS.len() as u64).min((BLOCK - self.within()) as u64) as usize;
                self.update(&ZEROS[..piece]);
                count -= piece as u64;
            }
        }
    }

    /// Feeds the current block by its known digest; it must stand at the block's begin.
    pub(crate) fn whole(&mut self, digest: u128, bytes: usize) {
        self.done.push(digest);
        self.bytes += bytes as u64;
    }

    fn close_full(&mut self) {
        if self.within() == 0
            && let Some(current) = self.current.take()
        {
            self.done.push(current.digest128());
        }
    }

    /// The file's digest and its blocks.
    pub(crate) fn finish(mut self) -> (Digest, Blocks) {
        if let Some(current) = self.current.take() {
            self.done.push(current.digest128());
        }
        let mut whole = Xxh3::new();
        for digest in &self.done {
            whole.update(&digest.to_le_bytes());
        }
        whole.update(&self.bytes.to_le_bytes());
        (Digest::from_bytes(whole.digest128().to_le_bytes()), Blocks(self.done))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest_of(bytes: &[u8]) -> (Digest, Blocks) {
        let mut hasher = BlockHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_digest_depends_on_the_bytes_and_not_on_how_they_come(
            zeros in 0..3 * BLOCK, tail in proptest::collection::vec(any::<u8>(), 0..BLOCK), piece in 1..2 * BLOCK,
        ) {
            let mut bytes = vec![0; zeros];
            bytes.extend_from_slice(&tail);
            let whole = digest_of(&bytes);
            let mut pieces = BlockHasher::default();
            bytes.chunks(piece).for_each(|piece| pieces.update(piece));
            prop_assert_eq!(&pieces.finish(), &whole);
            let mut holes = BlockHasher::default();
            holes.zeros(zeros as u64);
            holes.update(&tail);
            prop_assert_eq!(holes.bytes(), bytes.len() as u64);
            prop_assert_eq!(holes.finish(), whole);
        }
    }

    #[test]
    fn a_longer_file_of_zeros_is_another_file() {
        assert_ne!(digest_of(&[0; BLOCK]).0, digest_of(&[0; BLOCK + 1]).0);
        assert_ne!(digest_of(&[]).0, digest_of(&[0]).0);
    }
}
