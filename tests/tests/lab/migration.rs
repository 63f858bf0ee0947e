//! Real services, moved to and fro under real clients in the lab: nothing is lost, repeated or reordered, the
//! connection stays, and nothing is left behind.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::Command;

use mose_lab::client::{Client, ClientReport};
use mose_tests::{ClientKind, Testbed, eventually, mose, text, whole};
use serde_json::Value;

/// There and back, so many times; every migration must be done.
fn laps(testbed: &Testbed, service: &str, laps: u32) -> Vec<Value> {
    let mut records = Vec::new();
    for lap in 0..laps {
        for (from, to) in [("edge-a", "edge-b"), ("edge-b", "edge-a")] {
            let (record, code) = testbed.migrate(service, from, to);
            assert_eq!(code, 0, "lap {lap}: {record}");
            assert_eq!(record["outcome"], "done", "lap {lap}: {record}");
            assert_eq!(testbed.running_on(service), [to], "lap {lap}");
            records.push(record);
        }
    }
    records
}

fn clean(client: Client) -> ClientReport {
    let report = client.stop().unwrap();
    assert!(report.is_clean(), "{report:?}");
    report
}

#[test]
fn sockperf_keeps_its_one_connection_over_three_laps() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("sockperf", "edge-a", &[], &[]);
    let client = testbed.client(ClientKind::Sockperf, 1);
    let records = laps(&testbed, "sockperf", 3);
    let report = clean(client);
    assert_eq!((report.lost, report.repeated, report.reordered, report.resets), (0, 0, 0, 0));
    for record in &records {
        // The three clocks are all there, and no client was reset or had to connect anew.
        assert!(record["downtime"]["criu"]["frozen"].as_f64().unwrap() > 0.0, "{record}");
        assert!(record["downtime"]["blackout"].as_f64().unwrap() > 0.0, "{record}");
        let clients = record["downtime"]["clients"].as_array().unwrap();
        assert_eq!(clients.len(), 1, "{record}");
        assert_eq!(clients[0]["resets"], 0, "{record}");
        assert_eq!(clients[0]["accepted"], 0, "{record}");
    }
}

#[test]
fn images_go_over_zenoh_as_well() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("counter", "edge-a", &[], &["--state-size", "32MiB"]);
    let client = testbed.client(ClientKind::Counter, 1);
    for (from, to) in [("edge-a", "edge-b"), ("edge-b", "edge-a")] {
        let (record, code) = testbed.migrate_with("counter", from, to, &["--transport", "zenoh"]);
        assert_eq!((code, &record["transport"]), (0, &"zenoh".into()), "{record}");
    }
    clean(client);
}

#[test]
fn iperf3_keeps_its_connection_and_its_throughput_recovers() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("iperf3", "edge-a", &[], &[]);
    let client = testbed.client(ClientKind::Iperf3, 1);
    laps(&testbed, "iperf3", 2);
    // Time for the throughput after the last migration to be seen.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let report = clean(client);
    assert_eq!(report.extra["dipped"], true, "the migrations were seen: {report:?}");
    let rate = |when: &str| report.extra["bits_per_second"][when].as_f64().unwrap();
    assert!(rate("after") > rate("before") / 2.0, "the stream flows again: {report:?}");
}

#[test]
fn sixty_four_mebibytes_of_state_arrive_whole() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("counter", "edge-a", &[], &["--state-size", "64MiB", "--dirty-rate", "500"]);
    let client = testbed.client(ClientKind::Counter, 1);
    laps(&testbed, "counter", 2);
    clean(client);
    let argv = ["mose-counter", "verify", "--connect", "10.77.0.20:7070"].map(str::to_owned);
    let verified = testbed.among_clients(&argv).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
