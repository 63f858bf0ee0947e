//! What cannot be moved is named while the service runs, and refused before it is touched; what can be is no finding, and moves.
#![expect(clippy::expect_used, reason = "in a test a panic is the report")]

use mose_lab::holder::{Fate, KINDS, Kind};
use mose_lab::{Holder, ServiceOptions};
use mose_tests::{Testbed, mose, text};
use serde_json::Value;

/// What one process cannot hold beside other kinds: its first thread ends; a number that is closed is given to the next.
const ALONE: [&str; 2] = ["leader-gone", "epoll-escaped"];

/// What CRIU alone is tried with in this test; `mose lab unmovable` tries all.
const BY_HAND: [&str; 5] = ["io-uring", "mptcp", "message-queue", "namespace-pid", "memfd"];

fn names(fate: Fate) -> Vec<&'static str> {
    let kinds = KINDS.iter().filter(|kind| kind.fate == fate && !ALONE.contains(&kind.name));
    kinds.map(|kind| kind.name).collect()
}

fn check(words: &[&str]) -> (Value, i32) {
    let output = mose(&[&["--json", "check"], words].concat());
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(stdout.lines().next().unwrap_or("null"))
        .unwrap_or_else(|error| panic!("no JSON ({error}): {}", text(&output)));
    (report, output.status.code().unwrap_or(-1))
}

fn found(report: &Value, severity: &str) -> Vec<String> {
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = findings.iter().filter(|finding| finding["severity"] == severity);
    of.map(|finding| format!("{}: {}", finding["resource"], finding["reason"])).collect()
}

fn start(testbed: &Testbed, address: u8, kinds: &[&str]) -> Holder {
    let mut options = ServiceOptions::of("holder");
    options.address = [10, 77, 0, address].into();
    Holder::start(&testbed.lab, "edge-a", &options, kinds).expect("the holder holds")
}

fn started_at(testbed: &Testbed) -> String {
    testbed.run("edge-a", &["podman", "inspect", "--format", "{{.State.StartedAt}} {{.State.Pid}}", "holder"])
}

#[test]
fn what_criu_cannot_move_is_named_and_refused_while_it_runs_and_what_it_can_moves() {
    let Some(testbed) = Testbed::up() else { return };

    // Everything that cannot be moved, in one container: each is named, with what blocks.
    let kinds = names(Fate::Refused);
    let holder = start(&testbed, 21, &kinds);
    let (report, code) = check(&["holder", "--to", "edge-b"]);
    assert_eq!(code, 3, "{report:#}");
    let blocking = found(&report, "blocks");
    let mut named = 0;
    for kind in kinds.iter().filter_map(|name| Kind::named(name)) {
        let limits = testbed.run("edge-a", &["sh", "-c", "grep CapEff /proc/self/status"]);
        let capable = limits.trim().ends_with("1ffffffffff") && kind.name == "not-root";
        if capable || holder.lacks.iter().any(|lacks| lacks == kind.name) {
            continue;
        }
        assert!(
            blocking.iter().any(|finding| finding.contains(kind.says)),
            "{} is not named: {blocking:#?}",
            kind.name
        );
        named += 1;
    }
    // The files of the devices that some of them made, beside the descriptors.
    assert!(blocking.iter().any(|finding| finding.contains("device file /tmp/")), "{blocking:#?}");
    assert!(named >= 30, "this kernel has too little of it: {:?}", holder.lacks);
    // A migration of it is refused before anything happens to it.
    let before = started_at(&testbed);
    let (record, code) = testbed.migrate("holder", "edge-a", "edge-b");
    assert_eq!((code, &record["outcome"]), (3, &"refused".into()), "{record:#}");
    let steps: Vec<&str> =
        record["steps"].as_array().unwrap().iter().filter_map(|s| s["step"].as_str()).collect();
    for never in ["prepare", "container-image", "checkpoint", "freeze"] {
        assert!(!steps.contains(&never), "{steps:?}");
    }
    assert!(record["reason"].to_string().contains("process"), "{record:#}");
    assert_eq!(started_at(&testbed), before);
    drop(holder);

    // What CRIU alone makes of some of them. The holder is there, and not removed unasked.
    let output = mose(&["lab", "unmovable", BY_HAND[0]]);
    let said = text(&output);
    assert!(!output.status.success() && said.contains("holder on edge-a already"), "{said}");
    let output = mose(&[&["lab", "unmovable", "--replace", "--json"], &BY_HAND[..]].concat());
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (kind, line) in BY_HAND.iter().zip(&lines) {
        let criu = line["criu"].as_str().unwrap();
        let fails = criu.contains("fails: ") && criu.contains("Error (") || criu == "this kernel has none";
        assert!(fails || (*kind == "memfd" && criu == "moves"), "{line:#}");
    }

    // Everything that can be moved, in one container: nothing is in the way, and it moves.
    // Not so the device file that one of them makes: CRIU would move what is open, and the file itself is refused.
    let mut kinds = [names(Fate::Moves), names(Fate::LeftBehind)].concat();
    kinds.retain(|kind| *kind != "device-kmsg");
    let holder = start(&testbed, 22, &kinds);
    let (report, code) = check(&["holder", "--to", "edge-b"]);
    assert_eq!((code, found(&report, "blocks")), (0, Vec::new()), "{report:#}");
    let left = found(&report, "left-behind");
    for kind in KINDS.iter().filter(|kind| kind.fate == Fate::LeftBehind) {
        if holder.lacks.iter().any(|lacks| lacks == kind.name) {
            continue;
        }
        assert!(
            left.iter().any(|finding| finding.contains(kind.says)),
            "{} is not named: {left:#?}",
            kind.name
        );
    }
    assert!(holder.lacks.len() < 5, "{:?}", holder.lacks);
    let (record, code) = testbed.migrate("holder", "edge-a", "edge-b");
    assert_eq!((code, &record["outcome"]), (0, &"done".into()), "{record:#}");
    assert_eq!(testbed.running_on("holder"), ["edge-b"]);
    // A library that was replaced while several processes have it mapped: as it was named, CRIU would fail to restore it now and then.
    let log = testbed.run("edge-b", &["cat", "/var/log/mose/mose-agent.log"]);
    assert!(log.contains("are restored under a free one"), "{log}");
    let (report, code) = check(&["holder", "--to", "edge-a"]);
    assert_eq!((code, found(&report, "blocks")), (0, Vec::new()), "it can move back: {report:#}");
}
