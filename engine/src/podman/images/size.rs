//! The sizes that files had when they were dumped.
//!
//! CRIU restores no file whose size is another one. Without a size it does not look (`validate_file` in CRIU's `files-reg.c`). So that
//! nothing moves, the field is not taken out but given a number that CRIU does not know, and passes over.

use super::entries::Patch;
use super::field::{Value, fields, message};

/// `file_entry.reg` (`fdinfo.proto`).
const REG: u64 = 3;

/// `reg_file_entry.size` (`regfile.proto`), and a number that it has no field of.
const SIZE: u64 = 8;
const UNKNOWN: u8 = 15;

/// What is to be changed in an entry of `files.img`.
pub(super) fn forgive(entry: &[u8]) -> Vec<Patch> {
    let of = || {
        let (file, begin) = message(&fields(entry)?, REG)?;
        let sizes = fields(file)?.into_iter().filter(|field| field.number == SIZE);
        let sizes = sizes.filter(|field| matches!(field.value, Value::Number(_)));
        // Its key, a number below 16 with its type, is the byte before the value.
        Some(
            sizes
                .filter_map(|size| Some(Patch { at: begin + size.at.checked_sub(1)?, byte: UNKNOWN << 3 }))
                .collect(),
        )
    };
    of().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_size_is_passed_over_and_all_else_stays() {
        // A file_entry: type 1, id 7, reg { id 7, flags 2, mnt_id 452, size 300, mode 33188 }.
        let reg = [0x08, 7, 0x10, 2, 0x38, 0x88, 0x07, 0x40, 0xac, 0x02, 0x50, 0xa4, 0x83, 0x02];
        let mut entry = [&[0x08, 1, 0x10, 7, 0x1a, reg.len() as u8][..], &reg].concat();
        let patches = forgive(&entry);
        assert_eq!(patches, [Patch { at: 6 + 7, byte: 0x78 }]);
        for patch in patches {
            entry[patch.at] = patch.byte;
        }
        let (file, _) = message(&fields(&entry).unwrap(), REG).unwrap();
        let numbers: Vec<_> = fields(file).unwrap().iter().map(|field| field.number).collect();
        assert_eq!(numbers, [1, 2, 7, u64::from(UNKNOWN), 10]);
        assert!(forgive(&entry).is_empty(), "once is enough");
    }

    #[test]
    fn what_is_no_file_or_no_message_is_left_alone() {
        assert!(forgive(&[0x08, 17, 0x62, 2, 0x40, 1]).is_empty(), "another kind of file");
        assert!(forgive(&[0xff; 12]).is_empty());
    }
}
