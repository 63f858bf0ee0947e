//! What is sent about one thing of a tree or a checkpoint: which part of the transfer it belongs to, and what it is.

use super::input::{Input, put_bytes};
use super::path::RelPath;

/// Extended attributes of one file, names and values together.
pub(crate) const MAX_XATTRS: usize = 96 << 10;

/// Which part of a transfer something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Section {
    /// CRIU's checkpoint folder.
    Images,
    /// A tree of files, by its number: 0 is the container's root file system changes.
    Tree(u16),
}

impl Section {
    /// The container's root file system changes.
    #[cfg(test)]
    pub(crate) const ROOTFS: Self = Self::Tree(0);

    /// How it is written, also in digests.
    pub(crate) fn to_bytes(self) -> [u8; 3] {
        match self {
            Self::Images => [1, 0, 0],
            Self::Tree(number) => {
                let [low, high] = number.to_le_bytes();
                [2, low, high]
            }
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File,
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    /// Character device 0/0: overlayfs' mark for "deleted here".
    Whiteout,
    /// Another name of a file that was sent under this path.
    Link(RelPath),
}

/// Names and values of extended attributes.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What the file system keeps about an entry besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Permission bits with set-uid, set-gid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    /// In the order of their names.
    pub(crate) xattrs: Xattrs,
}

/// A file, folder, link or mark, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
}

impl Entry {
    pub(crate) fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    /// Bytes that it takes beside its fixed part.
    pub(crate) fn weight(&self) -> u64 {
        let target = match &self.kind {
            Kind::Symlink(target) => target.len(),
            Kind::Link(path) => path.bytes().len(),
            _ => 0,
        };
        let attributes: usize = self.meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        (target + attributes) as u64
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, target): (u8, &[u8]) = match &self.kind {
            Kind::Dir => (1, &[]),
            Kind::File => (2, &[]),
            Kind::Symlink(target) => (3, target),
            Kind::Fifo => (4, &[]),
            Kind::Socket => (5, &[]),
            Kind::Whiteout => (6, &[]),
            Kind::Link(path) => (7, path.bytes()),
        };
        out.push(kind);
        put_bytes(out, target);
        out.extend_from_slice(&self.meta.mode.to_le_bytes());
        out.extend_from_slice(&self.meta.uid.to_le_bytes());
        out.extend_from_slice(&self.meta.gid.to_le_bytes());
        out.extend_from_slice(&self.meta.mtime.0.to_le_bytes());
        out.extend_from_slice(&self.meta.mtime.1.to_le_bytes());
        out.extend_from_slice(&(self.meta.xattrs.len() as u16).to_le_bytes());
        for (name, value) in &self.meta.xattrs {
            put_bytes(out, name);
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(value);
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, String> {
        let kind = input.u8()?;
        let target = input.bytes()?;
        let kind = match (kind, target) {
            (1, []) => Kind::Dir,
            (2, []) => Kind::File,
            (3, target) if !target.is_empty() && target.len() < 4096 && !target.contains(&0) => {
                Kind::Symlink(target.to_owned())
            }
            (4, []) => Kind::Fifo,
            (5, []) => Kind::Socket,
            (6, []) => Kind::Whiteout,
            (7, target) => Kind::Link(RelPath::parse(target).map_err(|e| e.to_string())?),
            (other, _) => return Err(format!("an entry of kind {other}")),
        };
        let (mode, uid, gid) = (input.u32()?, input.u32()?, input.u32()?);
        let mtime = (input.u64()?.cast_signed(), input.u32()?);
        if mode & !0o7777 != 0 || mtime.1 >= 1_000_000_000 {
            return Err("a mode or time out of range".into());
        }
        let count = input.u16()?;
        let mut xattrs = Vec::new();
        let mut total = 0;
        for _ in 0..count {
            let name = input.bytes()?;
            let length = input.u32()? as usize;
            let value = input.take(length)?;
            total += name.len() + value.len();
            if name.is_empty() || name.len() > 255 || name.contains(&0) || total > MAX_XATTRS {
                return Err("extended attributes out of bounds".into());
            }
            xattrs.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self { kind, meta: Meta { mode, uid, gid, mtime, xattrs } })
    }
}

impl Section {
    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, String> {
        match (input.u8()?, input.u16()?) {
            (1, 0) => Ok(Self::Images),
            (2, number) => Ok(Self::Tree(number)),
            (kind, number) => Err(format!("section {kind}/{number}")),
        }
    }
}
