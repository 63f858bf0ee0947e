//! The dirty pages of running processes: told exactly, through all that processes do, and without a trace left.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as a test does")]

mod common;

use common::{HELPER, Puppet, fields};
use mose_pages::{Dirty, Means, PAGE_BYTES, PageRange, PageSet, Preference, Tracker, open};
use std::collections::BTreeSet;
use std::time::Duration;

fn tracker(means: Means) -> Box<dyn Tracker> {
    open(&Preference { only: Some(means), helper: Some(HELPER.into()) }).unwrap().tracker
}

/// Those that work on any machine that runs these tests.
fn trackers() -> [Box<dyn Tracker>; 2] {
    [tracker(Means::WriteProtection), tracker(Means::Hashing)]
}

/// The pages found, as numbers from `at`.
fn numbers(dirty: &Dirty, at: u64, pages: u64) -> BTreeSet<u64> {
    let all: PageSet = [PageRange { start: at, end: at + pages * PAGE_BYTES }].into_iter().collect();
    let mut found = BTreeSet::new();
    for memory in &dirty.memories {
        for range in &memory.pages.intersection(&all) {
            found
                .extend((range.start..range.end).step_by(PAGE_BYTES as usize).map(|a| (a - at) / PAGE_BYTES));
        }
    }
    found
}

/// Whether any mapping of a process is registered with a userfaultfd (`um`, `uw`: proc_pid_smaps(5)).
fn is_registered(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    text.lines().any(|l| l.starts_with("VmFlags:") && l.split(' ').any(|flag| flag == "uw" || flag == "um"))
}

#[test]
fn exactly_the_pages_written_since_the_tick_before_are_told() {
    for mut tracker in trackers() {
        let mut puppet = Puppet::start();
        let pids = [puppet.pid()];
        for kind in ["private", "shared", "memfd", "file"] {
            let size = if kind == "file" { 20 } else { 500 };
            let at = puppet.number(&format!("map {kind} {size}"));
            puppet.tell(&format!("write {at} {size} 1 1"));
            tracker.tick(&pids).unwrap();
            assert!(numbers(&tracker.tick(&pids).unwrap(), at, size).is_empty(), "{kind}");
            for round in 2..6 {
                puppet.tell(&format!("write {at} {size} {round} {round}"));
                // A second time, and reading: neither changes anything.
                puppet.tell(&format!("write {at} {size} {round} {}", round + 50));
                puppet.tell(&format!("read {at} {size} 1"));
                let dirty = tracker.tick(&pids).unwrap();
                let expected: BTreeSet<u64> = (0..size).step_by(round).collect();
                assert_eq!(numbers(&dirty, at, size), expected, "{kind} by {}", tracker.means());
                assert!(dirty.memories.iter().all(|m| !m.fresh && m.means == tracker.means()));
            }
            assert!(numbers(&tracker.tick(&pids).unwrap(), at, size).is_empty(), "{kind}");
        }
        assert_eq!(tracker.refused(), []);
        drop(tracker);
        assert!(!is_registered(puppet.pid()));
    }
}

#[test]
fn the_first_tick_tells_all_that_a_checkpoint_would_write_as_fresh() {
    for mut tracker in trackers() {
        let mut puppet = Puppet::start();
        let at = puppet.number("map private 300");
        puppet.tell(&format!("write {at} 200 1 1"));
        let dirty = tracker.tick(&[puppet.pid()]).unwrap();
        assert!(dirty.memories[0].fresh && dirty.pages() == 0 && dirty.span.is_zero());
        assert_eq!(numbers(&dirty, at, 300).len(), 200);
        let all = mose_pages::dumpable(&[puppet.pid()]).unwrap();
        assert_eq!(dirty.fresh_pages(), all.pages());
    }
}

#[test]
fn memory_that_comes_and_goes_and_moves_is_followed() {
    for mut tracker in trackers() {
        let mut puppet = Puppet::start();
        let pids = [puppet.pid()];
        tracker.tick(&pids).unwrap();
        // New memory counts when it is written.
        let at = puppet.number("map private 400");
        puppet.tell(&format!("write {at} 100 1 1"));
        assert_eq!(numbers(&tracker.tick(&pids).unwrap(), at, 400), (0..100).collect(), "new");
        puppet.tell(&format!("write {} 100 1 1", at + 100 * PAGE_BYTES));
        assert_eq!(
            numbers(&tracker.tick(&pids).unwrap(), at, 400),
            (100..200).collect(),
            "first written later"
        );
        // Given back and written anew.
        puppet.tell(&format!("forget {at} 200"));
        assert!(numbers(&tracker.tick(&pids).unwrap(), at, 400).is_empty(), "given back");
        puppet.tell(&format!("write {at} 10 1 1"));
        assert_eq!(
            numbers(&tracker.tick(&pids).unwrap(), at, 400),
            (0..10).collect(),
            "after it was given back"
        );
        // Moved: all of it is new to its place.
        let blocker = puppet.number("map private 1");
        let moved = puppet.number(&format!("move {at} 400 60000"));
        assert_ne!(moved, at);
        puppet.tell(&format!("write {} 1 1 9", moved + 3 * PAGE_BYTES));
        let dirty = numbers(&tracker.tick(&pids).unwrap(), moved, 400);
        assert!(dirty.contains(&3) && dirty.is_subset(&(0..10).collect()), "moved: {dirty:?}");
        puppet.tell(&format!("write {moved} 2 1 8"));
        assert_eq!(numbers(&tracker.tick(&pids).unwrap(), moved, 400), (0..2).collect(), "after the move");
        puppet.tell(&format!("unmap {moved} 60000"));
        puppet.tell(&format!("unmap {blocker} 1"));
        assert!(numbers(&tracker.tick(&pids).unwrap(), moved, 60000).is_empty());
        // In the same place again, between two ticks.
        for round in 0..200 {
            let at = puppet.number("map private 64");
            puppet.tell(&format!("write {at} 5 1 {}", round + 1));
            if round % 3 == 0 {
                assert_eq!(numbers(&tracker.tick(&pids).unwrap(), at, 64), (0..5).collect());
            }
            puppet.tell(&format!("unmap {at} 64"));
        }
        assert_eq!(tracker.refused(), []);
    }
}

