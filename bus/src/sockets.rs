//! Sets and closes the sockets below Zenoh's connections, where Zenoh has no setting or call for it.

use std::fs;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{setsockopt, sockopt};

/// A connection by its two ends: here, there.
pub(crate) type Connection = (SocketAddr, SocketAddr);

/// Makes `close` on a connection return at once; the kernel still sends what is queued. Zenoh 1.10 lets it block for up to 10 s
/// (`TCP_LINGER_TIMEOUT` of zenoh-link-tcp) on a thread that also receives from other peers.
pub(crate) fn never_linger(connection: Connection) {
    for stream in streams(&[connection]) {
        if let Err(error) = setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 0, l_linger: 0 }) {
            tracing::debug!(?connection, %error, "its linger time cannot be set");
        }
    }
}

/// Closes connections for reading; Zenoh then ends them. It first reads what has already come. If writing failed as well, Zenoh could end
/// the session while it still reads, and would keep for ever what it reads then.
pub(crate) fn end(connections: &[Connection]) {
    for stream in streams(connections) {
        if let Err(error) = stream.shutdown(Shutdown::Read) {
            tracing::debug!(%error, "a connection had already ended");
        }
    }
}

/// This process's sockets with these ends.
fn streams(connections: &[Connection]) -> Vec<TcpStream> {
    let Ok(files) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    // Only sockets: closing a copy of a file's descriptor releases the process's locks on that file (fcntl(2)).
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

/// A copy of a descriptor of this process, which may close the original meanwhile.
fn copy(descriptor: RawFd) -> Option<TcpStream> {
    // SAFETY: the kernel refuses a number that is no open descriptor.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    // SAFETY: the copy is new, and only this owns it. If it is no TCP socket, every call on it fails.
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
