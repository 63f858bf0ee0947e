//! `mose doctor`, with agents that answer by a script.

use mose_console::exit;
use mose_protocol::doctor::{Check, MAX_CHECKS};
use mose_protocol::{Reply, Request};
use serde_json::Value;

use crate::support::{Agents, free_port, json_lines, mose, stderr, stdout};

fn agents(checks: &'static (dyn Fn() -> Vec<Check> + Sync)) -> Agents {
    Agents::start(&["edge-a"], move |_, request| match request {
        Request::Doctor => Some((Ok(Reply::Doctor(checks())), Vec::new())),
        _ => None,
    })
}

fn checks_of(report: &Value) -> Vec<(String, String)> {
    let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    let checks = report["hosts"][0]["checks"].as_array().unwrap();
    checks.iter().map(|check| (text(check, "what"), text(check, "state"))).collect()
}

#[test]
fn a_host_without_a_broken_part_is_success_and_its_fallbacks_are_told_with_the_remedy() {
    let agents = agents(&|| {
        vec![
            Check::ok("CRIU", "content"),
            Check::fallback("soft-dirty", "the kernel has none", "live pre-copy", "another kernel"),
            Check::unknown("Podman", "no answer within 6s", "ask again"),
        ]
    });
    let output = agents.mose(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let page = stdout(&output);
    for said in ["this machine", "edge-a", "instead: live pre-copy", "remedy:  another kernel", "? unknown"] {
        assert!(page.contains(said), "no `{said}` in\n{page}");
    }
    let report = json_lines(&agents.mose(&["doctor", "--json"])).remove(0);
    let states = checks_of(&report);
    assert!(states.contains(&("clock".into(), "ok".into())), "{states:?}");
    assert!(states.contains(&("agent".into(), "ok".into())), "{states:?}");
    assert!(states.contains(&("Podman".into(), "unknown".into())), "{states:?}");
}

#[test]
fn a_broken_part_is_told_by_the_exit_code() {
    let agents = agents(&|| vec![Check::broken("CRIU", "it cannot be run", "install it")]);
    let output = agents.mose(&["doctor"]);
    assert_eq!(output.status.code(), Some(exit::FAILED.into()));
    assert!(
        stdout(&output).contains("✘ broken") && stdout(&output).contains("1 broken"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn an_agent_that_does_not_know_the_question_leaves_its_host_unknown() {
    let agents = Agents::start(&["edge-a"], |_, _| None);
    let output = agents.mose(&["doctor", "--json"]);
    let states = checks_of(&json_lines(&output).remove(0));
    assert!(states.contains(&("host".into(), "unknown".into())), "{states:?}");
    assert_eq!(output.status.code(), Some(0), "nothing is known to be broken");
}

#[test]
fn a_host_that_is_not_there_is_broken_and_those_that_are_there_are_named() {
    let agents = agents(&|| vec![Check::ok("CRIU", "content")]);
    let output = agents.mose(&["doctor", "edge-z"]);
    assert_eq!(output.status.code(), Some(exit::FAILED.into()));
    let page = stdout(&output);
    assert!(
        page.contains("no agent of a host edge-z is live") && page.contains("live are: edge-a"),
        "{page}"
    );
}

#[test]
fn an_answer_without_end_or_with_control_characters_does_not_reach_the_screen() {
    let agents = agents(&|| vec![Check { found: "\u{1b}[2Jgone".into(), ..Check::ok("x", "") }; 500]);
    let output = agents.mose(&["doctor", "--json"]);
    let report = json_lines(&output).remove(0);
    assert!(checks_of(&report).len() < MAX_CHECKS + 4);
    assert!(!stdout(&output).contains("\\u001b"));
}

#[test]
fn agents_that_were_named_and_do_not_answer_are_broken() {
    let nowhere = format!("tcp/127.0.0.1:{}", free_port());
    let output = mose(&["doctor", "--json", "--connect", &nowhere]);
    assert_eq!(output.status.code(), Some(exit::FAILED.into()), "{}", stderr(&output));
    let report = json_lines(&output).remove(0);
    assert_eq!(
        (&report["machine"][0]["what"], &report["machine"][0]["state"]),
        (&"agents".into(), &"broken".into())
    );
    assert!(report["machine"][0]["found"].as_str().unwrap().contains(&nowhere), "{report}");
    assert_eq!(report["hosts"], serde_json::json!([]));
}

#[test]
fn a_host_that_does_not_answer_is_told_and_hides_no_other() {
    let agents = agents(&|| vec![Check::ok("CRIU", "content")]);
    agents.silent("edge-0");
    let output = agents.mose(&["doctor"]);
    assert_eq!(output.status.code(), Some(exit::FAILED.into()));
    let page = stdout(&output);
    assert!(page.contains("the agent on edge-0 did not answer") && page.contains("content"), "{page}");
}
