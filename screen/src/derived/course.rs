//! The times of a migration on the console's clock, as far as they are known now.

use mose_pam::Millis;
use mose_protocol::Timestamp;

use crate::state::migrations::Placed;
use crate::state::{Still, Track};

/// The times of a migration.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// For how long it has been going on, or went on.
    pub elapsed: Millis,
    /// For how long its service stood still.
    pub still: Still,
    /// From the freeze to the release (or now), after the begin.
    pub frozen: Option<(Millis, Millis)>,
    /// The begin and the end of each step, after that of the migration.
    steps: Vec<(Millis, Millis)>,
}

impl Course {
    /// Of a migration that was seen in progress, at `now`.
    pub(super) fn of(track: &Track, now: Timestamp) -> Self {
        Self {
            elapsed: track.elapsed(now),
            still: Still::of(track, now),
            frozen: track.frozen(now),
            steps: track.placed(now).map(|placed| (placed.start, placed.end)).collect(),
        }
    }

    /// The steps of the migration that these times are of, with when they were.
    pub fn placed<'a>(&'a self, track: &'a Track) -> impl DoubleEndedIterator<Item = Placed<'a>> {
        track.bars.iter().zip(&self.steps).map(|(bar, &(start, end))| Placed { bar, start, end })
    }
}
