//! A file of a tree on its way out.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::xxh3_128;

use crate::blocks::{BLOCK, BlockHasher, Blocks};
use crate::error::TransferError;
use crate::frame::{Entry, Record, Section};
use crate::manifest::Item;
use crate::path::RelPath;
use crate::send::Engine;

/// A file whose content is being sent in blocks.
pub(crate) struct Leaving {
    id: u32,
    hasher: BlockHasher,
    /// What the destination has of it.
    known: Blocks,
    /// Blocks that the destination has, and zeros, that are not told yet.
    kept: u64,
    zeros: u64,
}

impl Leaving {
    /// Sends the first `size` bytes of `file`, as far as it has them, as what is at `path`. With `patch` the destination has an earlier
    /// state of it, and gets what differs. Returns how many bytes there were.
    pub(crate) fn send(
        engine: &mut Engine,
        (section, path): (Section, &RelPath),
        entry: Entry,
        file: &File,
        size: u64,
        patch: bool,
    ) -> Result<u64, TransferError> {
        let known = engine.manifest.get(section, path).filter(|_| patch).map(|item| item.blocks.clone());
        let id = match &known {
            Some(_) => engine.announce_patch(section, path, &entry)?,
            None => engine.announce(section, path, &entry)?,
        };
        let known = known.unwrap_or_default();
        let mut leaving = Self { id, hasher: BlockHasher::default(), known, kept: 0, zeros: 0 };
        leaving.content(engine, path, file, size)?;
        leaving.tell(engine)?;
        let bytes = leaving.hasher.bytes();
        let (digest, blocks) = leaving.hasher.finish();
        engine.push(&Record::End { id, size: bytes, digest })?;
        engine.manifest.insert(section, path.clone(), Item { entry, size: bytes, digest, blocks });
        Ok(bytes)
    }

    fn content(
        &mut self,
        engine: &mut Engine,
        path: &RelPath,
        file: &File,
        size: u64,
    ) -> Result<(), TransferError> {
        let error = |e| TransferError::io("read", path.as_path(), e);
        let mut block = vec![0; BLOCK.min(usize::try_from(size).unwrap_or(BLOCK))];
        while self.hasher.bytes() < size {
            engine.tick()?;
            let at = self.hasher.bytes();
            let holes = hole(file, at, size) / BLOCK as u64 * BLOCK as u64;
            if holes > 0 {
                self.pass_zeros(engine, holes)?;
                continue;
            }
            let most = usize::try_from(size - at).unwrap_or(BLOCK).min(BLOCK);
            let count = read_full(file, &mut block[..most], at).map_err(error)?;
            let bytes = &block[..count];
            if count == 0 {
                break;
            }
            let digest = xxh3_128(bytes);
            if self.known.get(self.hasher.block()) == Some(digest) {
                self.pass_kept(engine, digest, count)?;
            } else if bytes.iter().all(|byte| *byte == 0) {
                self.pass_zeros(engine, count as u64)?;
            } else {
                self.tell(engine)?;
                self.data(engine, at, bytes)?;
                self.hasher.whole(digest, count);
            }
            if count < most {
                break;
            }
        }
        Ok(())
    }

    fn pass_kept(&mut self, engine: &mut Engine, digest: u128, count: usize) -> Result<(), TransferError> {
        if self.zeros > 0 {
            self.tell(engine)?;
        }
        self.kept += count as u64;
        self.hasher.whole(digest, count);
        Ok(())
    }

    fn pass_zeros(&mut self, engine: &mut Engine, count: u64) -> Result<(), TransferError> {
        if self.kept > 0 {
            self.tell(engine)?;
        }
        self.zeros += count;
        self.hasher.zeros(count);
        engine.count_described(count)
    }

    /// Tells what was passed over so far.
    fn tell(&mut self, engine: &mut Engine) -> Result<(), TransferError> {
        if self.kept > 0 {
            engine.push(&Record::Keep { id: self.id, bytes: self.kept })?;
        }
        if self.zeros > 0 {
            engine.push(&Record::Zeros { id: self.id, bytes: self.zeros })?;
        }
        (self.kept, self.zeros) = (0, 0);
        Ok(())
    }

    fn data(&self, engine: &mut Engine, mut at: u64, mut bytes: &[u8]) -> Result<(), TransferError> {
        while !bytes.is_empty() {
            if engine.room() == 0 {
                engine.flush()?;
            }
            let (head, tail) = bytes.split_at(bytes.len().min(engine.room()));
            engine.push_content(self.id, at, head)?;
            at += head.len() as u64;
            bytes = tail;
        }
        Ok(())
    }
}

/// How many bytes from `at` on, `size` at most, are a hole; 0 where the file system does not tell.
fn hole(file: &File, at: u64, size: u64) -> u64 {
    let Ok(offset) = i64::try_from(at) else { return 0 };
    match nix::unistd::lseek(file, offset, nix::unistd::Whence::SeekData) {
        Ok(data) => u64::try_from(data).unwrap_or(at).min(size).saturating_sub(at),
        // Nothing but a hole up to the file's end, which may lie before `size` by now.
        Err(nix::errno::Errno::ENXIO) => nix::sys::stat::fstat(file)
            .map_or(0, |stat| stat.st_size.cast_unsigned().min(size).saturating_sub(at)),
        Err(_) => {
            tracing::trace!(fd = file.as_raw_fd(), "the file system does not tell holes");
            0
        }
    }
}

fn read_full(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
