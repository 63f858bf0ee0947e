//! A userfaultfd for asynchronous write-protection (userfaultfd(2), ioctl_userfaultfd(2), linux/userfaultfd.h): a write to a
//! protected page costs the writer a fault that the kernel resolves by itself, and takes the protection off.

use crate::PageRange;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const API: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;
const MODE_WRITE_PROTECT: u64 = 1 << 1;
/// Memory of every kind; pages that do not exist yet; writes resolved by the kernel.
const FEATURES: u64 = 1 << 0 | 1 << 12 | 1 << 13 | 1 << 15;

/// A userfaultfd after its handshake.
#[derive(Debug)]
pub(crate) struct Userfault(OwnedFd);

impl Userfault {
    /// Makes the handshake; an error if the kernel lacks asynchronous write-protection (before 6.7).
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let this = Self(descriptor);
        let mut api = [API, FEATURES, 0];
        this.control(UFFDIO_API, &mut api)?;
        if api[1] & FEATURES == FEATURES { Ok(this) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    /// One for this process's own memory.
    pub(crate) fn own() -> io::Result<Self> {
        // `UFFD_USER_MODE_ONLY`, which needs no privilege.
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | 1;
        // SAFETY: takes a number, gives a new descriptor.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        let fd = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: new, open and nobody else's.
        Self::new(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn control<const N: usize>(&self, request: u64, argument: &mut [u64; N]) -> io::Result<()> {
        // SAFETY: each request's structure consists of as many 64-bit numbers as its caller below passes.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), request as _, argument.as_mut_ptr()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes a mapping under watch. `EBUSY`: another userfaultfd has it. `ESRCH`: the memory is no more.
    pub(crate) fn register(&self, range: PageRange) -> io::Result<()> {
        self.control(UFFDIO_REGISTER, &mut [range.start, range.bytes(), MODE_WRITE_PROTECT, 0])
    }

    /// Lets a mapping go, protection included.
    pub(crate) fn unregister(&self, range: PageRange) -> io::Result<()> {
        self.control(UFFDIO_UNREGISTER, &mut [range.start, range.bytes()])
    }

    /// Takes the protection off a mapping's pages; it stays under watch.
    pub(crate) fn unprotect(&self, range: PageRange) -> io::Result<()> {
        self.control(UFFDIO_WRITEPROTECT, &mut [range.start, range.bytes(), 0])
    }

    /// Whether the memory that it belongs to is no more: all its processes ended or replaced it by exec.
    pub(crate) fn is_orphan(&self) -> bool {
        // No mapping can be there, so nothing happens: which error it is says whether there is a memory.
        let nowhere = PageRange { start: 0, end: crate::PAGE_BYTES };
        self.unprotect(nowhere).is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_the_sizes_of_what_they_are_given() {
        for (request, words) in
            [(UFFDIO_API, 3), (UFFDIO_REGISTER, 4), (UFFDIO_UNREGISTER, 2), (UFFDIO_WRITEPROTECT, 3)]
        {
            assert_eq!(request >> 16 & 0x3fff, words * 8);
        }
    }
}
