//! The clients on this host: what the kernel tells of their connections with services on the overlay.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use mose_coat::sockets::{self, Connection};
use mose_coat::{Endpoint, Overlay};
use mose_pam::Millis;
use mose_protocol::agent::{ClientInfo, MessagesPerSec};

/// The most endpoints that are looked at.
const MOST_ENDPOINTS: usize = 16;
/// How many counts of a connection are kept: a rate is told over the time between the first and the last of them.
const COUNTS: usize = 4;
/// No client waits for an answer before it has waited so long, or four round-trip times.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many segments a connection had sent at some times.
type Counts = VecDeque<(Instant, u32)>;

/// What was seen of the clients before.
#[derive(Default)]
pub(crate) struct Clients(HashMap<[u8; 8], Counts>);

impl Clients {
    /// What the clients at this host's endpoints do now, by service.
    pub(crate) async fn look(&mut self, overlay: &dyn Overlay) -> Vec<ClientInfo> {
        let Ok(endpoints) = overlay.endpoints().await else { return Vec::new() };
        let looked = tokio::task::spawn_blocking(move || {
            endpoints.iter().take(MOST_ENDPOINTS).flat_map(connections).collect::<Vec<_>>()
        });
        match looked.await {
            Ok(found) => self.tell(&found, Instant::now()),
            Err(_) => Vec::new(),
        }
    }

    fn tell(&mut self, found: &[(Ipv4Addr, Connection)], now: Instant) -> Vec<ClientInfo> {
        let stand: HashSet<[u8; 8]> = found.iter().map(|(_, connection)| connection.cookie).collect();
        self.0.retain(|cookie, _| stand.contains(cookie));
        let mut clients: BTreeMap<Ipv4Addr, ClientInfo> = BTreeMap::new();
        for (service, connection) in found {
            let counts = self.0.entry(connection.cookie).or_default();
            counts.push_back((now, connection.data_segments_sent));
            if counts.len() > COUNTS {
                counts.pop_front();
            }
            let client = clients.entry(*service).or_insert(ClientInfo {
                service: *service,
                rate: None,
                rtt: None,
                silent: None,
            });
            if let Some(rate) = rate(counts) {
                client.rate = Some(MessagesPerSec(client.rate.unwrap_or_default().0 + rate));
            }
            // Of several, the worst.
            let rtt = Millis::from(connection.rtt);
            client.rtt = Some(client.rtt.map_or(rtt, |known| if known < rtt { rtt } else { known }));
            let silent = silence(connection).map(Millis::from);
            client.silent = match (client.silent, silent) {
                (Some(known), Some(silent)) if known > silent => Some(known),
                (known, silent) => silent.or(known),
            };
        }
        clients.into_values().collect()
    }
}

/// The connections at an endpoint with others on its overlay.
fn connections(endpoint: &Endpoint) -> Vec<(Ipv4Addr, Connection)> {
    let overlay = endpoint.spec.address;
    let found = sockets::tcp(&endpoint.netns).map(|sockets| sockets.connections);
    let with_service = |connection: Connection| match connection.peer.ip() {
        IpAddr::V4(peer) if overlay.contains(&peer) && peer != overlay.addr() => Some((peer, connection)),
        _ => None,
    };
    found.unwrap_or_default().into_iter().filter_map(with_service).collect()
}

/// Segments in a second, between the first and the last count.
fn rate(counts: &Counts) -> Option<f64> {
    let ((begun, first), (ended, last)) = (counts.front()?, counts.back()?);
    let seconds = ended.saturating_duration_since(*begun).as_secs_f64();
    (seconds > 0.0).then(|| f64::from(last.wrapping_sub(*first)) / seconds)
}

/// For how long a connection has been waiting for an answer, if it does.
fn silence(connection: &Connection) -> Option<Duration> {
    let asked = connection.unacknowledged > 0 || connection.since_sent < connection.since_heard;
    let patience = PATIENCE.max(connection.rtt * 4);
    Some(connection.since_heard).filter(|heard| asked && *heard > patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(cookie: u8, sent: u32) -> (Ipv4Addr, Connection) {
        let service = Ipv4Addr::new(10, 77, 0, 20);
        let connection = Connection {
            cookie: [cookie; 8],
            peer: (service, 7070).into(),
            rtt: Duration::from_millis(1),
            data_segments_sent: sent,
            unacknowledged: 0,
            since_sent: Duration::from_millis(4),
            since_heard: Duration::from_millis(3),
        };
        (service, connection)
    }

    #[test]
    fn a_rate_needs_two_counts_and_is_of_all_connections_with_the_service() {
        let mut clients = Clients::default();
        let begun = Instant::now();
        let told = clients.tell(&[connection(1, 100), connection(2, u32::MAX)], begun);
        assert_eq!((told.len(), told[0].rate, told[0].rtt), (1, None, Some(Millis(1.0))));
        let told = clients.tell(&[connection(1, 150), connection(2, 9)], begun + Duration::from_millis(500));
        assert!((told[0].rate.unwrap().0 - 120.0).abs() < 1e-9, "{told:?}");
        // A connection that ended is forgotten; what is left counts on.
        let told = clients.tell(&[connection(1, 250)], begun + Duration::from_secs(1));
        assert!((told[0].rate.unwrap().0 - 150.0).abs() < 1e-9, "{told:?}");
        assert_eq!(clients.0.len(), 1);
        assert_eq!(clients.tell(&[], begun + Duration::from_secs(2)), []);
    }

    #[test]
    fn who_asked_and_hears_nothing_waits_and_who_did_not_ask_does_not() {
        let (_, idle) = connection(1, 5);
        assert_eq!(silence(&idle), None);
        let quiet = Connection {
            since_sent: Duration::from_secs(9),
            since_heard: Duration::from_secs(8),
            ..idle.clone()
        };
        assert_eq!(silence(&quiet), None, "the last word was the service's");
        let asked = Connection { since_heard: Duration::from_millis(250), ..idle.clone() };
        assert_eq!(silence(&asked), Some(Duration::from_millis(250)));
        let just_asked = Connection { since_heard: Duration::from_millis(50), unacknowledged: 1, ..idle };
        assert_eq!(silence(&just_asked), None, "an answer takes a while");
    }
}
