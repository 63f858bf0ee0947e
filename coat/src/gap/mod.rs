//! Measures the silence clients saw, from the packets themselves: on the clients' host, on the device of their endpoint, whatever
//! the workload is. The kernel's time stamps are used, so a busy machine does not lengthen the gap.

mod answers;
mod packet;
mod waits;

use std::{
    io,
    mem::{size_of, zeroed},
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

pub use self::answers::{Answers, MOST_ANSWERS};
use self::answers::{Around, Newest};
pub use self::waits::{Outage, Wait, Waits};
use self::{packet::Packet, waits::Followed};
use crate::CoatError;

/// Bytes taken of each packet: Ethernet, IPv4 with all options, and TCP's fixed header.
const SNAP: usize = 96;
/// The socket's buffer: bounds what waits for the thread. A headers-only packet takes under 1 KiB of it.
const BUFFER: libc::c_int = 8 << 20;
/// How long a stop may take to be noticed.
const TICK: Duration = Duration::from_millis(20);

/// What a clients' host heard from a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapReport {
    /// What each connection waited for: the measure of a service that is asked.
    pub waits: Waits,
    /// The answers around the longest wait, of the connection that waited; where nobody asked, what came around the service's longest
    /// silence.
    pub answers: Answers,
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
        Tally::default().report(SystemTime::now(), Outage::default(), 0)
    }
}

/// A measurement under way, however an overlay makes it. Dropping it ends it.
pub trait GapWatch: Send + Sync {
    /// What was heard so far; the measurement goes on. What waits is judged by when the service was away.
    fn report(&self, outage: Outage) -> GapReport;

    /// Ends the measurement. May block for a moment.
    fn stop(self: Box<Self>, outage: Outage) -> GapReport;
}

impl GapWatch for GapProbe {
    fn report(&self, outage: Outage) -> GapReport {
        Self::report(self, outage)
    }

    fn stop(self: Box<Self>, outage: Outage) -> GapReport {
        Self::stop(*self, outage)
    }
}

/// A measurement under way. Dropping it ends it.
pub struct GapProbe {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<JoinHandle<Ended>>,
}

/// How a measurement ended: when, and how many packets it missed.
struct Ended {
    at: SystemTime,
    missed: u64,
}

impl GapProbe {
    /// Begins to listen on an endpoint's device ([`crate::Endpoint::host_device`]) to what comes from a service and goes to it.
    ///
    /// # Errors
    /// If there is no such device, or the process may not open packet sockets.
    pub fn start(host_device: &str, service: Ipv4Addr) -> Result<Self, CoatError> {
        let what = || format!("listen on device {host_device}");
        let socket = open(host_device, service).map_err(|e| CoatError::kernel(what(), e))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let tally = Arc::new(Mutex::new(Tally::default()));
        let taken = Arc::clone(&tally);
        let thread = std::thread::Builder::new()
            .name("coat-gap".to_owned())
            .spawn(move || listen(&socket, service, &stopped, &taken))
            .map_err(|e| CoatError::kernel(what(), e))?;
        Ok(Self { stop, tally, thread: Some(thread) })
    }

    /// What was heard so far; the measurement goes on. Packets that the kernel dropped are not counted yet.
    #[must_use]
    pub fn report(&self, outage: Outage) -> GapReport {
        self.tally.lock().report(SystemTime::now(), outage, 0)
    }

    /// Ends the measurement. Blocks for up to 20 ms.
    #[must_use]
    pub fn stop(mut self, outage: Outage) -> GapReport {
        // A thread that is lost leaves what it had counted.
        let ended = self.end().unwrap_or_else(|| Ended { at: SystemTime::now(), missed: 0 });
        self.tally.lock().report(ended.at, outage, ended.missed)
    }

    fn end(&mut self) -> Option<Ended> {
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

/// Passes IPv4 TCP and UDP from or to an address, cut to [`SNAP`] bytes; drops the rest in the kernel.
fn filter(service: Ipv4Addr) -> [libc::sock_filter; 11] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_WORD: u16 = 0x20;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        op(LOAD_HALF, 0, 0, 12),
        op(JUMP_IF_EQUAL, 0, 7, 0x0800),
        op(LOAD_WORD, 0, 0, 26),
        op(JUMP_IF_EQUAL, 2, 0, u32::from(service)),
        op(LOAD_WORD, 0, 0, 30),
        op(JUMP_IF_EQUAL, 0, 3, u32::from(service)),
        op(LOAD_BYTE, 0, 0, 23),
        op(JUMP_IF_EQUAL, 2, 0, 6),
        op(JUMP_IF_EQUAL, 1, 0, 17),
        op(RETURN, 0, 0, 0),
        op(RETURN, 0, 0, SNAP as u32),
    ]
}

fn open(device: &str, service: Ipv4Addr) -> io::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(device)?;
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

