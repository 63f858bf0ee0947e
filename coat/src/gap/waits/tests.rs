//! What waits are made of packets in sequence, by hand and by brute force.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use proptest::prelude::*;

use super::*;

static HEARD: AtomicU32 = AtomicU32::new(0);

fn at(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

fn flow(port: u16) -> Flow {
    Flow { client: (Ipv4Addr::new(10, 77, 0, 10), port), port: 6379, tcp: true }
}

/// The client's bytes up to `end`.
fn says(port: u16, end: u32, data: u32) -> Packet {
    let segment = Segment { end, acknowledged: Some(0), ..Segment::default() };
    Packet { flow: Some(flow(port)), heard: false, data, segment: Some(segment) }
}

/// The service's, which has got the client's up to `acknowledged`.
fn hears(port: u16, acknowledged: u32, data: u32) -> Packet {
    // Never twice the same.
    let end = HEARD.fetch_add(data, Relaxed) + data;
    let segment = Segment { end, acknowledged: Some(acknowledged), ..Segment::default() };
    Packet { flow: Some(flow(port)), heard: true, data, segment: Some(segment) }
}

fn with(packet: Packet, change: impl FnOnce(&mut Segment)) -> Packet {
    let mut segment = packet.segment.unwrap();
    change(&mut segment);
    Packet { segment: Some(segment), ..packet }
}

fn waits(packets: &[(u64, Packet)], now: u64) -> Waits {
    let mut followed = Followed::default();
    for (ms, packet) in packets {
        followed.take(packet, at(*ms));
    }
    followed.report(at(now), Outage::default())
}

fn longest(waits: Waits) -> (u64, u64) {
    let wait = waits.longest.unwrap();
    let since = wait.since.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    (since.as_millis() as u64, wait.length.as_millis() as u64)
}

#[test]
fn the_worst_connection_counts_however_much_the_others_hear() {
    let mut packets = vec![(0, says(1, 10, 10))];
    for n in 0..100 {
        let end = 10 * (n as u32 + 1);
        packets.push((10 * n, says(2, end, 10)));
        packets.push((10 * n + 1, hears(2, end, 5)));
    }
    packets.push((1200, hears(1, 10, 5)));
    let told = waits(&packets, 1300);
    assert_eq!((told.asked, told.waiting, told.open), (2, 0, None));
    assert_eq!(longest(told), (0, 1200));
}

#[test]
fn an_idle_connection_waits_for_nothing() {
    let packets =
        [(0, says(1, 10, 10)), (2, hears(1, 10, 5)), (9000, says(1, 20, 10)), (9003, hears(1, 20, 5))];
    assert_eq!(longest(waits(&packets, 20_000)), (9000, 3));
}

#[test]
fn what_is_sent_again_began_when_it_was_sent_first_and_is_no_request_of_its_own() {
    let packets = [
        (0, says(1, 10, 10)),
        (200, says(1, 10, 10)),
        (600, says(1, 10, 10)),
        (700, hears(1, 10, 5)),
        (705, says(1, 10, 10)),
    ];
    let told = waits(&packets, 2000);
    assert_eq!((longest(told), told.waiting), ((0, 700), 0));
}

#[test]
fn an_acknowledgement_is_no_answer() {
    let told = waits(&[(0, says(1, 10, 10)), (500, hears(1, 10, 0)), (520, hears(1, 10, 5))], 600);
    assert_eq!(longest(told), (0, 520));
}

#[test]
fn what_the_service_sends_again_is_no_answer() {
    let answer = hears(1, 10, 5);
    let packets =
        [(0, says(1, 10, 10)), (2, answer), (100, says(1, 20, 10)), (600, answer), (700, hears(1, 20, 5))];
    assert_eq!(longest(waits(&packets, 800)), (100, 600));
}

#[test]
fn a_request_that_was_not_there_when_another_was_answered_waits_on() {
    let packets = [(0, says(1, 10, 10)), (5, says(1, 20, 10)), (8, hears(1, 10, 5)), (400, hears(1, 20, 5))];
    assert_eq!(longest(waits(&packets, 500)), (8, 392));
}

#[test]
fn what_is_not_over_is_told_apart() {
    let told = waits(
        &[(0, says(1, 10, 10)), (3, hears(1, 10, 5)), (10, says(2, 10, 10)), (20, says(3, 10, 10))],
        26_710,
    );
    assert_eq!(longest(told), (0, 3));
    assert_eq!(
        (told.waiting, told.open),
        (2, Some(Wait { length: Duration::from_millis(26_700), since: at(10) }))
    );
}

#[test]
fn a_connection_that_is_opened_waits_for_its_acceptance_and_one_that_is_reset_for_nothing() {
    let syn = with(says(1, 1, 0), |segment| segment.syn = true);
    let accepted = with(hears(1, 1, 0), |segment| segment.syn = true);
    assert_eq!(longest(waits(&[(0, syn), (300, accepted)], 400)), (0, 300));
    let reset = with(hears(2, 10, 0), |segment| segment.reset = true);
    let told = waits(&[(0, says(2, 10, 10)), (50, reset)], 900);
    assert_eq!((longest(told), told.waiting), ((0, 50), 0));
    let given_up = with(says(3, 10, 0), |segment| segment.reset = true);
    let told = waits(&[(0, says(3, 10, 10)), (70, given_up)], 900);
    assert_eq!((longest(told), told.waiting), ((0, 70), 0));
}

#[test]
fn a_stream_to_the_service_hears_acknowledgements() {
    let mut packets = Vec::new();
    let mut end = 0;
    for n in 0..100 {
        end += 1400;
        packets.push((n, says(1, end, 1400)));
        // A blackout of 500 ms in the middle.
        packets.push((if n < 60 { n } else { n + 500 }, hears(1, end, 0)));
    }
    packets.sort_by_key(|(ms, _)| *ms);
    let told = waits(&packets, 700);
    assert_eq!((longest(told).1, told.waiting), (500, 0));
}

#[test]
fn a_pause_in_a_stream_from_the_service_is_a_wait() {
    let mut packets = vec![(0, says(1, 10, 10))];
    for n in 0..100 {
        packets.push((if n < 60 { n } else { n + 500 }, hears(1, 10, 1400)));
    }
    assert_eq!(longest(waits(&packets, 700)), (59, 501));
}

#[test]
fn datagrams_are_requests_and_answers_too() {
    let udp = |packet: Packet| Packet {
        segment: None,
        flow: packet.flow.map(|flow| Flow { tcp: false, ..flow }),
        ..packet
    };
    let packets = [(0, udp(says(1, 0, 8))), (20, udp(says(1, 0, 8))), (250, udp(hears(1, 0, 8)))];
    assert_eq!(longest(waits(&packets, 300)), (0, 250));
}

#[test]
fn sequence_numbers_go_around_the_corner() {
    let packets = [
        (0, says(1, u32::MAX - 3, 10)),
        (1, hears(1, u32::MAX - 3, 5)),
        (500, says(1, 6, 10)),
        (900, hears(1, 6, 5)),
    ];
    assert_eq!(longest(waits(&packets, 1000)), (500, 400));
}

#[test]
fn memory_is_bounded_and_what_is_not_followed_is_said() {
    let mut followed = Followed::default();
    let many = (0..=MAX_FLOWS as u32 + 10).map(|n| Flow {
        client: (Ipv4Addr::from(0x0a00_0000 + n), 1),
        port: 1,
        tcp: true,
    });
    for flow in many.clone() {
        followed.take(&Packet { flow: Some(flow), ..says(1, 10, 10) }, at(0));
    }
    assert_eq!(followed.flows.len(), MAX_FLOWS);
    assert_eq!(followed.report(at(1), Outage::default()).unfollowed, 11);
    // Those that have been answered make room.
    for flow in many.clone() {
        followed.take(&Packet { flow: Some(flow), ..hears(1, 10, 5) }, at(2));
    }
    let before = followed.report(at(3), Outage::default()).unfollowed;
    followed.patience = 0;
    followed.take(&Packet { flow: Some(flow(9)), ..says(9, 10, 10) }, at(4));
    assert_eq!(followed.report(at(5), Outage::default()).unfollowed, before);
    assert!(followed.asks.len() <= MAX_ASKS);
}

#[test]
fn what_was_asked_in_an_outage_is_told_from_what_was_asked_after_it() {
    let mut followed = Followed::default();
    for (n, ms) in [100, 250, 300, 900].into_iter().enumerate() {
        followed.take(&says(n as u16, 10, 10), at(ms));
    }
    let told =
        |from, until| followed.report(at(1000), Outage { from: Some(at(from)), until: Some(at(until)) });
    assert_eq!((told(200, 800).first_ask, told(200, 800).waiting), (Some(at(250)), 3));
    assert_eq!((told(301, 800).first_ask, told(301, 100).waiting), (None, 0));
    assert_eq!(followed.report(at(1000), Outage::default()).waiting, 4);
}

/// A connection that asks every 10 ms from `begin` to `end` and is answered 1 ms later.
fn asks_and_hears(followed: &mut Followed, port: u16, begin: u64, end: u64) {
    for ms in (begin..end).step_by(10) {
        let sent = ms as u32 + 1;
        followed.take(&says(port, sent, 5), at(ms));
        followed.take(&hears(port, sent, 5), at(ms + 1));
    }
}

#[test]
fn the_answers_around_the_longest_wait_are_those_of_the_connection_that_waited() {
    let mut followed = Followed::default();
    for port in [1, 2] {
        asks_and_hears(&mut followed, port, 0, 2000);
    }
    // The first asks, and hears nothing for 500 ms; the second goes on.
    followed.take(&says(1, 2001, 5), at(2000));
    let again = hears(2, 2000, 5);
    followed.take(&again, at(2001));
    asks_and_hears(&mut followed, 2, 2010, 2500);
    followed.take(&hears(1, 2001, 0), at(2100));
    followed.take(&hears(1, 2001, 5), at(2500));
    followed.take(&again, at(2501));
    asks_and_hears(&mut followed, 1, 2510, 9000);
    let waits = followed.report(at(9000), Outage::default());
    let told = followed.answers(&waits, Outage::default());
    let before = (0..100).map(|n| at(1001 + 10 * n));
    let after = std::iter::once(at(2500)).chain((0..99).map(|n| at(2511 + 10 * n)));
    assert_eq!((told.since, told.at), (Some(at(2000)), before.chain(after).collect::<Vec<_>>()));
}

#[test]
fn what_is_sent_again_or_only_acknowledges_is_no_answer_around_a_wait() {
    let (answer, late) = (hears(1, 10, 5), hears(1, 20, 5));
    let packets =
        [(0, says(1, 10, 10)), (2, answer), (100, says(1, 20, 10)), (600, answer), (650, hears(1, 20, 0))];
    let mut followed = Followed::default();
    for (ms, packet) in packets.into_iter().chain([(700, late), (800, late)]) {
        followed.take(&packet, at(ms));
    }
    let told = followed.answers(&followed.report(at(900), Outage::default()), Outage::default());
    assert_eq!((told.since, told.at), (Some(at(100)), vec![at(2), at(700)]));
}

#[test]
fn around_a_wait_that_is_not_over_there_are_only_answers_before_it() {
    let mut followed = Followed::default();
    asks_and_hears(&mut followed, 1, 0, 100);
    followed.take(&says(1, 200, 5), at(100));
    let outage = Outage { from: Some(at(90)), until: None };
    let told = followed.answers(&followed.report(at(5000), outage), outage);
    assert_eq!((told.since, told.at), (Some(at(100)), (0..10).map(|n| at(1 + 10 * n)).collect::<Vec<_>>()));
    // Nothing stood still: it is no matter of the migration that somebody waits.
    let told = followed.answers(&followed.report(at(5000), Outage::default()), Outage::default());
    assert_eq!(told.since, Some(at(0)));
}

#[test]
fn the_newest_answers_of_so_many_connections_are_kept_and_those_that_end_make_room() {
    let mut followed = Followed::default();
    let kept = |followed: &Followed| followed.flows.values().filter(|state| state.newest.is_some()).count();
    for port in 0..MAX_NEWEST as u16 + 5 {
        asks_and_hears(&mut followed, port, 0, 20);
    }
    assert_eq!((followed.newest, kept(&followed)), (MAX_NEWEST, MAX_NEWEST));
    for port in 0..10 {
        followed.take(&with(hears(port, 11, 0), |segment| segment.fin = true), at(30));
    }
    assert_eq!((followed.newest, kept(&followed)), (MAX_NEWEST - 10, MAX_NEWEST - 10));
    asks_and_hears(&mut followed, MAX_NEWEST as u16, 40, 60);
    assert_eq!((followed.newest, kept(&followed)), (MAX_NEWEST - 9, MAX_NEWEST - 9));
}

/// What a packet of a random conversation is.
#[derive(Debug, Clone, Copy)]
enum Said {
    Ask,
    AskAgain,
    Acknowledge,
    Answer,
}

/// By brute force: every answer ends the wait that the first request since the answer before began.
fn by_brute_force(conversation: &[(u64, u16, Said)], connections: u16) -> (u64, Option<u64>, u64) {
    let (mut asked, mut longest, mut waiting) = (0, None, 0);
    for connection in 0..connections {
        let said = || conversation.iter().filter(|(_, of, _)| *of == connection);
        asked += u64::from(said().any(|(.., said)| matches!(said, Said::Ask)));
        let mut before = 0;
        for (answered, ..) in said().filter(|(.., said)| matches!(said, Said::Answer)) {
            let first =
                said().find(|(at, _, said)| *at > before && at < answered && matches!(said, Said::Ask));
            longest = longest.max(first.map(|(at, ..)| answered - at));
            before = *answered;
        }
        waiting += u64::from(said().any(|(at, _, said)| *at > before && matches!(said, Said::Ask)));
    }
    (asked, longest, waiting)
}

proptest! {
    #[test]
    fn any_conversations_are_judged_as_by_brute_force(
        steps in proptest::collection::vec((1_u64..400, 0_u16..4, 0_u8..4), 0..200),
    ) {
        let mut followed = Followed::default();
        let (mut now, mut sent) = (0, [0_u32; 4]);
        let mut conversation = Vec::new();
        for (pause, of, kind) in steps {
            now += pause;
            let end = &mut sent[usize::from(of)];
            let (said, packet) = match kind {
                0 => {
                    *end += 10;
                    (Said::Ask, says(of, *end, 10))
                }
                // Nothing can be sent again that was not sent.
                1 if *end > 0 => (Said::AskAgain, says(of, *end, 10)),
                1 | 2 => (Said::Acknowledge, hears(of, *end, 0)),
                _ => (Said::Answer, hears(of, *end, 5)),
            };
            followed.take(&packet, at(now));
            conversation.push((now, of, said));
        }
        let told = followed.report(at(now), Outage::default());
        let longest = told.longest.map(|wait| wait.length.as_millis() as u64);
        prop_assert_eq!((told.asked, longest, told.waiting), by_brute_force(&conversation, 4));
    }
}
