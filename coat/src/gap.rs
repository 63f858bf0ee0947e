//! Measures the silence a client saw, from the packets themselves: on the client's host, on the device of the client's endpoint,
//! whatever the workload is. The kernel's time stamps are used, so a busy machine does not lengthen the gap.

use std::{
    io,
    mem::{size_of, zeroed},
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use crate::CoatError;

/// Bytes taken of each packet: Ethernet, IPv4 with all options, and TCP's fixed header.
const SNAP: usize = 96;
/// The socket's buffer: bounds what waits for the thread. A headers-only packet takes under 1 KiB of it.
const BUFFER: libc::c_int = 8 << 20;
/// How long a stop may take to be noticed.
const TICK: Duration = Duration::from_millis(20);

/// What a client's host heard from a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapReport {
    /// TCP and UDP packets from the service.
    pub packets: u64,
    /// Those that carried data.
    pub payload_packets: u64,
    /// The longest time between two packets.
    pub longest_silence: Duration,
    /// The longest time between two packets with data; `None` with fewer than two.
    pub longest_payload_silence: Option<Duration>,
    /// When the longest silence began (the Unix epoch with fewer than two packets).
    pub silence_started_at: SystemTime,
    /// When the last packet came; `None` without a packet.
    pub last_packet_at: Option<SystemTime>,
    /// From the last packet to the end of the measurement, which no packet ended; `None` without a packet.
    pub silent_at_end: Option<Duration>,
    /// TCP resets from the service.
    pub resets: u64,
    /// TCP connections that the service accepted anew.
    pub syn_acks: u64,
    /// Packets that the kernel dropped because the buffer was full: if not 0, silences may be overstated.
    pub missed: u64,
}

impl GapReport {
    /// What is told where nothing was heard.
    #[must_use]
    pub fn nothing() -> Self {
        Tally::default().report(SystemTime::now(), 0)
    }
}

/// A measurement under way, however an overlay makes it. Dropping it ends it.
pub trait GapWatch: Send + Sync {
    /// What was heard so far; the measurement goes on.
    fn report(&self) -> GapReport;

    /// Ends the measurement. May block for a moment.
    fn stop(self: Box<Self>) -> GapReport;
}

impl GapWatch for GapProbe {
    fn report(&self) -> GapReport {
        Self::report(self)
    }

    fn stop(self: Box<Self>) -> GapReport {
        Self::stop(*self)
    }
}

/// A measurement under way. Dropping it ends it.
pub struct GapProbe {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<JoinHandle<GapReport>>,
}

impl GapProbe {
    /// Begins to listen on an endpoint's device ([`crate::Endpoint::host_link`]) to what comes from a service.
    ///
    /// # Errors
    /// If there is no such device, or the process may not open packet sockets.
    pub fn start(host_link: &str, service: Ipv4Addr) -> Result<Self, CoatError> {
        let what = || format!("listen on device {host_link}");
        let socket = open(host_link, service).map_err(|e| CoatError::kernel(what(), e))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let tally = Arc::new(Mutex::new(Tally::default()));
        let taken = Arc::clone(&tally);
        let thread = std::thread::Builder::new()
            .name("coat-gap".to_owned())
            .spawn(move || listen(&socket, &stopped, &taken))
            .map_err(|e| CoatError::kernel(what(), e))?;
        Ok(Self { stop, tally, thread: Some(thread) })
    }

    /// What was heard so far; the measurement goes on. Packets that the kernel dropped are not counted yet.
    #[must_use]
    pub fn report(&self) -> GapReport {
        lock(&self.tally).report(SystemTime::now(), 0)
    }

    /// Ends the measurement. Blocks for up to 20 ms.
    #[must_use]
    pub fn stop(mut self) -> GapReport {
        self.end().unwrap_or_else(GapReport::nothing)
    }

    fn end(&mut self) -> Option<GapReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok())
    }
}

impl Drop for GapProbe {
    fn drop(&mut self) {
        self.end();
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn set_option<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of a live value, which the kernel copies.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
    })?;
    Ok(())
}

