//! The destination: what is tried again until it is done, what is said meanwhile, and what is answered at once.

use mose_driver::Busy;
use mose_driver::arrival::Asked;
use mose_protocol::ServiceName;
use mose_protocol::handover::HandoverState;

use crate::stubs::{FAILS, Host, NEVER, WELL, failed};

fn service() -> ServiceName {
    "s".parse().unwrap()
}

fn relinquish() -> Asked {
    Asked::Relinquish("digest".into())
}

/// A destination that is prepared, at once; it is second 1.
async fn destination() -> Host {
    let destination = Host::new("b");
    destination.prepare("m", "a");
    destination.until(1000).await;
    let done = ["0.000 admit", "0.000 write preparing", "0.000 make ready", "0.000 m prepare: prepared"];
    assert_eq!(destination.all(), done);
    destination
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_does_not_end_is_tried_again_every_second_and_nothing_is_refused_before_it_has_ended() {
    let destination = destination().await;
    destination.does("restore", [FAILS.taking(500)]);
    destination.does("disarm", [FAILS.taking(200), FAILS, FAILS, WELL.taking(300)]);
    destination.does("remove", [FAILS.taking(400), WELL]);
    destination.asked(relinquish());
    for at in [1600, 2100, 3900] {
        destination.until(at).await;
        destination.asked(Asked::Inquire);
        destination.asked(Asked::Withdraw);
    }
    destination.until(4900).await;
    let done = [
        "1.000 verify",
        "1.000 write restoring",
        "1.000 restore",
        "1.500 disarm",
        "1.600 m inquire: restoring",
        "1.600 m withdraw: restoring",
        // The source need not wait for it.
        "1.700 m relinquish: restoring",
        "2.100 m inquire: restoring",
        "2.100 m withdraw: restoring",
        "2.700 disarm",
        "3.700 disarm",
        "3.900 m inquire: restoring",
        "3.900 m withdraw: restoring",
        "4.700 disarm",
    ];
    assert_eq!(destination.since(1000), done);
    destination.until(5100).await;
    destination.asked(Asked::Inquire);
    destination.until(9000).await;
    // What is left is removed when everybody knows; that it is, is noted.
    let done = [
        "5.000 write refused, left",
        "5.000 remove",
        "5.100 m inquire: refused",
        "5.400 record to a",
        "6.400 remove",
        "6.400 write refused",
    ];
    assert_eq!(destination.since(4950)[..6], done);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_the_destinations_own_is_refused_at_once_and_its_removal_is_tried_again_every_second()
{
    let destination = destination().await;
    destination.does("remove", [FAILS, FAILS.taking(400), WELL]);
    // That nothing is left must be on disk too: until then it is removed again.
    destination.does("write refused", [FAILS, WELL]);
    destination.asked(Asked::Withdraw);
    destination.until(4300).await;
    assert_eq!(destination.hand_overs.busy_with(&service()), Some(Busy::Coming));
    destination.until(4900).await;
    assert_eq!(destination.hand_overs.busy_with(&service()), None);
    let done = [
        "1.000 write refused, left",
        "1.000 remove",
        "1.000 m withdraw: refused",
        "2.000 remove",
        "3.400 remove",
        "3.400 write refused",
        "4.400 remove",
        "4.400 write refused",
    ];
    assert_eq!(destination.since(1000), done);
}

#[tokio::test(start_paused = true)]
async fn that_it_is_restored_is_written_every_second_until_it_is_on_disk_and_said_only_then() {
    let destination = destination().await;
    destination.does("write restored", [FAILS, FAILS.taking(100), WELL]);
    destination.asked(relinquish());
    destination.until(2500).await;
    destination.asked(Asked::Inquire);
    destination.until(4000).await;
    destination.asked(Asked::Inquire);
    destination.until(4500).await;
    let done = [
        "1.000 verify",
        "1.000 write restoring",
        "1.000 restore",
        "1.000 write restored",
        "2.000 write restored",
        "2.500 m inquire: restoring",
        "3.100 write restored",
        "3.100 keep",
        "3.100 m relinquish: restored",
        "4.000 m inquire: restored",
    ];
    assert_eq!(destination.since(1000), done);
}

#[tokio::test(start_paused = true)]
async fn that_it_is_refused_is_written_every_second_until_it_is_on_disk_and_said_only_then() {
    // What was not the destination's own is said to be in preparation meanwhile, and nothing is removed before.
    let destination = destination().await;
    destination.does("write refused, left", [FAILS, FAILS, WELL]);
    destination.asked(Asked::Withdraw);
    destination.until(2500).await;
    destination.asked(Asked::Inquire);
    destination.until(4500).await;
    let done = [
        "1.000 write refused, left",
        "2.000 write refused, left",
        "2.500 m inquire: preparing",
        "3.000 write refused, left",
        "3.000 remove",
        "3.000 write refused",
        "3.000 m withdraw: refused",
    ];
    assert_eq!(destination.since(1000), done);

    let destination = self::destination().await;
    destination.does("restore", [FAILS]);
    destination.does("write refused, left", [FAILS, FAILS, WELL]);
    destination.asked(relinquish());
    destination.until(2500).await;
    destination.asked(Asked::Inquire);
    destination.until(4500).await;
    let done = [
        "1.000 verify",
        "1.000 write restoring",
        "1.000 restore",
        "1.000 disarm",
        "1.000 write refused, left",
        "2.000 write refused, left",
        "2.500 m inquire: restoring",
        "3.000 write refused, left",
        "3.000 remove",
        "3.000 write refused",
        "3.000 m relinquish: refused",
    ];
    assert_eq!(destination.since(1000), done);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_was_begun_yet_a_journal_that_cannot_be_written_ends_it_at_once() {
    let destination = Host::new("b");
    destination.does("write preparing", [FAILS.taking(200)]);
    destination.prepare("m", "a");
    destination.until(60_000).await;
    let done = ["0.000 admit", "0.000 write preparing", "0.200 forget", "0.200 m prepare: Failed"];
    assert_eq!(destination.all(), done);
    assert_eq!(destination.hand_overs.busy_with(&service()), None);

    // Nothing of the service was started either.
    let destination = self::destination().await;
    destination.does("write restoring", [FAILS.taking(200)]);
    destination.asked(relinquish());
    destination.until(4900).await;
    let done = [
        "1.000 verify",
        "1.000 write restoring",
        "1.200 write refused, left",
        "1.200 remove",
        "1.200 write refused",
        "1.200 m relinquish: refused",
    ];
    assert_eq!(destination.since(1000), done);
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_at_once_while_a_restore_takes_long() {
    let destination = destination().await;
    destination.does("restore", [WELL.taking(100_000)]);
    destination.asked(relinquish());
    let requests = [
        (Asked::Inquire, "inquire: restoring"),
        (relinquish(), "relinquish: restoring"),
        (Asked::Withdraw, "withdraw: restoring"),
        (Asked::Prepare, "prepare: OutOfTurn"),
        (Asked::Create, "create: OutOfTurn"),
        (Asked::Hold, "hold: OutOfTurn"),
        (Asked::Close, "close: ok"),
    ];
    let mut done = vec!["1.000 verify", "1.000 write restoring", "1.000 restore"];
    let mut answers = Vec::new();
    for (number, (request, answer)) in requests.into_iter().enumerate() {
        let at = 10_000 * (number as u64 + 1);
        destination.until(at).await;
        destination.asked(request);
        destination.until(at + 1).await;
        answers.push(format!("{}.000 m {answer}", at / 1000));
    }
    done.extend(answers.iter().map(String::as_str));
    // Neither a close that comes too early nor a withdrawal changes what becomes of it.
    destination.until(104_000).await;
    done.extend(["101.000 write restored", "101.000 keep", "101.000 m relinquish: restored"]);
    let mut since = destination.since(1000);
    since.retain(|line| !line.ends_with("record to a"));
    assert_eq!(since, done);
}

#[tokio::test(start_paused = true)]
async fn a_close_is_answered_at_once_while_what_is_not_needed_any_more_is_removed() {
    let destination = destination().await;
    destination.does("keep", [WELL.taking(3000)]);
    destination.asked(relinquish());
    destination.until(2000).await;
    destination.asked(Asked::Inquire);
    destination.asked(Asked::Close);
    destination.until(10_000).await;
    let done = ["2.000 m inquire: restored", "2.000 m close: ok", "4.000 forget"];
    assert_eq!(destination.since(2000), done);
    assert_eq!(destination.times("m relinquish: restored"), [1000]);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_while_it_is_made_ready_is_answered_as_soon_as_that_can_be_refused() {
    let destination = Host::new("b");
    destination.does("make ready", [WELL.taking(60_000)]);
    destination.does("remove", [NEVER]);
    destination.prepare("m", "a");
    destination.until(4000).await;
    destination.asked(Asked::Inquire);
    destination.asked(Asked::Withdraw);
    destination.until(64_000).await;
    let done = [
        "4.000 m inquire: preparing",
        "60.000 write refused, left",
        "60.000 remove",
        "60.000 m prepare: Failed",
        "60.000 m withdraw: refused",
    ];
    assert_eq!(destination.since(1), done);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_say_whether_the_service_runs_is_asked_again_every_second() {
    let destination = Host::new("b");
    destination.does("look", [FAILS, FAILS.taking(500), WELL]);
    destination.does("release", [FAILS.taking(100), WELL]);
    destination.take_up_arrival(HandoverState::Restoring);
    destination.until(3000).await;
    destination.asked(Asked::Inquire);
    destination.until(4000).await;
    destination.asked(Asked::Inquire);
    destination.until(4900).await;
    let done = [
        "0.000 look",
        "1.000 look",
        "2.500 look",
        "2.500 release",
        "3.000 m inquire: restoring",
        "3.600 look",
        "3.600 release",
        "3.600 write restored",
        "3.600 keep",
        "4.000 m inquire: restored",
    ];
    assert_eq!(destination.all(), done);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_life_had_refused_is_told_at_once_while_it_is_removed() {
    let destination = Host::new("b");
    destination.does("remove", [FAILS, FAILS, WELL]);
    destination.take_up_arrival(HandoverState::Preparing);
    destination.until(1500).await;
    destination.asked(relinquish());
    destination.until(4900).await;
    let done = [
        "0.000 write refused, left",
        "0.000 remove",
        "1.000 remove",
        "1.500 m relinquish: refused",
        "2.000 remove",
        "2.000 write refused",
    ];
    assert_eq!(destination.all(), done);

    // Where nothing was left, nothing is done.
    let destination = Host::new("b");
    destination.take_up_arrival(HandoverState::Refused(failed()));
    destination.until(4900).await;
    destination.asked(Asked::Withdraw);
    destination.until(4999).await;
    assert_eq!(destination.all(), ["4.900 m withdraw: refused"]);
}
