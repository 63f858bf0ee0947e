//! Messages as CRIU writes them, for tests, and how they are mended.

use super::entries::Patch;

/// The entry as it is after `mend` has been asked what to change.
pub(super) fn mended(mut entry: Vec<u8>, mend: fn(&[u8]) -> Vec<Patch>) -> Vec<u8> {
    for patch in mend(&entry) {
        entry[patch.at] = patch.byte;
    }
    entry
}

/// A message of numbers, as protobuf-c writes them.
pub(super) fn numbers(values: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (field, value) in values {
        bytes.extend(varint(field << 3));
        bytes.extend(varint(*value));
    }
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return bytes;
        }
    }
}

/// A message, a string or bytes.
pub(super) fn bytes_field(field: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}
