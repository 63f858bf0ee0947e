//! Descriptors that are no files: eventfd, signalfd, timerfd, epoll, inotify, pidfd, memfd.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use super::sys::{fcntl, ok, owned};
use super::{Object, Told};

pub(super) struct Descriptors {
    counters: Vec<(&'static str, File)>,
    timers: Vec<(&'static str, File)>,
    signals: File,
    poll: OwnedFd,
    watch: Option<File>,
    sealed: File,
    place: std::path::PathBuf,
    _kept: Vec<OwnedFd>,
}

/// A timer that is read from a descriptor.
fn timer(clock: libc::c_int, flags: libc::c_int, first: Duration, then: Duration) -> io::Result<File> {
    // SAFETY: timerfd_create(2) takes numbers.
    let file: File =
        owned(unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })?.into();
    let time = |duration: Duration| libc::timespec {
        tv_sec: duration.as_secs() as libc::time_t,
        tv_nsec: duration.subsec_nanos().into(),
    };
    let mut setting = libc::itimerspec { it_interval: time(then), it_value: time(first) };
    if flags & libc::TFD_TIMER_ABSTIME != 0 {
        let mut now = time(Duration::ZERO);
        // SAFETY: clock_gettime(2) writes one timespec.
        ok(unsafe { libc::clock_gettime(clock, &raw mut now) })?;
        setting.it_value.tv_sec += now.tv_sec;
        setting.it_value.tv_nsec = now.tv_nsec;
    }
    // SAFETY: timerfd_settime(2) reads one itimerspec and, without a place for it, returns none.
    ok(unsafe { libc::timerfd_settime(file.as_raw_fd(), flags, &raw const setting, std::ptr::null_mut()) })?;
    Ok(file)
}

impl Descriptors {
    pub(super) fn make(place: &Path) -> io::Result<Self> {
        // SAFETY: eventfd(2) takes numbers.
        let event = |value, flags| owned(unsafe { libc::eventfd(value, flags) }).map(File::from);
        let counters = vec![
            ("eventfd", event(41, libc::EFD_CLOEXEC)?),
            ("eventfd as a semaphore", event(3, libc::EFD_SEMAPHORE | libc::EFD_NONBLOCK)?),
        ];
        let (none, tenth, hour) = (Duration::ZERO, Duration::from_millis(100), Duration::from_secs(3600));
        let (monotonic, real) = (libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME);
        let absolute = libc::TFD_TIMER_ABSTIME;
        let timers = vec![
            ("periodic, never read", timer(monotonic, 0, tenth, tenth)?),
            ("periodic, read once", timer(monotonic, 0, tenth, tenth)?),
            ("periodic and absolute, never read", timer(monotonic, absolute, none, tenth)?),
            ("once, expired, not read", timer(monotonic, 0, tenth, none)?),
            ("once, expired, read", timer(monotonic, 0, tenth, none)?),
            ("once and absolute, expired, read", timer(monotonic, absolute, none, none)?),
            ("once and absolute by the clock, expired, read", timer(real, absolute, none, none)?),
            ("in an hour", timer(libc::CLOCK_BOOTTIME, 0, hour, none)?),
            ("in an hour, absolute", timer(real, absolute, hour, none)?),
            ("never set", timer(monotonic, 0, none, none)?),
        ];
        std::thread::sleep(tenth * 3);
        for (what, file) in &timers {
            if what.ends_with("read once") || what.ends_with(", read") {
                let mut file = file;
                let _ = file.read(&mut [0; 8])?;
            }
        }
        // SAFETY: a signal set is a plain structure, filled by the calls below.
        let signals = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGUSR1);
            libc::sigaddset(&raw mut set, libc::SIGRTMIN() + 3);
            ok(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
            let file = owned(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
            // Pending, to be read: one of the process, and two queued ones with a value.
            libc::raise(libc::SIGUSR1);
            for value in [7_usize, 8] {
                let value = libc::sigval { sival_ptr: value as *mut libc::c_void };
                libc::sigqueue(libc::getpid(), libc::SIGRTMIN() + 3, value);
            }
            file
        };
        // SAFETY: epoll_create1(2) takes a number.
        let poll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let edge = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let once = (libc::EPOLLIN | libc::EPOLLONESHOT) as u32;
        let mut kept = Vec::new();
        add(&poll, counters[0].1.as_raw_fd(), edge, 0xdead_beef_0001)?;
        add(&poll, counters[1].1.as_raw_fd(), libc::EPOLLIN as u32 | libc::EPOLLPRI as u32, 2)?;
        add(&poll, timers[0].1.as_raw_fd(), edge, 3)?;
        let spent = event(1, libc::EFD_NONBLOCK)?;
        add(&poll, spent.as_raw_fd(), once, 4)?;
        kept.push(spent.into());
        // SAFETY: inotify_init1(2) takes a number.
        let watch = File::from(owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?);
        let watched = std::ffi::CString::new("/etc").unwrap_or_default();
        // SAFETY: the path outlives the call.
        let watching =
            unsafe { libc::inotify_add_watch(watch.as_raw_fd(), watched.as_ptr(), libc::IN_DELETE) };
        // SAFETY: memfd_create(2) copies the name.
        let memory =
            unsafe { libc::memfd_create(c"sealed".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        let mut sealed = File::from(owned(memory)?);
        sealed.write_all(b"sealed")?;
        fcntl(&sealed, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW)?;
        Ok(Self {
            counters,
            timers,
            signals: signals.into(),
            poll,
            watch: (watching >= 0).then_some(watch),
            sealed,
            place: place.to_owned(),
            _kept: kept,
        })
    }
}

fn add(poll: &OwnedFd, fd: RawFd, events: u32, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: epoll_ctl(2) reads one event.
    ok(unsafe { libc::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
}

/// The lines of what the kernel says of a descriptor that stay the same while nothing is done.
fn info(fd: &impl AsRawFd) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with("mnt_id") && !line.starts_with("ino"));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Of watches, the inode and its handle are others after a move.
            let same = words.iter().filter(|word| {
                !["ino:", "sdev:", "f_handle:", "fhandle-bytes:"].iter().any(|other| word.starts_with(other))
            });
            same.copied().collect::<Vec<_>>().join(" ")
        })
        .filter(|line| !line.starts_with("it_value") && !line.starts_with("ticks"))
        .collect()
}

impl Object for Descriptors {
    fn tell(&self, told: &mut Told) {
        for (what, file) in &self.counters {
            told.say(what, info(file).join(", "));
        }
        for (what, file) in &self.timers {
            let text =
                fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap_or_default();
            let armed = text.lines().any(|line| line.starts_with("it_value") && !line.contains("(0, 0)"));
            // A timer that was not read for a while has no time left; whether it goes on is proved, not told.
            let armed =
                if what.contains("never read") { "-" } else { if armed { "armed" } else { "not armed" } };
            let clock = text.lines().find(|line| line.starts_with("clockid")).unwrap_or_default();
            let interval = text.lines().find(|line| line.starts_with("it_interval")).unwrap_or_default();
            told.say(format_args!("timerfd {what}"), format_args!("{armed} {clock} {interval}"));
        }
        told.say("signalfd", info(&self.signals).join(", "));
        let mut polled = info(&self.poll);
        polled.sort();
        told.say("epoll", polled.join(", "));
        told.say(
            "inotify",
            self.watch.as_ref().map_or_else(|| "none".into(), |watch| info(watch).join(", ")),
        );
        let seals = fcntl(&self.sealed, libc::F_GET_SEALS, 0).unwrap_or(-1);
        told.say("memfd", format_args!("seals {seals:#x} {}", info(&self.sealed).join(", ")));
    }

