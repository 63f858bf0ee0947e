//! The destination's file system work: puts what arrived below its folder, exactly, and never outside it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use super::error::TransferError;
use super::folder::{Folder, Place, moves, names_of};
use super::frame::{Entry, Kind, Meta, Section};
use super::manifest::{Item, Manifest};
use super::path::RelPath;

/// One of the destination's folders, being filled.
pub(crate) struct Tree {
    folder: Folder,
    section: Section,
    /// Where only some names in the folder belong to the tree: those.
    only: Option<BTreeSet<OsString>>,
    /// What was made or changed since it was last read back, and the folders in which something was.
    unverified: BTreeSet<RelPath>,
    touched: BTreeSet<RelPath>,
}

impl Tree {
    pub(crate) fn open(
        path: &Path,
        section: Section,
        only: Option<&[OsString]>,
    ) -> Result<Self, TransferError> {
        Ok(Self {
            folder: Folder::open(path)?,
            section,
            only: only.map(|names| names.iter().cloned().collect()),
            unverified: BTreeSet::new(),
            touched: BTreeSet::new(),
        })
    }

    /// Refuses what does not belong to the tree, and notes that `path` is changed.
    fn touch(&mut self, path: &RelPath) -> Result<(), TransferError> {
        if let Some(only) = &self.only
            && !path.first().is_some_and(|name| only.contains(name))
        {
            let reason = "it does not belong to what is expected in this folder";
            return Err(TransferError::Path { path: self.folder.full(path), reason });
        }
        if let Some((parent, _)) = path.split() {
            self.touched.insert(parent);
        }
        self.unverified.insert(path.clone());
        Ok(())
    }

