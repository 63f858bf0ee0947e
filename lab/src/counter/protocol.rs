//! What the ping-pong client asks and how it reads the answers: the counter's own frames, or the numbered replies that
//! Redis and memcached give to an increment.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::frames::{Kind, REPLY_LEN, Reply, Request};
use super::state::expected_sum;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// `mose-counter serve`.
    #[default]
    Counter,
    /// Redis: `INCR` of a key of the connection's own.
    Redis,
    /// memcached: `incr` of a key of the connection's own.
    Memcached,
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "counter" => Ok(Self::Counter),
            "redis" => Ok(Self::Redis),
            "memcached" => Ok(Self::Memcached),
            other => Err(format!("unknown protocol `{other}`: counter, redis or memcached")),
        }
    }
}

impl Protocol {
    /// The name it is chosen by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Redis => "redis",
            Self::Memcached => "memcached",
        }
    }
}

/// One answer, read from the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The answer to the request of this number.
    To(Numbered),
    /// Bytes that are no answer of this service to this connection, or that say that state was damaged.
    Corrupted,
}

/// What a sound answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbered {
    /// The request it answers.
    pub(crate) seq: u64,
    /// The service's count over all connections, where it keeps one.
    pub(crate) global: Option<u64>,
    /// The service's count on this connection.
    pub(crate) connection: u64,
    /// Which instance of the service answered, where it says so.
    pub(crate) instance: Option<u64>,
}

/// One connection's side of a protocol.
pub(crate) struct Dialect {
    protocol: Protocol,
    nonce: u64,
}

impl Dialect {
    pub(crate) fn new(protocol: Protocol, nonce: u64) -> Self {
        Self { protocol, nonce }
    }

    /// Connects to a service and greets it as its protocol says.
    pub(crate) fn connect(to: SocketAddr, protocol: Protocol, nonce: u64) -> io::Result<(TcpStream, Self)> {
        let mut stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        let dialect = Self::new(protocol, nonce);
        if let Some((say, hear)) = dialect.greeting() {
            stream.write_all(&say)?;
            let mut heard = vec![0u8; hear.len()];
            stream.read_exact(&mut heard)?;
            if heard != hear {
                let reason = "the service did not greet as its protocol says";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
        Ok((stream, dialect))
    }

    fn key(&self) -> String {
        format!("mose-{:016x}", self.nonce)
    }

    /// What must be said, and what must come back, before the first request.
    pub(crate) fn greeting(&self) -> Option<(Vec<u8>, &'static [u8])> {
        match self.protocol {
            Protocol::Counter | Protocol::Redis => None,
            Protocol::Memcached => {
                Some((format!("add {} 0 0 1\r\n0\r\n", self.key()).into_bytes(), b"STORED\r\n"))
            }
        }
    }

    pub(crate) fn request(&self, seq: u64, sent_ns: u64, out: &mut Vec<u8>) {
        out.clear();
        match self.protocol {
            Protocol::Counter => {
                let request = Request { kind: Kind::Ping, nonce: self.nonce, seq, sent_ns };
                out.extend_from_slice(&request.encode());
            }
            Protocol::Redis => {
                let key = self.key();
                out.extend_from_slice(format!("*2\r\n$4\r\nINCR\r\n${}\r\n{key}\r\n", key.len()).as_bytes());
            }
            Protocol::Memcached => out.extend_from_slice(format!("incr {} 1\r\n", self.key()).as_bytes()),
        }
    }

    /// Takes the next whole answer off `bytes`; `None` while it is not all there. The number is how many bytes it took.
    pub(crate) fn answer(&self, bytes: &[u8]) -> Option<(usize, Answer)> {
        match self.protocol {
            Protocol::Counter => {
                let frame = bytes.first_chunk::<REPLY_LEN>()?;
                Some((REPLY_LEN, self.judge(frame)))
            }
            Protocol::Redis | Protocol::Memcached => {
                let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
                let text = std::str::from_utf8(&bytes[..end]).unwrap_or("");
                let number =
                    if self.protocol == Protocol::Redis { text.strip_prefix(':') } else { Some(text) };
                // The service's number is the sequence number: it counts from 1, and a service that lost its memory, or
                // did the same request twice, is off at once.
                let answer = match number.and_then(|n| n.parse::<u64>().ok()) {
                    Some(n @ 1..) => {
                        Answer::To(Numbered { seq: n - 1, connection: n, ..Numbered::default() })
                    }
                    _ => Answer::Corrupted,
                };
                Some((end + 2, answer))
            }
        }
    }

    fn judge(&self, frame: &[u8; REPLY_LEN]) -> Answer {
        match Reply::decode(frame) {
            Ok(reply)
                if reply.nonce == self.nonce
                    && reply.fault == 0
                    && reply.page_sum == expected_sum(reply.seed, reply.page, reply.version) =>
            {
                Answer::To(Numbered {
                    seq: reply.seq,
                    global: Some(reply.global_counter),
                    connection: reply.connection_counter,
                    instance: Some(reply.instance),
                })
            }
            _ => Answer::Corrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_redis_and_memcached_are_sequence_numbers() {
        let redis = Dialect::new(Protocol::Redis, 1);
        let Some((4, Answer::To(first))) = redis.answer(b":1\r\n:2\r\n") else { panic!("no answer") };
        assert_eq!((first.seq, first.connection), (0, 1));
        assert_eq!(redis.answer(b":1\r"), None);
        assert_eq!(redis.answer(b"-LOADING\r\n"), Some((10, Answer::Corrupted)));
        let memcached = Dialect::new(Protocol::Memcached, 1);
        assert!(matches!(memcached.answer(b"7\r\n"), Some((3, Answer::To(Numbered { seq: 6, .. })))));
        assert_eq!(memcached.answer(b"NOT_FOUND\r\n"), Some((11, Answer::Corrupted)));
    }

    #[test]
    fn a_reply_meant_for_another_connection_is_corrupted() {
        let sum = expected_sum(1, 2, 3);
        let reply = Reply { nonce: 5, seed: 1, page: 2, version: 3, page_sum: sum, ..Reply::default() };
        assert!(matches!(Dialect::new(Protocol::Counter, 5).judge(&reply.encode()), Answer::To(_)));
        assert_eq!(Dialect::new(Protocol::Counter, 6).judge(&reply.encode()), Answer::Corrupted);
    }

    #[test]
    fn a_page_that_is_not_what_it_should_be_is_corrupted() {
        let reply = Reply { nonce: 5, seed: 1, page: 2, version: 3, page_sum: 4, ..Reply::default() };
        assert_eq!(Dialect::new(Protocol::Counter, 5).judge(&reply.encode()), Answer::Corrupted);
    }
}
