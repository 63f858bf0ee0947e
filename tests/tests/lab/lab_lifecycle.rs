//! The lab on a real machine: it comes up, does what it says, and goes without a trace, also after a crash. Each test brings
//! up a lab of its own, beside whichever runs already; only the cache is shared.
//!
//! Needs root and what `doctor` asks for. Without, the tests say so and pass, unless MOSE_REQUIRE_LAB=1.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mose_lab::{
    CgroupMode, Hierarchies, Lab, LabConfig, LabError, LinkRate, Lock, ServiceOptions, start_service,
    stop_service,
};
use mose_tests::{programs, text, turn};

/// A lab for one test, with folders of its own. Taken down whatever becomes of the test.
struct Bench {
    config: LabConfig,
    before: Machine,
    _turn: Lock,
}

/// What the machine's own view of itself must not change by.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    links: BTreeSet<String>,
    mounts: Vec<String>,
}

fn machine() -> Machine {
    let links = fs::read_dir("/sys/class/net").unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    Machine {
        links: links.map(|l| l.unwrap().file_name().into_string().unwrap()).collect(),
        // Mounts come and go by others' hands; ours would have our names in them, or pin a namespace.
        mounts: mounts
            .lines()
            .filter(|l| l.contains("mose-lab") || l.contains("nsfs"))
            .map(str::to_owned)
            .collect(),
    }
}

fn bench(name: &str) -> Option<Bench> {
    let turn = turn()?;
    let id = format!("mose-lab-test-{name}-{}", std::process::id());
    let config = LabConfig {
        init_program: Some(programs().join("mose-lab")),
        state_dir: Path::new("/run").join(&id),
        data_dir: Path::new("/var/lib").join(&id),
        ..LabConfig::default()
    };
    Some(Bench { config, before: machine(), _turn: turn })
}

impl Drop for Bench {
    fn drop(&mut self) {
        let down = Lab::down(&self.config);
        if !std::thread::panicking() {
            down.unwrap();
        }
    }
}

/// What identifies a lab from the outside, noted while it runs, looked for when it is gone.
struct Traces {
    namespaces: BTreeSet<PathBuf>,
    cgroups: Vec<PathBuf>,
}

impl Bench {
    fn up(&self) -> Lab {
        Lab::up(&self.config, &mut |_| {}).unwrap()
    }

    fn traces(&self, lab: &Lab) -> Traces {
        let pids = lab.hosts().iter().filter_map(|h| h.init).chain(lab.status().underlay).map(|p| p.pid);
        let namespaces: BTreeSet<PathBuf> = pids.flat_map(namespaces).collect();
        // Of five processes: network, mount, pid, UTS and IPC namespace each.
        assert!(namespaces.len() >= 25, "{namespaces:?}");
        let own: BTreeSet<PathBuf> = namespaces.difference(&namespaces_of_self()).cloned().collect();
        let cgroups = fs::read_to_string(self.config.state_dir.join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&cgroups).unwrap();
        let name = state["cgroup"]["lab"].as_str().unwrap();
        let hierarchies = state["cgroup"]["hierarchies"].as_array().unwrap();
        let cgroups: Vec<PathBuf> =
            hierarchies.iter().map(|h| Path::new(h["path"].as_str().unwrap()).join(name)).collect();
        assert!(!cgroups.is_empty() && cgroups.iter().all(|c| c.exists()));
        Traces { namespaces: own, cgroups }
    }

    fn assert_gone(&self, traces: &Traces) {
        let mark = format!("MOSE_LAB={}", self.config.state_dir.display());
        for pid in pids() {
            // What is dead but not yet reaped by the machine's init is gone as far as we are concerned.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.rsplit(')').next().is_some_and(|s| s.starts_with(" Z") || s.starts_with(" X")) {
                continue;
            }
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            assert!(!environ.split(|b| *b == 0).any(|v| v == mark.as_bytes()), "process {pid} is left");
            let left: Vec<_> =
                namespaces(pid).into_iter().filter(|n| traces.namespaces.contains(n)).collect();
            assert!(left.is_empty(), "process {pid} is left in {left:?}");
        }
        for cgroup in &traces.cgroups {
            assert!(!cgroup.exists(), "{} is left", cgroup.display());
        }
        for dir in [&self.config.state_dir, &self.config.data_dir] {
            assert!(!dir.exists(), "{} is left", dir.display());
        }
        // A guest that another test boots may have its parts made meanwhile.
        until("nothing unfinished is in the cache", Duration::from_secs(300), || {
            let entries = fs::read_dir(&self.config.cache_dir).unwrap().flatten();
            let names = entries.map(|entry| entry.file_name().into_string().unwrap());
            names.filter(|name| name.starts_with(".building-") || name.starts_with(".images-")).count() == 0
        });
        assert_eq!(machine(), self.before);
    }
}

