//! What is printed with `--json`, held against the schemas that `mose schema` prints.

use mose_protocol::record::Outcome;
use serde_json::{Value, json};

use crate::schema::violations;
use crate::script::{Ending, edges, full_event, full_record, telemetry};
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
        ("record", serde_json::to_value(full_record(Outcome::Done)).unwrap()),
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

fn printed(document: &impl serde::Serialize) -> Value {
    serde_json::to_value(document).unwrap()
}

#[test]
fn what_the_lab_prints_fits_its_schemas() {
    use mose_console::experiments::{
        Answered, Compared, Comparison, Connections, Crossing, Fitted, Held, Lap, Laps, Profiling, Promise,
        Promises, RoundsCompared, RuleFigures, RulesRun, SentAgain, Series, Slowed, Strategies, Told,
        VolumeSeries, Volumes,
    };
    use mose_lab::baseline::{Breakdown, Row};
    use mose_lab::client::{ClientReport, Gap, Wait};
    use mose_pam::{BitsPerSec, Bytes, Millis, Pass, Profile, RoundsRule, Sample, Strategy};

    let gap = Gap { at_unix_ms: 1, ms: 203.4 };
    let client = || ClientReport { workload: "counter".into(), gaps: vec![gap], ..ClientReport::default() };
    let record = || full_record(Outcome::Done);
    let laps = Laps {
        workload: "counter".into(),
        migrations: vec![Lap { record: record(), client_gap_ms: 203.4 }],
        client: client(),
    };
    fits("lab-laps", &printed(&laps));
    let wait = Wait { connection: 3, sent_at_unix_us: 1, ms: 210.0, answered: true, needed_again: 1 };
    let again = SentAgain { segments: 5, needless: 3 };
    let crossing = Crossing::of(record(), Some(again), [wait, Wait { ms: 30.0, ..wait }].iter());
    assert_eq!((crossing.waited, crossing.after_own, crossing.worst_ms), (2, 2, Some(210.0)));
    let crowd = ClientReport { waits: vec![wait], ..client() };
    let summary = Answered::of(std::slice::from_ref(&crossing), &crowd);
    assert_eq!(summary.after_resend, 4, "two by the client's kernel, two by the service's");
    let migrations = vec![crossing];
    let connections = Connections { connections: 1000, rate: 2, summary, migrations, client: crowd };
    fits("lab-connections", &printed(&connections));
    let series = Series {
        strategy: Strategy::Cold,
        blackout_ms: Some(1.0),
        client_gap_ms: None,
        duration_ms: Some(2.0),
        bytes_in_downtime: Some(3.0),
        ratio: Some(1.0),
        records: vec![record()],
    };
    let strategies = Strategies {
        workload: "counter".into(),
        arguments: vec!["--state-size".into()],
        series: vec![series],
        client: client(),
    };
    fits("lab-strategies", &printed(&strategies));
    let series = VolumeSeries {
        volume: true,
        downtime_ms: Some(1.0),
        duration_ms: None,
        client: client(),
        records: vec![record()],
    };
    let volumes =
        Volumes { size_bytes: 1, files: 2, changed_percent: 3, series: vec![series], ratio: Some(1.1) };
    fits("lab-volumes", &printed(&volumes));
    let forecast = *record().forecast.expect("the full record has one");
    let promises = vec![Promise { service: "small", forecast, record: record() }];
    let summary = Held::of(&promises);
    assert_eq!(summary.migrations, 1);
    let figures =
        || RuleFigures::of(RoundsRule::Enough, [&record(), &full_record(Outcome::RolledBack)].into_iter());
    assert_eq!((figures().migrations, figures().rounds_at_most), (1, 1));
    fits("lab-targets", &printed(&Promises { summary, rules: vec![figures()], migrations: promises }));
    let none = RuleFigures::of(RoundsRule::Paper, std::iter::empty());
    let compared = RoundsCompared::of(&figures(), &figures());
    assert_eq!((compared.downtime_difference_ms, compared.duration_ratio), (Some(0.0), Some(1.0)));
    assert_eq!(RoundsCompared::of(&figures(), &none).downtime_difference_ms, None);
    let rules = RulesRun {
        workload: "sockperf".into(),
        arguments: Vec::new(),
        max_duration_ms: 5000.0,
        rules: vec![figures(), none],
        compared,
        client: client(),
        migrations: vec![record()],
    };
    fits("lab-rounds", &printed(&rules));
    let told = Told {
        asked: 100,
        rewritten: 99.0,
        told: 101.0,
        of_state: 100.0,
        error: Some(0.01),
        tracker: "write-protection".into(),
        cost: 0.001,
    };
    let slowed = Slowed { before: 2.0, during: 1.9, ratio: 0.95, looks: 3, record: record() };
    let profiling =
        Profiling { arguments: Vec::new(), told: vec![told], slowed: vec![slowed], ratio: Some(0.95) };
    fits("lab-profiling", &printed(&profiling));
    let row = Row { name: "copy".into(), median_ms: 2.0, min_ms: 1.0, max_ms: 3.0 };
    let comparison = Comparison {
        workload: "counter".into(),
        mose: vec![record()],
        mose_gaps_ms: vec![203.4],
        mose_client: client(),
        by_hand: Breakdown { runs: 1, rows: vec![row], image_bytes: Some(4) },
        by_hand_gaps_ms: vec![1470.0],
        by_hand_client: client(),
        summary: Compared {
            mose_gap_ms: Some(203.4),
            by_hand_gap_ms: Some(1470.0),
            ratio: Some(0.14),
            floor_ms: None,
        },
    };
    fits("lab-baseline", &printed(&comparison));
    let pass = Pass { time: Millis(1.0), volume: Bytes(2) };
    let sample = Sample {
        memory: Bytes(1),
        rate: 0.1,
        strategy: Strategy::IterativePrecopy,
        bandwidth: BitsPerSec(1_000_000_000),
        prepare: Some(Millis(1.0)),
        predump: Some(pass),
        rounds: vec![pass],
        dump: Some(pass),
        restore: None,
        overlay: Some(Millis(1.0)),
    };
    let (from, to) = ("edge-a".parse().unwrap(), "edge-b".parse().unwrap());
    let fitted = Fitted { from, to, profile: Profile::tnsm2024(), samples: vec![sample] };
    fits("calibrate", &printed(&vec![fitted]));
    let init = Some(mose_lab::Process { pid: 7, start: 8 });
    let underlay = [10, 99, 0, 11].into();
    let host = mose_lab::Host { name: "edge-a".into(), role: mose_lab::Role::Edge, underlay, init };
    let daemon = mose_lab::DaemonStatus {
        name: "mose-agent".into(),
        pid: Some(9),
        machine_pid: None,
        ready: true,
        restarts: 0,
        last_exit: None,
        late: false,
    };
    let host = mose_lab::HostStatus { host, up_since: Some(1), ready: true, daemons: vec![daemon] };
    let edge_link = mose_lab::LinkRate::Unshaped;
    let status =
        mose_lab::Status { ready: true, underlay: None, edge_link, cgroup_v2: false, hosts: vec![host] };
    fits("lab-status", &printed(&status));
    fits("lab-down", &printed(&mose_lab::Report { hosts: 5, ..mose_lab::Report::default() }));
}
