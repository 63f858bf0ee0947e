//! OpenFlow 1.4 messages as bytes. Pure: no I/O, nothing trusted, every length checked before it is used.

use std::net::Ipv4Addr;

/// OpenFlow 1.4.
pub(crate) const VERSION: u8 = 0x05;
/// Length of the header all messages begin with.
pub(crate) const HEADER: usize = 8;
/// `OFPP_CONTROLLER`: this process, as a port.
pub(crate) const PORT_CONTROLLER: u32 = 0xffff_fffd;
/// `OFPP_TABLE`: the flows decide where a packet that is sent out goes.
pub(crate) const PORT_TABLE: u32 = 0xffff_fff9;
/// `OFPP_ANY`, `OFPG_ANY`: no restriction.
const ANY: u32 = 0xffff_ffff;
/// `OFP_NO_BUFFER`: the packet is in the message.
const NO_BUFFER: u32 = 0xffff_ffff;
/// `OFPCML_NO_BUFFER`: send the whole packet.
const WHOLE_PACKET: u16 = 0xffff;

/// Message types (OpenFlow 1.4.0, 7.1).
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0;
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const ECHO_REQUEST: u8 = 2;
    pub(crate) const ECHO_REPLY: u8 = 3;
    pub(crate) const SET_CONFIG: u8 = 9;
    pub(crate) const PACKET_IN: u8 = 10;
    pub(crate) const PACKET_OUT: u8 = 13;
    pub(crate) const FLOW_MOD: u8 = 14;
    pub(crate) const MULTIPART_REQUEST: u8 = 18;
    pub(crate) const MULTIPART_REPLY: u8 = 19;
    pub(crate) const BARRIER_REQUEST: u8 = 20;
    pub(crate) const BARRIER_REPLY: u8 = 21;
    pub(crate) const BUNDLE_CONTROL: u8 = 33;
    pub(crate) const BUNDLE_ADD: u8 = 34;
}

/// `ofp_bundle_ctrl_type`: what is asked of a bundle.
#[derive(Clone, Copy)]
pub(crate) enum BundleStep {
    Open = 0,
    Commit = 4,
}

/// What a flow of ours matches: packets to an address, as IPv4 or as ARP, or all that come in by a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// `arp,arp_tpa=`
    Arp(Ipv4Addr),
    /// `ip,nw_dst=`
    Ip(Ipv4Addr),
    /// `in_port=`
    From(u32),
}

/// A flow to be put in place of what matches the same, or to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlowMod {
    pub(crate) matches: Match,
    pub(crate) priority: u16,
    pub(crate) cookie: u64,
    /// The port that packets are sent to; `None` removes the flow.
    pub(crate) output: Option<u32>,
}

/// A flow as the switch reports it; `None` where it is not of the kind that this crate makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlowEntry {
    pub(crate) cookie: u64,
    pub(crate) priority: u16,
    pub(crate) matches: Option<Match>,
    pub(crate) output: Option<u32>,
}

/// A packet that the switch sent here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PacketIn<'a> {
    /// The cookie of the flow that sent it here.
    pub(crate) cookie: u64,
    /// Where it came into the bridge.
    pub(crate) in_port: Option<u32>,
    /// The whole Ethernet frame.
    pub(crate) frame: &'a [u8],
}

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u8,
    pub(crate) kind: u8,
    /// Of the whole message, header included.
    pub(crate) length: usize,
    pub(crate) xid: u32,
}

impl Header {
    pub(crate) fn parse(bytes: [u8; HEADER]) -> Option<Self> {
        let [version, kind, l0, l1, x0, x1, x2, x3] = bytes;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        (length >= HEADER).then_some(Self {
            version,
            kind,
            length,
            xid: u32::from_be_bytes([x0, x1, x2, x3]),
        })
    }
}

/// A message from its parts; `None` if it is longer than a length field can say.
fn message(kind: u8, xid: u32, body: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(HEADER + body.len()).ok()?;
    let mut out = Vec::with_capacity(usize::from(length));
    out.extend([VERSION, kind]);
    out.extend(length.to_be_bytes());
    out.extend(xid.to_be_bytes());
    out.extend(body);
    Some(out)
}

/// A message whose body is known to be short.
fn short(kind: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    debug_assert!(body.len() < 1024);
    message(kind, xid, body).unwrap_or_default()
}

/// The greeting: this side speaks 1.4 and nothing else.
pub(crate) fn hello(xid: u32) -> Vec<u8> {
    let bitmap = 1u32 << VERSION;
    let mut body = vec![0, 1, 0, 8];
    body.extend(bitmap.to_be_bytes());
    short(kind::HELLO, xid, &body)
}

