//! Sleeps that are not over: for an hour, in each way that a program can ask for one, and for some seconds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::{Object, Told};

/// No result yet.
const ASLEEP: i64 = i64::MIN;

/// A sleep that is long enough to be moved in.
const SHORT: Duration = Duration::from_secs(8);

pub(super) struct Sleeps {
    hours: Vec<(&'static str, Arc<AtomicI64>)>,
    short: Arc<AtomicI64>,
}

/// How the time that is left is asked for.
#[derive(Clone, Copy)]
enum Rest {
    Nowhere,
    Elsewhere,
    InPlace,
}

/// Sleeps so many seconds in a thread of its own by one call, and keeps what it returned: 0 or an error's number.
fn sleeper(call: libc::c_long, rest: Rest, seconds: i64) -> io::Result<Arc<AtomicI64>> {
    let result = Arc::new(AtomicI64::new(ASLEEP));
    let returned = Arc::clone(&result);
    std::thread::Builder::new().spawn(move || {
        // What is sent to the process is for the other objects' signals to tell.
        if nix::sys::signal::SigSet::all().thread_block().is_err() {
            return;
        }
        let mut time = libc::timespec { tv_sec: seconds, tv_nsec: 0 };
        let mut left = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let time = &raw mut time;
        let left = match rest {
            Rest::Nowhere => std::ptr::null_mut(),
            Rest::Elsewhere => &raw mut left,
            Rest::InPlace => time,
        };
        // SAFETY: both calls read one time, and write another where there is room for it.
        let code = unsafe {
            match call {
                libc::SYS_nanosleep => libc::syscall(call, time, left),
                _ => libc::syscall(call, libc::CLOCK_MONOTONIC, 0, time, left),
            }
        };
        let error = io::Error::last_os_error().raw_os_error().unwrap_or_default();
        returned.store(if code == 0 { 0 } else { error.into() }, Ordering::Relaxed);
    })?;
    Ok(result)
}

impl Sleeps {
    pub(super) fn make() -> io::Result<Self> {
        let mut hours = Vec::new();
        for (what, call, rest) in [
            ("nanosleep", libc::SYS_nanosleep, Rest::Nowhere),
            ("nanosleep in place", libc::SYS_nanosleep, Rest::InPlace),
            ("clock_nanosleep", libc::SYS_clock_nanosleep, Rest::Nowhere),
            ("clock_nanosleep with a rest", libc::SYS_clock_nanosleep, Rest::Elsewhere),
            ("clock_nanosleep in place", libc::SYS_clock_nanosleep, Rest::InPlace),
        ] {
            hours.push((what, sleeper(call, rest, 3600)?));
        }
        let seconds = i64::try_from(SHORT.as_secs()).unwrap_or_default();
        Ok(Self { hours, short: sleeper(libc::SYS_clock_nanosleep, Rest::Elsewhere, seconds)? })
    }
}

impl Object for Sleeps {
    fn tell(&self, told: &mut Told) {
        for (what, result) in &self.hours {
            told.say(format_args!("an hour's {what}"), word(result.load(Ordering::Relaxed)));
        }
    }

    fn prove(&self, told: &mut Told) {
        let deadline = Instant::now() + SHORT * 2;
        while self.short.load(Ordering::Relaxed) == ASLEEP && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        told.say("a sleep of some seconds", word(self.short.load(Ordering::Relaxed)));
    }
}

fn word(result: i64) -> String {
    match result {
        ASLEEP => "asleep".to_owned(),
        0 => "over".to_owned(),
        error => format!("error {error}"),
    }
}
