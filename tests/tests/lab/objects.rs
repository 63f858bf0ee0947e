//! A program that holds one of every kind of kernel object moves, cold and by iterative pre-copy, and tells the same of all of it
//! before and after.

use mose_tests::{Testbed, eventually, mose, text};

const ASK: [&str; 3] = ["mose-holdall", "ask", "127.0.0.1:7171"];

/// Asks the instance of a name.
fn ask(testbed: &Testbed, host: &str, name: &str, what: &str) -> String {
    testbed.run(host, &[&["podman", "exec", name][..], &ASK, &[what]].concat())
}

/// Starts an instance; the options let it set all that it wants to.
fn start(testbed: &Testbed, name: &str, address: &str) {
    testbed.run("edge-a", &["mose-agent", "attach", name, "--address", address]);
    let netns = format!("ns:/run/netns/{name}");
    testbed.run(
        "edge-a",
        &[
            "podman",
            "run",
            "-d",
            "--name",
            name,
            "--network",
            &netns,
            "--privileged",
            "localhost/holdall",
            "mose-holdall",
            "serve",
        ],
    );
    eventually("it has made everything", || {
        testbed.run("edge-a", &["podman", "logs", name]).contains("ready")
    });
}

/// What CRIU 4.2 does not keep, by what the line is about; everything else must be the same. A line that vanishes from this list is
/// something won, one that is added something lost.
const NOT_KEPT: [&str; 30] = [
    // How it was opened, not how it is: O_DIRECTORY, O_TMPFILE.
    "file a folder: flags",
    "file without a name: flags",
    // EFD_SEMAPHORE; the id is the kernel's own.
    "eventfd:",
    "eventfd as a semaphore",
    // A datagram without content, and what was queued after it.
    "socket unix datagrams, read",
    // SO_REUSEPORT is left on; SO_TIMESTAMPNS, SO_RXQ_OVFL and SO_BUSY_POLL are off; a bound datagram socket's peer credentials.
    ", SOCKET 15:",
    ", SOCKET 17:",
    ", SOCKET 35:",
    ", SOCKET 40:",
    ", SOCKET 46:",
    ", SOCKET 59:",
    // IP_PKTOPTIONS (what IP_RECVTTL and IP_RECVTOS ask for), IP_MTU_DISCOVER, these two, IP_BIND_ADDRESS_NO_PORT, IP_MULTICAST_TTL
    // and _LOOP.
    ", IP 9:",
    ", IP 10:",
    ", IP 12:",
    ", IP 13:",
    ", IP 24:",
    ", IP 33:",
    ", IP 34:",
    // TCP_MAXSEG, TCP_SYNCNT, TCP_LINGER2, TCP_DEFER_ACCEPT, TCP_WINDOW_CLAMP, TCP_THIN_LINEAR_TIMEOUTS, TCP_USER_TIMEOUT,
    // TCP_NOTSENT_LOWAT; UDP_SEGMENT.
    ", TCP ",
    ", UDP 103:",
    // PR_SET_TIMERSLACK, sched_setaffinity(2), coredump_filter, ioprio_set(2).
    "timerslack_ns:",
    "timer slack:",
    "Cpus_allowed_list:",
    "coredump_filter:",
    "core filter:",
    "i/o priority:",
    // MLOCK_ONFAULT becomes a lock of all pages.
    " mw me lo",
    // A process that has ended has no signals to take any more.
    "child that ended, SigBlk:",
    "child that ended, SigIgn:",
    "child that ended, SigCgt:",
];

/// What `mose check` says of it while it runs, on every machine: a semaphore is told by some kernels only, and one processor is all
/// where there is one.
const TOLD: [&str; 19] = [
    "TCP_SYNCNT",
    "TCP_LINGER2",
    "TCP_DEFER_ACCEPT",
    "TCP_USER_TIMEOUT",
    "TCP_NOTSENT_LOWAT",
    "TCP_THIN_LINEAR_TIMEOUTS",
    "IP_MTU_DISCOVER",
    "IP_RECVTTL",
    "IP_RECVTOS",
    "IP_BIND_ADDRESS_NO_PORT",
    "IP_MULTICAST_TTL",
    "IP_MULTICAST_LOOP",
    "SO_TIMESTAMPNS",
    "SO_RXQ_OVFL",
    "SO_BUSY_POLL",
    "UDP_SEGMENT",
    "timer slack",
    "I/O priority",
    "coredump_filter",
];

/// Lines that differ and should not.
fn differences(before: &str, after: &str) -> Vec<String> {
    let mut lines = all_differences(before, after);
    lines.retain(|line| !NOT_KEPT.iter().any(|what| line.contains(what)));
    lines
}

fn all_differences(before: &str, after: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in before.lines().filter(|line| !after.lines().any(|other| other == *line)) {
        lines.push(format!("- {line}"));
    }
    for line in after.lines().filter(|line| !before.lines().any(|other| other == *line)) {
        lines.push(format!("+ {line}"));
    }
    lines
}

#[test]
fn everything_that_a_process_holds_is_the_same_after_it_moved() {
    let Some(testbed) = Testbed::up() else { return };
    start(&testbed, "stays", "10.77.0.21/24");
    start(&testbed, "moves", "10.77.0.22/24");
    let before = ask(&testbed, "edge-a", "moves", "tell");
    assert_eq!(before, ask(&testbed, "edge-a", "moves", "tell"), "telling changes nothing");
    assert!(before.lines().count() > 500, "{before}");
    let report = text(&mose(&["--json", "check", "moves"]));
    for what in TOLD {
        assert!(report.contains(what), "{what} is not told: {report}");
    }
    let iterative = ["--strategy", "iterative-precopy", "--iterations", "1"];
    for (from, to, options) in [("edge-a", "edge-b", &[][..]), ("edge-b", "edge-a", &iterative)] {
        let (record, code) = testbed.migrate_with("moves", from, to, options);
        assert_eq!(code, 0, "{record}");
        let after = ask(&testbed, to, "moves", "tell");
        let differences = differences(&before, &after);
        assert!(differences.is_empty(), "lost on the way to {to}:\n{}", differences.join("\n"));
    }
    let (moved, stayed) =
        (ask(&testbed, "edge-a", "moves", "prove"), ask(&testbed, "edge-a", "stays", "prove"));
    let differences = differences(&stayed, &moved);
    assert!(differences.is_empty(), "what was never moved (-) does more:\n{}", differences.join("\n"));
}