fn several_processes_many_connections_and_files_move_like_anything_else() {
    let Some(testbed) = Testbed::up() else { return };
    let arguments =
        ["--state-size", "200MiB", "--processes", "3", "--write-file", "/data.bin", "--write-rate", "50"];
    let podman =
        ["--restart", "always", "--label", "team=uav", "--env", "GREETING=hello world", "--memory", "700m"];
    testbed.start("counter", "edge-a", &podman, &arguments);
    // The root file system also loses a file and gains a link, a folder and an attribute.
    testbed.run(
        "edge-a",
        &[
            "podman",
            "exec",
            "counter",
            "sh",
            "-c",
            "rm -f /etc/hostname.orig /bin/vi; ln -s /data.bin /l; mkdir -m 711 /d",
        ],
    );
    let client = testbed.client(ClientKind::Counter, 40);
    laps(&testbed, "counter", 2);
    let report = clean(client);
    assert_eq!((report.connections, report.streams), (40, 40));
    let argv = ["mose-counter", "verify", "--connect", "10.77.0.20:7070"].map(str::to_owned);
    let verified = testbed.among_clients(&argv).output().unwrap();
    assert!(verified.status.success(), "memory and file are whole: {}", text(&verified));
    let look = "test ! -e /bin/vi && readlink /l && stat -c %a /d && echo \"$GREETING\"";
    let seen = testbed.run("edge-a", &["podman", "exec", "counter", "sh", "-c", look]);
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["/data.bin", "711", "hello world"]);
    let format =
        "{{index .Config.Labels \"team\"}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}";
    let kept = testbed.run("edge-a", &["podman", "inspect", "counter", "--format", format]);
    assert_eq!(kept.trim(), format!("uav always {}", 700 << 20));
    // The restart policy is not only kept but acts.
    testbed.run("edge-a", &["sh", "-c", "kill -9 $(podman inspect counter --format '{{.State.Pid}}')"]);
    eventually("the container restarts", || testbed.running_on("counter") == ["edge-a"]);
}

#[test]
fn redis_keeps_counting() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("redis", "edge-a", &[], &[]);
    eventually("redis listens", || {
        testbed.try_run("edge-a", &["podman", "exec", "redis", "redis-cli", "ping"]).status.success()
    });
    let client = testbed.client(ClientKind::Redis, 4);
    laps(&testbed, "redis", 1);
    clean(client);
}

#[test]
fn laps_leave_nothing_behind() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("sockperf", "edge-a", &[], &[]);
    let client = testbed.client(ClientKind::Sockperf, 1);
    // The first lap makes what stays: tunnels, the destination's knowledge of the addresses.
    laps(&testbed, "sockperf", 1);
    let before: Vec<_> = ["edge-a", "edge-b", "uav"].map(|host| testbed.traces(host)).into();
    laps(&testbed, "sockperf", if whole() { 49 } else { 14 });
    clean(client);
    let after: Vec<_> = ["edge-a", "edge-b", "uav"].map(|host| testbed.traces(host)).into();
    assert_eq!(after, before);
    let without_service: Vec<(&str, usize)> = after[1]
        .iter()
        .copied()
        .filter(|(what, _)| {
            matches!(
                *what,
                "network namespaces"
                    | "containers"
                    | "container folders"
                    | "journals"
                    | "agent's files"
                    | "hook markers"
                    | "checkpoint images"
                    | "container mounts"
                    | "container cgroups"
            )
        })
        .collect();
    assert!(without_service.iter().all(|(_, count)| *count == 0), "edge-b: {without_service:?}");
    let journals = after[0].iter().find(|(what, _)| *what == "journals").unwrap();
    assert_eq!(journals.1, 0, "every hand-over is settled");
}

#[test]
fn an_image_that_the_destination_lacks_is_brought_before_the_freeze() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.run("edge-a", &["sh", "-c", "echo FROM localhost/counter > /tmp/C; echo 'LABEL own=1' >> /tmp/C; \
        podman build -q -t localhost/own:v1 -f /tmp/C /tmp || podman commit -q $(podman create localhost/counter) localhost/own:v1; \
        podman rm -fa >/dev/null"]);
    testbed.run("edge-a", &["mose-agent", "attach", "own", "--address", "10.77.0.20/24"]);
    testbed.run(
        "edge-a",
        &[
            "podman",
            "run",
            "-d",
            "--name",
            "own",
            "--network",
            "ns:/run/netns/own",
            "localhost/own:v1",
            "mose-counter",
            "serve",
            "--state-size",
            "4MiB",
        ],
    );
    let client = testbed.client(ClientKind::Counter, 1);
    let (refused, code) = testbed.migrate_with("own", "edge-a", "edge-b", &["--require-image"]);
    assert_eq!(code, 3, "{refused}");
    assert_eq!(refused["reason"]["code"], "image-missing", "{refused}");
    // One that would come out different is refused before its image is sent.
    let mounts = "mkdir -p /srv/extra; echo /srv/extra:/run/extra > /etc/containers/mounts.conf";
    testbed.run("edge-b", &["sh", "-c", mounts]);
    let traces = || {
        let mut traces = testbed.traces("edge-b");
        traces.retain(|(what, _)| what.starts_with("container") || *what == "network namespaces");
        traces
    };
    let before = traces();
    let (refused, code) = testbed.migrate("own", "edge-a", "edge-b");
    assert_eq!(code, 3, "{refused}");
    let reason = refused["reason"]["reason"].as_str().unwrap();
    assert!(reason.contains("would come out different here: mounts"), "{refused}");
    assert!(!steps(&refused).contains(&"container-image".to_owned()), "{refused}");
    let images = testbed.run("edge-b", &["podman", "images", "--all", "--format", "{{.Repository}}"]);
    assert!(!images.contains("own") && !images.contains("stand-in"), "{images}");
    assert_eq!(traces(), before);
    testbed.run("edge-b", &["rm", "/etc/containers/mounts.conf"]);
    let (record, code) = testbed.migrate("own", "edge-a", "edge-b");
    assert_eq!(code, 0, "{record}");
    assert_eq!(testbed.running_on("own"), ["edge-b"]);
    let step = |name: &str| {
        let steps = record["steps"].as_array().unwrap();
        steps.iter().find(|step| step["step"] == name).unwrap()["start"].as_f64().unwrap()
    };
    assert!(step("container-image") < step("freeze"), "{record}");
    clean(client);
}