/// Asks for packets whole; without it a management connection gets none.
pub(crate) fn set_config(xid: u32) -> Vec<u8> {
    short(kind::SET_CONFIG, xid, &[0, 0, 0xff, 0xff])
}

/// Answers an echo request with its own payload.
pub(crate) fn echo_reply(xid: u32, payload: &[u8]) -> Option<Vec<u8>> {
    message(kind::ECHO_REPLY, xid, payload)
}

/// Asks for an answer once everything before is done.
pub(crate) fn barrier(xid: u32) -> Vec<u8> {
    short(kind::BARRIER_REQUEST, xid, &[])
}

/// Opens or commits a bundle, atomic and ordered.
pub(crate) fn bundle_control(xid: u32, bundle: u32, step: BundleStep) -> Vec<u8> {
    let mut body = bundle.to_be_bytes().to_vec();
    body.extend((step as u16).to_be_bytes());
    body.extend(BUNDLE_FLAGS.to_be_bytes());
    short(kind::BUNDLE_CONTROL, xid, &body)
}

/// `OFPBF_ATOMIC | OFPBF_ORDERED`.
const BUNDLE_FLAGS: u16 = 3;

/// Puts a change of flow into a bundle. Both headers carry the same xid, as the specification demands.
pub(crate) fn bundle_add(xid: u32, bundle: u32, change: &FlowMod) -> Vec<u8> {
    let mut body = bundle.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.extend(BUNDLE_FLAGS.to_be_bytes());
    body.extend(flow_mod(xid, change));
    short(kind::BUNDLE_ADD, xid, &body)
}

/// `OXM_OF_*` of the basic class: field number and length.
const OXM_IN_PORT: u32 = oxm(0, 4);
const OXM_ETH_TYPE: u32 = oxm(5, 2);
const OXM_IPV4_DST: u32 = oxm(12, 4);
const OXM_ARP_TPA: u32 = oxm(23, 4);

const fn oxm(field: u32, length: u32) -> u32 {
    0x8000_0000 | field << 9 | length
}

fn put_match(out: &mut Vec<u8>, matches: Match) {
    let (ether_type, field, address) = match matches {
        Match::Arp(address) => (0x0806_u16, OXM_ARP_TPA, address),
        Match::Ip(address) => (0x0800, OXM_IPV4_DST, address),
        Match::From(port) => {
            // Type OXM; 4 + 8 bytes, padded to 16.
            out.extend([0, 1, 0, 12]);
            out.extend(OXM_IN_PORT.to_be_bytes());
            out.extend(port.to_be_bytes());
            out.extend([0; 4]);
            return;
        }
    };
    // Type OXM; 4 + 6 + 8 bytes, padded to 24.
    out.extend([0, 1, 0, 18]);
    out.extend(OXM_ETH_TYPE.to_be_bytes());
    out.extend(ether_type.to_be_bytes());
    out.extend(field.to_be_bytes());
    out.extend(address.octets());
    out.extend([0; 6]);
}

fn put_output(out: &mut Vec<u8>, port: u32) {
    let max_len = if port == PORT_CONTROLLER { WHOLE_PACKET } else { 0 };
    out.extend([0, 0, 0, 16]);
    out.extend(port.to_be_bytes());
    out.extend(max_len.to_be_bytes());
    out.extend([0; 6]);
}

/// `OFPFC_ADD` (which replaces an equal match and its cookie) or `OFPFC_DELETE_STRICT`.
fn flow_mod(xid: u32, change: &FlowMod) -> Vec<u8> {
    let command = if change.output.is_some() { 0 } else { 4 };
    let mut body = change.cookie.to_be_bytes().to_vec();
    body.extend([0; 8]);
    body.extend([0, command, 0, 0, 0, 0]);
    body.extend(change.priority.to_be_bytes());
    body.extend(NO_BUFFER.to_be_bytes());
    body.extend(ANY.to_be_bytes());
    body.extend(ANY.to_be_bytes());
    body.extend([0; 4]);
    put_match(&mut body, change.matches);
    if let Some(port) = change.output {
        // Apply-actions with one action.
        body.extend([0, 4, 0, 24, 0, 0, 0, 0]);
        put_output(&mut body, port);
    }
    short(kind::FLOW_MOD, xid, &body)
}

/// Sends a frame out of a port; `None` if the frame is too long for a message.
pub(crate) fn packet_out(xid: u32, port: u32, frame: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(32 + frame.len());
    body.extend(NO_BUFFER.to_be_bytes());
    body.extend(PORT_CONTROLLER.to_be_bytes());
    body.extend(16_u16.to_be_bytes());
    body.extend([0; 6]);
    put_output(&mut body, port);
    body.extend(frame);
    message(kind::PACKET_OUT, xid, &body)
}

