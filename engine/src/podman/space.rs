//! What files take on the disk, and whether there is room for them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mose_pam::Bytes;
use mose_protocol::{Refusal, RefusalCode};

/// What has to stay free on the disk beside what comes: the service goes on writing.
const RESERVE: u64 = 64 << 20;

/// What the files below a folder take on its disk, and how many things there are. What vanishes meanwhile is left out.
pub(super) fn taken(folder: &Path) -> io::Result<(Bytes, u64)> {
    let (mut bytes, mut entries) = (0, 0);
    let mut seen = HashSet::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        let list = match fs::read_dir(&folder) {
            Ok(list) => list,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in list.flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            entries += 1;
            if metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.blocks() * 512;
            }
            if metadata.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok((Bytes(bytes), entries))
}

/// Refuses what does not fit on the disk of `folder`.
pub(super) fn check(folder: &Path, needed: Bytes) -> Result<(), Refusal> {
    let Ok(disk) = nix::sys::statvfs::statvfs(folder) else { return Ok(()) };
    let free = disk.blocks_available() * disk.fragment_size();
    if free >= needed.0.saturating_add(RESERVE) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::Capability,
        format!(
            "the volumes take {needed}, and {} has {} free; {} have to stay free",
            folder.display(),
            Bytes(free),
            Bytes(RESERVE)
        ),
        "make room there",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_takes_its_room_once_and_a_hole_takes_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(at("a"), at("b")).unwrap();
        fs::File::create(at("hole")).unwrap().set_len(1 << 30).unwrap();
        let (bytes, entries) = taken(folder.path()).unwrap();
        assert_eq!(entries, 3);
        assert!((1 << 20..2 << 20).contains(&bytes.0), "{bytes}");
    }

    #[test]
    fn more_than_the_disk_has_is_refused_with_both_figures() {
        assert!(check(Path::new("/"), Bytes(u64::MAX / 2)).unwrap_err().reason.contains("free"));
        assert!(check(&std::env::temp_dir(), Bytes(1)).is_ok());
    }
}
