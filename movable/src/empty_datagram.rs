//! A datagram without content that is the first in a unix socket's queue. No table tells of it; the socket says that something
//! can be read, and that it is nothing long. One that is further behind cannot be seen without reading.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mose_coat::lent::option;

/// How often it must be there: between two questions to a busy socket, one datagram may be read and another come.
const LOOKS: u32 = 3;

/// How long to wait between two of them.
const PAUSE: Duration = Duration::from_millis(1);

/// Whether such a datagram is the first in the socket's queue.
pub(super) fn is_first(socket: &OwnedFd) -> bool {
    let kind = option(socket, libc::SOL_SOCKET, libc::SO_TYPE);
    if !matches!(kind, Ok(libc::SOCK_DGRAM | libc::SOCK_SEQPACKET)) {
        return false;
    }
    (0..LOOKS).all(|look| {
        if look > 0 {
            std::thread::sleep(PAUSE);
        }
        waits(socket) && length(socket) == Some(0)
    })
}

/// Whether something can be read, and that is not the end.
fn waits(socket: &OwnedFd) -> bool {
    let wanted = libc::POLLIN | libc::POLLRDHUP;
    let mut asked = libc::pollfd { fd: socket.as_raw_fd(), events: wanted, revents: 0 };
    // SAFETY: one structure is read and written, which lives until the call returns.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 0) };
    let ended = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    ready > 0 && asked.revents & libc::POLLIN != 0 && asked.revents & ended == 0
}

/// How long that is: the first datagram's length, or of packets in order (`SOCK_SEQPACKET`) that of all.
fn length(socket: &OwnedFd) -> Option<libc::c_int> {
    let mut length: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which `length` is.
    let said = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut length) };
    (said == 0).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::FromRawFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    #[test]
    fn only_an_empty_datagram_that_is_the_first_is_seen() {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        let reads = receiver.try_clone().unwrap();
        let receiver = OwnedFd::from(receiver);
        assert!(!is_first(&receiver), "nothing waits");
        for text in [&b"first"[..], b"", b"third"] {
            sender.send(text).unwrap();
        }
        assert!(!is_first(&receiver), "it is the second");
        assert_eq!(reads.recv(&mut [0; 8]).unwrap(), 5);
        assert!(is_first(&receiver));
        assert_eq!(reads.recv(&mut [0; 8]).unwrap(), 0, "looking takes nothing");
        assert!(!is_first(&receiver), "it is read");
    }

    #[test]
    fn packets_are_seen_and_the_end_of_a_connection_is_no_datagram() {
        let mut ends = [0; 2];
        // SAFETY: two descriptors are written into `ends`, and are this test's alone.
        let [sender, receiver] = unsafe {
            assert_eq!(libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, ends.as_mut_ptr()), 0);
            ends.map(|end| OwnedFd::from_raw_fd(end))
        };
        // SAFETY: nothing is read.
        assert_eq!(unsafe { libc::send(sender.as_raw_fd(), std::ptr::null(), 0, 0) }, 0);
        assert!(is_first(&receiver));
        let (gone, left) = UnixStream::pair().unwrap();
        drop(gone);
        assert!(!is_first(&OwnedFd::from(left)));
        let (gone, left) = UnixDatagram::pair().unwrap();
        drop(gone);
        assert!(!is_first(&OwnedFd::from(left)));
    }
}
