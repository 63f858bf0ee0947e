//! What a connection's kernel sent again, and how much of it the other side had had before (tcp(7), `TCP_INFO`; RFC 2883).

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Bytes of the kernel's `struct tcp_info` that are read: up to and with `tcpi_dsack_dups`.
const LENGTH: usize = 220;
/// Where `tcpi_total_retrans` lies in it.
const TOTAL_RETRANS: usize = 100;
/// Where `tcpi_dsack_dups` lies in it (Linux 4.19).
const DSACK_DUPS: usize = 216;

/// Counts over the life of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SentAgain {
    /// Segments sent again.
    pub(crate) segments: u32,
    /// Of those, the ones that the other side said it had already.
    pub(crate) needless: u32,
}

impl SentAgain {
    /// What the kernel says of a connection.
    ///
    /// # Errors
    /// Where the kernel does not tell it.
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        let mut info = [0u8; LENGTH];
        let mut length = LENGTH as libc::socklen_t;
        // SAFETY: the descriptor is open for the call, and the kernel writes at most `length` bytes into the live buffer.
        let done = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        if (length as usize) < LENGTH {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel tells no duplicates"));
        }
        let field = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        Ok(Self { segments: field(TOTAL_RETRANS), needless: field(DSACK_DUPS) })
    }

    /// Segments sent again since then that the other side had not had before.
    pub(crate) fn needed_since(self, before: Self) -> u32 {
        let segments = self.segments.saturating_sub(before.segments);
        segments.saturating_sub(self.needless.saturating_sub(before.needless))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_connection_on_loopback_sends_nothing_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(SentAgain::of(&stream).unwrap(), SentAgain::default());
    }

    #[test]
    fn what_the_other_side_had_already_was_not_needed() {
        let before = SentAgain { segments: 2, needless: 2 };
        assert_eq!(SentAgain { segments: 5, needless: 4 }.needed_since(before), 1);
        assert_eq!(SentAgain { segments: 3, needless: 4 }.needed_since(before), 0);
    }
}
