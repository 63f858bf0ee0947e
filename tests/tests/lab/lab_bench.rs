//! A lab of a test's own, and what shows that nothing of it is left.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mose_lab::{Lab, LabConfig, Lock};
use mose_tests::{programs, text, turn};

/// A lab for one test, with folders of its own. Taken down whatever becomes of the test.
pub(crate) struct Bench {
    pub(crate) config: LabConfig,
    pub(crate) before: Machine,
    _turn: Lock,
}

/// What the machine's own view of itself must not change by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    links: BTreeSet<String>,
    mounts: Vec<String>,
}

pub(crate) fn machine() -> Machine {
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

pub(crate) fn bench(name: &str) -> Option<Bench> {
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
pub(crate) struct Traces {
    namespaces: BTreeSet<PathBuf>,
    cgroups: Vec<PathBuf>,
}

impl Bench {
    pub(crate) fn up(&self) -> Lab {
        Lab::up(&self.config, &mut |_| {}).unwrap()
    }

    pub(crate) fn traces(&self, lab: &Lab) -> Traces {
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

    pub(crate) fn assert_gone(&self, traces: &Traces) {
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

pub(crate) fn output(lab: &Lab, host: &str, argv: &[&str]) -> Output {
    lab.exec(host, argv).unwrap().stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn shell(lab: &Lab, host: &str, script: &str) -> String {
    let output = output(lab, host, &["sh", "-c", script]);
    assert!(output.status.success(), "{script}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn kill_hard(pid: i32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

pub(crate) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}

pub(crate) fn daemon(lab: &Lab, host: &str, name: &str) -> mose_lab::DaemonStatus {
    let status = lab.status();
    let host = status.hosts.iter().find(|h| h.host.name == host).unwrap();
    host.daemons.iter().find(|d| d.name == name).unwrap().clone()
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

pub(crate) fn with_agent(bench: &mut Bench, dir: &Path) {
    let agent = dir.join("mose-agent");
    fs::write(&agent, AGENT).unwrap();
    bench.config.binaries.insert("mose-agent".into(), agent);
    bench.config.binaries.insert("mose-counter".into(), programs().join("mose-counter"));
}