    fn prove(&self, told: &mut Told) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        // SAFETY: at most 16 events are written.
        let count = unsafe { libc::epoll_wait(self.poll.as_raw_fd(), events.as_mut_ptr(), 16, 500) };
        let mut seen: Vec<u64> =
            events.iter().take(usize::try_from(count).unwrap_or(0)).map(|e| e.u64).collect();
        seen.sort_unstable();
        told.say("epoll, events", format_args!("{seen:x?}"));
        for (what, file) in &self.timers {
            let mut file = file;
            let mut expired = |wait| {
                std::thread::sleep(Duration::from_millis(wait));
                file.read(&mut [0; 8]).is_ok_and(|read| read == 8)
            };
            // The second time tells whether it goes on.
            let (first, second) = (expired(0), expired(350));
            told.say(format_args!("timerfd {what}"), format_args!("expired {first}, then {second}"));
        }
        for (what, file) in &self.counters {
            let mut value = [0; 8];
            let mut file = file;
            let read = file.read(&mut value).unwrap_or(0);
            told.say(format_args!("{what}, read"), format_args!("{read} {}", u64::from_ne_bytes(value)));
        }
        // What is read of each signal: its number and, of a queued one, its value.
        let mut signals = [[0_u8; 128]; 4];
        let mut read = 0;
        for signal in &mut signals {
            let mut file = &self.signals;
            read += usize::from(file.read(signal).is_ok_and(|length| length == 128));
        }
        let told_of = signals[..read].iter().map(|s| (s[0], s[44]));
        told.say("signalfd, read", format_args!("{:?}", told_of.collect::<Vec<_>>()));
        if let Some(mut watch) = self.watch.as_ref() {
            let _ = File::create("/etc/holdall").and_then(|_| fs::remove_file("/etc/holdall"));
            let read = watch.read(&mut [0; 512]).is_ok_and(|length| length > 0);
            told.say("inotify, told of a deletion", read);
        }
        let grown = self.sealed.set_len(100).is_ok();
        told.say("memfd, may grow", grown);
        let _ = &self.place;
    }
}
