//! Files that have no name any more, or lost it to another file, and are still open or mapped.
//!
//! CRIU opens such a file by its old name, under which it puts it for a moment. Where another file has that name, it takes a second one,
//! and notes it in memory that all restored processes share; but it takes the note back only when the next process may begin
//! (`open_path` in `criu/files-reg.c`, CRIU 4.2: `orig_path` is put back after the lock is given up). Where several processes have such
//! a file, as after an upgrade of a library, now and then one of them finds the note, which means nothing to it, and the restore fails:
//! `Can't link …`. So such a file is given a free name, of the same length, beforehand.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::entries::{self, Patch};
use super::field::{fields, message, number};

/// `remap_file_path_entry` (`remap-file-path.proto`): the file, and how it is come by.
const ORIGINAL: u64 = 1;
const KIND: u64 = 3;
/// `LINKED`: another name of it is left. `GHOST`: CRIU kept its content.
const LINKED: u64 = 0;
const GHOST: u64 = 1;

/// `file_entry` (`fdinfo.proto`) of a regular file, and `reg_file_entry` (`regfile.proto`).
const TYPE: u64 = 1;
const REGULAR: u64 = 1;
const REG: u64 = 3;
const ID: u64 = 1;
const NAME: u64 = 6;

/// What the last letter of a name is exchanged for.
const INSTEAD: &[u8] = b"~^%+@=";

/// Gives files in the images in a folder a free name; how many were given one. `taken` says of a path in the container whether it is.
pub(super) fn mend(images: &Path, taken: &dyn Fn(&Path) -> bool) -> io::Result<u32> {
    let remapped = RefCell::new(HashSet::new());
    entries::mend(&images.join("remap-fpath.img"), entries::REMAP_FPATH, |entry| {
        remapped.borrow_mut().extend(original(entry));
        Vec::new()
    })?;
    let remapped = remapped.into_inner();
    if remapped.is_empty() {
        return Ok(0);
    }
    let files = images.join("files.img");
    entries::mend(&files, entries::FILES, |entry| renamed(entry, &remapped, taken).into_iter().collect())
}

/// The file that an entry of `remap-fpath.img` is about, if it is opened by its old name.
fn original(entry: &[u8]) -> Option<u64> {
    let remap = fields(entry)?;
    let kind = number(&remap, KIND).map_or(GHOST, |(kind, _)| kind);
    matches!(kind, LINKED | GHOST).then(|| number(&remap, ORIGINAL).map(|(id, _)| id))?
}

/// What is to be changed in an entry of `files.img`.
fn renamed(entry: &[u8], remapped: &HashSet<u64>, taken: &dyn Fn(&Path) -> bool) -> Option<Patch> {
    let file = fields(entry)?;
    if number(&file, TYPE)?.0 != REGULAR {
        return None;
    }
    let (bytes, begin) = message(&file, REG)?;
    let regular = fields(bytes)?;
    if !remapped.contains(&number(&regular, ID)?.0) {
        return None;
    }
    let (name, name_at) = message(&regular, NAME)?;
    let name = std::str::from_utf8(name).ok()?;
    let (&last, rest) = name.as_bytes().split_last()?;
    // A letter of several bytes is not taken apart.
    if !last.is_ascii() || last == b'/' || !taken(Path::new(name)) {
        return None;
    }
    let rest = std::str::from_utf8(rest).ok()?;
    let free = |byte: &&u8| **byte != last && !taken(Path::new(&format!("{rest}{}", char::from(**byte))));
    let byte = *INSTEAD.iter().find(free)?;
    Some(Patch { at: begin + name_at + rest.len(), byte })
}

#[cfg(test)]
mod tests {
    use super::super::written::{bytes_field, numbers};
    use super::*;

    fn file(id: u64, name: &str) -> Vec<u8> {
        let regular =
            [numbers(&[(1, id), (2, 0), (3, 0)]), bytes_field(6, name.as_bytes()), numbers(&[(7, 452)])];
        [numbers(&[(1, REGULAR), (2, id)]), bytes_field(3, &regular.concat())].concat()
    }

    fn image(folder: &Path, name: &str, magic: u32, entries: &[Vec<u8>]) {
        let mut bytes = [0x5456_4319_u32.to_le_bytes(), magic.to_le_bytes()].concat();
        for entry in entries {
            bytes.extend((entry.len() as u32).to_le_bytes());
            bytes.extend(entry);
        }
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    fn names(folder: &Path) -> String {
        String::from_utf8_lossy(&std::fs::read(folder.join("files.img")).unwrap()).into_owned()
    }

    #[test]
    fn a_file_whose_name_another_has_is_given_a_free_one_and_no_other_is() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let files =
            [file(5, "/lib/libc.so.6"), file(6, "/lib/libc.so.6"), file(7, "/tmp/gone"), file(8, "/bin/sh")];
        image(folder, "files.img", entries::FILES, &files);
        // The sixth is the new one, which is no ghost; the seventh's name is free; the eighth is there.
        let remaps =
            [(5, GHOST), (7, LINKED), (8, 2)].map(|(id, kind)| numbers(&[(1, id), (2, 1), (3, kind)]));
        image(folder, "remap-fpath.img", entries::REMAP_FPATH, &remaps);
        let taken = |path: &Path| {
            ["/lib/libc.so.6", "/lib/libc.so.~", "/bin/sh"].iter().any(|taken| path == Path::new(taken))
        };
        let before = names(folder);
        assert_eq!(mend(folder, &taken).unwrap(), 1);
        let after = names(folder);
        assert_eq!(after.len(), before.len());
        assert_eq!(after.replacen("/lib/libc.so.^", "/lib/libc.so.6", 1), before);
        assert_eq!(mend(folder, &taken).unwrap(), 0, "once is enough");
    }

    #[test]
    fn images_without_such_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        image(folder.path(), "files.img", entries::FILES, &[file(5, "/lib/libc.so.6")]);
        assert_eq!(mend(folder.path(), &|_| true).unwrap(), 0);
    }
}
