//! Pre-copy in the lab: the rounds that were asked for are made while the service runs, what arrives is the memory as it was
//! at the freeze, and what breaks in a round leaves a service that never noticed.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use mose_tests::{ClientKind, Testbed, Underway, eventually, kill, lives_on, mose, text};
use serde_json::Value;

/// The sum of a figure over the rounds of a record.
fn over_rounds(record: &Value, figure: &str) -> u64 {
    record["rounds"].as_array().unwrap().iter().map(|round| round[figure].as_u64().unwrap()).sum()
}

fn verify(testbed: &Testbed) {
    let argv = ["mose-counter", "verify", "--connect", "10.77.0.20:7070"].map(str::to_owned);
    let verified = testbed.among_clients(&argv).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
fn the_rounds_asked_for_are_made_and_the_state_arrives_whole() {
    let Some(testbed) = Testbed::up() else { return };
    let arguments = ["--state-size", "64MiB", "--dirty-rate", "1000", "--processes", "3"];
    testbed.start("counter", "edge-a", &[], &arguments);
    let client = testbed.client(ClientKind::Counter, 3);
    let before = ["edge-a", "edge-b"].map(|host| testbed.traces(host));
    let ways: [(&str, &[&str], usize); 4] = [
        ("precopy", &[], 1),
        ("iterative-precopy", &["-I", "1"], 2),
        ("iterative-precopy", &["-I", "4"], 5),
        ("iterative-precopy", &["-I", "2", "--transport", "zenoh"], 3),
    ];
    let mut way = ["edge-a", "edge-b"];
    for (strategy, more, rounds) in ways {
        let options = [&["--strategy", strategy], more].concat();
        let (record, code) = testbed.migrate_with("counter", way[0], way[1], &options);
        assert_eq!((code, &record["outcome"]), (0, &"done".into()), "{record}");
        assert_eq!(testbed.running_on("counter"), [way[1]]);
        let made = record["rounds"].as_array().unwrap();
        let numbers: Vec<u64> = made.iter().map(|round| round["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..rounds as u64).collect::<Vec<_>>(), "{record}");
        let steps = |name: &str| {
            record["steps"].as_array().unwrap().iter().filter(|step| step["step"] == name).count()
        };
        assert_eq!((steps("pre-dump"), steps("iteration")), (1, rounds - 1), "{record}");
        // Nearly everything travelled while the service ran.
        let image = record["image"].as_u64().unwrap();
        let in_rounds = over_rounds(&record, "bytes");
        assert!(made[0]["bytes"].as_u64().unwrap() > 60 << 20, "the pre-dump sends every page: {record}");
        assert!(image - in_rounds < image / 10, "{in_rounds} of {image} bytes before the freeze: {record}");
        verify(&testbed);
        way.reverse();
    }
    let report = client.stop().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.connections, report.streams), (3, 3));
    eventually("nothing is left behind on either host", || {
        before == ["edge-a", "edge-b"].map(|host| testbed.traces(host))
    });
}

/// A plan for an idle service makes hardly any rounds, unless the paper's rule is asked for: then it makes all that fit.
#[test]
fn an_idle_service_is_not_copied_over_and_over() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("sockperf", "edge-a", &[], &[]);
    let planned = ["--target-downtime", "2500ms", "--target-duration", "2500ms", "--bandwidth", "1Gbps"];
    let (record, code) = testbed.migrate_with("sockperf", "edge-a", "edge-b", &planned);
    assert_eq!((code, &record["outcome"]), (0, &"done".into()), "{record}");
    let rounds = &record["forecast"]["rounds"];
    let most = rounds["most"].as_u64().unwrap();
    assert!(most >= 3, "there is room for rounds: {record}");
    assert_eq!(rounds["rule"], "enough", "{record}");
    assert!(
        record["rounds"].as_array().unwrap().len() <= 2,
        "the first copy, and one round at most: {record}"
    );

    let paper = [&planned[..], &["--rounds-rule", "paper"]].concat();
    let (record, code) = testbed.migrate_with("sockperf", "edge-b", "edge-a", &paper);
    assert_eq!((code, &record["outcome"]), (0, &"done".into()), "{record}");
    let rounds = &record["forecast"]["rounds"];
    assert_eq!((&rounds["rule"], &rounds["chosen"]), (&"paper".into(), &rounds["most"]), "{record}");
    let made = record["rounds"].as_array().unwrap().len() as u64;
    assert!(made >= 4 && Some(made - 1) == rounds["chosen"].as_u64(), "all that were planned: {record}");
}

/// A counter whose pre-dump takes ten seconds.
fn long_pre_dump() -> Option<Testbed> {
    let testbed = Testbed::with(&["--edge-link", "100mbit"])?;
    testbed.start("counter", "edge-a", &[], &["--state-size", "128MiB", "--dirty-rate", "200"]);
    Some(testbed)
}

const ITERATIVE: [&str; 4] = ["--strategy", "iterative-precopy", "--iterations", "3"];

#[test]
fn an_order_broken_off_in_a_round_changes_nothing() {
    let Some(testbed) = long_pre_dump() else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &ITERATIVE);
    let event = migration.until("pre-dump", "started");
    std::thread::sleep(Duration::from_secs(1));
    let id = event["migration"].as_str().unwrap();
    let aborted = mose(&["abort", id, "--from", "edge-a"]);
    assert!(aborted.status.success(), "{}", text(&aborted));
    let (record, code) = migration.end();
    assert_eq!((code, &record["outcome"]), (7, &"aborted".into()), "{record}");
    assert!(
        record["reason"]["reason"].as_str().unwrap().contains("before the service was frozen"),
        "{record}"
    );
    assert!(record["image"].as_u64().unwrap() > 0, "what was sent is told: {record}");
    lives_on(&testbed, "counter", "edge-a", client);
}

#[test]
fn a_destination_killed_in_a_round_is_no_concern_of_the_service() {
    let Some(testbed) = long_pre_dump() else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &ITERATIVE);
    migration.until("pre-dump", "started");
    std::thread::sleep(Duration::from_secs(1));
    kill(testbed.agent_pid("edge-b"));
    let (record, code) = migration.end();
    assert_eq!((code, &record["outcome"]), (3, &"refused".into()), "{record}");
    lives_on(&testbed, "counter", "edge-a", client);
}

#[test]
fn a_source_killed_in_a_round_leaves_the_service_as_it_was() {
    let Some(testbed) = long_pre_dump() else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &ITERATIVE);
    migration.until("pre-dump", "started");
    std::thread::sleep(Duration::from_secs(1));
    kill(testbed.agent_pid("edge-a"));
    eventually("the source's agent is back and has closed its journal", || {
        testbed.traces("edge-a").iter().all(|(what, count)| *what != "journals" || *count == 0)
    });
    let (record, _) = migration.end();
    assert_ne!(record["outcome"], "done", "{record}");
    lives_on(&testbed, "counter", "edge-a", client);
    // It can be migrated afterwards as if nothing had been.
    let (record, code) = testbed.migrate("counter", "edge-a", "edge-b");
    assert_eq!((code, &record["outcome"]), (0, &"done".into()), "{record}");
    verify(&testbed);
}
