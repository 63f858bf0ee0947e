//! Sockets of every kind.

use std::io;

use super::system::{
    bind, call, close, connect, inet, listen, pair, send_control, send_descriptor, set_option, socket, unix,
    word, write,
};

/// Brings the loopback interface up, which a namespace of its own has down.
fn loopback() -> io::Result<()> {
    const IFF_UP: u16 = 1;
    let made = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&IFF_UP.to_ne_bytes());
    call("ioctl", libc::SYS_ioctl, &[made, libc::SIOCSIFFLAGS as usize, request.as_ptr() as usize])?;
    close(made)
}

/// The abstract name at which [`unix_server`] listens.
const OUTSIDE: &str = "\0mose-holder-outside";

pub(super) fn mptcp() -> io::Result<()> {
    const IPPROTO_MPTCP: i32 = 262;
    let listener = socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_MPTCP)?;
    bind(listener, &inet([0, 0, 0, 0], 7001))?;
    listen(listener)
}

pub(super) fn sctp() -> io::Result<()> {
    const IPPROTO_SCTP: i32 = 132;
    socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_SCTP).map(drop)
}

pub(super) fn family(family: i32, kind: i32) -> io::Result<()> {
    socket(family, kind, 0).map(drop)
}

pub(super) fn packet() -> io::Result<()> {
    socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(0x0003_u16.to_be())).map(drop)
}

pub(super) fn raw() -> io::Result<()> {
    socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).map(drop)
}

pub(super) fn ping() -> io::Result<()> {
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")?;
    let echo = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
    bind(echo, &inet([0, 0, 0, 0], 7))
}

fn netlink(protocol: i32, groups: u32) -> io::Result<usize> {
    let made = socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
    let mut address = (libc::AF_NETLINK as u16).to_ne_bytes().to_vec();
    address.extend([0; 6]);
    address.extend(groups.to_ne_bytes());
    bind(made, &address)?;
    Ok(made)
}

pub(super) fn netlink_route() -> io::Result<()> {
    netlink(libc::NETLINK_ROUTE, 1).map(drop)
}

pub(super) fn netlink_uevent() -> io::Result<()> {
    netlink(libc::NETLINK_KOBJECT_UEVENT, 1).map(drop)
}

pub(super) fn netlink_of(protocol: i32) -> io::Result<()> {
    netlink(protocol, 0).map(drop)
}

pub(super) fn netlink_groups() -> io::Result<()> {
    const NETLINK_ADD_MEMBERSHIP: i32 = 1;
    let made = netlink(libc::NETLINK_ROUTE, 0)?;
    // RTNLGRP_NEXTHOP is in the second word of groups.
    set_option(made, libc::SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &32_u32.to_ne_bytes())?;
    set_option(made, libc::SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &33_u32.to_ne_bytes())
}

pub(super) fn netlink_unbound() -> io::Result<()> {
    const NETLINK_ADD_MEMBERSHIP: i32 = 1;
    let made = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    set_option(made, libc::SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &1_u32.to_ne_bytes())
}

/// A request for the list of links, whose answer is not read.
pub(super) fn netlink_unread() -> io::Result<()> {
    let made = netlink(libc::NETLINK_ROUTE, 0)?;
    let mut request = 32_u32.to_ne_bytes().to_vec();
    request.extend(libc::RTM_GETLINK.to_ne_bytes());
    request.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    request.extend([0; 24]);
    write(made, &request)
}

pub(super) fn syn_sent() -> io::Result<()> {
    let made = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
    match connect(made, &inet([10, 77, 0, 199], 9)) {
        Err(error) if error.kind() != io::ErrorKind::Other || error.to_string().contains("in progress") => {
            Ok(())
        }
        other => other,
    }
}

pub(super) fn udp_corked() -> io::Result<()> {
    const UDP_CORK: i32 = 1;
    loopback()?;
    let made = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    connect(made, &inet([127, 0, 0, 1], 9))?;
    set_option(made, libc::IPPROTO_UDP, UDP_CORK, &1_i32.to_ne_bytes())?;
    write(made, b"half a datagram")
}

pub(super) fn udp_queued() -> io::Result<()> {
    loopback()?;
    let receiver = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    bind(receiver, &inet([127, 0, 0, 1], 7009))?;
    let sender = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    connect(sender, &inet([127, 0, 0, 1], 7009))?;
    write(sender, b"not read yet")
}

pub(super) fn multicast() -> io::Result<()> {
    loopback()?;
    let made = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = [239, 1, 2, 3].to_vec();
    request.extend([127, 0, 0, 1]);
    set_option(made, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request)
}

