//! Whoever is killed, and whenever: the process that is tracked goes on as if nothing had been.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as a test does")]

mod common;

use common::{HELPER, Puppet, fields};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long each of these tests goes on.
const TIME: Duration = Duration::from_secs(10);
const ROUNDS: u32 = 300;

/// A different number each time, the same in every run.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

fn assert_well(target: &mut Puppet, before: &mut i64, round: u32) {
    assert_eq!(target.tell("pid"), target.pid().to_string(), "round {round}");
    // A helper whose owner is no more goes on to its end.
    let deadline = Instant::now() + Duration::from_secs(5);
    while status(target.pid(), "TracerPid:") != "0" || status(target.pid(), "SigBlk:") != "0000000000000000" {
        assert!(Instant::now() < deadline, "round {round}");
    }
    let answer = target.tell("check");
    assert!(answer.ends_with(" right"), "round {round}: {answer}");
    let now = fields(&answer)[0];
    assert!(now >= *before);
    *before = now;
}

#[test]
fn the_helper_killed_at_any_moment_harms_nobody() {
    let mut target = Puppet::start();
    target.tell("work 2 50");
    let had = fs::read_dir(format!("/proc/{}/fd", target.pid())).unwrap().count();
    let (mut state, mut before, begun) = (1, 0, Instant::now());
    let mut rounds = 0;
    while rounds < ROUNDS && begun.elapsed() < TIME {
        let mut helper = Command::new(HELPER)
            .args(["--pid", &target.pid().to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(next(&mut state) % 6000));
        helper.kill().unwrap();
        helper.wait().unwrap();
        assert_well(&mut target, &mut before, rounds);
        rounds += 1;
    }
    assert!(rounds > 50, "{rounds}");
    // What a killed helper may leave: a descriptor each time at most, of no effect.
    let left = fs::read_dir(format!("/proc/{}/fd", target.pid())).unwrap().count();
    assert!(left <= had + rounds as usize, "{left}");
}

#[test]
fn the_tracker_killed_at_any_moment_harms_nobody_and_leaves_nothing() {
    let mut target = Puppet::start();
    target.tell("work 2 50");
    let had = fs::read_dir(format!("/proc/{}/fd", target.pid())).unwrap().count();
    let (mut state, mut before, begun) = (2, 0, Instant::now());
    let mut rounds = 0;
    while rounds < ROUNDS && begun.elapsed() < TIME {
        let mut owner = Puppet::start();
        owner.order(&format!("track {} {HELPER}", target.pid()));
        std::thread::sleep(Duration::from_micros(next(&mut state) % 40_000));
        owner.kill();
        assert_well(&mut target, &mut before, rounds);
        rounds += 1;
    }
    assert!(rounds > 50, "{rounds}");
    // A helper that was under way has ended by now, or does within its deadlines.
    let left = || fs::read_dir(format!("/proc/{}/fd", target.pid())).unwrap().count();
    let registered = || {
        let text = fs::read_to_string(format!("/proc/{}/smaps", target.pid())).unwrap();
        text.lines().any(|line| line.starts_with("VmFlags:") && line.contains(" uw"))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while left() > had || registered() {
        if Instant::now() > deadline {
            std::process::Command::new("ls")
                .args(["-l", &format!("/proc/{}/fd", target.pid())])
                .status()
                .unwrap();
        }
        assert!(Instant::now() < deadline, "{} descriptors, registered: {}", left(), registered());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_target_killed_at_any_moment_is_no_error() {
    let (mut state, begun) = (3, Instant::now());
    let preference = mose_pages::Preference {
        only: Some(mose_pages::Means::WriteProtection),
        helper: Some(HELPER.into()),
    };
    let mut tracker = mose_pages::open(&preference).unwrap().tracker;
    for _ in 0..100 {
        let mut target = Puppet::start();
        target.tell("work 1 50");
        let pid = target.pid();
        let delay = Duration::from_micros(next(&mut state) % 8000);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(delay);
            target.kill();
        });
        while !killer.is_finished() {
            tracker.tick(&[pid]).unwrap();
        }
        killer.join().unwrap();
        assert!(tracker.tick(&[pid]).unwrap().memories.is_empty());
        if begun.elapsed() > TIME {
            break;
        }
    }
}

/// A cgroup of the freezer's, removed when dropped.
struct Freezer(std::path::PathBuf);

impl Freezer {
    fn new() -> Option<Self> {
        let name = format!("mose-pages-test-{}", std::process::id());
        let folder = Path::new("/sys/fs/cgroup/freezer").join(name);
        fs::create_dir(&folder).ok()?;
        folder.join("freezer.state").exists().then_some(Self(folder))
    }

    fn set(&self, state: &str) {
        fs::write(self.0.join("freezer.state"), state).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_frozen_process_is_refused_in_time_and_thaws_as_it_was() {
    let Some(freezer) = Freezer::new() else {
        eprintln!("SKIPPED: there is no freezer to be written to");
        return;
    };
    let mut target = Puppet::start();
    fs::write(freezer.0.join("cgroup.procs"), target.pid().to_string()).unwrap();
    freezer.set("FROZEN");
    let begun = Instant::now();
    let mut injector = Puppet::start();
    let answer = injector.tell(&format!("take {}", target.pid()));
    assert!(answer.contains("took too long"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    injector.kill();
    // By a tracker it is hashed meanwhile.
    let preference = mose_pages::Preference {
        only: Some(mose_pages::Means::WriteProtection),
        helper: Some(HELPER.into()),
    };
    let mut tracker = mose_pages::open(&preference).unwrap().tracker;
    let dirty = tracker.tick(&[target.pid()]).unwrap();
    assert_eq!(dirty.memories[0].means, mose_pages::Means::Hashing);
    assert!(tracker.refused()[0].1.contains("took too long"), "{:?}", tracker.refused());
    freezer.set("THAWED");
    assert_eq!(target.tell("pid"), target.pid().to_string());
    target.kill();
}
