//! The source: how migrations end that are undone, aborted, taken back or given up, and what is tried again meanwhile.

use mose_handover::SourceState;
use mose_protocol::handover::HandoverState;
use mose_protocol::{MigrationId, RefusalCode};

use crate::stubs::{FAILS, Host, NEVER, WELL, failed, is, restored, silent, unreachable};

fn migration() -> MigrationId {
    "m".parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_aborted_while_it_is_made_ready_is_broken_off_at_once() {
    let source = Host::new("a");
    source.does("make ready", [NEVER]);
    source.does("undo", [WELL.taking(250)]);
    source.hears("withdraw", [is(HandoverState::Refused(failed())).taking(100)]);
    source.hears("close", [unreachable().taking(100)]);
    source.order();
    source.until(3210).await;
    source.hand_overs.abort(&migration()).unwrap();
    source.until(100_000).await;
    let done = [
        "0.000 inspect",
        "0.000 write preparing",
        "0.000 make ready",
        "3.210 make ready: broken off",
        "3.210 undo",
        "3.460 withdraw to b",
        "3.560 close to b",
        "3.660 forget",
        "3.660 end: aborted",
        "3.660 tell end",
    ];
    assert_eq!(source.all(), done);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_aborted_while_its_service_is_copied_is_broken_off_at_once() {
    let source = Host::new("a");
    source.does("stop and copy", [NEVER]);
    source.does("take back", [WELL.taking(400)]);
    source.order();
    source.until(3210).await;
    source.hand_overs.abort(&migration()).unwrap();
    source.until(3300).await;
    // An abort that is repeated is the same one.
    source.hand_overs.abort(&migration()).unwrap();
    source.until(100_000).await;
    let done = [
        "0.000 stop and copy",
        "3.210 stop and copy: broken off",
        "3.210 take back",
        "3.610 tell back",
        "3.610 withdraw to b",
        "6.610 withdraw: no answer",
        "6.610 close to b",
        "9.610 close: no answer",
        "9.610 measure",
        "9.610 forget",
        "9.610 end: aborted",
        "9.610 tell end",
    ];
    assert_eq!(source.all()[4..], done);
}

#[tokio::test(start_paused = true)]
async fn an_abort_while_the_journal_is_written_counts_as_soon_as_it_is() {
    for (state, next) in [
        ("preparing", "2.000 forget"),
        ("dumping", "2.000 take back"),
        ("relinquished", "2.000 relinquish to b"),
    ] {
        let source = Host::new("a");
        let write = format!("write {state}");
        source.does(&write, [WELL.taking(2000)]);
        source.order();
        source.until(1000).await;
        assert_eq!(source.times(&write), [0]);
        let aborted = source.hand_overs.abort(&migration());
        // What is about to be relinquished cannot be aborted.
        let code = (state == "relinquished").then_some(RefusalCode::OutOfTurn);
        assert_eq!(aborted.err().map(|refusal| refusal.code), code);
        source.until(2001).await;
        assert_eq!(source.since(1).first().map(String::as_str), Some(next));
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_comes_too_late_is_refused_with_what_is_true_of_the_service() {
    let too_late = |source: &Host| source.hand_overs.abort(&migration()).unwrap_err();
    let says = |source: &Host, truth: &str| {
        let refusal = too_late(source);
        assert_eq!(refusal.code, RefusalCode::OutOfTurn);
        assert!(
            refusal.reason.contains("cannot be aborted any more") && refusal.reason.contains(truth),
            "{refusal}"
        );
    };
    let source = Host::new("a");
    source.hears("relinquish", [is(restored()).taking(2000)]);
    source.does("clean up with figures", [WELL.taking(2000)]);
    source.order();
    source.until(1000).await;
    says(&source, "was handed to b");
    source.until(3000).await;
    says(&source, "runs at b");

    let source = Host::new("a");
    source.does("stop and copy", [FAILS]);
    source.does("take back", [FAILS.taking(2000), WELL]);
    source.order();
    source.until(1000).await;
    says(&source, "it is over, and ");
    says(&source, " is being taken back to a");
    source.until(3000).await;
    says(&source, "could not be taken back to a yet");

    let source = Host::new("a");
    source.hears("relinquish", [unreachable()]);
    source.hears("inquire", [unreachable()]);
    source.hears("withdraw", [silent()]);
    source.does("discard", [WELL.taking(5000)]);
    source.order();
    source.until(12_000).await;
    says(&source, "was handed to b, which has not said whether it restored it");
    source.hand_overs.settle(&migration(), false).unwrap();
    source.until(16_000).await;
    says(&source, "was given up at a");
    // Once it has ended there is nothing to abort.
    source.until(30_000).await;
    assert!(too_late(&source).reason.starts_with("no migration"), "{}", too_late(&source));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_never_answered_delay_the_end_of_an_undone_migration_by_3_s_each() {
    let source = Host::new("a");
    source.does("make ready", [FAILS.taking(1000)]);
    source.order();
    source.until(100_000).await;
    let done = [
        "1.000 undo",
        "1.000 withdraw to b",
        "4.000 withdraw: no answer",
        "4.000 close to b",
        "7.000 close: no answer",
        "7.000 forget",
        "7.000 end: refused",
        "7.000 tell end",
    ];
    assert_eq!(source.since(1), done);

    // Answered late, but in time, each delays it by as long.
    let source = Host::new("a");
    source.does("make ready", [FAILS]);
    source.hears("withdraw", [is(HandoverState::Refused(failed())).taking(2999)]);
    source.hears("close", [unreachable().taking(2999)]);
    source.order();
    source.until(100_000).await;
    assert_eq!(source.times("close to b"), [2999]);
    assert_eq!(source.times("tell end"), [5998]);
}

#[tokio::test(start_paused = true)]
async fn a_take_back_that_fails_is_tried_again_every_5_s_and_the_doubt_is_told_once() {
    let source = Host::new("a");
    source.does("stop and copy", [FAILS]);
    source.does("take back", [FAILS.taking(2000), FAILS, FAILS, WELL.taking(100)]);
    source.hears("withdraw", [is(restored())]);
    source.order();
    source.until(100_000).await;
    let done = [
        "0.000 stop and copy",
        "0.000 take back",
        "2.000 doubt: not taken back",
        "7.000 take back",
        "12.000 take back",
        "17.000 take back",
        "17.100 tell back",
        // A destination that runs it too is not told to forget it.
        "17.100 withdraw to b",
        "17.100 measure",
        "17.100 forget",
        "17.100 end: rolled back",
        "17.100 tell end",
    ];
    assert_eq!(source.all()[4..], done);
}

#[tokio::test(start_paused = true)]
async fn a_decision_about_what_cannot_be_taken_back_is_carried_out_at_once() {
    for (keep, done) in [
        (true, ["8.500 take back", "13.500 take back", "18.500 take back", "23.500 take back"]),
        (false, ["8.500 write given up", "8.500 discard", "8.500 forget", "8.500 end: given up"]),
    ] {
        let source = Host::new("a");
        source.does("take back", [FAILS]);
        source.take_up_departure(SourceState::Dumping);
        source.until(8500).await;
        assert_eq!(source.all(), ["0.000 take back", "0.000 doubt: not taken back", "5.000 take back"]);
        source.hand_overs.settle(&migration(), keep).unwrap();
        source.until(25_000).await;
        assert_eq!(source.since(8500)[..4], done);
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_while_the_service_is_being_taken_back_counts_as_soon_as_that_fails() {
    for (last, next) in [(FAILS, "12.000 write given up"), (WELL, "12.000 tell back")] {
        let source = Host::new("a");
        source.does("take back", [FAILS, last.taking(7000)]);
        source.take_up_departure(SourceState::Reclaiming);
        source.until(8500).await;
        assert_eq!(source.times("take back"), [0, 5000]);
        source.hand_overs.settle(&migration(), false).unwrap();
        source.until(60_000).await;
        assert_eq!(source.since(8500).first().map(String::as_str), Some(next));
    }
}

#[tokio::test(start_paused = true)]
async fn the_source_writes_every_5_s_that_the_service_lives_at_the_destination_until_that_is_on_disk() {
    let source = Host::new("a");
    source.does("write restored", [FAILS, FAILS.taking(1000), WELL]);
    source.hears("relinquish", [is(restored()).taking(300)]);
    source.order();
    source.until(100_000).await;
    // Before that the destination is not told to forget it.
    let done = [
        "0.300 clean up with figures",
        "0.300 write restored",
        "5.300 write restored",
        "11.300 write restored",
        "11.300 close to b",
        "14.300 close: no answer",
        "14.300 forget",
        "14.300 end: done",
        "14.300 tell end",
    ];
    assert_eq!(source.since(1), done);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_cleaned_up_is_left_to_the_next_start_and_delays_nothing() {
    let source = Host::new("a");
    source.does("clean up with figures", [FAILS.taking(500)]);
    source.hears("relinquish", [is(restored())]);
    source.order();
    source.until(100_000).await;
    assert_eq!(source.since(1), ["0.500 write restored", "0.500 end: done", "0.500 tell end"]);
}

#[tokio::test(start_paused = true)]
async fn the_source_writes_every_5_s_that_the_service_is_given_up_until_that_is_on_disk() {
    let source = Host::new("a");
    source.does("write given up", [FAILS, FAILS, WELL]);
    source.hears("relinquish", [unreachable()]);
    source.hears("inquire", [unreachable()]);
    source.hears("withdraw", [silent()]);
    source.order();
    source.until(12_000).await;
    source.hand_overs.settle(&migration(), false).unwrap();
    source.until(100_000).await;
    let done = [
        "12.000 withdraw to b",
        "15.000 withdraw: no answer",
        "15.000 write given up",
        "20.000 write given up",
        "25.000 write given up",
        "25.000 discard",
        "25.000 forget",
        "25.000 end: given up",
        "25.000 tell end",
    ];
    assert_eq!(source.since(12_000), done);
}
