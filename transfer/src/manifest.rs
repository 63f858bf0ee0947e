//! What the destination holds at the end, as both ends remember it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use super::blocks::Blocks;
use super::digest::{Digest, FileHasher};
use super::frame::{Entry, Section};
use super::path::RelPath;

/// One thing that the destination holds at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) entry: Entry,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
    /// Of a file of a tree.
    pub(crate) blocks: Blocks,
}

/// Everything the destination holds at the end, in the order of its paths.
#[derive(Debug, Default, Clone)]
pub(crate) struct Manifest {
    items: BTreeMap<(Section, RelPath), Item>,
}

impl Manifest {
    pub(crate) fn insert(&mut self, section: Section, path: RelPath, item: Item) {
        self.items.insert((section, path), item);
    }

    /// Forgets `path` and everything below it.
    pub(crate) fn remove(&mut self, section: Section, path: &RelPath) {
        let below: Vec<RelPath> = self
            .items
            .range((section, path.clone())..)
            .take_while(|((s, p), _)| {
                *s == section && p.as_path().as_os_str().as_bytes().starts_with(path.bytes())
            })
            .filter(|((_, p), _)| p.is_within(path))
            .map(|((_, p), _)| p.clone())
            .collect();
        for path in below {
            self.items.remove(&(section, path));
        }
    }

    pub(crate) fn get(&self, section: Section, path: &RelPath) -> Option<&Item> {
        self.items.get(&(section, path.clone()))
    }

    #[cfg(test)]
    pub(crate) fn section(&self, section: Section) -> impl DoubleEndedIterator<Item = (&RelPath, &Item)> {
        self.items.iter().filter(move |((s, _), _)| *s == section).map(|((_, p), item)| (p, item))
    }

    pub(crate) fn files(&self) -> u64 {
        self.items.values().filter(|item| item.entry.is_file()).count() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// One digest over path, kind, metadata, size and content digest of everything.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = FileHasher::new();
        let mut line = Vec::with_capacity(256);
        for ((section, path), item) in &self.items {
            line.clear();
            line.extend_from_slice(&section.to_bytes());
            line.extend_from_slice(&(path.bytes().len() as u32).to_le_bytes());
            line.extend_from_slice(path.bytes());
            item.entry.encode(&mut line);
            line.extend_from_slice(&item.size.to_le_bytes());
            line.extend_from_slice(&item.digest.to_bytes());
            hasher.update(&line);
        }
        hasher.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Kind, Meta};
    use super::*;

    fn item(size: u64) -> Item {
        Item {
            entry: Entry { kind: Kind::File, meta: Meta::default() },
            size,
            digest: Digest::from_bytes(u128::from(size).to_le_bytes()),
            blocks: Blocks::default(),
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_manifest_does_not_depend_on_the_order_of_arrival_but_on_every_part() {
        let (mut one, mut two) = (Manifest::default(), Manifest::default());
        one.insert(Section::ROOTFS, path("a"), item(1));
        one.insert(Section::ROOTFS, path("b"), item(2));
        two.insert(Section::ROOTFS, path("b"), item(2));
        two.insert(Section::ROOTFS, path("a"), item(1));
        assert_eq!(one.digest(), two.digest());
        two.insert(Section::ROOTFS, path("b"), item(3));
        assert_ne!(one.digest(), two.digest());
    }

    #[test]
    fn removing_a_folder_forgets_what_is_below_it_and_not_its_namesakes() {
        let mut manifest = Manifest::default();
        for name in ["d", "d-x", "d/f", "d/e/f", "dd"] {
            manifest.insert(Section::ROOTFS, path(name), item(1));
        }
        manifest.remove(Section::ROOTFS, &path("d"));
        let left: Vec<_> = manifest.section(Section::ROOTFS).map(|(p, _)| p.to_string()).collect();
        assert_eq!(left, ["d-x", "dd"]);
    }
}