fn pids() -> Vec<i32> {
    fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn namespaces(pid: i32) -> BTreeSet<PathBuf> {
    let kinds = ["net", "mnt", "pid", "uts", "ipc", "cgroup"];
    kinds.iter().filter_map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()).collect()
}

fn namespaces_of_self() -> BTreeSet<PathBuf> {
    namespaces(std::process::id() as i32)
}

fn output(lab: &Lab, host: &str, argv: &[&str]) -> Output {
    lab.exec(host, argv).unwrap().stdin(Stdio::null()).output().unwrap()
}

fn shell(lab: &Lab, host: &str, script: &str) -> String {
    let output = output(lab, host, &["sh", "-c", script]);
    assert!(output.status.success(), "{script}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn kill_hard(pid: i32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}

fn daemon(lab: &Lab, host: &str, name: &str) -> mose_lab::DaemonStatus {
    let status = lab.status();
    let host = status.hosts.iter().find(|h| h.host.name == host).unwrap();
    host.daemons.iter().find(|d| d.name == name).unwrap().clone()
}

#[test]
fn up_from_the_cache_is_quick_and_down_leaves_nothing() {
    let Some(bench) = bench("clean") else { return };
    drop(bench.up()); // fills the cache if need be
    Lab::down(&bench.config).unwrap();
    let begun = Instant::now();
    let lab = bench.up();
    let took = begun.elapsed();
    eprintln!("up from the cache: {} ms", took.as_millis());
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(lab.status().ready);
    let traces = bench.traces(&lab);
    assert_eq!(machine(), bench.before, "the machine sees nothing of a running lab");
    shell(
        &lab,
        "edge-a",
        "podman run -d --name left --network none localhost/busybox sleep 1000; ip netns add left",
    );
    let report = Lab::down(&bench.config).unwrap();
    eprintln!("down: {report:?}");
    assert_eq!((report.hosts, report.killed), (5, 0));
    bench.assert_gone(&traces);
    assert!(Lab::open(&bench.config.state_dir).unwrap().is_none());
    assert_eq!(Lab::down(&bench.config).unwrap().hosts, 0, "down without a lab is harmless");
}

#[test]
fn up_twice_starts_nothing_twice_and_up_after_a_crash_repairs() {
    let Some(bench) = bench("repair") else { return };
    let lab = bench.up();
    let first = lab.hosts().to_vec();
    assert_eq!(bench.up().hosts(), first);

    shell(&lab, "edge-a", "echo kept > /var/lib/mose/file");
    kill_hard(lab.host_pid("edge-a").unwrap());
    kill_hard(lab.status().underlay.unwrap().pid);

    // At once: what is still dying must not be taken for alive.
    let lab = bench.up();
    assert!(lab.status().ready);
    for (old, new) in first.iter().zip(lab.hosts()) {
        assert_eq!(old.init == new.init, old.name != "edge-a", "{}", old.name);
    }
    // Every host is on the new underlay, the restarted one still has its files, the edge link its rate.
    shell(&lab, "uav", "for h in edge-a edge-b controller; do ping -c 1 -W 2 $h; done");
    assert_eq!(shell(&lab, "edge-a", "cat /var/lib/mose/file"), "kept\n");
    for edge in ["edge-a", "edge-b"] {
        assert!(shell(&lab, edge, "tc class show dev under0").contains("rate 1Gbit"), "{edge}");
    }
    kill_hard(lab.host_pid("uav").unwrap());
    let down = || matches!(lab.exec("uav", &["true"]), Err(LabError::HostDown { .. }));
    until("uav is seen to be down", Duration::from_secs(5), down);
    let traces = bench.traces(&bench.up());
    Lab::down(&bench.config).unwrap();
    bench.assert_gone(&traces);
}

#[test]
fn reset_makes_everything_anew_with_the_options_it_is_given() {
    let Some(mut bench) = bench("reset") else { return };
    bench.config.cgroup = CgroupMode::V1;
    let other = CgroupMode::V2;
    let machine = Hierarchies::detect().unwrap();
    if let Some(missing) = [CgroupMode::V1, other].into_iter().find_map(|mode| machine.missing(mode)) {
        eprintln!("SKIPPED: {missing}");
        return;
    }
    let lab = bench.up();
    assert!(!lab.status().cgroup_v2);
    let first = lab.hosts().to_vec();
    shell(&lab, "edge-a", "echo old > /var/lib/mose/file");
    bench.config.cgroup = other;
    bench.config.edge_link = LinkRate::Bits(100_000_000);

    // Of a lab that is up only the link is changed, and it is said how to get the rest.
    let mut said = String::new();
    let lab = Lab::up(&bench.config, &mut |progress| said += &progress.what).unwrap();
    assert!(!lab.status().cgroup_v2 && said.contains("mose lab reset"), "{said}");
    assert_eq!((lab.hosts(), lab.status().edge_link), (first.as_slice(), bench.config.edge_link));

    let mut unbuilt = bench.config.clone();
    unbuilt.binaries.insert("mose-agent".into(), "/nowhere/mose-agent".into());
    let error = Lab::reset(&unbuilt, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("/nowhere/mose-agent"), "{error}");
    assert!(lab.status().ready, "what is refused takes nothing down");

    let lab = Lab::reset(&bench.config, &mut |_| {}).unwrap();
    assert!(lab.status().ready && lab.status().cgroup_v2);
    assert_eq!(lab.status().edge_link, bench.config.edge_link);
    assert!(first.iter().zip(lab.hosts()).all(|(old, new)| old.init != new.init));
    assert!(!output(&lab, "edge-a", &["cat", "/var/lib/mose/file"]).status.success());
    let traces = bench.traces(&lab);
    Lab::down(&bench.config).unwrap();
    bench.assert_gone(&traces);
}

#[test]
fn down_finds_a_lab_whose_state_is_lost_or_whose_processes_are_all_dead() {
    let Some(bench) = bench("crash") else { return };
    let lab = bench.up();
    let traces = bench.traces(&lab);
    fs::write(bench.config.state_dir.join("state.json"), "{ half a").unwrap();
    assert_eq!(Lab::down(&bench.config).unwrap().hosts, 5);
    bench.assert_gone(&traces);

    let lab = bench.up();
    let traces = bench.traces(&lab);
    for host in lab.hosts() {
        kill_hard(host.init.unwrap().pid);
    }
    kill_hard(lab.status().underlay.unwrap().pid);
    Lab::down(&bench.config).unwrap();
    bench.assert_gone(&traces);

    let lab = bench.up();
    let traces = bench.traces(&lab);
    fs::remove_dir_all(&bench.config.state_dir).unwrap();
    let lab = bench.up(); // what ran without being known is replaced, not doubled
    assert!(lab.status().ready);
    Lab::down(&bench.config).unwrap();
    bench.assert_gone(&traces);
}

#[test]
fn exec_carries_streams_and_exit_codes_and_dies_with_its_caller() {
    let Some(bench) = bench("exec") else { return };
    let lab = bench.up();
    assert_eq!(output(&lab, "uav", &["sh", "-c", "exit 42"]).status.code(), Some(42));
    assert_eq!(shell(&lab, "uav", "hostname; pwd; echo $HOME"), "uav\n/\n/root\n");
    let mut cat = lab.exec("edge-b", &["sh", "-c", "cat; echo err >&2"]).unwrap();
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"through").unwrap();
    let said = cat.wait_with_output().unwrap();
    assert_eq!(
        (said.stdout.as_slice(), said.stderr.as_slice()),
        (b"through".as_slice(), b"err\n".as_slice())
    );

    shell(&lab, "uav", "ip netns add client; ip -n client link set lo up");
    let inside = lab.exec_in_netns("uav", "client", &["ip", "-o", "link"]).unwrap().output().unwrap();
    assert_eq!(String::from_utf8_lossy(&inside.stdout).lines().count(), 1);

    let mut sleeper = lab.exec("uav", &["sleep", "4711"]).unwrap().spawn().unwrap();
    let seen = || !shell(&lab, "uav", "pgrep -fx 'sleep 4711' || true").is_empty();
    until("the program runs", Duration::from_secs(5), seen);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    until("the program dies with its caller", Duration::from_secs(5), || !seen());

    let error = lab.exec("edge-c", &["true"]).unwrap_err().to_string();
    assert!(error.contains("edge-a, edge-b, uav, controller"), "{error}");
    // Every host reaches every other by SSH, without a password, for the scripted baseline.
    assert_eq!(shell(&lab, "controller", "ssh edge-a ssh edge-b hostname"), "edge-b\n");
}

#[test]
fn a_daemon_that_dies_is_back_within_a_second_unless_held() {
    let Some(bench) = bench("daemon") else { return };
    let lab = bench.up();
    for name in ["sshd", "podman", "ovs-vswitchd", "ovsdb-server"] {
        let old = daemon(&lab, "edge-a", name);
        kill_hard(old.machine_pid.unwrap());
        let back = || {
            let now = daemon(&lab, "edge-a", name);
            now.ready && now.restarts == 1 && now.pid != old.pid
        };
        let took = until(name, Duration::from_secs(5), back);
        eprintln!("{name}: back after {} ms", took.as_millis());
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
    }
    lab.hold_daemon("edge-a", "sshd", true).unwrap();
    kill_hard(daemon(&lab, "edge-a", "sshd").machine_pid.unwrap());
    until("sshd is down", Duration::from_secs(5), || daemon(&lab, "edge-a", "sshd").pid.is_none());
    std::thread::sleep(Duration::from_millis(600)); // longer than the pause before a restart: it stays down
    assert_eq!(daemon(&lab, "edge-a", "sshd").pid, None);
    lab.hold_daemon("edge-a", "sshd", false).unwrap();
    until("sshd is back", Duration::from_secs(5), || daemon(&lab, "edge-a", "sshd").ready);
}

/// TCP throughput between two hosts over the underlay, in Gb/s.
fn throughput(lab: &Lab, from: &str, to: &str) -> f64 {
    let address: Ipv4Addr = lab.hosts().iter().find(|h| h.name == to).unwrap().underlay;
    let mut server = lab.exec(to, &["iperf3", "-s", "-1"]).unwrap().stdout(Stdio::null()).spawn().unwrap();
    until("iperf3 listens", Duration::from_secs(5), || {
        shell(lab, to, "ss -Hltn 'sport = :5201'").contains("LISTEN")
    });
    let text = shell(lab, from, &format!("iperf3 -c {address} -t 2 -O 1 -J"));
    server.wait().unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e9
}

#[test]
fn the_edge_link_is_shaped_and_nothing_else() {
    let Some(bench) = bench("link") else { return };
    let mut lab = bench.up();
    for (from, to) in [("edge-a", "edge-b"), ("edge-b", "edge-a")] {
        let rate = throughput(&lab, from, to);
        eprintln!("{from} to {to} at 1gbit: {rate:.3} Gb/s");
        assert!((0.9..1.0).contains(&rate), "{from} to {to}: {rate}");
    }
    let beside = throughput(&lab, "edge-a", "uav");
    eprintln!("edge-a to uav: {beside:.1} Gb/s");
    assert!(beside > 2.0, "{beside}");
    lab.set_edge_link(LinkRate::Bits(100_000_000)).unwrap();
    assert!((0.08..0.1).contains(&throughput(&lab, "edge-a", "edge-b")));
    lab.set_edge_link(LinkRate::Unshaped).unwrap();
    let free = throughput(&lab, "edge-a", "edge-b");
    eprintln!("edge-a to edge-b unshaped: {free:.1} Gb/s");
    assert!(free > 2.0, "{free}");
    assert_eq!(Lab::open(&bench.config.state_dir).unwrap().unwrap().config().edge_link, LinkRate::Unshaped);
}

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

/// Stands in for the agent: takes a socket like it, attaches and detaches with the means of `ip`.
const AGENT: &str = r#"#!/bin/sh
case "$1" in
run) echo "$@" > /run/mose-agent.args
     mkdir -p /run/mose; rm -f /run/mose/agent.sock
     exec python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.bind("/run/mose/agent.sock"); s.listen()
