//! What the lab is for a table of faults: the service and where it runs, its clients, and what a host usually has.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use color_eyre::eyre::eyre;
use mose_lab::client::{Client, ClientKind, ClientSpec};
use mose_lab::{CLIENT_NETNS, Lab, ServiceOptions, Workload, start_service, stop_service};
use mose_protocol::record::Outcome;
use serde_json::Value;

use super::bound::STATE;
use super::cell::By;
use super::host::{sh, wait_until};
use super::strike::Hosts;
use super::traces::{Inventory, copies};
use super::underway::Course;
use crate::course::{EDGES, MOBILE, Orders, attach_clients, started};

/// The service: its client sees what is lost, repeated and damaged.
pub(crate) const SERVICE: &str = "counter";

/// The connections of a client: two copies would give the same counts on two of them.
const CONNECTIONS: u32 = 2;

/// How long is waited between two looks at what runs and what is left.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// How long the agents may take to have met, and what was begun by one cell to be over for the next.
const READY: Duration = Duration::from_secs(30);

/// The longest that a client's TCP waits before it sends again, where the kernel can be told (Linux 6.15): its silence is then the
/// service's, and not up to twice as long. It gives up after so many times, which are as many seconds then.
const RESEND: &str =
    "echo 255 > /proc/sys/net/ipv4/tcp_retries2 && echo 1000 > /proc/sys/net/ipv4/tcp_rto_max_ms";

/// Undoes whatever a run that was killed left of its faults.
const CLEAN: &str = r#"
for program in /usr/local/bin/mose-criu-hook /usr/sbin/criu /usr/sbin/runc; do
    [ ! -e $program.real ] || mv -f $program.real $program
done
rm -rf /run/mose-fault /run/mose-host/hold/*
nft delete table inet mose-fault 2>/dev/null
ip link set under0 up
while grep -q '^mose-fault ' /proc/mounts; do
    umount -l "$(sed -n 's/^mose-fault \([^ ]*\) .*/\1/p' /proc/mounts | head -n 1)" || break
done
for p in /proc/[0-9]*; do
    case $(cat $p/comm 2>/dev/null) in criu*|runc|podman|mose-agent) kill -CONT ${p#/proc/} 2>/dev/null ;; esac
done
true
"#;

/// What a host has with the service, and without.
#[derive(Debug, Clone, Default)]
struct Usual {
    with: [Inventory; 2],
    without: [Inventory; 2],
}

/// The lab, ready for cells.
pub(crate) struct Bench<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) orders: &'a Orders,
    usual: Usual,
}

impl<'a> Bench<'a> {
    /// Starts the service, moves it there and back, and sees what a host has with it and without.
    pub(crate) fn ready(lab: &'a Lab, orders: &'a Orders) -> color_eyre::Result<Self> {
        attach_clients(lab)?;
        // Where the kernel cannot be told, silences are longer, and bounds tighter for it.
        let told = lab.exec_in_netns(MOBILE, CLIENT_NETNS, &["sh", "-c", RESEND])?.status();
        if !told.is_ok_and(|status| status.success()) {
            tracing::warn!(
                "this kernel's TCP backs off without a limit: a client's silence is longer than the service's"
            );
        }
        for host in EDGES {
            sh(lab, host, CLEAN)?;
            stop_service(lab, host, SERVICE)?;
        }
        let state = format!("{}MiB", STATE >> 20);
        let options = ServiceOptions {
            arguments: ["--state-size", &state, "--dirty-rate", "200"].map(str::to_owned).to_vec(),
            // For the faults that stop a process of the container's.
            beside: Some("exec tail -f /dev/null".into()),
            ..ServiceOptions::of(SERVICE)
        };
        start_service(lab, SERVICE, EDGES[0], &options)?;
        let mut bench = Self { lab, orders, usual: Usual::default() };
        for (from, to) in [(0, 1), (1, 0)] {
            bench.plain(from, to)?;
            bench.usual.with[to] = Inventory::of(lab, EDGES[to])?;
            bench.usual.without[from] = Inventory::of(lab, EDGES[from])?;
        }
        Ok(bench)
    }

    /// A migration in which nothing is wrong. Just after the lab came up the agents may not have met yet.
    fn plain(&self, from: usize, to: usize) -> color_eyre::Result<()> {
        let hosts = Hosts { source: EDGES[from], destination: EDGES[to] };
        let mut last = String::new();
        let moved = wait_until(READY, || {
            let ended = self.course(hosts).carry_out(By::COLD, None);
            let done = ended.as_ref().is_ok_and(|ended| ended.outcomes.last() == Some(&Outcome::Done));
            if !done {
                last = match ended {
                    Ok(ended) => format!("{:?} {:?}", ended.outcomes, ended.refused),
                    Err(error) => error.to_string(),
                };
                std::thread::sleep(Duration::from_millis(500));
            }
            done
        });
        if moved { Ok(()) } else { Err(eyre!("the service cannot be moved without any fault: {last}")) }
    }

