//! The drivers of both sides in a simulated world of hosts, disks, engines and a network, on a simulated clock: everything follows from a
//! seed, and a seed that shows a fault is a test. `MOSE_SEED=N` runs one seed and prints its trace; `MOSE_WHOLE=1` runs 100 000
//! instead of those that half a minute has time for.
#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the report")]

mod network;
mod run;
mod works;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mose_protocol::record::Outcome;
use network::{Fault, Ill};
use run::{Scenario, run};

/// How long `./check` looks.
const BOUNDED: Duration = Duration::from_secs(20);

/// The seeds of the whole form.
const WHOLE: u64 = 100_000;

/// Runs a seed again with its trace, and shows that.
fn show(seed: u64, scenario: Scenario, wrong: &str) -> ! {
    let ran = run(seed, Scenario { traced: true, ..scenario });
    panic!("seed {seed}, {scenario:?}: {wrong}\n{}", ran.trace.join("\n"));
}

/// Runs seeds on two threads until there are as many or the time is up; how many, and the first that shows a fault.
fn search(most: u64, time: Duration) -> (u64, Option<(u64, String)>) {
    let (next, ran, begun) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= most || begun.elapsed() > time {
                return None;
            }
            let wrong = run(seed, Scenario::default()).wrong;
            ran.fetch_add(1, Ordering::Relaxed);
            if let Some(wrong) = wrong {
                next.store(most, Ordering::Relaxed);
                return Some((seed, wrong));
            }
        }
    };
    let mut found = None;
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        found = threads.into_iter().filter_map(|thread| thread.join().unwrap()).min();
    });
    let ran = ran.into_inner();
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    eprintln!("{ran} seeds in {:.1} s: {:.0} a minute", minutes * 60.0, ran as f64 / minutes);
    (ran, found)
}

#[test]
#[cfg(not(feature = "seeded-bug"))]
fn whatever_goes_wrong_one_copy_runs_in_the_end_and_never_two() {
    if let Some(seed) = std::env::var("MOSE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let ran = run(seed, Scenario { traced: true, ..Scenario::default() });
        eprintln!("{}\nseed {seed}: {} events, hash {:x}", ran.trace.join("\n"), ran.events, ran.hash);
        assert_eq!(ran.wrong, None);
        return;
    }
    let whole = std::env::var("MOSE_WHOLE").is_ok_and(|value| value == "1");
    let (most, time) = if whole { (WHOLE, Duration::MAX) } else { (WHOLE, BOUNDED) };
    if let (_, Some((seed, wrong))) = search(most, time) {
        show(seed, Scenario::default(), &wrong);
    }
}

/// The feature breaks a rule on purpose: the source takes its service back although its journal may say that it is relinquished.
#[test]
#[cfg(feature = "seeded-bug")]
fn the_seeded_bug_is_found() {
    let (ran, found) = search(WHOLE, Duration::MAX);
    let Some((seed, wrong)) = found else { panic!("{ran} seeds did not find it") };
    eprintln!("seed {seed}: {wrong}");
    eprintln!("{}", run(seed, Scenario { traced: true, ..Scenario::default() }).trace.join("\n"));
}

#[test]
fn one_seed_twice_is_the_same_to_the_last_event() {
    for seed in 0..50 {
        let [one, two] = [(); 2].map(|()| run(seed, Scenario::default()));
        assert_eq!(one, two, "seed {seed}");
    }
}

#[test]
#[cfg(not(feature = "seeded-bug"))]
fn of_two_orders_for_one_service_one_is_refused_and_touches_nothing() {
    let scenario = Scenario { two_orders: true, ..Scenario::default() };
    for seed in 0..1000 {
        if let Some(wrong) = run(seed, scenario).wrong {
            show(seed, scenario, &wrong);
        }
    }
}

#[test]
#[cfg(not(feature = "seeded-bug"))]
fn every_message_may_be_lost_doubled_late_or_reordered() {
    let requests = [
        "prepare",
        "create",
        "hold",
        "relinquish",
        "rehearse",
        "inquire",
        "withdraw",
        "close",
        "record",
        "became",
    ];
    let ills = [Ill::RequestLost, Ill::AnswerLost, Ill::Doubled, Ill::Late, Ill::Reordered];
    for request in requests {
        for ill in ills {
            let mut befell = 0;
            for seed in 0..400 {
                let fault = Some(Fault { request, ill, times: 1 + (seed % 3) as u32 });
                let scenario = Scenario { fault, ..Scenario::default() };
                let ran = run(seed, scenario);
                if let Some(wrong) = ran.wrong {
                    show(seed, scenario, &wrong);
                }
                befell += ran.befell;
            }
            assert!(befell >= 5, "{request} {ill:?}: only {befell} times");
        }
    }
}

/// What never happens proves nothing.
#[test]
#[cfg(not(feature = "seeded-bug"))]
fn migrations_end_in_every_way() {
    let mut ends = BTreeMap::<&str, u32>::new();
    for seed in 0..4000 {
        for outcome in run(seed, Scenario::default()).outcomes {
            *ends.entry(outcome.name()).or_default() += 1;
        }
    }
    eprintln!("{ends:?}");
    let all = Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::InDoubt);
    for outcome in all {
        assert!(ends.get(outcome.name()).is_some_and(|times| *times >= 10), "{}: {ends:?}", outcome.name());
    }
}
