//! CRIU's own logs, which it writes beside its images.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mose_protocol::refusal::LONGEST_LOG;

/// File systems note times by the kernel's tick, some milliseconds late.
const TICK: Duration = Duration::from_millis(20);

/// The end of the newest of some logs, if it was written to since a time; what is older is of something else.
pub(super) fn newest(logs: impl IntoIterator<Item = PathBuf>, since: SystemTime) -> Option<String> {
    let found = logs.into_iter().filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)));
    let (written, path) = found.max()?;
    if written + TICK < since { None } else { end(&path).ok() }
}

/// The end of a log: as much as a refusal carries.
pub(super) fn end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // One byte more than is carried: then it is seen whether the first line is whole.
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_LOG as u64 + 1)))?;
    let mut bytes = Vec::new();
    file.take(LONGEST_LOG as u64 * 2).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_newest_log_is_told_by_its_end_and_one_of_an_earlier_time_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("restore.log"), "an earlier one\n").unwrap();
        let long = format!("{}Error (last line)\n", "(00.1) a line\n".repeat(5000));
        fs::write(path("dump.log"), &long).unwrap();
        let hour = Duration::from_secs(3600);
        let now = SystemTime::now();
        File::options().write(true).open(path("restore.log")).unwrap().set_modified(now - hour).unwrap();
        let logs = || [path("dump.log"), path("restore.log"), path("none.log")];
        let told = newest(logs(), now - hour / 2).unwrap();
        assert!(told.ends_with("Error (last line)\n") && told.len() <= LONGEST_LOG + 1, "{}", told.len());
        assert_eq!(newest(logs(), now + hour), None);
        assert_eq!(newest([path("none.log")], now), None);
    }
}
