//! Sockets of the service's processes, lent for a moment, and what they are set to.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A process that lends its descriptors.
pub(super) struct Lender(OwnedFd);

impl Lender {
    /// The process `pid`; nothing where it has ended.
    pub(super) fn of(pid: u32) -> Option<Self> {
        // SAFETY: pidfd_open(2) takes integers only, and returns a new descriptor or -1.
        owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(Self)
    }

    /// Another descriptor of what its descriptor `number` is of; nothing where it is closed, or may not be had.
    pub(super) fn lends(&self, number: u32) -> Option<OwnedFd> {
        // SAFETY: pidfd_getfd(2) takes integers only, and returns a new descriptor or -1.
        owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), number, 0) })
    }
}

/// What a system call returned that makes a descriptor.
fn owned(result: libc::c_long) -> Option<OwnedFd> {
    let descriptor = i32::try_from(result).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: the descriptor was just made, and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// An option of a socket that is a number.
pub(super) fn option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> Result<libc::c_int, i32> {
    let mut value: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the value and its length live until the call returns, and it is as long as said.
    let said = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if said == 0 { Ok(value) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_this_process_is_lent_and_what_is_none_is_not() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let me = Lender::of(std::process::id()).unwrap();
        let lent = me.lends(u32::try_from(socket.as_raw_fd()).unwrap()).unwrap();
        assert_eq!(option(&lent, libc::SOL_SOCKET, libc::SO_TYPE), Ok(libc::SOCK_DGRAM));
        assert!(option(&lent, libc::IPPROTO_TCP, libc::TCP_SYNCNT).is_err(), "it is none of TCP's");
        assert!(me.lends(1_000_000).is_none());
        assert!(Lender::of(u32::MAX).is_none());
    }
}
