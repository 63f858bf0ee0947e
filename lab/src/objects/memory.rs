//! Memory: advice, locks, protection, sharing, and what the kernel says of every mapping.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::sys::ok;
use super::{Object, Told};

const SIZE: usize = 1 << 16;

pub(super) struct Memory {
    regions: Vec<(&'static str, usize)>,
}

fn map(flags: libc::c_int, fd: libc::c_int) -> io::Result<usize> {
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let address =
        unsafe { libc::mmap(std::ptr::null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if address == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(address.expose_provenance())
    }
}

fn pointer(address: usize) -> *mut libc::c_void {
    std::ptr::with_exposed_provenance_mut(address)
}

impl Memory {
    pub(super) fn make(place: &Path) -> io::Result<Self> {
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let mut regions = Vec::new();
        let advices = [
            ("not for a fork", libc::MADV_DONTFORK),
            ("wiped at a fork", libc::MADV_WIPEONFORK),
            ("not for a core", libc::MADV_DONTDUMP),
            ("mergeable", libc::MADV_MERGEABLE),
            ("huge pages", libc::MADV_HUGEPAGE),
            ("no huge pages", libc::MADV_NOHUGEPAGE),
            ("read in order", libc::MADV_SEQUENTIAL),
            ("read at random", libc::MADV_RANDOM),
        ];
        for (what, advice) in advices {
            let address = map(private, -1)?;
            // SAFETY: the mapping is ours, and of this size.
            unsafe { std::ptr::write_bytes(pointer(address).cast::<u8>(), 0x5a, 100) };
            // SAFETY: as before; none of these advices takes anything away.
            if ok(unsafe { libc::madvise(pointer(address), SIZE, advice) }).is_ok() {
                regions.push((what, address));
            }
        }
        let locked = map(private, -1)?;
        // SAFETY: the mapping is ours, and of this size.
        if ok(unsafe { libc::mlock(pointer(locked), SIZE / 2) }).is_ok() {
            regions.push(("half locked", locked));
        }
        let faulted = map(private, -1)?;
        // SAFETY: the mapping is ours, and of this size.
        if ok(unsafe { libc::mlock2(pointer(faulted), SIZE, libc::MLOCK_ONFAULT as libc::c_uint) }).is_ok() {
            regions.push(("locked on fault", faulted));
        }
        let guarded = map(private, -1)?;
        for (page, protection) in
            [(0, libc::PROT_NONE), (4, libc::PROT_READ), (8, libc::PROT_READ | libc::PROT_EXEC)]
        {
            // SAFETY: within the mapping.
            ok(unsafe { libc::mprotect(pointer(guarded + page * 4096), 4096, protection) })?;
        }
        regions.push(("guard pages", guarded));
        let shared = map(libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
        // SAFETY: the mapping is ours, and of this size.
        unsafe { std::ptr::write_bytes(pointer(shared).cast::<u8>(), 0xa5, 5000) };
        regions.push(("shared", shared));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(place.join("mapped"))?;
        file.set_len(SIZE as u64)?;
        for (what, flags) in [("a file, shared", libc::MAP_SHARED), ("a file, private", libc::MAP_PRIVATE)] {
            let address = map(flags, file.as_raw_fd())?;
            // SAFETY: the mapping is ours, and of this size, as is the file.
            unsafe { std::ptr::write_bytes(pointer(address + 4096).cast::<u8>(), 0x77, 100) };
            regions.push((what, address));
        }
        Ok(Self { regions })
    }
}

impl Object for Memory {
    fn tell(&self, told: &mut Told) {
        for (what, address) in &self.regions {
            let sum = if *what == "guard pages" {
                0
            } else {
                // SAFETY: the mapping is ours, readable, and of this size.
                let bytes = unsafe { std::slice::from_raw_parts(pointer(*address).cast::<u8>(), SIZE) };
                bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()
            };
            told.say(format_args!("memory {what}"), format_args!("sum {sum}"));
        }
        // Every mapping that is not the allocator's, which grows as it likes.
        let text = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let mut mapping = String::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("VmFlags:") => {
                    let ours = self.regions.iter().any(|(_, address)| {
                        let range = mapping.split_whitespace().next().unwrap_or_default();
                        let number = |text: &str| usize::from_str_radix(text, 16).unwrap_or(0);
                        range.split_once('-').is_some_and(|(from, to)| {
                            (number(from)..number(to)).contains(address)
                                || (*address..*address + SIZE).contains(&number(from))
                        })
                    });
                    // Whether pages were written to since somebody looked, and whether somebody looks, is none of its state.
                    let flags =
                        words.filter(|flag| !matches!(*flag, "sd" | "uw")).collect::<Vec<_>>().join(" ");
                    if ours {
                        told.say(format_args!("mapping {mapping}"), flags);
                    }
                }
                Some(first) if first.contains('-') => {
                    let permissions = words.next().unwrap_or_default();
                    mapping = format!("{first} {permissions}");
                }
                _ => {}
            }
        }
        told.say("core filter", fs::read_to_string("/proc/self/coredump_filter").unwrap_or_default().trim());
    }
}
