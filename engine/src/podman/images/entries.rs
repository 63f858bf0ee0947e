//! The file format of CRIU's images (`criu/image.c`, `criu/protobuf.c`): two magic numbers, then entries, each a length of four
//! bytes, little-endian as on every machine that CRIU knows how to restore here, and a protobuf message.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Every image but those of CRIU's own bookkeeping begins with it.
const COMMON: u32 = 0x5456_4319;

/// `files.img`: one entry for each open file.
pub(super) const FILES: u32 = 0x5630_3138;

/// `core-TID.img`: one entry, for a thread.
pub(super) const CORE: u32 = 0x5505_3847;

/// `remap-fpath.img`: one entry for each file that cannot be opened by its name.
pub(super) const REMAP_FPATH: u32 = 0x5913_3954;

/// The largest entry that is looked into, in bytes; those of interest have less than a hundred, and a thread's some thousand.
const LARGEST: u32 = 64 << 10;

/// A byte to be exchanged: where in the message, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) at: usize,
    pub(super) byte: u8,
}

/// Has `look` look into each entry of the image at `path`, and changes what it says; how many entries were changed. An image that
/// is not there, or of another kind than `magic`, is none of our business.
pub(super) fn mend(path: &Path, magic: u32, look: impl Fn(&[u8]) -> Vec<Patch>) -> io::Result<u32> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file?,
    };
    let end = file.metadata()?.len();
    let mut reader = io::BufReader::new(&file);
    if end < 8 || word(&mut reader)? != COMMON || word(&mut reader)? != magic {
        return Ok(0);
    }
    let (mut at, mut mended) = (8, 0);
    let mut message = Vec::new();
    while at < end {
        let length = word(&mut reader)?;
        at += 4;
        if u64::from(length) > end.saturating_sub(at) {
            return Err(io::Error::other(format!("{} is cut short at byte {at}", path.display())));
        }
        if length <= LARGEST {
            message.resize(length as usize, 0);
            reader.read_exact(&mut message)?;
            let patches = look(&message);
            for patch in &patches {
                file.write_all_at(&[patch.byte], at + patch.at as u64)?;
            }
            mended += u32::from(!patches.is_empty());
        } else {
            reader.seek(SeekFrom::Current(i64::from(length)))?;
        }
        at += u64::from(length);
    }
    Ok(mended)
}

fn word(reader: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn image(magic: u32, entries: &[&[u8]]) -> Vec<u8> {
        let mut bytes = [COMMON.to_le_bytes(), magic.to_le_bytes()].concat();
        for entry in entries {
            bytes.extend(u32::try_from(entry.len()).unwrap().to_le_bytes());
            bytes.extend(*entry);
        }
        bytes
    }

    fn first_to_nine(message: &[u8]) -> Vec<Patch> {
        if message.first() == Some(&7) { vec![Patch { at: 0, byte: 9 }] } else { Vec::new() }
    }

    #[test]
    fn only_the_bytes_that_were_asked_for_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files.img");
        let large = vec![7; LARGEST as usize + 1];
        let before = image(FILES, &[&[7, 1], &[], &[1, 7], &large, &[7]]);
        fs::write(&path, &before).unwrap();
        assert_eq!(mend(&path, FILES, first_to_nine).unwrap(), 2);
        let after = fs::read(&path).unwrap();
        assert_eq!(after, image(FILES, &[&[9, 1], &[], &[1, 7], &large, &[9]]));
        assert_eq!(mend(&path, FILES, first_to_nine).unwrap(), 0);
    }

    #[test]
    fn what_is_no_such_image_is_left_alone_and_one_cut_short_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("files.img");
        assert_eq!(mend(&path, FILES, first_to_nine).unwrap(), 0, "there is none");
        for other in [Vec::new(), b"short".to_vec(), image(FILES + 1, &[&[7]])] {
            fs::write(&path, &other).unwrap();
            assert_eq!(mend(&path, FILES, first_to_nine).unwrap(), 0);
            assert_eq!(fs::read(&path).unwrap(), other);
        }
        let whole = image(FILES, &[&[1, 2, 3]]);
        for length in 9..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(mend(&path, FILES, first_to_nine).is_err(), "{length} bytes of {}", whole.len());
        }
    }
}
