//! Once the agent has ended nothing more is done, whatever is waited for or being done then. Each is run twice: to its end, and stopped.

use mose_driver::arrival::Asked;
use mose_handover::SourceState;
use mose_protocol::handover::HandoverState;
use mose_protocol::record::Outcome;

use crate::stubs::{FAILS, Host, NEVER, WELL, ended, is, restored, silent, unreachable};

/// When the agent is stopped.
const STOPPED: u64 = 20_300;

/// Sees that what is begun so goes on after the agent's end if that does not come, that it does not if it comes, and that all is the same
/// before.
async fn ends_with_the_agent(name: &str, of: &str, begin: impl Fn(&Host)) {
    let run = async |stops: bool| {
        let host = Host::new(of);
        begin(&host);
        host.until(STOPPED).await;
        if stops {
            host.hand_overs.tasks().stop();
        }
        host.until(STOPPED + 600_000).await;
        host
    };
    let (whole, stopped) = (run(false).await, run(true).await);
    let (all, after) = (whole.all(), whole.since(STOPPED));
    assert!(!after.is_empty(), "{name}: nothing was to be done after {all:?}");
    // Whoever waits for an answer hears at once that none will come.
    let (heard, done): (Vec<_>, Vec<_>) = stopped
        .all()
        .into_iter()
        .partition(|what| what.starts_with("20.300 ") && what.ends_with(": Unreachable"));
    assert_eq!(done, all[..all.len() - after.len()], "{name}");
    assert_eq!(stopped.since(STOPPED), heard, "{name}");
}

/// Does something at a millisecond.
fn later(host: &Host, millis: u64, what: impl FnOnce(&Host) + Send + 'static) {
    let host = host.clone();
    tokio::spawn(async move {
        host.until(millis).await;
        what(&host);
    });
}

