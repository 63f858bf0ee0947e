//! Wrong input: a clear error with the remedy, its exit code, and nothing changed.

use std::process::Output;

use mose_protocol::envelope::Message as _;
use mose_protocol::{Request, Response, envelope, keys};
use mose_tests::stranger::Stranger;
use mose_tests::{Testbed, eventually, kill, mose, text};

/// The refusal's exit code, its words on the error output, and a service that runs on.
fn refused(testbed: &Testbed, words: &[&str], says: &[&str]) {
    let output: Output = mose(words);
    assert_eq!(output.status.code(), Some(3), "{words:?}: {}", text(&output));
    for word in says {
        assert!(text(&output).contains(word), "{words:?} does not say `{word}`: {}", text(&output));
    }
    assert_eq!(testbed.running_on("sockperf"), ["edge-a"]);
}

#[test]
fn what_cannot_be_done_is_refused_by_name_and_changes_nothing() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("sockperf", "edge-a", &[], &[]);
    let before: Vec<_> = ["edge-a", "edge-b"].map(|host| testbed.traces(host)).into();

    refused(
        &testbed,
        &["migrate", "nothing", "--from", "edge-a", "--to", "edge-b"],
        &["nothing", "mose services"],
    );
    refused(&testbed, &["migrate", "nothing", "--to", "edge-b"], &["nothing", "sockperf on edge-a"]);
    refused(
        &testbed,
        &["migrate", "sockperf", "--from", "edge-a", "--to", "edge-z"],
        &["edge-z", "live are", "edge-b"],
    );
    refused(
        &testbed,
        &["migrate", "sockperf", "--from", "edge-z", "--to", "edge-b"],
        &["edge-z", "live are", "edge-a"],
    );
    refused(
        &testbed,
        &["migrate", "sockperf", "--from", "edge-a", "--to", "edge-a"],
        &["both edge-a", "another host"],
    );
    refused(&testbed, &["migrate", "sockperf", "--from", "edge-a", "--to", "uav"], &["uav", "edge host"]);
    refused(
        &testbed,
        &["migrate", "sockperf", "--from", "edge-a", "--to", "edge-b", "--strategy", "iterative-precopy"],
        &["without iterations", "--iterations"],
    );
    refused(
        &testbed,
        &["migrate", "sockperf", "--from", "edge-a", "--to", "edge-b", "--strategy", "cold", "-I", "3"],
        &["3 iterations of a cold migration", "iterative-precopy"],
    );

    // A container that stands still, one that is not on the overlay, and one whose volume its driver mounts.
    testbed.run("edge-a", &["podman", "create", "--name", "still", "--network", "none", "localhost/busybox"]);
    refused(
        &testbed,
        &["migrate", "still", "--from", "edge-a", "--to", "edge-b"],
        &["does not run", "podman start"],
    );
    testbed.run(
        "edge-a",
        &[
            "podman",
            "run",
            "-d",
            "--name",
            "alone",
            "--network",
            "none",
            "localhost/busybox",
            "busybox",
            "sleep",
            "1000",
        ],
    );
    refused(
        &testbed,
        &["migrate", "alone", "--from", "edge-a", "--to", "edge-b"],
        &["overlay", "mose-agent attach"],
    );
    testbed.run("edge-a", &["mose-agent", "attach", "keeper", "--address", "10.77.0.33/24"]);
    let options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs"];
    testbed.run("edge-a", &[&["podman", "volume", "create"][..], &options, &["data"]].concat());
    testbed.run(
        "edge-a",
        &[
            "podman",
            "run",
            "-d",
            "--name",
            "keeper",
            "--network",
            "ns:/run/netns/keeper",
            "--volume",
            "data:/data",
            "localhost/busybox",
            "busybox",
            "sleep",
            "1000",
        ],
    );
    refused(
        &testbed,
        &["migrate", "keeper", "--from", "edge-a", "--to", "edge-b"],
        &["the volume data, which is mounted with type=tmpfs", "plain folders"],
    );

    // A name that is taken at the destination.
    testbed.run("edge-b", &["podman", "create", "--name", "sockperf", "localhost/busybox"]);
    refused(
        &testbed,
        &["migrate", "sockperf", "--from", "edge-a", "--to", "edge-b"],
        &["already has a container"],
    );
    testbed.run("edge-b", &["podman", "rm", "sockperf"]);

    for name in ["still", "alone", "keeper"] {
        testbed.run("edge-a", &["podman", "rm", "-f", "-t", "0", name]);
    }
    testbed.run("edge-a", &["podman", "volume", "rm", "data"]);
    testbed.run("edge-a", &["mose-agent", "detach", "keeper"]);
    let after: Vec<_> = ["edge-a", "edge-b"].map(|host| testbed.traces(host)).into();
    assert_eq!(after, before);
    // And nothing of all this keeps it from moving.
    let (record, code) = testbed.migrate("sockperf", "edge-a", "edge-b");
    assert_eq!(code, 0, "{record}");
}

