//! The overlay of a simulated host: routes in memory, the time that they take, and the packets of simulated clients.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mose_coat::gap::{Answers, GapReport, GapWatch, MOST_ANSWERS, Outage as Away, Wait, Waits};
use mose_coat::{Change, CoatError, Endpoint, EndpointSpec, MemoryOverlay, Overlay, Route, RouteEntry};
use mose_protocol::{HostName, ServiceName};

use crate::draw::Component;
use crate::world::World;
use crate::world::{Client, Outage};

/// The part of the overlay's time that letting go takes. The rest is what the agents themselves need in the blackout.
const LETTING_GO: f64 = 0.6;
/// The bytes of a client's packet.
const PACKET: u64 = 120;
/// The most packets that are held for an address, as the real overlay does.
const MOST_HELD: u64 = 4096;

/// One host's part of the overlay.
pub struct SimulatedOverlay {
    pub(crate) world: Arc<World>,
    pub(crate) host: HostName,
    memory: MemoryOverlay,
}

impl SimulatedOverlay {
    pub(crate) fn new(world: Arc<World>, host: HostName) -> Self {
        Self { world, host, memory: MemoryOverlay::new() }
    }

    /// Before what was held is let go: the time that takes, and the packets that came meanwhile.
    async fn before_release(&self, address: Ipv4Addr, epoch: u64) -> Result<(), CoatError> {
        let routes = self.memory.routes().await?;
        let held = |entry: &RouteEntry| {
            entry.address == address && entry.route == Route::Hold && entry.epoch <= epoch
        };
        let Some(service) = self.world.service_at(address).filter(|_| routes.iter().any(held)) else {
            return Ok(());
        };
        tokio::time::sleep(self.world.draw(Component::Overlay, &service, 0.0).mul_f64(LETTING_GO)).await;
        for _ in 0..self.world.asked_in_vain(&service).min(MOST_HELD) {
            self.memory.packet(address, PACKET);
        }
        Ok(())
    }
}

#[async_trait]
impl Overlay for SimulatedOverlay {
    async fn endpoints(&self) -> Result<Vec<Endpoint>, CoatError> {
        self.memory.endpoints().await
    }

    async fn attach(&self, spec: &EndpointSpec, epoch: u64) -> Result<Endpoint, CoatError> {
        self.memory.attach(spec, epoch).await
    }

    async fn detach(&self, name: &str) -> Result<(), CoatError> {
        self.memory.detach(name).await
    }

    async fn wall(&self, name: &str) -> Result<(), CoatError> {
        self.memory.wall(name).await
    }

    async fn route(&self, address: Ipv4Addr, route: Route, epoch: u64) -> Result<Change, CoatError> {
        if matches!(route, Route::Endpoint(_)) {
            self.before_release(address, epoch).await?;
        }
        self.memory.route(address, route, epoch).await
    }

    async fn routes(&self) -> Result<Vec<RouteEntry>, CoatError> {
        self.memory.routes().await
    }

    async fn forget(&self, address: Ipv4Addr) -> Result<(), CoatError> {
        self.memory.forget(address).await
    }

    async fn add_tunnel(&self, host: &str, remote: Ipv4Addr) -> Result<(), CoatError> {
        self.memory.add_tunnel(host, remote).await
    }

    async fn remove_tunnel(&self, host: &str) -> Result<(), CoatError> {
        self.memory.remove_tunnel(host).await
    }

    async fn held(&self, address: Ipv4Addr) -> (u64, u64) {
        self.memory.held(address).await
    }

    fn watch(&self, _: &Endpoint, service: Ipv4Addr) -> Result<Box<dyn GapWatch>, CoatError> {
        let (world, host) = (self.world.clone(), self.host.clone());
        let service = self.world.service_at(service);
        Ok(Box::new(ClientWatch { world, host, service, began: Instant::now() }))
    }
}

impl World {
    /// How often a service that stands still has been asked meanwhile.
    fn asked_in_vain(&self, service: &ServiceName) -> u64 {
        let state = self.state();
        let Some(found) = state.services.get(service) else { return 0 };
        let Some(outage) = found.outages.back().filter(|outage| outage.up.is_none()) else { return 0 };
        let rate: f64 = found.spec.clients.iter().map(|client| client.rate.0).sum();
        (outage.down.elapsed().as_secs_f64() * rate) as u64
    }
}

/// What a simulated client hears of its service.
struct ClientWatch {
    world: Arc<World>,
    host: HostName,
    service: Option<ServiceName>,
    began: Instant,
}

/// What a client that asks at a steady rate has heard of a service with these outages by `now`: packets, the longest silence and
/// when it began, the last packet.
fn heard(
    client: &Client,
    outages: impl Iterator<Item = Outage>,
    began: Instant,
    now: Instant,
) -> (u64, Duration, Instant, Option<Instant>) {
    let every = Duration::from_secs_f64(1.0 / client.rate.0.max(1e-6));
    let asked = |at: Instant| (at.saturating_duration_since(began).as_secs_f64() * client.rate.0) as u32;
    // When it asked last before that, and what it asked while it runs is answered at once.
    let last_before = |at: Instant| began + every * asked(at);
    let (mut silence, mut since) = (every, began);
    let mut down = None;
    for outage in outages.filter(|outage| outage.up.is_none_or(|up| up > began)) {
        let begin = last_before(outage.down.max(began));
        match outage.up {
            None => down = Some(begin),
            Some(up) if up.saturating_duration_since(begin) > silence => {
                (silence, since) = (up.saturating_duration_since(begin), begin);
            }
            Some(_) => {}
        }
    }
    let last = down.unwrap_or_else(|| last_before(now));
    (u64::from(asked(last)) + 1, silence, since, Some(last))
}

