//! What runs on the lab's hosts: services by name, containers of every image, and one of them checkpointed and restored.
//!
//! Needs root and what `doctor` asks for. Without, the tests say so and pass, unless MOSE_REQUIRE_LAB=1.

use std::time::Duration;

use mose_lab::{CgroupMode, Hierarchies, Lab, ServiceOptions, start_service, stop_service};

use crate::lab_bench::{bench, shell, until, with_agent};

/// Runs sockperf in a container, checkpoints and restores it under a client, and prints the client's report.
const CHECKPOINT: &str = r"set -e
ip netns add s
ip link add h0 type veth peer name eth0 netns s
ip addr add 10.88.0.1/24 dev h0; ip link set h0 up
ip -n s addr add 10.88.0.2/24 dev eth0; ip -n s link set eth0 up; ip -n s link set lo up
podman run -d --name s --network ns:/run/netns/s --env A=b $LIMITS localhost/sockperf >/dev/null
until ip netns exec s ss -Hltn | grep -q :11111; do sleep 0.02; done
sockperf ping-pong --tcp -i 10.88.0.2 -p 11111 -t 3 --mps 100 > /tmp/client 2>&1 &
until ip netns exec s ss -Htn state established | grep -q :11111; do sleep 0.02; done
podman container checkpoint --tcp-established --keep s >/dev/null
podman container restore --tcp-established --keep s >/dev/null
wait
cat /tmp/client";

#[test]
fn a_container_and_its_tcp_connection_survive_checkpoint_and_restore_under_every_cgroup_mode() {
    for mode in [CgroupMode::V1, CgroupMode::V2] {
        if Hierarchies::detect().unwrap().missing(mode).is_some() {
            eprintln!("SKIPPED {mode:?}: not on this machine");
            continue;
        }
        let Some(mut bench) = bench("checkpoint") else { return };
        bench.config.cgroup = mode;
        let lab = bench.up();
        let limits = if mode == CgroupMode::V1 { "LIMITS='--memory 128m'" } else { "LIMITS=" };
        let said = shell(&lab, "edge-a", &format!("{limits}\n{CHECKPOINT}"));
        assert!(said.contains("# dropped messages = 0; # duplicated messages = 0"), "{mode:?}: {said}");
        let traces = bench.traces(&lab);
        Lab::down(&bench.config).unwrap();
        bench.assert_gone(&traces);
    }
}

#[test]
fn a_service_is_started_and_stopped_by_name_and_a_failed_start_leaves_nothing() {
    let Some(mut bench) = bench("service") else { return };
    let dir = tempfile::tempdir().unwrap();
    with_agent(&mut bench, dir.path());
    let lab = bench.up();
    let mut options = ServiceOptions::of("counter");
    options.arguments = ["--state-size", "8MiB"].map(String::from).to_vec();
    let id = start_service(&lab, "counter", "edge-b", &options).unwrap();
    assert_eq!(id.len(), 64);
    let ping = ["mose-counter", "ping", "--connect", "10.77.0.20:7070", "--duration", "1s"];
    // It has begun when Podman says so, but may not listen yet.
    until("the service answers", Duration::from_secs(20), || {
        lab.exec_in_netns("edge-b", "counter", &ping).unwrap().output().unwrap().status.success()
    });

    // A second one, there or elsewhere, is refused, and the first one goes on.
    for host in ["edge-a", "edge-b"] {
        let error = start_service(&lab, "counter", host, &options).unwrap_err().to_string();
        assert!(error.contains("edge-b has a container of that name already"), "{error}");
        let other = ServiceOptions { name: "other".into(), ..options.clone() };
        let error = start_service(&lab, "counter", host, &other).unwrap_err().to_string();
        assert!(error.contains("10.77.0.20 is the address of another service"), "{error}");
    }
    let running = shell(&lab, "edge-b", "podman ps --no-trunc --format '{{.ID}} {{.Names}}'");
    assert_eq!(running.trim(), format!("{id} counter"));

    stop_service(&lab, "edge-b", "counter").unwrap();
    stop_service(&lab, "edge-b", "counter").unwrap(); // harmless
    let left = "podman ps -aq; ip netns list";
    assert_eq!(shell(&lab, "edge-b", left), "");

    options.podman = vec!["--no-such-option".into()];
    let error = start_service(&lab, "counter", "edge-b", &options).unwrap_err().to_string();
    assert!(error.contains("--no-such-option"), "{error}");
    assert_eq!(shell(&lab, "edge-b", left), "");
    let error = start_service(&lab, "doom", "edge-b", &options).unwrap_err().to_string();
    assert!(error.contains("sockperf, iperf3, counter"), "{error}");
}

/// An anonymous MQTT client: it sends CONNECT and prints the broker's CONNACK in hexadecimal.
const MQTT: &str = r#"ip netns exec mosquitto python3 -c '
import socket
s = socket.create_connection(("127.0.0.1", 1883), 5)
s.sendall(bytes.fromhex("100c00044d515454 0402003c0000"))
print(s.recv(4).hex())'"#;

#[test]
fn every_image_runs_on_both_edge_hosts() {
    let Some(bench) = bench("images") else { return };
    let lab = bench.up();
    for host in ["edge-a", "edge-b"] {
        for workload in mose_lab::WORKLOADS.iter().filter(|w| w.own_binary.is_none()) {
            let (name, port) = (workload.name, workload.port);
            let script = format!(
                "ip netns add {name}; ip -n {name} link set lo up\n\
                 podman run -d --name {name} --network ns:/run/netns/{name} localhost/{name} >/dev/null\n\
                 for i in $(seq 250); do ip netns exec {name} ss -Hltn | grep -qE '(0\\.0\\.0\\.0|\\*):{port} ' && exit 0; sleep 0.02; done\n\
                 podman logs {name}; exit 1"
            );
            shell(&lab, host, &script);
        }
        // The two that live by a file in their image.
        let page = shell(&lab, host, "ip netns exec busybox busybox wget -qO- http://127.0.0.1/");
        assert_eq!(page, "MOSE\n");
        assert_eq!(shell(&lab, host, MQTT), "20020000\n", "connected, although nobody");
    }
}
