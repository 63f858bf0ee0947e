//! The memory of a process: what of it CRIU can neither read nor map again.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use mose_protocol::check::Severity::{Blocks, Note};

use super::collected::Findings;
use super::descriptors::Around;
use super::files;
use super::task::Task;

/// The most mappings of one process that are looked at.
const MOST: usize = 65_536;

/// `/dev/zero`, whose mappings are plain memory.
const ZERO: (u32, u32) = (1, 5);

/// One line of `/proc/PID/maps`.
struct Line<'a> {
    range: &'a str,
    device: &'a str,
    inode: &'a str,
    path: &'a str,
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut rest = text;
    let mut field = || {
        let (field, more) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = more;
        field
    };
    let range = field();
    let (_, _) = (field(), field());
    let (device, inode) = (field(), field());
    Some(Line { range, device, inode, path: rest.trim_start() }).filter(|line| line.range.contains('-'))
}

/// Looks at the memory of one process, its program among it.
pub(super) fn look(task: &Task, around: &Around<'_>, findings: &mut Findings) {
    let Ok(maps) = fs::read_to_string(task.file("maps")) else { return };
    // A file is mapped in several pieces.
    let mut known: HashSet<(String, String)> = HashSet::new();
    for line in maps.lines().take(MOST).filter_map(line) {
        if line.path == "[uprobes]" {
            add(
                task,
                line.range,
                "uprobes",
                "a tracer of the host has put a probe into it",
                "end the tracer",
                findings,
            );
        }
        if line.inode == "0" || !known.insert((line.device.to_owned(), line.inode.to_owned())) {
            continue;
        }
        mapping(task, &line, around, findings);
    }
    if let (Ok(held), Ok(path)) = (fs::metadata(task.file("exe")), fs::read_link(task.file("exe"))) {
        // The program's own mappings have told already, unless it mapped itself away.
        let device = format!("{:02x}:{:02x}", libc::major(held.dev()), libc::minor(held.dev()));
        if !known.contains(&(device, held.ino().to_string())) {
            file(task, "program", &held, &path.to_string_lossy(), around, findings);
        }
    }
}

fn add(task: &Task, range: &str, what: &str, reason: &str, remedy: &str, findings: &mut Findings) {
    let from = range.split('-').next().unwrap_or(range);
    findings.numbered(Blocks, &task.told, ("mapping", format!("0x{from}")), what, reason, remedy);
}

fn mapping(task: &Task, line: &Line<'_>, around: &Around<'_>, findings: &mut Findings) {
    let plain = ["/SYSV", "/memfd:", "/dev/zero", "/[aio]", "socket:["];
    if plain.iter().any(|prefix| line.path.starts_with(prefix)) {
        return;
    }
    if let Some(kind) = line.path.strip_prefix("anon_inode:") {
        let kind = kind.trim_matches(['[', ']']);
        let reason = format!("it is shared with the kernel's {kind}, which CRIU cannot dump");
        return add(
            task,
            line.range,
            kind,
            &reason,
            "have the program do without it, and restart it",
            findings,
        );
    }
    if line.path.starts_with("/secretmem") {
        let remedy = "have the program do without memfd_secret(2), and restart it";
        return add(
            task,
            line.range,
            "secret memory",
            "nobody but the process can read it",
            remedy,
            findings,
        );
    }
    if line.path.starts_with("/anon_hugepage") {
        let remedy =
            "have the program do without huge pages of its own (MAP_HUGETLB); transparent ones are fine";
        return add(
            task,
            line.range,
            "huge pages",
            "CRIU cannot dump memory of hugetlbfs here",
            remedy,
            findings,
        );
    }
    let Ok(held) = fs::metadata(task.file(&format!("map_files/{}", line.range))) else { return };
    let kind = held.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        if (libc::major(held.rdev()), libc::minor(held.rdev())) != ZERO {
            let reason = "it is the memory of a device, which CRIU cannot dump";
            add(task, line.range, line.path, reason, "run the service where its device is", findings);
        }
        return;
    }
    if held.is_file() && line.path.starts_with('/') {
        file(task, "mapped file", &held, line.path, around, findings);
    }
}

fn file(
    task: &Task,
    what: &str,
    held: &fs::Metadata,
    path: &str,
    around: &Around<'_>,
    findings: &mut Findings,
) {
    if let Some(trouble) = files::look(held, path, around.root, around.options) {
        let severity = if trouble.blocks { Blocks } else { Note };
        findings.add(severity, &task.told, what, &trouble.reason, &trouble.remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_taken_apart() {
        let text =
            "7f5c1000-7f5c3000 r-xp 00002000 00:32 4711                       /usr/lib/a b.so (deleted)";
        let line = line(text).unwrap();
        assert_eq!((line.range, line.device, line.inode), ("7f5c1000-7f5c3000", "00:32", "4711"));
        assert_eq!(line.path, "/usr/lib/a b.so (deleted)");
        assert!(super::line("").is_none());
        assert_eq!(super::line("7f5c1000-7f5c3000 rw-p 00000000 00:00 0 ").unwrap().path, "");
    }
}
