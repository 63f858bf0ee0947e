//! The buffer of a frame: filled, sent, received and read apart without copying its content.

use super::frame::{DATA, MAX_META, PAGES, Record, STREAM};
use super::input::Input;

/// Length, tag and sequence number before each frame's records.
pub(crate) const HEADER: usize = 16;
/// Bytes of record framing before a piece of content.
const DATA_HEAD: usize = 5 + 4 + 8;

/// A frame in the making, or one that arrived; its memory is used again and again.
#[derive(Debug)]
pub(crate) struct Buf {
    data: Vec<u8>,
    used: usize,
    chunk: usize,
}

impl Buf {
    /// Room for `chunk` bytes of content and its framing.
    pub(crate) fn new(chunk: usize) -> Self {
        Self { data: vec![0; HEADER + DATA_HEAD + chunk], used: HEADER, chunk }
    }

    /// Empties it, and takes back what records beyond the chunk made it grow.
    pub(crate) fn clear(&mut self) {
        self.used = HEADER;
        self.data.truncate(HEADER + DATA_HEAD + self.chunk);
    }

    pub(crate) fn chunk(&self) -> usize {
        self.chunk
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == HEADER
    }

    /// How many bytes of content still fit.
    pub(crate) fn room(&self) -> usize {
        (HEADER + self.chunk).saturating_sub(self.used)
    }

    /// The whole frame, its header filled in.
    pub(crate) fn seal(&mut self, tag: u32, seq: u64) -> &[u8] {
        let length = (self.used - HEADER) as u32;
        self.data[0..4].copy_from_slice(&length.to_le_bytes());
        self.data[4..8].copy_from_slice(&tag.to_le_bytes());
        self.data[8..16].copy_from_slice(&seq.to_le_bytes());
        &self.data[..self.used]
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[..self.used]
    }

    /// The length in the header of a frame that arrived, header included.
    pub(crate) fn stated_length(&self) -> usize {
        HEADER + Input(&self.data).u32().unwrap_or_default() as usize
    }

    /// Tag and sequence number of a frame that arrived.
    pub(crate) fn stamp(&self) -> (u32, u64) {
        let mut input = Input(&self.data[4..HEADER]);
        (input.u32().unwrap_or_default(), input.u64().unwrap_or_default())
    }

    /// Takes a frame in: `length` bytes including the header, written by `fill`.
    pub(crate) fn receive<E>(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.data.len() < length {
            self.data.resize(length, 0);
        }
        self.used = length;
        fill(&mut self.data[..length])
    }

    /// Appends a record that is not content; it may make the buffer grow by as much as [`MAX_META`].
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        let capacity = self.data.len();
        self.data.truncate(self.used);
        let start = self.data.len();
        self.data.extend_from_slice(&[0; 5]);
        let kind = record.encode(&mut self.data);
        let length = (self.data.len() - start - 5) as u32;
        self.data[start] = kind;
        self.data[start + 1..start + 5].copy_from_slice(&length.to_le_bytes());
        self.used = self.data.len();
        if self.data.len() < capacity {
            self.data.resize(capacity, 0);
        }
    }

    /// Appends up to `most` bytes of a file's content, which `fill` puts in place; returns how many it put.
    pub(crate) fn push_data<E>(
        &mut self,
        id: u32,
        offset: u64,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let most = most.min(self.room());
        let start = self.used;
        let content = start + DATA_HEAD;
        let count = fill(&mut self.data[content..content + most])?;
        if count > 0 {
            self.data[start] = DATA;
            self.data[start + 1..start + 5].copy_from_slice(&((count + 12) as u32).to_le_bytes());
            self.data[start + 5..start + 9].copy_from_slice(&id.to_le_bytes());
            self.data[start + 9..content].copy_from_slice(&offset.to_le_bytes());
            self.used = content + count;
        }
        Ok(count)
    }

    /// The content that [`Buf::push_data`] appended last.
    pub(crate) fn tail(&self, count: usize) -> &[u8] {
        &self.data[self.used - count..self.used]
    }

    /// The records of a frame that arrived.
    pub(crate) fn records(&self) -> Records<'_> {
        Records(Input(&self.data[HEADER..self.used]))
    }
}

/// Iterates over the records of a frame; ends at the first one that is malformed.
pub(crate) struct Records<'a>(Input<'a>);

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.0.is_empty() {
            return None;
        }
        let record = (|| {
            let kind = self.0.u8()?;
            let length = self.0.u32()? as usize;
            if length > MAX_META && ![DATA, STREAM, PAGES].contains(&kind) {
                return Err(format!("a record of {length} bytes"));
            }
            Record::decode(kind, self.0.take(length)?)
        })();
        if record.is_err() {
            self.0 = Input(&[]);
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_read_in_place_and_never_beyond_the_chunk() {
        let mut buf = Buf::new(10);
        let count = buf
            .push_data(4, 100, 1000, |room| {
                room.fill(b'x');
                Ok::<_, ()>(room.len())
            })
            .unwrap();
        assert_eq!((count, buf.room()), (10, 0));
        assert_eq!(buf.tail(10), b"xxxxxxxxxx");
        let record = buf.records().next().unwrap().unwrap();
        assert_eq!(record, Record::Data { id: 4, offset: 100, bytes: b"xxxxxxxxxx" });
    }

    #[test]
    fn a_buffer_that_grew_is_its_old_size_when_used_again() {
        let mut buf = Buf::new(10);
        buf.push(&Record::Stream(&[0; 1000]));
        assert_eq!(buf.room(), 0);
        buf.clear();
        assert!(buf.is_empty() && buf.room() == 10 && buf.data.len() == HEADER + DATA_HEAD + 10);
    }
}
