//! What the kernel knows of a TCP connection: how it cuts bytes into segments, what it sent again, how long a round trip takes.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};

/// Bytes of an Ethernet header, as interfaces and queues count a packet.
const ETHERNET: u64 = 14;

/// The `struct tcp_info` of `linux/tcp.h`, as far as it is used here: it only ever grows at its end. Older kernels fill less
/// of it, and the rest stays zero.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Raw {
    state_to_app_limited: [u8; 8],
    rto_to_unacked: [u32; 5],
    sacked_to_fackets: [u32; 4],
    last_and_pmtu: [u32; 5],
    rcv_ssthresh: u32,
    rtt: u32,
    rttvar: u32,
    snd_ssthresh_to_total_retrans: [u32; 7],
    pacing_to_bytes_received: [u64; 4],
    segs_and_notsent: [u32; 3],
    min_rtt: u32,
    data_segs: [u32; 2],
    delivery_rate_to_sndbuf_limited: [u64; 4],
    delivered: [u32; 2],
    bytes_sent: u64,
    bytes_retrans: u64,
}

/// What is used of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// The smoothed round-trip time (RFC 6298).
    pub rtt: Duration,
    /// Its mean deviation.
    pub rtt_variation: Duration,
    /// The shortest round trip of late; none where the kernel does not tell.
    pub least_rtt: Option<Duration>,
    /// Bytes of payload that were sent again.
    pub resent: u64,
}

/// What the kernel says of a connection, tcp(7).
///
/// # Errors
/// Where the socket is none of TCP's.
pub fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let mut raw = Raw::default();
    let mut length = size_of::<Raw>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the call; the kernel writes at most `length` bytes, which is the size of `raw`, a
    // plain structure of integers.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut raw).cast(),
            &raw mut length,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let microseconds = |value: u32| Duration::from_micros(value.into());
    Ok(TcpInfo {
        rtt: microseconds(raw.rtt),
        rtt_variation: microseconds(raw.rttvar),
        // Before the first sample the kernel says "the largest there is".
        least_rtt: (raw.min_rtt > 0 && raw.min_rtt < u32::MAX).then(|| microseconds(raw.min_rtt)),
        resent: raw.bytes_retrans,
    })
}

/// How bytes are cut into segments, and what each costs on the link beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// Bytes of payload in a full segment.
    pub payload: u64,
    /// Bytes of Ethernet, IP and TCP headers of each.
    pub headers: u64,
}

impl Segments {
    /// TCP with timestamps over IPv4 over Ethernet of the usual 1500 bytes.
    pub const USUAL: Self = Self { payload: 1448, headers: ETHERNET + 20 + 32 };

    /// Those of a connection over IPv4; the usual ones where the kernel does not tell.
    pub fn of(socket: &impl AsFd) -> Self {
        match getsockopt(socket, sockopt::TcpMaxSeg) {
            Ok(payload) if payload > 0 => Self { payload: payload.into(), ..Self::USUAL },
            _ => Self::USUAL,
        }
    }

    /// What `bytes` of payload are on the link.
    pub const fn on_link(self, bytes: u64) -> u64 {
        bytes + bytes.div_ceil(self.payload) * self.headers
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_structure_is_laid_out_as_the_kernel_does() {
        assert_eq!(std::mem::offset_of!(Raw, rtt), std::mem::offset_of!(libc::tcp_info, tcpi_rtt));
        assert_eq!(std::mem::offset_of!(Raw, rttvar), std::mem::offset_of!(libc::tcp_info, tcpi_rttvar));
        // linux/tcp.h
        assert_eq!(std::mem::offset_of!(Raw, min_rtt), 148);
        assert_eq!(std::mem::offset_of!(Raw, bytes_retrans), 208);
    }

    #[test]
    fn a_connection_over_the_loopback_has_a_round_trip_and_segments_of_its_interface() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut two, _) = listener.accept().unwrap();
        for _ in 0..3 {
            one.write_all(b"x").unwrap();
            two.read_exact(&mut [0]).unwrap();
            two.write_all(b"y").unwrap();
            one.read_exact(&mut [0]).unwrap();
        }
        let info = tcp_info(&one).unwrap();
        assert!(info.rtt > Duration::ZERO && info.rtt < Duration::from_secs(1), "{info:?}");
        assert!(info.least_rtt.unwrap() <= info.rtt, "{info:?}");
        assert_eq!(info.resent, 0);
        let segments = Segments::of(&one);
        assert!(segments.payload > 1000, "{segments:?}");
    }

    #[test]
    fn what_is_no_tcp_connection_is_an_error() {
        assert!(tcp_info(&std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap()).is_err());
    }

    #[test]
    fn every_begun_segment_has_its_headers() {
        assert_eq!(Segments::USUAL.on_link(1448), 1514);
        assert_eq!(Segments::USUAL.on_link(1449), 1449 + 2 * 66);
        assert_eq!(Segments::USUAL.on_link(0), 0);
    }
}