/// Asks for every flow.
pub(crate) fn flow_stats_request(xid: u32) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0, 0, 0, 0, 0];
    body.extend([0xff, 0, 0, 0]);
    body.extend(ANY.to_be_bytes());
    body.extend(ANY.to_be_bytes());
    body.extend([0; 4 + 8 + 8]);
    body.extend([0, 1, 0, 4, 0, 0, 0, 0]);
    short(kind::MULTIPART_REQUEST, xid, &body)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Class and number of a field, and its value.
type OxmField<'a> = (u32, &'a [u8]);

/// The fields of a match at the head of `bytes` (class and field, value), and the match's length with its padding.
fn oxm_fields(bytes: &[u8]) -> Option<(Vec<OxmField<'_>>, usize)> {
    let length = usize::from(u16_at(bytes, 2)?);
    let mut rest = bytes.get(4..length)?;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let header = u32_at(rest, 0)?;
        let size = usize::try_from(header & 0xff).ok()?;
        fields.push((header, rest.get(4..4 + size)?));
        rest = rest.get(4 + size..)?;
    }
    Some((fields, length.div_ceil(8) * 8))
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

/// Exactly the fields of a flow of ours, in whatever order.
fn read_match(fields: &[OxmField<'_>]) -> Option<Match> {
    if let [(OXM_IN_PORT, port)] = fields {
        return u32_at(port, 0).map(Match::From);
    }
    if fields.len() != 2 {
        return None;
    }
    let value = |wanted| fields.iter().find(|(field, _)| *field == wanted).map(|(_, v)| *v);
    match value(OXM_ETH_TYPE)? {
        [0x08, 0x06] => Some(Match::Arp(address(value(OXM_ARP_TPA)?)?)),
        [0x08, 0x00] => Some(Match::Ip(address(value(OXM_IPV4_DST)?)?)),
        _ => None,
    }
}

/// The port, if the instructions are one apply-actions with one output.
fn read_output(instructions: &[u8]) -> Option<u32> {
    let one = u16_at(instructions, 0)? == 4 && u16_at(instructions, 2)? == 24 && instructions.len() == 24;
    let output = u16_at(instructions, 8)? == 0 && u16_at(instructions, 10)? == 16;
    (one && output).then(|| u32_at(instructions, 12)).flatten()
}

/// The flows in the body of a multipart reply, and whether more replies follow.
pub(crate) fn parse_flow_stats(body: &[u8]) -> Option<(Vec<FlowEntry>, bool)> {
    if u16_at(body, 0)? != 1 {
        return None;
    }
    let more = u16_at(body, 2)? & 1 == 1;
    let mut rest = body.get(8..)?;
    let mut flows = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16_at(rest, 0)?);
        let entry = rest.get(..length)?;
        let (fields, used) = oxm_fields(entry.get(48..)?)?;
        flows.push(FlowEntry {
            priority: u16_at(entry, 12)?,
            cookie: u64_at(entry, 24)?,
            matches: read_match(&fields),
            output: entry.get(48 + used..).and_then(read_output),
        });
        rest = rest.get(length..)?;
    }
    Some((flows, more))
}

/// The packet in the body of a packet-in.
pub(crate) fn parse_packet_in(body: &[u8]) -> Option<PacketIn<'_>> {
    let (fields, used) = oxm_fields(body.get(16..)?)?;
    let in_port =
        fields.iter().find(|(field, _)| *field == OXM_IN_PORT).and_then(|(_, value)| u32_at(value, 0));
    Some(PacketIn { cookie: u64_at(body, 8)?, in_port, frame: body.get(16 + used + 2..)? })
}

