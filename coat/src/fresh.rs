//! A new socket in a network namespace: its options are what the system gives to sockets there.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

/// Makes a socket (socket(2)) in the namespace that a file stands for, such as `/proc/PID/ns/net`. It stays in that namespace.
/// Blocks, for some tenths of a millisecond.
///
/// # Errors
/// There is no such namespace, or this process may not enter it; there are no such sockets, or none may be had.
pub fn socket(namespace: &Path, domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    crate::netns::within_file(namespace, move || here(domain, kind, protocol))
}

fn here(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes integers only, and returns a new descriptor or -1.
    let made = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket(2) returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_made_or_the_reason_is_told() {
        assert!(here(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP).is_ok());
        assert!(here(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_UDP).is_err());
        let nowhere = socket(Path::new("/nowhere"), libc::AF_INET, libc::SOCK_STREAM, 0);
        assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
