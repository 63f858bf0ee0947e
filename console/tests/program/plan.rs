//! `mose plan`: the program itself, without agents.

use std::process::{Command, Output};

use serde_json::Value;

const GOOD: &str =
    "--state-size 10MB --normalized-dirty-rate 0 --bandwidth 1Gbps --target-downtime 1s --target-duration 5s";

fn plan(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mose")).arg("plan").args(words.split_whitespace()).output().unwrap()
}

fn text(words: &str) -> String {
    let output = plan(words);
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(words: &str) -> Value {
    serde_json::from_str(&text(&format!("{words} --json"))).unwrap()
}

/// `words`, with what `option` is given replaced.
fn with(words: &str, option: &str, value: &str) -> String {
    let mut words: Vec<&str> = words.split_whitespace().collect();
    match words.iter().position(|word| *word == option) {
        Some(at) => words[at + 1] = value,
        None => words.extend([option, value]),
    }
    words.join(" ")
}

#[track_caller]
fn refused(words: &str, says: &str) {
    let output = plan(words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}: {stderr}");
    assert!(stderr.contains(says), "{words}: {stderr}");
    assert!(output.stdout.is_empty(), "{words}");
}

#[test]
fn the_published_plan_comes_out() {
    let plan = json(&with(GOOD, "--rounds-rule", "paper"));
    assert_eq!(plan["strategy"], "iterative-precopy");
    assert_eq!(plan["iterations"], 15);
    assert_eq!(plan["rounds"], serde_json::json!({ "rule": "paper", "chosen": 15, "most": 15 }));
    assert_eq!(plan["bandwidth_bps"], 1_000_000_000);
    assert_eq!(plan["bound"]["downtime_ms"].as_f64().unwrap().round(), 907.0);
    assert_eq!(plan["targets"], serde_json::json!({ "downtime_met": true, "duration_met": true }));
    assert_eq!(plan["nearest"], Value::Null);
    let precopy = json(&with(GOOD, "--target-duration", "1300ms"));
    assert_eq!((&precopy["strategy"], &precopy["iterations"]), (&"precopy".into(), &0.into()));
    let cold = json(&with(GOOD, "--target-duration", "1s"));
    assert_eq!((&cold["strategy"], &cold["iterations"]), (&"cold".into(), &Value::Null));
    let least = json(&with(&with(GOOD, "--objective", "resources"), "--target-downtime", "2s"));
    assert_eq!(least["strategy"], "cold");
    assert!((least["bandwidth_bps"].as_f64().unwrap() / 1e6 - 79.3).abs() < 0.05);
}

#[test]
fn no_more_rounds_are_planned_than_are_of_use() {
    let idle = json(GOOD);
    assert_eq!((&idle["strategy"], &idle["iterations"]), (&"precopy".into(), &0.into()));
    assert_eq!(idle["rounds"], serde_json::json!({ "rule": "enough", "chosen": 0, "most": 15 }));
    assert!(idle["why"].as_str().unwrap().contains("with 15, the most that fit into max duration = 5000 ms"));
    // What is promised of the downtime is the same.
    assert_eq!(idle["bound"]["downtime_ms"].as_f64().unwrap().round(), 907.0);
    let busy = GOOD.replace("--normalized-dirty-rate 0", "--dirty-rate 300p/s");
    let busy = with(&with(&busy, "--bandwidth", "100Mbps"), "--target-duration", "20s");
    let (enough, paper) = (json(&busy), json(&with(&busy, "--rounds-rule", "paper")));
    let chosen = enough["iterations"].as_u64().unwrap();
    assert!(0 < chosen && chosen < paper["iterations"].as_u64().unwrap(), "{enough}");
    assert_eq!(enough["rounds"]["most"], paper["iterations"]);
    let downtime = |plan: &Value| plan["expected"]["downtime_ms"].as_f64().unwrap();
    assert!(downtime(&enough) <= downtime(&paper) * 1.02 && downtime(&enough) > downtime(&paper));
    assert!(text(&busy).contains(&format!("I = {chosen} of {}", paper["iterations"])), "{}", text(&busy));
    // The rounds of a cold plan are none by any rule.
    let cold = json(&with(GOOD, "--target-duration", "1s"));
    assert_eq!(cold["rounds"], Value::Null);
}

#[test]
fn the_json_has_its_keys_and_no_others() {
    fn keys(value: &Value) -> Vec<&str> {
        let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }
    let plan = json(&with(GOOD, "--target-duration", "1s"));
    let top = [
        "bandwidth_bps",
        "bound",
        "components_ms",
        "expected",
        "iterations",
        "nearest",
        "normalized_dirty_rate",
        "profile",
        "rounds",
        "strategy",
        "targets",
        "why",
    ];
    assert_eq!(keys(&plan), top);
    assert_eq!(keys(&plan["bound"]), ["downtime_ms", "duration_ms"]);
    assert_eq!(keys(&plan["expected"]), ["downtime_ms", "duration_ms"]);
    assert_eq!(keys(&plan["targets"]), ["downtime_met", "duration_met"]);
    assert_eq!(keys(&plan["nearest"]), ["bandwidth_bps", "target_downtime_ms", "target_duration_ms"]);
    let parts = [
        "dump",
        "files",
        "files_changed",
        "overlay",
        "predump",
        "prepare",
        "restore",
        "round",
        "transfer_dump",
        "transfer_predump",
    ];
    assert_eq!(keys(&plan["components_ms"]), parts);
    assert!(plan["why"].as_str().unwrap().contains("θ_mig = 1000 ms"));
    assert_eq!(plan["profile"], "tnsm2024");
}

#[test]
fn what_is_said_to_be_nearest_meets_the_targets_when_typed() {
    let tight = with(GOOD, "--target-duration", "1s");
    let plan = json(&tight);
    assert_eq!(plan["targets"]["duration_met"], false);
    let nearest = &plan["nearest"];
    let wider = json(&with(&tight, "--bandwidth", &format!("{}bps", nearest["bandwidth_bps"])));
    assert_eq!(wider["targets"], serde_json::json!({ "downtime_met": true, "duration_met": true }));
    let mut looser = tight.clone();
    for (option, key) in
        [("--target-downtime", "target_downtime_ms"), ("--target-duration", "target_duration_ms")]
    {
        if let Some(value) = nearest[key].as_f64() {
            looser = with(&looser, option, &format!("{value}ms"));
        }
    }
    assert_eq!(json(&looser)["targets"], serde_json::json!({ "downtime_met": true, "duration_met": true }));
}

#[test]
fn a_measured_rate_is_normalised_over_its_interval() {
    let base = GOOD.replace("--normalized-dirty-rate 0", "--dirty-rate 300p/s");
    let r = |words: &str| json(words)["normalized_dirty_rate"].as_f64().unwrap();
    assert!((r(&base) - 299.0 / 2441.0).abs() < 1e-12);
    assert!((r(&with(&base, "--delta-t", "2s")) - 599.0 / 2441.0).abs() < 1e-12);
    assert_eq!(json(&format!("{base} --no-overlay"))["components_ms"]["overlay"], 0.0);
    assert_eq!(json(&with(&base, "--max-iterations", "3"))["rounds"]["most"], 3);
}

#[test]
fn people_read_what_why_and_what_would_be_enough() {
    let page = text(&with(GOOD, "--target-duration", "1s"));
    for says in
        ["cold", "at most", "✘ 45.3 ms over", "restore", "why      not even a pre-dump", "nearest  met with"]
    {
        assert!(page.contains(says), "{says}: {page}");
    }
    let page = text(&with(GOOD, "--rounds-rule", "paper"));
    for says in ["iterative-precopy   I = 15", "iteration (× 15)", "✔ 93.2 ms left", "save less than 1.00 ms"]
    {
        assert!(page.contains(says), "{says}: {page}");
    }
    assert!(!page.contains("nearest"), "{page}");
    let page = text(GOOD);
    assert!(page.starts_with("precopy   I = 0 of 15") && !page.contains("save less than"), "{page}");
}

#[test]
fn a_sweep_is_a_plan_for_every_value() {
    let words = format!("{GOOD} --rounds-rule paper --sweep target-duration=0.8s..6s/50");
    let plans = json(&words);
    let plans = plans.as_array().unwrap();
    assert_eq!(plans.len(), 50);
    assert_eq!((&plans[0]["axis"], &plans[0]["value"]), (&"target-duration".into(), &800.0.into()));
    assert_eq!(
        (&plans[0]["strategy"], &plans[49]["strategy"]),
        (&"cold".into(), &"iterative-precopy".into())
    );
    let csv = text(&format!("{words} --csv"));
    let mut lines = csv.lines();
    let columns = lines.next().unwrap().split(',').count();
    assert!(csv.starts_with("swept_target_duration_ms,strategy,"));
    assert!(lines.clone().all(|line| line.split(',').count() == columns));
    assert_eq!(lines.count(), 50);
    assert_eq!(text(&words).lines().count(), 51);
    // What is swept need not be given, and may pass what contradicts the other target.
    let swept = words.replace("--target-duration 5s", "");
    assert_eq!(json(&swept), json(&words));
    let swept = GOOD.replace("--normalized-dirty-rate 0", "--sweep normalized-dirty-rate=0..1/5");
    assert_eq!(json(&swept).as_array().unwrap().len(), 5);
    let swept = GOOD.replace("--bandwidth 1Gbps", "--sweep bandwidth=1Mbps..10Gbps/40/log");
    assert_eq!(json(&swept).as_array().unwrap().len(), 40);
}

#[test]
fn impossible_figures_are_refused_by_name() {
    for (option, value, says) in [
        ("--state-size", "0MB", "the state size in bytes is 0"),
        ("--state-size", "-10MB", "it is negative"),
        ("--state-size", "NaN", "it is not a finite number"),
        ("--state-size", "10parsecs", "its unit is of another kind"),
        ("--state-size", "10MB/s", "its unit is of another kind"),
        ("--state-size", "99999999999TB", "it is too large"),
        ("--state-size", "big", "it does not begin with a number"),
        ("--bandwidth", "0Gbps", "the bandwidth in bit/s is 0"),
        ("--bandwidth", "-1Gbps", "it is negative"),
        ("--bandwidth", "1GB", "its unit is of another kind"),
        ("--bandwidth", "inf", "it is not a finite number"),
        ("--normalized-dirty-rate", "1.5", "between 0 (R_min) and 1 (R_max)"),
        ("--normalized-dirty-rate", "-0.5", "between 0 (R_min) and 1 (R_max)"),
        ("--normalized-dirty-rate", "NaN", "is NaN"),
        ("--delta-t", "0s", "observation interval"),
        ("--delta-t", "1", "it has no unit"),
        ("--working-set", "0", "writable working set"),
        ("--target-downtime", "0s", "the target downtime in ms is 0"),
        ("--target-downtime", "-1s", "it is negative"),
        ("--target-duration", "0ms", "the target duration in ms is 0"),
        ("--target-duration", "NaNs", "it is not a finite number"),
        ("--target-duration", "900ms", "the targets contradict each other"),
        ("--objective", "glory", "`glory` is no objective"),
        ("--rounds-rule", "most", "`most` is no rule for rounds: choose enough"),
        ("--max-iterations", "-1", "invalid value"),
        ("--sweep", "colour=1..2/3", "`colour` cannot be swept"),
        ("--sweep", "target-duration=1s", "is not a sweep such as"),
        ("--sweep", "target-duration=0s..6s/50", "the target duration in ms is 0"),
        ("--profile", "nowhere", "there is no profile `nowhere`"),
        ("--profile", "/", "the profile / cannot be read"),
    ] {
        refused(&with(GOOD, option, value), says);
    }
    let measured = GOOD.replace("--normalized-dirty-rate 0", "--dirty-rate -300p/s");
    refused(&measured, "it is negative");
    refused(&measured.replace("-300p/s", "300m"), "its unit is of another kind");
    refused(&with(GOOD, "--dirty-rate", "300p/s"), "cannot be used with");
    refused(&format!("{GOOD} --csv"), "--sweep");
    refused(&format!("{GOOD} --sweep target-duration=1s..6s/5 --csv --json"), "cannot be used with");
    for (option, value) in [
        ("state-size", "10MB"),
        ("bandwidth", "1Gbps"),
        ("target-downtime", "1s"),
        ("target-duration", "5s"),
        ("normalized-dirty-rate", "0"),
    ] {
        let missing = if option == "normalized-dirty-rate" { "dirty-rate" } else { option };
        let words = GOOD.replace(&format!("--{option} {value}"), "");
        refused(&words, &format!("--{missing} is missing"));
    }
}

#[test]
fn a_profile_file_is_used_or_refused_with_the_key_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.toml");
    let named = with(GOOD, "--profile", file.to_str().unwrap());
    let published = include_str!("../../../assets/profiles/tnsm2024.toml");

    let faster =
        published.replace("name = \"tnsm2024\"", "name = \"host\"").replace("phi_d = 40", "phi_d = 20");
    std::fs::write(&file, faster).unwrap();
    let plan = json(&named);
    assert_eq!(plan["profile"], "host");
    assert!(plan["bound"]["downtime_ms"].as_f64().unwrap() < 907.0 - 30.0);

    for (from, to, says) in [
        ("beta = 84\n", "", "missing field `beta`"),
        ("beta = 84", "betta = 84", "unknown field `betta`"),
        ("beta = 84", "beta = -84", "`beta` is -84"),
        ("beta = 84", "beta = nan", "`beta` is NaN"),
        ("xi_max = 30", "xi_max = 30\nxi_min = 40", "duplicate key"),
        ("xi_min = 0", "xi_min = 40", "exchange them"),
        ("beta = 84", "beta = \"84\"", "a number, or a table"),
    ] {
        std::fs::write(&file, published.replace(from, to)).unwrap();
        refused(&named, says);
    }
    std::fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
    refused(&named, "larger than 1 MB");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    refused(&named, "cannot be read");
}