fn settle(host: &Host, keep: bool) {
    host.hand_overs.settle(&"m".parse().unwrap(), keep).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_source_does_nothing_more_once_its_agent_has_ended() {
    // A piece of work that is being done then.
    let before = ["inspect", "write preparing", "make ready", "write dumping", "stop and copy"];
    for piece in [&before[..], &["write relinquished", "clean up with figures", "write restored"]].concat() {
        ends_with_the_agent(piece, "a", |source| {
            source.does(piece, [WELL.taking(25_000)]);
            source.hears("relinquish", [is(restored())]);
            source.order();
        })
        .await;
    }
    for piece in ["undo", "take back", "tell back", "measure"] {
        ends_with_the_agent(piece, "a", |source| {
            source.does(if piece == "undo" { "make ready" } else { "stop and copy" }, [FAILS]);
            source.does(piece, [WELL.taking(25_000)]);
            source.order();
        })
        .await;
    }
    ends_with_the_agent("discard", "a", |source| {
        source.does("discard", [WELL.taking(25_000)]);
        source.take_up_departure(SourceState::GivenUp);
    })
    .await;
    ends_with_the_agent("the answer to relinquish", "a", |source| {
        source.hears("relinquish", [is(restored()).taking(25_000)]);
        source.order();
    })
    .await;
    ends_with_the_agent("the pause before a question", "a", |source| {
        source.hears("relinquish", [unreachable()]);
        source.hears("inquire", [unreachable()]);
        source.order();
    })
    .await;
    ends_with_the_agent("the time until the doubt", "a", |source| {
        source.hears("relinquish", [unreachable().taking(15_000)]);
        source.hears("inquire", [silent()]);
        source.order();
    })
    .await;
    ends_with_the_agent("the time for a decision", "a", |source| {
        source.hears("relinquish", [is(HandoverState::Restoring)]);
        source.hears("inquire", [is(HandoverState::Restoring)]);
        source.order();
    })
    .await;
    for keep in [true, false] {
        ends_with_the_agent("the last word", "a", |source| {
            source.hears("relinquish", [unreachable()]);
            source.hears("inquire", [unreachable()]);
            source.hears("withdraw", [is(HandoverState::Restoring).taking(10)]);
            source.order();
            later(source, 20_000, move |source| settle(source, keep));
        })
        .await;
    }
    ends_with_the_agent("the time before it is taken back again", "a", |source| {
        source.does("take back", [FAILS]);
        source.take_up_departure(SourceState::Dumping);
    })
    .await;
    ends_with_the_agent("the time before it is written again", "a", |source| {
        source.does("write restored", [FAILS]);
        source.take_up_departure(SourceState::Restored);
    })
    .await;
    for request in ["withdraw", "close"] {
        ends_with_the_agent(request, "a", |source| {
            source.does("make ready", [FAILS.taking(if request == "close" { 17_000 } else { 20_000 })]);
            source.order();
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_agent_has_ended_does_nothing_that_is_ordered_aborted_or_decided() {
    let source = Host::new("a");
    source.does("make ready", [NEVER]);
    source.order();
    source.until(1000).await;
    source.hand_overs.tasks().stop();
    source.until(2000).await;
    source.hand_overs.abort(&"m".parse().unwrap()).unwrap();
    source.until(60_000).await;
    assert_eq!(source.all(), ["0.000 inspect", "0.000 write preparing", "0.000 make ready"]);

    let source = Host::new("a");
    source.does("take back", [FAILS]);
    source.take_up_departure(SourceState::Dumping);
    source.until(1000).await;
    source.hand_overs.tasks().stop();
    source.until(2000).await;
    settle(&source, false);
    source.until(60_000).await;
    assert_eq!(source.all(), ["0.000 take back", "0.000 doubt: not taken back"]);

    let source = Host::new("a");
    source.hand_overs.tasks().stop();
    source.order();
    source.until(60_000).await;
    assert_eq!(source.all(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_destination_does_nothing_more_once_its_agent_has_ended() {
    for piece in ["admit", "write preparing", "make ready"] {
        ends_with_the_agent(piece, "b", |destination| {
            destination.does(piece, [WELL.taking(25_000)]);
            destination.prepare("m", "a");
        })
        .await;
    }
    for piece in ["verify", "write restoring", "restore", "write restored", "keep"] {
        ends_with_the_agent(piece, "b", |destination| {
            destination.does(piece, [WELL.taking(25_000)]);
            destination.prepare("m", "a");
            later(destination, 1000, |destination| destination.asked(Asked::Relinquish("digest".into())));
            later(destination, 15_000, |destination| destination.asked(Asked::Close));
        })
        .await;
    }
    for piece in ["write refused, left", "remove", "write refused"] {
        // It is being done, or waits until it is done again.
        for way in [WELL.taking(25_000), FAILS] {
            ends_with_the_agent(piece, "b", |destination| {
                destination.does(piece, [way.clone()]);
                destination.prepare("m", "a");
                later(destination, 4000, |destination| destination.asked(Asked::Withdraw));
                later(destination, 4500, |destination| destination.asked(Asked::Close));
            })
            .await;
        }
    }
    ends_with_the_agent("the silence of a source", "b", |destination| {
        destination.hears("record", [unreachable()]);
        destination.prepare("m", "a");
    })
    .await;
    // It is asked in second 20.
    ends_with_the_agent("the answer of a source", "b", |destination| {
        let record = ended(Outcome::GivenUp);
        destination.hears("record", [silent(), silent(), silent(), record.taking(1000)]);
        destination.prepare("m", "a");
    })
    .await;
    ends_with_the_agent("what became of it", "b", |destination| {
        destination.hears("record", [unreachable(), unreachable(), unreachable(), ended(Outcome::GivenUp)]);
        destination.hears("became", [is(HandoverState::Unknown).taking(1000)]);
        destination.take_up_arrival(restored());
    })
    .await;
    ends_with_the_agent("the time before it is looked again", "b", |destination| {
        destination.does("look", [FAILS]);
        destination.take_up_arrival(HandoverState::Restoring);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_order_that_waits_when_the_agent_ends_begins_nothing() {
    let destination = Host::new("b");
    destination.hears("record", [ended(Outcome::Aborted).taking(1000)]);
    destination.prepare("m", "a");
    destination.until(4000).await;
    destination.prepare("m2", "a");
    destination.until(4500).await;
    assert_eq!(destination.since(1), ["4.000 record to a"]);
    destination.hand_overs.tasks().stop();
    destination.until(60_000).await;
    assert_eq!(destination.since(4500), ["8.000 m2 prepare: Conflict"]);

    // Nor does one that comes after that.
    let destination = Host::new("b");
    destination.hand_overs.tasks().stop();
    destination.prepare("m", "a");
    destination.until(60_000).await;
    assert_eq!(destination.all(), ["0.000 m prepare: Unreachable"]);
}
