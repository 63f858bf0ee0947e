//! Files in odd states, and watches on files.

use std::fs;
use std::io;
use std::path::Path;

use super::system::{call, open, path, word, write};

/// A file of so many bytes that is open and has no name any more.
pub(super) fn deleted(name: &str, bytes: usize) -> io::Result<()> {
    let file = open(name, libc::O_RDWR | libc::O_CREAT)?;
    let chunk = vec![7_u8; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(chunk.len());
        write(file, &chunk[..now])?;
        left -= now;
    }
    fs::remove_file(name)
}

/// An open file whose name is gone, and which has another.
pub(super) fn deleted_linked() -> io::Result<()> {
    open("/tmp/linked", libc::O_RDWR | libc::O_CREAT)?;
    fs::hard_link("/tmp/linked", "/tmp/another")?;
    fs::remove_file("/tmp/linked")
}

/// An open file of which only the other name is deleted.
pub(super) fn other_name_deleted() -> io::Result<()> {
    open("/tmp/kept", libc::O_RDWR | libc::O_CREAT)?;
    fs::hard_link("/tmp/kept", "/tmp/not-kept")?;
    fs::remove_file("/tmp/not-kept")
}

/// A file of the image that is open, and in whose place another was put.
pub(super) fn replaced(name: &str) -> io::Result<()> {
    open(name, libc::O_RDONLY)?;
    let new = format!("{name}.new");
    fs::write(&new, "another\n")?;
    fs::rename(&new, name)
}

/// A file of the image that is open and deleted.
pub(super) fn image_deleted(name: &str) -> io::Result<()> {
    open(name, libc::O_RDONLY)?;
    fs::remove_file(name)
}

/// A folder that is open and gone.
pub(super) fn folder_deleted() -> io::Result<()> {
    fs::create_dir("/tmp/gone")?;
    open("/tmp/gone", libc::O_RDONLY | libc::O_DIRECTORY)?;
    fs::remove_dir("/tmp/gone")
}

/// The working folder is gone.
pub(super) fn working_folder_deleted() -> io::Result<()> {
    fs::create_dir("/tmp/workplace")?;
    std::env::set_current_dir("/tmp/workplace")?;
    fs::remove_dir("/tmp/workplace")
}

pub(super) fn unnamed() -> io::Result<()> {
    let file = open("/tmp", libc::O_RDWR | libc::O_TMPFILE)?;
    write(file, b"no name")
}

pub(super) fn fifo() -> io::Result<()> {
    let name = path("/tmp/fifo");
    let mode = libc::S_IFIFO | 0o600;
    call("mknod", libc::SYS_mknodat, &[word(libc::AT_FDCWD), name.as_ptr() as usize, mode as usize, 0])?;
    let fifo = open("/tmp/fifo", libc::O_RDWR)?;
    write(fifo, b"not read yet")
}

/// Another process's file in /proc, of one that lives or one that ended.
pub(super) fn process_file(ended: bool) -> io::Result<()> {
    let mut other = super::processes::child("nothing")?;
    open(format!("/proc/{}/stat", other.id()), libc::O_RDONLY)?;
    if ended {
        other.kill()?;
        other.wait()?;
    }
    Ok(())
}

pub(super) fn locks() -> io::Result<()> {
    const F_OFD_SETLK: i32 = 37;
    let file = open("/tmp/flock", libc::O_RDWR | libc::O_CREAT)?;
    call("flock", libc::SYS_flock, &[file, word(libc::LOCK_EX)])?;
    // struct flock: type, whence, start, length, pid.
    let mut lock = [0_u8; 32];
    lock[..2].copy_from_slice(&(libc::F_WRLCK as u16).to_ne_bytes());
    lock[16] = 8;
    for (name, command) in [("/tmp/posix-lock", libc::F_SETLK), ("/tmp/ofd-lock", F_OFD_SETLK)] {
        let file = open(name, libc::O_RDWR | libc::O_CREAT)?;
        call("fcntl", libc::SYS_fcntl, &[file, word(command), lock.as_ptr() as usize])?;
    }
    Ok(())
}

pub(super) fn lease() -> io::Result<()> {
    fs::write("/tmp/leased", "x")?;
    let file = open("/tmp/leased", libc::O_RDONLY)?;
    call("fcntl", libc::SYS_fcntl, &[file, word(libc::F_SETLEASE), word(libc::F_RDLCK)]).map(drop)
}

/// An inotify watch on what is there, or is made.
pub(super) fn inotify(watched: &str, made: bool) -> io::Result<()> {
    if made && watched.ends_with('/') {
        fs::create_dir_all(watched)?;
    } else if made {
        fs::write(watched, "x")?;
    }
    let notify = call("inotify_init", libc::SYS_inotify_init1, &[word(libc::IN_NONBLOCK)])?;
    let name = path(watched);
    let mask = (libc::IN_MODIFY | libc::IN_CREATE) as usize;
    call("inotify_add_watch", libc::SYS_inotify_add_watch, &[notify, name.as_ptr() as usize, mask]).map(drop)
}

pub(super) fn inotify_empty() -> io::Result<()> {
    call("inotify_init", libc::SYS_inotify_init1, &[0]).map(drop)
}

/// A watch on a file that is gone.
pub(super) fn inotify_deleted() -> io::Result<()> {
    fs::write("/tmp/watched-gone", "x")?;
    let held = open("/tmp/watched-gone", libc::O_RDONLY)?;
    let _ = held;
    inotify("/tmp/watched-gone", false)?;
    fs::remove_file("/tmp/watched-gone")
}

pub(super) fn fanotify(watched: &str, whole_mount: bool) -> io::Result<()> {
    const FAN_MARK_ADD: usize = 1;
    const FAN_MARK_MOUNT: usize = 0x10;
    let notify = call("fanotify_init", libc::SYS_fanotify_init, &[0, word(libc::O_RDONLY)])?;
    if !Path::new(watched).exists() {
        fs::write(watched, "x")?;
    }
    let name = path(watched);
    let flags = FAN_MARK_ADD | if whole_mount { FAN_MARK_MOUNT } else { 0 };
    // FAN_OPEN
    let arguments = [notify, flags, 0x20, word(libc::AT_FDCWD), name.as_ptr() as usize];
    call("fanotify_mark", libc::SYS_fanotify_mark, &arguments).map(drop)
}
