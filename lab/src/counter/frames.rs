//! The counter service's frames: fixed sizes, little endian, no negotiation.
//!
//! Fixed sizes keep the service's side of a frozen connection simple to reason about: a frame is either wholly in the
//! socket's queue that the checkpoint carries or it is not, and a reader never has to guess where the next one begins.
//! Every reply ends in a check of its own bytes, so that a stream that was spliced wrongly is *corrupted*, not merely odd.

use std::io::{self, Read, Write};

/// First four bytes of a request.
const REQUEST_MAGIC: u32 = u32::from_le_bytes(*b"MCRq");
/// First four bytes of a reply.
const REPLY_MAGIC: u32 = u32::from_le_bytes(*b"MCRp");

/// Length of every request on the wire.
pub const REQUEST_LEN: usize = 40;
/// Length of the reply to [`Kind::Ping`].
pub const REPLY_LEN: usize = 120;
/// Length of the reply to [`Kind::Stat`] and [`Kind::Verify`].
pub const STATUS_LEN: usize = 200;

/// What a frame must satisfy and did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first bytes are not those of this protocol.
    #[error("not a frame of the counter protocol")]
    Magic,
    /// The kind of request or reply is not one this version knows.
    #[error("unknown kind of frame: {0}")]
    Kind(u32),
    /// The frame's own check does not match its bytes.
    #[error("the frame's check does not match its bytes")]
    Check,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A numbered reply.
    Ping,
    /// The service's own figures; does not move the counters.
    Stat,
    /// As `Stat`, after every worker has checked every page of its state.
    Verify,
}

impl Kind {
    fn code(self) -> u32 {
        match self {
            Self::Ping => 1,
            Self::Stat => 2,
            Self::Verify => 3,
        }
    }

    fn from_code(code: u32) -> Result<Self, FrameError> {
        match code {
            1 => Ok(Self::Ping),
            2 => Ok(Self::Stat),
            3 => Ok(Self::Verify),
            other => Err(FrameError::Kind(other)),
        }
    }
}

/// A client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub kind: Kind,
    /// Chosen at random per connection; a reply that carries another one went to the wrong connection.
    pub nonce: u64,
    /// Number of the request on its connection, from 0.
    pub seq: u64,
    /// The client's monotonic clock when it sent, in ns.
    pub sent_ns: u64,
}

/// A numbered reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reply {
    /// The request's.
    pub nonce: u64,
    /// The request's.
    pub seq: u64,
    /// The request's.
    pub sent_ns: u64,
    /// How many replies this connection got, this one included: held in the service's memory only.
    pub connection_counter: u64,
    /// How many replies the service gave, this one included: held in the service's memory only.
    pub global_counter: u64,
    /// Drawn when the service started: another value means it was started anew, not migrated.
    pub instance: u64,
    /// Which of the service's processes answered.
    pub worker: u64,
    /// How many pages this process had dirtied.
    pub dirtied: u64,
    /// What the state's contents are derived from.
    pub seed: u64,
    /// The page that was sampled for this reply.
    pub page: u64,
    /// How often that page had been rewritten.
    pub version: u64,
    /// Checksum of the page as it is in memory; the client derives its own from seed, page and version.
    pub page_sum: u64,
    /// Non-zero if the process found its own sample wrong.
    pub fault: u64,
}

/// The service's own figures, summed over its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct CounterStatus {
    /// See [`Reply::instance`].
    pub instance: u64,
    /// Number of processes.
    pub workers: u64,
    /// Replies given so far.
    pub replies: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Pages of state.
    pub pages: u64,
    /// Pages dirtied so far.
    pub dirtied: u64,
    /// Pages per second the service was asked to dirty.
    pub dirty_rate: u64,
    /// The service's monotonic clock at this reply, in ns.
    pub at_ns: u64,
    /// Time the dirtying threads spent at work, in ns: the cost of dirtying.
    pub busy_ns: u64,
    /// Pages whose contents were wrong in the last verification.
    pub bad_pages: u64,
    /// Processes in which the sum over all pages' versions differed from the account kept beside it: some page is stale.
    pub stale_workers: u64,
    /// Pages looked at in the verification (0 for a plain `stat`).
    pub verified_pages: u64,
    /// Duration of the verification, in ns.
    pub verify_ns: u64,
    /// 1 if the service appends to a file.
    pub file: u64,
    /// Records the process remembers having appended.
    pub file_records: u64,
    /// Length of the file on disk.
    pub file_bytes: u64,
    /// Hash of the file's bytes on disk.
    pub file_hash: u64,
    /// Records on disk that are missing or not what was written there.
    pub file_bad_records: u64,
}

