//! What the destination does with pages: into the store, and out of it into the page files.

use super::{Open, Sink};
use crate::error::TransferError;
use crate::pages::PAGE;
use crate::pages::store::PageStore;
use crate::runs::runs;

impl Sink {
    /// Files from here on are told by pages; the next content of this one is its first.
    pub(crate) fn paged(&mut self, id: u32, peer: &str) -> Result<(), TransferError> {
        self.open_store()?;
        match self.open.get_mut(&id) {
            Some(open) if open.hasher.bytes() == 0 => {
                open.paged = true;
                Ok(())
            }
            _ => Err(TransferError::malformed(peer, "pages of a file that is not new")),
        }
    }

    /// Pages for the store.
    pub(crate) fn pages(&mut self, first: u32, bytes: &[u8], peer: &str) -> Result<(), TransferError> {
        self.open_store()?.put(first, bytes, peer)?;
        self.count(|c| &c.images, bytes.len())
    }

    /// The next bytes of a file, out of the store.
    pub(crate) fn reuse(
        &mut self,
        id: u32,
        offset: u64,
        encoded: &[u8],
        peer: &str,
    ) -> Result<(), TransferError> {
        let (Some(store), Some(open)) = (&mut self.store, self.open.get_mut(&id)) else {
            return Err(TransferError::malformed(peer, "known pages of a file that is not open"));
        };
        check(open, offset, peer)?;
        let before = open.hasher.bytes();
        store.reuse(runs(encoded), &open.file, offset, &mut open.hasher, peer)?;
        self.reused += open.hasher.bytes() - before;
        if self.reused > self.bounds.total {
            return Err(TransferError::Limit { what: "bytes", limit: self.bounds.total });
        }
        Ok(())
    }

    /// Pages of a file that no slot holds; only a file's last piece may be less than a page.
    pub(crate) fn paged_data(
        &mut self,
        id: u32,
        offset: u64,
        bytes: &[u8],
        peer: &str,
    ) -> Result<(), TransferError> {
        let (Some(store), Some(open)) = (&mut self.store, self.open.get_mut(&id)) else {
            return Err(TransferError::malformed(peer, "content of a file that is not open"));
        };
        check(open, offset, peer)?;
        for page in bytes.chunks(PAGE) {
            open.hasher.piece(store.digest(page), page.len());
        }
        let written = std::os::unix::fs::FileExt::write_all_at(&open.file, bytes, offset);
        written.map_err(|e| TransferError::io("write", open.path.as_path(), e))?;
        self.count(|c| &c.images, bytes.len())
    }

    fn open_store(&mut self) -> Result<&mut PageStore, TransferError> {
        if self.store.is_none() {
            let limit = self.bounds.total;
            self.store = Some(PageStore::open(&self.folders.images, self.seed, limit)?);
        }
        self.store.as_mut().ok_or(TransferError::Cancelled)
    }
}

fn check(open: &Open, offset: u64, peer: &str) -> Result<(), TransferError> {
    if open.paged && open.hasher.bytes() == offset && offset.is_multiple_of(PAGE as u64) {
        return Ok(());
    }
    Err(TransferError::malformed(peer, format!("pages of {} out of order", open.path)))
}
