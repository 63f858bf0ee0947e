//! A process that does to its memory what it is told, one command a line on standard input, one answer a line on standard
//! output. The tests look at it from outside.

mod calls;
mod filter;
mod workers;

use std::io::{BufRead, Write};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Maps pages the way `kind` says and gives their address.
fn map(kind: &str, pages: usize) -> Option<usize> {
    let (mut flags, mut access) =
        (libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, libc::PROT_READ | libc::PROT_WRITE);
    let mut file = -1;
    match kind {
        "private" | "huge" => flags |= libc::MAP_PRIVATE,
        "shared" => flags |= libc::MAP_SHARED,
        "none" => {
            flags |= libc::MAP_PRIVATE;
            access = libc::PROT_NONE;
        }
        "memfd" | "file" | "sharedfile" => {
            flags = if kind == "file" { libc::MAP_PRIVATE } else { libc::MAP_SHARED };
            // A memfd counts as shared memory; this program's own file as a file.
            file = if kind == "memfd" {
                // SAFETY: a constant name.
                unsafe { libc::memfd_create(c"arena".as_ptr(), 0) }
            } else {
                access = if kind == "file" { access } else { libc::PROT_READ };
                // SAFETY: a constant path.
                unsafe { libc::open(c"/proc/self/exe".as_ptr(), libc::O_RDONLY) }
            };
            if kind == "memfd" {
                // SAFETY: a descriptor of ours.
                unsafe { libc::ftruncate(file, (pages * PAGE) as i64) };
            }
        }
        _ => return None,
    }
    // Huge pages need an address that is a multiple of their size.
    let room = if kind == "huge" { 2 << 20 } else { 0 };
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE + room, access, flags, file, 0) };
    if at == libc::MAP_FAILED {
        return None;
    }
    let mut at = at as usize;
    if kind == "huge" {
        at = at.next_multiple_of(room);
    }
    let advice = if kind == "huge" { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    // SAFETY: the mapping just made; the advice changes no contents.
    unsafe { libc::madvise(at as *mut _, pages * PAGE, advice) };
    Some(at)
}

fn touch(at: usize, pages: usize, step: usize, write: Option<u8>) -> usize {
    let mut sum = 0usize;
    for page in (0..pages).step_by(step.max(1)) {
        let byte = (at + page * PAGE) as *mut u8;
        match write {
            // SAFETY: the test says what is mapped; a wrong address ends this process, which the test sees.
            Some(value) => unsafe { byte.write_volatile(value) },
            // SAFETY: as above.
            None => sum += usize::from(unsafe { byte.read_volatile() }),
        }
    }
    sum
}

/// Ends this process with the one that started it, which a test may kill; at once if that has happened already.
pub(crate) fn end_with_parent(parent: Option<u32>) {
    // SAFETY: sets a property of this process.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if parent.is_some_and(|parent| parent != std::os::unix::process::parent_id()) {
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
}

extern "C" fn pause_for_ever(parent: *mut libc::c_void) -> libc::c_int {
    end_with_parent(Some(parent as u32));
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

/// Starts a process that uses this one's memory.
fn share() -> i32 {
    let Some(stack) = map("private", 16) else { return -1 };
    let top = (stack + 16 * PAGE) as *mut libc::c_void;
    // SAFETY: a stack of its own, which nobody frees.
    unsafe { libc::clone(pause_for_ever, top, libc::CLONE_VM | libc::SIGCHLD, std::process::id() as *mut _) }
}

/// Takes another process's userfaultfd and is killed after the step named, if one is.
fn take(pid: u32, last: &str) -> String {
    let mut die = |step: mose_pages::inject::InjectionStep| {
        if format!("{step:?}") == last {
            // SAFETY: ends this process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    };
    match mose_pages::inject::take(pid, &mut die) {
        Ok(taken) => format!("taken {}", taken.stopped.as_nanos()),
        Err(refusal) => format!("refused {refusal}"),
    }
}

/// Tracks another process for ever, and begins again each time.
fn track(pid: u32, helper: &str) -> String {
    let preference = mose_pages::Preference {
        only: Some(mose_pages::Means::WriteProtection),
        helper: Some(helper.into()),
    };
    loop {
        let mut tracker = match mose_pages::open(&preference) {
            Ok(opened) => opened.tracker,
            Err(e) => return e.to_string(),
        };
        for _ in 0..5 {
            if let Err(e) = tracker.tick(&[pid]) {
                return e.to_string();
            }
        }
        tracker.pause();
    }
}

fn obey(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| -> usize { words.get(at).and_then(|word| word.parse().ok()).unwrap_or(0) };
    let parent = std::process::id();
    // SAFETY (of all below): the test says what is mapped; a wrong address ends this process, which the test sees.
    match words.first().copied().unwrap_or("") {
        "map" => map(words.get(1).unwrap_or(&""), number(2)).map_or("failed".into(), |at| at.to_string()),
        "write" => touch(number(1), number(2), number(3), Some(number(4) as u8)).to_string(),
        "read" => touch(number(1), number(2), number(3), None).to_string(),
        // SAFETY: see above.
        "unmap" => unsafe { libc::munmap(number(1) as *mut _, number(2) * PAGE) }.to_string(),
        "forget" => {
            // SAFETY: see above.
            unsafe { libc::madvise(number(1) as *mut _, number(2) * PAGE, libc::MADV_DONTNEED) }.to_string()
        }
        "forbid" => {
            // SAFETY: see above.
            unsafe { libc::mprotect(number(1) as *mut _, number(2) * PAGE, libc::PROT_NONE) }.to_string()
        }
        "move" => {
            let (old, new) = (number(2) * PAGE, number(3) * PAGE);
            // SAFETY: see above.
            (unsafe { libc::mremap(number(1) as *mut _, old, new, libc::MREMAP_MAYMOVE) } as usize)
                .to_string()
        }
        // SAFETY: the child does nothing but wait.
        "fork" => match unsafe { libc::fork() } {
            0 => workers::write_for_ever(parent, number(1), number(2)),
            child => child.to_string(),
        },
        "share" => share().to_string(),
        "exec" => {
            let program = std::env::current_exe().unwrap_or_default();
            let mut command = std::process::Command::new(program);
            let error = std::os::unix::process::CommandExt::exec(command.arg("again"));
            error.to_string()
        }
        "work" => workers::start(number(1), number(2)),
        "check" => workers::check(),
        "call" => calls::make(words.get(1).unwrap_or(&""), number(2)),
        "filter" => filter::install(words.get(1).unwrap_or(&"")),
        "leave" => {
            workers::start(1, 1);
            // SAFETY: ends this thread alone; the process goes on.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            String::new()
        }
        "guard" => workers::userfault(number(1), number(2) * PAGE),
        "take" => take(number(1) as u32, words.get(2).unwrap_or(&"")),
        "track" => track(number(1) as u32, words.get(2).unwrap_or(&"")),
        "pid" => std::process::id().to_string(),
        _ => "what?".to_owned(),
    }
}

fn main() {
    end_with_parent(None);
    if std::env::args().nth(1).is_some() {
        let _ = writeln!(std::io::stdout(), "again");
    }
    let stdin = std::io::stdin();
    let mut line = String::new();
    loop {
        line.clear();
        match stdin.lock().read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let answer = obey(&line);
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
