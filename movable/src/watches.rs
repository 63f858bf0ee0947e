//! Watches of files and folders, by inotify and fanotify: CRIU has to find the path of what is watched.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::files::seen;
use super::mounts::Mounts;
use super::options::Options;

/// The most watches of one descriptor that are looked at.
const MOST: usize = 256;

/// The most files that are looked at in search of one.
const MOST_FILES: usize = 20_000;

/// The kernel's own limit of a handle (name_to_handle_at(2)).
const MOST_HANDLE: usize = 128;

/// One watched file, as `/proc/PID/fdinfo` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched {
    inode: u64,
    device: u64,
    kind: i32,
    handle: Vec<u8>,
}

/// How many of a descriptor's watches are of files whose path CRIU would not find.
pub(super) fn lost(fdinfo: &str, root: &Path, mounts: &Mounts, options: &Options) -> usize {
    let watched = fdinfo.lines().filter_map(watched).take(MOST);
    watched.filter(|watched| !found(watched, root, mounts, options)).count()
}

fn watched(line: &str) -> Option<Watched> {
    if !line.starts_with("inotify ") && !line.starts_with("fanotify ") {
        return None;
    }
    let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
    let hex = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
    let device = hex("sdev")?;
    let text = field("f_handle")?;
    let bytes = (0..text.len().min(2 * MOST_HANDLE)).step_by(2);
    Some(Watched {
        inode: hex("ino")?,
        // As the kernel keeps it: twelve bits of the major number above twenty of the minor one.
        device: libc::makedev(u32::try_from(device >> 20).ok()?, u32::try_from(device & 0xf_ffff).ok()?),
        kind: i32::try_from(hex("fhandle-type")?).ok()?,
        handle: bytes.filter_map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect(),
    })
}

fn found(watched: &Watched, root: &Path, mounts: &Mounts, options: &Options) -> bool {
    let mut openable = false;
    for mount in mounts.on_device(watched.device) {
        let Ok(path) = by_handle(&seen(root, &mount.point.to_string_lossy()), watched) else { continue };
        openable = true;
        let there = fs::symlink_metadata(seen(root, &path));
        if there.is_ok_and(|there| there.ino() == watched.inode) {
            return true;
        }
    }
    // Where the file system finds it by its handle, CRIU takes the handle; those of a memory's differ elsewhere.
    if openable {
        return false;
    }
    let mut left = MOST_FILES;
    let root_itself = fs::symlink_metadata(root).is_ok_and(|there| is(&there, watched));
    root_itself || options.watched_in.iter().any(|folder| search(&seen(root, folder), watched, &mut left))
}

fn is(there: &fs::Metadata, watched: &Watched) -> bool {
    there.ino() == watched.inode && there.dev() == watched.device
}

/// Looks for a file in a folder and all below it.
fn search(path: &Path, watched: &Watched, left: &mut usize) -> bool {
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(there) = fs::symlink_metadata(&path) else { continue };
        if is(&there, watched) {
            return true;
        }
        if *left == 0 {
            return false;
        }
        *left -= 1;
        if there.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            todo.extend(entries.take(*left).map(|entry| entry.path()));
        }
    }
    false
}

/// The path of a file by its handle (open_by_handle_at(2)).
fn by_handle(mount: &Path, watched: &Watched) -> io::Result<String> {
    let mount = fs::File::open(mount)?;
    let length = u32::try_from(watched.handle.len()).map_err(io::Error::other)?;
    let mut handle = length.to_ne_bytes().to_vec();
    handle.extend(watched.kind.to_ne_bytes());
    handle.extend(&watched.handle);
    // SAFETY: the handle is as long as it says, and lives until the call returns; the result is checked below.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            handle.as_ptr(),
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    let opened = i32::try_from(opened).map_err(io::Error::other)?;
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    let opened = unsafe { OwnedFd::from_raw_fd(opened) };
    let path = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()))?;
    Ok(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_read_from_what_the_kernel_tells() {
        let line = "inotify wd:1 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 \
                    f_handle:7e9e0000640d1b6d";
        let found = watched(line).unwrap();
        assert_eq!((found.inode, found.device, found.kind), (0x9e7e, libc::makedev(8, 0x13), 1));
        assert_eq!(found.handle, [0x7e, 0x9e, 0, 0, 0x64, 0x0d, 0x1b, 0x6d]);
        assert_eq!(watched("pos:\t0"), None);
        assert_eq!(watched("fanotify mnt_id:12 mflags:0 mask:20 ignored_mask:0"), None);
    }

    #[test]
    fn a_file_is_looked_for_below_the_folders_that_criu_searches() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("srv/deep")).unwrap();
        let file = root.path().join("srv/deep/file");
        fs::write(&file, "x").unwrap();
        let there = fs::metadata(&file).unwrap();
        let watched = Watched { inode: there.ino(), device: there.dev(), kind: 1, handle: Vec::new() };
        let mounts = Mounts::default();
        let options = Options::read(&["/nowhere"]);
        assert!(!found(&watched, root.path(), &mounts, &options));
        let more = Options { watched_in: vec!["/srv".into()], ..options };
        assert!(found(&watched, root.path(), &mounts, &more));
    }
}
