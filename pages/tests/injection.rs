//! Taking a userfaultfd out of a process leaves the process as it was, whatever it is doing and whoever dies meanwhile.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as a test does")]

mod common;

use common::{Puppet, fields};
use std::time::{Duration, Instant};

/// The steps at which the injector can be killed, in order.
const STEPS: [&str; 13] = [
    "Planned", "Seized", "Stopped", "Written", "Replaced", "Masked", "Created", "Fetched", "Closing",
    "Closed", "Unmasked", "Restored", "Detached",
];

fn state(pid: u32) -> char {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("State:")).unwrap();
    line.trim().chars().next().unwrap()
}

fn line(pid: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Waits until a process sleeps in the call that it was told to make.
fn until_asleep(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while state(pid) != 'S' {
        assert!(Instant::now() < deadline, "it does not sleep");
        std::thread::yield_now();
    }
}

#[test]
fn a_descriptor_is_taken_and_nothing_stays_behind() {
    let (mut injector, mut target) = (Puppet::start(), Puppet::start());
    let before = (descriptors(target.pid()), line(target.pid(), "SigBlk:"));
    for _ in 0..50 {
        let answer = injector.tell(&format!("take {}", target.pid()));
        assert!(answer.starts_with("taken "), "{answer}");
    }
    assert_eq!(target.tell("pid"), target.pid().to_string());
    assert_eq!((descriptors(target.pid()), line(target.pid(), "SigBlk:")), before);
}

#[test]
fn every_call_that_waits_goes_on_waiting() {
    // The second list: calls that the kernel lets answer EINTR when a thread was merely stopped.
    let kept = ["nanosleep", "poll", "ppoll", "select", "futex", "read", "spin"];
    let anew = ["epoll", "sigtimedwait", "socket"];
    let (mut injector, mut target) = (Puppet::start(), Puppet::start());
    for (call, times) in kept.map(|call| (call, 5)).into_iter().chain(anew.map(|call| (call, 1))) {
        target.order(&format!("call {call} 400"));
        for _ in 0..times {
            std::thread::sleep(Duration::from_millis(60));
            let answer = injector.tell(&format!("take {}", target.pid()));
            assert!(answer.starts_with("taken "), "{call}: {answer}");
        }
        let answer = target.answer();
        let [result, error, took] = fields(&answer)[..] else { panic!("{answer}") };
        let expected = match call {
            "futex" => (-1, i64::from(libc::ETIMEDOUT)),
            "sigtimedwait" | "socket" => (-1, i64::from(libc::EAGAIN)),
            "read" => (1, 0),
            _ => (0, 0),
        };
        assert_eq!((result, error), expected, "{call}");
        // The last stop is after 300 ms: a wait that began anew then would end after 700.
        assert!(took >= 395, "{call} took {took} ms");
        assert!(took < 690 || anew.contains(&call), "{call} began anew: {took} ms");
    }
}

#[test]
fn an_injector_killed_at_any_step_leaves_a_target_that_goes_on() {
    let mut target = Puppet::start();
    target.tell("work 3 20");
    for step in STEPS {
        for call in ["nanosleep", "epoll", "poll", "spin"] {
            let mut injector = Puppet::start();
            target.order(&format!("call {call} 60"));
            if call != "spin" {
                until_asleep(target.pid());
            }
            injector.order(&format!("take {} {step}", target.pid()));
            injector.wait();
            let answer = target.answer();
            assert_eq!(fields(&answer)[..2], [0, 0], "{call} when killed after {step}: {answer}");
            // If it had answered before the injector came, it has been through the frame after this one.
            assert_eq!(target.tell("pid"), target.pid().to_string());
            assert_eq!(line(target.pid(), "TracerPid:"), "0");
            assert_eq!(line(target.pid(), "SigBlk:"), "0000000000000000", "after {step}");
        }
    }
    let answer = target.tell("check");
    assert!(answer.ends_with(" right"), "{answer}");
}

#[test]
fn a_filter_that_would_kill_does_not_see_it() {
    for action in ["kill", "errno"] {
        let (mut injector, mut target) = (Puppet::start(), Puppet::start());
        assert_eq!(target.tell(&format!("filter {action}")), "0");
        let answer = injector.tell(&format!("take {}", target.pid()));
        assert!(answer.starts_with("taken "), "{answer}");
        assert_eq!(target.tell("pid"), target.pid().to_string());
    }
}

#[test]
fn a_stopped_process_is_refused_and_stays_stopped() {
    let (mut injector, mut target) = (Puppet::start(), Puppet::start());
    let pid = target.pid().cast_signed();
    // SAFETY: a signal to a process of ours.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
    let deadline = Instant::now() + Duration::from_secs(5);
    while state(target.pid()) != 'T' {
        assert!(Instant::now() < deadline);
    }
    let answer = injector.tell(&format!("take {pid}"));
    assert!(answer.contains("stopped by a signal"), "{answer}");
    assert_eq!(state(target.pid()), 'T');
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    assert_eq!(target.tell("pid"), pid.to_string());
}

#[test]
fn signals_that_come_meanwhile_are_delivered_and_stop_signals_stop() {
    let (mut injector, mut target) = (Puppet::start(), Puppet::start());
    let pid = target.pid().cast_signed();
    for round in 0..100 {
        injector.order(&format!("take {pid}"));
        std::thread::sleep(Duration::from_micros(200 + round * 20));
        // SAFETY: signals to a process of ours.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        let answer = injector.answer();
        assert!(answer.starts_with("taken ") || answer.contains("stopped"), "{answer}");
        let deadline = Instant::now() + Duration::from_secs(5);
        while state(target.pid()) != 'T' {
            assert!(Instant::now() < deadline, "the stop signal was lost in round {round}: {answer}");
        }
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGCONT) };
        assert_eq!(target.tell("pid"), pid.to_string());
    }
}