    /// Opens a file that is there, to be changed in place.
    pub(crate) fn patch(&mut self, path: &RelPath) -> Result<File, TransferError> {
        self.touch(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK;
        self.folder.open_at(path, flags, 0).map(File::from).map_err(|e| self.folder.error("open", path, e))
    }

    /// Makes the entry, in place of whatever was there; for a file returns it open, empty and private.
    pub(crate) fn make(&mut self, path: &RelPath, entry: &Entry) -> Result<Option<File>, TransferError> {
        self.touch(path)?;
        if entry.kind == Kind::Dir {
            self.touched.insert(path.clone());
        }
        if path.is_root() {
            let reason = "the folder itself can only be a folder";
            let refused = TransferError::Path { path: self.folder.full(path), reason };
            return if entry.kind == Kind::Dir { Ok(None) } else { Err(refused) };
        }
        self.check_kind(path, &entry.kind)?;
        let place = self.place(path)?;
        let made = self.try_make(&place, entry);
        let made = match made {
            Err(Errno::EEXIST) if entry.kind == Kind::Dir && is_dir(&place) => return Ok(None),
            Err(Errno::EEXIST) => {
                self.folder.forget();
                remove(&place).map_err(|e| self.folder.error("replace", path, e))?;
                self.try_make(&place, entry)
            }
            made => made,
        };
        let file = made.map_err(|e| self.folder.error("make", path, e))?;
        if self.is_tree() && !matches!(entry.kind, Kind::File | Kind::Dir | Kind::Link(_)) {
            self.settle(path, entry)?;
        }
        Ok(file)
    }

    /// What a checkpoint folder may hold: CRIU follows its `parent` links, so they have to stay near.
    fn check_kind(&self, path: &RelPath, kind: &Kind) -> Result<(), TransferError> {
        let refuse = |reason| Err(TransferError::Path { path: self.folder.full(path), reason });
        match (self.section, kind) {
            (Section::Tree(_), _) | (_, Kind::Dir | Kind::File) => Ok(()),
            (_, Kind::Symlink(target))
                if RelPath::parse(target.strip_prefix(b"../").unwrap_or(target)).is_ok() =>
            {
                Ok(())
            }
            (_, Kind::Symlink(_)) => {
                refuse("a link of a checkpoint must point to its own or a neighbouring folder")
            }
            _ => refuse("a checkpoint holds files, folders and links only"),
        }
    }

    fn try_make(&mut self, place: &Place, entry: &Entry) -> Result<Option<File>, Errno> {
        let name = place.name.as_os_str();
        let node = |kind| mknodat(&*place.fd, name, kind, Mode::from_bits_truncate(0o600), 0);
        match &entry.kind {
            Kind::Dir => mkdirat(&*place.fd, name, Mode::from_bits_truncate(0o700))?,
            Kind::File => {
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let mode = Mode::from_bits_truncate(0o600);
                return nix::fcntl::openat(&*place.fd, name, flags, mode).map(|fd| Some(File::from(fd)));
            }
            Kind::Symlink(target) => symlinkat(std::ffi::OsStr::from_bytes(target), &*place.fd, name)?,
            Kind::Fifo => node(SFlag::S_IFIFO)?,
            Kind::Socket => node(SFlag::S_IFSOCK)?,
            Kind::Whiteout => node(SFlag::S_IFCHR)?,
            Kind::Link(target) => {
                let (folder, target_name) = target.split().ok_or(Errno::EINVAL)?;
                let from = self.folder.open_at(&folder, OFlag::O_PATH | OFlag::O_DIRECTORY, 0)?;
                linkat(from, target_name, &*place.fd, name, AtFlags::empty())?;
            }
        }
        Ok(None)
    }

    /// Gives an entry its owner, mode, attributes and time. Last of all: chown clears set-uid bits and capabilities,
    /// a folder's time moves with each file in it.
    pub(crate) fn settle(&mut self, path: &RelPath, entry: &Entry) -> Result<(), TransferError> {
        let place = self.place(path)?;
        let Meta { mode, uid, gid, mtime, xattrs } = &entry.meta;
        let link = matches!(entry.kind, Kind::Symlink(_));
        let apply = || -> Result<(), (&'static str, Errno)> {
            let name = place.name.as_os_str();
            fchownat(
                &*place.fd,
                name,
                Some(Uid::from_raw(*uid)),
                Some(Gid::from_raw(*gid)),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .map_err(|e| ("set the owner of", e))?;
            if !link {
                let mode = Mode::from_bits_truncate(*mode);
                fchmodat(&*place.fd, name, mode, FchmodatFlags::NoFollowSymlink)
                    .map_err(|e| ("set the mode of", e))?;
            }
            set_xattrs(&place, xattrs).map_err(|e| ("set the attributes of", e))?;
            let time = TimeSpec::new(mtime.0, i64::from(mtime.1));
            utimensat(&*place.fd, name, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)
                .map_err(|e| ("set the time of", e))
        };
        apply().map_err(|(doing, e)| self.folder.error(doing, path, e))
    }

    /// Removes an entry and all that is below it; not being there is fine.
    pub(crate) fn remove(&mut self, path: &RelPath) -> Result<(), TransferError> {
        self.folder.forget();
        self.touch(path)?;
        if path.is_root() {
            return Err(TransferError::Path {
                path: self.folder.full(path),
                reason: "the folder itself stays",
            });
        }
        match self.folder.place(path).and_then(|place| remove(&place)) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(self.folder.error("remove", path, e)),
        }
    }

    const fn is_tree(&self) -> bool {
        matches!(self.section, Section::Tree(_))
    }

    /// Whether anything was made or changed since it was last made exact.
    pub(crate) fn has_changed(&self) -> bool {
        !self.touched.is_empty() || !self.unverified.is_empty()
    }

    /// Makes the folder an exact copy: what is in no manifest goes, folders get their metadata, and everything is read
    /// back; of what was found exact before, only what was changed since. `alive` is called now and then.
    pub(crate) fn complete(
        &mut self,
        manifest: &Manifest,
        mut alive: impl FnMut() -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        // A source that sends nothing of a tree leaves the folder as it is.
        if !self.has_changed() {
            return Ok(());
        }
        if self.is_tree() {
            self.prune(manifest, &mut alive)?;
            let folders: Vec<RelPath> = self.touched.iter().rev().cloned().collect();
            for path in &folders {
                if let Some(item) = manifest.get(self.section, path)
                    && item.entry.kind == Kind::Dir
                {
                    alive()?;
                    self.settle(path, &item.entry)?;
                }
            }
        }
        let mut changed = std::mem::take(&mut self.unverified);
        changed.append(&mut self.touched);
        for path in &changed {
            if let Some(item) = manifest.get(self.section, path) {
                alive()?;
                self.verify(path, item)?;
            }
        }
        Ok(())
    }

    fn prune(
        &mut self,
        manifest: &Manifest,
        alive: &mut impl FnMut() -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        for name in self.only.clone().unwrap_or_default() {
            let path = RelPath::default().join(&name)?;
            if manifest.get(self.section, &path).is_none() {
                self.remove(&path)?;
            }
        }
        let folders: Vec<RelPath> = self.touched.iter().cloned().collect();
        for path in &folders {
            if !manifest.get(self.section, path).is_some_and(|item| item.entry.kind == Kind::Dir) {
                continue;
            }
            alive()?;
            for name in self.folder.names(path).map_err(|e| self.folder.error("list", path, e))? {
                let child = path.join(&name)?;
                if manifest.get(self.section, &child).is_none() {
                    self.remove(&child)?;
                }
            }
        }
        Ok(())
    }

    fn verify(&mut self, path: &RelPath, item: &Item) -> Result<(), TransferError> {
        let place = self.place(path)?;
        let stat = place.stat().map_err(|e| self.folder.error("find", path, e))?;
        let differs = |what: String| Err(TransferError::Verify { path: self.folder.full(path), what });
        let described = place.describe(&stat).map_err(|e| self.folder.error("read back", path, e))?;
        let Some((kind, meta)) = described else {
            return differs("it is a device".into());
        };
        if let Kind::Link(target) = &item.entry.kind {
            let target = self.folder.open_at(target, OFlag::O_PATH, 0).and_then(nix::sys::stat::fstat);
            let same = target.is_ok_and(|t| (t.st_dev, t.st_ino) == (stat.st_dev, stat.st_ino));
            return if same { Ok(()) } else { differs("it is not the same file as its other name".into()) };
        }
        if kind != item.entry.kind {
            return differs(format!("it is {kind:?} and should be {:?}", item.entry.kind));
        }
        if kind == Kind::File && stat.st_size.cast_unsigned() != item.size {
            return differs(format!("it has {} bytes and should have {}", stat.st_size, item.size));
        }
        if self.section == Section::Images {
            return Ok(());
        }
        let want = &item.entry.meta;
        let link = matches!(kind, Kind::Symlink(_));
        if (!link && meta.mode != want.mode) || (meta.uid, meta.gid) != (want.uid, want.gid) {
            return differs(format!("mode or owner is {:o} {}:{}", meta.mode, meta.uid, meta.gid));
        }
        if meta.mtime != want.mtime {
            return differs("its modification time was not kept".into());
        }
        // The destination may label files by itself, so what it has in addition is its own.
        match want.xattrs.iter().find(|pair| !meta.xattrs.contains(pair)) {
            Some((name, _)) => differs(format!("attribute {} was not kept", String::from_utf8_lossy(name))),
            None => Ok(()),
        }
    }

    fn place(&mut self, path: &RelPath) -> Result<Place, TransferError> {
        self.folder.place(path).map_err(|e| match e {
            Errno::ELOOP | Errno::EXDEV | Errno::ENOTDIR => TransferError::Path {
                path: self.folder.full(path),
                reason: "a link or a file lies where it needs a folder",
            },
            e => self.folder.error("reach", path, e),
        })
    }
}

fn is_dir(place: &Place) -> bool {
    place.stat().is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Sets what is wanted, and takes away what the file had from before.
fn set_xattrs(place: &Place, wanted: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Errno> {
    let errno = |e: std::io::Error| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let path = place.proc_path();
    let present = place.xattrs()?;
    for (name, _) in &present {
        let labelled_by_the_host = name.starts_with(b"security.") && name != b"security.capability";
        if !labelled_by_the_host && !wanted.iter().any(|(w, _)| w == name) {
            xattr::remove(&path, std::ffi::OsStr::from_bytes(name)).map_err(errno)?;
        }
    }
    for (name, value) in wanted {
        if !moves(name) {
            return Err(Errno::EPERM);
        }
        xattr::set(&path, std::ffi::OsStr::from_bytes(name), value).map_err(errno)?;
    }
    Ok(())
}

/// Removes a name and, if it is a folder, all that is below it; follows no links.
fn remove(place: &Place) -> Result<(), Errno> {
    let name = place.name.as_os_str();
    match unlinkat(&*place.fd, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) if is_dir(place) => {}
        result => return result,
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = std::sync::Arc::new(nix::fcntl::openat(&*place.fd, name, flags, Mode::empty())?);
    for name in names_of(std::os::fd::AsFd::as_fd(&*fd))? {
        remove(&Place { fd: std::sync::Arc::clone(&fd), name })?;
    }
    unlinkat(&*place.fd, name, UnlinkatFlags::RemoveDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn entry(kind: Kind) -> Entry {
        let stat = std::fs::metadata("/proc/self").unwrap();
        use std::os::unix::fs::MetadataExt;
        let meta = Meta { mode: 0o644, uid: stat.uid(), gid: stat.gid(), ..Meta::default() };
        Entry { kind, meta }
    }

    fn tree(section: Section) -> (tempfile::TempDir, std::path::PathBuf, Tree) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let tree = Tree::open(&inner, section, None).unwrap();
        (outer, inner, tree)
    }

    #[test]
    fn a_link_that_was_just_received_is_not_followed() {
        let (outer, _, mut tree) = tree(Section::ROOTFS);
        for target in ["..", "/tmp", "sub"] {
            tree.make(&path("sub"), &entry(Kind::Dir)).unwrap();
            tree.make(&path("out"), &entry(Kind::Symlink(target.into()))).unwrap();
            let made = tree.make(&path("out/file"), &entry(Kind::File));
            assert!(matches!(made, Err(TransferError::Path { .. })), "{made:?}");
            assert!(tree.settle(&path("out/file"), &entry(Kind::File)).is_err());
            assert!(tree.remove(&path("out/file")).is_err());
            let link = tree.make(&path("hard"), &entry(Kind::Link(path("out/inner"))));
            assert!(link.is_err());
        }
        assert!(!outer.path().join("file").exists());
    }

    #[test]
    fn a_file_in_place_of_a_link_does_not_write_through_it() {
        let (outer, inner, mut tree) = tree(Section::ROOTFS);
        let secret = outer.path().join("secret");
        std::fs::write(&secret, "kept").unwrap();
        std::os::unix::fs::symlink(&secret, inner.join("file")).unwrap();
        tree.make(&path("file"), &entry(Kind::File)).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "kept");
        assert!(inner.join("file").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn the_folder_itself_can_be_neither_replaced_nor_removed() {
        let (_outer, inner, mut tree) = tree(Section::ROOTFS);
        assert!(tree.make(&RelPath::default(), &entry(Kind::File)).is_err());
        assert!(tree.remove(&RelPath::default()).is_err());
        assert!(inner.is_dir());
    }

    #[test]
    fn a_checkpoint_takes_no_far_links_and_no_nodes() {
        let (_outer, _, mut tree) = tree(Section::Images);
        tree.make(&path("parent"), &entry(Kind::Symlink(b"../pre-checkpoint".to_vec()))).unwrap();
        for kind in [
            Kind::Symlink(b"/etc".to_vec()),
            Kind::Symlink(b"../../etc".to_vec()),
            Kind::Symlink(b"a/../../b".to_vec()),
            Kind::Fifo,
            Kind::Whiteout,
            Kind::Link(path("parent")),
        ] {
            assert!(tree.make(&path("x"), &entry(kind)).is_err());
        }
    }

    #[test]
    fn files_are_private_until_they_are_settled_and_folders_give_way() {
        use std::os::unix::fs::PermissionsExt;
        let (_outer, inner, mut tree) = tree(Section::ROOTFS);
        tree.make(&path("a"), &entry(Kind::Dir)).unwrap();
        tree.make(&path("a/b"), &entry(Kind::Dir)).unwrap();
        tree.make(&path("a"), &entry(Kind::File)).unwrap().unwrap();
        let mode = |name: &str| inner.join(name).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("a"), 0o600);
        tree.settle(&path("a"), &entry(Kind::File)).unwrap();
        assert_eq!(mode("a"), 0o644);
    }
}
