//! What breaks in the middle of a hand-over: in the end the client's connection lives, and exactly one copy runs.

use mose_tests::{ClientKind, Testbed, Underway, eventually, kill, lives_on};
use serde_json::Value;

/// The counter with enough state that its transfer over a slow link takes seconds.
fn slow_counter(link: &str) -> Option<Testbed> {
    let testbed = Testbed::with(&["--edge-link", link])?;
    testbed.start("counter", "edge-a", &TTL, &["--state-size", "64MiB", "--dirty-rate", "200"]);
    Some(testbed)
}

/// A setting of the network namespace, which is made anew where a service is taken back from its images.
const TTL: [&str; 2] = ["--sysctl", "net.ipv4.ip_default_ttl=77"];

fn ttl(testbed: &Testbed, host: &str) -> String {
    let file = "/proc/sys/net/ipv4/ip_default_ttl";
    testbed.run(host, &["ip", "netns", "exec", "counter", "cat", file]).trim().to_owned()
}

#[test]
fn a_restore_that_fails_gives_the_service_back_to_the_source() {
    let Some(testbed) = slow_counter("1gbit") else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    // CRIU at the destination says that all is well, until it is to restore.
    testbed.run(
        "edge-b",
        &[
            "sh",
            "-c",
            "mv /usr/sbin/criu /usr/sbin/criu.real && printf '%s\\n' '#!/bin/sh' \
            'case \"$*\" in *swrk*) grep -q restore /proc/$PPID/cmdline && exit 1;; esac' 'exec /usr/sbin/criu.real \"$@\"' > /usr/sbin/criu && \
            chmod +x /usr/sbin/criu",
        ],
    );
    let (record, code) = testbed.migrate("counter", "edge-a", "edge-b");
    assert_eq!(code, 4, "{record}");
    assert_eq!(record["outcome"], "rolled-back", "{record}");
    assert!(record["reason"]["reason"].as_str().unwrap().contains("restore"), "{record}");
    lives_on(&testbed, "counter", "edge-a", client);
    assert_eq!(ttl(&testbed, "edge-a"), "77");
    // And once the cause is gone, it moves.
    testbed.run("edge-b", &["mv", "/usr/sbin/criu.real", "/usr/sbin/criu"]);
    let (record, code) = testbed.migrate("counter", "edge-a", "edge-b");
    assert_eq!(code, 0, "{record}");
    assert_eq!(ttl(&testbed, "edge-b"), "77");
}

#[test]
fn a_destination_killed_during_the_transfer_leaves_the_service_at_the_source() {
    let Some(testbed) = slow_counter("100mbit") else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &[]);
    migration.until("dump", "finished");
    kill(testbed.agent_pid("edge-b"));
    let (record, code) = migration.end();
    assert_eq!(code, 4, "{record}");
    assert_eq!(record["outcome"], "rolled-back", "{record}");
    lives_on(&testbed, "counter", "edge-a", client);
    eventually("it moves once the agent is back", || testbed.migrate("counter", "edge-a", "edge-b").1 == 0);
    assert_eq!(testbed.running_on("counter"), ["edge-b"]);
}

#[test]
fn a_source_killed_before_it_relinquished_takes_its_service_back_when_it_returns() {
    let Some(testbed) = slow_counter("100mbit") else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &[]);
    migration.until("dump", "finished");
    kill(testbed.agent_pid("edge-a"));
    let (record, code) = migration.end();
    assert_eq!(code, 4, "{record}");
    assert_eq!(record["outcome"], "rolled-back", "{record}");
    lives_on(&testbed, "counter", "edge-a", client);
}

#[test]
fn a_source_killed_while_criu_dumps_leaves_a_service_that_goes_on() {
    let Some(testbed) = slow_counter("100mbit") else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &[]);
    migration.until("freeze", "finished");
    kill(testbed.agent_pid("edge-a"));
    let (record, code) = migration.end();
    assert_eq!(code, 4, "{record}");
    lives_on(&testbed, "counter", "edge-a", client);
}

