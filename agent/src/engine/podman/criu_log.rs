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

/// What CRIU says in passing where it may not open more files than it was started with.
const HARMLESS: &str = "RLIMIT_NOFILE";

/// Lines that only say that what was tried failed; an earlier one says why.
const GENERAL: [&str; 4] = ["Dumping FAILED", "Restoring FAILED", "failed with", "finished with error"];

/// CRIU's own reason: the first of its errors that says one, or the first of them all.
pub(super) fn reason(log: &str) -> Option<String> {
    let errors = || {
        let lines = log.lines().filter_map(|line| line.find("Error (").map(|at| line[at..].trim()));
        lines.filter(|line| !line.contains(HARMLESS))
    };
    let telling = errors().find(|line| !GENERAL.iter().any(|general| line.contains(general)));
    let line = telling.or_else(|| errors().next())?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
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
    fn the_reason_is_the_first_error_that_says_one() {
        let log = "(00.000548) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
                   (00.019) Warn  (criu/x.c:1): odd\n\
                   (00.022) Error (criu/fsnotify.c:284): fsnotify: \tCan't dump that handle\n\
                   (00.023) Error (criu/cr-dump.c:1545): Dump files (pid: 31660) failed with -1\n\
                   (00.027) Error (criu/cr-dump.c:1975): Dumping FAILED.\n";
        assert_eq!(reason(log).unwrap(), "Error (criu/fsnotify.c:284): fsnotify: Can't dump that handle");
        let general = log.lines().last().unwrap();
        assert_eq!(reason(general).unwrap(), "Error (criu/cr-dump.c:1975): Dumping FAILED.");
        assert_eq!(reason("(00.0) all is well\n"), None);
        assert_eq!(reason(log.lines().next().unwrap()), None, "what is harmless is no reason");
    }

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
