//! System calls that the standard library lacks, each with its error.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The result of a call that returns -1 for an error.
pub(super) fn ok(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A descriptor that a call has just returned.
pub(super) fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = ok(result)?;
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// prctl(2) with one argument.
pub(super) fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the options used here take numbers only.
    ok(unsafe { libc::prctl(option, argument, 0, 0, 0) })
}

/// fcntl(2) with a number.
pub(super) fn fcntl(
    fd: &impl AsRawFd,
    command: libc::c_int,
    argument: libc::c_int,
) -> io::Result<libc::c_int> {
    // SAFETY: the commands used here take numbers only.
    ok(unsafe { libc::fcntl(fd.as_raw_fd(), command, argument) })
}

/// How much can be read.
pub(super) fn readable(fd: &impl AsRawFd) -> i32 {
    let mut count = 0;
    // SAFETY: FIONREAD writes one int, which `count` is.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if done < 0 { -1 } else { count }
}

/// A socket option's raw value in hexadecimal; `None` where it cannot be read.
pub(super) fn option(fd: &impl AsRawFd, level: libc::c_int, name: libc::c_int) -> Option<String> {
    let mut value = [0_u8; 64];
    let mut length = 64;
    // SAFETY: at most `length` bytes are written into `value`.
    let got =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length) };
    if got < 0 {
        return None;
    }
    Some(value[..length as usize].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Sets a socket option.
pub(super) fn set_option<T>(
    fd: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: `value` is read for its own size.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    ok(set).map(drop)
}

/// The lines of a file of `/proc` that begin with one of these words and a colon.
pub(super) fn proc_lines(path: &str, words: &[&str]) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(word, _)| words.contains(word))
        .map(|(word, rest)| (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}
