//! What the end-to-end tests share: the real programs, in a real lab, one test at a time.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "in a test harness a panic is the report"
)]

pub mod stranger;
mod underway;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub use mose_lab::client::ClientKind;
use mose_lab::{CLIENT_NETNS, Lab, LabConfig, LabError, Lock, doctor};
use serde_json::Value;

pub use underway::{Underway, lives_on};

/// The folder of the programs that were built with these tests.
#[must_use]
pub fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own place");
    let folder = test.parent().and_then(Path::parent).expect("tests lie below the programs");
    folder.to_owned()
}

/// Whether this machine can run the lab; where it cannot and need not, that is told loudly.
#[must_use]
pub fn can_run_the_lab() -> bool {
    let missing = doctor();
    if missing.is_empty() {
        return true;
    }
    let message = LabError::Machine(missing);
    let required = std::env::var("MOSE_REQUIRE_LAB").is_ok_and(|value| value == "1");
    assert!(!required, "MOSE_REQUIRE_LAB=1, but {message}");
    eprintln!("SKIPPED {}: {message}", std::thread::current().name().unwrap_or("a test"));
    false
}

/// Waits for this test's turn in the lab, which lasts until what is returned is dropped: two labs at a time would be in each
/// other's way on a small machine. `None`, loudly, where this machine cannot run the lab and need not.
#[must_use]
pub fn turn() -> Option<Lock> {
    let lock = || Lock::take(&std::env::temp_dir().join("mose-tests.lock")).expect("the tests' lock");
    can_run_the_lab().then(lock)
}

/// Whether tests that take minutes are to be run whole (`MOSE_WHOLE=1`), and not in the form that `./check` has time for.
#[must_use]
pub fn whole() -> bool {
    std::env::var("MOSE_WHOLE").is_ok_and(|value| value == "1")
}

/// A lab that is up, and goes down when this is dropped. Only one at a time on a machine.
pub struct Testbed {
    /// The lab.
    pub lab: Lab,
    config: LabConfig,
    _turn: Lock,
}

impl Testbed {
    /// Brings the lab up; `None`, loudly, where this machine cannot run it and need not.
    #[must_use]
    pub fn up() -> Option<Self> {
        Self::with(&[])
    }

    /// Like [`Testbed::up`], with options of `mose lab up`.
    #[must_use]
    pub fn with(options: &[&str]) -> Option<Self> {
        let turn = turn()?;
        let config = LabConfig::default();
        // What a test that was killed may have left.
        Lab::down(&config).expect("the lab goes down");
        let output = mose(&[&["lab", "up"], options].concat());
        assert!(output.status.success(), "lab up: {}", text(&output));
        let lab = Lab::open(&config.state_dir).expect("the lab's state").expect("the lab is up");
        let testbed = Self { lab, config, _turn: turn };
        testbed.await_acquaintance();
        testbed.run("uav", &["mose-agent", "attach", CLIENT_NETNS, "--address", "10.77.0.10/24"]);
        Some(testbed)
    }

    /// Waits until the agents have met.
    fn await_acquaintance(&self) {
        for host in ["edge-a", "edge-b"] {
            eventually("the agents have met", || {
                let log = self.try_run(host, &["cat", "/var/log/mose/mose-agent.log"]);
                let text = String::from_utf8_lossy(&log.stdout);
                text.matches("met its agent").count() >= 3
            });
        }
    }

