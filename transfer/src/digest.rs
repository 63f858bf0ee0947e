//! The digests by which both ends agree that what arrived is what was read.
//!
//! xxh3-128 guards against damage, not against an attacker: who may send at all is the token's and the link's business.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3;

use super::blocks::Blocks;
use super::frame::{Entry, Section};
use super::path::RelPath;

/// An xxh3-128 digest, shown as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(u128);

impl Digest {
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() != 32 {
            return Err(serde::de::Error::custom("a digest has 32 hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// The running digest of one file, fed in order of its bytes.
pub(crate) struct FileHasher {
    state: Box<Xxh3>,
    bytes: u64,
}

impl FileHasher {
    pub(crate) fn new() -> Self {
        Self { state: Box::new(Xxh3::new()), bytes: 0 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Feeds a piece of `bytes` bytes by its own digest: the file's is then made of its pieces'.
    pub(crate) fn piece(&mut self, digest: u128, bytes: usize) {
        self.state.update(&digest.to_le_bytes());
        self.bytes += bytes as u64;
    }

    /// Bytes fed so far: where the next ones of this file belong.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest(self.state.digest128())
    }
}

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
            digest: Digest(size.into()),
            blocks: Blocks::default(),
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_digest_comes_back_from_json_as_it_was() {
        let digest = Digest(0x1234_5678);
        assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
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
