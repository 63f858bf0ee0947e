//! The cgroup that CRIU restores into, on hosts with cgroup v2.
//!
//! CRIU's `cgroup.img` names the cgroup of the source's container, and on cgroup v2 CRIU makes that very cgroup again
//! instead of the one that runc gives it: the container's limits would not hold, and its next dump would fail, as
//! runc has CRIU freeze another cgroup than the one its tasks are in. Podman names a container's cgroup by its id, and
//! ids are equally long, so the name is exchanged in place. On cgroup v1 CRIU goes by runc's word, and nothing is done.

use std::fs;
use std::io;
use std::path::Path;

/// What Podman puts before a container's id in the name of its cgroup.
const PREFIX: &[u8] = b"libpod-";

/// The length of a container's id: hexadecimal digits.
const ID: usize = 64;

/// The largest `cgroup.img` that is looked at, in bytes.
const MAX_IMAGE: u64 = 16 << 20;

/// Makes images that were dumped from another container be restored into the cgroup of the container `id`.
pub(super) fn adopt(images: &Path, id: &str) -> io::Result<()> {
    if !Path::new("/sys/fs/cgroup/cgroup.procs").exists() {
        return Ok(());
    }
    let path = images.join("cgroup.img");
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.len() > MAX_IMAGE => {
            return Err(io::Error::other(format!("cgroup.img is larger than {MAX_IMAGE} bytes")));
        }
        Ok(_) => {}
    }
    let mut image = fs::read(&path)?;
    if rename(&mut image, id.as_bytes()) { fs::write(&path, image) } else { Ok(()) }
}

/// Puts `id` in the place of every other container's id after [`PREFIX`]; whether there was one.
fn rename(image: &mut [u8], id: &[u8]) -> bool {
    let mut changed = false;
    let mut at = 0;
    while at + PREFIX.len() + ID <= image.len() {
        let found = at + PREFIX.len();
        let is_name = image[at..found] == *PREFIX
            && image[found..found + ID].iter().all(u8::is_ascii_hexdigit)
            && id.len() == ID;
        if is_name && image[found..found + ID] != *id {
            image[found..found + ID].copy_from_slice(id);
            changed = true;
        }
        at += 1;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_name_is_exchanged_and_nothing_else() {
        let (old, new) = ("a".repeat(ID), "b".repeat(ID));
        let mut image = format!("x/libpod_parent/libpod-{old}/y libpod-short libpod-{old}").into_bytes();
        let length = image.len();
        assert!(rename(&mut image, new.as_bytes()));
        assert_eq!(image, format!("x/libpod_parent/libpod-{new}/y libpod-short libpod-{new}").into_bytes());
        assert_eq!(image.len(), length);
        assert!(!rename(&mut image, new.as_bytes()), "its own name stays");
    }
}
