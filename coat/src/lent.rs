//! Descriptors of other processes, lent for a moment (`pidfd_getfd`, Linux 5.6), and what a socket is set to. The caller needs
//! permission to trace the process.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A process that lends its descriptors.
pub struct Lender(OwnedFd);

impl Lender {
    /// The process `pid`.
    ///
    /// # Errors
    /// It has ended, or the kernel has no pidfd_open(2).
    pub fn of(pid: u32) -> io::Result<Self> {
        // SAFETY: pidfd_open(2) takes integers only, and returns a new descriptor or -1.
        owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(Self)
    }

    /// Another descriptor of what its descriptor `number` refers to.
    ///
    /// # Errors
    /// It is closed (`EBADF`), or this process may not trace that one.
    pub fn lends(&self, number: u32) -> io::Result<OwnedFd> {
        // SAFETY: pidfd_getfd(2) takes integers only, and returns a new descriptor or -1.
        owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), number, 0) })
    }
}

/// What a system call returned that makes a descriptor.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the system call returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// An option of a socket that is a number (getsockopt(2)).
///
/// # Errors
/// The socket has no such option.
pub fn option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value and its length live until the call returns, and it is as long as said.
    let said = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if said == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_this_process_is_lent_and_what_is_none_is_not() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let me = Lender::of(std::process::id()).unwrap();
        let lent = me.lends(u32::try_from(socket.as_raw_fd()).unwrap()).unwrap();
        assert_eq!(option(&lent, libc::SOL_SOCKET, libc::SO_TYPE).unwrap(), libc::SOCK_DGRAM);
        assert!(
            option(&lent, libc::IPPROTO_TCP, libc::TCP_SYNCNT).is_err(),
            "a UDP socket has no TCP options"
        );
        assert_eq!(me.lends(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert!(Lender::of(u32::MAX).is_err());
    }
}