fn tcp_pair(port: u16) -> io::Result<(usize, usize)> {
    loopback()?;
    let listener = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    bind(listener, &inet([127, 0, 0, 1], port))?;
    listen(listener)?;
    let client = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    connect(client, &inet([127, 0, 0, 1], port))?;
    let server = call("accept", libc::SYS_accept, &[listener, 0, 0])?;
    Ok((client, server))
}

pub(super) fn tcp_open() -> io::Result<()> {
    let (client, _) = tcp_pair(7010)?;
    write(client, b"not read yet")
}

/// A connection that gives up after a while without an answer.
pub(super) fn tcp_user_timeout() -> io::Result<()> {
    let (client, _) = tcp_pair(7012)?;
    set_option(client, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, &30_000_i32.to_ne_bytes())
}

pub(super) fn tls() -> io::Result<()> {
    const SOL_TLS: i32 = 282;
    const TLS_TX: i32 = 1;
    const TLS_1_2: u16 = 0x0303;
    const AES_GCM_128: u16 = 51;
    let (client, _) = tcp_pair(7011)?;
    set_option(client, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")?;
    // Initialisation vector, key, salt and number of a record follow.
    let mut keys = TLS_1_2.to_ne_bytes().to_vec();
    keys.extend(AES_GCM_128.to_ne_bytes());
    keys.extend([7; 36]);
    set_option(client, SOL_TLS, TLS_TX, &keys)
}

pub(super) fn unix_pairs() -> io::Result<()> {
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
        let [one, _] = pair("socketpair", libc::SYS_socketpair, &[word(libc::AF_UNIX), word(kind), 0], &[])?;
        write(one, b"not read yet")?;
    }
    Ok(())
}

/// A datagram without content, and one behind it.
pub(super) fn unix_datagram_empty() -> io::Result<()> {
    let [one, _] =
        pair("socketpair", libc::SYS_socketpair, &[word(libc::AF_UNIX), word(libc::SOCK_DGRAM), 0], &[])?;
    call("sendto", libc::SYS_sendto, &[one, 0, 0, 0, 0, 0])?;
    write(one, b"not read yet")
}

fn unix_listener(name: &str) -> io::Result<usize> {
    let listener = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    bind(listener, &unix(name))?;
    listen(listener)?;
    Ok(listener)
}

/// The other end of [`unix_outside`], to be run beside the container in its network namespace.
pub(super) fn unix_server() -> io::Result<()> {
    let listener = unix_listener(OUTSIDE)?;
    std::thread::spawn(move || while call("accept", libc::SYS_accept, &[listener, 0, 0]).is_ok() {});
    Ok(())
}

pub(super) fn unix_outside() -> io::Result<()> {
    let made = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    // The other end is started when the namespace is there.
    for _ in 0..50 {
        if connect(made, &unix(OUTSIDE)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    connect(made, &unix(OUTSIDE))
}

/// A peer that connected, wrote, and is not accepted yet.
pub(super) fn unix_unaccepted_data() -> io::Result<()> {
    unix_listener("\0mose-holder-1")?;
    let client = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    connect(client, &unix("\0mose-holder-1"))?;
    write(client, b"not read yet")
}

/// A peer that connected and went before it was accepted.
pub(super) fn unix_unaccepted_gone() -> io::Result<()> {
    unix_listener("\0mose-holder-2")?;
    let client = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    connect(client, &unix("\0mose-holder-2"))?;
    close(client)
}

/// A peer that connected, wrote nothing, and is not accepted yet.
pub(super) fn unix_unaccepted() -> io::Result<()> {
    unix_listener("\0mose-holder-3")?;
    let client = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    connect(client, &unix("\0mose-holder-3"))
}

pub(super) fn unix_unlinked() -> io::Result<()> {
    unix_listener("/tmp/gone.sock")?;
    std::fs::remove_file("/tmp/gone.sock")
}

fn stream_pair() -> io::Result<[usize; 2]> {
    pair("socketpair", libc::SYS_socketpair, &[word(libc::AF_UNIX), word(libc::SOCK_STREAM), 0], &[])
}

pub(super) fn unix_descriptor_queued() -> io::Result<()> {
    let [pipe, _] = pair("pipe", libc::SYS_pipe2, &[], &[0])?;
    send_descriptor(stream_pair()?[0], pipe)
}

pub(super) fn unix_credentials_queued() -> io::Result<()> {
    let [one, two] = stream_pair()?;
    set_option(two, libc::SOL_SOCKET, libc::SO_PASSCRED, &1_i32.to_ne_bytes())?;
    let payload: Vec<u8> = [std::process::id(), 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    send_control(one, libc::SCM_CREDENTIALS, &payload)
}

pub(super) fn socket_filter() -> io::Result<()> {
    let program = super::descriptors::bpf_program(1)?;
    let made = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    set_option(made, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &(program as i32).to_ne_bytes())?;
    close(program)
}
