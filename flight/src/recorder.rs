//! The flight recorder: what an autopilot heard and answered, the newest of it, in memory of a fixed size. It is the state that has to
//! move with the autopilot, and each of its entries tells if it did not.

use xxhash_rust::xxh3::xxh3_64;

use crate::ned::Ned;

/// An entry's size in bytes: its number, the vehicle's time in milliseconds, place, velocity and setpoint (three 32-bit floats each),
/// room, and the hash of all that.
const ENTRY: usize = 64;
const HASHED: usize = ENTRY - 8;

/// Numbers from here on are of entries that were there before the first flight.
const BLANK: u64 = 1 << 63;

/// A ring of entries.
#[derive(Debug)]
pub struct Recorder {
    ring: Vec<u8>,
    written: u64,
}

/// What is recorded of one position report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    /// When, by the vehicle's clock, in milliseconds since it started.
    pub time_ms: u32,
    /// Where it was.
    pub place: Ned,
    /// How fast it was.
    pub velocity: Ned,
    /// What it was told.
    pub setpoint: Ned,
}

impl Recorder {
    /// A recorder of so many bytes, rounded down to whole entries, at least one. It takes its memory at once.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let entries = (bytes / ENTRY).max(1);
        let mut ring = vec![0; entries * ENTRY];
        for (number, entry) in ring.chunks_exact_mut(ENTRY).enumerate() {
            let number = BLANK + number as u64;
            // No two pages are alike, so that none is sent for another.
            let noise = xxh3_64(&number.to_le_bytes());
            seal(entry, number, &noise.to_le_bytes());
        }
        Self { ring, written: 0 }
    }

    /// Writes an entry over the oldest one.
    pub fn record(&mut self, heard: &Heard) {
        let entries = (self.ring.len() / ENTRY) as u64;
        let at = (self.written % entries) as usize * ENTRY;
        let mut content = [0; 40];
        content[..4].copy_from_slice(&heard.time_ms.to_le_bytes());
        let parts = [heard.place, heard.velocity, heard.setpoint];
        let floats = parts.iter().flat_map(|ned| [ned.north, ned.east, ned.down]);
        for (place, float) in content[4..].chunks_exact_mut(4).zip(floats) {
            place.copy_from_slice(&(float as f32).to_le_bytes());
        }
        seal(&mut self.ring[at..at + ENTRY], self.written, &content);
        self.written += 1;
    }

    /// How many entries were written.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// How many bytes of it are as they were written, and in their place.
    #[must_use]
    pub fn intact(&self) -> usize {
        let entries = (self.ring.len() / ENTRY) as u64;
        let good = |(place, entry): &(usize, &[u8])| {
            let (hashed, hash) = entry.split_at(HASHED);
            let number = u64::from_le_bytes(hashed[..8].try_into().unwrap_or_default());
            let place = *place as u64;
            // The newest entry that belongs there, or what was there before.
            let newest =
                (self.written > place).then(|| (self.written - 1 - place) / entries * entries + place);
            hash == xxh3_64(hashed).to_le_bytes() && number == newest.unwrap_or(BLANK + place)
        };
        self.ring.chunks_exact(ENTRY).enumerate().filter(good).count() * ENTRY
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        self.ring.len()
    }
}

fn seal(entry: &mut [u8], number: u64, content: &[u8]) {
    entry[..8].copy_from_slice(&number.to_le_bytes());
    entry[8..HASHED].fill(0);
    entry[8..8 + content.len()].copy_from_slice(content);
    let hash = xxh3_64(&entry[..HASHED]);
    entry[HASHED..].copy_from_slice(&hash.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(time_ms: u32) -> Heard {
        let ned = |by: f64| Ned::new(f64::from(time_ms) * by, 1.0, -20.0);
        Heard { time_ms, place: ned(1.0), velocity: ned(0.1), setpoint: ned(0.2) }
    }

    #[test]
    fn it_holds_the_newest_entries_and_is_intact_before_and_after_it_is_full() {
        let mut recorder = Recorder::new(10 * ENTRY + 7);
        assert_eq!((recorder.size(), recorder.intact()), (10 * ENTRY, 10 * ENTRY));
        for time in 0..25 {
            recorder.record(&heard(time));
            assert_eq!(recorder.intact(), recorder.size(), "after {time}");
        }
        assert_eq!(recorder.written(), 25);
    }

    #[test]
    fn damage_and_entries_of_another_time_show() {
        let mut recorder = Recorder::new(10 * ENTRY);
        for time in 0..12 {
            recorder.record(&heard(time));
        }
        let good = recorder.ring.clone();
        recorder.ring[5 * ENTRY + 20] ^= 1;
        assert_eq!(recorder.intact(), 9 * ENTRY);
        recorder.ring.clone_from(&good);
        // As from older memory: the third entry of the round before.
        let mut older = Recorder::new(10 * ENTRY);
        for time in 0..3 {
            older.record(&heard(time));
        }
        recorder.record(&heard(12));
        recorder.ring[2 * ENTRY..3 * ENTRY].copy_from_slice(&older.ring[2 * ENTRY..3 * ENTRY]);
        assert_eq!(recorder.intact(), 9 * ENTRY);
    }

    #[test]
    fn no_two_blank_pages_are_alike() {
        let recorder = Recorder::new(64 << 10);
        let pages: std::collections::HashSet<&[u8]> = recorder.ring.chunks_exact(4096).collect();
        assert_eq!(pages.len(), 16);
    }
}
