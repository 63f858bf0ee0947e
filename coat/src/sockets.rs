//! The TCP sockets of a network namespace, as the kernel tells of them over sock_diag(7). `/proc/net/tcp` tells less, and reading
//! it takes milliseconds: it walks the table of the whole machine, one empty bucket after the other.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_LISTEN};
use netlink_packet_sock_diag::inet::nlas::{Nla, TcpInfo};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::{Socket, SocketAddr as Kernel, protocols::NETLINK_SOCK_DIAG};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// The most sockets that are told of.
const MOST: usize = 10_000;
/// How long the kernel may take for a message, in milliseconds.
const PATIENCE_MS: i64 = 1000;
/// The kernel sends no larger messages in a dump.
const BUFFER: usize = 64 << 10;

/// A connection that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// What the kernel calls the socket, for as long as it lives.
    pub cookie: [u8; 8],
    /// The other end.
    pub peer: SocketAddr,
    /// The smoothed round-trip time (RFC 6298).
    pub rtt: Duration,
    /// Segments with data that it has sent since it began, modulo 2³² (RFC 4898: `tcpEStatsPerfDataSegsOut`).
    pub data_segments_sent: u32,
    /// Segments that were not acknowledged yet.
    pub unacknowledged: u32,
    /// How long ago it sent data last.
    pub since_sent: Duration,
    /// How long ago it heard of the other end last: data, or an acknowledgement.
    pub since_heard: Duration,
}

impl Connection {
    fn of(id: SocketId, info: &TcpInfo) -> Self {
        let millis = |ms: u32| Duration::from_millis(u64::from(ms));
        Self {
            cookie: id.cookie,
            peer: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
            rtt: Duration::from_micros(u64::from(info.rtt)),
            data_segments_sent: info.data_segs_out,
            unacknowledged: info.unacked,
            since_sent: millis(info.last_data_sent),
            since_heard: millis(info.last_data_recv.min(info.last_ack_recv)),
        }
    }
}

/// The TCP sockets of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpSockets {
    /// Connections that wait in the listening sockets' accept queues.
    pub waiting: u32,
    /// Connections that stand.
    pub connections: Vec<Connection>,
}

/// The TCP sockets in the namespace that a file stands for, such as `/run/netns/NAME` or `/proc/PID/ns/net`. Blocks, for some
/// tenths of a millisecond.
///
/// # Errors
/// There is no such namespace, or this process may not enter it; the kernel has no sock_diag for TCP (`CONFIG_INET_TCP_DIAG`).
pub fn tcp(namespace: &Path) -> io::Result<TcpSockets> {
    crate::netns::within_file(namespace, here)
}

/// The TCP sockets in the namespace of the calling thread.
fn here() -> io::Result<TcpSockets> {
    let mut sockets = TcpSockets::default();
    for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        dump(family, any, |response| {
            if response.header.state == TCP_LISTEN {
                sockets.waiting = sockets.waiting.saturating_add(response.header.recv_queue);
            } else if sockets.connections.len() < MOST
                && let Some(info) = response.nlas.iter().find_map(|nla| match nla {
                    Nla::TcpInfo(info) => Some(info),
                    _ => None,
                })
            {
                sockets.connections.push(Connection::of(response.header.socket_id, info));
            }
        })?;
    }
    Ok(sockets)
}

fn dump(family: u8, socket_id: SocketId, mut each: impl FnMut(InetResponse)) -> io::Result<()> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.connect(&Kernel::new(0, 0))?;
    // SAFETY: the descriptor is the socket's, which outlives the call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    setsockopt(&descriptor, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PATIENCE_MS))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::ESTABLISHED | StateFlags::LISTEN,
        socket_id,
    });
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let size = socket.recv(&mut &mut buffer[..], 0)?;
        let mut rest = buffer.get(..size).unwrap_or_default();
        if rest.is_empty() {
            return Err(odd("it said nothing"));
        }
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(undecoded)?;
            // Messages begin at multiples of four (netlink(7)).
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => each(*response),
                // A dump that failed is done too; its code says so.
                NetlinkPayload::Done(done) if done.code == 0 => return Ok(()),
                NetlinkPayload::Done(done) => {
                    return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
                }
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

fn undecoded(error: DecodeError) -> io::Error {
    odd(&error.to_string())
}

fn odd(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel's answer about its sockets: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_waits_and_what_stands_is_told_and_what_was_sent_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let of =
            |sockets: TcpSockets| sockets.connections.into_iter().find(|one| one.peer == address).unwrap();
        let waiting = here().unwrap();
        assert!(waiting.waiting >= 1, "{waiting:?}");
        let before = of(waiting);

        let (mut service, _) = listener.accept().unwrap();
        for _ in 0..3 {
            client.write_all(b"ask").unwrap();
            let mut asked = [0; 3];
            service.read_exact(&mut asked).unwrap();
            service.write_all(b"told").unwrap();
            client.read_exact(&mut [0; 4]).unwrap();
        }
        let after = of(here().unwrap());
        assert_eq!(after.cookie, before.cookie);
        assert_eq!(after.data_segments_sent.wrapping_sub(before.data_segments_sent), 3);
        assert!(after.rtt > Duration::ZERO && after.since_heard < Duration::from_secs(10), "{after:?}");
    }

    #[test]
    fn a_service_that_listens_for_both_families_is_seen() {
        let Ok(listener) = TcpListener::bind("[::]:0") else {
            eprintln!("SKIPPED: this machine has no IPv6");
            return;
        };
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_service, _) = listener.accept().unwrap();
        let back = client.local_addr().unwrap();
        let found = here().unwrap().connections;
        assert!(found.iter().any(|one| one.peer == back), "{found:?}");
    }

    #[test]
    fn a_namespace_that_is_not_there_is_an_error() {
        assert_eq!(tcp(Path::new("/run/netns/no-such")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