    /// Runs a command on a host, which must end well; its output.
    pub fn run(&self, host: &str, argv: &[&str]) -> String {
        let output = self.try_run(host, argv);
        assert!(output.status.success(), "{argv:?} on {host}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command on a host.
    #[must_use]
    pub fn try_run(&self, host: &str, argv: &[&str]) -> Output {
        self.lab.exec(host, argv).expect("the host is up").output().expect("the command runs")
    }

    /// A command among the clients.
    #[must_use]
    pub fn among_clients(&self, argv: &[String]) -> Command {
        self.lab.exec_in_netns("uav", CLIENT_NETNS, argv).expect("the host is up")
    }

    /// Starts a workload with further options of `podman run`.
    pub fn start(&self, kind: &str, host: &str, podman: &[&str], arguments: &[&str]) {
        let mut options = mose_lab::ServiceOptions::of(kind);
        options.podman = podman.iter().map(|&word| word.to_owned()).collect();
        options.arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        mose_lab::start_service(&self.lab, kind, host, &options).expect("the service starts");
    }

    /// Starts the client of a workload.
    #[must_use]
    pub fn client(&self, kind: ClientKind, connections: u32) -> mose_lab::client::Client {
        let port = mose_lab::Workload::named(kind.name()).expect("the workload is known").port;
        let target = ([10, 77, 0, 20], port).into();
        let mut spec = mose_lab::client::ClientSpec::new(kind, target, Duration::from_secs(3600));
        spec.connections = connections;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let launch = |argv: &[String]| self.among_clients(argv);
            let mut client =
                mose_lab::client::Client::start(spec.clone(), &launch).expect("the client starts");
            match client.wait_ready(Duration::from_secs(30)) {
                Ok(()) => return client,
                // A service that was just started may not listen yet.
                Err(error) => assert!(Instant::now() < deadline, "the client never connected: {error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Orders a migration; its record and exit code.
    #[must_use]
    pub fn migrate(&self, service: &str, from: &str, to: &str) -> (Value, i32) {
        self.migrate_with(service, from, to, &[])
    }

    /// Orders a migration with further options; its last line of JSON and its exit code.
    #[must_use]
    pub fn migrate_with(&self, service: &str, from: &str, to: &str, options: &[&str]) -> (Value, i32) {
        let output = mose(&[&["--json", "migrate", service, "--from", from, "--to", to], options].concat());
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = stdout.lines().last().unwrap_or("null");
        let value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("no JSON ({error}): {}", text(&output)));
        (value, output.status.code().unwrap_or(-1))
    }

    /// On which hosts the service's container runs.
    #[must_use]
    pub fn running_on(&self, service: &str) -> Vec<&'static str> {
        let filter = format!("name=^{service}$");
        ["edge-a", "edge-b"]
            .into_iter()
            .filter(|host| !self.run(host, &["podman", "ps", "-q", "--filter", &filter]).trim().is_empty())
            .collect()
    }

    /// What a migration may leave behind on an edge host, counted: namespaces, links, OvS ports, flows, containers,
    /// journals, and files of CRIU and transfers.
    #[must_use]
    pub fn traces(&self, host: &str) -> Vec<(&'static str, usize)> {
        let count = |script: &str| -> usize {
            let output = self.run(host, &["sh", "-c", script]);
            output.trim().parse().unwrap_or_else(|error| panic!("`{script}` counted `{output}`: {error}"))
        };
        vec![
            ("network namespaces", count("ls /run/netns 2>/dev/null | wc -l")),
            ("links", count("ls /sys/class/net | wc -l")),
            ("OvS ports", count("ovs-vsctl list-ports br-mose | wc -l")),
            ("flows", count("ovs-ofctl -O OpenFlow14 dump-flows br-mose | grep -c actions || true")),
            ("containers", count("podman ps -aq | wc -l")),
            (
                "container folders",
                count(
                    "ls /var/lib/containers/storage/overlay-containers | grep -c '^[0-9a-f]\\{64\\}$' || true",
                ),
            ),
            ("journals", count("ls /var/lib/mose/journal | wc -l")),
            (
                "agent's files",
                count("find /var/lib/mose -type f ! -name history.ndjson ! -path '*/journal/*' | wc -l"),
            ),
            ("hook markers", count("ls /run/mose/criu | grep -vc '^sock$' || true")),
            ("checkpoint images", count("find /var/lib/containers -name 'pages-*.img' | wc -l")),
            ("container mounts", count("grep -c 'overlay/.*/merged' /proc/mounts || true")),
            (
                "container cgroups",
                count("find /sys/fs/cgroup -type d -name 'libpod-*' ! -path '*/systemd/*' | wc -l"),
            ),
        ]
    }

    /// The process id, on this machine, of a host's agent.
    #[must_use]
    pub fn agent_pid(&self, host: &str) -> i32 {
        self.daemon_pid(host, "mose-agent")
    }

    /// The process id, on this machine, of a host's daemon.
    #[must_use]
    pub fn daemon_pid(&self, host: &str, name: &str) -> i32 {
        let status = self.lab.status();
        let host = status.hosts.iter().find(|h| h.host.name == host).expect("a host of the lab");
        let daemon = host.daemons.iter().find(|daemon| daemon.name == name).expect("a daemon of the host");
        daemon.machine_pid.expect("the daemon runs")
    }
}

impl Testbed {
    /// Prints what a command says, for whoever reads of a failure. A second panic would end the whole test program, and the lab may be
    /// what vanished: so none.
    fn tell(&self, host: &str, argv: &[&str]) {
        match self.lab.exec(host, argv).map(|mut command| command.output()) {
            Ok(Ok(said)) => eprintln!("--- {argv:?} on {host}\n{}", String::from_utf8_lossy(&said.stdout)),
            Ok(Err(error)) => eprintln!("--- {argv:?} on {host}: {error}"),
            Err(error) => eprintln!("--- {argv:?} on {host}: {error}"),
        }
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in ["edge-a", "edge-b", "uav"] {
                self.tell(host, &["tail", "-n", "40", "/var/log/mose/mose-agent.log"]);
            }
            for host in ["edge-a", "edge-b"] {
                self.tell(host, &["podman", "ps", "--all"]);
                self.tell(host, &["podman", "events", "--stream=false", "--since", "1m"]);
            }
        }
        if let Err(error) = Lab::down(&self.config) {
            eprintln!("the lab did not go down: {error}");
        }
    }
}

/// Runs `mose`.
#[must_use]
pub fn mose(words: &[&str]) -> Output {
    Command::new(programs().join("mose")).args(words).output().expect("mose was built: cargo build --release")
}

/// Kills a process of the lab at once.
pub fn kill(pid: i32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill(1) is there");
    assert!(killed.success(), "process {pid} could not be killed");
}

/// Both outputs of a command.
#[must_use]
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Waits until something holds, for at most half a minute.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(Duration::from_secs(30), what, holds);
}

/// Waits until something holds.
pub fn eventually_within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "it never held that {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
