//! The wire format: frames of about a mebibyte, each a row of records, the same over every transport.
//!
//! Records are batched into frames, so that a thousand small files cost a few frames, and a large file's bytes are read
//! straight into the frame that carries them. Whatever is decoded here is bounded before anything is allocated.

use super::digest::Digest;
use super::pages::RUN;
use super::path::RelPath;

/// The largest record that is not content: an entry with two long paths and all its extended attributes.
pub(crate) const MAX_META: usize = 128 << 10;
/// Extended attributes of one file, names and values together.
pub(crate) const MAX_XATTRS: usize = 96 << 10;
/// Longest text of an abort.
const MAX_MESSAGE: usize = 1024;

/// Which part of a transfer something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Section {
    /// CRIU's checkpoint folder.
    Images = 1,
    /// The container's root file system changes.
    Rootfs = 2,
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

    fn decode(input: &mut Input<'_>) -> Result<Self, String> {
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

/// What a frame is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// The next bytes of the container image archive.
    Stream(&'a [u8]),
    /// The archive is complete.
    StreamEnd { size: u64, digest: Digest },
    /// Something begins to exist, or is replaced; a file's content follows under `id`.
    Entry { section: Section, id: u32, path: RelPath, entry: Entry },
    /// The next bytes of a file.
    Data { id: u32, offset: u64, bytes: &'a [u8] },
    /// The file is complete.
    End { id: u32, size: u64, digest: Digest },
    /// The file's digest is made of its pages' digests, and pages of it may come as [`Record::Reuse`].
    Paged { id: u32 },
    /// Pages for the store, from slot `first` on.
    Pages { first: u32, bytes: &'a [u8] },
    /// The next bytes of a paged file are in the store: encoded runs of slots.
    Reuse { id: u32, offset: u64, runs: &'a [u8] },
    /// Something vanished, with all that is below it.
    Remove { section: Section, path: RelPath },
    /// Everything was sent: this is what you should hold.
    Finish { items: u64, bytes: u64, digest: Digest },
    /// Nothing to send, but alive.
    Ping,
    /// The source has heard the destination's verdict.
    Bye,
    /// The source gives up.
    Abort { message: String },
}

pub(crate) const STREAM: u8 = 1;
const STREAM_END: u8 = 2;
const ENTRY: u8 = 3;
pub(crate) const DATA: u8 = 4;
const END: u8 = 5;
const REMOVE: u8 = 6;
const FINISH: u8 = 7;
const PING: u8 = 8;
const ABORT: u8 = 9;
const BYE: u8 = 10;
const PAGED: u8 = 11;
pub(crate) const PAGES: u8 = 12;
const REUSE: u8 = 13;

impl Record<'_> {
    /// Appends the record's body and returns its kind.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Stream(bytes) => {
                out.extend_from_slice(bytes);
                STREAM
            }
            Self::StreamEnd { size, digest } => {
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(&digest.to_bytes());
                STREAM_END
            }
            Self::Entry { section, id, path, entry } => {
                out.push(*section as u8);
                out.extend_from_slice(&id.to_le_bytes());
                put_bytes(out, path.bytes());
                entry.encode(out);
                ENTRY
            }
            Self::Data { id, offset, bytes } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(bytes);
                DATA
            }
            Self::End { id, size, digest } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(&digest.to_bytes());
                END
            }
            Self::Paged { id } => {
                out.extend_from_slice(&id.to_le_bytes());
                PAGED
            }
            Self::Pages { first, bytes } => {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(bytes);
                PAGES
            }
            Self::Reuse { id, offset, runs } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(runs);
                REUSE
            }
            Self::Remove { section, path } => {
                out.push(*section as u8);
                put_bytes(out, path.bytes());
                REMOVE
            }
            Self::Finish { items, bytes, digest } => {
                out.extend_from_slice(&items.to_le_bytes());
                out.extend_from_slice(&bytes.to_le_bytes());
                out.extend_from_slice(&digest.to_bytes());
                FINISH
            }
            Self::Ping => PING,
            Self::Bye => BYE,
            Self::Abort { message } => {
                out.extend_from_slice(clip(message).as_bytes());
                ABORT
            }
        }
    }

    pub(crate) fn decode(kind: u8, body: &[u8]) -> Result<Record<'_>, String> {
        let mut input = Input(body);
        let record = match kind {
            STREAM => Record::Stream(input.rest()),
            STREAM_END => Record::StreamEnd { size: input.u64()?, digest: input.digest()? },
            ENTRY => {
                let section = input.section()?;
                let id = input.u32()?;
                let path = RelPath::parse(input.bytes()?).map_err(|e| e.to_string())?;
                Record::Entry { section, id, path, entry: Entry::decode(&mut input)? }
            }
            DATA => Record::Data { id: input.u32()?, offset: input.u64()?, bytes: input.rest() },
            END => Record::End { id: input.u32()?, size: input.u64()?, digest: input.digest()? },
            PAGED => Record::Paged { id: input.u32()? },
            PAGES => Record::Pages { first: input.u32()?, bytes: input.rest() },
            REUSE => {
                let (id, offset, runs) = (input.u32()?, input.u64()?, input.rest());
                if !runs.len().is_multiple_of(RUN) {
                    return Err("half a run of pages".into());
                }
                Record::Reuse { id, offset, runs }
            }
            REMOVE => {
                let section = input.section()?;
                Record::Remove { section, path: RelPath::parse(input.bytes()?).map_err(|e| e.to_string())? }
            }
            FINISH => Record::Finish { items: input.u64()?, bytes: input.u64()?, digest: input.digest()? },
            PING => Record::Ping,
            BYE => Record::Bye,
            ABORT => Record::Abort { message: message(input.rest())? },
            other => return Err(format!("a record of kind {other}")),
        };
        if input.0.is_empty() { Ok(record) } else { Err("a record with bytes left over".into()) }
    }
}

