//! The destination's pages that came before the dump.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::copy_file_range;

use super::{MAX_REUSE, PAGE, digest};
use crate::digest::FileHasher;
use crate::error::TransferError;
use crate::runs::{Run, ZERO};

/// Bytes copied at once where the file system cannot copy by itself.
const PIECE: usize = 1 << 20;

/// Pages in slots. A file without a name, so that nothing is left of it whatever happens.
pub(crate) struct PageStore {
    file: File,
    seed: u64,
    digests: Vec<u128>,
    zero: u128,
    /// Pages that the transfer may hold at most.
    limit: u64,
    by_hand: Option<Vec<u8>>,
}

impl PageStore {
    /// An empty store on the file system of `folder`, for at most `limit` bytes.
    pub(crate) fn open(folder: &Path, seed: u64, limit: u64) -> Result<Self, TransferError> {
        let file = tempfile::tempfile_in(folder)
            .map_err(|e| TransferError::io("make a store of pages in", folder, e))?;
        let zero = digest(seed, &[0; PAGE]);
        Ok(Self { file, seed, digests: Vec::new(), zero, limit: limit / PAGE as u64, by_hand: None })
    }

    /// Writes pages into `first` and the slots that follow it. A slot is new or the next one.
    pub(crate) fn put(&mut self, first: u32, pages: &[u8], peer: &str) -> Result<(), TransferError> {
        if pages.is_empty() || !pages.len().is_multiple_of(PAGE) || first as usize > self.digests.len() {
            return Err(TransferError::malformed(peer, "pages that are not whole or out of order"));
        }
        if u64::from(first) + (pages.len() / PAGE) as u64 > self.limit.min(u64::from(ZERO)) {
            return Err(TransferError::Limit { what: "pages", limit: self.limit });
        }
        for (at, page) in pages.chunks_exact(PAGE).enumerate() {
            let digest = digest(self.seed, page);
            match self.digests.get_mut(first as usize + at) {
                Some(known) => *known = digest,
                None => self.digests.push(digest),
            }
        }
        let written = self.file.write_all_at(pages, u64::from(first) * PAGE as u64);
        written.map_err(|e| TransferError::io("write", "the store of pages", e))
    }

    /// Digests a page, or the piece at a file's end, that came by itself.
    pub(crate) fn digest(&self, page: &[u8]) -> u128 {
        digest(self.seed, page)
    }

    /// Copies runs of slots into `file` at `offset`, and notes their content in `hasher`. Zero pages stay holes.
    pub(crate) fn reuse(
        &mut self,
        runs: impl Iterator<Item = Run>,
        file: &File,
        mut offset: u64,
        hasher: &mut FileHasher,
        peer: &str,
    ) -> Result<(), TransferError> {
        let mut pages = 0;
        for run in runs {
            pages += u64::from(run.count);
            if pages > MAX_REUSE {
                return Err(TransferError::malformed(peer, "too many pages at once"));
            }
            let bytes = u64::from(run.count) * PAGE as u64;
            if run.first == ZERO {
                (0..run.count).for_each(|_| hasher.piece(self.zero, PAGE));
            } else {
                let first = run.first as usize;
                let Some(digests) = self.digests.get(first..first + run.count as usize) else {
                    return Err(TransferError::malformed(peer, "a page that was never sent"));
                };
                digests.iter().for_each(|digest| hasher.piece(*digest, PAGE));
                self.copy(u64::from(run.first) * PAGE as u64, file, offset, bytes)
                    .map_err(|e| TransferError::io("copy from", "the store of pages", e))?;
            }
            offset += bytes;
        }
        Ok(())
    }

    fn copy(&mut self, from: u64, file: &File, to: u64, bytes: u64) -> std::io::Result<()> {
        let mut done = 0;
        while done < bytes {
            let left = usize::try_from(bytes - done).unwrap_or(usize::MAX);
            let count = match &mut self.by_hand {
                Some(buffer) => {
                    let piece = &mut buffer[..left.min(PIECE)];
                    self.file.read_exact_at(piece, from + done)?;
                    file.write_all_at(piece, to + done)?;
                    piece.len()
                }
                None => {
                    let (mut at, mut into) = ((from + done).cast_signed(), (to + done).cast_signed());
                    let copied = copy_file_range(
                        self.file.as_fd(),
                        Some(&mut at),
                        file.as_fd(),
                        Some(&mut into),
                        left,
                    );
                    match copied {
                        Ok(0) | Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                            self.by_hand = Some(vec![0; PIECE]);
                            0
                        }
                        Ok(count) => count,
                        Err(Errno::EINTR) => 0,
                        Err(errno) => return Err(errno.into()),
                    }
                }
            };
            done += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(limit: u64) -> (tempfile::TempDir, PageStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = PageStore::open(folder.path(), 1, limit).unwrap();
        (folder, store)
    }

    #[test]
    fn runs_become_a_file_and_its_digest() {
        let (folder, mut store) = store(1 << 20);
        store.put(0, &[[1; PAGE], [2; PAGE], [3; PAGE]].concat(), "x").unwrap();
        store.put(1, &[9; PAGE], "x").unwrap();
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(folder.path().join("f"));
        let file = file.unwrap();
        let mut hasher = FileHasher::new();
        let runs = [Run { first: 1, count: 2 }, Run { first: ZERO, count: 1 }, Run { first: 0, count: 1 }];
        store.reuse(runs.into_iter(), &file, 0, &mut hasher, "x").unwrap();
        let wanted = [[9; PAGE], [3; PAGE], [0; PAGE], [1; PAGE]].concat();
        assert_eq!(std::fs::read(folder.path().join("f")).unwrap(), wanted);
        let mut other = FileHasher::new();
        wanted.chunks(PAGE).for_each(|page| other.piece(digest(1, page), PAGE));
        assert_eq!((hasher.digest(), hasher.bytes()), (other.digest(), 4 * PAGE as u64));
        // The way without the kernel's help gives the same.
        store.by_hand = Some(vec![0; PIECE]);
        file.set_len(0).unwrap();
        store.reuse(runs.into_iter(), &file, 0, &mut FileHasher::new(), "x").unwrap();
        assert_eq!(std::fs::read(folder.path().join("f")).unwrap(), wanted);
    }

    #[test]
    fn what_was_never_sent_and_what_is_too_much_is_refused() {
        let (folder, mut store) = store(2 * PAGE as u64);
        assert!(store.put(1, &[1; PAGE], "x").is_err(), "a gap");
        assert!(store.put(0, &[1; 100], "x").is_err(), "half a page");
        assert!(matches!(store.put(0, &[1; 3 * PAGE], "x"), Err(TransferError::Limit { .. })));
        store.put(0, &[1; PAGE], "x").unwrap();
        let file = File::create(folder.path().join("f")).unwrap();
        let mut reuse = |run| store.reuse([run].into_iter(), &file, 0, &mut FileHasher::new(), "x");
        assert!(reuse(Run { first: 1, count: 1 }).is_err());
        assert!(reuse(Run { first: 0, count: 2 }).is_err());
        assert!(reuse(Run { first: ZERO, count: u32::MAX }).is_err(), "more than one record may ask for");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the store has no name");
    }
}