while True: s.accept()' ;;
attach) ip netns add "$2" && ip -n "$2" link set lo up && ip -n "$2" addr add "$4" dev lo ;;
detach) [ ! -e "/run/netns/$2" ] || ip netns del "$2" ;;
esac
"#;

fn with_agent(bench: &mut Bench, dir: &Path) {
    let agent = dir.join("mose-agent");
    fs::write(&agent, AGENT).unwrap();
    bench.config.binaries.insert("mose-agent".into(), agent);
    bench.config.binaries.insert("mose-counter".into(), programs().join("mose-counter"));
}

#[test]
fn the_agent_gets_its_peers_and_is_back_within_a_second_however_often_it_is_killed() {
    let Some(mut bench) = bench("agent") else { return };
    let dir = tempfile::tempdir().unwrap();
    with_agent(&mut bench, dir.path());
    let lab = bench.up();
    let arguments = shell(&lab, "uav", "cat /run/mose-agent.args");
    assert!(arguments.starts_with("run --name uav --role mobile --underlay 10.99.0.13 "), "{arguments}");
    assert_eq!(arguments.matches("--connect").count(), 3, "{arguments}");
    for round in 1..=4 {
        kill_hard(daemon(&lab, "uav", "mose-agent").machine_pid.unwrap());
        let back = || {
            let agent = daemon(&lab, "uav", "mose-agent");
            agent.ready && agent.restarts == round
        };
        let took = until("the agent", Duration::from_secs(5), back);
        assert!(took < Duration::from_secs(1), "round {round}: {took:?}");
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
