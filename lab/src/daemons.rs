//! The daemons of a host, as data: what runs, after what, how one knows it is ready.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{AGENT_MAVLINK, AGENT_PORT, CELLS, Role};
use crate::host_config::HostConfig;

/// How one knows that a daemon is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ready {
    /// It ran to its end with 0. It is not started again.
    Done,
    /// A unix socket accepts.
    Unix(PathBuf),
    /// A TCP socket accepts.
    Tcp(SocketAddr),
    /// An HTTP GET of `/_ping` on a unix socket is answered with 200.
    Ping(PathBuf),
}

impl Ready {
    /// Whether it is ready now. Never waits long.
    pub(crate) fn holds(&self) -> bool {
        match self {
            Ready::Done => false,
            Ready::Unix(path) => UnixStream::connect(path).is_ok(),
            Ready::Tcp(address) => TcpStream::connect_timeout(address, Duration::from_millis(100)).is_ok(),
            Ready::Ping(path) => ping(path).unwrap_or(false),
        }
    }
}

fn ping(path: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: d\r\n\r\n")?;
    let mut head = [0; 15];
    stream.read_exact(&mut head)?;
    Ok(head.windows(4).any(|w| w == b" 200"))
}

/// One daemon.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Its name in status, logs and `hold`.
    pub(crate) name: &'static str,
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// Those that must be ready before it starts.
    pub(crate) after: &'static [&'static str],
    /// See [`Ready`].
    pub(crate) ready: Ready,
    /// How long it may take to become ready before `up` gives up.
    pub(crate) deadline: Duration,
    /// The pause before it is started again; doubled, up to `restart_max`, while it keeps dying.
    pub(crate) restart: Duration,
    /// See `restart`.
    pub(crate) restart_max: Duration,
}

impl Spec {
    fn new(name: &'static str, argv: &[&str], after: &'static [&'static str], ready: Ready) -> Spec {
        Spec {
            name,
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            after,
            ready,
            deadline: Duration::from_secs(20),
            restart: Duration::from_millis(200),
            restart_max: Duration::from_secs(5),
        }
    }
}

const OVSDB_SOCKET: &str = "/run/openvswitch/db.sock";
const OVSDB_FILE: &str = "/etc/openvswitch/conf.db";
/// Where a host's agent takes orders, inside the host.
pub const AGENT_SOCKET: &str = "/run/mose/agent.sock";
/// Podman's REST socket inside a host.
pub const PODMAN_SOCKET: &str = "/run/podman/podman.sock";

/// The daemons of a host.
pub(crate) fn specs(config: &HostConfig) -> Vec<Spec> {
    let address = config.address.to_string();
    let open_vswitch = |line: &str| vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()];
    let mut specs = vec![
        Spec {
            argv: open_vswitch(&format!(
                "mkdir -p /run/openvswitch /etc/openvswitch; rm -f /run/openvswitch/*; \
                 [ -e {OVSDB_FILE} ] || ovsdb-tool create {OVSDB_FILE} /usr/share/openvswitch/vswitch.ovsschema || exit 1; \
                 exec ovsdb-server {OVSDB_FILE} --remote=punix:{OVSDB_SOCKET} \
                 --remote=db:Open_vSwitch,Open_vSwitch,manager_options --pidfile=/run/openvswitch/ovsdb-server.pid \
                 --unixctl=/run/openvswitch/ovsdb-server.ctl -vsyslog:off -vconsole:info"
            )),
            ..Spec::new("ovsdb-server", &[], &[], Ready::Unix(OVSDB_SOCKET.into()))
        },
        Spec {
            argv: open_vswitch(&format!(
                "ovs-vsctl --no-wait -- init -- set Open_vSwitch . external-ids:system-id={0} \
                 external-ids:hostname={0} external-ids:rundir=/run/openvswitch",
                config.name
            )),
            ..Spec::new("ovs-init", &[], &["ovsdb-server"], Ready::Done)
        },
        Spec::new(
            "ovs-vswitchd",
            &[
                "ovs-vswitchd",
                &format!("unix:{OVSDB_SOCKET}"),
                "--pidfile=/run/openvswitch/ovs-vswitchd.pid",
                "--unixctl=/run/openvswitch/ovs-vswitchd.ctl",
                "-vsyslog:off",
                "-vconsole:info",
            ],
            &["ovs-init"],
            Ready::Unix("/run/openvswitch/ovs-vswitchd.ctl".into()),
        ),
        Spec::new(
            "podman",
            &["podman", "system", "service", "--time=0", &format!("unix://{PODMAN_SOCKET}")],
            &[],
            Ready::Ping(PODMAN_SOCKET.into()),
        ),
        Spec::new(
            "sshd",
            &["/usr/sbin/sshd", "-D", "-e", "-o", &format!("ListenAddress={address}")],
            &[],
            Ready::Tcp(SocketAddr::new(IpAddr::V4(config.address), 22)),
        ),
    ];
    if config.binaries.contains_key("mose-agent") {
        specs.push(Spec {
            argv: agent_command(config),
            // Fault tests kill it and expect it back within a second, every time.
            restart_max: Duration::from_millis(700),
            ..Spec::new(
                "mose-agent",
                &[],
                &["ovs-vswitchd", "podman"],
                // It takes orders last of all.
                Ready::Unix(AGENT_SOCKET.into()),
            )
        });
    }
    specs
}