/// What the destination says back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The token is right; send.
    Welcome,
    /// So many frames are written.
    Ack(u64),
    /// All is there and is what was announced.
    Verified { bytes: u64, digest: Digest },
    /// All is there and is not what was announced.
    Differs { digest: Digest },
    /// The destination gives up.
    Abort(String),
}

impl Reply {
    /// The largest encoded reply.
    pub(crate) const MAX: usize = MAX_MESSAGE + 1;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        match self {
            Self::Welcome => out.push(1),
            Self::Ack(bytes) => {
                out.push(2);
                out.extend_from_slice(&bytes.to_le_bytes());
            }
            Self::Verified { bytes, digest } => {
                out.push(3);
                out.extend_from_slice(&bytes.to_le_bytes());
                out.extend_from_slice(&digest.to_bytes());
            }
            Self::Differs { digest } => {
                out.push(4);
                out.extend_from_slice(&digest.to_bytes());
            }
            Self::Abort(text) => {
                out.push(5);
                out.extend_from_slice(clip(text).as_bytes());
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut input = Input(bytes);
        let reply = match input.u8()? {
            1 => Self::Welcome,
            2 => Self::Ack(input.u64()?),
            3 => Self::Verified { bytes: input.u64()?, digest: input.digest()? },
            4 => Self::Differs { digest: input.digest()? },
            5 => Self::Abort(message(input.rest())?),
            other => return Err(format!("a reply of kind {other}")),
        };
        if input.0.is_empty() { Ok(reply) } else { Err("a reply with bytes left over".into()) }
    }
}

/// Bytes of a peer, taken apart with every length checked.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (head, tail) = self.0.split_at_checked(count).ok_or("a record that ends early")?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or("a record that ends early")?;
        self.0 = tail;
        Ok(*head)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.u16()? as usize;
        self.take(length)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn section(&mut self) -> Result<Section, String> {
        match self.u8()? {
            1 => Ok(Section::Images),
            2 => Ok(Section::Rootfs),
            other => Err(format!("section {other}")),
        }
    }

    fn digest(&mut self) -> Result<Digest, String> {
        self.array().map(Digest::from_bytes)
    }
}

