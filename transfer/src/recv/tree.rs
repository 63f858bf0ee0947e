//! Files of a tree as the writing thread takes them in.

use std::sync::atomic::AtomicU64;

use super::{Arriving, Counters, Sink};
use crate::blocks::ArrivingFile;
use crate::digest::Digest;
use crate::error::TransferError;
use crate::frame::{Entry, Section};
use crate::manifest::Item;
use crate::path::RelPath;

const TREES: fn(&Counters) -> &AtomicU64 = |counters| &counters.trees;

impl Sink {
    /// A file that is here in an earlier state is about to be changed in place.
    pub(super) fn patch(
        &mut self,
        section: Section,
        id: u32,
        path: RelPath,
        entry: Entry,
        peer: &str,
    ) -> Result<(), TransferError> {
        self.describe(&path, &entry)?;
        self.check_open(id, peer)?;
        let known = self.manifest.get(section, &path).filter(|item| item.entry.is_file());
        let Some(known) = known.filter(|_| entry.is_file() && section != Section::Images) else {
            return Err(TransferError::malformed(peer, format!("a change of {path}, which is no file here")));
        };
        let (old, size) = (known.blocks.clone(), known.size);
        self.drop_open(section, &path);
        let file = self.tree(section)?.patch(&path)?;
        let file = ArrivingFile::patch(file, old, size);
        self.arriving.insert(id, Arriving { section, path, entry, file });
        Ok(())
    }

    fn arriving(&mut self, id: u32, peer: &str) -> Result<&mut Arriving, TransferError> {
        let unknown = || TransferError::malformed(peer, "a part of a file that is not open");
        self.arriving.get_mut(&id).ok_or_else(unknown)
    }

    pub(super) fn keep(&mut self, id: u32, bytes: u64, peer: &str) -> Result<(), TransferError> {
        self.arriving(id, peer)?.file.keep(bytes).map_err(|what| TransferError::malformed(peer, what))
    }

    pub(super) fn zeros(&mut self, id: u32, bytes: u64, peer: &str) -> Result<(), TransferError> {
        // Each block of zeros costs memory for its digest, so that they are bounded as content is.
        self.zeros = self.zeros.saturating_add(bytes);
        if self.zeros > self.bounds.total {
            let what = "bytes of holes in files";
            return Err(TransferError::Limit { what, limit: self.bounds.total });
        }
        let arriving = self.arriving(id, peer)?;
        arriving.file.zeros(bytes).map_err(|e| TransferError::io("write", arriving.path.as_path(), e))
    }

    pub(super) fn tree_data(
        &mut self,
        id: u32,
        offset: u64,
        bytes: &[u8],
        peer: &str,
    ) -> Result<(), TransferError> {
        let arriving = self.arriving(id, peer)?;
        if arriving.file.at() != offset {
            return Err(TransferError::malformed(peer, format!("content of {} out of order", arriving.path)));
        }
        let written = arriving.file.data(bytes);
        written.map_err(|e| TransferError::io("write", arriving.path.as_path(), e))?;
        if let Section::Tree(number) = arriving.section
            && let Some(tree) = self.folders.trees.get(usize::from(number))
        {
            self.flush.wrote(bytes.len() as u64, &tree.path);
        }
        self.count(TREES, bytes.len())
    }

    pub(super) fn tree_end(
        &mut self,
        arriving: Arriving,
        size: u64,
        digest: Digest,
    ) -> Result<(), TransferError> {
        let Arriving { section, path, entry, file } = arriving;
        let finished = file.finish();
        let (ours, ours_digest, blocks) =
            finished.map_err(|e| TransferError::io("set the size of", path.as_path(), e))?;
        if (ours, ours_digest) != (size, digest) {
            return Err(TransferError::Mismatch {
                what: format!("file {path}"),
                source_digest: digest,
                destination_digest: ours_digest,
            });
        }
        self.tree(section)?.settle(&path, &entry)?;
        self.manifest.insert(section, path, Item { entry, size, digest, blocks });
        Ok(())
    }
}