    pub(crate) const fn course(&self, hosts: Hosts) -> Course<'a> {
        Course { lab: self.lab, orders: self.orders, service: SERVICE, hosts }
    }

    /// Where the service runs now, and the other edge host; an error where it does not run once.
    pub(crate) fn hosts(&self) -> color_eyre::Result<Hosts> {
        let copies = self.copies()?;
        match copies.map(|(_, count)| count) {
            [1, 0] => Ok(Hosts { source: EDGES[0], destination: EDGES[1] }),
            [0, 1] => Ok(Hosts { source: EDGES[1], destination: EDGES[0] }),
            _ => Err(eyre!("the service does not run exactly once: {copies:?}")),
        }
    }

    /// How many copies run on each edge host.
    pub(crate) fn copies(&self) -> color_eyre::Result<[(&'static str, u32); 2]> {
        Ok([(EDGES[0], copies(self.lab, EDGES[0])?), (EDGES[1], copies(self.lab, EDGES[1])?)])
    }

    /// What is left over on the edge hosts, given where the service is.
    pub(crate) fn leaked(&self, at: &str) -> color_eyre::Result<Vec<String>> {
        let mut all = Vec::new();
        for (number, host) in EDGES.into_iter().enumerate() {
            let usual = if host == at { &self.usual.with[number] } else { &self.usual.without[number] };
            all.extend(Inventory::of(self.lab, host)?.beyond(usual, host));
        }
        Ok(all)
    }

    /// Looks until one copy runs and nothing is left over, for `patience` at most, and returns the last look. A second copy ends it at
    /// once. That no copy runs may be so for a moment: the agent holds a process for some milliseconds to have the kernel note which pages
    /// it writes. `place` is where the service should be, if no copy runs.
    pub(crate) fn at_rest(&self, place: &'static str, patience: Duration) -> color_eyre::Result<AtRest> {
        let mut last = self.look(place);
        wait_until(patience, || {
            let over =
                last.as_ref().is_ok_and(|at| at.running() > 1 || at.running() == 1 && at.leaked.is_empty());
            if !over {
                // A host tells no event when the last trace has gone; each look starts shells and Podman on both.
                std::thread::sleep(BETWEEN_LOOKS);
                last = self.look(place);
            }
            over
        });
        last
    }

    fn look(&self, place: &'static str) -> color_eyre::Result<AtRest> {
        let copies = self.copies()?;
        // By where it runs, so that a copy at the wrong place is told once.
        let at = copies.iter().find(|(_, count)| *count > 0).map_or(place, |(host, _)| host);
        Ok(AtRest { copies, leaked: self.leaked(at)? })
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self) -> color_eyre::Result<Client> {
        let target = (ServiceOptions::of(SERVICE).address, Workload::named(SERVICE)?.port).into();
        let mut spec = ClientSpec::new(ClientKind::Counter, target, Duration::from_secs(48 * 3600));
        spec.connections = CONNECTIONS;
        started(self.lab, &spec)
    }

    /// Waits until a client is answered as it usually is; whether it came to that.
    pub(crate) fn answered(&self, client: &mut Client, patience: Duration) -> bool {
        let usual = f64::from(client.spec().rate * client.spec().connections);
        wait_until(patience, || {
            // A client that has ended waits for nothing any more.
            !client.is_running() || self.replies().is_some_and(|rate| rate > 0.6 * usual)
        })
    }

    /// The replies that the service gives in a second.
    fn replies(&self) -> Option<f64> {
        let target =
            format!("{}:{}", ServiceOptions::of(SERVICE).address, Workload::named(SERVICE).ok()?.port);
        let argv = ["timeout", "3", "mose-counter", "stat", "--connect", &target, "--over", "300ms"];
        let output = self.lab.exec_in_netns(MOBILE, CLIENT_NETNS, &argv).ok()?.output().ok()?;
        let stat: Value = serde_json::from_slice(&output.stdout).ok()?;
        stat["replies_per_second"].as_f64()
    }

    /// Whether every page of the service's state is as it should be.
    pub(crate) fn sound(&self) -> bool {
        let target = format!("{}:7070", ServiceOptions::of(SERVICE).address);
        let argv = ["timeout", "10", "mose-counter", "verify", "--connect", &target];
        let verified =
            self.lab.exec_in_netns(MOBILE, CLIENT_NETNS, &argv).map(|mut command| command.output());
        verified.is_ok_and(|output| output.is_ok_and(|output| output.status.success()))
    }

    /// Waits until all daemons of the hosts are ready.
    pub(crate) fn daemons_ready(&self) -> bool {
        wait_until(READY, || self.lab.status().ready)
    }

    /// How long the agents' logs are.
    pub(crate) fn logs(&self) -> [u64; 2] {
        EDGES.map(|host| {
            let size = sh(self.lab, host, "stat -c %s /var/log/mose/mose-agent.log");
            size.ok().and_then(|size| size.trim().parse().ok()).unwrap_or(0)
        })
    }

    /// What the agents have logged since.
    pub(crate) fn logged_since(&self, before: [u64; 2]) -> String {
        let mut text = String::new();
        for (host, from) in EDGES.into_iter().zip(before) {
            let tail = format!("tail -c +{} /var/log/mose/mose-agent.log | tail -n 300", from + 1);
            let said = sh(self.lab, host, &tail).unwrap_or_else(|error| error.to_string());
            let processes = "ps -eo pid,ppid,stat,etimes,args --cols 150 | grep -E 'criu|runc|conmon|mose-counter|podman' | grep -v grep";
            let processes = sh(self.lab, host, processes).unwrap_or_default();
            text += &format!("== {host}\n{said}\n-- processes\n{processes}\n");
        }
        text
    }
}

/// What was found when a migration was over.
pub(crate) struct AtRest {
    /// How many copies of the service run on each host.
    pub(crate) copies: [(&'static str, u32); 2],
    /// What is left over.
    pub(crate) leaked: Vec<String>,
}

impl AtRest {
    /// How many copies run, on all hosts.
    pub(crate) fn running(&self) -> u32 {
        self.copies.iter().map(|(_, count)| count).sum()
    }
}

/// Now, in milliseconds since 1970: hosts and client are on this machine's clock.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
