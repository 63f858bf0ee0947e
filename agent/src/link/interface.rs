//! The network interface that a host is reached by, and what it has carried.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use mose_protocol::link::Carried;
use mose_transfer::tcp_info::Segments;
use nix::ifaddrs::getifaddrs;

/// What an interface has carried in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) received: Carried,
    pub(super) sent: Carried,
}

/// Bytes on the link between two readings of a counter. A device that is handed segments by the dozen, as those of
/// virtual machines and namespaces are, counts the headers of the first alone; so those of the others are added.
pub(super) fn between(before: Carried, after: Carried) -> u64 {
    let Segments { payload, headers } = Segments::USUAL;
    let (bytes, packets) =
        (after.bytes.saturating_sub(before.bytes), after.packets.saturating_sub(before.packets));
    bytes + (bytes / (payload + headers)).saturating_sub(packets) * headers
}

/// The name of the interface that packets to `peer` leave by.
///
/// # Errors
/// Where there is no route, or its source address is on no interface.
pub(super) fn towards(peer: Ipv4Addr) -> io::Result<String> {
    // Connecting a datagram socket asks the kernel for the route, and sends nothing.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((peer, 9))?;
    let own = socket.local_addr()?.ip();
    let holds = |address: &nix::sys::socket::SockaddrStorage| {
        address.as_sockaddr_in().is_some_and(|address| IpAddr::V4(address.ip()) == own)
    };
    let found = getifaddrs()?.find(|interface| interface.address.as_ref().is_some_and(holds));
    found
        .map(|interface| interface.interface_name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface has the address {own}")))
}

/// What an interface has carried, proc(5).
///
/// # Errors
/// Where there is no such interface in this network namespace.
pub(super) fn carried(interface: &str) -> io::Result<Interface> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    parse(&text, interface).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("the kernel lists no interface {interface}"))
    })
}

fn parse(text: &str, interface: &str) -> Option<Interface> {
    text.lines().find_map(|line| {
        let (name, figures) = line.split_once(':')?;
        if name.trim() != interface {
            return None;
        }
        let mut figures = figures.split_ascii_whitespace().map(str::parse);
        let received = Carried { bytes: figures.next()?.ok()?, packets: figures.next()?.ok()? };
        // After eight figures of what was received come those of what was sent.
        let sent = Carried { bytes: figures.nth(6)?.ok()?, packets: figures.next()?.ok()? };
        Some(Interface { received, sent })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  500       5    0    0    0     0          0         0      500       5    0    0    0     0       0          0
under0:1234567    9    0    0    0     0          0         0   765432      8    0    0    0     0       0          0
";

    #[test]
    fn both_directions_are_read_with_or_without_a_space_after_the_name() {
        let (received, sent) =
            (Carried { bytes: 1_234_567, packets: 9 }, Carried { bytes: 765_432, packets: 8 });
        assert_eq!(parse(DEV, "under0"), Some(Interface { received, sent }));
        let both = Carried { bytes: 500, packets: 5 };
        assert_eq!(parse(DEV, "lo"), Some(Interface { received: both, sent: both }));
        assert_eq!(parse(DEV, "under"), None);
        assert_eq!(parse("under0: 1 2", "under0"), None);
    }

    #[test]
    fn headers_that_a_device_does_not_count_are_added_and_no_others() {
        let none = Carried { bytes: 0, packets: 0 };
        // Ten pieces of 45 segments, counted as ten packets.
        let together = between(none, Carried { bytes: 10 * (45 * 1448 + 66), packets: 10 });
        assert!(together.abs_diff(450 * 1514) < 450 * 1514 / 100, "{together}");
        assert_eq!(between(none, Carried { bytes: 450 * 1514, packets: 450 }), 450 * 1514);
        assert_eq!(between(none, Carried { bytes: 6000, packets: 100 }), 6000);
        // A counter that began anew.
        assert_eq!(between(Carried { bytes: 9, packets: 9 }, none), 0);
    }

    #[test]
    fn the_loopback_is_reached_by_the_loopback() {
        let name = towards(Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(name, "lo");
        carried(&name).unwrap();
        assert!(carried("no-such-interface").is_err());
    }
}