/// Passes IPv4 TCP and UDP from an address, cut to [`SNAP`] bytes; drops the rest in the kernel.
fn filter(service: Ipv4Addr) -> [libc::sock_filter; 9] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_WORD: u16 = 0x20;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        op(LOAD_HALF, 0, 0, 12),
        op(JUMP_IF_EQUAL, 0, 5, 0x0800),
        op(LOAD_WORD, 0, 0, 26),
        op(JUMP_IF_EQUAL, 0, 3, u32::from(service)),
        op(LOAD_BYTE, 0, 0, 23),
        op(JUMP_IF_EQUAL, 2, 0, 6),
        op(JUMP_IF_EQUAL, 1, 0, 17),
        op(RETURN, 0, 0, 0),
        op(RETURN, 0, 0, SNAP as u32),
    ]
}

fn open(link: &str, service: Ipv4Addr) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(link)?;
    // SAFETY: no memory is involved. Protocol 0: nothing is received before the filter is in place.
    let raw = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor was just opened and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut program = filter(service);
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1_i32)?;
    if set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER).is_err() {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &BUFFER)?;
    }
    let tick = libc::timeval { tv_sec: 0, tv_usec: TICK.subsec_micros().into() };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &tick)?;
    // SAFETY: all zeros is a valid sockaddr_ll: it holds integers and arrays of them.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of a live sockaddr_ll.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket)
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(socket: &OwnedFd, stop: &AtomicBool, tally: &Mutex<Tally>) -> GapReport {
    let mut frame = [0; SNAP];
    let mut ended = None;
    loop {
        // Once told to stop, what the socket already has is still counted.
        if ended.is_none() && stop.load(Ordering::Relaxed) {
            ended = Some(SystemTime::now());
        }
        match receive(socket, &mut frame, ended.is_some()) {
            Ok((length, at)) if ended.is_none_or(|end| at <= end) => {
                if let Some(heard) = frame.get(..length).and_then(Heard::read) {
                    lock(tally).take(heard, at);
                }
            }
            Ok(_) => break,
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock if ended.is_none() => {}
                io::ErrorKind::WouldBlock => break,
                // The device went away: there is nothing more to hear until somebody stops this.
                _ if ended.is_none() => std::thread::sleep(TICK),
                _ => break,
            },
        }
    }
    lock(tally).report(ended.unwrap_or_else(SystemTime::now), missed(socket))
}

/// One packet's first bytes and the kernel's time stamp.
fn receive(socket: &OwnedFd, frame: &mut [u8; SNAP], at_once: bool) -> io::Result<(usize, SystemTime)> {
    #[repr(align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: all zeros is a valid msghdr: integers and null pointers.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let flags = if at_once { libc::MSG_DONTWAIT } else { 0 };
    // SAFETY: the message points to live buffers of the lengths it gives.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel filled in the control buffer and its length; the macros stay within it.
    let stamp = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        header
            .as_ref()
            .filter(|h| h.cmsg_level == libc::SOL_SOCKET && h.cmsg_type == libc::SCM_TIMESTAMPNS)
            .map(|_| libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned())
    };
    let since_epoch = stamp.and_then(|stamp| {
        let seconds = u64::try_from(stamp.tv_sec).ok()?;
        Some(Duration::new(seconds, u32::try_from(stamp.tv_nsec).ok()?))
    });
    let at = since_epoch.map_or_else(SystemTime::now, |since| SystemTime::UNIX_EPOCH + since);
    Ok((length, at))
}

/// Packets the kernel dropped for want of buffer.
fn missed(socket: &OwnedFd) -> u64 {
    // SAFETY: all zeros is a valid tpacket_stats: integers.
    let mut stats: libc::tpacket_stats = unsafe { zeroed() };
    let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of a live tpacket_stats.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    if done == 0 { u64::from(stats.tp_drops) } else { 0 }
}

/// What matters of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    payload: bool,
    reset: bool,
    syn_ack: bool,
}