/// Callers pass paths, names and targets, all of which the kernel and [`RelPath`] keep far below 64 KiB.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn clip(text: &str) -> &str {
    let end = (0..=MAX_MESSAGE.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// A peer's words, fit to be shown on a terminal.
fn message(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > MAX_MESSAGE {
        return Err("a message that is too long".into());
    }
    Ok(String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::super::buf::{Buf, HEADER};
    use super::*;

    fn take_in(buf: &mut Buf, bytes: &[u8]) {
        let taken = buf.receive(bytes.len(), |to| {
            to.copy_from_slice(bytes);
            Ok::<_, ()>(())
        });
        taken.unwrap();
    }

    fn entry() -> Record<'static> {
        let meta = Meta {
            mode: 0o4755,
            uid: 7,
            gid: 8,
            mtime: (-5, 999_999_999),
            xattrs: vec![(b"user.a".to_vec(), b"1".to_vec())],
        };
        let entry = Entry { kind: Kind::Symlink(b"../x".to_vec()), meta };
        Record::Entry { section: Section::Rootfs, id: 3, path: RelPath::parse(b"a/b").unwrap(), entry }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let digest = Digest::from_bytes([7; 16]);
        let records = || {
            [
                entry(),
                Record::Stream(b"abc"),
                Record::StreamEnd { size: 3, digest },
                Record::Data { id: 1, offset: 9, bytes: b"content" },
                Record::End { id: 1, size: 16, digest },
                Record::Remove { section: Section::Rootfs, path: RelPath::parse(b"gone").unwrap() },
                Record::Finish { items: 1, bytes: 2, digest },
                Record::Paged { id: 1 },
                Record::Pages { first: 5, bytes: b"pages" },
                Record::Reuse { id: 1, offset: 8192, runs: &[7; 2 * RUN] },
                Record::Ping,
                Record::Bye,
                Record::Abort { message: "no".into() },
            ]
        };
        let mut buf = Buf::new(64);
        for record in records() {
            buf.push(&record);
        }
        let sealed = buf.seal(5, 6).to_vec();
        let mut other = Buf::new(8);
        take_in(&mut other, &sealed);
        assert_eq!(other.stamp(), (5, 6));
        assert!(other.records().map(Result::unwrap).eq(records()));
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_survived() {
        let mut buf = Buf::new(64);
        buf.push(&entry());
        let whole = buf.bytes().to_vec();
        for cut in HEADER + 1..whole.len() {
            let mut other = Buf::new(0);
            take_in(&mut other, &whole[..cut]);
            assert!(other.records().any(|record| record.is_err()), "cut at {cut}");
        }
        for at in HEADER..whole.len() {
            for bit in 0..8 {
                let mut other = Buf::new(0);
                let mut bad = whole.clone();
                bad[at] ^= 1 << bit;
                take_in(&mut other, &bad);
                other.records().for_each(drop);
            }
        }
    }

    #[test]
    fn hostile_entries_are_refused() {
        let kinds = [Kind::Link(RelPath::default()), Kind::Symlink(vec![b'x'; 5000])];
        assert!(kinds.iter().filter(|k| matches!(k, Kind::Symlink(_))).all(|kind| {
            let mut buf = Buf::new(0);
            let entry = Entry { kind: kind.clone(), meta: Meta::default() };
            buf.push(&Record::Entry { section: Section::Images, id: 0, path: RelPath::default(), entry });
            buf.records().any(|r| r.is_err())
        }));
    }

    #[test]
    fn replies_come_back_as_they_were_and_messages_lose_control_characters() {
        let digest = Digest::from_bytes([1; 16]);
        for reply in
            [Reply::Welcome, Reply::Ack(9), Reply::Verified { bytes: 1, digest }, Reply::Differs { digest }]
        {
            assert_eq!(Reply::decode(&reply.encode()).unwrap(), reply);
        }
        let long = Reply::Abort(format!("\x1b[31m{}", "ä".repeat(2000)));
        let Reply::Abort(text) = Reply::decode(&long.encode()).unwrap() else { panic!() };
        assert!(text.len() <= MAX_MESSAGE && !text.contains('\x1b'));
        assert!(Reply::decode(&[]).is_err() && Reply::decode(&[2, 1]).is_err());
    }
}