#[test]
fn a_forked_child_is_tracked_from_then_on() {
    for mut tracker in trackers() {
        let mut puppet = Puppet::start();
        let at = puppet.number("map private 300");
        puppet.tell(&format!("write {at} 300 1 1"));
        tracker.tick(&[puppet.pid()]).unwrap();
        let child = u32::try_from(puppet.number(&format!("fork {at} 20"))).unwrap();
        let both = [puppet.pid(), child];
        let first = tracker.tick(&both).unwrap();
        let fresh: Vec<u32> = first.memories.iter().filter(|m| m.fresh).map(|m| m.pid).collect();
        assert_eq!(fresh, [child]);
        puppet.tell(&format!("write {} 7 1 3", at + 100 * PAGE_BYTES));
        std::thread::sleep(Duration::from_millis(30));
        let dirty = tracker.tick(&both).unwrap();
        let of = |pid: u32| {
            let memories = dirty.memories.iter().filter(|m| m.pid == pid).cloned().collect();
            numbers(&Dirty { memories, span: dirty.span }, at, 300)
        };
        assert_eq!(of(puppet.pid()), (100..107).collect());
        // The child writes the same number to each page for ever: by its contents that shows once.
        let written = if tracker.means() == Means::Hashing {
            of(child).is_subset(&(0..20).collect())
        } else {
            of(child) == (0..20).collect()
        };
        assert!(written, "{:?}", of(child));
        // SAFETY: ends a process of this test.
        unsafe { libc::kill(child.cast_signed(), libc::SIGKILL) };
    }
}

#[test]
fn a_process_that_replaces_its_memory_is_tracked_in_the_new_one() {
    for mut tracker in trackers() {
        let mut puppet = Puppet::start();
        let pids = [puppet.pid()];
        tracker.tick(&pids).unwrap();
        for _ in 0..5 {
            assert_eq!(puppet.tell("exec"), "again");
            let dirty = tracker.tick(&pids).unwrap();
            assert!(dirty.memories[0].fresh || tracker.means() == Means::Hashing);
            let at = puppet.number("map private 100");
            puppet.tell(&format!("write {at} 30 1 1"));
            assert_eq!(numbers(&tracker.tick(&pids).unwrap(), at, 100), (0..30).collect());
            puppet.tell(&format!("write {at} 3 1 2"));
            assert_eq!(numbers(&tracker.tick(&pids).unwrap(), at, 100), (0..3).collect());
        }
        assert_eq!(tracker.refused(), []);
    }
}

#[test]
fn one_memory_of_two_processes_is_tracked_once_whoever_ends() {
    for mut tracker in trackers() {
        let mut puppet = Puppet::start();
        let at = puppet.number("map private 100");
        puppet.tell(&format!("write {at} 100 1 1"));
        let sharer = u32::try_from(puppet.number("share")).unwrap();
        let both = [puppet.pid(), sharer];
        assert_eq!(tracker.tick(&both).unwrap().memories.len(), 1);
        puppet.tell(&format!("write {at} 9 1 2"));
        assert_eq!(numbers(&tracker.tick(&both).unwrap(), at, 100), (0..9).collect());
        // SAFETY: ends a process of this test.
        unsafe { libc::kill(sharer.cast_signed(), libc::SIGKILL) };
        puppet.tell(&format!("write {at} 4 1 3"));
        assert_eq!(numbers(&tracker.tick(&both).unwrap(), at, 100), (0..4).collect());
    }
}

