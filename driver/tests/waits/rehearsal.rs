//! A rehearsal, at both sides: how long its source waits for the destination, and what is said only once nothing is left.

use mose_driver::arrival::Asked;
use mose_protocol::handover::HandoverState;

use crate::stubs::{FAILS, Host, NEVER, WELL, failed, is, rehearsed, says};

/// What is done before the destination is asked.
const BEGIN: [&str; 5] = [
    "0.000 inspect",
    "0.000 write preparing",
    "0.000 make ready",
    "0.000 stop and copy",
    "0.000 rehearse to b",
];

fn source() -> Host {
    let source = Host::new("a");
    for request in ["withdraw", "close"] {
        source.hears(request, [says(Ok(mose_protocol::Reply::Ok))]);
    }
    source
}

#[tokio::test(start_paused = true)]
async fn what_the_destination_says_ends_it_and_nothing_is_ever_relinquished() {
    let ends = [
        (rehearsed(), Some("0.000 hears that it was rehearsed"), "0.000 end: rehearsed"),
        (HandoverState::Refused(failed()), None, "0.000 end: rolled back"),
    ];
    for (answer, heard, end) in ends {
        let source = source();
        source.hears("rehearse", [is(answer)]);
        source.rehearse();
        source.until(1000).await;
        let mut done = BEGIN.to_vec();
        done.extend(heard);
        done.extend(["0.000 take back", "0.000 tell back", "0.000 withdraw to b", "0.000 close to b"]);
        done.extend(["0.000 measure", "0.000 forget", end, "0.000 tell end"]);
        assert_eq!(source.all(), done);
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_never_says_how_it_went_is_waited_for_for_120_s() {
    let source = source();
    source.rehearse();
    source.until(121_000).await;
    assert_eq!(source.times("rehearse: no answer"), [120_000]);
    assert_eq!(source.times("take back"), [120_000]);
    assert_eq!(source.times("end: rolled back"), [120_000]);
    assert!(!source.hand_overs.any_moves());
}

#[tokio::test(start_paused = true)]
async fn an_abort_does_not_wait_for_the_destination() {
    let source = source();
    source.rehearse();
    source.until(2000).await;
    let migration = "m".parse().unwrap();
    source.hand_overs.abort(&migration).unwrap();
    source.until(2001).await;
    assert_eq!(source.times("end: aborted"), [2000]);
}

#[tokio::test(start_paused = true)]
async fn what_is_only_rehearsed_may_be_kept_and_not_be_given_up() {
    let source = source();
    source.hears("rehearse", [is(rehearsed())]);
    source.does("take back", [FAILS, WELL]);
    source.rehearse();
    source.until(1000).await;
    let migration = "m".parse().unwrap();
    let refused = source.hand_overs.settle(&migration, false).unwrap_err();
    assert!(refused.reason.contains("only rehearsed"), "{refused}");
    source.hand_overs.settle(&migration, true).unwrap();
    source.until(1001).await;
    assert_eq!((source.times("take back"), source.times("end: rehearsed")), (vec![0, 1000], vec![1000]));
    assert!(source.times("discard").is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_destination_answers_once_nothing_is_left_and_owns_nothing_meanwhile() {
    let destination = Host::new("b");
    destination.prepare_rehearsal();
    destination.does("rehearse", [WELL.taking(400)]);
    destination.does("remove", [FAILS.taking(100), WELL.taking(100)]);
    destination.until(1000).await;
    destination.asked(Asked::Rehearse("digest".into()));
    destination.until(1200).await;
    destination.asked(Asked::Inquire);
    // A repeated request waits for the same end.
    destination.asked(Asked::Rehearse("digest".into()));
    destination.until(5000).await;
    let done = [
        "1.000 verify",
        "1.000 rehearse",
        "1.200 m inquire: preparing",
        "1.400 remove",
        "2.500 remove",
        "2.600 write rehearsed",
        "2.600 m rehearse: rehearsed",
        "2.600 m rehearse: rehearsed",
    ];
    assert_eq!(destination.since(1000), done);
    assert_eq!(destination.hand_overs.busy_with(&"s".parse().unwrap()), None);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_waits_until_what_is_rehearsed_is_removed() {
    let destination = Host::new("b");
    destination.prepare_rehearsal();
    destination.does("rehearse", [WELL.taking(400)]);
    destination.until(1000).await;
    destination.asked(Asked::Rehearse("digest".into()));
    destination.until(1100).await;
    destination.asked(Asked::Withdraw);
    destination.until(2000).await;
    let done = [
        "1.000 verify",
        "1.000 rehearse",
        "1.400 remove",
        "1.400 write refused",
        "1.400 m rehearse: refused",
        "1.400 m withdraw: refused",
    ];
    assert_eq!(destination.since(1000), done);
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_is_not_handed_over_and_another_life_of_the_destination_refuses_it() {
    let destination = Host::new("b");
    destination.prepare_rehearsal();
    destination.does("rehearse", [NEVER]);
    destination.until(1000).await;
    destination.asked(Asked::Relinquish("digest".into()));
    destination.until(1001).await;
    assert_eq!(destination.since(1000), ["1.000 m relinquish: OutOfTurn"]);

    let next = Host::new("b");
    next.take_up_arrival(HandoverState::Preparing);
    next.until(1000).await;
    assert_eq!(next.all(), ["0.000 write refused, left", "0.000 remove", "0.000 write refused"]);
}
