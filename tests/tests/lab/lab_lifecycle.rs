//! The lab on a real machine: it comes up, does what it says, and goes without a trace, also after a crash. Each test brings
//! up a lab of its own, beside whichever runs already; only the cache is shared.
//!
//! Needs root and what `doctor` asks for. Without, the tests say so and pass, unless MOSE_REQUIRE_LAB=1.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mose_lab::{CgroupMode, Hierarchies, Lab, LabError, LinkRate};

use crate::lab_bench::{bench, daemon, kill_hard, machine, output, shell, until, with_agent};

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

#[test]
fn the_agent_gets_its_peers_and_is_back_within_a_second_however_often_it_is_killed() {
    let Some(mut bench) = bench("agent") else { return };
    let dir = tempfile::tempdir().unwrap();
    with_agent(&mut bench, dir.path());
    let lab = bench.up();
    let arguments = shell(&lab, "uav", "cat /run/mose-agent.args");
    assert!(arguments.starts_with("run --name uav --role mobile --underlay 10.99.0.13 "), "{arguments}");
    // Of each two, one connects to the other.
    let all =
        ["edge-a", "edge-b", "uav", "controller"].map(|host| shell(&lab, host, "cat /run/mose-agent.args"));
    assert_eq!(all.concat().matches("--connect").count(), 6, "{all:?}");
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
