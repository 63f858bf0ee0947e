//! The wrapping of every message: its size is bounded and its version checked before its body is parsed.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::agent::Telemetry;
use crate::step::StepEvent;
use crate::{Refusal, RefusalCode, Request, Response};

/// The version of this protocol. Peers of another version are seen, named, and not spoken to.
pub const PROTOCOL_VERSION: u32 = 2;

/// The oldest version whose recordings and histories are read: since then things were only added.
pub const OLDEST_READ: u32 = 1;

/// The largest message, in bytes. Bulk data does not travel in messages.
pub const MAX_MESSAGE: usize = 4 << 20;

#[derive(Serialize)]
struct Sealed<'a, T> {
    version: u32,
    body: &'a T,
}

#[derive(Deserialize)]
struct Opened<T> {
    body: T,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// What travels in an envelope. The code that writes and reads it is large, and is compiled in this crate, not again in each that
/// sends or receives it.
pub trait Message: Sized {
    /// This, for the wire, by a peer that speaks `version`.
    ///
    /// # Errors
    /// Where it cannot be written as JSON or is larger than [`MAX_MESSAGE`].
    fn seal_as(&self, version: u32) -> Result<Vec<u8>, Refusal>;

    /// The message in `bytes`.
    ///
    /// # Errors
    /// Where it is too large, of another version, or not what it should be.
    fn open(bytes: &[u8]) -> Result<Self, Refusal>;
}

macro_rules! messages {
    ($($kind:ty),*) => {$(
        impl Message for $kind {
            fn seal_as(&self, version: u32) -> Result<Vec<u8>, Refusal> {
                write(version, self)
            }

            fn open(bytes: &[u8]) -> Result<Self, Refusal> {
                read(bytes)
            }
        }
    )*};
}

messages!(Request, Response, Telemetry, StepEvent);

/// `body` as bytes for the wire.
///
/// # Errors
/// As [`Message::seal_as`].
pub fn seal(body: &impl Message) -> Result<Vec<u8>, Refusal> {
    body.seal_as(PROTOCOL_VERSION)
}

/// The message in `bytes`.
///
/// # Errors
/// As [`Message::open`].
pub fn open<T: Message>(bytes: &[u8]) -> Result<T, Refusal> {
    T::open(bytes)
}

fn write<T: Serialize>(version: u32, body: &T) -> Result<Vec<u8>, Refusal> {
    let bytes =
        serde_json::to_vec(&Sealed { version, body }).map_err(|error| malformed(&error.to_string()))?;
    if bytes.len() > MAX_MESSAGE {
        return Err(too_large(bytes.len()));
    }
    Ok(bytes)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    if bytes.len() > MAX_MESSAGE {
        return Err(too_large(bytes.len()));
    }
    let VersionOnly { version } =
        serde_json::from_slice(bytes).map_err(|error| malformed(&without_values(&error)))?;
    if version != PROTOCOL_VERSION {
        return Err(Refusal::new(
            RefusalCode::Version,
            format!("the peer speaks protocol version {version}, this side {PROTOCOL_VERSION}"),
            "run the same release of MOSE on both hosts",
        ));
    }
    let Opened { body } =
        serde_json::from_slice(bytes).map_err(|error| malformed(&without_values(&error)))?;
    Ok(body)
}

/// What is wrong with JSON, without a word of it: a message may carry secrets.
#[must_use]
pub fn without_values(error: &serde_json::Error) -> String {
    format!("{:?} error in line {}, column {}", error.classify(), error.line(), error.column())
}

fn malformed(reason: &str) -> Refusal {
    Refusal::new(
        RefusalCode::Malformed,
        format!("a message could not be read: {reason}"),
        "run the same release of MOSE on both hosts",
    )
}

fn too_large(bytes: usize) -> Refusal {
    Refusal::new(
        RefusalCode::Malformed,
        format!("a message of {bytes} bytes is over the limit of {MAX_MESSAGE}"),
        "bulk data does not belong into messages",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    #[test]
    fn a_message_survives_the_wire() {
        let bytes = seal(&Request::Services).unwrap();
        assert!(matches!(open::<Request>(&bytes), Ok(Request::Services)));
    }

    #[test]
    fn another_version_is_named_before_the_body_is_looked_at() {
        let bytes = write(99, &"a body that this version does not know").unwrap();
        let refusal = open::<Request>(&bytes).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Version);
        assert!(refusal.reason.contains("99"), "{refusal}");
    }

    #[test]
    fn what_is_too_large_is_not_parsed() {
        let refusal = open::<Request>(&vec![b'['; MAX_MESSAGE + 1]).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Malformed);
    }

    #[test]
    fn rubbish_is_an_error_not_a_panic() {
        let bare = format!("{{\"version\":{PROTOCOL_VERSION}}}");
        let number = format!("{{\"version\":{PROTOCOL_VERSION},\"body\":7}}");
        for bytes in [&b""[..], b"{", b"\xff\xfe", bare.as_bytes(), number.as_bytes()] {
            assert_eq!(open::<Request>(bytes).unwrap_err().code, RefusalCode::Malformed);
        }
    }
}
