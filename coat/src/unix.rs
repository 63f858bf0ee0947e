//! The unix sockets of a network namespace, over sock_diag(7): who is connected with whom, and what waits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use netlink_sys::{Socket, SocketAddr as Kernel, protocols::NETLINK_SOCK_DIAG};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// The most sockets that are told of.
const MOST: usize = 100_000;
/// How long the kernel may take for a message, in milliseconds.
const PATIENCE_MS: i64 = 1000;
/// The kernel sends no larger messages in a dump.
const BUFFER: usize = 64 << 10;
/// The headers of a message of netlink(7), of the answer (sock_diag(7): `struct unix_diag_msg`) and of an attribute.
const MESSAGE: usize = 16;
const ANSWER: usize = 16;
const ATTRIBUTE: usize = 4;

/// A unix socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its inode, as `/proc/PID/fd` tells it.
    pub inode: u32,
    /// Whether it listens.
    pub listens: bool,
    /// The inode of the other end; 0 where there is none, or none yet.
    pub peer: u32,
    /// The inodes of those that wait to be accepted; 0 for one that has gone again.
    pub waiting: Vec<u32>,
    /// Bytes, or of a listening socket connections, that wait to be read.
    pub unread: u32,
    /// Bytes that it sent and the other end has not read.
    pub unsent: u32,
}

/// The unix sockets in the namespace that a file stands for. Blocks, for some tenths of a millisecond.
///
/// # Errors
/// There is no such namespace, or this process may not enter it; the kernel has no sock_diag for unix sockets
/// (`CONFIG_UNIX_DIAG`).
pub fn unix(namespace: &Path) -> io::Result<Vec<UnixSocket>> {
    crate::netns::within_file(namespace, here)
}

fn here() -> io::Result<Vec<UnixSocket>> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const REQUEST_AND_DUMP: u16 = 1 | 0x300;
    const SHOW_PEER_ICONS_RQLEN: u32 = 4 | 8 | 0x10;
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.connect(&Kernel::new(0, 0))?;
    // SAFETY: the descriptor is the socket's, which outlives the call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    setsockopt(&descriptor, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PATIENCE_MS))?;
    // struct unix_diag_req: family, protocol, padding, states, inode, what to show, cookie.
    let mut request = ((MESSAGE + 24) as u32).to_ne_bytes().to_vec();
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_AND_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([1, 0, 0, 0]);
    request.extend(u32::MAX.to_ne_bytes());
    request.extend([0; 4]);
    request.extend(SHOW_PEER_ICONS_RQLEN.to_ne_bytes());
    request.extend([0xff; 8]);
    socket.send(&request, 0)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let size = socket.recv(&mut &mut buffer[..], 0)?;
        if !take(buffer.get(..size).unwrap_or_default(), &mut found)? {
            return Ok(found);
        }
    }
}

/// Takes the sockets out of messages; whether more come.
fn take(mut rest: &[u8], found: &mut Vec<UnixSocket>) -> io::Result<bool> {
    const DONE: u16 = 3;
    const ERROR: u16 = 2;
    if rest.is_empty() {
        return Err(odd("it said nothing"));
    }
    while let Some(length) = number(rest, 0) {
        let message = rest.get(..length as usize).filter(|message| message.len() >= MESSAGE);
        let message = message.ok_or_else(|| odd("a message is cut off"))?;
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        match kind {
            DONE | ERROR => {
                let code = number(message, MESSAGE).unwrap_or(0).cast_signed();
                return if code == 0 {
                    Ok(false)
                } else {
                    Err(io::Error::from_raw_os_error(code.saturating_neg()))
                };
            }
            _ if found.len() < MOST => found.extend(one(&message[MESSAGE..])),
            _ => {}
        }
        // Messages begin at multiples of four.
        rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// One socket.
fn one(answer: &[u8]) -> Option<UnixSocket> {
    const LISTENS: u8 = 10;
    const PEER: u16 = 2;
    const ICONS: u16 = 3;
    const QUEUES: u16 = 4;
    let mut socket = UnixSocket {
        inode: number(answer, 4)?,
        listens: *answer.get(2)? == LISTENS,
        ..UnixSocket::default()
    };
    let mut rest = answer.get(ANSWER..)?;
    while rest.len() >= ATTRIBUTE {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let value = rest.get(ATTRIBUTE..length)?;
        match kind {
            PEER => socket.peer = number(value, 0)?,
            ICONS => socket.waiting = (0..value.len() / 4).filter_map(|at| number(value, at * 4)).collect(),
            QUEUES => (socket.unread, socket.unsent) = (number(value, 0)?, number(value, 4)?),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(socket)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn odd(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel's answer about its unix sockets: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn inode(socket: &impl AsRawFd) -> u32 {
        let file = std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        u32::try_from(file.ino()).unwrap()
    }

    #[test]
    fn the_two_ends_know_each_other_and_what_waits_is_told() {
        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(b"wait").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("sock")).unwrap();
        let waits = UnixStream::connect(folder.path().join("sock")).unwrap();
        drop(UnixStream::connect(folder.path().join("sock")).unwrap());
        let all = here().unwrap();
        let of = |inode: u32| all.iter().find(|socket| socket.inode == inode).unwrap();
        assert_eq!(of(inode(&one)).peer, inode(&other));
        assert!(of(inode(&other)).unread >= 4 && !of(inode(&other)).listens);
        let listening = of(inode(&listener));
        assert!(listening.listens && listening.waiting.contains(&inode(&waits)), "{listening:?}");
        assert!(listening.waiting.contains(&0), "one has gone again: {listening:?}");
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_no_panic() {
        for bytes in [&[][..], &[200, 0, 0, 0, 20, 0], &[8, 0, 0, 0, 20, 0, 0, 0]] {
            assert!(take(bytes, &mut Vec::new()).is_err(), "{bytes:?}");
        }
        assert_eq!(one(&[1, 1, 1]), None);
    }
}
