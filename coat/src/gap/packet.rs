//! What matters of one packet between a client and the service: whose connection, which way, what it carries.

use std::net::Ipv4Addr;

/// One connection, or one client's datagrams to a port of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    /// The client's address and port.
    pub(super) client: (Ipv4Addr, u16),
    /// The service's port.
    pub(super) port: u16,
    /// TCP, else UDP.
    pub(super) tcp: bool,
}

/// What TCP says beside data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Segment {
    /// The sequence number after its last byte; SYN and FIN count as one each.
    pub(super) end: u32,
    /// The next byte that its sender waits for, if it says so.
    pub(super) acknowledged: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) reset: bool,
}

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    /// `None` for the later fragments of a datagram, which name no ports.
    pub(super) flow: Option<Flow>,
    /// From the service; else to it.
    pub(super) heard: bool,
    /// Bytes of data; a fragment has at least one.
    pub(super) data: u32,
    /// `None` for UDP.
    pub(super) segment: Option<Segment>,
}

impl Packet {
    /// Reads Ethernet, IPv4 and TCP or UDP headers of a packet from or to the service; `None` if they are not whole or it is
    /// neither.
    pub(super) fn read(frame: &[u8], service: Ipv4Addr) -> Option<Self> {
        let ip = frame.get(14..)?;
        let half = |bytes: &[u8], at: usize| {
            Some(u16::from_be_bytes(<[u8; 2]>::try_from(bytes.get(at..at + 2)?).ok()?))
        };
        let word = |bytes: &[u8], at: usize| {
            Some(u32::from_be_bytes(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?))
        };
        let header = usize::from(ip.first()? & 0x0f) * 4;
        let total = usize::from(half(ip, 2)?);
        let (from, to) = (Ipv4Addr::from(word(ip, 12)?), Ipv4Addr::from(word(ip, 16)?));
        let heard = match (from == service, to == service) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => return None,
        };
        let tcp = match ip.get(9)? {
            6 => true,
            17 => false,
            _ => return None,
        };
        if (ip.get(6)? & 0x1f, *ip.get(7)?) != (0, 0) {
            return Some(Self { flow: None, heard, data: 1, segment: None });
        }
        let beyond = ip.get(header..)?;
        let (source, destination) = (half(beyond, 0)?, half(beyond, 2)?);
        let (client, port) = if heard { ((to, destination), source) } else { ((from, source), destination) };
        let flow = Some(Flow { client, port, tcp });
        let bytes = |headers: usize| u32::try_from(total.saturating_sub(headers)).unwrap_or(0);
        if !tcp {
            return Some(Self { flow, heard, data: bytes(header + 8), segment: None });
        }
        let data = bytes(header + usize::from(beyond.get(12)? >> 4) * 4);
        let flags = beyond.get(13)?;
        let (fin, syn, reset) = (flags & 0x01 != 0, flags & 0x02 != 0, flags & 0x04 != 0);
        let end = word(beyond, 4)?.wrapping_add(data).wrapping_add(u32::from(syn) + u32::from(fin));
        let acknowledged = if flags & 0x10 != 0 { Some(word(beyond, 8)?) } else { None };
        Some(Self { flow, heard, data, segment: Some(Segment { end, acknowledged, syn, fin, reset }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

    fn tcp(heard: bool, flags: u8, payload: u16) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 20];
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&(40 + payload).to_be_bytes());
        frame[23] = 6;
        let (from, to) = if heard { (SERVICE, CLIENT) } else { (CLIENT, SERVICE) };
        frame[26..30].copy_from_slice(&from.octets());
        frame[30..34].copy_from_slice(&to.octets());
        let (source, destination) = if heard { (6379_u16, 40_000_u16) } else { (40_000, 6379) };
        frame[34..36].copy_from_slice(&source.to_be_bytes());
        frame[36..38].copy_from_slice(&destination.to_be_bytes());
        frame[38..42].copy_from_slice(&7_u32.to_be_bytes());
        frame[42..46].copy_from_slice(&9_u32.to_be_bytes());
        frame[46] = 0x50;
        frame[47] = flags;
        frame
    }

    fn read(frame: &[u8]) -> Packet {
        Packet::read(frame, SERVICE).unwrap()
    }

    #[test]
    fn both_ways_of_a_connection_are_one_flow() {
        let (there, back) = (read(&tcp(false, 0x18, 5)), read(&tcp(true, 0x18, 3)));
        assert_eq!(there.flow, back.flow);
        assert_eq!(there.flow.unwrap().client, (CLIENT, 40_000));
        assert_eq!((there.heard, back.heard), (false, true));
        assert_eq!((there.data, back.data), (5, 3));
        let segment = there.segment.unwrap();
        assert_eq!((segment.end, segment.acknowledged), (12, Some(9)));
    }

    #[test]
    fn acknowledgements_resets_and_handshakes_are_told_apart() {
        let segment = |flags| read(&tcp(true, flags, 0)).segment.unwrap();
        assert_eq!(read(&tcp(true, 0x10, 0)).data, 0);
        assert!(segment(0x14).reset);
        assert!(segment(0x12).syn && segment(0x12).acknowledged.is_some());
        assert_eq!(segment(0x02).acknowledged, None);
        assert_eq!(segment(0x11).end, 8, "FIN takes a sequence number");
    }

    #[test]
    fn a_udp_packet_without_data_has_none() {
        let mut frame = tcp(true, 0, 0);
        frame[23] = 17;
        frame[16..18].copy_from_slice(&28_u16.to_be_bytes());
        assert_eq!(read(&frame).data, 0);
        frame[16..18].copy_from_slice(&29_u16.to_be_bytes());
        assert_eq!((read(&frame).data, read(&frame).segment), (1, None));
        assert!(!read(&frame).flow.unwrap().tcp);
        frame[21] = 1;
        assert_eq!((read(&frame).flow, read(&frame).data), (None, 1), "a later fragment names no ports");
    }

    #[test]
    fn what_is_cut_off_or_between_others_is_nothing() {
        let whole = tcp(true, 0x10, 0);
        for length in 0..48 {
            assert_eq!(Packet::read(&whole[..length], SERVICE), None, "{length} bytes");
        }
        assert_eq!(Packet::read(&whole, Ipv4Addr::new(10, 77, 0, 99)), None);
    }
}
