//! System calls that wait, each made once: what it returned, and after how long.

use std::sync::atomic::AtomicU32;
use std::time::Instant;

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    unsafe { libc::pipe(ends.as_mut_ptr()) };
    ends
}

extern "C" fn caught(_: libc::c_int) {}

/// Makes the call with a time limit of `ms`; gives its result, the error number or 0, and how many ms it took.
pub(crate) fn make(name: &str, ms: usize) -> String {
    let limit = libc::timespec { tv_sec: (ms / 1000) as i64, tv_nsec: (ms % 1000 * 1_000_000) as i64 };
    let word = AtomicU32::new(7);
    let [read, write] = pipe();
    let mut byte = 0u8;
    let begun = Instant::now();
    // SAFETY: all pointers are to locals that live until the call returns.
    let result = unsafe {
        match name {
            "nanosleep" => i64::from(libc::nanosleep(&limit, std::ptr::null_mut())),
            "poll" => {
                let mut fd = libc::pollfd { fd: read, events: libc::POLLIN, revents: 0 };
                i64::from(libc::poll(&mut fd, 1, ms as i32))
            }
            "ppoll" => {
                let mut fd = libc::pollfd { fd: read, events: libc::POLLIN, revents: 0 };
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&mut none);
                i64::from(libc::ppoll(&mut fd, 1, &limit, &none))
            }
            "select" => {
                let mut set: libc::fd_set = std::mem::zeroed();
                libc::FD_SET(read, &mut set);
                let mut limit = libc::timeval { tv_sec: limit.tv_sec, tv_usec: limit.tv_nsec / 1000 };
                i64::from(libc::select(
                    read + 1,
                    &mut set,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    &mut limit,
                ))
            }
            "epoll" => {
                let epoll = libc::epoll_create1(0);
                let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
                libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, read, &mut event);
                i64::from(libc::epoll_wait(epoll, &mut event, 1, ms as i32))
            }
            "caught" => {
                // A handler for SIGUSR1, which ends the wait with EINTR.
                libc::signal(libc::SIGUSR1, caught as *const () as libc::sighandler_t);
                let epoll = libc::epoll_create1(0);
                let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
                let waited = i64::from(libc::epoll_wait(epoll, &mut event, 1, ms as i32));
                let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
                libc::close(epoll);
                *libc::__errno_location() = error;
                waited
            }
            "futex" => libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                7,
                &limit,
            ),
            "sigtimedwait" => {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, libc::SIGUSR2);
                i64::from(libc::sigtimedwait(&set, std::ptr::null_mut(), &limit))
            }
            "socket" => {
                // A read time-out makes the kernel answer EINTR where it would else start anew.
                let mut pair = [0; 2];
                libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr());
                let limit = libc::timeval { tv_sec: limit.tv_sec, tv_usec: limit.tv_nsec / 1000 };
                let length = size_of::<libc::timeval>() as u32;
                libc::setsockopt(
                    pair[0],
                    libc::SOL_SOCKET,
                    libc::SO_RCVTIMEO,
                    (&raw const limit).cast(),
                    length,
                );
                libc::recv(pair[0], (&raw mut byte).cast(), 1, 0) as i64
            }
            "read" => {
                // Ends when a thread writes.
                let writer = std::thread::spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(ms as u64));
                    libc::write(write, [1u8].as_ptr().cast(), 1)
                });
                let got = libc::read(read, (&raw mut byte).cast(), 1) as i64;
                let _ = writer.join();
                got
            }
            "spin" => {
                let mut turns = 0u64;
                while begun.elapsed().as_millis() < ms as u128 {
                    turns = std::hint::black_box(turns.wrapping_add(1));
                }
                i64::from(turns == 0)
            }
            _ => -2,
        }
    };
    let error = if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
    let took = begun.elapsed().as_millis();
    // SAFETY: descriptors of ours.
    unsafe { (libc::close(read), libc::close(write)) };
    format!("{result} {error} {took}")
}
