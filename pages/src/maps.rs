//! The mappings of a process: `/proc/PID/maps` (proc_pid_maps(5)), and what each means to a checkpoint.

use crate::{Error, PAGE_BYTES, PageRange};
use std::fs;

/// What backs a mapping, as far as a checkpoint cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// Private memory without a file: heap, stacks, anonymous mappings.
    Anonymous,
    /// A private mapping of a file: pages are the process's own once written.
    PrivateFile,
    /// Memory that processes share without a file of the file system's: shared anonymous mappings, `memfd_create`, System V
    /// segments.
    Shared {
        /// Which memory: device and inode of the hidden file behind it.
        memory: (u64, u64),
        /// Where the mapping begins in that memory, in bytes.
        offset: u64,
    },
    /// A shared mapping of a file: the file system keeps its contents.
    SharedFile,
    /// The kernel's or a device's pages: vDSO, vvar, vsyscall, device memory, io_uring and AIO rings.
    Special,
}

/// One mapping of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub range: PageRange,
    /// Whether the process may read it.
    pub readable: bool,
    /// Whether the process may write it.
    pub writable: bool,
    /// Whether the process may execute it.
    pub executable: bool,
    /// What backs it.
    pub backing: Backing,
    /// The path or the name in brackets that the kernel gives; empty for unnamed memory.
    pub name: String,
}

impl Mapping {
    /// Whether a checkpoint writes pages of such a mapping.
    pub fn is_dumped(&self) -> bool {
        matches!(self.backing, Backing::Anonymous | Backing::PrivateFile | Backing::Shared { .. })
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let range = PageRange { start: hex(start)?, end: hex(end)? };
        let permissions = fields.next()?.as_bytes();
        let &[read, write, execute, sharing, ..] = permissions else { return None };
        let offset = hex(fields.next()?)?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let device = (hex(major)? << 32) | hex(minor)?;
        let inode: u64 = fields.next()?.parse().ok()?;
        let name = fields.next().unwrap_or("").trim_start().to_owned();
        if range.is_empty()
            || !range.start.is_multiple_of(PAGE_BYTES)
            || !range.end.is_multiple_of(PAGE_BYTES)
        {
            return None;
        }
        let backing = backing(sharing == b's', offset, (device, inode), &name);
        Some(Self {
            range,
            readable: read == b'r',
            writable: write == b'w',
            executable: execute == b'x',
            backing,
            name,
        })
    }
}

/// Names that the kernel gives to its own pages in a process.
const KERNELS: [&str; 5] = ["[vdso]", "[vvar", "[vsyscall]", "[uprobes]", "[sigpage]"];

fn backing(shared: bool, offset: u64, file: (u64, u64), name: &str) -> Backing {
    if KERNELS.iter().any(|kernels| name.starts_with(kernels)) {
        return Backing::Special;
    }
    // A device's memory belongs to the device, save for the one device that is memory, and the folder that is a tmpfs.
    let device =
        name.starts_with("/dev/") && !name.starts_with("/dev/zero") && !name.starts_with("/dev/shm/");
    if device || name.starts_with("anon_inode:") || name.starts_with("/[aio]") {
        return Backing::Special;
    }
    if file.1 == 0 {
        return Backing::Anonymous;
    }
    if !shared {
        return if name.starts_with("/dev/zero") { Backing::Anonymous } else { Backing::PrivateFile };
    }
    let fileless = ["/dev/zero (deleted)", "/memfd:", "/SYSV", "/anon_hugepage"];
    if fileless.iter().any(|kind| name.starts_with(kind)) {
        Backing::Shared { memory: file, offset }
    } else {
        Backing::SharedFile
    }
}

/// Where the memory of a process is found: a process whose first thread has ended is looked at through another thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
}

impl Task {
    /// Path of a file of the task in `/proc`.
    pub(crate) fn path(self, file: &str) -> String {
        if self.pid == self.tid {
            format!("/proc/{}/{file}", self.pid)
        } else {
            format!("/proc/{}/task/{}/{file}", self.pid, self.tid)
        }
    }
}

/// The mappings of a process, in order of address.
///
/// # Errors
/// [`Error::Gone`] if it has ended, [`Error::Denied`] if it may not be looked at, [`Error::Malformed`] for text that is not what
/// proc(5) says.
pub fn mappings(pid: u32) -> Result<Vec<Mapping>, Error> {
    look(pid).map(|(_, mappings)| mappings)
}

