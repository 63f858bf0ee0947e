//! The sockets of the service: families, states and queues that CRIU cannot dump.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use mose_coat::lent::{Lender, option};
use mose_coat::unix::{UnixSocket, unix};
use mose_protocol::check::Severity::{Blocks, LeftBehind, Note};

use super::collected::Findings;
use super::empty_datagram;
use super::task::Task;

/// The kernel's names of the protocols whose sockets CRIU dumps.
const DUMPED: [&str; 14] = [
    "TCP",
    "TCPv6",
    "UDP",
    "UDPv6",
    "UDP-Lite",
    "UDPLITEv6",
    "RAW",
    "RAWv6",
    "PING",
    "PINGv6",
    "UNIX",
    "UNIX-STREAM",
    "NETLINK",
    "PACKET",
];

/// One descriptor of a socket.
struct One<'a> {
    task: &'a Task,
    number: u32,
    inode: u64,
}

impl One<'_> {
    fn blocks(&self, what: &str, reason: &str, remedy: &str, findings: &mut Findings) {
        let number = ("descriptor", self.number.to_string());
        findings.numbered(Blocks, &self.task.told, number, what, reason, remedy);
    }

    fn left(&self, what: &str, reason: &str, remedy: &str, findings: &mut Findings) {
        let number = ("descriptor", self.number.to_string());
        findings.numbered(LeftBehind, &self.task.told, number, what, reason, remedy);
    }

    /// The kernel's name of its protocol.
    fn protocol(&self) -> Option<String> {
        let path = self.task.file(&format!("fd/{}", self.number));
        let name = xattr::get_deref(path, "system.sockprotoname").ok()??;
        Some(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
    }

    /// The socket itself, for a moment.
    fn taken(&self) -> Option<OwnedFd> {
        Lender::of(self.task.pid).ok()?.lends(self.number).ok()
    }
}

/// What the tables of the network namespace tell.
struct Tables {
    unix: HashMap<u64, UnixSocket>,
    netlink: HashMap<u64, Netlink>,
    /// UDP sockets with something in a queue: bytes to be sent, bytes to be read.
    udp: HashMap<u64, (u64, u64)>,
}

struct Netlink {
    port: u64,
    unread: u64,
}

impl Tables {
    fn of(first: &Task) -> Self {
        let namespace = first.file("ns/net");
        let sockets = unix(Path::new(&namespace)).unwrap_or_default();
        let table = |name: &str| fs::read_to_string(first.file(&format!("net/{name}"))).unwrap_or_default();
        let mut udp = HashMap::new();
        for name in ["udp", "udp6", "udplite", "udplite6"] {
            udp.extend(table(name).lines().filter_map(queues));
        }
        Self {
            unix: sockets.into_iter().map(|socket| (u64::from(socket.inode), socket)).collect(),
            netlink: table("netlink").lines().filter_map(netlink).collect(),
            udp,
        }
    }
}

/// A line of `/proc/net/udp` with something in a queue.
fn queues(line: &str) -> Option<(u64, (u64, u64))> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (sent, received) = fields.get(4)?.split_once(':')?;
    let queues = (u64::from_str_radix(sent, 16).ok()?, u64::from_str_radix(received, 16).ok()?);
    let inode = fields.get(9)?.parse().ok()?;
    (queues != (0, 0)).then_some((inode, queues))
}

/// A line of `/proc/net/netlink`.
fn netlink(line: &str) -> Option<(u64, Netlink)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = fields.get(2)?.parse().ok()?;
    let unread = fields.get(4)?.parse().ok()?;
    Some((fields.get(9)?.parse().ok()?, Netlink { port, unread }))
}

/// Looks at the sockets of all processes.
pub(super) fn look(tasks: &[Task], sockets: &[(usize, u32, u64)], findings: &mut Findings) {
    let Some(first) = tasks.first() else { return };
    let tables = Tables::of(first);
    let ours: HashSet<u64> = sockets.iter().map(|(_, _, inode)| *inode).collect();
    // Those that wait at a door of ours have no descriptor yet.
    let waiting: HashSet<u64> = tables
        .unix
        .iter()
        .filter(|(inode, _)| ours.contains(*inode))
        .flat_map(|(_, socket)| socket.waiting.iter().map(|inode| u64::from(*inode)))
        .collect();
    for (index, number, inode) in sockets {
        let Some(task) = tasks.get(*index) else { continue };
        let one = One { task, number: *number, inode: *inode };
        let Some(protocol) = one.protocol() else { continue };
        match protocol.as_str() {
            "UNIX" => {
                unix_socket(&one, &tables, &ours, &waiting, findings);
                unix_datagrams(&one, &tables, findings);
            }
            "UNIX-STREAM" => unix_socket(&one, &tables, &ours, &waiting, findings),
            "NETLINK" => netlink_socket(&one, &tables, findings),
            "UDP" | "UDPv6" | "UDP-Lite" | "UDPLITEv6" => {
                udp_socket(&one, &tables, findings);
                filter(&one, findings);
            }
            "RAW" | "RAWv6" | "PACKET" => filter(&one, findings),
            known if DUMPED.contains(&known) => {}
            other => foreign(&one, other, findings),
        }
    }
    encrypted(first, findings);
    memberships(first, findings);
}

