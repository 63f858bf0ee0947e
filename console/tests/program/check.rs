//! `mose check`, with agents that answer by a script.

use mose_console::exit;
use mose_protocol::record::Outcome;

use crate::script::{Ending, edges};
use crate::support::{Agents, json_lines, stderr, stdout};

#[test]
fn a_service_that_cannot_move_is_exit_code_3_with_process_resource_and_remedy() {
    let (agents, _) = edges(Ending::Record(Outcome::Done));
    let output = agents.mose(&["check", "web", "--to", "edge-b"]);
    assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{}{}", stdout(&output), stderr(&output));
    let page = stdout(&output);
    for said in [
        "✘ blocks",
        "process 7 (node): descriptor 12 (io_uring): CRIU cannot dump it",
        "remedy: use epoll",
        "~ left behind",
        "web cannot move to edge-b: 1 in the way",
    ] {
        assert!(page.contains(said), "no `{said}` in\n{page}");
    }
}

#[test]
fn a_service_that_can_move_is_success_and_what_stays_behind_is_told() {
    let (agents, _) = edges(Ending::Record(Outcome::Done));
    let output = agents.mose(&["check", "web"]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("web can move, and leaves behind 1"), "{}", stdout(&output));
}

#[test]
fn a_plan_says_what_is_in_the_way_and_stays_a_plan() {
    let (agents, _) = edges(Ending::Record(Outcome::Done));
    let words =
        ["plan", "--service", "web", "--to", "edge-b", "--target-downtime", "1s", "--target-duration", "5s"];
    let output = agents.mose(&words);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("web cannot move to edge-b"), "{}", stdout(&output));
    let plan = json_lines(&agents.mose(&[&words[..], &["--json"]].concat())).remove(0);
    assert_eq!(plan["check"]["findings"][0]["process"]["command"], "node");
}

#[test]
fn a_host_or_a_service_that_is_not_there_is_refused_by_name() {
    let (agents, _) = edges(Ending::Record(Outcome::Done));
    for (words, says) in [
        (&["check", "nothing"][..], "web on edge-a"),
        (&["check", "web", "--to", "edge-z"], "edge-z"),
        (&["check", "web", "--from", "edge-z"], "edge-z"),
    ] {
        let output = agents.mose(words);
        assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{words:?}");
        assert!(stderr(&output).contains(says), "{words:?}: {}", stderr(&output));
    }
    let output = agents.mose(&["check"]);
    assert_eq!(output.status.code(), Some(exit::USAGE.into()));
}

#[test]
fn an_agent_that_does_not_know_the_question_is_told_of_and_nothing_is_guessed() {
    let agents = Agents::start(&["edge-a"], |_, _| None);
    let output = agents.mose(&["check", "web", "--from", "edge-a"]);
    assert!(!output.status.success());
    assert!(!stdout(&output).contains("can move"), "{}", stdout(&output));
}
