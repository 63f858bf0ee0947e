//! Mounts that a service makes itself.

use std::fs;
use std::io;

use super::system::{call, open, path};

/// Mounts a file system.
pub(super) fn mount(kind: &str, target: &str, options: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let (name, place, data) = (path(kind), path(target), path(options));
    let arguments =
        [name.as_ptr() as usize, place.as_ptr() as usize, name.as_ptr() as usize, 0, data.as_ptr() as usize];
    call("mount", libc::SYS_mount, &arguments).map(drop)
}

/// A folder of the container that is seen at a second place too.
pub(super) fn bind() -> io::Result<()> {
    fs::create_dir_all("/tmp/one")?;
    fs::create_dir_all("/tmp/two")?;
    let (one, two) = (path("/tmp/one"), path("/tmp/two"));
    let arguments = [one.as_ptr() as usize, two.as_ptr() as usize, 0, libc::MS_BIND as usize, 0];
    call("mount", libc::SYS_mount, &arguments).map(drop)
}

/// A file system that no process serves.
pub(super) fn fuse() -> io::Result<()> {
    let device = super::descriptors::made_device("/tmp/fuse-device", libc::S_IFCHR, 10, 229, libc::O_RDWR)?;
    mount("fuse", "/tmp/fuse", &format!("fd={device},rootmode=40000,user_id=0,group_id=0"))
}

/// An overlay on folders in memory.
pub(super) fn overlay() -> io::Result<()> {
    mount("tmpfs", "/tmp/layers", "")?;
    for folder in ["lower", "upper", "work"] {
        fs::create_dir_all(format!("/tmp/layers/{folder}"))?;
    }
    let options = "lowerdir=/tmp/layers/lower,upperdir=/tmp/layers/upper,workdir=/tmp/layers/work";
    mount("overlay", "/tmp/overlay", options)
}

/// An open file on a mount that another one covers.
pub(super) fn covered() -> io::Result<()> {
    mount("tmpfs", "/tmp/covered", "")?;
    open("/tmp/covered/file", libc::O_RDWR | libc::O_CREAT)?;
    mount("tmpfs", "/tmp/covered", "")
}
