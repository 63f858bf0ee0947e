//! Work below a folder that no symbolic link can lead out of.
//!
//! At the destination the wire says which links exist, and at the source the running container may swap a folder for a
//! link under the reader: so every path is resolved by the kernel with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use super::error::TransferError;
use super::frame::{Kind, MAX_XATTRS, Meta, Xattrs};
use super::path::RelPath;

/// An open folder, and the paths below it.
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    /// The folder that the last path lay in: most paths share it with the one before.
    last: Option<(RelPath, Arc<OwnedFd>)>,
}

impl Folder {
    /// Opens a folder that this host's agent chose.
    pub(crate) fn open(path: &Path) -> Result<Self, TransferError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd =
            open(path, flags, Mode::empty()).map_err(|e| TransferError::io("open the folder", path, e))?;
        Ok(Self { fd, path: path.to_owned(), last: None })
    }

    /// For messages.
    pub(crate) fn full(&self, path: &RelPath) -> PathBuf {
        if path.is_root() { self.path.clone() } else { self.path.join(path.as_path()) }
    }

    pub(crate) fn error(&self, doing: &'static str, path: &RelPath, errno: Errno) -> TransferError {
        TransferError::io(doing, self.full(path), errno)
    }

    /// Forgets open folders, after something was removed or replaced.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    pub(crate) fn open_at(&self, path: &RelPath, flags: OFlag, mode: u32) -> Result<OwnedFd, Errno> {
        let path = if path.is_root() { Path::new(".") } else { path.as_path() };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
            .mode(Mode::from_bits_truncate(mode))
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            );
        loop {
            match openat2(&self.fd, path, how) {
                // Some rename on the machine raced with the check; the kernel asks to try again.
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
        }
    }

    /// The open folder that `path` lies in, and its name there. The root lies in itself, as `.`.
    pub(crate) fn place(&mut self, path: &RelPath) -> Result<Place, Errno> {
        let (parent, name) = path.split().unwrap_or((RelPath::default(), OsStr::new(".")));
        let name = name.to_owned();
        if let Some((known, fd)) = &self.last
            && *known == parent
        {
            return Ok(Place { fd: Arc::clone(fd), name });
        }
        let fd = Arc::new(self.open_at(&parent, OFlag::O_PATH | OFlag::O_DIRECTORY, 0)?);
        self.last = Some((parent, Arc::clone(&fd)));
        Ok(Place { fd, name })
    }

    /// The names in a folder, sorted.
    pub(crate) fn names(&self, path: &RelPath) -> Result<Vec<OsString>, Errno> {
        let fd = self.open_at(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
        names_of(fd.as_fd())
    }

    /// Opens a file for reading, and nothing that would block or act when opened.
    pub(crate) fn read(&self, path: &RelPath) -> Result<File, Errno> {
        self.open_at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0).map(File::from)
    }
}

/// Writes what is dirty of a folder's file system to its disk (syncfs(2)). Blocks for as long as that takes.
///
/// # Errors
/// Where the folder cannot be opened, or its disk fails.
pub fn write_back(folder: &Path) -> std::io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(folder)?)?)
}

/// The names in an open folder, sorted.
pub(crate) fn names_of(fd: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let errno = |e: std::io::Error| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let mut names = Vec::new();
    for entry in fs::read_dir(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(errno)? {
        names.push(entry.map_err(errno)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// A name in an open folder.
pub(crate) struct Place {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) name: OsString,
}

impl Place {
    pub(crate) fn stat(&self) -> Result<FileStat, Errno> {
        fstatat(&*self.fd, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// A path for calls that know no folder descriptors; it resolves no link but the kernel's own for the descriptor.
    pub(crate) fn proc_path(&self) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.fd.as_raw_fd())).join(&self.name)
    }

    /// Kind and metadata, or `None` for what has no copy: a device or an unknown thing.
    pub(crate) fn describe(&self, stat: &FileStat) -> Result<Option<(Kind, Meta)>, Errno> {
        let kind = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => Kind::Dir,
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFLNK => {
                Kind::Symlink(readlinkat(&*self.fd, self.name.as_os_str())?.as_bytes().to_owned())
            }
            SFlag::S_IFIFO => Kind::Fifo,
            SFlag::S_IFSOCK => Kind::Socket,
            SFlag::S_IFCHR if stat.st_rdev == 0 => Kind::Whiteout,
            _ => return Ok(None),
        };
        let meta = Meta {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            xattrs: self.xattrs()?,
        };
        Ok(Some((kind, meta)))
    }

    /// The extended attributes that move with a file, in the order of their names.
    pub(crate) fn xattrs(&self) -> Result<Xattrs, Errno> {
        let errno = |e: std::io::Error| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let path = self.proc_path();
        let names = match xattr::list(&path) {
            Ok(names) => names,
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
            Err(e) => return Err(errno(e)),
        };
        let mut found = Vec::new();
        let mut total = 0;
        for name in names.filter(|name| moves(name.as_bytes())) {
            if let Some(value) = xattr::get(&path, &name).map_err(errno)? {
                total += name.len() + value.len();
                found.push((name.as_bytes().to_owned(), value));
            }
        }
        found.sort();
        if total > MAX_XATTRS { Err(Errno::E2BIG) } else { Ok(found) }
    }
}

/// Whether an extended attribute means the same on another host. Overlayfs' `origin`, `impure`, `nlink`, `upper` and `uuid`
/// point to inodes and file systems of this one.
pub(crate) fn moves(name: &[u8]) -> bool {
    if let Some(own) = name.strip_prefix(b"trusted.overlay.").or(name.strip_prefix(b"user.overlay.")) {
        return matches!(own, b"opaque" | b"redirect" | b"metacopy" | b"whiteout" | b"protattr");
    }
    name.starts_with(b"user.")
        || name.starts_with(b"security.")
        || matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
}
