//! Reading a protobuf message without its description: fields by number, and where their values stand.

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    /// Where in the message its value begins.
    pub(super) at: usize,
    pub(super) value: Value<'a>,
}

/// What a field holds, as far as the wire tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    /// A message, a string or bytes.
    Bytes(&'a [u8]),
    /// A number of fixed length.
    Fixed,
}

/// The fields of a message in their order; `None` where it is none.
pub(super) fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    let mut at = 0;
    while at < message.len() {
        let (key, begin) = varint(message, at)?;
        let (value, value_at, end) = match key & 7 {
            0 => varint(message, begin).map(|(number, end)| (Value::Number(number), begin, end))?,
            1 => (Value::Fixed, begin, begin.checked_add(8)?),
            2 => {
                let (length, from) = varint(message, begin)?;
                let end = from.checked_add(usize::try_from(length).ok()?)?;
                (Value::Bytes(message.get(from..end)?), from, end)
            }
            5 => (Value::Fixed, begin, begin.checked_add(4)?),
            _ => return None,
        };
        if end > message.len() {
            return None;
        }
        fields.push(Field { number: key >> 3, at: value_at, value });
        at = end;
    }
    Some(fields)
}

/// The number that begins at a place, and the place after it.
fn varint(message: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *message.get(at)?;
        at += 1;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((number, at));
        }
    }
    None
}

/// The last field of that number that is a number, as protobuf reads it: its value and its place.
pub(super) fn number(fields: &[Field<'_>], wanted: u64) -> Option<(u64, usize)> {
    fields.iter().rev().find_map(|field| match field.value {
        Value::Number(number) if field.number == wanted => Some((number, field.at)),
        _ => None,
    })
}

/// The only field of that number that is a message, and its place. More than one would be merged, which CRIU never writes.
pub(super) fn message<'a>(fields: &[Field<'a>], wanted: u64) -> Option<(&'a [u8], usize)> {
    let mut found = fields.iter().filter(|field| field.number == wanted);
    match (found.next(), found.next()) {
        (Some(Field { at, value: Value::Bytes(bytes), .. }), None) => Some((bytes, *at)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_with_the_places_of_their_values() {
        // 1: 300, 2: "ab", 3: fixed32, 4: fixed64, 1: 0
        let bytes =
            [&[0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 1, 2, 3, 4, 0x21][..], &[0; 8], &[0x08, 0x00]]
                .concat();
        let fields = fields(&bytes).unwrap();
        assert_eq!(fields.len(), 5);
        assert_eq!(number(&fields, 1), Some((0, 22)));
        assert_eq!(message(&fields, 2), Some((&b"ab"[..], 5)));
        assert_eq!((number(&fields, 9), message(&fields, 1)), (None, None));
    }

    #[test]
    fn rubbish_is_no_message() {
        for bytes in [&[0x08][..], &[0x12, 5, 1], &[0x0b], &[0xff; 12], &[0x21, 1]] {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
    }
}
