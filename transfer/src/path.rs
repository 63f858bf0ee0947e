//! Relative paths that cannot leave their folder: the only kind of path that the wire may bring.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::TransferError;

/// The kernel's limit for a whole path.
const MAX_PATH: usize = 4096;
/// The kernel's limit for one name.
const MAX_NAME: usize = 255;

/// A path below a folder, in bytes: no root, no `..`, no `.`, no empty name. The empty path is the folder itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct RelPath(Vec<u8>);

impl RelPath {
    /// Checks what came from the wire, or from a scan.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, TransferError> {
        let refuse = |reason| {
            Err(TransferError::Path { path: Path::new(OsStr::from_bytes(bytes)).to_owned(), reason })
        };
        if bytes.len() >= MAX_PATH {
            return refuse("it is longer than 4095 bytes");
        }
        if bytes.contains(&0) {
            return refuse("it contains a zero byte");
        }
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        for name in bytes.split(|b| *b == b'/') {
            match name {
                b"" => return refuse("it is absolute or has an empty name"),
                b"." | b".." => return refuse("it has a name `.` or `..`"),
                _ if name.len() > MAX_NAME => return refuse("a name in it is longer than 255 bytes"),
                _ => {}
            }
        }
        Ok(Self(bytes.to_owned()))
    }

    pub(crate) fn join(&self, name: &OsStr) -> Result<Self, TransferError> {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name.as_bytes());
        Self::parse(&bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder it lies in, and its name there; `None` for the folder itself.
    pub(crate) fn split(&self) -> Option<(Self, &OsStr)> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => (Self(self.0[..at].to_owned()), OsStr::from_bytes(&self.0[at + 1..])),
            None => (Self::default(), OsStr::from_bytes(&self.0)),
        })
    }

    /// The name in the folder itself that it is, or lies below.
    pub(crate) fn first(&self) -> Option<&OsStr> {
        self.0.split(|b| *b == b'/').next().filter(|name| !name.is_empty()).map(OsStr::from_bytes)
    }

    /// Whether it is `folder` or lies below it.
    pub(crate) fn is_within(&self, folder: &Self) -> bool {
        folder.is_root()
            || self.0.strip_prefix(folder.bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_path().display().fmt(f)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_path(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_would_leave_their_folder_are_refused() {
        let long = "x".repeat(256);
        for bad in ["/etc/passwd", "..", "a/../b", "a/..", "./a", "a//b", "a/", "a\0b", "/", long.as_str()] {
            assert!(RelPath::parse(bad.as_bytes()).is_err(), "{bad:?} was accepted");
        }
        assert!(RelPath::parse("x/".repeat(2100).as_bytes()).is_err());
    }

    #[test]
    fn ordinary_paths_are_accepted_whatever_their_bytes() {
        for good in [&b"a"[..], b"a/b/c", b"..a", b"a/b..", b"\xff\xfe", b"", b"name with \n newline"] {
            assert_eq!(RelPath::parse(good).unwrap().bytes(), good);
        }
    }

    #[test]
    fn splitting_gives_folder_and_name() {
        let path = RelPath::parse(b"a/b/c").unwrap();
        let (folder, name) = path.split().unwrap();
        assert_eq!((folder.bytes(), name.as_bytes()), (&b"a/b"[..], &b"c"[..]));
        assert!(path.is_within(&folder) && !folder.is_within(&path));
    }
}
