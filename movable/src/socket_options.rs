//! Options of sockets that CRIU does not carry. What a program has set is what a new socket of the same kind has otherwise, made in
//! the service's network namespace, whose settings (sysctl) are the defaults.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use libc::c_int;
use mose_coat::lent::{Lender, option};
use mose_protocol::check::Severity::LeftBehind;

use super::collected::Findings;
use super::task::Task;

/// Where an option is what the program made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// On every socket.
    Everywhere,
    /// On sockets of datagrams: on a connection it cannot be set, or says nothing, and the kernel takes it from the other end.
    Datagrams,
    /// Before anything was sent or received: the kernel moves it on a connection.
    BeforeConnecting,
}

/// An option of a socket.
struct Setting {
    name: &'static str,
    level: c_int,
    number: c_int,
    set: Set,
}

const fn of(level: c_int, number: c_int, name: &'static str) -> Setting {
    Setting { name, level, number, set: Set::Everywhere }
}

impl Setting {
    const fn only(self, set: Set) -> Self {
        Self { set, ..self }
    }
}

/// Those that CRIU 4.2 does not carry, and that are numbers.
const SETTINGS: [Setting; 19] = [
    of(libc::IPPROTO_TCP, libc::TCP_MAXSEG, "TCP_MAXSEG").only(Set::BeforeConnecting),
    of(libc::IPPROTO_TCP, libc::TCP_SYNCNT, "TCP_SYNCNT"),
    of(libc::IPPROTO_TCP, libc::TCP_LINGER2, "TCP_LINGER2"),
    of(libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT"),
    of(libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP").only(Set::BeforeConnecting),
    of(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"),
    of(libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT"),
    of(libc::IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, "TCP_THIN_LINEAR_TIMEOUTS"),
    of(libc::IPPROTO_IP, libc::IP_RETOPTS, "IP_RETOPTS"),
    of(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, "IP_MTU_DISCOVER"),
    of(libc::IPPROTO_IP, libc::IP_RECVTTL, "IP_RECVTTL"),
    of(libc::IPPROTO_IP, libc::IP_RECVTOS, "IP_RECVTOS"),
    of(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, "IP_BIND_ADDRESS_NO_PORT"),
    of(libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, "IP_MULTICAST_TTL").only(Set::Datagrams),
    of(libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP").only(Set::Datagrams),
    of(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, "SO_TIMESTAMPNS"),
    of(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, "SO_RXQ_OVFL"),
    of(libc::SOL_SOCKET, libc::SO_BUSY_POLL, "SO_BUSY_POLL"),
    of(libc::IPPROTO_UDP, libc::UDP_SEGMENT, "UDP_SEGMENT"),
];

/// What decides which options a socket has, and their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    domain: c_int,
    kind: c_int,
    protocol: c_int,
}

impl Kind {
    /// The kind of a socket; nothing where it is none that CRIU moves.
    fn of(socket: &OwnedFd) -> Option<Self> {
        let number = |name| option(socket, libc::SOL_SOCKET, name).ok();
        let (domain, kind) = (number(libc::SO_DOMAIN)?, number(libc::SO_TYPE)?);
        let protocol = number(libc::SO_PROTOCOL)?;
        let moves = match (domain, kind) {
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => protocol == libc::IPPROTO_TCP,
            (libc::AF_INET | libc::AF_INET6, kind) => matches!(kind, libc::SOCK_DGRAM | libc::SOCK_RAW),
            (domain, _) => matches!(domain, libc::AF_UNIX | libc::AF_NETLINK | libc::AF_PACKET),
        };
        moves.then_some(Self { domain, kind, protocol })
    }
}

/// The settings that a kind of sockets has, and what a new one has of them.
type Defaults = Vec<(&'static Setting, c_int)>;

fn defaults(kind: Kind, socket: &OwnedFd) -> Defaults {
    let stream = kind.kind == libc::SOCK_STREAM;
    let value =
        |setting: &'static Setting| Some((setting, option(socket, setting.level, setting.number).ok()?));
    SETTINGS.iter().filter(|setting| !stream || setting.set != Set::Datagrams).filter_map(value).collect()
}

/// The size of segments that the kernel itself keeps to on a TCP socket that has exchanged nothing: 0 where it listens. None on any
/// other socket.
fn before_connecting(socket: &OwnedFd) -> Option<u32> {
    const CLOSE: u8 = 7;
    const LISTEN: u8 = 10;
    /// Where `struct tcp_info` has the size of segments, and where it counts those that were sent and those that came.
    const SIZE: Range<usize> = 16..20;
    const COUNTS: Range<usize> = 136..144;
    let mut info = [0_u8; 256];
    let mut length = libc::socklen_t::try_from(info.len()).unwrap_or(0);
    // SAFETY: the bytes and their number live until the call returns, and there are as many as said.
    let said = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // An older kernel that does not count cannot tell a new socket from one whose connection has ended.
    let counts = usize::try_from(length).is_ok_and(|length| length >= COUNTS.end);
    let nothing = counts && info.get(COUNTS)?.iter().all(|byte| *byte == 0);
    let before = said == 0 && (info[0] == LISTEN || info[0] == CLOSE && nothing);
    if before { Some(u32::from_ne_bytes(info.get(SIZE)?.try_into().ok()?)) } else { None }
}

/// The names of the settings in which a socket differs from a new one.
fn lost(socket: &OwnedFd, defaults: &Defaults) -> Vec<&'static str> {
    let mut told = Vec::new();
    // Asked once: all connections differ in what the kernel moves.
    let mut before = None;
    for (setting, default) in defaults {
        let moved = setting.set == Set::BeforeConnecting;
        let size = if moved { *before.get_or_insert_with(|| before_connecting(socket)) } else { None };
        if moved && size.is_none() {
            continue;
        }
        let Ok(value) = option(socket, setting.level, setting.number) else { continue };
        // One that could not connect keeps the size of segments that it was about to use.
        let kernels = setting.number == libc::TCP_MAXSEG && size == u32::try_from(value).ok();
        if value != *default && !(moved && kernels) {
            told.push(setting.name);
        }
    }
    told
}

/// Looks at the sockets of all processes: whose (by its place among them), descriptor, inode.
pub(super) fn look(tasks: &[Task], sockets: &[(usize, u32, u64)], findings: &mut Findings) {
    let Some(first) = tasks.first() else { return };
    let namespace = first.file("ns/net");
    let new = |kind: Kind| {
        mose_coat::fresh::socket(Path::new(&namespace), kind.domain, kind.kind, kind.protocol).ok()
    };
    compare(tasks, sockets, new, findings);
}

/// Compares each socket with a new one of its kind; a socket that several processes share is compared once. Skips kinds of which no
/// new socket can be made.
fn compare(
    tasks: &[Task],
    sockets: &[(usize, u32, u64)],
    new: impl Fn(Kind) -> Option<OwnedFd>,
    findings: &mut Findings,
) {
    let mut known: HashMap<Kind, Defaults> = HashMap::new();
    let mut lender: Option<(usize, Option<Lender>)> = None;
    let mut compared = HashSet::new();
    for (index, number, inode) in sockets {
        if compared.contains(inode) {
            continue;
        }
        let Some(task) = tasks.get(*index) else { continue };
        if lender.as_ref().is_none_or(|(of, _)| of != index) {
            lender = Some((*index, Lender::of(task.pid).ok()));
        }
        let lends = lender.as_ref().and_then(|(_, lender)| lender.as_ref());
        let Some(socket) = lends.and_then(|lender| lender.lends(*number).ok()) else { continue };
        compared.insert(*inode);
        let Some(kind) = Kind::of(&socket) else { continue };
        let defaults = known
            .entry(kind)
            .or_insert_with(|| new(kind).map(|new| defaults(kind, &new)).unwrap_or_default());
        for name in lost(&socket, defaults) {
            findings.numbered(
                LeftBehind,
                &task.told,
                ("descriptor", number.to_string()),
                name,
                "CRIU does not carry this option of a socket: after the move it is as the system sets it",
                "have the program set it again after the move, or open its sockets anew",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixDatagram;

    fn set(socket: &impl AsRawFd, level: c_int, name: c_int, value: c_int) {
        // SAFETY: the value lives until the call returns, and is as long as said.
        let said = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<c_int>() as u32,
            )
        };
        assert_eq!(said, 0, "{level} {name}: {}", std::io::Error::last_os_error());
    }

    fn made(kind: Kind) -> Option<OwnedFd> {
        // SAFETY: socket(2) takes numbers, and its descriptor is this test's alone.
        unsafe { Some(OwnedFd::from_raw_fd(libc::socket(kind.domain, kind.kind, kind.protocol))) }
    }

    /// What is said of sockets of this process.
    fn said(sockets: &[&dyn AsRawFd]) -> Vec<String> {
        let task = Task::of(std::process::id()).unwrap();
        let number = |socket: &&dyn AsRawFd| {
            let number = u32::try_from(socket.as_raw_fd()).unwrap();
            (0, number, std::fs::metadata(format!("/proc/self/fd/{number}")).unwrap().ino())
        };
        let sockets: Vec<(usize, u32, u64)> = sockets.iter().map(number).collect();
        let mut findings = Findings::default();
        compare(&[task], &sockets, made, &mut findings);
        findings.told().into_iter().map(|finding| finding.resource).collect()
    }

    const TCP: Kind = Kind { domain: libc::AF_INET, kind: libc::SOCK_STREAM, protocol: libc::IPPROTO_TCP };

    #[test]
    fn sockets_as_they_are_made_have_nothing_to_lose() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (one, two) = UnixDatagram::pair().unwrap();
        let netlink =
            made(Kind { domain: libc::AF_NETLINK, kind: libc::SOCK_RAW, protocol: libc::NETLINK_ROUTE })
                .unwrap();
        assert_eq!(said(&[&listener, &client, &server, &udp, &one, &two, &netlink]), [""; 0]);
        // Where there is IPv6: a listener for both, and a connection of the older kind to it.
        let Ok(listener) = TcpListener::bind("[::]:0") else { return };
        let client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        let (server, _) = listener.accept().unwrap();
        let udp = UdpSocket::bind("[::]:0").unwrap();
        assert_eq!(said(&[&listener, &client, &server, &udp]), [""; 0]);
    }

    #[test]
    fn a_connection_that_has_ended_has_nothing_to_lose() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = made(TCP).unwrap();
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: gone.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
            sin_zero: [0; 8],
        };
        // SAFETY: the address lives until the call returns, and is as long as said.
        let said_by_connect = unsafe {
            libc::connect(refused.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32)
        };
        assert_eq!(said_by_connect, -1);
        assert_eq!(said(&[&refused]), [""; 0]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop(listener.accept().unwrap());
        client.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(said(&[&client]), [""; 0]);
    }

    #[test]
    fn each_option_that_is_set_is_told_by_its_name() {
        let tcp = made(TCP).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let value = |setting: &Setting| match setting.name {
            "TCP_MAXSEG" => 1000,
            "TCP_WINDOW_CLAMP" => 33_333,
            "TCP_USER_TIMEOUT" | "TCP_NOTSENT_LOWAT" => 4444,
            "TCP_SYNCNT" => 4,
            "TCP_LINGER2" => 22,
            "TCP_DEFER_ACCEPT" => 3,
            "IP_MTU_DISCOVER" => libc::IP_PMTUDISC_DO,
            "IP_MULTICAST_TTL" => 7,
            "IP_MULTICAST_LOOP" => 0,
            "UDP_SEGMENT" => 100,
            _ => 1,
        };
        let mut expected = Vec::new();
        for setting in &SETTINGS {
            let socket: &dyn AsRawFd = if setting.level == libc::IPPROTO_TCP { &tcp } else { &udp };
            set(&socket.as_raw_fd(), setting.level, setting.number, value(setting));
            expected.push(format!("descriptor {} ({})", socket.as_raw_fd(), setting.name));
        }
        let told = said(&[&tcp, &udp]);
        assert_eq!(told, expected);
    }

    #[test]
    fn a_listener_and_its_connections_are_one_finding() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set(&listener, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 30_000);
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (first, second) = (listener.as_raw_fd(), server.as_raw_fd());
        let again = server.try_clone().unwrap();
        assert_eq!(
            said(&[&listener, &client, &server, &again]),
            [format!("descriptors {first}, {second} (TCP_USER_TIMEOUT)")]
        );
    }

    #[test]
    fn what_cannot_be_compared_or_had_is_not_told() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        set(&udp, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
        let task = Task::of(std::process::id()).unwrap();
        let number = u32::try_from(udp.as_raw_fd()).unwrap();
        let mut findings = Findings::default();
        compare(&[task], &[(0, number, 1), (0, 1_000_000, 2), (7, number, 3)], |_| None, &mut findings);
        assert_eq!(findings.told(), []);
    }
}
