//! The system calls of the holder: raw, as most of what it holds has no wrapper anywhere.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes a system call whose arguments are integers, or addresses of what outlives it.
pub(super) fn call(what: &str, number: libc::c_long, arguments: &[usize]) -> io::Result<usize> {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: the kernel checks every argument of a system call; buffers are the caller's, and live until it returns.
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    usize::try_from(result).map_err(|_| {
        let error = io::Error::last_os_error();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    })
}

/// A path with the zero at its end that the kernel wants.
pub(super) fn path(path: impl AsRef<Path>) -> Vec<u8> {
    let mut bytes = path.as_ref().as_os_str().as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A socket.
pub(super) fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<usize> {
    let arguments = [family, kind, protocol].map(word);
    call("socket", libc::SYS_socket, &arguments)
}

/// A number as an argument.
pub(super) fn word(number: i32) -> usize {
    number as isize as usize
}

/// Sets an option of a socket to some bytes.
pub(super) fn set_option(socket: usize, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let arguments = [socket, word(level), word(name), value.as_ptr() as usize, value.len()];
    call("setsockopt", libc::SYS_setsockopt, &arguments).map(drop)
}

/// An IPv4 address as the kernel takes it.
pub(super) fn inet(address: [u8; 4], port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&address);
    bytes
}

/// The address of a unix socket; in the abstract namespace where the name begins with a zero.
pub(super) fn unix(name: &str) -> Vec<u8> {
    let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend(name.as_bytes());
    if !name.starts_with('\0') {
        bytes.push(0);
    }
    bytes
}

/// Gives a socket its address.
pub(super) fn bind(socket: usize, address: &[u8]) -> io::Result<()> {
    let arguments = [socket, address.as_ptr() as usize, address.len()];
    call("bind", libc::SYS_bind, &arguments).map(drop)
}

/// Connects a socket.
pub(super) fn connect(socket: usize, address: &[u8]) -> io::Result<()> {
    let arguments = [socket, address.as_ptr() as usize, address.len()];
    call("connect", libc::SYS_connect, &arguments).map(drop)
}

/// Listens at a socket.
pub(super) fn listen(socket: usize) -> io::Result<()> {
    call("listen", libc::SYS_listen, &[socket, 16]).map(drop)
}

/// Writes to a descriptor.
pub(super) fn write(descriptor: usize, bytes: &[u8]) -> io::Result<()> {
    let arguments = [descriptor, bytes.as_ptr() as usize, bytes.len()];
    call("write", libc::SYS_write, &arguments).map(drop)
}

/// Opens a path.
pub(super) fn open(name: impl AsRef<Path>, flags: i32) -> io::Result<usize> {
    let name = path(name);
    let arguments = [word(libc::AT_FDCWD), name.as_ptr() as usize, word(flags), 0o600];
    call("open", libc::SYS_openat, &arguments)
}

/// Closes a descriptor.
pub(super) fn close(descriptor: usize) -> io::Result<()> {
    call("close", libc::SYS_close, &[descriptor]).map(drop)
}

/// Maps memory.
pub(super) fn map(length: usize, protection: i32, flags: i32, descriptor: i32) -> io::Result<usize> {
    call("mmap", libc::SYS_mmap, &[0, length, word(protection), word(flags), word(descriptor), 0])
}

/// Two descriptors at once: `socketpair`, `pipe`.
pub(super) fn pair(
    what: &str,
    number: libc::c_long,
    before: &[usize],
    after: &[usize],
) -> io::Result<[usize; 2]> {
    let mut two = [0_i32; 2];
    let arguments = [before, &[two.as_mut_ptr() as usize], after].concat();
    call(what, number, &arguments)?;
    Ok(two.map(word))
}

/// Sends a byte with a control message.
pub(super) fn send_control(socket: usize, message: i32, payload: &[u8]) -> io::Result<()> {
    let mut control = (16 + payload.len()).to_ne_bytes().to_vec();
    control.extend(libc::SOL_SOCKET.to_ne_bytes());
    control.extend(message.to_ne_bytes());
    control.extend(payload);
    control.resize(control.len().next_multiple_of(8), 0);
    let byte = *b"x";
    let vector = [byte.as_ptr() as usize, 1];
    let header = [0, 0, vector.as_ptr() as usize, 1, control.as_ptr() as usize, control.len(), 0_usize];
    call("sendmsg", libc::SYS_sendmsg, &[socket, header.as_ptr() as usize, 0]).map(drop)
}

/// Sends a descriptor.
pub(super) fn send_descriptor(socket: usize, descriptor: usize) -> io::Result<()> {
    send_control(socket, libc::SCM_RIGHTS, &(descriptor as i32).to_ne_bytes())
}
