//! A vehicle that dies in the air, and a radio that goes away in the middle of a migration.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use mose_lab::client::ClientKind;
use mose_tests::{Testbed, Underway, eventually, eventually_within, mose, programs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{kill_radio, radio};

/// The processes of a program, whatever their namespace.
fn processes(program: &str) -> Vec<Pid> {
    let found = Command::new("pgrep").args(["-x", program]).output().unwrap();
    let pids = String::from_utf8_lossy(&found.stdout);
    pids.lines().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

#[test]
fn a_vehicle_that_dies_in_the_air_is_told_and_all_is_put_back() {
    let Some(testbed) = Testbed::up() else { return };
    let mut uav = Command::new(programs().join("mose"));
    let mut uav = uav.args(["lab", "uav"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(uav.stdout.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("takes off"));
    eventually("the vehicle flies", || !processes("mose-uav").is_empty());
    std::thread::sleep(Duration::from_secs(3));
    for pid in processes("mose-uav") {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    let ended = uav.wait_with_output().unwrap();
    let why = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && why.contains("vehicle") && why.contains("signal: 9"), "{why}");
    assert_eq!(radio(), Value::Null, "{why}");
    assert!(testbed.running_on("autopilot").is_empty() && processes("mose-uav").is_empty(), "{why}");
}

#[test]
fn a_second_order_and_a_radio_that_goes_away_in_a_migration_lose_nothing() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.lab.give_simulator("uav", &mut |_| {}).unwrap();
    testbed.start("autopilot", "edge-a", &[], &[]);
    assert!(mose(&["lab", "radio", "on"]).status.success());
    let client = testbed.client(ClientKind::Autopilot, 1);
    std::thread::sleep(Duration::from_secs(3));
    let options = ["--strategy", "iterative-precopy", "--iterations", "3", "--bandwidth", "50Mbps"];
    let mut migration = Underway::order("autopilot", "edge-a", "edge-b", &options);
    migration.until("iteration", "started");
    // A second order meanwhile is refused, and disturbs nothing.
    let (second, code) = testbed.migrate("autopilot", "edge-a", "edge-b");
    assert!(code != 0 && second.to_string().contains("conflict"), "{second:#}");
    kill_radio();
    let (record, _) = migration.end();
    // It is told as it is: where the service runs now, exactly once.
    let there = match record["outcome"].as_str() {
        Some("done") => "edge-b",
        Some("rolled-back") => "edge-a",
        other => panic!("{other:?}: {record:#}"),
    };
    assert_eq!(testbed.running_on("autopilot"), [there], "{record:#}");
    assert!(mose(&["lab", "up"]).status.success(), "the UAV is connected again");
    eventually_within(Duration::from_secs(60), "the vehicle's host finds the service where it is", || {
        let ping = ["ping", "-c", "1", "-W", "1", "10.77.0.20"].map(str::to_owned);
        testbed.among_clients(&ping).output().unwrap().status.success()
    });
    // What was asked meanwhile is answered; TCP tries again after as long as it has tried.
    std::thread::sleep(Duration::from_secs(15));
    let report = client.stop().unwrap();
    assert!(report.is_clean(), "{report:?}\n{record:#}");
}
