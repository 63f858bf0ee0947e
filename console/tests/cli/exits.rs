//! Exit codes: each way in which a command ends.

use mose_console::exit;
use mose_protocol::record::Outcome;

use crate::script::{Ending, edges};
use crate::support::{free_port, json_lines, mose, stderr, stdout};

const MIGRATE: [&str; 4] = ["migrate", "web", "--to", "edge-b"];

#[test]
fn each_outcome_of_a_migration_has_its_exit_code() {
    for (outcome, code) in [
        (Outcome::Done, 0),
        (Outcome::Refused, exit::REFUSED),
        (Outcome::RolledBack, exit::ROLLED_BACK),
        (Outcome::InDoubt, exit::IN_DOUBT),
    ] {
        let (agents, tasks) = edges(Ending::Record(outcome));
        let output = agents.mose(&MIGRATE);
        assert_eq!(output.status.code(), Some(code.into()), "{outcome:?}: {}", stderr(&output));
        assert!(stdout(&output).contains(outcome.name()), "{}", stdout(&output));
        assert_eq!(tasks.lock().unwrap().len(), 1, "{outcome:?}: one order");
    }
}

#[test]
fn an_order_that_is_refused_changed_nothing_and_one_that_fails_says_so() {
    for (ending, code, says) in [
        (Ending::Conflict, exit::REFUSED, "another migration of web is under way — wait for its end"),
        (Ending::Failure, exit::FAILED, "the state folder cannot be written"),
    ] {
        let (agents, _) = edges(ending);
        let output = agents.mose(&[&MIGRATE[..], &["--json"]].concat());
        assert_eq!(output.status.code(), Some(code.into()), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
        let printed = json_lines(&output);
        assert!(says.starts_with(printed[0]["refused"]["reason"].as_str().unwrap()), "{printed:?}");
    }
}

#[test]
fn targets_that_no_plan_meets_are_refused_only_by_strict() {
    let (agents, tasks) = edges(Ending::Record(Outcome::Done));
    let hard = ["--target-downtime", "1ms", "--target-duration", "2ms"];
    let strict = agents.mose(&[&MIGRATE[..], &hard, &["--strict"]].concat());
    assert_eq!(strict.status.code(), Some(exit::REFUSED.into()), "{}", stderr(&strict));
    let said = stderr(&strict);
    assert!(said.contains("downtime ≤ 1.00 ms is wanted") && said.contains("without --strict"), "{said}");
    assert!(tasks.lock().unwrap().is_empty(), "nothing was ordered");

    let carried_out = agents.mose(&[&MIGRATE[..], &hard].concat());
    assert_eq!(carried_out.status.code(), Some(0), "{}", stderr(&carried_out));
    assert!(stdout(&carried_out).contains("the targets are not met"), "{}", stdout(&carried_out));

    let easy = ["--target-downtime", "60s", "--target-duration", "10min", "--strict"];
    let met = agents.mose(&[&MIGRATE[..], &easy].concat());
    assert_eq!(met.status.code(), Some(0), "{}", stderr(&met));
    assert_eq!(tasks.lock().unwrap().len(), 2);
}

#[test]
fn a_wrong_command_line_is_usage_and_names_what_is_wrong() {
    for (words, says) in [
        (&["migrate", "web"][..], "--to"),
        (&["migrate", "web", "--to", "edge/b"], "`edge/b` is not a host name"),
        (&["migrate", "web", "--to", "b", "--strict"], "--target-downtime"),
        (&["migrate", "web", "--to", "b", "--rounds-rule", "paper"], "--target-downtime"),
        (
            &[
                "migrate",
                "web",
                "--to",
                "b",
                "--target-downtime",
                "1s",
                "--target-duration",
                "5s",
                "--rounds-rule",
                "most",
            ],
            "`most` is no rule for rounds: choose enough",
        ),
        (&["lab", "rounds", "-n", "0"], "0 is not in 1..=1000"),
        (&["lab", "rounds", "--max-duration", "5"], "it has no unit"),
        (&["lab", "rounds", "--max-duration", "-5s"], "it is negative"),
        (&["lab", "rounds", "--max-duration", "0s"], "give a --max-duration such as 5s"),
        (&["migrate", "web", "--to", "b", "--bandwidth", "1GB"], "`1GB` is not a bandwidth such as"),
        (
            &["migrate", "web", "--to", "b", "--target-downtime", "800", "--target-duration", "5s"],
            "it has no unit",
        ),
        (&["agents", "--connect", "192.0.2.11:7447"], "write tcp/ADDRESS:PORT"),
        (&["calibrate", "north", "south"], "mose plan --profile FILE"),
        (&["calibrate", "edge-a"], "edge-a cannot be calibrated"),
        (&["calibrate", "--connect", "tcp/192.0.2.11:7447"], "is not for this command"),
        (&["schema", "nothing"], "possible values: agents"),
        (&["completions", "tcsh"], "possible values: bash"),
        (&["plan", "--service", "web", "--to", "b"], "--target-downtime is missing"),
        (&["plan", "--profile", "nowhere.toml"], "is missing"),
    ] {
        let output = mose(words);
        assert_eq!(output.status.code(), Some(exit::USAGE.into()), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{words:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn without_agents_a_command_says_where_none_answers_and_what_to_do() {
    let nowhere = format!("tcp/127.0.0.1:{}", free_port());
    for words in [
        &["services"][..],
        &["links"],
        &["history"],
        &["migrate", "web", "--to", "edge-b"],
        &["abort", "m1", "--from", "edge-a"],
        &["settle", "m1", "--from", "edge-a", "--decision", "keep"],
    ] {
        let output = mose(&[words, &["--connect", &nowhere]].concat());
        assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{words:?}: {}", stderr(&output));
        let said = stderr(&output);
        assert!(
            said.contains(&nowhere) && said.contains("see whether mose-agent runs there"),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn a_name_that_nobody_has_is_answered_with_those_that_there_are() {
    let (agents, tasks) = edges(Ending::Record(Outcome::Done));
    for (words, says) in [
        (&["migrate", "wbe", "--to", "edge-b"][..], "known are: web on edge-a"),
        (&["migrate", "web", "--to", "egde-b"], "live are: edge-a, edge-b"),
        (&["migrate", "web", "--to", "edge-a"], "choose another host with --to"),
        (&["abort", "m1", "--from", "edge-c"], "live are: edge-a, edge-b"),
        (&["history", "m2"], "`mose history` lists those that are known"),
    ] {
        let output = agents.mose(words);
        assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{words:?}: {}", stderr(&output));
    }
    assert!(tasks.lock().unwrap().is_empty());
}

#[test]
fn an_order_by_hand_is_answered_with_where_to_look_next() {
    let (agents, _) = edges(Ending::Record(Outcome::Done));
    let aborted = agents.mose(&["abort", "m1", "--from", "edge-a"]);
    assert!(stdout(&aborted).contains("`mose history m1` tells how it ended"), "{}", stdout(&aborted));
    let settled = agents.mose(&["settle", "m1", "--from", "edge-a", "--decision", "give-up"]);
    assert!(stdout(&settled).contains("the service is given up on edge-a"), "{}", stdout(&settled));
    let quiet = agents.mose(&["abort", "m1", "--from", "edge-a", "--json"]);
    assert!(quiet.status.success() && quiet.stdout.is_empty());
}
