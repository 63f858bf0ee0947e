//! Sockets: every option that can be read, with odd values in those that can be set; data on its way in every direction.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use super::sys::{ok, option, owned, readable, set_option};
use super::{Object, Told};

pub(super) struct Sockets {
    sockets: Vec<(&'static str, OwnedFd)>,
}

/// Options that tell the time, a processor or a number of the kernel's, and so never stay the same.
const VOLATILE: [(libc::c_int, libc::c_int); 13] = [
    (libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE),
    (libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ),
    (libc::SOL_SOCKET, libc::SO_INCOMING_CPU),
    (libc::SOL_SOCKET, 57),
    (libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID),
    (libc::SOL_SOCKET, libc::SO_MEMINFO),
    (libc::SOL_SOCKET, 71),
    (libc::SOL_SOCKET, libc::SO_PEERPIDFD),
    (libc::IPPROTO_TCP, libc::TCP_INFO),
    (libc::IPPROTO_TCP, libc::TCP_TIMESTAMP),
    (libc::IPPROTO_TCP, libc::TCP_CC_INFO),
    (libc::IPPROTO_TCP, libc::TCP_ZEROCOPY_RECEIVE),
    (libc::IPPROTO_IP, libc::IP_MTU),
];

/// Levels of options, by name, and how many numbers they use.
const LEVELS: [(&str, libc::c_int, libc::c_int); 5] = [
    ("SOCKET", libc::SOL_SOCKET, 84),
    ("IP", libc::IPPROTO_IP, 54),
    ("IPV6", libc::IPPROTO_IPV6, 82),
    ("TCP", libc::IPPROTO_TCP, 46),
    ("UDP", libc::IPPROTO_UDP, 105),
];

/// Sets what this kernel lets be set; an option that it lacks is none that can be lost.
fn set(fd: &impl AsRawFd, options: &[(libc::c_int, libc::c_int, i32)]) {
    for (level, name, value) in options {
        if let Err(error) = set_option(fd, *level, *name, value) {
            tracing::debug!(level, name, %error, "an option is not there");
        }
    }
}

const SOCKET: [(libc::c_int, libc::c_int, i32); 12] = [
    (libc::SOL_SOCKET, libc::SO_RCVBUF, 55_555),
    (libc::SOL_SOCKET, libc::SO_SNDBUF, 44_444),
    (libc::SOL_SOCKET, libc::SO_PRIORITY, 3),
    (libc::SOL_SOCKET, libc::SO_MARK, 77),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT, 5),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE, 1),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1),
    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1),
    (libc::SOL_SOCKET, libc::SO_BUSY_POLL, 9),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE, 1),
    (libc::SOL_SOCKET, libc::SO_NO_CHECK, 1),
];

const INTERNET: [(libc::c_int, libc::c_int, i32); 8] = [
    (libc::IPPROTO_IP, libc::IP_TOS, 0x10),
    (libc::IPPROTO_IP, libc::IP_TTL, 33),
    (libc::IPPROTO_IP, libc::IP_FREEBIND, 1),
    (libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
    (libc::IPPROTO_IP, libc::IP_RECVTOS, 1),
    (libc::IPPROTO_IP, libc::IP_RECVTTL, 1),
    (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1),
];

const TCP: [(libc::c_int, libc::c_int, i32); 12] = [
    (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 77),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 11),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 5),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 123_456),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 3),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2, 22),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT, 4),
    (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, 33_333),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 4444),
    (libc::IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, 1),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0),
];

/// Options that are no plain number.
fn set_times(fd: &impl AsRawFd) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 13 };
    set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
    let receive = libc::timeval { tv_sec: 3, tv_usec: 500_000 };
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &receive)?;
    let send = libc::timeval { tv_sec: 4, tv_usec: 250_000 };
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &send)
}

/// Both ends of a connection to oneself.
fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    Ok((one, listener.accept()?.0))
}

/// Sends descriptors along with a byte (unix(7), SCM_RIGHTS).
fn send_descriptors(socket: &impl AsRawFd, descriptors: &[RawFd]) -> io::Result<()> {
    let mut byte = *b"x";
    let mut data = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0_u64; 16];
    let length = size_of_val(descriptors) as u32;
    // SAFETY: the message names `data` and `control`, which outlive the call; `control` is aligned and has room for a header and
    // the descriptors, of which there are few.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut data, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(length) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(length) as usize;
        std::ptr::copy_nonoverlapping(
            descriptors.as_ptr().cast::<u8>(),
            libc::CMSG_DATA(header),
            length as usize,
        );
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    };
    ok(i32::try_from(sent).unwrap_or(-1)).map(drop)
}