#[test]
fn a_signal_that_has_a_handler_ends_a_wait_whenever_it_comes() {
    let (mut injector, mut target) = (Puppet::start(), Puppet::start());
    let mut before = 0;
    for round in 0..150u64 {
        // Without a time limit, for which a better moment would be waited for.
        target.order(&format!("call caught {}", u32::MAX));
        let caught = |mask: &str| u64::from_str_radix(mask, 16).unwrap() >> (libc::SIGUSR1 - 1) & 1 == 1;
        let deadline = Instant::now() + Duration::from_secs(5);
        // Not before the handler is there and the wait has begun.
        while !caught(&line(target.pid(), "SigCgt:")) || !in_epoll(target.pid()) {
            assert!(Instant::now() < deadline);
        }
        injector.order(&format!("take {}", target.pid()));
        std::thread::sleep(Duration::from_micros(round * 97 % 4000));
        send(target.pid());
        let answer = injector.answer();
        assert!(answer.starts_with("taken "), "{answer}");
        // One that comes while the kernel is about to make the call again comes before the call, as to any process that is stopped and
        // goes on (signal(7)): no program can tell. The next one ends the wait.
        let mut sent = Instant::now();
        while !in_call(target.pid(), &[libc::SYS_read]) {
            if in_epoll(target.pid()) && sent.elapsed() > Duration::from_millis(500) {
                send(target.pid());
                (sent, before) = (Instant::now(), before + 1);
            }
        }
        let answer = target.answer();
        let [result, error, _] = fields(&answer)[..] else { panic!("{answer}") };
        assert_eq!((result, error), (-1, i64::from(libc::EINTR)), "round {round}: {answer}");
    }
    assert!(before <= 3, "{before} of 150 signals did not end the wait");
}

fn send(pid: u32) {
    // SAFETY: a signal to a process of this test.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGUSR1) };
}

/// Whether its first thread waits in epoll_wait(2).
fn in_epoll(pid: u32) -> bool {
    in_call(pid, &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait])
}

/// Whether its first thread waits in one of these calls.
fn in_call(pid: u32, calls: &[libc::c_long]) -> bool {
    let line = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    calls.iter().any(|call| line.starts_with(&format!("{call} ")))
}

#[test]
fn a_busy_process_of_many_threads_is_right_after_a_hundred_times() {
    let (mut injector, mut target) = (Puppet::start(), Puppet::start());
    target.tell("work 4 50");
    let before = fields(&target.tell("check"))[0];
    for _ in 0..100 {
        let answer = injector.tell(&format!("take {}", target.pid()));
        assert!(answer.starts_with("taken "), "{answer}");
    }
    let answer = target.tell("check");
    assert!(answer.ends_with(" right") && fields(&answer)[0] > before, "{answer}");
}

#[test]
fn a_process_whose_first_thread_has_ended_and_one_that_is_gone_are_refused() {
    let (mut injector, mut target) = (Puppet::start(), Puppet::start());
    target.order("leave");
    let deadline = Instant::now() + Duration::from_secs(5);
    while state(target.pid()) != 'Z' {
        assert!(Instant::now() < deadline);
    }
    let answer = injector.tell(&format!("take {}", target.pid()));
    assert!(answer.contains("first thread has ended"), "{answer}");
    target.kill();
    assert_eq!(injector.tell(&format!("take {}", target.pid())), "refused it is gone");
}

/// A 32-bit program that waits for a signal: one header, one segment, `mov $29, %eax; int $0x80; jmp` back.
fn pause_in_32_bits() -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2u8, 0, 3, 0]);
    let words = [1u32, 0x0804_8054, 52, 0, 0, 0x0020_0034, 1, 0];
    let segment = [1u32, 0, 0x0804_8000, 0x0804_8000, 93, 93, 5, 4096];
    file.extend(words.iter().chain(&segment).flat_map(|word| word.to_le_bytes()));
    file.extend([0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7]);
    file
}

#[test]
fn a_32_bit_program_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("mose-pages-32-{}", std::process::id()));
    std::fs::write(&path, pause_in_32_bits()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let started = std::process::Command::new(&path).spawn();
    std::fs::remove_file(&path).unwrap();
    let Ok(mut target) = started else {
        eprintln!("SKIPPED: this kernel runs no 32-bit programs");
        return;
    };
    let answer = Puppet::start().tell(&format!("take {}", target.id()));
    let alive = target.try_wait().unwrap().is_none();
    target.kill().unwrap();
    target.wait().unwrap();
    assert!(alive && answer.contains("not a 64-bit program"), "{alive}: {answer}");
}

#[test]
fn a_process_that_is_traced_already_is_refused() {
    let (mut injector, mut target) = (Puppet::start(), Puppet::start());
    let pid = target.pid().cast_signed();
    // SAFETY: traces a process of this test, without a stop.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    assert_eq!(seized, 0);
    let answer = injector.tell(&format!("take {pid}"));
    assert!(answer.contains("traces it already"), "{answer}");
    assert_eq!(target.tell("pid"), pid.to_string());
}