/// A hash good enough to notice damage; not a defence against anybody.
pub fn hash(bytes: &[u8], seed: u64) -> u64 {
    let mut h = seed ^ 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        h = (h ^ u64::from_le_bytes(*word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^= h >> 32;
    }
    for byte in rest {
        h = (h ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(h)
}

/// One step of splitmix64: neighbouring inputs give unrelated outputs.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes magic, kind, fields and check into a frame of `N` bytes.
fn seal<const N: usize>(magic: u32, kind: u32, fields: &[u64]) -> [u8; N] {
    debug_assert_eq!(N, 8 + fields.len() * 8 + 8);
    let mut frame = [0u8; N];
    frame[..4].copy_from_slice(&magic.to_le_bytes());
    frame[4..8].copy_from_slice(&kind.to_le_bytes());
    for (slot, field) in frame[8..].chunks_exact_mut(8).zip(fields) {
        slot.copy_from_slice(&field.to_le_bytes());
    }
    let check = hash(&frame[..N - 8], 0);
    frame[N - 8..].copy_from_slice(&check.to_le_bytes());
    frame
}

/// Undoes [`seal`]: the kind and the fields.
fn open<const F: usize>(magic: u32, frame: &[u8]) -> Result<(u32, [u64; F]), FrameError> {
    let (words, _) = frame.as_chunks::<8>();
    if words.len() != F + 2 || frame[..4] != magic.to_le_bytes() {
        return Err(FrameError::Magic);
    }
    if u64::from_le_bytes(words[F + 1]) != hash(&frame[..frame.len() - 8], 0) {
        return Err(FrameError::Check);
    }
    let mut fields = [0u64; F];
    for (field, word) in fields.iter_mut().zip(&words[1..]) {
        *field = u64::from_le_bytes(*word);
    }
    let kind = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
    Ok((kind, fields))
}

impl Request {
    /// The request as it goes over the wire.
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        seal(REQUEST_MAGIC, self.kind.code(), &[self.nonce, self.seq, self.sent_ns])
    }

    /// Reads a request back.
    ///
    /// # Errors
    /// [`FrameError`] if the bytes are not a request.
    pub fn decode(frame: &[u8; REQUEST_LEN]) -> Result<Self, FrameError> {
        let (kind, [nonce, seq, sent_ns]) = open(REQUEST_MAGIC, frame)?;
        Ok(Self { kind: Kind::from_code(kind)?, nonce, seq, sent_ns })
    }
}

/// Gives a frame its fields as words, in the order they have on the wire; words beyond them are 0.
macro_rules! words {
    ($frame:ident, $count:literal, [$($field:ident),+ $(,)?]) => {
        impl $frame {
            fn words(&self) -> [u64; $count] {
                let mut words = [0; $count];
                for (word, field) in words.iter_mut().zip([$(self.$field),+]) {
                    *word = field;
                }
                words
            }

            fn of_words(words: [u64; $count]) -> Self {
                let [$($field,)+ ..] = words;
                Self { $($field),+ }
            }
        }
    };
}

words!(
    Reply,
    13,
    [
        nonce,
        seq,
        sent_ns,
        connection_counter,
        global_counter,
        instance,
        worker,
        dirtied,
        seed,
        page,
        version,
        page_sum,
        fault,
    ]
);

impl Reply {
    /// The reply as it goes over the wire.
    pub fn encode(&self) -> [u8; REPLY_LEN] {
        seal(REPLY_MAGIC, Kind::Ping.code(), &self.words())
    }

    /// Reads a reply back.
    ///
    /// # Errors
    /// [`FrameError`] if the bytes are not a reply to a ping.
    pub fn decode(frame: &[u8; REPLY_LEN]) -> Result<Self, FrameError> {
        unseal(Kind::Ping, frame).map(Self::of_words)
    }
}

words!(
    CounterStatus,
    23,
    [
        instance,
        workers,
        replies,
        accepted,
        open,
        pages,
        dirtied,
        dirty_rate,
        at_ns,
        busy_ns,
        bad_pages,
        stale_workers,
        verified_pages,
        verify_ns,
        file,
        file_records,
        file_bytes,
        file_hash,
        file_bad_records,
    ]
);

impl CounterStatus {
    /// The status as it goes over the wire.
    pub fn encode(&self) -> [u8; STATUS_LEN] {
        seal(REPLY_MAGIC, Kind::Stat.code(), &self.words())
    }

    /// Reads a status back.
    ///
    /// # Errors
    /// [`FrameError`] if the bytes are not a status.
    pub fn decode(frame: &[u8; STATUS_LEN]) -> Result<Self, FrameError> {
        unseal(Kind::Stat, frame).map(Self::of_words)
    }
}

/// The fields of a reply that must be of this kind.
fn unseal<const F: usize>(expected: Kind, frame: &[u8]) -> Result<[u64; F], FrameError> {
    let (kind, words) = open(REPLY_MAGIC, frame)?;
    if kind == expected.code() { Ok(words) } else { Err(FrameError::Kind(kind)) }
}

/// Asks a service for its status over a connection of its own.
///
/// # Errors
/// What connecting, writing or reading gave, or [`io::ErrorKind::InvalidData`] if the answer is no status.
pub fn query(stream: &mut (impl Read + Write), kind: Kind, nonce: u64) -> io::Result<CounterStatus> {
    let request = Request { kind, nonce, seq: 0, sent_ns: 0 };
    stream.write_all(&request.encode())?;
    let mut frame = [0u8; STATUS_LEN];
    stream.read_exact(&mut frame)?;
    CounterStatus::decode(&frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_what_was_written() {
        let request = Request { kind: Kind::Verify, nonce: 7, seq: u64::MAX, sent_ns: 3 };
        assert_eq!(Request::decode(&request.encode()), Ok(request));
        let reply = Reply { nonce: 1, seq: 2, page_sum: u64::MAX, fault: 1, ..Reply::default() };
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        let status = CounterStatus { instance: 5, file_bad_records: 9, ..CounterStatus::default() };
        assert_eq!(CounterStatus::decode(&status.encode()), Ok(status));
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let good = Reply { seq: 42, ..Reply::default() }.encode();
        for at in 0..good.len() {
            let mut bad = good;
            bad[at] ^= 0x10;
            assert!(Reply::decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_status_is_not_taken_for_a_reply() {
        let mut frame = [0u8; REPLY_LEN];
        frame.copy_from_slice(&CounterStatus::default().encode()[..REPLY_LEN]);
        assert!(Reply::decode(&frame).is_err());
    }
}