#[test]
fn a_podman_that_does_not_answer_is_named_with_its_socket() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("sockperf", "edge-a", &[], &[]);
    let before = testbed.traces("edge-b");
    for host in ["edge-b", "edge-a"] {
        testbed.lab.hold_daemon(host, "podman", true).unwrap();
        kill(testbed.daemon_pid(host, "podman"));
        refused(
            &testbed,
            &["migrate", "sockperf", "--from", "edge-a", "--to", "edge-b"],
            &["/run/podman/podman.sock", "podman system service"],
        );
        testbed.lab.hold_daemon(host, "podman", false).unwrap();
        eventually("Podman serves again", || {
            let argv = ["podman", "--url", "unix:///run/podman/podman.sock", "ps"];
            testbed.try_run(host, &argv).status.success()
        });
        eventually("nothing is left of it", || testbed.traces("edge-b") == before);
    }
    let (record, code) = testbed.migrate("sockperf", "edge-a", "edge-b");
    assert_eq!(code, 0, "{record}");
}

#[test]
fn without_agents_every_command_says_so() {
    // A port on which nobody listens; no lab is needed for this.
    let connect = ["--connect", "tcp/127.0.0.1:1"];
    let output = mose(&[&connect[..], &["migrate", "s", "--from", "a", "--to", "b"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("no agent is live"), "{}", text(&output));
    let output = mose(&[&connect[..], &["agents"]].concat());
    assert!(text(&output).contains("no agent is live"), "{}", text(&output));
    let output = mose(&["migrate", "s", "--from", "a/b", "--to", "b"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("not a host name"), "{}", text(&output));
}

#[test]
fn an_agent_of_another_protocol_version_is_seen_and_named_and_not_spoken_to() {
    let stranger = Stranger::at("tcp/127.0.0.1:17941");
    let endpoint = stranger.endpoint.clone();
    let output = mose(&["--connect", &endpoint, "agents"]);
    assert!(text(&output).contains("edge-x"), "{}", text(&output));
    assert!(text(&output).contains("protocol version"), "{}", text(&output));
    let output = mose(&["--connect", &endpoint, "migrate", "s", "--from", "edge-x", "--to", "edge-y"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("same release"), "{}", text(&output));
    stranger.leave();
}

#[test]
fn an_agent_answers_a_request_of_another_version_with_the_reason() {
    let Some(testbed) = Testbed::up() else { return };
    let pid = testbed.lab.host_pid("controller").unwrap();
    // Only this thread, and those that it starts, enter the controller's network.
    std::thread::spawn(move || {
        let netns = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let session = mose_bus::session::open(&[], &["tcp/10.99.0.11:7447".into()]).await.unwrap();
            let key = keys::requests(&"edge-a".parse().unwrap());
            for payload in [
                Request::Hello.seal_as(99).unwrap(),
                b"rubbish".to_vec(),
                vec![b'['; envelope::MAX_MESSAGE + 1],
            ] {
                let mut answer = None;
                for _ in 0..50 {
                    let replies = session.get(&key).payload(payload.clone()).await.unwrap();
                    if let Ok(reply) = replies.recv_async().await {
                        answer =
                            Some(envelope::open::<Response>(&reply.result().unwrap().payload().to_bytes()));
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                let refusal = answer.unwrap().unwrap().unwrap_err();
                assert!(!refusal.remedy.is_empty(), "{refusal}");
            }
            session.close().await.unwrap();
        });
    })
    .join()
    .unwrap();
    eventually("the agent is still there", || text(&mose(&["agents"])).contains("edge-a"));
}