/// The mappings, and through which task they were found.
pub(crate) fn look(pid: u32) -> Result<(Task, Vec<Mapping>), Error> {
    supported()?;
    let first = Task { pid, tid: pid };
    let found = of_task(first)?;
    if !found.is_empty() {
        return Ok((first, found));
    }
    // No memory: the process has ended, or only its first thread has.
    let others = fs::read_dir(format!("/proc/{pid}/task"));
    for entry in others.map_err(|e| Error::from_io("the threads", pid, e))?.flatten() {
        let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let task = Task { pid, tid };
        match of_task(task) {
            Ok(found) if !found.is_empty() => return Ok((task, found)),
            Ok(_) | Err(Error::Gone { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Error::Gone { pid })
}

/// Whether this crate knows the machine: what it says of pages holds for x86_64 and pages of 4 KiB only.
fn supported() -> Result<(), Error> {
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if cfg!(target_arch = "x86_64") && u64::try_from(page) == Ok(PAGE_BYTES) {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: "looking at the memory of other processes",
        why: format!(
            "it is made for x86_64 with pages of {PAGE_BYTES} bytes, and this is {} with {page}",
            std::env::consts::ARCH
        ),
    })
}

fn of_task(task: Task) -> Result<Vec<Mapping>, Error> {
    const WHAT: &str = "the mappings (/proc/PID/maps)";
    let text = fs::read(task.path("maps")).map_err(|e| Error::from_io(WHAT, task.pid, e))?;
    parse(&String::from_utf8_lossy(&text)).map_err(|line| Error::Malformed {
        what: WHAT,
        pid: task.pid,
        line,
    })
}

fn parse(text: &str) -> Result<Vec<Mapping>, String> {
    text.lines().map(|line| Mapping::parse(line).ok_or_else(|| line.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
55d0c0a00000-55d0c0a02000 r--p 00000000 fe:00 1835 /usr/bin/a name with spaces
55d0c0a02000-55d0c0a03000 rw-p 00002000 fe:00 1835 /usr/bin/a name with spaces
55d0c1a00000-55d0c1a21000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000100000 rw-s 00001000 00:01 2059                       /dev/zero (deleted)
7f0000200000-7f0000300000 rw-s 00000000 00:01 7                          /memfd:arena (deleted)
7f0000300000-7f0000400000 rw-s 00000000 00:01 32768                      /SYSV00000000 (deleted)
7f0000400000-7f0000500000 r--s 00000000 fe:00 99                         /var/lib/data
7f0000500000-7f0000600000 rw-s 00000000 00:05 3                          /dev/dri/card0
7f0000600000-7f0000700000 rw-p 00000000 00:00 0 \n\
7f0000700000-7f0000701000 rw-s 00000000 00:0e 12                         anon_inode:[io_uring]
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
7ffd00100000-7ffd00104000 r--p 00000000 00:00 0                          [vvar]
7ffd00104000-7ffd00106000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn every_kind_of_mapping_is_told_apart() {
        let maps = parse(TEXT).unwrap();
        let kinds: Vec<_> = maps.iter().map(|m| m.backing).collect();
        use Backing::*;
        assert_eq!(
            kinds,
            [
                PrivateFile,
                PrivateFile,
                Anonymous,
                Shared { memory: (1, 2059), offset: 4096 },
                Shared { memory: (1, 7), offset: 0 },
                Shared { memory: (1, 32768), offset: 0 },
                SharedFile,
                Special,
                Anonymous,
                Special,
                Anonymous,
                Special,
                Special,
                Special
            ]
        );
        assert_eq!(maps[0].name, "/usr/bin/a name with spaces");
        assert_eq!(maps[0].range.pages(), 2);
        assert!(!maps[0].writable && maps[1].writable && maps[12].executable);
        assert!(maps[8].name.is_empty());
    }

    #[test]
    fn text_that_is_not_a_mapping_is_refused_with_its_line() {
        for bad in [
            "x",
            "1000-2000",
            "1000-2000 rw-p 0 00:00",
            "2000-1000 rw-p 0 00:00 0",
            "1001-2000 rw-p 0 00:00 0 ",
        ] {
            assert_eq!(parse(bad).unwrap_err(), bad);
        }
    }

    #[test]
    fn our_own_mappings_have_a_stack_and_a_process_that_is_not_there_is_gone() {
        let own = mappings(std::process::id()).unwrap();
        assert!(own.iter().any(|m| m.name == "[stack]" && m.writable && m.backing == Backing::Anonymous));
        assert!(mappings(u32::MAX / 4).unwrap_err().is_gone());
    }
}
