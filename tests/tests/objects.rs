//! A program that holds one of every kind of kernel object moves, cold and by iterative pre-copy, and tells the same of all of it
//! before and after.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use mose_tests::{Testbed, eventually};

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

/// Lines that differ.
fn differences(before: &str, after: &str) -> Vec<String> {
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
