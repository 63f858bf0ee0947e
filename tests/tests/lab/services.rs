//! Real services under their real clients, there and back by each strategy: nothing is lost, nothing fails at a client, and
//! what they hold is what they were given. The command does the work; this holds what it says against what is wanted.

use mose_tests::{Testbed, mose, text};
use serde_json::Value;

const SERVICES: [&str; 4] = ["redis", "mosquitto", "nginx", "sqlite"];

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no count: {value}"))
}

#[test]
fn real_services_move_under_their_clients_and_hold_what_they_were_given() {
    let Some(testbed) = Testbed::up() else { return };
    let output = mose(&["lab", "services", "--only", &SERVICES.join(","), "--json"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    let tried = report["services"].as_array().unwrap();
    let names: Vec<&str> = tried.iter().map(|service| service["service"].as_str().unwrap()).collect();
    assert_eq!(names, SERVICES);
    for service in tried {
        let what = format!(
            "{}: {} {} {}",
            service["service"], service["failures"], service["moved"], service["broken_off"]
        );
        assert_eq!(service["broken_off"], Value::Null, "{what}");
        let by: Vec<&str> =
            service["by"].as_array().unwrap().iter().map(|by| by["strategy"].as_str().unwrap()).collect();
        assert_eq!(by, ["cold", "iterative-precopy"], "{what}");
        for by in service["by"].as_array().unwrap() {
            let outcomes: Vec<&Value> =
                by["records"].as_array().unwrap().iter().map(|record| &record["outcome"]).collect();
            assert_eq!(outcomes, ["done", "done"], "{what}");
            assert_eq!(by["under_load"], true, "{what}");
        }
        assert_eq!((count(&service["all"]["lost"]), count(&service["all"]["failed"])), (0, 0), "{what}");
        assert!(count(&service["all"]["requests"]) >= 20, "{what}");
        for contents in [&service["moved"], &service["restarted"]] {
            assert!(count(&contents["expected"]) > 0, "{what}");
            assert_eq!(contents["good"], contents["expected"], "{what}: {contents}");
        }
        // Nothing of it stays in the lab.
        let name = service["service"].as_str().unwrap();
        assert!(testbed.running_on(name).is_empty(), "{what}");
        for host in ["edge-a", "edge-b"] {
            assert_eq!(testbed.run(host, &["podman", "volume", "ls", "-q"]).trim(), "", "{what}");
        }
    }
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn software_that_there_is_not_is_answered_with_what_there_is() {
    let output = mose(&["lab", "services", "--only", "oracle"]);
    assert!(!output.status.success());
    assert!(
        text(&output).contains("`oracle`") && text(&output).contains("redis, mosquitto"),
        "{}",
        text(&output)
    );
}
