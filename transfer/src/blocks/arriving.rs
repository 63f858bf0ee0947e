//! A file of a tree as it arrives.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::fcntl::{FallocateFlags, fallocate};

use super::{BLOCK, BlockHasher, Blocks};
use crate::digest::Digest;

/// Bytes of a page: zeros are left out by whole ones.
const PAGE: usize = 4096;

/// Whether `bytes`, which belong to `at`, begin with whole pages of zeros, and how many bytes are as they.
fn run(bytes: &[u8], at: u64) -> (bool, usize) {
    let is_zero = |from: usize| {
        let page = bytes.get(from..from + PAGE);
        page.is_some_and(|page| page.iter().all(|byte| *byte == 0))
    };
    // Up to the first page's begin.
    let lead = (PAGE - (at % PAGE as u64) as usize) % PAGE;
    if lead > 0 {
        return (false, lead.min(bytes.len()));
    }
    let zeros = is_zero(0);
    let mut length = PAGE;
    while length < bytes.len() && is_zero(length) == zeros {
        length += PAGE;
    }
    (zeros, length.min(bytes.len()))
}

/// A file whose content arrives in blocks. What is wrong with the source's words is told as a text.
pub(crate) struct ArrivingFile {
    file: File,
    hasher: BlockHasher,
    /// The blocks and the size of the state that is being patched; nothing of a new file.
    old: Blocks,
    old_size: u64,
}

impl ArrivingFile {
    /// A file that is empty.
    pub(crate) fn new(file: File) -> Self {
        Self { file, hasher: BlockHasher::default(), old: Blocks::default(), old_size: 0 }
    }

    /// A file of which `old` is there.
    pub(crate) fn patch(file: File, old: Blocks, old_size: u64) -> Self {
        Self { file, hasher: BlockHasher::default(), old, old_size }
    }

    /// Where the next bytes belong.
    pub(crate) fn at(&self) -> u64 {
        self.hasher.bytes()
    }

    /// Takes the next bytes. Whole pages of zeros among them become holes.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut at = self.at();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (zeros, length) = run(rest, at);
            let (head, tail) = rest.split_at(length);
            if zeros {
                self.clear(at, length as u64)?
            } else {
                self.file.write_all_at(head, at)?
            }
            (rest, at) = (tail, at + length as u64);
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// The next bytes are zeros.
    pub(crate) fn zeros(&mut self, count: u64) -> std::io::Result<()> {
        self.clear(self.at(), count)?;
        self.hasher.zeros(count);
        Ok(())
    }

    /// Makes zeros of what was there; where nothing was, there are none but zeros.
    fn clear(&self, at: u64, count: u64) -> std::io::Result<()> {
        match at.saturating_add(count).min(self.old_size).checked_sub(at) {
            Some(covered) if covered > 0 => self.punch(at, covered),
            _ => Ok(()),
        }
    }

    fn punch(&self, at: u64, count: u64) -> std::io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let range = i64::try_from(at).ok().zip(i64::try_from(count).ok());
        if range.is_some_and(|(at, count)| fallocate(&self.file, flags, at, count).is_ok()) {
            return Ok(());
        }
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut done = 0;
        while done < count {
            let piece = (count - done).min(ZEROS.len() as u64) as usize;
            self.file.write_all_at(&ZEROS[..piece], at + done)?;
            done += piece as u64;
        }
        Ok(())
    }

    /// The next bytes are as they were.
    pub(crate) fn keep(&mut self, bytes: u64) -> Result<(), String> {
        let end = self.at().checked_add(bytes).ok_or("a file without end")?;
        let aligned = |at: u64| at.is_multiple_of(BLOCK as u64);
        if end > self.old_size || !aligned(self.at()) || !(aligned(end) || end == self.old_size) {
            return Err("blocks to be kept that are not there".into());
        }
        while self.at() < end {
            let digest = self.old.get(self.hasher.block()).ok_or("blocks to be kept that are unknown")?;
            let count = (end - self.at()).min(BLOCK as u64);
            self.hasher.whole(digest, count as usize);
        }
        Ok(())
    }

    /// The file is complete: gives it its size; its size, digest and blocks.
    pub(crate) fn finish(self) -> std::io::Result<(u64, Digest, Blocks)> {
        let size = self.hasher.bytes();
        self.file.set_len(size)?;
        let (digest, blocks) = self.hasher.finish();
        Ok((size, digest, blocks))
    }
}