#[test]
fn what_another_userfaultfd_has_is_hashed_and_the_rest_is_protected() {
    let mut tracker = tracker(Means::WriteProtection);
    let mut puppet = Puppet::start();
    let pids = [puppet.pid()];
    let theirs = puppet.number("map private 50");
    let ours = puppet.number("map private 50");
    puppet.tell(&format!("write {theirs} 50 1 1"));
    puppet.tell(&format!("write {ours} 50 1 1"));
    let answer = puppet.tell(&format!("guard {theirs} 50"));
    assert!(answer.ends_with(" 0 0"), "{answer}");
    tracker.tick(&pids).unwrap();
    for value in 2..5 {
        puppet.tell(&format!("write {theirs} 50 10 {value}"));
        puppet.tell(&format!("write {ours} 50 25 {value}"));
        let dirty = tracker.tick(&pids).unwrap();
        assert_eq!(numbers(&dirty, theirs, 50), [0, 10, 20, 30, 40].into());
        assert_eq!(numbers(&dirty, ours, 50), [0, 25].into());
    }
    drop(tracker);
    assert!(is_registered(puppet.pid()), "theirs is left alone");
}

#[test]
fn a_pause_costs_nothing_and_ends_with_the_next_tick() {
    for mut tracker in trackers() {
        let mut puppet = Puppet::start();
        let pids = [puppet.pid()];
        let at = puppet.number("map private 100");
        puppet.tell(&format!("write {at} 100 1 1"));
        tracker.tick(&pids).unwrap();
        tracker.pause();
        puppet.tell(&format!("write {at} 50 1 2"));
        assert!(tracker.tick(&pids).unwrap().span.is_zero());
        puppet.tell(&format!("write {at} 5 1 3"));
        let dirty = tracker.tick(&pids).unwrap();
        assert!(!dirty.span.is_zero());
        assert_eq!(numbers(&dirty, at, 100), (0..5).collect());
    }
}

#[test]
fn writes_to_huge_pages_are_told_by_the_small_page() {
    let mut tracker = tracker(Means::WriteProtection);
    let mut puppet = Puppet::start();
    let at = puppet.number("map huge 1024");
    puppet.tell(&format!("write {at} 1024 1 1"));
    tracker.tick(&[puppet.pid()]).unwrap();
    let huge = tracker.cost().huge_pages;
    assert!(huge == 0 || huge >= 512, "{huge}");
    puppet.tell(&format!("write {} 3 1 2", at + 700 * PAGE_BYTES));
    assert_eq!(numbers(&tracker.tick(&[puppet.pid()]).unwrap(), at, 1024), (700..703).collect());
}

#[test]
fn a_process_that_ends_while_tracked_is_left_out() {
    for mut tracker in trackers() {
        let (mut puppet, mut other) = (Puppet::start(), Puppet::start());
        let pids = [puppet.pid(), other.pid()];
        assert_eq!(tracker.tick(&pids).unwrap().memories.len(), 2);
        puppet.kill();
        let dirty = tracker.tick(&pids).unwrap();
        assert_eq!(dirty.memories.iter().map(|m| m.pid).collect::<Vec<_>>(), [other.pid()]);
        other.kill();
        assert!(tracker.tick(&pids).unwrap().memories.is_empty());
    }
}

#[test]
fn busy_threads_are_tracked_and_stay_right() {
    let mut puppet = Puppet::start();
    let places: Vec<u64> = fields(&puppet.tell("work 4 100")).into_iter().map(i64::cast_unsigned).collect();
    let mut tracker = tracker(Means::WriteProtection);
    tracker.tick(&[puppet.pid()]).unwrap();
    for _ in 0..50 {
        let before = fields(&puppet.tell("check"))[0];
        std::thread::sleep(Duration::from_millis(10));
        let after = fields(&puppet.tell("check"))[0];
        let dirty = tracker.tick(&[puppet.pid()]).unwrap();
        let found: usize = places.iter().map(|at| numbers(&dirty, *at, 100).len()).sum();
        // On a machine with much else to do they may not have run at all. A round counts after its write, so one is not certain.
        assert!(found > 0 || after <= before + 4, "{} rounds, and no page", after - before);
    }
    let answer = puppet.tell("check");
    assert!(answer.ends_with(" right"), "{answer}");
    assert_eq!(tracker.cost().stops, 1);
}

#[test]
fn no_write_is_missed_while_ticks_and_writes_race() {
    let mut puppet = Puppet::start();
    let at = puppet.number("map private 2000");
    puppet.tell(&format!("write {at} 2000 1 1"));
    let mut tracker = tracker(Means::WriteProtection);
    let pids = [puppet.pid()];
    tracker.tick(&pids).unwrap();
    for round in 0..20u8 {
        puppet.order(&format!("write {at} 2000 1 {round}"));
        let mut seen = BTreeSet::new();
        let mut told = 0;
        for _ in 0..6 {
            let found = numbers(&tracker.tick(&pids).unwrap(), at, 2000);
            told += found.len();
            seen.extend(found);
        }
        puppet.answer();
        let found = numbers(&tracker.tick(&pids).unwrap(), at, 2000);
        told += found.len();
        seen.extend(found);
        assert_eq!(seen.len(), 2000);
        // The one page whose write is under way at a tick may be told at the next one too.
        assert!((2000..=2006).contains(&told), "each page was written once, and {told} were told");
    }
}
