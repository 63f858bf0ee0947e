//! What is printed with `--json`, held against the schemas that `mose schema` prints.

use mose_protocol::record::{Outcome, Record};
use serde_json::{Value, json};

use crate::record::full_record;
use crate::schema::violations;
use crate::script::{Ending, edges, full_event, telemetry};
use crate::support::{free_port, json_lines, mose, stderr};

fn schema(name: &str) -> Value {
    json_lines(&mose(&["schema", name])).remove(0)
}

#[track_caller]
pub(crate) fn fits(name: &str, document: &Value) {
    let found = violations(&schema(name), document);
    assert!(found.is_empty(), "{name}: {found:#?}\nin {document:#}");
}

#[test]
fn what_the_commands_print_fits_their_schemas() {
    let (agents, _) = edges(Ending::Record(Outcome::Done));
    let print = |words: &[&str]| {
        let output = agents.mose(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        let printed = json_lines(&output);
        assert!(!printed.is_empty(), "{words:?} printed nothing");
        printed
    };
    let document = |words: &[&str]| {
        let mut printed = print(words);
        assert_eq!(printed.len(), 1, "{words:?} prints one document");
        printed.remove(0)
    };
    let agents = document(&["agents"]);
    assert_eq!(agents[0]["hello"]["host"], "edge-a");
    fits("agents", &agents);
    let services = document(&["services"]);
    assert_eq!(services[0]["address"], "10.77.0.20/24");
    fits("services", &services);
    let links = document(&["links"]);
    assert_eq!((&links[0]["from"], &links[0]["to"]), (&"edge-a".into(), &"edge-b".into()));
    fits("links", &links);
    fits("history", &document(&["history"]));
    fits("record", &document(&["history", "m1"]));
    let targets = ["--target-downtime", "1s", "--target-duration", "5s"];
    fits("plan", &document(&[&["plan", "--service", "web", "--to", "edge-b"], &targets[..]].concat()));
    let doctor = document(&["doctor", "edge-a"]);
    assert_eq!(doctor["hosts"][0]["host"], "edge-a");
    fits("doctor", &doctor);
    let check = document(&["check", "web"]);
    assert_eq!(check["findings"][0]["severity"], "left-behind");
    fits("check", &check);
    let mut lines = print(&[&["migrate", "web", "--to", "edge-b"], &targets[..]].concat());
    let record = lines.pop().unwrap();
    assert_eq!(record["outcome"], "done");
    fits("record", &record);
    assert_eq!(lines.len(), 2, "its steps");
    lines.iter().for_each(|line| fits("step", line));
}

#[test]
fn plans_from_given_figures_fit_their_schemas_whether_targets_are_met_or_not() {
    let figures =
        ["plan", "--json", "--state-size", "10MB", "--dirty-rate", "300p/s", "--bandwidth", "1Gbps"];
    for (downtime, met) in [("1s", true), ("1ms", false)] {
        let targets = ["--target-downtime", downtime, "--target-duration", "5s"];
        let plan = json_lines(&mose(&[&figures[..], &targets].concat())).remove(0);
        assert_eq!(plan["targets"]["downtime_met"], met);
        fits("plan", &plan);
        let sweep = ["--sweep", "target-duration=1s..6s/3"];
        let sweep = json_lines(&mose(&[&figures[..], &targets[..2], &sweep].concat())).remove(0);
        assert_eq!(sweep[0]["axis"], "target-duration");
        fits("sweep", &sweep);
    }
}

#[test]
fn what_was_refused_fits_its_schema() {
    let nowhere = format!("tcp/127.0.0.1:{}", free_port());
    fits("refused", &json_lines(&mose(&["services", "--json", "--connect", &nowhere])).remove(0));
}

#[test]
fn records_steps_and_telemetry_with_all_they_can_have_fit_and_leave_nothing_undescribed() {
    for outcome in Outcome::ALL {
        fits("record", &serde_json::to_value(full_record(outcome)).unwrap());
    }
    for (name, document) in [
        // What only one of a move by hand has is in it too.
        ("record", serde_json::to_value(Record { by_hand: true, ..full_record(Outcome::Done) }).unwrap()),
        ("step", serde_json::to_value(full_event()).unwrap()),
        ("telemetry", serde_json::to_value(telemetry()).unwrap()),
    ] {
        fits(name, &document);
        let described = schema(name)["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        for key in described {
            assert!(
                document.get(&key).is_some(),
                "the sample of {name} lacks `{key}`, which its schema describes"
            );
        }
    }
}

#[test]
fn a_document_that_does_not_fit_is_found_out() {
    let good = serde_json::to_value(full_record(Outcome::Done)).unwrap();
    let schema = schema("record");
    let found_out = |what: &str, change: &dyn Fn(&mut Value)| {
        let mut record = good.clone();
        change(&mut record);
        assert!(!violations(&schema, &record).is_empty(), "{what}");
    };
    found_out("a key is missing", &|record| drop(record.as_object_mut().unwrap().remove("outcome")));
    found_out("a key is new", &|record| record["mood"] = json!("good"));
    found_out("a type is wrong", &|record| record["duration"] = json!("long"));
    found_out("a value is not one of those", &|record| record["outcome"] = json!("splendid"));
    found_out("it lies deeper", &|record| record["downtime"]["clients"][0]["packets"] = json!(-1));
}

#[test]
fn every_document_has_a_schema_of_its_own_that_says_what_each_key_is() {
    let all = json_lines(&mose(&["schema"])).remove(0);
    for (name, of_all) in all.as_object().unwrap() {
        assert_eq!(of_all, &schema(name), "{name}");
        let mut undescribed = Vec::new();
        crate::schema::each_property(of_all, &mut |key, property| {
            if property.get("description").is_none() {
                undescribed.push(key.to_owned());
            }
        });
        assert!(undescribed.is_empty(), "{name}: {undescribed:?} are not described");
    }
}
