//! Threads that are busy in memory and would notice if anything in it, or in their registers, went wrong.

use crate::{PAGE, end_with_parent, map};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static ROUNDS: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicBool = AtomicBool::new(false);

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Writes numbers all over its pages and checks each before it writes the next, with floating point beside it.
fn work(at: usize, pages: usize, seed: u64) {
    let words = at as *mut u64;
    let count = pages * PAGE / 8;
    let mut state = seed | 1;
    let mut expected = vec![0u64; pages];
    let mut float = 1.0f64;
    loop {
        let drawn = next(&mut state);
        let page = drawn as usize % pages;
        let word = page * PAGE / 8 + (drawn >> 32) as usize % 8;
        // SAFETY: within the pages that this thread alone uses.
        let base = unsafe { words.add(page * PAGE / 8).read_volatile() };
        if base != expected[page] || word >= count {
            WRONG.store(true, Relaxed);
        }
        expected[page] = drawn;
        // SAFETY: as above.
        unsafe { words.add(page * PAGE / 8).write_volatile(drawn) };
        // The same value two ways: a vector register that was lost would show.
        float = std::hint::black_box(float) * 1.5 - std::hint::black_box(float) * 0.5;
        if float != 1.0 {
            WRONG.store(true, Relaxed);
        }
        ROUNDS.fetch_add(1, Relaxed);
    }
}

/// Starts threads with so many pages each.
pub(crate) fn start(threads: usize, pages: usize) -> String {
    let mut places = Vec::new();
    for n in 0..threads {
        let Some(at) = map("private", pages) else { return "failed".into() };
        places.push(at.to_string());
        std::thread::spawn(move || work(at, pages, 0x9e37_79b9 + n as u64));
    }
    places.join(" ")
}

/// How many rounds were done so far and whether all was right.
pub(crate) fn check() -> String {
    format!("{} {}", ROUNDS.load(Relaxed), if WRONG.load(Relaxed) { "wrong" } else { "right" })
}

/// What a forked child does: writes `pages` pages at `at` again and again, or nothing if there are none.
pub(crate) fn write_for_ever(parent: u32, at: usize, pages: usize) -> ! {
    end_with_parent(Some(parent));
    loop {
        for page in 0..pages {
            // SAFETY: the test says what is mapped.
            unsafe { ((at + page * PAGE) as *mut u8).write_volatile(page as u8) };
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Registers a userfaultfd of its own with a range, for missing pages, and keeps it.
pub(crate) fn userfault(at: usize, bytes: usize) -> String {
    // UFFDIO_API and UFFDIO_REGISTER of linux/userfaultfd.h.
    let (api, register) = (0xc018_aa3f_u64, 0xc020_aa00_u64);
    let mut handshake = [0xaau64, 0, 0];
    let mut range = [at as u64, bytes as u64, 1, 0];
    // SAFETY: the structures of the kernel's size, as locals.
    unsafe {
        let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | 1) as i32;
        let spoke = libc::ioctl(fd, api, handshake.as_mut_ptr());
        let done = libc::ioctl(fd, register, range.as_mut_ptr());
        format!("{fd} {spoke} {done}")
    }
}
