//! Exit codes: each way in which a command ends.

use mose_console::exit;
use mose_protocol::record::Outcome;
use mose_protocol::{Refusal, RefusalCode, Reply, Request, Timestamp};

use crate::script::{Ending, edges};
use crate::support::{Agents, free_port, json_lines, mose, stderr, stdout};

const MIGRATE: [&str; 4] = ["migrate", "web", "--to", "edge-b"];

#[test]
fn each_outcome_of_a_migration_has_its_exit_code() {
    for (outcome, code) in [
        (Outcome::Done, 0),
        (Outcome::Refused, exit::REFUSED),
        (Outcome::RolledBack, exit::ROLLED_BACK),
        (Outcome::InDoubt, exit::IN_DOUBT),
        (Outcome::GivenUp, exit::GIVEN_UP),
        (Outcome::Aborted, exit::ABORTED),
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
fn an_order_by_hand_tells_what_came_of_it_and_not_what_was_meant() {
    let (agents, _) = edges(Ending::Record(Outcome::Done));
    // The record of `m1` says done: an abort came too late, and a decision was not needed.
    let aborted = agents.mose(&["abort", "m1"]);
    assert_eq!(aborted.status.code(), Some(exit::FAILED.into()), "{}", stderr(&aborted));
    assert!(stdout(&aborted).contains("web: edge-a → edge-b done"), "{}", stdout(&aborted));
    assert!(stderr(&aborted).contains("before the order took effect: done"), "{}", stderr(&aborted));
    let settled = agents.mose(&["settle", "m1", "--decision", "give-up"]);
    assert_eq!(settled.status.code(), Some(0), "{}", stderr(&settled));
    assert!(stdout(&settled).contains("web: edge-a → edge-b done"), "{}", stdout(&settled));
    let printed =
        json_lines(&agents.mose(&["settle", "m1", "--from", "edge-a", "--decision", "keep", "--json"]));
    assert_eq!((printed.len(), &printed[0]["outcome"]), (1, &"done".into()));
}

#[test]
fn a_host_that_does_not_answer_keeps_the_others_from_nothing_and_is_named() {
    let agents = Agents::start(&["edge-a", "edge-b"], |host, request| {
        let refuse = || Err(Refusal::new(RefusalCode::Engine, "Podman does not answer", "look at it"));
        match (host.as_str(), request) {
            ("edge-b", Request::Services) => {
                let (at, services) = (Timestamp(1_000_000), Vec::new());
                let refused = Refusal::new(RefusalCode::Engine, "Podman does not answer", "look at it");
                Some((Ok(Reply::LastServices { at, services, refused }), Vec::new()))
            }
            ("edge-b", _) => Some((refuse(), Vec::new())),
            (_, request) => crate::script::answer_as_source(host, request),
        }
    });
    agents.silent("edge-0");
    let last = stderr(&agents.mose(&["services"]));
    assert!(last.contains("edge-b is missing") && last.contains("it was heard last 49"), "{last}");
    for (words, has) in [(&["services"][..], "web"), (&["links"], "edge-b"), (&["history"], "m1")] {
        let printed = agents.mose(words);
        assert_eq!(printed.status.code(), Some(exit::INCOMPLETE.into()), "{words:?}: {}", stderr(&printed));
        assert!(stdout(&printed).contains(has), "{words:?}: {}", stdout(&printed));
        let missing = stderr(&printed);
        assert!(missing.contains("edge-b is missing in this list: Podman does not answer"), "{missing}");
        assert!(
            missing.contains("edge-0 is missing in this list: the agent on edge-0 did not answer"),
            "{missing}"
        );
        let lines = json_lines(&agents.mose(&[words, &["--json"]].concat()));
        let list = lines[0].as_array().unwrap();
        let missing: Vec<_> = list.iter().filter(|line| line.get("refused").is_some()).collect();
        assert_eq!(missing.len(), 2, "{list:?}");
        assert_eq!((&missing[0]["host"], &missing[1]["host"]), (&"edge-0".into(), &"edge-b".into()));
        crate::documents::fits(words[0], &lines[0]);
    }
}