/// When such a client was answered around a silence: before it began, and from its end on, where it has ended by `now`.
fn answered(
    client: &Client,
    (since, end): (Instant, Option<Instant>),
    began: Instant,
    now: Instant,
) -> Vec<Instant> {
    let every = Duration::from_secs_f64(1.0 / client.rate.0.max(1e-6));
    let before =
        (0..MOST_ANSWERS as u32).map_while(|n| since.checked_sub(every * n)).take_while(|at| *at >= began);
    let mut answers: Vec<Instant> = before.collect();
    answers.reverse();
    if let Some(end) = end {
        // What it asked meanwhile is answered with the end, at once.
        let asked = (end.saturating_duration_since(since).as_secs_f64() / every.as_secs_f64()) as u32;
        let after = (asked + 1..).map(|n| since + every * n);
        let after = std::iter::once(end).chain(after.filter(|at| *at > end));
        answers.extend(after.take_while(|at| *at <= now).take(MOST_ANSWERS));
    }
    answers
}

impl GapWatch for ClientWatch {
    fn report(&self, _: Away) -> GapReport {
        let nothing = GapReport::nothing();
        let Some(service) = &self.service else { return nothing };
        let state = self.world.state();
        let Some(found) = state.services.get(service) else { return nothing };
        let Some(client) = found.spec.clients.iter().find(|client| client.host == self.host) else {
            return nothing;
        };
        let now = Instant::now();
        let (packets, silence, begin, last) = heard(client, found.outages.iter().copied(), self.began, now);
        let since = self.world.system_time(begin);
        let down = found.outages.back().is_some_and(|outage| outage.up.is_none());
        let open = last.filter(|_| down).map(|last| Wait {
            length: now.saturating_duration_since(last),
            since: self.world.system_time(last),
        });
        // A client that still waits has waited the longest, unless it once waited longer.
        let gap = match last.filter(|last| down && now.saturating_duration_since(*last) >= silence) {
            Some(last) => (last, None),
            None => (begin, Some(begin + silence)),
        };
        let answers = answered(client, gap, self.began, now);
        let answers = Answers {
            since: Some(self.world.system_time(gap.0)),
            at: answers.into_iter().map(|at| self.world.system_time(at)).collect(),
        };
        let connections = u64::from(client.connections);
        GapReport {
            answers,
            waits: Waits {
                asked: connections,
                longest: Some(Wait { length: silence, since }),
                open,
                waiting: if down { connections } else { 0 },
                ..Waits::default()
            },
            packets,
            payload_packets: packets,
            longest_silence: silence,
            longest_payload_silence: Some(silence),
            silence_started_at: since,
            last_packet_at: last.map(|last| self.world.system_time(last)),
            silent_at_end: last.map(|last| now.saturating_duration_since(last)),
            ..nothing
        }
    }

    fn stop(self: Box<Self>, away: Away) -> GapReport {
        self.report(away)
    }
}

#[cfg(test)]
mod tests {
    use mose_protocol::agent::MessagesPerSec;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_client_hears_nothing_from_the_last_answer_before_an_outage_to_its_end() {
        let began = Instant::now();
        let client = Client { host: "uav".parse().unwrap(), rate: MessagesPerSec(100.0), connections: 1 };
        let outage =
            |down: u32, up: Option<u32>| Outage { down: began + MS * down, up: up.map(|up| began + MS * up) };
        let hear =
            |outages: Vec<Outage>, now: u32| heard(&client, outages.into_iter(), began, began + MS * now);

        let (packets, silence, ..) = hear(vec![], 1005);
        assert_eq!((packets, silence), (101, 10 * MS));
        let (packets, silence, since, last) = hear(vec![outage(504, None)], 700);
        assert_eq!((packets, silence, since, last), (51, 10 * MS, began, Some(began + 500 * MS)));
        let (packets, silence, since, last) = hear(vec![outage(504, Some(707))], 1005);
        assert_eq!((packets, silence), (101, 207 * MS), "held requests are answered too");
        assert_eq!((since, last), (began + 500 * MS, Some(began + 1000 * MS)));
    }

    #[test]
    fn a_client_is_answered_at_its_rate_but_for_the_silence() {
        let began = Instant::now();
        let client = Client { host: "uav".parse().unwrap(), rate: MessagesPerSec(100.0), connections: 1 };
        let after = |ms: u32| began + MS * ms;
        let gap = (after(20), Some(after(227)));
        let answers = answered(&client, gap, began, after(250));
        assert_eq!(answers, [0, 10, 20, 227, 230, 240, 250].map(after), "the ones held, then as before");
        assert_eq!(answered(&client, (after(20), None), began, after(250)), [0, 10, 20].map(after));
        let long = answered(&client, (after(5000), Some(after(5200))), began, after(60_000));
        assert_eq!((long.len(), long[0], long[199]), (200, after(4010), after(6190)));
    }
}
