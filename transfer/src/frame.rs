//! The wire format: frames of about a mebibyte, each a row of records, the same over every transport.
//!
//! Records are batched into frames, so that a thousand small files cost a few frames, and a large file's bytes are read
//! straight into the frame that carries them. Whatever is decoded here is bounded before anything is allocated.

use super::digest::Digest;
pub(crate) use super::entry::{Entry, Kind, MAX_XATTRS, Meta, Section, Xattrs};
use super::input::{Input, put_bytes};
use super::path::RelPath;
use super::runs::RUN;

/// The largest record that is not content: an entry with two long paths and all its extended attributes.
pub(crate) const MAX_META: usize = 128 << 10;
/// Longest text of an abort.
const MAX_MESSAGE: usize = 1024;

/// What a frame is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// The next bytes of the container image archive.
    Stream(&'a [u8]),
    /// The archive is complete.
    StreamEnd { size: u64, digest: Digest },
    /// Something begins to exist, or is replaced; a file's content follows under `id`.
    Entry { section: Section, id: u32, path: RelPath, entry: Entry },
    /// As [`Record::Entry`], for a file of a tree of which the destination has an earlier state.
    Patch { section: Section, id: u32, path: RelPath, entry: Entry },
    /// The next bytes of a patched file are as they were.
    Keep { id: u32, bytes: u64 },
    /// The next bytes of a file of a tree are zeros.
    Zeros { id: u32, bytes: u64 },
    /// The tree is complete for now: settle and check it.
    Settle { section: Section },
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
const PATCH: u8 = 14;
const KEEP: u8 = 15;
const ZEROS: u8 = 16;
const SETTLE: u8 = 17;

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
                put_entry(out, *section, *id, path, entry);
                ENTRY
            }
            Self::Patch { section, id, path, entry } => {
                put_entry(out, *section, *id, path, entry);
                PATCH
            }
            Self::Keep { id, bytes } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&bytes.to_le_bytes());
                KEEP
            }
            Self::Zeros { id, bytes } => {
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&bytes.to_le_bytes());
                ZEROS
            }
            Self::Settle { section } => {
                out.extend_from_slice(&section.to_bytes());
                SETTLE
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
                out.extend_from_slice(&section.to_bytes());
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
                let (section, id, path, entry) = entry(&mut input)?;
                Record::Entry { section, id, path, entry }
            }
            PATCH => {
                let (section, id, path, entry) = entry(&mut input)?;
                Record::Patch { section, id, path, entry }
            }
            KEEP => Record::Keep { id: input.u32()?, bytes: input.u64()? },
            ZEROS => Record::Zeros { id: input.u32()?, bytes: input.u64()? },
            SETTLE => Record::Settle { section: Section::decode(&mut input)? },
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
                let section = Section::decode(&mut input)?;
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

/// Which part, under which number, where, and what.
fn entry(input: &mut Input<'_>) -> Result<(Section, u32, RelPath, Entry), String> {
    let (section, id) = (Section::decode(input)?, input.u32()?);
    let path = RelPath::parse(input.bytes()?).map_err(|e| e.to_string())?;
    Ok((section, id, path, Entry::decode(input)?))
}

fn put_entry(out: &mut Vec<u8>, section: Section, id: u32, path: &RelPath, entry: &Entry) {
    out.extend_from_slice(&section.to_bytes());
    out.extend_from_slice(&id.to_le_bytes());
    put_bytes(out, path.bytes());
    entry.encode(out);
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
        Record::Entry { section: Section::ROOTFS, id: 3, path: RelPath::parse(b"a/b").unwrap(), entry }
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
                Record::Remove { section: Section::Tree(700), path: RelPath::parse(b"gone").unwrap() },
                Record::Keep { id: 1, bytes: 1 << 40 },
                Record::Zeros { id: 1, bytes: 3 },
                Record::Settle { section: Section::Tree(3) },
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