impl Sockets {
    pub(super) fn make(place: &Path) -> io::Result<Self> {
        let mut sockets: Vec<(&'static str, OwnedFd)> = Vec::new();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        set(&listener, &[&SOCKET[..2], &TCP[1..7]].concat());
        set(&listener, &[(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)]);
        sockets.push(("tcp listener", listener.into()));
        sockets.push((
            "tcp listener, v6",
            TcpListener::bind("[::1]:0").map_or_else(|_| closed(), |v6| Ok(v6.into()))?,
        ));
        let (one, mut other) = connection()?;
        set(&one, &[&SOCKET[..], &INTERNET, &TCP].concat());
        set_times(&one)?;
        other.write_all(b"sent and not read")?;
        sockets.push(("tcp, odd options", one.into()));
        sockets.push(("tcp, its peer", other.into()));
        let (corked, peer) = connection()?;
        set(&corked, &[(libc::IPPROTO_TCP, libc::TCP_CORK, 1)]);
        (&corked).write_all(b"held by the cork")?;
        sockets.push(("tcp, corked", corked.into()));
        sockets.push(("tcp, peer of the corked", peer.into()));
        let (half, peer) = connection()?;
        half.shutdown(std::net::Shutdown::Write)?;
        sockets.push(("tcp, half closed", half.into()));
        sockets.push(("tcp, peer of the half closed", peer.into()));
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        set(&udp, &[&SOCKET[..6], &SOCKET[7..], &INTERNET].concat());
        udp.set_broadcast(true)?;
        udp.set_multicast_ttl_v4(7)?;
        udp.set_multicast_loop_v4(false)?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        sender.connect(udp.local_addr()?)?;
        sockets.push(("udp", udp.into()));
        set(&sender, &[(libc::IPPROTO_UDP, libc::UDP_SEGMENT, 100)]);
        sockets.push(("udp, connected", sender.into()));
        let (stream, mut peer) = UnixStream::pair()?;
        set(&stream, &[SOCKET[0], SOCKET[1]]);
        set_times(&stream)?;
        peer.write_all(b"over the stream")?;
        send_descriptors(&peer, &[stream.as_raw_fd(), 0])?;
        peer.shutdown(std::net::Shutdown::Write)?;
        sockets.push(("unix stream", stream.into()));
        sockets.push(("unix stream, its peer", peer.into()));
        let (datagrams, peer) = UnixDatagram::pair()?;
        for text in [&b"first"[..], b"", b"third"] {
            peer.send(text)?;
        }
        sockets.push(("unix datagrams", datagrams.into()));
        sockets.push(("unix datagrams, peer", peer.into()));
        let mut ends = [0; 2];
        // SAFETY: two descriptors are written into `ends`.
        ok(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, ends.as_mut_ptr()) })?;
        let (packets, peer) = (owned(ends[0])?, owned(ends[1])?);
        // SAFETY: three bytes are read.
        ok(unsafe { libc::send(peer.as_raw_fd(), b"abc".as_ptr().cast(), 3, 0) as libc::c_int })?;
        set(&peer, &[(libc::SOL_SOCKET, libc::SO_PASSCRED, 1)]);
        sockets.push(("unix packets", packets));
        sockets.push(("unix packets, peer", peer));
        let bound = UnixListener::bind(place.join("listener"))?;
        sockets.push(("unix listener, by path", bound.into()));
        let unbound = UnixDatagram::bind(place.join("datagrams"))?;
        sockets.push(("unix datagrams, by path", unbound.into()));
        Ok(Self { sockets })
    }
}

/// A socket that is nothing yet.
fn closed() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes numbers.
    owned(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })
}

/// A stream over the same socket.
fn stream(fd: &OwnedFd) -> Option<TcpStream> {
    let copy = fd.try_clone().ok()?;
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor was just made; that it is no TCP socket does not matter for reading.
    Some(unsafe { TcpStream::from_raw_fd(copy.into_raw_fd()) })
}

impl Object for Sockets {
    fn tell(&self, told: &mut Told) {
        for (what, socket) in &self.sockets {
            let flags = super::sys::fcntl(socket, libc::F_GETFL, 0).unwrap_or(-1);
            told.say(
                format_args!("socket {what}"),
                format_args!("flags {flags:#x} {} to be read", readable(socket)),
            );
            for (level_name, level, names) in LEVELS {
                for name in 0..names {
                    if VOLATILE.contains(&(level, name)) {
                        continue;
                    }
                    if let Some(value) = option(socket, level, name) {
                        told.say(format_args!("socket {what}, {level_name} {name}"), value);
                    }
                }
            }
        }
    }

    fn prove(&self, told: &mut Told) {
        for (what, socket) in &self.sockets {
            if what.contains("listener") || what.contains("by path") {
                continue;
            }
            let Some(mut stream) = stream(socket) else { continue };
            let _ = stream.set_nonblocking(true);
            for number in 0..4 {
                let mut text = [0; 64];
                let read = match stream.read(&mut text) {
                    Ok(read) => format!("{read} `{}`", String::from_utf8_lossy(&text[..read])),
                    Err(error) => error.kind().to_string(),
                };
                told.say(format_args!("socket {what}, read {number}"), read);
            }
        }
    }
}
