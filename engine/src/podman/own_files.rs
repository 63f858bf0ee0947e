//! The files that Podman makes for a container and mounts into it: `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`, and where it
//! needs them `/etc/passwd` and `/etc/group`.
//!
//! Podman makes the first two anew whenever it restores, by what it knows of the network there; but the service goes on with
//! what it had, and may have written to them itself. So they are sent as part of its state; and before Podman is asked to restore
//! they are kept, and put back when Podman is done with them, right before CRIU looks. A later restart makes them anew as ever.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::PathBuf;

use nix::fcntl::OFlag;
use serde_json::Value;

use super::inspect::is_own;
use crate::StateTree;

/// The largest of them that is kept, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where in a container they are.
const PLACES: [&str; 5] = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/passwd", "/etc/group"];

/// Such files of the container `id`, by its OCI configuration: where they are in the container, and on the host.
fn found(runtime: &Value, id: &str) -> impl Iterator<Item = (&'static str, PathBuf)> {
    PLACES.iter().filter_map(move |place| {
        let mut mounts = runtime["mounts"].as_array()?.iter();
        let mount = mounts.find(|mount| mount["destination"] == *place)?;
        let path = PathBuf::from(mount["source"].as_str()?);
        is_own(&path, id).then_some((*place, path))
    })
}

/// Where on the host such files of the container `id` lie.
pub(super) fn places(runtime: &Value, id: &str) -> Vec<PathBuf> {
    found(runtime, id).map(|(_, path)| path).collect()
}

/// The same as trees of its state, one for each folder that they lie in.
pub(super) fn trees(runtime: &Value, id: &str) -> Vec<StateTree> {
    let mut folders: BTreeMap<PathBuf, (Vec<&str>, Vec<OsString>)> = BTreeMap::new();
    for (place, path) in found(runtime, id) {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let (places, names) = folders.entry(folder.to_owned()).or_default();
        places.push(place);
        names.push(name.to_owned());
    }
    let tree = |(path, (places, names)): (PathBuf, (Vec<&str>, _))| StateTree {
        name: places.join(" "),
        path,
        only: Some(names),
        until_gone: false,
    };
    folders.into_iter().map(tree).collect()
}

/// Files as they were.
#[derive(Debug)]
pub(super) struct Kept(Vec<File>);

#[derive(Debug)]
struct File {
    path: PathBuf,
    content: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
}

/// Keeps files in memory; one that is not there is passed over.
pub(super) fn keep(paths: Vec<PathBuf>) -> io::Result<Kept> {
    let mut kept = Vec::new();
    for path in paths {
        let file = match OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return Err(io::Error::other(format!(
                "{} is no file of at most {MAX_FILE} bytes",
                path.display()
            )));
        }
        let mut content = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut content)?;
        let (mode, owner) = (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()));
        kept.push(File { path, content, mode, owner });
    }
    Ok(Kept(kept))
}

impl Kept {
    /// Puts them back as they were, in the files that are there now: those may be mounted.
    pub(super) fn put_back(self) -> io::Result<()> {
        self.0.into_iter().try_for_each(File::put_back)
    }
}

impl File {
    fn put_back(self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&self.path)?;
        file.set_len(0)?;
        file.write_all(&self.content)?;
        fchown(&file, Some(self.owner.0), Some(self.owner.1))?;
        fs::set_permissions(&self.path, Permissions::from_mode(self.mode))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn only_podmans_own_files_are_found() {
        let runtime = json!({"mounts": [
            {"destination": "/etc/hosts", "source": "/run/c/1a/userdata/hosts"},
            {"destination": "/etc/resolv.conf", "source": "/srv/resolv.conf"},
            {"destination": "/run/secrets/token", "source": "/run/c/1a/userdata/secrets/token"},
            {"destination": "/proc", "source": "proc"},
        ]});
        assert_eq!(places(&runtime, "1a"), [Path::new("/run/c/1a/userdata/hosts")]);
    }

    #[test]
    fn a_file_is_put_back_as_it_was_where_it_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "a line of the service").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let kept = keep(vec![path.clone(), folder.path().join("none")]).unwrap();
        fs::write(&path, "made anew, and longer than before").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        kept.put_back().unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a line of the service");
        assert_eq!((after.ino(), after.mode() & 0o7777), (inode, 0o600));
        assert!(!folder.path().join("none").exists());
    }

    #[test]
    fn what_is_no_small_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        fs::File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(keep(vec![large]).is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(keep(vec![link]).is_err());
    }
}
