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
const GENERAL: [&str; 6] = [
    "Dumping FAILED",
    "Restoring FAILED",
    "failed with",
    "finished with error",
    "exited, status=",
    // CRIU's helper for cgroups, which outlives the rest by a moment.
    "cgroupd: recv req error",
];

/// The most of a log that is read, in bytes: its end. It tells of each file descriptor, and has megabytes where there are many.
const READ: u64 = 16 << 20;
/// No line of CRIU's is longer, in bytes.
const LINE: u64 = 8 << 10;
/// What of a log that is carried may be errors from before its end, in bytes.
const EARLY: usize = LONGEST_LOG / 4;

/// The errors in a log.
fn errors(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains("Error (") && !line.contains(HARMLESS))
}

/// CRIU's own reason: the first of its errors that says one, or the first of them all.
pub(super) fn reason(log: &str) -> Option<String> {
    let telling = errors(log).find(|line| !GENERAL.iter().any(|general| line.contains(general)));
    let line = telling.or_else(|| errors(log).next())?;
    let said = line.find("Error (").map_or(line, |at| &line[at..]);
    Some(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What a refusal carries of a log: its end, after the errors that came before.
pub(super) fn end(path: &Path) -> io::Result<String> {
    tail(path, READ).map(|log| abridged(&log))
}

/// The last line of a log that says something; `None` where there is none.
pub(super) fn last_line(path: &Path) -> Option<String> {
    let end = tail(path, LINE).ok()?;
    end.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

/// The last bytes of a file, `most` at most.
fn tail(path: &Path, most: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn abridged(log: &str) -> String {
    if log.len() <= LONGEST_LOG {
        return log.to_owned();
    }
    let (before, last) = split(log, LONGEST_LOG - EARLY);
    let mut early = String::new();
    for line in errors(before) {
        if early.len() + line.len() >= EARLY {
            break;
        }
        early.push_str(line);
        early.push('\n');
    }
    if early.is_empty() { split(log, LONGEST_LOG).1.to_owned() } else { early + last }
}

/// A log of more than `room` bytes: what comes before, and its last whole lines that there is room for.
fn split(log: &str, room: usize) -> (&str, &str) {
    let over = log.len() - room;
    // Behind a line's end, where no letter of several bytes is cut.
    let line = log.bytes().skip(over).position(|byte| byte == b'\n').map(|at| over + at + 1);
    log.split_at(line.unwrap_or(log.len()))
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
    fn a_reason_that_comes_long_before_the_end_is_carried_with_it() {
        let cause = "(00.08) 11: Error (criu/files-reg.c:2258): Can't link x -> y: No such file or directory";
        let last = "(00.15) Error (criu/cr-restore.c:2331): Restoring FAILED.\n\
                    (00.16) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or directory\n";
        let lines = "(00.1) 12: Receive fd for 7\n".repeat(5000);
        let told = abridged(&format!("{lines}{cause}\n{lines}{last}"));
        assert!(
            told.starts_with(cause) && told.ends_with(last) && told.len() <= LONGEST_LOG,
            "{}",
            told.len()
        );
        assert_eq!(reason(&told).unwrap(), cause[11..].trim());
        let errors = format!("{cause}\n").repeat(5000);
        assert!(abridged(&format!("{errors}{last}")).len() <= LONGEST_LOG);
        assert_eq!(abridged(last), last);
        let without = abridged(&format!("{lines}{last}"));
        assert!(without.ends_with(last) && without.starts_with("(00.1) 12") && without.len() <= LONGEST_LOG);
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
        assert!(told.ends_with("Error (last line)\n") && told.len() <= LONGEST_LOG, "{}", told.len());
        assert_eq!(last_line(&path("dump.log")).as_deref(), Some("Error (last line)"));
        assert_eq!(last_line(&path("none.log")), None);
        assert_eq!(newest(logs(), now + hour), None);
        assert_eq!(newest([path("none.log")], now), None);
    }
}
