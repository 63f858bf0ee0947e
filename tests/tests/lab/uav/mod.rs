//! A UAV flies, its autopilot follows it over the radio's handovers, and is then moved by hand.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod round_trip;
mod trouble;

use mose_tests::{Testbed, mose};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What the lab says of the UAV's radio.
fn radio() -> Value {
    let status: Value = serde_json::from_slice(&mose(&["lab", "status", "--json"]).stdout).unwrap();
    status["radio"].clone()
}

/// Kills it: the UAV is cut off.
fn kill_radio() {
    let pid = i32::try_from(radio()["pid"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn an_autopilot_follows_the_uav_that_it_flies_and_nothing_is_lost() {
    let Some(testbed) = Testbed::up() else { return };
    let output = mose(&["lab", "uav", "-n", "2", "--then-by-hand", "1", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let run: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no result ({error}): {said}"));
    let [by_mose, by_hand] = &run["flights"].as_array().unwrap()[..] else { panic!("{run:#}") };
    for (flight, handovers) in [(by_mose, 2), (by_hand, 1)] {
        assert_eq!(flight["handovers"].as_array().unwrap().len(), handovers, "{flight:#}\n{said}");
        assert_eq!((&flight["lost"], &flight["connections_lost"]), (&0.into(), &0.into()), "{flight:#}");
        assert_eq!(flight["recorder_intact_bytes"], 24 << 20, "its memory moved whole: {flight:#}");
        assert!(
            flight["handovers"].as_array().unwrap().iter().all(|one| one["outcome"] == "done"),
            "{flight:#}"
        );
    }
    let (first, first_by_hand) = (&by_mose["handovers"][0], &by_hand["handovers"][0]);
    assert_eq!((&first["from"], &first["to"]), (&"edge-a".into(), &"edge-b".into()), "{first:#}");
    assert!(
        first["deviation_m"].as_f64().is_some() && first["client_silence_ms"].as_f64().is_some(),
        "{first:#}"
    );
    assert!(output.status.success(), "{said}");

    // What the vehicle told the agent is in the records, and the radio is gone.
    let history: Value = serde_json::from_slice(&mose(&["history", "--json"]).stdout).unwrap();
    let flown = |record: &&Value| {
        record["flights"][0]["host"] == "uav" && record["flights"][0]["worst"]["deviation_m"].is_f64()
    };
    let records = history.as_array().unwrap();
    assert!(records.iter().filter(flown).count() >= 1, "{history:#}");
    let answers =
        |record: &Value| record["downtime"]["clients"][0]["answers_ms"].as_array().map_or(0, Vec::len);
    let mut of_agents = records.iter().filter(|record| record["by_hand"] != true);
    assert!(of_agents.all(|record| answers(record) > 2), "{history:#}");
    // What was moved by hand stands beside it.
    let [by_hand] = &records.iter().filter(|record| record["by_hand"] == true).collect::<Vec<_>>()[..] else {
        panic!("one handover was made by hand: {history:#}")
    };
    assert_eq!(by_hand["downtime"]["clients"][0]["gap"], first_by_hand["client_silence_ms"], "{by_hand:#}");
    assert_eq!(by_hand["flights"][0]["worst"]["deviation_m"], first_by_hand["deviation_m"], "{by_hand:#}");
    assert_eq!(radio(), Value::Null);
    let ping =
        testbed.lab.exec("uav", &["ping", "-c", "1", "-W", "1", "10.99.0.11"]).unwrap().output().unwrap();
    assert!(ping.status.success(), "the uav is connected as before");
}

#[test]
fn without_its_radio_the_uav_is_cut_off_and_up_connects_it_again() {
    let Some(testbed) = Testbed::up() else { return };
    let ping = || {
        let mut ping = testbed.lab.exec("uav", &["ping", "-c", "1", "-W", "1", "10.99.0.11"]).unwrap();
        ping.output().unwrap().status.success()
    };
    assert!(mose(&["lab", "radio", "on"]).status.success());
    assert!(mose(&["lab", "radio", "on"]).status.success(), "harmless a second time");
    assert!(ping());
    kill_radio();
    for _ in 0..100 {
        if !ping() {
            break;
        }
    }
    assert!(!ping(), "without its radio the uav is cut off");
    assert!(mose(&["lab", "up"]).status.success());
    assert!(ping(), "the lab is brought up whole again");
}
