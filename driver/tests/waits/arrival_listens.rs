//! The destination: what it makes of a source that says nothing, when it asks that for its record, and for how long another order waits.

use std::sync::atomic::Ordering;

use mose_driver::Busy;
use mose_driver::arrival::Asked;
use mose_protocol::handover::HandoverState;
use mose_protocol::record::Outcome;
use mose_protocol::{Reply, ServiceName};

use crate::stubs::{FAILS, Host, NEVER, WELL, Word, ended, failed, restored, says, silent, unreachable};

fn service() -> ServiceName {
    "s".parse().unwrap()
}

fn no_record() -> Word {
    says(Ok(Reply::Record(None)))
}

/// A destination that is prepared, at once.
fn destination() -> Host {
    let destination = Host::new("b");
    destination.prepare("m", "a");
    destination
}

#[tokio::test(start_paused = true)]
async fn the_preparation_of_a_silent_source_is_dropped_once_more_than_180_s_have_passed_without_a_byte() {
    for (words, making, dropped) in [
        // That is looked at every five seconds from the order on; later where something else is being done then.
        ([silent()], 0, 185_000),
        ([unreachable()], 0, 185_000),
        ([no_record()], 0, 185_000),
        ([ended(Outcome::InDoubt)], 0, 185_000),
        ([silent()], 2000, 185_000),
        ([silent()], 7000, 192_000),
    ] {
        let destination = Host::new("b");
        destination.does("make ready", [WELL.taking(making)]);
        destination.hears("record", words);
        destination.prepare("m", "a");
        destination.until(dropped - 1).await;
        assert_eq!(destination.times("m prepare: prepared"), [making]);
        assert_eq!(destination.times("remove"), [0; 0]);
        destination.asked(Asked::Inquire);
        destination.until(dropped + 1).await;
        destination.asked(Asked::Inquire);
        destination.asked(Asked::Prepare);
        destination.until(dropped + 2).await;
        let (before, at, after) =
            ((dropped - 1) as f64 / 1e3, dropped as f64 / 1e3, (dropped + 1) as f64 / 1e3);
        let done = [
            format!("{before:.3} m inquire: preparing"),
            format!("{at:.3} write refused, left"),
            format!("{at:.3} remove"),
            format!("{at:.3} write refused"),
            format!("{after:.3} m inquire: refused"),
            format!("{after:.3} m prepare: Unreachable"),
        ];
        assert_eq!(destination.since(dropped - 1), done);
        // The name is free again.
        assert_eq!(destination.hand_overs.busy_with(&service()), None);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_arrive_put_it_off_that_a_preparation_is_dropped_and_that_the_source_is_asked() {
    let destination = destination();
    for number in 1..=333 {
        destination.until(number * 3000 - 1).await;
        destination.script.received.fetch_add(1, Ordering::Relaxed);
    }
    destination.until(1_000_000).await;
    assert_eq!(destination.times("record to a"), [0; 0]);
    assert_eq!(destination.times("remove"), [0; 0]);
    // The last byte came in second 999, and was seen in second 1000.
    destination.until(1_184_999).await;
    assert_eq!(destination.times("remove"), [0; 0]);
    let asked: Vec<_> = (201..=236).map(|five| five * 5000).collect();
    assert_eq!(destination.times("record to a"), asked);
    destination.until(1_185_001).await;
    assert_eq!(destination.times("remove"), [1_185_000]);
}

#[tokio::test(start_paused = true)]
async fn a_single_byte_counts_from_when_it_is_seen() {
    let destination = destination();
    destination.until(101_000).await;
    destination.script.received.store(1, Ordering::Relaxed);
    destination.until(400_000).await;
    // Until 105 s after 0 s, and then from 105 s on.
    let asked = destination.times("record to a");
    let fives: Vec<_> = (1..=57).filter(|five| *five != 21).map(|five| five * 5000).collect();
    assert_eq!(asked[..fives.len()], fives);
    assert_eq!(destination.times("remove"), [290_000]);
}

#[tokio::test(start_paused = true)]
async fn a_source_is_asked_for_its_record_after_five_seconds_of_silence_and_every_five_from_then_on() {
    for (making, asked) in
        [(0, [5000, 10_000, 15_000]), (2000, [10_000, 15_000, 20_000]), (7000, [12_000, 17_000, 22_000])]
    {
        for words in [[silent()], [no_record()], [unreachable()], [ended(Outcome::InDoubt)]] {
            let destination = Host::new("b");
            destination.does("make ready", [WELL.taking(making)]);
            destination.hears("record", words);
            destination.prepare("m", "a");
            destination.until(asked[2] + 1000).await;
            assert_eq!(destination.times("record to a"), asked);
            assert_eq!(destination.times("write refused, left"), [0; 0]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_is_never_asked_twice_at_the_same_time() {
    let destination = Host::new("b");
    destination.hears("record", [ended(Outcome::RolledBack).taking(2500)]);
    destination.hears("became", [silent(), silent(), says(Ok(Reply::Ok))]);
    destination.take_up_arrival(restored());
    destination.until(100_000).await;
    let done = [
        "0.000 keep",
        "5.000 record to a",
        "7.500 became to a",
        // In second 10 it is still being asked.
        "10.500 became: no answer",
        "15.000 record to a",
        "17.500 became to a",
        "20.500 became: no answer",
        "25.000 record to a",
        "27.500 became to a",
        "27.500 forget",
    ];
    assert_eq!(destination.all(), done);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_says_that_the_migration_ended_has_a_preparation_dropped_and_forgotten() {
    for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::InDoubt) {
        let destination = Host::new("b");
        destination.hears("record", [no_record(), ended(Outcome::InDoubt), ended(outcome).taking(2000)]);
        destination.does("remove", [FAILS, WELL.taking(300)]);
        destination.prepare("m", "a");
        destination.until(18_200).await;
        destination.asked(Asked::Inquire);
        destination.until(60_000).await;
        destination.asked(Asked::Inquire);
        destination.until(60_001).await;
        let done = [
            "5.000 record to a",
            "10.000 record to a",
            "15.000 record to a",
            "17.000 write refused, left",
            "17.000 remove",
            "18.000 remove",
            "18.200 m inquire: refused",
            "18.300 write refused",
            "18.300 forget",
            "60.000 m inquire: unknown",
        ];
        assert_eq!(destination.since(1), done, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_says_that_the_migration_ended_has_what_was_decided_here_forgotten() {
    let refused = HandoverState::Refused(failed());
    for (state, outcome, news) in [
        (restored(), Outcome::Done, false),
        (restored(), Outcome::RolledBack, true),
        (restored(), Outcome::GivenUp, true),
        (refused.clone(), Outcome::RolledBack, false),
        (refused.clone(), Outcome::GivenUp, true),
        (refused, Outcome::Aborted, false),
    ] {
        let destination = Host::new("b");
        destination.hears("record", [unreachable(), ended(Outcome::InDoubt), ended(outcome).taking(500)]);
        // What the source does not know yet it must have heard first.
        destination.hears("became", [says(Ok(Reply::Ok)).taking(700)]);
        destination.take_up_arrival(state);
        destination.until(100_000).await;
        assert_eq!(destination.times("record to a"), [5000, 10_000, 15_000]);
        assert_eq!(destination.times("became to a"), [15_500].repeat(usize::from(news)));
        assert_eq!(destination.times("forget"), [if news { 16_200 } else { 15_500 }]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_being_restored_is_not_dropped_and_its_source_is_not_asked() {
    let destination = destination();
    destination.does("restore", [FAILS]);
    destination.does("disarm", [FAILS]);
    destination.hears("record", [ended(Outcome::GivenUp)]);
    destination.asked(Asked::Relinquish("digest".into()));
    destination.until(1).await;
    destination.asked(Asked::Relinquish("digest".into()));
    destination.until(300_500).await;
    assert_eq!(destination.times("record to a"), [0; 0]);
    // Its end is being tried all the time.
    assert_eq!(destination.times("disarm").len(), 301);
}

#[tokio::test(start_paused = true)]
async fn another_order_waits_up_to_3_s_for_the_removal_of_an_earlier_refused_one() {
    for (removal, answer) in [
        ([WELL.taking(2000), WELL], "2.001 m2 prepare: prepared"),
        ([WELL.taking(3498), WELL], "3.499 m2 prepare: prepared"),
        ([FAILS.taking(2000), WELL], "3.001 m2 prepare: prepared"),
        ([WELL.taking(3500), WELL], "3.500 m2 prepare: Conflict"),
        ([NEVER, WELL], "3.500 m2 prepare: Conflict"),
    ] {
        let destination = destination();
        destination.does("remove", removal);
        destination.until(1).await;
        destination.asked(Asked::Withdraw);
        destination.until(500).await;
        assert_eq!(destination.since(1)[..2], ["0.001 write refused, left", "0.001 remove"]);
        destination.prepare("m2", "a");
        destination.until(4900).await;
        let mut done = destination.since(500);
        done.retain(|line| line.contains(" m2 "));
        assert_eq!(done, [answer]);
        // The second one touches nothing where it is refused, and else nothing before nothing is left of the first.
        let begun =
            if answer.ends_with("prepared") { destination.times("m2 prepare: prepared") } else { vec![] };
        assert_eq!(destination.times("admit"), [vec![0], begun].concat());
        // It is known here how the first one ended.
        assert_eq!(destination.times("record to a"), [0; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn another_order_waits_up_to_3_s_for_the_source_to_say_that_the_earlier_migration_ended() {
    for (record, removal, done) in [
        // It says so after a second, and what was made is removed in two.
        (ended(Outcome::Aborted).taking(1000), WELL.taking(2000), "4.000 m2 prepare: prepared"),
        (ended(Outcome::Aborted).taking(1000), NEVER, "5.000 m2 prepare: Conflict"),
        (ended(Outcome::InDoubt).taking(1000), WELL, "2.000 m2 prepare: Conflict"),
        (no_record().taking(1000), WELL, "2.000 m2 prepare: Conflict"),
        (unreachable(), WELL, "1.000 m2 prepare: Conflict"),
        (silent(), WELL, "4.000 m2 prepare: Conflict"),
    ] {
        let destination = destination();
        destination.hears("record", [record]);
        destination.does("remove", [removal]);
        destination.until(1000).await;
        destination.prepare("m2", "a");
        destination.until(20_000).await;
        assert_eq!(destination.times("record to a").first(), Some(&1000));
        let answered: Vec<_> =
            destination.all().into_iter().filter(|line| line.contains(" m2 prepare: ")).collect();
        assert_eq!(answered, [done]);
    }
}

#[tokio::test(start_paused = true)]
async fn another_order_is_refused_at_once_where_the_earlier_one_is_anothers_or_is_being_restored() {
    for (relinquished, from) in [(false, "c"), (true, "a"), (true, "c")] {
        let destination = destination();
        destination.does("restore", [NEVER]);
        destination.until(1000).await;
        if relinquished {
            destination.asked(Asked::Relinquish("digest".into()));
        }
        destination.until(1001).await;
        assert_eq!(destination.times("restore").len(), usize::from(relinquished));
        destination.prepare("m2", from);
        destination.until(4000).await;
        assert_eq!(destination.since(1001), ["1.001 m2 prepare: Conflict"]);
        assert_eq!(destination.hand_overs.busy_with(&service()), Some(Busy::Coming));
    }
}