/// Connections that the kernel encrypts: CRIU would make plain ones of them.
fn encrypted(first: &Task, findings: &mut Findings) {
    let text = fs::read_to_string(first.file("net/tls_stat")).unwrap_or_default();
    let sessions = sessions(&text);
    if sessions > 0 {
        findings.whole(
            Blocks,
            "connections encrypted by the kernel (TLS)",
            &format!("{sessions} directions of connections are, and CRIU knows nothing of their keys"),
            "have the program encrypt by itself (OpenSSL: without KTLS; nginx: ssl_conf_command Options -KTLS), and restart it",
        );
    }
}

/// How many directions of connections are encrypted at present, by `/proc/net/tls_stat`.
fn sessions(text: &str) -> u64 {
    let current = text.lines().filter_map(|line| line.strip_prefix("TlsCurr"));
    current.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// A socket of a protocol that CRIU does not know.
fn foreign(one: &One<'_>, protocol: &str, findings: &mut Findings) {
    let remedy = match protocol {
        "MPTCP" | "MPTCPv6" => {
            "have the program use plain TCP (Go: GODEBUG=multipathtcp=0; nginx: listen without multipath), or set \
             net.mptcp.enabled=0 for the container, and restart it"
        }
        _ => "close it; a program that needs it cannot be moved",
    };
    one.blocks(
        &format!("{protocol} socket"),
        &format!("CRIU cannot dump sockets of {protocol}"),
        remedy,
        findings,
    );
}

fn unix_socket(
    one: &One<'_>,
    tables: &Tables,
    ours: &HashSet<u64>,
    waiting: &HashSet<u64>,
    findings: &mut Findings,
) {
    const WHAT: &str = "unix socket";
    let Some(socket) = tables.unix.get(&one.inode) else { return };
    let peer = u64::from(socket.peer);
    if peer != 0 && !ours.contains(&peer) && !waiting.contains(&peer) {
        let remedy = "have the service close the connection, or move what it talks to into the container";
        one.blocks(WHAT, "its other end is outside of the container", remedy, findings);
    }
    let accept = "have the service accept its connections, then migrate";
    for inode in &socket.waiting {
        if *inode == 0 {
            one.blocks(WHAT, "a connection was closed before it was accepted", accept, findings);
        } else if tables.unix.get(&u64::from(*inode)).is_some_and(|waits| waits.unsent > 0) {
            one.blocks(WHAT, "a connection that is not accepted yet has sent something", accept, findings);
        } else if !ours.contains(&u64::from(*inode)) {
            one.blocks(
                WHAT,
                "a connection from outside of the container waits to be accepted",
                accept,
                findings,
            );
        }
    }
    if !socket.listens
        && socket.unread > 0
        && let Some(taken) = one.taken()
        && option(&taken, libc::SOL_SOCKET, libc::SO_PASSCRED).is_ok_and(|passes| passes != 0)
    {
        let remedy = "have the service read what waits, then migrate";
        one.blocks(WHAT, "credentials wait in its queue, which CRIU cannot dump", remedy, findings);
    }
}

/// CRIU takes a datagram without content for the end of the queue.
fn unix_datagrams(one: &One<'_>, tables: &Tables, findings: &mut Findings) {
    let may_be_first = tables.unix.get(&one.inode).is_none_or(|socket| !socket.listens && socket.unread == 0);
    if may_be_first
        && let Some(taken) = one.taken()
        && empty_datagram::is_first(&taken)
    {
        one.left(
            "unix socket",
            "a datagram without content is the first in its queue: CRIU drops it, and what waits behind it",
            "have the service read what waits, then migrate",
            findings,
        );
    }
}

fn netlink_socket(one: &One<'_>, tables: &Tables, findings: &mut Findings) {
    const WHAT: &str = "netlink socket";
    let groups = one.taken().map(|taken| groups(&taken)).unwrap_or_default();
    // One that has no address yet stands in no table.
    let socket = tables.netlink.get(&one.inode);
    if socket.is_some_and(|socket| socket.unread > 0) {
        let remedy = "have the service read what waits, then migrate";
        one.blocks(
            WHAT,
            "an answer of the kernel waits to be read, which CRIU cannot dump",
            remedy,
            findings,
        );
    }
    if groups.iter().any(|word| *word != 0) && socket.is_none_or(|socket| socket.port == 0) {
        let remedy = "the program must bind the socket before it joins groups";
        one.blocks(WHAT, "it is in groups without an address, which CRIU cannot dump", remedy, findings);
    }
    if groups.iter().skip(1).any(|word| *word != 0) {
        let remedy = "have the program leave them; one that needs them cannot be moved";
        one.blocks(WHAT, "it is in groups beyond the first 32, which CRIU cannot dump", remedy, findings);
    }
}

/// The groups that a netlink socket is in, a bit each (netlink(7): `NETLINK_LIST_MEMBERSHIPS`).
fn groups(socket: &OwnedFd) -> [u32; 32] {
    const NETLINK_LIST_MEMBERSHIPS: libc::c_int = 9;
    let mut words = [0_u32; 32];
    let mut length = libc::socklen_t::try_from(size_of_val(&words)).unwrap_or(0);
    // SAFETY: the words and their length live until the call returns, and they are as long as said.
    let said = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            NETLINK_LIST_MEMBERSHIPS,
            words.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if said == 0 { words } else { [0; 32] }
}

fn udp_socket(one: &One<'_>, tables: &Tables, findings: &mut Findings) {
    const UDP_CORK: libc::c_int = 1;
    let Some((to_send, to_read)) = tables.udp.get(&one.inode) else { return };
    if *to_send > 0
        && let Some(taken) = one.taken()
        && option(&taken, libc::IPPROTO_UDP, UDP_CORK).is_ok_and(|corked| corked != 0)
    {
        let remedy = "have the program end what it began to send (UDP_CORK, MSG_MORE), then migrate";
        one.blocks(
            "corked UDP socket",
            "half a datagram waits in it, which CRIU cannot dump",
            remedy,
            findings,
        );
    }
    if *to_read > 0 {
        let reason = "datagrams that wait to be read at the freeze are dropped";
        one.left("UDP socket", reason, "clients of UDP repeat what is not answered", findings);
    }
}

/// A program that filters what a socket receives; the older, simpler kind moves.
fn filter(one: &One<'_>, findings: &mut Findings) {
    const SO_GET_FILTER: libc::c_int = libc::SO_ATTACH_FILTER;
    let Some(taken) = one.taken() else { return };
    let mut length: libc::socklen_t = 0;
    // SAFETY: with a length of zero the kernel only tells how long the filter is.
    let said = unsafe {
        libc::getsockopt(
            taken.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_GET_FILTER,
            std::ptr::null_mut(),
            &raw mut length,
        )
    };
    if said < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EACCES) {
        let remedy = "have the program detach it; a classic filter (SO_ATTACH_FILTER) moves";
        one.blocks("socket filter", "it is an eBPF program, which CRIU cannot dump", remedy, findings);
    }
}

