//! The real console on real agents: in the lab, with a real client, on a pseudo-terminal.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../../../console/tests/program/pty.rs"]
#[expect(dead_code, reason = "the console's own tests use more of it")]
mod pty;

use mose_lab::{Lab, LabConfig};
use mose_tests::{ClientKind, Testbed, programs, stranger::Stranger, turn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portable_pty::CommandBuilder;
use pty::Pty;

fn console(words: &[&str], home: &tempfile::TempDir) -> Pty {
    let mut command = CommandBuilder::new(programs().join("mose"));
    command.args(words);
    Pty::run(command, home.path(), 120, 40)
}

#[test]
fn a_real_migration_is_ordered_and_shown_with_its_client_and_agents_look_like_what_they_are() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("counter", "edge-a", &[], &["--state-size", "8MiB", "--dirty-rate", "50"]);
    let client = testbed.client(ClientKind::Counter, 1);
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("config/mose");
    std::fs::create_dir_all(&folder).unwrap();
    // Well before a silent host's token goes.
    std::fs::write(folder.join("config.toml"), "stale-after = \"1500ms\"\n").unwrap();
    let mut mose = console(&[], &home);
    mose.wait("the lab's agents", |text| text.contains("MOSE  lab") && text.contains("4 up"));
    // What the client's host tells of it: its kernel's figures.
    mose.wait("the client", |text| text.contains("1 connection") && text.contains("asks"));
    mose.wait("a plan", |text| text.contains("✔ duration"));
    mose.keys("m");
    mose.wait_for("downtime at most");
    mose.keys("\r");
    let done = mose.wait("its end", |text| text.contains("done in"));
    let gap = done.split("client silence ").nth(1).unwrap().split("    ").next().unwrap().to_owned();
    assert!(gap.ends_with(" ms") || gap.ends_with(" s"), "the client silence is `{gap}`:\n{done}");
    mose.wait("the service at its new place", |text| text.contains("counter @ edge-b"));

    // One that stands still is stale, for a second or two until its token goes: on a busy machine that may be missed. Then it
    // is lost, and nothing is told of its clients, which go on.
    let agent = Pid::from_raw(testbed.agent_pid("uav"));
    let mut stale = false;
    for _ in 0..5 {
        mose.wait("the client again", |text| text.contains("4 up") && text.contains("asks"));
        kill(agent, Signal::SIGSTOP).unwrap();
        let ill = |text: &str| text.contains("uav stale") || text.contains("uav lost");
        stale = mose.wait("that it is silent", ill).contains("uav stale");
        mose.wait("a lost host", |text| text.contains("uav lost") && !text.contains("asks"));
        kill(agent, Signal::SIGCONT).unwrap();
        if stale {
            break;
        }
    }
    assert!(stale, "it was never shown as stale");
    mose.wait("the client again", |text| text.contains("4 up") && text.contains("asks"));
    let report = client.stop().unwrap();
    assert!(report.is_clean(), "{report:#?}");
    // One whose token is gone is lost, and what it told last is not taken for news.
    testbed.lab.hold_daemon("edge-b", "mose-agent", true).unwrap();
    mose_tests::kill(testbed.agent_pid("edge-b"));
    mose.wait("a lost host", |text| text.contains("edge-b lost") && text.contains("last known"));
    testbed.lab.hold_daemon("edge-b", "mose-agent", false).unwrap();
    mose.wait("it is back", |text| text.contains("4 up") && text.contains("counter @ edge-b"));
    mose.keys("q");
    assert!(mose.end().success());
    assert!(mose.is_handed_back());
}

#[test]
fn an_agent_of_another_protocol_version_is_shown_as_incompatible_and_why() {
    let stranger = Stranger::at("tcp/127.0.0.1:17943");
    let home = tempfile::tempdir().unwrap();
    let mut mose = console(&["--connect", &stranger.endpoint], &home);
    mose.wait("what it is", |text| text.contains("edge-x incompatible") && text.contains("version"));
    mose.keys("q");
    assert!(mose.end().success());
    stranger.leave();
}

#[test]
fn the_lab_is_brought_up_from_the_console_and_a_workload_started_in_it() {
    let Some(turn) = turn() else { return };
    let config = LabConfig::default();
    Lab::down(&config).unwrap();
    let home = tempfile::tempdir().unwrap();
    // From another testbed: what was shown is let go.
    let mut mose = console(&["--demo"], &home);
    mose.wait("the demo", |text| text.contains("SIM uav-handover") && text.contains("3 up"));
    mose.keys("O");
    let offered = mose.wait_for("four hosts on this machine");
    let line = offered.lines().find(|line| line.contains(" lab ") && line.contains("┃")).unwrap();
    let number = line.split(" lab").next().unwrap().chars().rfind(char::is_ascii_digit).unwrap();
    mose.keys(&number.to_string());
    // It begins anew, in the lab's network, in the same terminal.
    mose.wait("the lab", |text| text.contains("MOSE  lab") && text.contains("4 up"));
    mose.keys("n");
    mose.wait_for("Start which workload?");
    mose.keys("\r");
    mose.wait_for("where?");
    mose.keys("\r");
    mose.wait("the service and its plan", |text| {
        text.contains("sockperf @ edge-a") && text.contains("✔ duration")
    });
    mose.keys("q");
    assert!(mose.end().success());
    assert!(mose.is_handed_back());
    Lab::down(&config).unwrap();
    drop(turn);
}
