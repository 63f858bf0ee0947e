//! The source, once the service is relinquished: how often it asks, when it says that the service is in doubt, and for how long it waits
//! for the destination's last word.

use mose_driver::Busy;
use mose_protocol::handover::HandoverState;
use mose_protocol::{Refusal, RefusalCode, ServiceName};

use crate::stubs::{FAILS, Host, Word, failed, is, restored, says, silent, unreachable};

fn service() -> ServiceName {
    "s".parse().unwrap()
}

/// A source whose service has been relinquished, at once.
fn source() -> Host {
    let source = Host::new("a");
    source.order();
    source
}

/// A source whose service is in doubt since second 10, as the destination cannot be reached; at second 12 the operator decides. It has
/// asked often enough for the longest pauses. From then on the destination answers this to each *withdraw*.
async fn decided<const N: usize>(keep: bool, withdraw: [Word; N]) -> Host {
    let source = source();
    source.hears("relinquish", [unreachable()]);
    source.hears("inquire", [unreachable()]);
    source.hears("withdraw", withdraw);
    source.until(12_000).await;
    assert_eq!(source.times("doubt: silent"), [10_000]);
    source.hand_overs.settle(&"m".parse().unwrap(), keep).unwrap();
    source
}

#[tokio::test(start_paused = true)]
async fn the_pauses_between_questions_grow_from_50_ms_to_one_second_and_stay_there() {
    let out_of_turn = says(Err(Refusal::new(RefusalCode::OutOfTurn, "it cannot", "")));
    let answers = [
        (is(HandoverState::Restoring), "inquire"),
        (unreachable(), "inquire"),
        (is(HandoverState::Preparing), "relinquish"),
        (is(HandoverState::Unknown), "withdraw"),
        (out_of_turn, "withdraw"),
    ];
    for (answer, question) in answers {
        let source = source();
        for request in ["relinquish", "inquire", "withdraw"] {
            source.hears(request, [answer.clone()]);
        }
        source.until(9000).await;
        let mut asked: Vec<_> = ["relinquish", "inquire", "withdraw"]
            .iter()
            .flat_map(|request| source.times(&format!("{request} to b")))
            .collect();
        asked.sort_unstable();
        let times = [0, 50, 150, 350, 750, 1550, 2550, 3550, 4550, 5550, 6550, 7550, 8550];
        assert_eq!(asked, times, "{answer:?}");
        // What is asked follows from the answer.
        let of_it = source.times(&format!("{question} to b"));
        assert_eq!(of_it, times[usize::from(question != "relinquish")..], "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_never_answers_relinquish_is_asked_after_3_s_and_in_doubt_after_13() {
    let source = source();
    source.until(14_000).await;
    let done = [
        "0.000 inspect",
        "0.000 write preparing",
        "0.000 make ready",
        "0.000 write dumping",
        "0.000 stop and copy",
        "0.000 write relinquished",
        "0.000 relinquish to b",
        "3.000 relinquish: no answer",
        "3.050 inquire to b",
        "6.050 inquire: no answer",
        "6.150 inquire to b",
        "9.150 inquire: no answer",
        "9.350 inquire to b",
        "12.350 inquire: no answer",
        "12.750 inquire to b",
        "13.000 doubt: silent",
    ];
    assert_eq!(source.all(), done);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_had_not_heard_relinquish_has_3_s_again_to_restore() {
    let source = source();
    source.hears("relinquish", [unreachable(), silent()]);
    source.hears("inquire", [is(HandoverState::Preparing), is(HandoverState::Restoring)]);
    source.until(3_500).await;
    let asked = [
        "0.000 relinquish to b",
        "0.050 inquire to b",
        "0.150 relinquish to b",
        "3.150 relinquish: no answer",
        "3.350 inquire to b",
    ];
    assert_eq!(source.all()[6..], asked);
}

#[tokio::test(start_paused = true)]
async fn ten_seconds_after_the_first_unanswered_question_the_service_is_in_doubt_and_the_source_goes_on_asking()
 {
    let source = source();
    source.hears("relinquish", [unreachable()]);
    source.hears("inquire", [unreachable()]);
    source.until(9999).await;
    assert_eq!(source.hand_overs.busy_with(&service()), Some(Busy::Leaving));
    source.until(10_001).await;
    assert_eq!(source.hand_overs.busy_with(&service()), Some(Busy::InDoubt));
    source.until(600_000).await;
    assert_eq!(source.times("doubt: silent"), [10_000]);
    // Once a second, as before, and the doubt that the destination does not decide is the same one.
    let asked = source.times("inquire to b");
    let late: Vec<_> = (9..600).map(|second| second * 1000 + 550).collect();
    assert_eq!(asked[asked.len() - late.len()..], late);
    assert_eq!(source.times("doubt: undecided"), [0; 0]);

    source.hears("inquire", [is(restored()).taking(20)]);
    source.hears("close", [silent()]);
    source.until(700_000).await;
    let end = [
        "600.550 inquire to b",
        "600.570 clean up with figures",
        "600.570 write restored",
        "600.570 close to b",
        "603.570 close: no answer",
        "603.570 forget",
        "603.570 end: done",
        "603.570 tell end",
    ];
    assert_eq!(source.since(600_000), end);
    assert_eq!(source.hand_overs.busy_with(&service()), None);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_heard_again_in_time_has_ten_seconds_anew() {
    let source = source();
    source.hears("relinquish", [unreachable()]);
    let [one, two, three, four] = [(); 4].map(|()| unreachable());
    source.hears("inquire", [one, two, three, four, is(HandoverState::Restoring), unreachable()]);
    source.until(60_000).await;
    assert_eq!(source.times("inquire to b")[..6], [50, 150, 350, 750, 1550, 2550]);
    assert_eq!(source.times("doubt: silent"), [12_550]);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_says_restoring_for_420_s_leads_to_a_doubt_and_is_asked_on() {
    // The time counts from the first question, even if that is never answered.
    for relinquish in [is(HandoverState::Restoring), silent()] {
        let source = source();
        source.hears("relinquish", [relinquish]);
        source.hears("inquire", [is(HandoverState::Restoring)]);
        source.hears("close", [is(HandoverState::Unknown)]);
        source.until(419_999).await;
        assert_eq!(source.hand_overs.busy_with(&service()), Some(Busy::Leaving));
        source.until(499_600).await;
        assert_eq!(source.times("doubt: undecided"), [420_000]);
        assert_eq!(source.hand_overs.busy_with(&service()), Some(Busy::InDoubt));
        let asked = source.times("inquire to b").len();
        source.hears("inquire", [is(restored())]);
        source.until(501_000).await;
        assert_eq!(source.times("inquire to b").len(), asked + 1);
        assert_eq!(source.times("end: done"), source.times("inquire to b")[asked..]);
        assert_eq!(source.times("doubt: silent"), [0; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_decision_a_destination_that_answers_is_waited_for_until_its_first_answer_after_5_s() {
    for (keep, state) in [(true, "reclaiming"), (false, "given up")] {
        let source = decided(keep, [is(HandoverState::Restoring).taking(10)]).await;
        source.until(30_000).await;
        let asked = [12_000, 13_010, 14_020, 15_030, 16_040, 17_050].as_slice();
        // Who keeps it tells the destination once more, when the service is back.
        let told = if keep { [17_060].as_slice() } else { &[] };
        assert_eq!(source.times("withdraw to b"), [asked, told].concat());
        assert_eq!(source.times(&format!("write {state}")), [17_060]);
        assert_eq!(source.times("take back").len(), usize::from(keep));
        assert_eq!(source.times("discard").len(), usize::from(!keep));
        assert_eq!(source.times("clean up with figures"), [0; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_decision_a_destination_that_says_restored_in_time_wins() {
    for keep in [true, false] {
        let restoring = is(HandoverState::Restoring).taking(10);
        let words = [restoring.clone(), restoring.clone(), restoring, is(restored()).taking(10)];
        let source = decided(keep, words).await;
        source.hears("close", [is(HandoverState::Unknown)]);
        source.until(60_000).await;
        let done = [
            "12.000 withdraw to b",
            "13.010 withdraw to b",
            "14.020 withdraw to b",
            "15.030 withdraw to b",
            "15.040 clean up with figures",
            "15.040 write restored",
            "15.040 close to b",
            "15.040 forget",
            "15.040 end: done",
            "15.040 tell end",
        ];
        assert_eq!(source.since(12_000), done);
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_decision_a_question_that_is_open_when_the_5_s_are_over_is_waited_for() {
    let restoring = is(HandoverState::Restoring).taking(10);
    let slow = |word: Word| word.taking(2900);
    // Asked at 12, 13.01, 14.02, 15.03 and 16.04.
    let words = || [(); 4].map(|()| restoring.clone());
    let [one, two, three, four] = words();
    let source = decided(false, [one, two, three, four, slow(is(restored()))]).await;
    source.until(30_000).await;
    assert_eq!(source.times("clean up with figures"), [18_940]);
    assert_eq!(source.times("write given up"), [0; 0]);

    // One that falls silent at the end is waited for for as long as for any answer.
    let [one, two, three, four] = words();
    let source = decided(false, [one, two, three, four, restoring.clone(), silent()]).await;
    source.until(30_000).await;
    assert_eq!(source.times("withdraw: no answer"), [20_050]);
    assert_eq!(source.times("write given up"), [20_050]);
}

#[tokio::test(start_paused = true)]
async fn after_the_decision_a_silent_destination_is_asked_once_and_waited_for_for_3_s() {
    for (words, after) in [([silent()], 3000), ([unreachable()], 0)] {
        let source = decided(false, words).await;
        source.until(30_000).await;
        assert_eq!(source.times("withdraw to b"), [12_000]);
        assert_eq!(source.times("write given up"), [12_000 + after]);
        assert_eq!(source.times("end: given up"), [12_000 + after]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_decision_does_not_wait_for_the_question_that_is_open() {
    let source = source();
    source.hears("relinquish", [unreachable()]);
    source.hears("withdraw", [is(HandoverState::Refused(failed()))]);
    source.until(12_500).await;
    let before = source.times("inquire to b");
    // That would not be over before 12.75.
    assert_eq!(before.last(), Some(&9750));
    source.hand_overs.settle(&"m".parse().unwrap(), false).unwrap();
    source.hears("close", [unreachable()]);
    source.until(60_000).await;
    // It will never run there, so that nothing is given up.
    let done = [
        "12.500 withdraw to b",
        "12.500 write reclaiming",
        "12.500 take back",
        "12.500 tell back",
        "12.500 withdraw to b",
        "12.500 close to b",
        "12.500 measure",
        "12.500 forget",
        "12.500 end: rolled back",
        "12.500 tell end",
    ];
    assert_eq!(source.since(12_500), done);
}

#[tokio::test(start_paused = true)]
#[cfg_attr(feature = "seeded-bug", ignore = "the bug is just there")]
async fn a_destination_that_only_must_promise_is_told_so_until_it_does() {
    // It may be on disk that the service is relinquished, and that it is reclaimed cannot be written either.
    let source = Host::new("a");
    source.does("write relinquished", [FAILS]);
    source.does("write reclaiming", [FAILS]);
    source.hears("withdraw", [silent(), is(HandoverState::Preparing), is(HandoverState::Refused(failed()))]);
    source.hears("inquire", [is(HandoverState::Preparing)]);
    source.order();
    source.until(60_000).await;
    let done = [
        "0.000 withdraw to b",
        "3.000 withdraw: no answer",
        "3.050 inquire to b",
        "3.150 withdraw to b",
        "3.350 withdraw to b",
        "3.350 write reclaiming",
        "3.350 take back",
    ];
    let from = source.all().iter().position(|line| line.ends_with("withdraw to b")).unwrap();
    assert_eq!(source.all()[from..from + done.len()], done);
    assert_eq!(source.times("relinquish to b"), [0; 0]);
}