/// Groups of multicast that someone in the namespace has joined.
fn memberships(first: &Task, findings: &mut Findings) {
    let text = fs::read_to_string(first.file("net/igmp")).unwrap_or_default();
    let joined: Vec<String> = joined(&text).take(4).collect();
    if !joined.is_empty() {
        findings.whole(
            LeftBehind,
            &format!("multicast groups {}", joined.join(", ")),
            "CRIU does not join them again, and the overlay carries no multicast",
            "have the service join them again after the migration, if it needs them",
        );
    }
    let waiting =
        mose_coat::sockets::tcp(Path::new(&first.file("ns/net"))).map_or(0, |sockets| sockets.waiting);
    if waiting > 0 {
        findings.whole(
            Note,
            "connections that wait",
            &format!("{waiting} are not accepted yet, and CRIU cannot dump those"),
            "a migration gives the service ten seconds to accept them",
        );
    }
}

/// Groups in `/proc/net/igmp`, but for that of all hosts.
fn joined(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('\t')).filter_map(|line| {
        let address = u32::from_str_radix(line.split_whitespace().next()?, 16).ok()?;
        let address = std::net::Ipv4Addr::from(address.to_ne_bytes());
        (address != std::net::Ipv4Addr::new(224, 0, 0, 1)).then(|| address.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernels_tables_are_read() {
        let udp = "  123: 0100007F:1B61 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 4711 2 0";
        assert_eq!(queues(udp), Some((4711, (0, 0x300))));
        assert_eq!(queues(&udp.replace("00000300", "00000000")), None, "nothing waits");
        let line = "0000000000000000 0   4242       00000001 12       0        0     2        0        815";
        let (inode, found) = netlink(line).unwrap();
        assert_eq!((inode, found.port, found.unread), (815, 4242, 12));
        assert!(netlink("sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode").is_none());
        assert_eq!(sessions("TlsCurrTxSw \t2\nTlsCurrRxSw \t1\nTlsTxSw \t90\nTlsDecryptError \t0\n"), 3);
        let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     2      V3\n\
                    \t\t\t\tEF010203     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n";
        let group = u32::from_str_radix("EF010203", 16).unwrap();
        let expected = std::net::Ipv4Addr::from(group.to_ne_bytes()).to_string();
        assert_eq!(joined(igmp).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_socket_of_this_process_is_named_by_its_protocol() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let task = Task::of(std::process::id()).unwrap();
        let number = u32::try_from(listener.as_raw_fd()).unwrap();
        assert_eq!(One { task: &task, number, inode: 0 }.protocol().as_deref(), Some("TCP"));
    }
}