/// The agent's command line on a host.
pub(crate) fn agent_command(config: &HostConfig) -> Vec<String> {
    let mut argv =
        ["/usr/local/bin/mose-agent", "run", "--name", &config.name, "--role", config.role.as_str()]
            .map(str::to_owned)
            .to_vec();
    argv.extend(["--underlay".to_owned(), config.address.to_string()]);
    argv.extend(["--listen".to_owned(), format!("tcp/{}:{AGENT_PORT}", config.address)]);
    for address in dialled(config) {
        argv.extend(["--connect".to_owned(), format!("tcp/{address}:{AGENT_PORT}")]);
    }
    argv.extend(["--state", "/var/lib/mose"].map(str::to_owned));
    argv.extend(place(config));
    argv
}

/// How the agent knows where its host is: an edge host stands at its cell, and a vehicle tells.
fn place(config: &HostConfig) -> Vec<String> {
    match CELLS.iter().find(|cell| cell.host == config.name) {
        Some(cell) => {
            vec![format!("--position={},{}", cell.east_m, cell.north_m), format!("--cell={}", cell.cell)]
        }
        None if config.role == Role::Mobile => vec![format!("--mavlink={AGENT_MAVLINK}")],
        None => Vec::new(),
    }
}

/// The hosts that a host's agent connects to: on the ring of all addresses in order, the half that follows its own. So each pair has one
/// connection, and with more than two hosts every agent has somebody to connect to.
fn dialled(config: &HostConfig) -> Vec<Ipv4Addr> {
    let mut ring: Vec<_> = config.peers.iter().map(|(_, address)| *address).chain([config.address]).collect();
    ring.sort();
    let own = ring.iter().position(|address| *address == config.address).unwrap_or_default();
    // Of two opposite each other, the first connects.
    let opposite = ring.len().is_multiple_of(2) && own < ring.len() / 2;
    let following = (ring.len() - 1) / 2 + usize::from(opposite);
    ring.rotate_left(own);
    ring[1..=following].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_says_where_it_is_and_connects_to_others() {
        let argv = agent_command(&HostConfig::example()).join(" ");
        assert_eq!(
            argv,
            "/usr/local/bin/mose-agent run --name edge-a --role edge --underlay 10.99.0.11 --listen tcp/10.99.0.11:7447 \
             --connect tcp/10.99.0.12:7447 --state /var/lib/mose --position=-70,0 --cell=1"
        );
    }

    #[test]
    fn of_each_two_hosts_one_connects_to_the_other() {
        for count in 2..=7_u8 {
            let address = |host| Ipv4Addr::new(10, 99, 0, 10 + host);
            let host = |own| HostConfig {
                address: address(own),
                peers: (0..count)
                    .filter(|peer| *peer != own)
                    .map(|peer| (String::new(), address(peer)))
                    .collect(),
                ..HostConfig::example()
            };
            let dialled: Vec<_> = (0..count).map(|own| dialled(&host(own))).collect();
            for one in 0..count {
                for other in 0..one {
                    let ways = [(one, other), (other, one)];
                    let connected =
                        ways.iter().filter(|(from, to)| dialled[*from as usize].contains(&address(*to)));
                    assert_eq!(connected.count(), 1, "{one} and {other} of {count}");
                }
            }
            // An agent that connects to nobody looks for others by multicast.
            assert!(count == 2 || dialled.iter().all(|hosts| !hosts.is_empty()));
        }
    }

    #[test]
    fn without_an_agent_program_no_agent_is_started() {
        let config = HostConfig::example();
        assert!(specs(&config).iter().all(|s| s.name != "mose-agent"));
    }

    #[test]
    fn daemons_wait_for_daemons_there_are() {
        let specs = specs(&HostConfig::example());
        for after in specs.iter().flat_map(|s| s.after) {
            assert!(specs.iter().any(|s| s.name == *after), "{after}");
        }
    }
}