/// What an error message says, in words where this crate may meet it.
pub(crate) fn describe_error(body: &[u8]) -> String {
    let (Some(kind), Some(code)) = (u16_at(body, 0), u16_at(body, 2)) else {
        return "an error without type and code".to_owned();
    };
    let name = match kind {
        0 => "hello failed: the bridge does not allow OpenFlow 1.4",
        1 => "bad request",
        2 => "bad action",
        3 => "bad instruction",
        4 => "bad match",
        5 => "flow modification failed",
        17 => "bundle failed",
        _ => "error",
    };
    format!("{name} (OpenFlow error type {kind}, code {code})")
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn hello_offers_version_1_4_alone() {
        assert_eq!(hello(1), hex("05 00 0010 00000001 0001 0008 00000020"));
    }

    #[test]
    fn a_flow_is_the_bytes_that_ovs_ofctl_sends() {
        let change =
            FlowMod { matches: Match::Ip(X), priority: 100, cookie: 0x4d00_0000_0000_0007, output: Some(3) };
        let expected = hex("05 0e 0060 00000009 4d00000000000007 0000000000000000 00 00 0000 0000 0064
             ffffffff ffffffff ffffffff 0000 0000
             0001 0012 80000a02 0800 80001804 0a4d0014 000000000000
             0004 0018 00000000 0000 0010 00000003 0000 000000000000");
        assert_eq!(flow_mod(9, &change), expected);
    }

    #[test]
    fn a_bundle_repeats_the_xid_of_its_message() {
        let change = FlowMod { matches: Match::Arp(X), priority: 100, cookie: 1, output: None };
        let bytes = bundle_add(0xabcd, 5, &change);
        assert_eq!(bytes[..16], hex("05 22 0058 0000abcd 00000005 0000 0003"));
        assert_eq!(bytes[16..24], hex("05 0e 0048 0000abcd"));
        // Delete strict.
        assert_eq!(bytes[16 + 8 + 17], 4);
        assert_eq!(bundle_control(1, 5, BundleStep::Commit), hex("05 21 0010 00000001 00000005 0004 0003"));
    }

    #[test]
    fn packets_to_the_controller_are_asked_for_whole() {
        let mut out = Vec::new();
        put_output(&mut out, PORT_CONTROLLER);
        assert_eq!(out, hex("0000 0010 fffffffd ffff 000000000000"));
    }

    #[test]
    fn a_packet_out_carries_the_frame() {
        let bytes = packet_out(2, 7, &[1, 2, 3]).unwrap();
        assert_eq!(
            bytes,
            hex("05 0d 002b 00000002 ffffffff fffffffd 0010 000000000000
                 0000 0010 00000007 0000 000000000000 010203")
        );
        assert!(packet_out(2, 7, &vec![0; 70_000]).is_none());
    }

    #[test]
    fn a_packet_in_gives_port_and_frame() {
        let body =
            hex("ffffffff 0004 01 00 4d00000000000001 0001 000c 80000004 00000002 00000000 0000 deadbeef");
        let packet = parse_packet_in(&body).unwrap();
        assert_eq!((packet.in_port, packet.cookie), (Some(2), 0x4d00_0000_0000_0001));
        assert_eq!(packet.frame, [0xde, 0xad, 0xbe, 0xef]);
    }

    #[test]
    fn a_flow_of_all_that_comes_in_by_a_port_is_read_back() {
        let mut bytes = Vec::new();
        put_match(&mut bytes, Match::From(7));
        assert_eq!(bytes, hex("0001 000c 80000004 00000007 00000000"));
        let (fields, used) = oxm_fields(&bytes).unwrap();
        assert_eq!((read_match(&fields), used), (Some(Match::From(7)), 16));
    }

    fn flow_stats_reply() -> Vec<u8> {
        let mut body = hex("0001 0001 00000000");
        body.extend(hex("0060 00 00 00000001 00000002 0064 0000 0000 0000 0000 0000
             4d00000000000007 0000000000000001 0000000000000062
             0001 0012 80000a02 0806 80002e04 0a4d0014 000000000000
             0004 0018 00000000 0000 0010 fffffffd ffff 000000000000"));
        body
    }

    #[test]
    fn flow_stats_give_back_what_was_put_in() {
        let (flows, more) = parse_flow_stats(&flow_stats_reply()).unwrap();
        assert!(more);
        assert_eq!(
            flows,
            [FlowEntry {
                cookie: 0x4d00_0000_0000_0007,
                priority: 100,
                matches: Some(Match::Arp(X)),
                output: Some(PORT_CONTROLLER),
            }]
        );
    }

    #[test]
    fn truncated_messages_are_refused_at_every_length() {
        let body = flow_stats_reply();
        for end in 9..body.len() {
            assert!(parse_flow_stats(&body[..end]).is_none(), "{end}");
        }
        let packet = hex("ffffffff 0004 01 00 4d00000000000001 0001 000c 80000004 00000002 00000000 0000");
        for end in 0..packet.len() {
            assert!(parse_packet_in(&packet[..end]).is_none(), "{end}");
        }
        // A match that claims to be shorter than its own header, and an entry of length 0, must not loop.
        assert!(parse_packet_in(&hex("ffffffff 0004 01 00 4d00000000000001 0001 0003 00000000")).is_none());
        assert!(parse_flow_stats(&hex("0001 0000 00000000 0000 0000")).is_none());
        assert!(Header::parse([5, 0, 0, 7, 0, 0, 0, 0]).is_none());
    }
}