fn listen(socket: &OwnedFd, service: Ipv4Addr, stop: &AtomicBool, tally: &Mutex<Tally>) -> Ended {
    let mut frame = [0; SNAP];
    let mut ended = None;
    loop {
        // Once told to stop, what the socket already has is still counted.
        if ended.is_none() && stop.load(Ordering::Relaxed) {
            ended = Some(SystemTime::now());
        }
        match receive(socket, &mut frame, ended.is_some()) {
            Ok((length, at)) if ended.is_none_or(|end| at <= end) => {
                if let Some(packet) = frame.get(..length).and_then(|frame| Packet::read(frame, service)) {
                    tally.lock().take(&packet, at);
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
    Ended { at: ended.unwrap_or_else(SystemTime::now), missed: missed(socket) }
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

/// The measurement so far: no packet is kept.
#[derive(Default)]
struct Tally {
    followed: Followed,
    newest: Option<Newest>,
    around: Around,
    packets: u64,
    payload_packets: u64,
    resets: u64,
    syn_acks: u64,
    last: Option<SystemTime>,
    last_payload: Option<SystemTime>,
    longest: Option<(Duration, SystemTime)>,
    longest_payload: Option<Wait>,
}

impl Tally {
    fn take(&mut self, packet: &Packet, at: SystemTime) {
        self.followed.take(packet, at);
        if !packet.heard {
            return;
        }
        self.packets += 1;
        if let Some(segment) = packet.segment {
            self.resets += u64::from(segment.reset);
            self.syn_acks += u64::from(segment.syn && segment.acknowledged.is_some());
        }
        if let Some(last) = self.last.replace(at) {
            // The wall clock may be set back in between: then the silence is unknown, and no length is made up.
            let silence = at.duration_since(last).unwrap_or_default();
            if self.longest.is_none_or(|(longest, _)| silence > longest) {
                self.longest = Some((silence, last));
            }
        }
        if packet.data > 0 {
            self.payload_packets += 1;
            if let Some(last) = self.last_payload.replace(at) {
                let silence = Wait::between(last, at);
                if self.longest_payload.is_none_or(|longest| silence.length > longest.length) {
                    self.longest_payload = Some(silence);
                    self.around.longest(self.newest.as_ref(), last);
                }
            }
            self.around.add(at);
            self.newest.get_or_insert_with(Newest::new).add(at);
        }
    }

    fn report(&self, ended: SystemTime, outage: Outage, missed: u64) -> GapReport {
        let (longest_silence, silence_started_at) =
            self.longest.unwrap_or((Duration::ZERO, SystemTime::UNIX_EPOCH));
        let waits = self.followed.report(ended, outage);
        let answers =
            if waits.asked > 0 { self.followed.answers(&waits, outage) } else { self.said(ended, outage) };
        GapReport {
            waits,
            answers,
            packets: self.packets,
            payload_packets: self.payload_packets,
            longest_silence,
            longest_payload_silence: self.longest_payload.map(|silence| silence.length),
            silence_started_at,
            last_packet_at: self.last,
            silent_at_end: self.last.map(|last| ended.duration_since(last).unwrap_or_default()),
            resets: self.resets,
            syn_acks: self.syn_acks,
            missed,
        }
    }

    /// What the service said around its longest silence, or around the one that it has not ended although it is back.
    fn said(&self, ended: SystemTime, outage: Outage) -> Answers {
        let open = self.last.zip(outage.until).filter(|(last, until)| last <= until);
        let open = open.map(|(last, _)| Wait::between(last, ended));
        match (self.longest_payload, open) {
            (longest, Some(open)) if longest.is_none_or(|longest| open.length >= longest.length) => {
                let newest = self.newest.iter().flat_map(|newest| newest.until(open.since));
                Answers { since: Some(open.since), at: newest.collect() }
            }
            (Some(longest), _) => self.around.tell(longest.since),
            (None, _) => Answers::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(data: u32) -> Packet {
        Packet { flow: None, heard: true, data, segment: Some(packet::Segment::default()) }
    }

    #[test]
    fn the_longest_silence_is_found_with_its_beginning() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let mut tally = Tally::default();
        for (data, ms) in [(9, 1000), (9, 1010), (0, 1200), (9, 1300), (9, 1301)] {
            tally.take(&heard(data), at(ms));
            tally.take(&Packet { heard: false, ..heard(data) }, at(ms));
        }
        let report = tally.report(at(1400), Outage::default(), 0);
        assert_eq!(report.longest_silence, Duration::from_millis(190));
        assert_eq!(report.silence_started_at, at(1010));
        assert_eq!(report.longest_payload_silence, Some(Duration::from_millis(290)));
        assert_eq!(report.silent_at_end, Some(Duration::from_millis(99)));
        assert_eq!((report.packets, report.payload_packets), (5, 4), "the client's own are not counted");
        let around = Answers { since: Some(at(1010)), at: [1000, 1010, 1300, 1301].map(at).into() };
        assert_eq!(report.answers, around, "nobody asked: what came around the silence is told");
        // It fell silent again, was back at 1350, and has said nothing since.
        let back = Outage { from: None, until: Some(at(1350)) };
        let open = tally.report(at(2000), back, 0).answers;
        assert_eq!((open.since, open.at.len()), (Some(at(1301)), 4));
    }

    #[test]
    fn no_packet_is_no_silence() {
        let report = GapReport::nothing();
        assert_eq!((report.longest_payload_silence, report.silent_at_end), (None, None));
        assert_eq!(report.waits, Waits::default());
    }
}
