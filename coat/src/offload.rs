//! Switches off what a device leaves to hardware that is not there.
//!
//! A veth passes packets on without checksums and in pieces of up to 64 KiB, and trusts the other end to make up for it. The
//! userspace datapath reads them as they are: such TCP segments are dropped at the receiver and the connection stalls, while ping works.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// `ETHTOOL_S*` of `linux/ethtool.h` with what they switch off.
const OFF: [(u32, &str); 4] = [
    (0x0000_001f, "TCP segmentation"),
    (0x0000_0024, "segmentation"),
    (0x0000_002c, "receive aggregation"),
    (TX_CHECKSUM, "transmit checksums"),
];
const TX_CHECKSUM: u32 = 0x0000_0017;

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches a device's offloads off, in the calling thread's network namespace.
///
/// # Errors
/// If transmit checksums stay on; the others are a matter of speed only and depend on the driver.
pub(crate) fn switch_off(device: &str) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    for (command, what) in OFF {
        if let Err(error) = set(&socket, device, command, 0) {
            if command == TX_CHECKSUM {
                return Err(error);
            }
            tracing::debug!(link = device, what, %error, "offload stays on");
        }
    }
    Ok(())
}

fn set(socket: &OwnedFd, device: &str, command: u32, data: u32) -> io::Result<()> {
    let mut value = EthtoolValue { command, data };
    // SAFETY: all zeros is a valid ifreq: it holds integers, arrays of them and a pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = device.as_bytes();
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads the zero-terminated name and, through the pointer, the value; both outlive the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
