//! Cuts a stream of JSON texts into texts. OVSDB puts nothing between two replies, so the end of one is where its first
//! bracket closes. Linear in what arrives, and bounded.

/// The largest message taken; a bridge with thousands of ports stays far below it.
pub(crate) const LIMIT: usize = 32 << 20;

/// The stream is no sequence of JSON objects, or one is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a message is larger than {LIMIT} bytes")]
    TooLarge,
    #[error("what arrives is no JSON object")]
    NotAnObject,
}

/// Takes bytes in, gives JSON texts out.
#[derive(Default)]
pub(crate) struct Framer {
    buffer: Vec<u8>,
    /// How much of the buffer has been looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    /// Takes in what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole text, if it is there.
    pub(crate) fn next_text(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(byte) = self.buffer.get(self.seen).copied() {
            self.seen += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' if self.depth > 0 || byte == b'{' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let rest = self.buffer.split_off(self.seen);
                        self.seen = 0;
                        return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
                    }
                }
                b'"' if self.depth > 0 => self.in_string = true,
                b' ' | b'\n' | b'\r' | b'\t' => {}
                _ if self.depth == 0 => return Err(FrameError::NotAnObject),
                _ => {}
            }
        }
        if self.buffer.len() > LIMIT {
            return Err(FrameError::TooLarge);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(framer: &mut Framer) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(text) = framer.next_text().unwrap() {
            out.push(String::from_utf8(text).unwrap());
        }
        out
    }

    #[test]
    fn replies_without_anything_between_them_are_told_apart() {
        let mut framer = Framer::default();
        framer.push(br#"{"id":0,"result":[{"a":"}{\"]"}]}{"id":1}"#);
        assert_eq!(all(&mut framer), [r#"{"id":0,"result":[{"a":"}{\"]"}]}"#, r#"{"id":1}"#]);
    }

    #[test]
    fn a_text_may_arrive_byte_by_byte() {
        let text = br#"{"a":["\\",{"b":"\"}"}]} {"c":[]}"#;
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for byte in text {
            framer.push(&[*byte]);
            found.extend(all(&mut framer));
        }
        assert_eq!(found, [r#"{"a":["\\",{"b":"\"}"}]}"#, r#" {"c":[]}"#]);
    }

    #[test]
    fn what_is_no_object_or_too_large_is_refused() {
        for bytes in [&b"x"[..], b"[]", b"}", b"\"a\""] {
            let mut framer = Framer::default();
            framer.push(bytes);
            assert_eq!(framer.next_text(), Err(FrameError::NotAnObject));
        }
        let mut framer = Framer::default();
        framer.push(b"{\"a\":\"");
        framer.push(&vec![b'x'; LIMIT]);
        assert_eq!(framer.next_text(), Err(FrameError::TooLarge));
    }
}
