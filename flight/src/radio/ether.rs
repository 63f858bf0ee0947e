//! The two ends between which the relay passes frames: a port that exists (a packet socket on a device) and one of its own (a TAP device).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// The largest frame that is passed on, in bytes: what is larger was not cut into segments, and is passed over.
pub const FRAME: usize = 9216;

/// One end.
#[derive(Debug)]
pub enum End {
    /// A packet socket: it hears what arrives at its device, and what it sends leaves from there.
    Port(OwnedFd),
    /// A TAP device: it hears what the kernel sends there, and what it sends arrives from there.
    Tap(File),
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl End {
    /// The device `name` of this network namespace.
    ///
    /// # Errors
    /// There is no such device, or packet sockets are not allowed.
    pub fn port(name: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(name)?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no memory is involved. Protocol 0: nothing is received before it is bound.
        let raw = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the descriptor was just opened and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        let on: libc::c_int = 1;
        // SAFETY: the pointer and the length are those of a live value, which the kernel copies.
        checked(unsafe {
            libc::setsockopt(
                raw,
                libc::SOL_PACKET,
                libc::PACKET_IGNORE_OUTGOING,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        })?;
        // SAFETY: all zeros is a valid sockaddr_ll: it holds integers and arrays of them.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        // SAFETY: the pointer and the length are those of a live sockaddr_ll.
        checked(unsafe {
            libc::bind(raw, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
        })?;
        Ok(Self::Port(socket))
    }

    /// A new TAP device `name` in this network namespace, which is gone when this is dropped. It has no offloads, so the kernel hands it
    /// whole frames with checksums.
    ///
    /// # Errors
    /// The kernel has no TUN/TAP driver, the name is taken, or the process may not make devices.
    pub fn tap(name: &str) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        // SAFETY: all zeros is a valid ifreq: it holds integers, arrays of them and a pointer.
        let mut request: libc::ifreq = unsafe { zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} is too long for a device"),
            ));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the pointer is to a live ifreq, which is what TUNSETIFF takes.
        checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw mut request) })?;
        Ok(Self::Tap(file))
    }

    /// The next frame; `None` where none has come.
    ///
    /// # Errors
    /// The device is gone.
    pub fn receive(&mut self, frame: &mut [u8; FRAME]) -> io::Result<Option<usize>> {
        let received = match self {
            Self::Port(socket) => {
                // SAFETY: the pointer and the length are those of a live buffer. MSG_TRUNC: the frame's own length comes back.
                let length = unsafe {
                    libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_TRUNC)
                };
                usize::try_from(length).map_err(|_| io::Error::last_os_error())
            }
            Self::Tap(file) => file.read(frame),
        };
        match received {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a frame. One that the device does not take now is lost, as on any link.
    ///
    /// # Errors
    /// The device is gone.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let sent = match self {
            Self::Port(socket) => {
                // SAFETY: the pointer and the length are those of a live buffer.
                let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
                if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            }
            Self::Tap(file) => file.write(frame).map(drop),
        };
        match sent {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::EIO | libc::ENETDOWN)
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Port(socket) => socket.as_fd(),
            Self::Tap(file) => file.as_fd(),
        }
    }
}
