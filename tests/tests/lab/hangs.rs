//! What hangs, or is cut off, between the freeze and the release: the service runs again within a deadline, the reason told is
//! the true one, and the next order is taken at once. One lab for all of it.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::{Duration, Instant};

use mose_tests::{ClientKind, Testbed, Underway, eventually_within, lives_on, mose, text};
use serde_json::Value;

#[test]
fn whatever_hangs_the_service_runs_again() {
    let Some(testbed) = Testbed::with(&["--edge-link", "200mbit"]) else { return };
    start_with_a_stopped_child(&testbed);
    a_stopped_process_moves_and_stays_stopped(&testbed);
    a_criu_that_hangs_is_not_waited_for(&testbed);
    a_podman_that_hangs_holds_nobody_up(&testbed);
    after_a_cut_link_the_next_order_is_taken(&testbed);
}

/// The counter, with a child that does nothing and is stopped. It sleeps again and again: a sleep under way ends at a restore, since
/// the kernel keeps where it stood for itself.
fn start_with_a_stopped_child(testbed: &Testbed) {
    testbed.run("edge-a", &["mose-agent", "attach", "counter", "--address", "10.77.0.20/24"]);
    let serve = "tail -f /dev/null & exec mose-counter serve --state-size 16MiB --dirty-rate 100";
    testbed.run(
        "edge-a",
        &[
            "podman",
            "run",
            "-d",
            "--name",
            "counter",
            "--network",
            "ns:/run/netns/counter",
            "localhost/counter",
            "sh",
            "-c",
            serve,
        ],
    );
    let stop = "kill -STOP $(busybox pidof tail)";
    eventually_within(Duration::from_secs(10), "the child is there to be stopped", || {
        testbed.try_run("edge-a", &["podman", "exec", "counter", "sh", "-c", stop]).status.success()
    });
}

/// The run state of that child.
fn childs_state(testbed: &Testbed, host: &str) -> String {
    let look = "grep State /proc/$(busybox pidof tail)/status";
    testbed.run(host, &["podman", "exec", "counter", "sh", "-c", look])
}

fn a_stopped_process_moves_and_stays_stopped(testbed: &Testbed) {
    let client = testbed.client(ClientKind::Counter, 2);
    let iterative = ["--strategy", "iterative-precopy", "--iterations", "1"];
    for (from, to, options) in [("edge-a", "edge-b", &[][..]), ("edge-b", "edge-a", &iterative)] {
        assert!(childs_state(testbed, from).contains("T (stopped)"), "{}", childs_state(testbed, from));
        let (record, code) = testbed.migrate_with("counter", from, to, options);
        assert_eq!(code, 0, "{record}");
        assert!(childs_state(testbed, to).contains("T (stopped)"), "{}", childs_state(testbed, to));
    }
    let go_on = "kill -CONT $(busybox pidof tail)";
    testbed.run("edge-a", &["podman", "exec", "counter", "sh", "-c", go_on]);
    assert!(childs_state(testbed, "edge-a").contains("S (sleeping)"), "{}", childs_state(testbed, "edge-a"));
    lives_on(testbed, "counter", "edge-a", client);
}

/// A CRIU that stops itself once it has touched the processes, where it may not be killed.
const STOPPING_CRIU: &str = r#"mv /usr/sbin/criu /usr/sbin/criu.real
cat > /usr/sbin/criu <<'END'
#!/bin/sh
case "$*" in *swrk*)
    me=$$
    log=$(ls -d /var/lib/containers/storage/overlay-containers/*/userdata | head -n 1)/dump.log
    rm -f "$log"
    (while [ -d /proc/$me ]; do grep -qs 'Lock network' "$log" && kill -STOP $me && exit; done) &
esac
exec /usr/sbin/criu.real "$@"
END
chmod +x /usr/sbin/criu"#;

fn a_criu_that_hangs_is_not_waited_for(testbed: &Testbed) {
    let client = testbed.client(ClientKind::Counter, 2);
    testbed.run("edge-a", &["sh", "-c", STOPPING_CRIU]);
    let begun = Instant::now();
    let (record, code) = testbed.migrate("counter", "edge-a", "edge-b");
    let took = begun.elapsed();
    testbed.run("edge-a", &["mv", "/usr/sbin/criu.real", "/usr/sbin/criu"]);
    assert_eq!((code, &record["outcome"]), (4, &"rolled-back".into()), "{record}");
    let reason = record["reason"]["reason"].as_str().unwrap();
    assert!(reason.contains("CRIU did nothing") && reason.contains("state T"), "{reason}");
    assert!(took < Duration::from_secs(60), "it took {took:?}");
    lives_on(testbed, "counter", "edge-a", client);
    let (record, code) = testbed.migrate("counter", "edge-a", "edge-b");
    assert_eq!(code, 0, "{record}");
}

/// A signal for a host's Podman.
fn signal_podman(testbed: &Testbed, host: &str, signal: &str) {
    let pid = testbed.daemon_pid(host, "podman").to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

fn a_podman_that_hangs_holds_nobody_up(testbed: &Testbed) {
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-b", "edge-a", &[]);
    migration.until("freeze", "finished");
    signal_podman(testbed, "edge-b", "-STOP");
    // What Podman began goes on without it, and the destination's is another one.
    migration.until("restore", "finished");
    signal_podman(testbed, "edge-b", "-CONT");
    let (record, code) = migration.end();
    assert_eq!(code, 0, "{record}");
    lives_on(testbed, "counter", "edge-a", client);
}

fn after_a_cut_link_the_next_order_is_taken(testbed: &Testbed) {
    let client = testbed.client(ClientKind::Counter, 2);
    let mut migration = Underway::order("counter", "edge-a", "edge-b", &[]);
    migration.until("dump", "finished");
    let link =
        |state: &str| testbed.run("edge-b", &["ip", "link", "set", mose_lab::UNDERLAY_INTERFACE, state]);
    link("down");
    let (record, code) = migration.end();
    link("up");
    assert_eq!((code, &record["outcome"]), (4, &"rolled-back".into()), "{record}");
    // As soon as the two hear of each other, nothing of the migration that ended is in the way.
    eventually_within(Duration::from_secs(60), "the next order is carried out", || {
        let output = mose(&["--json", "migrate", "counter", "--from", "edge-a", "--to", "edge-b"]);
        let said = text(&output);
        assert!(!said.contains("under way"), "{said}");
        output.status.success()
    });
    let history: Value = serde_json::from_slice(&mose(&["--json", "history"]).stdout).unwrap();
    assert_eq!(history[0]["outcome"], "done", "{history}");
    lives_on(testbed, "counter", "edge-b", client);
}
