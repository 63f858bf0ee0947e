//! The round trip that the console shows is the client's own: by TCP's figures at the clients' host it is what the vehicle itself measures,
//! before the radio's handover, during it, and after it.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mose_lab::client::vehicle;
use mose_tests::{Testbed, eventually_within, mose, programs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How far the two may be apart, in milliseconds.
const APART_MS: f64 = 1.0;

/// What the console shows was measured at some moment before it was told, and both are samples: in milliseconds.
const MOMENT_MS: u64 = 250;

/// The service's absence, in which there is no round trip, and the answers that had to wait for its end: not looked at from the order until
/// so long after it, in milliseconds.
const SETTLED_MS: u64 = 2500;

/// A frame that the radio loses comes late, and the vehicle has waited for it, while TCP takes no round trip of what it sent twice
/// (RFC 6298, section 3). Of so many samples in a hundred it is so.
const LATE_PERCENT: usize = 10;

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The lines of a file, as far as they are whole.
fn lines(file: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Ends a program that writes on until then.
fn end(mut child: Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_round_trip_that_the_console_shows_is_the_vehicles_own_over_the_radios_handover() {
    let Some(testbed) = Testbed::up() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (flown, recorded) = (folder.path().join("flown.ndjson"), folder.path().join("recorded.ndjson"));
    testbed.lab.give_simulator("uav", &mut |_| {}).unwrap();
    testbed.start("autopilot", "edge-a", &[], &[]);
    assert!(mose(&["lab", "radio", "on"]).status.success());
    let port = mose_lab::Workload::named("autopilot").unwrap().port;
    let argv = vehicle(([10, 77, 0, 20], port).into(), Some(Duration::from_secs(45)));
    let mut vehicle = testbed.among_clients(&argv).stdout(File::create(&flown).unwrap()).spawn().unwrap();
    let mut recorder = Command::new(programs().join("mose"));
    let recorder = recorder.arg("record").arg(&recorded).stdin(Stdio::null()).spawn().unwrap();
    // The radio says first which cell serves the vehicle where it begins.
    eventually_within(Duration::from_secs(40), "another cell serves the vehicle", || {
        testbed.lab.radio_cells().last() == Some(&2)
    });
    let handed_over = now_ms();
    std::thread::sleep(Duration::from_secs(6));
    let ordered = now_ms();
    let (record, code) = testbed.migrate("autopilot", "edge-a", "edge-b");
    assert_eq!((record["outcome"].as_str(), code), (Some("done"), 0), "{record:#}");
    let settled = now_ms() + SETTLED_MS;
    assert!(vehicle.wait().unwrap().success());
    end(recorder);

    let own: Vec<(u64, f64)> = lines(&flown)
        .iter()
        .filter_map(|told| Some((told["at_ms"].as_u64()?, told["smoothed_round_trip_ms"].as_f64()?)))
        .collect();
    let shown: Vec<(u64, f64)> = lines(&recorded)
        .iter()
        .map(|line| &line["event"]["telemetry"])
        .filter(|told| told["host"] == "uav")
        .filter_map(|told| Some((told["at"].as_u64()? / 1000, told["clients"][0]["rtt"].as_f64()?)))
        .filter(|(at, _)| !(ordered..settled).contains(at))
        .collect();
    // Once the vehicle is under way; what TCP has seen of the connection's begin is forgotten by then.
    let begun = own[0].0 + 3000;
    let apart = |(at, shown): &(u64, f64)| {
        let near = own.iter().filter(|(own_at, _)| own_at.abs_diff(*at) <= MOMENT_MS);
        let (low, high) =
            near.fold((f64::INFINITY, 0.0_f64), |(low, high), (_, own)| (low.min(*own), high.max(*own)));
        (low - shown).max(shown - high).max(0.0)
    };
    for (phase, from, to) in [
        ("before the radio's handover", begun, handed_over - 1000),
        ("during it", handed_over - 1000, handed_over + 2000),
        ("after it", handed_over + 2000, ordered),
        ("after the service has come after it", settled, u64::MAX),
    ] {
        let samples: Vec<(u64, f64, f64)> = shown
            .iter()
            .filter(|(at, _)| (from..to).contains(at))
            .map(|sample| (sample.0, sample.1, apart(sample)))
            .collect();
        let far = samples.iter().filter(|(.., apart)| *apart > APART_MS).count();
        let mean = samples.iter().map(|(_, shown, _)| shown).sum::<f64>() / samples.len().max(1) as f64;
        eprintln!(
            "{phase}: {} samples, {mean:.1} ms on average, {far} apart by more than {APART_MS} ms",
            samples.len()
        );
        assert!(samples.len() >= 5, "{phase}: {samples:?}");
        assert!(far * 100 <= samples.len() * LATE_PERCENT, "{phase}: {samples:?}\n{own:?}");
    }
}