/// The steps of a record that were begun.
fn steps(record: &Value) -> Vec<String> {
    let steps = record["steps"].as_array().into_iter().flatten();
    steps.filter_map(|step| step["step"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_gibibyte_moves_without_passing_through_the_agents_memory() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("counter", "edge-a", &[], &["--state-size", "1GiB"]);
    let client = testbed.client(ClientKind::Counter, 1);
    let (record, code) = testbed.migrate("counter", "edge-a", "edge-b");
    assert_eq!(code, 0, "{record}");
    assert!(record["image"].as_u64().unwrap() > 1 << 30, "{record}");
    clean(client);
    for host in ["edge-a", "edge-b"] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", testbed.agent_pid(host))).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 256 << 10, "the agent on {host} took {kib} KiB");
    }
}

#[test]
fn cgroup_v2_hosts_migrate_too() {
    let Some(testbed) = Testbed::with(&["--cgroup", "v2"]) else { return };
    testbed.start("sockperf", "edge-a", &[], &[]);
    let client = testbed.client(ClientKind::Sockperf, 1);
    laps(&testbed, "sockperf", 1);
    clean(client);
}

#[test]
fn steps_are_printed_as_they_happen_and_kept_in_the_history() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("sockperf", "edge-a", &[], &[]);
    let output = mose(&["migrate", "sockperf", "--to", "edge-b"]);
    assert!(output.status.success(), "{}", text(&output));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in [
        "prepare",
        "freeze",
        "dump",
        "transfer",
        "relinquish",
        "restore",
        "release",
        "service stopped",
        "done",
    ] {
        assert!(shown.contains(word), "{word} is missing: {shown}");
    }
    let output = mose(&["--json", "history"]);
    let history: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(history[0]["service"], "sockperf");
    let id = history[0]["migration"].as_str().unwrap();
    let output = mose(&["history", id]);
    assert!(text(&output).contains("restore"), "{}", text(&output));
    let output = mose(&["--json", "services"]);
    let services: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(services[0]["host"], "edge-b", "{services}");
    let output = mose(&["--json", "agents"]);
    let agents: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(agents.as_array().unwrap().len(), 4, "{agents}");
}

#[test]
fn the_watcher_sees_every_step_of_a_migration_that_someone_else_ordered() {
    let Some(testbed) = Testbed::up() else { return };
    testbed.start("sockperf", "edge-a", &[], &[]);
    let mut watcher = Command::new(mose_tests::programs().join("mose"))
        .args(["--json", "watch"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(watcher.stdout.take().unwrap()));
    let (tell, heard) = std::sync::mpsc::channel::<Value>();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if tell.send(serde_json::from_str(&line).unwrap()).is_err() {
                return;
            }
        }
    });
    // The watcher may join while the first is under way; it must see all of the second.
    let _ = testbed.migrate("sockperf", "edge-a", "edge-b");
    let (record, code) = testbed.migrate("sockperf", "edge-b", "edge-a");
    assert_eq!(code, 0, "{record}");
    let mut next = std::collections::HashMap::<String, u64>::new();
    loop {
        let event = heard.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        if event["migration"] != record["migration"] {
            continue;
        }
        let number = next.entry(event["host"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(event["seq"], *number, "{event}");
        *number += 1;
        if event["step"] == "migration" && event["phase"] == "finished" {
            break;
        }
    }
    assert_eq!(next.len(), 2, "both edge hosts were heard: {next:?}");
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    reader.join().unwrap();
}
