//! The sockets of this process under Zenoh's connections, for what Zenoh cannot be told.

use std::fs;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{setsockopt, sockopt};

/// A connection by its two ends: here, there.
pub(crate) type Connection = (SocketAddr, SocketAddr);

/// Has a connection closed without waiting for what was sent last: whether it arrives matters to nobody who closes it. Zenoh 1.10 waits up
/// to 10 s (`TCP_LINGER_TIMEOUT` of zenoh-link-tcp), on a thread that others need, who then hear nothing from this host.
pub(crate) fn never_linger(connection: Connection) {
    for stream in streams(&[connection]) {
        if let Err(error) = setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 0, l_linger: 0 }) {
            tracing::debug!(?connection, %error, "it lingers");
        }
    }
}

/// Ends connections. That they have ended Zenoh notices. What has come already it still takes in: were writing to fail as well, it might
/// take in something after it has forgotten the session, and not forget that.
pub(crate) fn end(connections: &[Connection]) {
    for stream in streams(connections) {
        if let Err(error) = stream.shutdown(Shutdown::Read) {
            tracing::debug!(%error, "a connection ended by itself");
        }
    }
}

/// The streams of this process with these ends.
fn streams(connections: &[Connection]) -> Vec<TcpStream> {
    let Ok(files) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    // Only sockets: to close a copy of a file's descriptor would give up the process's locks on it (fcntl(2)).
    let sockets = files.flatten().filter(|file| {
        fs::read_link(file.path()).is_ok_and(|leads| leads.to_string_lossy().starts_with("socket:"))
    });
    let streams = sockets.filter_map(|file| copy(file.file_name().to_str()?.parse().ok()?));
    let wanted = |stream: &TcpStream| match (stream.local_addr(), stream.peer_addr()) {
        (Ok(here), Ok(there)) => connections.contains(&(here, there)),
        _ => false,
    };
    streams.filter(wanted).collect()
}

/// The socket of a descriptor of this process, whatever becomes of that descriptor.
fn copy(descriptor: RawFd) -> Option<TcpStream> {
    // SAFETY: the kernel refuses a descriptor that is none.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: it is new and nobody else's. One that is no TCP socket answers every call with an error.
    (copy >= 0).then(|| TcpStream::from(unsafe { OwnedFd::from_raw_fd(copy) }))
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::time::Duration;

    use nix::sys::socket::getsockopt;

    use super::*;

    /// Two connections of this process, and their other ends.
    fn two() -> ([TcpStream; 2], [TcpStream; 2]) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dialled = [(); 2].map(|()| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        (dialled, [(); 2].map(|()| listener.accept().unwrap().0))
    }

    fn ends(stream: &TcpStream) -> Connection {
        (stream.local_addr().unwrap(), stream.peer_addr().unwrap())
    }

    #[test]
    fn only_the_connections_that_are_named_end() {
        let ([goes, stays], _others) = two();
        end(&[ends(&goes)]);
        let read = |mut stream: &TcpStream| {
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            stream.read(&mut [0])
        };
        assert_eq!(read(&goes).unwrap(), 0);
        assert_eq!(read(&stays).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn only_the_connection_that_is_named_never_lingers() {
        let ([named, other], _others) = two();
        for stream in [&named, &other] {
            setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 10 }).unwrap();
        }
        never_linger(ends(&named));
        let lingers = |stream: &TcpStream| getsockopt(stream, sockopt::Linger).unwrap().l_onoff;
        assert_eq!((lingers(&named), lingers(&other)), (0, 1));
    }
}
