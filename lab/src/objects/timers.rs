//! Timers that send signals: setitimer(2) and timer_create(2), armed, with their signal pending, and over.

use std::io;
use std::time::Duration;

use super::sys::ok;
use super::{Object, Told};

pub(super) struct Timers {
    timers: Vec<(&'static str, libc::timer_t, libc::c_int)>,
}

const INTERVALS: [(&str, libc::c_int, libc::c_int); 3] = [
    ("real", libc::ITIMER_REAL as libc::c_int, libc::SIGALRM),
    ("virtual", libc::ITIMER_VIRTUAL as libc::c_int, libc::SIGVTALRM),
    ("profiling", libc::ITIMER_PROF as libc::c_int, libc::SIGPROF),
];

fn block(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: a signal set is a plain structure, filled by the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        ok(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())).map(drop)
    }
}

/// Takes a pending signal off, waiting for it at most so long.
fn take(signal: libc::c_int, wait: Duration) -> bool {
    let timeout =
        libc::timespec { tv_sec: wait.as_secs() as libc::time_t, tv_nsec: wait.subsec_nanos().into() };
    // SAFETY: as above; nothing is written without a place for it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout) == signal
    }
}

impl Timers {
    pub(super) fn make() -> io::Result<Self> {
        for (_, which, signal) in INTERVALS {
            block(signal)?;
            let hundred = libc::timeval { tv_sec: 0, tv_usec: 100_000 };
            let setting = libc::itimerval { it_interval: hundred, it_value: hundred };
            // SAFETY: setitimer(2) reads one setting.
            ok(unsafe { libc::syscall(libc::SYS_setitimer, which, &raw const setting, 0) as libc::c_int })?;
        }
        let mut timers = Vec::new();
        let kinds = [
            ("periodic", libc::CLOCK_MONOTONIC, 100, 100, 5),
            ("by the clock", libc::CLOCK_REALTIME, 100, 100, 6),
            ("once, over", libc::CLOCK_MONOTONIC, 1, 0, 7),
            ("in an hour", libc::CLOCK_BOOTTIME, 3_600_000, 0, 8),
        ];
        for (what, clock, first, then, number) in kinds {
            let signal = libc::SIGRTMIN() + number;
            block(signal)?;
            let time =
                |millis: i64| libc::timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 };
            // SAFETY: structures of numbers; the timer's id is written where there is room for it.
            unsafe {
                let mut event: libc::sigevent = std::mem::zeroed();
                event.sigev_notify = libc::SIGEV_SIGNAL;
                event.sigev_signo = signal;
                event.sigev_value = libc::sigval { sival_ptr: number as usize as *mut libc::c_void };
                let mut timer: libc::timer_t = std::mem::zeroed();
                ok(libc::timer_create(clock, &raw mut event, &raw mut timer))?;
                let setting = libc::itimerspec { it_interval: time(then), it_value: time(first) };
                ok(libc::timer_settime(timer, 0, &raw const setting, std::ptr::null_mut()))?;
                timers.push((what, timer, signal));
            }
        }
        std::thread::sleep(Duration::from_millis(250));
        Ok(Self { timers })
    }
}

impl Object for Timers {
    fn tell(&self, told: &mut Told) {
        for (what, which, _) in INTERVALS {
            // SAFETY: one setting is written.
            let setting = unsafe {
                let mut setting: libc::itimerval = std::mem::zeroed();
                libc::syscall(libc::SYS_getitimer, which, &raw mut setting);
                setting
            };
            let interval = setting.it_interval;
            told.say(
                format_args!("{what} interval timer"),
                format_args!("every {}.{:06}", interval.tv_sec, interval.tv_usec),
            );
        }
        for (what, timer, _) in &self.timers {
            // SAFETY: one setting is written.
            let setting = unsafe {
                let mut setting: libc::itimerspec = std::mem::zeroed();
                libc::timer_gettime(*timer, &raw mut setting);
                setting
            };
            let armed = (setting.it_value.tv_sec, setting.it_value.tv_nsec) != (0, 0);
            let interval = setting.it_interval;
            told.say(
                format_args!("timer {what}"),
                format_args!("armed {armed} every {}.{:09}", interval.tv_sec, interval.tv_nsec),
            );
        }
    }

    fn prove(&self, told: &mut Told) {
        let long = Duration::from_millis(600);
        // The processor's time is needed for the other two.
        let (what, _, signal) = INTERVALS[0];
        told.say(
            format_args!("{what} interval timer"),
            format_args!("pending {}, and goes on {}", take(signal, Duration::ZERO), take(signal, long)),
        );
        for (what, _, signal) in &self.timers {
            let first = take(*signal, Duration::ZERO);
            told.say(
                format_args!("timer {what}"),
                format_args!("pending {first}, and goes on {}", take(*signal, long)),
            );
        }
    }
}