impl Heard {
    /// Reads Ethernet, IPv4 and TCP or UDP headers; `None` if they are not whole. A fragment counts as data.
    fn read(frame: &[u8]) -> Option<Self> {
        const SYN: u8 = 0x02;
        const RST: u8 = 0x04;
        const ACK: u8 = 0x10;
        let ip = frame.get(14..)?;
        let header = usize::from(ip.first()? & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        let later_fragment = (ip.get(6)? & 0x1f, *ip.get(7)?) != (0, 0);
        let data = Self { payload: true, reset: false, syn_ack: false };
        if later_fragment {
            return Some(data);
        }
        match ip.get(9)? {
            17 => Some(Self { payload: total > header + 8, ..data }),
            6 => {
                let tcp = ip.get(header..)?;
                let offset = usize::from(tcp.get(12)? >> 4) * 4;
                let flags = tcp.get(13)?;
                Some(Self {
                    payload: total > header + offset,
                    reset: flags & RST != 0,
                    syn_ack: flags & (SYN | ACK) == SYN | ACK,
                })
            }
            _ => None,
        }
    }
}

/// The measurement so far: no packet is kept.
#[derive(Default)]
struct Tally {
    packets: u64,
    payload_packets: u64,
    resets: u64,
    syn_acks: u64,
    last: Option<SystemTime>,
    last_payload: Option<SystemTime>,
    longest: Option<(Duration, SystemTime)>,
    longest_payload: Option<Duration>,
}

impl Tally {
    fn take(&mut self, heard: Heard, at: SystemTime) {
        self.packets += 1;
        self.resets += u64::from(heard.reset);
        self.syn_acks += u64::from(heard.syn_ack);
        if let Some(last) = self.last.replace(at) {
            // The wall clock may be set back in between: then the silence is unknown, and no length is made up.
            let silence = at.duration_since(last).unwrap_or_default();
            if self.longest.is_none_or(|(longest, _)| silence > longest) {
                self.longest = Some((silence, last));
            }
        }
        if heard.payload {
            self.payload_packets += 1;
            if let Some(last) = self.last_payload.replace(at) {
                let silence = at.duration_since(last).unwrap_or_default();
                self.longest_payload = self.longest_payload.max(Some(silence));
            }
        }
    }

    fn report(&self, ended: SystemTime, missed: u64) -> GapReport {
        let (longest_silence, silence_started_at) =
            self.longest.unwrap_or((Duration::ZERO, SystemTime::UNIX_EPOCH));
        GapReport {
            packets: self.packets,
            payload_packets: self.payload_packets,
            longest_silence,
            longest_payload_silence: self.longest_payload,
            silence_started_at,
            last_packet_at: self.last,
            silent_at_end: self.last.map(|last| ended.duration_since(last).unwrap_or_default()),
            resets: self.resets,
            syn_acks: self.syn_acks,
            missed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(flags: u8, payload: u16) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 20];
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&(40 + payload).to_be_bytes());
        frame[23] = 6;
        frame[14 + 20 + 12] = 0x50;
        frame[14 + 20 + 13] = flags;
        frame
    }

    #[test]
    fn acknowledgements_resets_and_data_are_told_apart() {
        let read = |frame: Vec<u8>| Heard::read(&frame).unwrap();
        assert!(!read(tcp(0x10, 0)).payload);
        assert!(read(tcp(0x18, 1)).payload);
        assert!(read(tcp(0x14, 0)).reset);
        assert!(read(tcp(0x12, 0)).syn_ack);
        assert!(!read(tcp(0x02, 0)).syn_ack);
        assert_eq!(Heard::read(&tcp(0x10, 0)[..47]), None);
    }

    #[test]
    fn a_udp_packet_without_data_is_no_payload() {
        let mut frame = tcp(0, 0);
        frame[23] = 17;
        frame[16..18].copy_from_slice(&28_u16.to_be_bytes());
        assert!(!Heard::read(&frame).unwrap().payload);
        frame[16..18].copy_from_slice(&29_u16.to_be_bytes());
        assert!(Heard::read(&frame).unwrap().payload);
    }

    #[test]
    fn the_longest_silence_is_found_with_its_beginning() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let (ack, data) = (Heard::read(&tcp(0x10, 0)).unwrap(), Heard::read(&tcp(0x18, 9)).unwrap());
        let mut tally = Tally::default();
        for (heard, ms) in [(data, 1000), (data, 1010), (ack, 1200), (data, 1300), (data, 1301)] {
            tally.take(heard, at(ms));
        }
        let report = tally.report(at(1400), 0);
        assert_eq!(report.longest_silence, Duration::from_millis(190));
        assert_eq!(report.silence_started_at, at(1010));
        assert_eq!(report.longest_payload_silence, Some(Duration::from_millis(290)));
        assert_eq!(report.silent_at_end, Some(Duration::from_millis(99)));
        assert_eq!((report.packets, report.payload_packets), (5, 4));
    }

    #[test]
    fn no_packet_is_no_silence() {
        let report = Tally::default().report(SystemTime::now(), 0);
        assert_eq!((report.longest_payload_silence, report.silent_at_end), (None, None));
    }
}
