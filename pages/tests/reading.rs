//! Which pages of another process a checkpoint would write, and what is in them.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as a test does")]

mod common;

use common::Puppet;
use mose_pages::{Backing, PAGE_BYTES, PageRange, PageReader, PageSet, dumpable, mappings};

fn range(at: u64, pages: u64) -> PageRange {
    PageRange { start: at, end: at + pages * PAGE_BYTES }
}

fn set(at: u64, pages: u64) -> PageSet {
    [range(at, pages)].into_iter().collect()
}

/// Of the pages from `at`, those that a checkpoint would write.
fn within(pid: u32, at: u64, pages: u64) -> u64 {
    let found = dumpable(&[pid]).unwrap();
    found.memories.iter().map(|m| m.pages.intersection(&set(at, pages)).pages()).sum()
}

#[test]
fn pages_count_once_they_are_written_and_not_when_they_are_only_read() {
    let mut puppet = Puppet::start();
    for kind in ["private", "shared", "memfd"] {
        let at = puppet.number(&format!("map {kind} 100"));
        assert_eq!(within(puppet.pid(), at, 100), 0, "{kind}");
        puppet.tell(&format!("write {at} 60 2 7"));
        assert_eq!(within(puppet.pid(), at, 100), 30, "{kind}");
    }
    let at = puppet.number("map private 100");
    puppet.tell(&format!("read {at} 100 1"));
    assert_eq!(within(puppet.pid(), at, 100), 0, "the page of zeroes is no state");
    puppet.tell(&format!("write {at} 10 1 1"));
    assert_eq!(within(puppet.pid(), at, 100), 10);
    puppet.tell(&format!("forget {at} 4"));
    assert_eq!(within(puppet.pid(), at, 100), 6);
}

#[test]
fn of_a_files_mapping_only_what_the_process_changed_counts() {
    let mut puppet = Puppet::start();
    let at = puppet.number("map file 20");
    puppet.tell(&format!("read {at} 20 1"));
    assert_eq!(within(puppet.pid(), at, 20), 0);
    puppet.tell(&format!("write {at} 3 1 1"));
    assert_eq!(within(puppet.pid(), at, 20), 3);
    let at = puppet.number("map sharedfile 20");
    puppet.tell(&format!("read {at} 20 1"));
    assert_eq!(within(puppet.pid(), at, 20), 0);
    let kinds = mappings(puppet.pid()).unwrap();
    assert_eq!(kinds.iter().find(|m| m.range.start == at).unwrap().backing, Backing::SharedFile);
}

#[test]
fn shared_memory_counts_once_however_many_map_it() {
    let mut puppet = Puppet::start();
    let at = puppet.number("map shared 50");
    puppet.tell(&format!("write {at} 50 1 1"));
    let child = u32::try_from(puppet.number("fork 0 0")).unwrap();
    let found = dumpable(&[puppet.pid(), child]).unwrap();
    assert_eq!(found.memories.len(), 2);
    let counted: u64 = found.memories.iter().map(|m| m.pages.intersection(&set(at, 50)).pages()).sum();
    assert_eq!(counted, 50);
    assert_eq!(within(child, at, 50), 50, "the child has not touched it, and it is its state all the same");
}

#[test]
fn a_memory_that_two_processes_use_counts_once() {
    let mut puppet = Puppet::start();
    let at = puppet.number("map private 50");
    puppet.tell(&format!("write {at} 50 1 1"));
    let alone = dumpable(&[puppet.pid()]).unwrap().pages();
    let sharer = u32::try_from(puppet.number("share")).unwrap();
    let found = dumpable(&[sharer, puppet.pid()]).unwrap();
    assert_eq!(found.memories.len(), 1);
    assert_eq!((found.memories[0].pid, &found.memories[0].sharers[..]), (puppet.pid(), &[sharer][..]));
    // The stack of the sharer is new.
    assert!(found.pages().abs_diff(alone) <= 20, "{} and {alone}", found.pages());
}

#[test]
fn a_process_whose_first_thread_has_ended_is_still_looked_at() {
    let mut puppet = Puppet::start();
    let at = puppet.number("map private 50");
    puppet.tell(&format!("write {at} 50 1 9"));
    puppet.order("leave");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !std::fs::read(format!("/proc/{}/maps", puppet.pid())).unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the first thread did not end");
        std::thread::yield_now();
    }
    assert_eq!(within(puppet.pid(), at, 50), 50);
    let report = PageReader::new().read(puppet.pid(), &set(at, 50), |c| assert_eq!(c.bytes[0], 9)).unwrap();
    assert_eq!((report.pages, report.gone), (50, false));
}

#[test]
fn every_page_is_read_once_in_order_with_what_is_in_it() {
    let mut puppet = Puppet::start();
    let at = puppet.number("map private 3000");
    for page in 0..3000u64 {
        puppet.order(&format!("write {} 1 1 {}", at + page * PAGE_BYTES, page % 251));
    }
    (0..3000).for_each(|_| drop(puppet.answer()));
    // Every third page alone, then a long run.
    let mut wanted: PageSet = (0..1500).step_by(3).map(|page| range(at + page * PAGE_BYTES, 1)).collect();
    wanted.push(range(at + 2000 * PAGE_BYTES, 1000));
    let mut seen = Vec::new();
    let report = PageReader::new()
        .read(puppet.pid(), &wanted, |chunk| {
            for (address, page) in chunk.pages() {
                assert_eq!(u64::from(page[0]), (address - at) / PAGE_BYTES % 251);
                assert!(page[1..].iter().all(|byte| *byte == 0));
                seen.push(address);
            }
        })
        .unwrap();
    let expected: Vec<u64> =
        (0..1500).step_by(3).chain(2000..3000).map(|page| at + page * PAGE_BYTES).collect();
    assert_eq!(seen, expected);
    assert_eq!((report.pages, report.vanished, report.gone), (1500, 0, false));
}

#[test]
fn pages_that_vanish_are_passed_over_and_forbidden_ones_are_read() {
    let mut puppet = Puppet::start();
    let at = puppet.number("map private 1000");
    puppet.tell(&format!("write {at} 1000 1 5"));
    puppet.tell(&format!("unmap {} 300", at + 100 * PAGE_BYTES));
    puppet.tell(&format!("forbid {} 300", at + 500 * PAGE_BYTES));
    assert_eq!(within(puppet.pid(), at, 1000), 700, "what may not be read is state all the same");
    let mut sum = 0;
    let report = PageReader::new()
        .read(puppet.pid(), &set(at, 1000), |chunk| {
            sum += chunk.pages().map(|(_, page)| u64::from(page[0])).sum::<u64>();
        })
        .unwrap();
    assert_eq!((report.pages, report.vanished, report.gone), (700, 300, false));
    assert_eq!(sum, 3500);
}

#[test]
fn a_process_that_ended_is_gone_and_no_error() {
    let mut puppet = Puppet::start();
    let at = puppet.number("map private 10");
    puppet.tell(&format!("write {at} 10 1 5"));
    puppet.kill();
    let report = PageReader::new().read(puppet.pid(), &set(at, 10), |_| panic!("nothing to read")).unwrap();
    assert!(report.gone);
    assert_eq!(dumpable(&[puppet.pid()]).unwrap().pages(), 0);
    assert!(mappings(puppet.pid()).unwrap_err().is_gone());
}
