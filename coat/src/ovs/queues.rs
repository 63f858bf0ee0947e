//! The switch's queues of packets, which are too short for a burst.
//!
//! A switch in user space (`datapath_type=netdev`) reads each of its devices through a packet socket, and leaves that at the
//! kernel's default length (`net.core.rmem_default`, 208 KiB): less than 300 small packets, as each counts with its whole buffer.
//! What comes while the switch is elsewhere is lost, such as the answers of a thousand connections that were let go.
//!
//! Packets that are to be held come over the management connection. Its socket takes as few, and the switch itself keeps no more
//! than 100 beside it ("dropping packet-in due to queue overflow" in its log). What comes while this process gets no processor is
//! lost, such as what a thousand connections say again at the same moment.
//!
//! The switch's descriptors can be borrowed ([`crate::lent`]), so both are made longer here.

use std::{
    fs, io,
    mem::size_of,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::lent::{Lender, option};

/// Bytes that a socket is to queue, as the kernel counts them: some 10 000 small packets.
const WANTED: libc::c_int = 8 << 20;
/// Descriptors of the switch that are looked at.
const MOST: usize = 4096;

/// Makes the packet sockets of the switch with this pid file long enough, and its side of this process's connections; how many it
/// made longer.
///
/// # Errors
/// If the switch is not found, or may not be asked.
pub(super) fn lengthen(pidfile: &Path) -> io::Result<usize> {
    let pid: u32 = fs::read_to_string(pidfile)?
        .trim()
        .parse()
        .map_err(|_| io::Error::other("no process id in its file"))?;
    // The file may be older than a process that has the number now.
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
    if name.trim() != "ovs-vswitchd" {
        return Err(io::Error::other(format!("process {pid} is {}, not ovs-vswitchd", name.trim())));
    }
    lengthen_of(pid)
}

fn lengthen_of(pid: u32) -> io::Result<usize> {
    let lender = Lender::of(pid)?;
    let mut made = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.take(MOST) {
        let entry = entry?;
        let socket = fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if !socket {
            continue;
        }
        match lender.lends(number) {
            Ok(socket) => made += usize::from(longer(&socket)?),
            // It was closed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// Makes a socket longer, if it is one that packets come through; whether it was one and was short.
fn longer(socket: &OwnedFd) -> io::Result<bool> {
    match option(socket, libc::SOL_SOCKET, libc::SO_DOMAIN)? {
        libc::AF_PACKET => at_least(socket, libc::SO_RCVBUF, libc::SO_RCVBUFFORCE),
        libc::AF_UNIX if is_ours(socket) => at_least(socket, libc::SO_SNDBUF, libc::SO_SNDBUFFORCE),
        _ => Ok(false),
    }
}

/// Whether this process is at the other end.
fn is_ours(socket: &OwnedFd) -> bool {
    getsockopt(socket, PeerCredentials).is_ok_and(|peer| u32::try_from(peer.pid()) == Ok(std::process::id()))
}

fn at_least(socket: &OwnedFd, size: libc::c_int, force: libc::c_int) -> io::Result<bool> {
    // The kernel tells twice of what was asked for, as it counts its own part.
    if option(socket, libc::SOL_SOCKET, size)? >= WANTED {
        return Ok(false);
    }
    let asked = WANTED / 2;
    // SAFETY: the pointer and the length are those of a live integer, which the kernel copies.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            force,
            (&raw const asked).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_this_process_is_made_longer_once_and_what_packets_do_not_come_through_is_left_alone() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!longer(&OwnedFd::from(udp)).unwrap());
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let one = OwnedFd::from(one);
        match longer(&one) {
            Ok(made) => {
                assert!(made && option(&one, libc::SOL_SOCKET, libc::SO_SNDBUF).unwrap() >= WANTED);
                assert!(!longer(&one).unwrap());
            }
            Err(error) => eprintln!("SKIPPED: this user may not lengthen queues: {error}"),
        }
    }

    #[test]
    fn a_process_that_is_no_switch_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), std::process::id().to_string()).unwrap();
        let error = lengthen(file.path()).unwrap_err().to_string();
        assert!(error.contains("not ovs-vswitchd"), "{error}");
        fs::write(file.path(), "nonsense").unwrap();
        assert!(lengthen(file.path()).is_err());
    }
}