#[test]
fn a_source_killed_after_it_relinquished_finds_the_service_at_the_destination() {
    let Some(testbed) = slow_counter("1gbit") else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &[]);
    migration.until("relinquish", "finished");
    kill(testbed.agent_pid("edge-a"));
    let (record, code) = migration.end();
    assert_eq!(code, 0, "{record}");
    lives_on(&testbed, "counter", "edge-b", client);
}

#[test]
fn a_destination_that_stays_silent_leaves_the_service_in_doubt_until_it_speaks() {
    let Some(testbed) = slow_counter("1gbit") else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &[]);
    migration.until("relinquish", "finished");
    kill(testbed.agent_pid("edge-b"));
    testbed.lab.hold_daemon("edge-b", "mose-agent", true).unwrap();
    let (record, code) = migration.end();
    assert_eq!(code, 5, "{record}");
    assert_eq!(record["outcome"], "in-doubt", "{record}");
    let services = mose_tests::mose(&["--json", "services"]);
    assert!(mose_tests::text(&services).contains("in-doubt"), "{}", mose_tests::text(&services));
    testbed.lab.hold_daemon("edge-b", "mose-agent", false).unwrap();
    eventually("one copy runs, and the source knows where", || {
        let history = mose_tests::mose(&["--json", "history"]);
        let history: Value = serde_json::from_slice(&history.stdout).unwrap();
        matches!(history[0]["outcome"].as_str(), Some("done" | "rolled-back"))
    });
    let host = testbed.running_on("counter");
    assert_eq!(host.len(), 1, "{host:?}");
    lives_on(&testbed, "counter", host[0], client);
}

#[test]
fn an_order_aborted_before_the_commit_point_changes_nothing_and_is_told_as_that() {
    let Some(testbed) = slow_counter("50mbit") else { return };
    let client = testbed.client(ClientKind::Counter, 1);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &[]);
    migration.until("dump", "finished");
    let services = mose_tests::mose(&["--json", "services"]);
    assert!(mose_tests::text(&services).contains("migrating"), "{}", mose_tests::text(&services));
    let events = mose_tests::mose(&["--json", "history"]);
    assert!(events.status.success());
    let id = migration_id(&testbed);
    let aborted = mose_tests::mose(&["abort", &id, "--from", "edge-a"]);
    assert!(aborted.status.success(), "{}", mose_tests::text(&aborted));
    // It is told once it is so.
    assert!(mose_tests::text(&aborted).contains("aborted in"), "{}", mose_tests::text(&aborted));
    let (record, code) = migration.end();
    assert_eq!((code, &record["outcome"]), (7, &"aborted".into()), "{record}");
    assert_eq!(record["reason"]["code"], "aborted", "{record}");
    assert!(
        record["reason"]["reason"].as_str().unwrap().ends_with("while the service stood still"),
        "{record}"
    );
    assert!(
        record["image"].as_u64().unwrap() > 0 && record["downtime"]["blackout"].as_f64().unwrap() > 0.0,
        "{record}"
    );
    lives_on(&testbed, "counter", "edge-a", client);
}

#[test]
fn a_service_in_doubt_is_resumed_by_hand_and_that_is_told_once_it_is_so() {
    let Some(testbed) = slow_counter("1gbit") else { return };
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &[]);
    migration.until("relinquish", "finished");
    kill(testbed.agent_pid("edge-b"));
    testbed.lab.hold_daemon("edge-b", "mose-agent", true).unwrap();
    let (record, code) = migration.end();
    assert_eq!(code, 5, "{record}");
    let id = record["migration"].as_str().unwrap();
    let settled = mose_tests::mose(&["settle", id, "--from", "edge-a", "--decision", "keep"]);
    let told = mose_tests::text(&settled);
    assert!(settled.status.success(), "{told}");
    assert!(told.contains("rolled back in") && told.contains("had the service resumed at edge-a"), "{told}");
    assert_eq!(testbed.running_on("counter"), ["edge-a"], "it is told after it has happened: {told}");
    testbed.lab.hold_daemon("edge-b", "mose-agent", false).unwrap();
    lives_on(&testbed, "counter", "edge-a", client);
}

/// The migration that edge-a has an open journal of.
fn migration_id(testbed: &Testbed) -> String {
    let files = testbed.run("edge-a", &["ls", "/var/lib/mose/journal"]);
    files.trim().trim_end_matches(".source").to_owned()
}
