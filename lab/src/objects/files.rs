//! Open files: flags, offsets, owners, locks of every kind, leases, pipes, files without a name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::sys::{fcntl, ok, owned, readable};
use super::{Object, Told};

/// fcntl(2): the signal that tells of a descriptor's readiness.
const F_SETSIG: libc::c_int = 10;
const F_GETSIG: libc::c_int = 11;

pub(super) struct Files {
    files: Vec<(&'static str, File)>,
    pipe: (File, File),
}

/// A lock as fcntl(2) takes it.
fn lock(kind: libc::c_int, start: i64, length: i64) -> libc::flock {
    // SAFETY: a plain structure of numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    (lock.l_start, lock.l_len) = (start, length);
    lock
}

fn set_lock(file: &File, command: libc::c_int, lock: &libc::flock) -> io::Result<()> {
    // SAFETY: the structure outlives the call, which only reads it.
    ok(unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_ref(lock)) }).map(drop)
}

fn pipe(flags: libc::c_int) -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written into `ends`.
    ok(unsafe { libc::pipe2(ends.as_mut_ptr(), flags) })?;
    Ok((owned(ends[0])?.into(), owned(ends[1])?.into()))
}

impl Files {
    pub(super) fn make(place: &Path) -> io::Result<Self> {
        let path = |name: &str| place.join(name);
        let open = |name: &str, flags: libc::c_int| {
            OpenOptions::new().read(true).write(true).create(true).custom_flags(flags).open(path(name))
        };
        let mut plain = open("plain", 0)?;
        plain.write_all(b"0123456789")?;
        plain.seek(SeekFrom::Start(3))?;
        let shared = plain.try_clone()?;
        let append = OpenOptions::new().append(true).create(true).open(path("append"))?;
        let direct = open("odd", libc::O_NONBLOCK | libc::O_NOATIME | libc::O_DSYNC)?;
        let pathed = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path("plain"))?;
        let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(place)?;
        let mut deleted = open("deleted", 0)?;
        deleted.write_all(b"without a name")?;
        fs::remove_file(path("deleted"))?;
        let mut unnamed =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(place)?;
        unnamed.write_all(b"never had one")?;
        let kept = open("kept-over-exec", 0)?;
        fcntl(&kept, libc::F_SETFD, 0)?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let whole = open("flock", 0)?;
        // SAFETY: flock(2) takes a descriptor and a number.
        ok(unsafe { libc::flock(whole.as_raw_fd(), libc::LOCK_EX) })?;
        let posix = open("posix", 0)?;
        set_lock(&posix, libc::F_SETLK, &lock(libc::F_WRLCK, 10, 20))?;
        set_lock(&posix, libc::F_SETLK, &lock(libc::F_RDLCK, 100, 0))?;
        let open_file = open("ofd", 0)?;
        set_lock(&open_file, libc::F_OFD_SETLK, &lock(libc::F_WRLCK, 5, 6))?;
        open("lease", 0)?;
        let lease = File::open(path("lease"))?;
        fcntl(&lease, libc::F_SETLEASE, libc::F_RDLCK)?;
        ok(make_fifo(&path("fifo")))?;
        let mut fifo = open("fifo", libc::O_NONBLOCK)?;
        fifo.write_all(b"in the fifo")?;
        let (read, mut write) = pipe(libc::O_CLOEXEC | libc::O_NONBLOCK)?;
        fcntl(&read, libc::F_SETPIPE_SZ, 1 << 18)?;
        write.write_all(b"half of this was read")?;
        (&read).read_exact(&mut [0; 8])?;
        let (empty, gone) = pipe(libc::O_CLOEXEC)?;
        drop(gone);
        for file in [&read, &fifo] {
            // SAFETY: getpid(2) cannot fail.
            fcntl(file, libc::F_SETOWN, unsafe { libc::getpid() })?;
            fcntl(file, F_SETSIG, libc::SIGURG)?;
        }
        let files = vec![
            ("plain", plain),
            ("a duplicate of it", shared),
            ("append", append),
            ("odd flags", direct),
            ("by path only", pathed),
            ("a folder", folder),
            ("deleted", deleted),
            ("without a name", unnamed),
            ("kept over exec", kept),
            ("/dev/null", null),
            ("flock", whole),
            ("posix locks", posix),
            ("ofd lock", open_file),
            ("lease", lease),
            ("fifo", fifo),
            ("pipe without a writer", empty),
        ];
        Ok(Self { files, pipe: (read, write) })
    }
}

fn make_fifo(path: &Path) -> libc::c_int {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()) else { return -1 };
    // SAFETY: the path ends with a zero and outlives the call.
    unsafe { libc::mkfifo(path.as_ptr(), 0o640) }
}

/// Flags, owner, signal and offset of a descriptor, and what the kernel says of its locks.
fn tell(what: &str, file: &impl AsRawFd, told: &mut Told) {
    let get = |command| {
        fcntl(file, command, 0).map_or_else(|error| error.to_string(), |value| format!("{value:#x}"))
    };
    told.say(
        format_args!("file {what}"),
        format_args!(
            "flags {} fd {} owner {} signal {} lease {} size {}",
            get(libc::F_GETFL),
            get(libc::F_GETFD),
            get(libc::F_GETOWN),
            get(F_GETSIG),
            get(libc::F_GETLEASE),
            get(libc::F_GETPIPE_SZ)
        ),
    );
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap_or_default();
    for line in info.lines().filter(|line| line.starts_with("pos:") || line.starts_with("lock:")) {
        // The inode's number is another one after a move.
        let words = line.split_whitespace().filter(|word| word.split(':').count() < 3);
        told.say(format_args!("file {what}"), words.collect::<Vec<_>>().join(" "));
    }
}

impl Object for Files {
    fn tell(&self, told: &mut Told) {
        for (what, file) in &self.files {
            tell(what, file, told);
            if let Ok(metadata) = file.metadata() {
                use std::os::unix::fs::MetadataExt;
                let (mode, links, length) = (metadata.mode(), metadata.nlink(), metadata.len());
                told.say(
                    format_args!("file {what}"),
                    format_args!("mode {mode:o} links {links} length {length}"),
                );
            }
        }
        tell("pipe's reader", &self.pipe.0, told);
        tell("pipe's writer", &self.pipe.1, told);
        told.say("pipe", format_args!("{} bytes to be read", readable(&self.pipe.0)));
    }

    fn prove(&self, told: &mut Told) {
        let mut text = [0; 64];
        let read = (&self.pipe.0).read(&mut text).unwrap_or(0);
        told.say("pipe, read", String::from_utf8_lossy(&text[..read]));
        for (what, file) in &self.files {
            if matches!(*what, "deleted" | "without a name" | "plain" | "fifo") {
                let mut file = file;
                let _ = file.seek(SeekFrom::Start(0));
                let read = file.read(&mut text).unwrap_or(0);
                told.say(format_args!("file {what}, read"), String::from_utf8_lossy(&text[..read]));
            }
        }
    }
}
