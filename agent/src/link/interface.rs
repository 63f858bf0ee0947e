//! The network interface that a host is reached by, and what it has carried.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use nix::ifaddrs::getifaddrs;

/// Bytes that an interface has carried since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) received: u64,
    pub(super) sent: u64,
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
pub(super) fn carried(interface: &str) -> io::Result<Carried> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    parse(&text, interface).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("the kernel lists no interface {interface}"))
    })
}

fn parse(text: &str, interface: &str) -> Option<Carried> {
    text.lines().find_map(|line| {
        let (name, figures) = line.split_once(':')?;
        if name.trim() != interface {
            return None;
        }
        let mut figures = figures.split_ascii_whitespace().map(str::parse);
        let received = figures.next()?.ok()?;
        // After eight figures of what was received come those of what was sent.
        let sent = figures.nth(7)?.ok()?;
        Some(Carried { received, sent })
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
        assert_eq!(parse(DEV, "under0"), Some(Carried { received: 1_234_567, sent: 765_432 }));
        assert_eq!(parse(DEV, "lo"), Some(Carried { received: 500, sent: 500 }));
        assert_eq!(parse(DEV, "under"), None);
        assert_eq!(parse("under0: 1 2", "under0"), None);
    }

    #[test]
    fn the_loopback_is_reached_by_the_loopback() {
        let name = towards(Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(name, "lo");
        carried(&name).unwrap();
        assert!(carried("no-such-interface").is_err());
    }
}
