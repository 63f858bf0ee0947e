//! The images of a simulated service: files with CRIU's names, which the real transfer follows and the destination checks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use mose_transfer::PAGE;
use serde::{Deserialize, Serialize};

use crate::memory::Pages;

/// Says what wrote the images.
const INVENTORY: &[u8] = b"MOSE simulated images 1\n";
/// The largest of the small files.
const SMALL: u64 = 64 << 10;
/// Pages that are written, and read, at once.
const PIECE: u64 = 256;

/// What a dump says of a service beside its pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Core {
    /// The service.
    pub(crate) service: String,
    /// How many pages it has.
    pub(crate) pages: u64,
    /// How many writes it had made.
    pub(crate) writes: u64,
    /// Its TCP connections.
    pub(crate) connections: u32,
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

/// Writes the images of a service that stands still. `pace` is told which part of the pages is written, and may wait.
pub(crate) fn write(folder: &Path, core: &Core, pages: &Pages, mut pace: impl FnMut(f64)) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut content = create(&folder.join("pages-1.img"))?;
    let (mut piece, mut page) = (Vec::with_capacity(PIECE as usize * PAGE), [0; PAGE]);
    let mut next = 0;
    while next < pages.count {
        piece.clear();
        for number in next..(next + PIECE).min(pages.count) {
            pages.fill(number, core.writes, &mut page);
            piece.extend_from_slice(&page);
        }
        content.write_all(&piece)?;
        next += PIECE;
        pace((next as f64 / pages.count as f64).min(1.0));
    }
    create(&folder.join("pagemap-1.img"))?.write_all(&pages.count.to_le_bytes())?;
    create(&folder.join("core-1.img"))?.write_all(&serde_json::to_vec(core)?)?;
    create(&folder.join("inventory.img"))?.write_all(INVENTORY)
}

fn small(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(SMALL).read_to_end(&mut bytes)).map_err(unreadable)?;
    Ok(bytes)
}

/// Puts an older version of a page in the place of the right one, as if a write had been missed. Whether there is such a page.
pub(crate) fn make_stale(folder: &Path, truth: &Core, pages: &Pages) -> io::Result<bool> {
    let written = (0..pages.count).find(|page| pages.version(*page, truth.writes) > 0);
    let Some(page) = written else { return Ok(false) };
    let mut older = [0; PAGE];
    pages.fill(page, 0, &mut older);
    let file = OpenOptions::new().write(true).open(folder.join("pages-1.img"))?;
    file.write_all_at(&older, page * PAGE as u64)?;
    Ok(true)
}

/// Reads images back and compares every page with what the service is, as `truth` says. What differs is named.
pub(crate) fn check(folder: &Path, truth: &Core, pages: &Pages) -> Result<(), String> {
    if small(&folder.join("inventory.img"))? != INVENTORY {
        return Err("the inventory is of other images".to_owned());
    }
    let core: Core = serde_json::from_slice(&small(&folder.join("core-1.img"))?)
        .map_err(|error| format!("core-1.img: {error}"))?;
    if core != *truth {
        return Err(format!("the images are of {core:?}, and the service is {truth:?}"));
    }
    if small(&folder.join("pagemap-1.img"))? != pages.count.to_le_bytes() {
        return Err(format!("pagemap-1.img does not tell of {} pages", pages.count));
    }
    let path = folder.join("pages-1.img");
    let unreadable = |error: io::Error| format!("{}: {error}", path.display());
    let length = fs::metadata(&path).map_err(unreadable)?.len();
    if length != pages.count * PAGE as u64 {
        return Err(format!("pages-1.img has {length} bytes, and {} pages belong there", pages.count));
    }
    let mut content =
        io::BufReader::with_capacity(PIECE as usize * PAGE, File::open(&path).map_err(unreadable)?);
    let (mut found, mut right) = ([0; PAGE], [0; PAGE]);
    for number in 0..pages.count {
        content.read_exact(&mut found).map_err(unreadable)?;
        pages.fill(number, truth.writes, &mut right);
        if found != right {
            let version = found[8..16].try_into().map_or(0, u64::from_le_bytes);
            return Err(format!(
                "page {number} is corrupted or stale: it says that it is version {version}, and version {} is right",
                pages.version(number, truth.writes)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped() -> (tempfile::TempDir, Core, Pages) {
        let folder = tempfile::tempdir().unwrap();
        let pages = Pages::new(5, 700, 300);
        let core = Core { service: "web".into(), pages: 700, writes: 1000, connections: 1 };
        let mut told = Vec::new();
        write(&folder.path().join("checkpoint"), &core, &pages, |part| told.push(part)).unwrap();
        assert!(told.is_sorted() && told.last() == Some(&1.0), "{told:?}");
        (folder, core, pages)
    }

    #[test]
    fn what_was_written_is_found_right() {
        let (folder, core, pages) = dumped();
        check(&folder.path().join("checkpoint"), &core, &pages).unwrap();
    }

    #[test]
    fn a_stale_page_is_a_corruption_that_is_named() {
        let (folder, core, pages) = dumped();
        let folder = folder.path().join("checkpoint");
        let mut stale = [0; PAGE];
        pages.fill(17, core.writes - 300, &mut stale);
        let file = OpenOptions::new().write(true).open(folder.join("pages-1.img")).unwrap();
        file.write_all_at(&stale, 17 * PAGE as u64).unwrap();
        let complaint = check(&folder, &core, &pages).unwrap_err();
        assert!(complaint.starts_with("page 17 is corrupted or stale"), "{complaint}");
        assert!(make_stale(&folder, &core, &pages).unwrap());
        assert!(check(&folder, &core, &pages).unwrap_err().starts_with("page 0 is corrupted or stale"));
    }

    #[test]
    fn images_of_an_earlier_moment_or_cut_short_are_refused() {
        let (folder, core, pages) = dumped();
        let folder = folder.path().join("checkpoint");
        let later = Core { writes: core.writes + 1, ..core.clone() };
        assert!(check(&folder, &later, &pages).unwrap_err().contains("the images are of"));
        OpenOptions::new().write(true).open(folder.join("pages-1.img")).unwrap().set_len(4096).unwrap();
        assert!(check(&folder, &core, &pages).unwrap_err().contains("has 4096 bytes"));
        fs::remove_file(folder.join("inventory.img")).unwrap();
        assert!(check(&folder, &core, &pages).unwrap_err().contains("inventory.img"));
    }
}
