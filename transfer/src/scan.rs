//! What a pass over a tree saw: by it the next one knows what has changed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::stat::FileStat;

use super::frame::{Entry, Kind};
use super::path::RelPath;

/// File systems stamp times with the granularity of a clock tick, so a change this near to the scan could hide.
const DOUBT: Duration = Duration::from_millis(100);
/// What tells two states of an inode apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    mtime: (i64, i64),
    pub(crate) ctime: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size.cast_unsigned(),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Whether its content last changed before this time.
    pub(crate) fn is_before(&self, time: SystemTime) -> bool {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanoseconds) = self.mtime;
        seconds < 0 || Duration::new(seconds.cast_unsigned(), nanoseconds as u32) < since_epoch
    }

    pub(crate) fn same_inode(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// One thing as a pass saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// With [`Kind::Link`] if it is a further name of a file.
    pub(crate) entry: Entry,
    pub(crate) stamp: Stamp,
    /// All names of the same inode, when it has several.
    pub(crate) names: Vec<RelPath>,
    /// Whether the destination has it as it was seen.
    pub(crate) complete: bool,
}

/// All that a pass saw.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) began: SystemTime,
    pub(crate) items: BTreeMap<RelPath, Seen>,
}

impl Scan {
    /// Whether the file that the destination has under `path` may be changed in place into what is there `now`.
    pub(crate) fn can_be_patched(&self, path: &RelPath, now: &Seen) -> bool {
        self.items.get(path).is_some_and(|then| {
            let one_name = then.names.is_empty() && now.names.is_empty();
            now.entry.is_file()
                && then.entry.is_file()
                && (one_name || (then.names == now.names && then.stamp.same_inode(&now.stamp)))
        })
    }

    /// Whether an inode that has this stamp now has not changed since it was seen, beyond doubt.
    fn is_as_seen(&self, then: &Seen, now: &Stamp) -> bool {
        let doubt = self.began.checked_sub(DOUBT).unwrap_or(UNIX_EPOCH);
        let doubt = doubt.duration_since(UNIX_EPOCH).unwrap_or_default();
        let doubt = (doubt.as_secs().cast_signed(), i64::from(doubt.subsec_nanos()));
        then.stamp == *now && now.ctime < doubt
    }

    /// What is at `path`, if it is as it was: an inode's attributes do not change without its ctime.
    pub(crate) fn entry(&self, path: &RelPath, now: &Stamp) -> Option<Entry> {
        let then = self.items.get(path)?;
        let a_name = matches!(then.entry.kind, Kind::Link(_));
        (!a_name && self.is_as_seen(then, now)).then(|| then.entry.clone())
    }

    /// Whether `path` lies at the destination as `now` says, beyond doubt.
    pub(crate) fn has(&self, path: &RelPath, now: &Seen) -> bool {
        self.items.get(path).is_some_and(|then| {
            then.complete
                && then.entry == now.entry
                && then.names == now.names
                && self.is_as_seen(then, &now.stamp)
        })
    }
}
