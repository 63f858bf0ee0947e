//! The hosts, as they tell of themselves. Nothing is inferred from silence: a host that is not heard of is stale, then nothing is
//! known of it, and only its vanished token makes it lost.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use mose_pam::Millis;
use mose_protocol::agent::{ClientInfo, Hello, Role, ServiceState, Telemetry};
use mose_protocol::link::LinkMetrics;
use mose_protocol::metrics::ServiceMetrics;
use mose_protocol::{HostName, Refusal, ServiceName, Timestamp};

use super::{Located, Series, Trail};
use crate::config::Config;

/// The most hosts that are kept: what is on the wire is not trusted to be few.
const MOST_HOSTS: usize = 2000;

/// What is known of whether a host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It told of itself lately.
    Live,
    /// Its token is there, but it did not tell of itself lately.
    Stale,
    /// Its token is there, and it has not told anything yet.
    Unknown,
    /// It speaks another protocol, or refuses to introduce itself.
    Incompatible,
    /// Its token is gone.
    Lost,
}

impl Presence {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "up",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
            Self::Incompatible => "incompatible",
            Self::Lost => "lost",
        }
    }

    /// Whether one can ask it anything.
    #[must_use]
    pub const fn is_there(self) -> bool {
        matches!(self, Self::Live | Self::Stale)
    }
}

/// A host.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// How it introduced itself, or why it did not; `None` while nobody has answered.
    pub hello: Option<Result<Hello, Refusal>>,
    /// The newest figures.
    pub telemetry: Option<Telemetry>,
    /// When they came, on the console's clock.
    pub heard: Option<Timestamp>,
    /// Since when its token is gone.
    pub lost: Option<Timestamp>,
    /// Dirty pages per second, by service.
    pub dirty: BTreeMap<ServiceName, Series>,
    /// What is left of the links to others, in bits per second.
    pub available: BTreeMap<HostName, Series>,
    /// The round trips of its clients in milliseconds, by the service's address on the overlay; unknown while it is silent.
    pub trips: BTreeMap<Ipv4Addr, Series>,
    /// Where it has been lately.
    pub trail: Trail,
    /// After how long without telemetry it is stale.
    stale_after: Millis,
}

impl Host {
    fn new(name: HostName, stale_after: Millis) -> Self {
        Self {
            name,
            stale_after,
            hello: None,
            telemetry: None,
            heard: None,
            lost: None,
            dirty: BTreeMap::new(),
            available: BTreeMap::new(),
            trips: BTreeMap::new(),
            trail: Trail::default(),
        }
    }

    /// What it is for, once that is known.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        Some(self.hello()?.role)
    }

    /// Its introduction.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()?.as_ref().ok()
    }

    /// What is known of whether it is there.
    #[must_use]
    pub fn presence(&self, now: Timestamp) -> Presence {
        if self.lost.is_some() {
            return Presence::Lost;
        }
        match (&self.hello, self.heard) {
            (Some(Err(_)), _) => Presence::Incompatible,
            (_, Some(heard)) if now.since(heard) <= self.stale_after => Presence::Live,
            (_, Some(_)) => Presence::Stale,
            (_, None) => Presence::Unknown,
        }
    }

    /// The age of its figures.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Option<Millis> {
        Some(now.since(self.heard?))
    }

    /// The profile of a service here; of one that is being moved, that from before.
    #[must_use]
    pub fn profile(&self, service: &ServiceName) -> Option<&ServiceMetrics> {
        self.telemetry.as_ref()?.profiles.iter().find(|profile| &profile.service == service)
    }

    /// The link to another host.
    #[must_use]
    pub fn link(&self, to: &HostName) -> Option<&LinkMetrics> {
        self.telemetry.as_ref()?.links.iter().find(|link| &link.to == to)
    }
}

/// All hosts, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    hosts: BTreeMap<HostName, Host>,
    stale_after: Millis,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new(Config::default().stale_after)
    }
}

impl Fleet {
    /// None yet; a host is stale after so long without telemetry.
    #[must_use]
    pub const fn new(stale_after: Millis) -> Self {
        Self { hosts: BTreeMap::new(), stale_after }
    }

    /// None again.
    #[must_use]
    pub const fn emptied(&self) -> Self {
        Self::new(self.stale_after)
    }

    /// All of them, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// One of them.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<&Host> {
        self.hosts.get(name)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// What all hosts tell to run on them, by host.
    pub fn services(&self) -> impl Iterator<Item = Located<'_>> {
        self.hosts.values().flat_map(|host| {
            let told = host.telemetry.as_ref().map_or(&[][..], |telemetry| &telemetry.services);
            told.iter().map(move |info| Located { host, info })
        })
    }

    /// The clients of a service by its address on the overlay, with the hosts that tell of them; what a lost host told last is
    /// no news of its clients.
    pub fn clients_of(
        &self,
        service: Ipv4Addr,
        now: Timestamp,
    ) -> impl Iterator<Item = (&Host, &ClientInfo)> {
        self.hosts.values().filter(move |host| host.presence(now).is_there()).flat_map(move |host| {
            let told = host.telemetry.as_ref().map_or(&[][..], |telemetry| &telemetry.clients);
            told.iter().filter(move |client| client.service == service).map(move |client| (host, client))
        })
    }

    fn entry(&mut self, name: &HostName) -> Option<&mut Host> {
        if self.hosts.len() >= MOST_HOSTS && !self.hosts.contains_key(name) {
            return None;
        }
        let stale_after = self.stale_after;
        Some(self.hosts.entry(name.clone()).or_insert_with(|| Host::new(name.clone(), stale_after)))
    }

    /// A token appeared: an agent that comes back is new.
    pub(super) fn seen(&mut self, name: HostName, _now: Timestamp) {
        let Some(host) = self.entry(&name) else { return };
        if host.lost.take().is_some() {
            (host.hello, host.telemetry, host.heard) = (None, None, None);
            host.trail = Trail::default();
        }
    }

    pub(super) fn introduced(&mut self, hello: Hello, _now: Timestamp) {
        let name = hello.host.clone();
        if let Some(host) = self.entry(&name) {
            host.hello = Some(Ok(hello));
        }
    }

    pub(super) fn stranger(&mut self, name: HostName, refusal: Refusal, _now: Timestamp) {
        if let Some(host) = self.entry(&name) {
            host.hello = Some(Err(refusal));
        }
    }

    pub(super) fn gone(&mut self, name: &HostName, now: Timestamp) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.lost = Some(now);
        }
    }

    pub(super) fn telemetry(&mut self, mut telemetry: Telemetry, now: Timestamp) {
        let Some(host) = self.entry(&telemetry.host) else { return };
        // An older one may come later.
        if host.telemetry.as_ref().is_some_and(|known| known.at > telemetry.at) {
            return;
        }
        for profile in &telemetry.profiles {
            host.dirty.entry(profile.service.clone()).or_default().push(now, Some(profile.dirty.current.0));
        }
        host.dirty.retain(|service, series| {
            let told = telemetry.services.iter().any(|info| &info.name == service);
            if told && !telemetry.profiles.iter().any(|profile| &profile.service == service) {
                series.push(now, None);
            }
            told
        });
        for link in &telemetry.links {
            let available = link.available.map(|rate| rate.0 as f64);
            host.available.entry(link.to.clone()).or_default().push(now, available);
        }
        for client in &telemetry.clients {
            let trip = client.rtt.filter(|_| client.silent.is_none()).map(|trip| trip.0);
            host.trips.entry(client.service).or_default().push(now, trip);
        }
        host.trips.retain(|service, _| telemetry.clients.iter().any(|client| client.service == *service));
        if let Some(position) = telemetry.position {
            host.trail.push(now, position, telemetry.flight);
        }
        host.heard = Some(now);
        // What speaks is there, whatever its token did: the token of a session that was renewed comes late.
        host.lost = None;
        // A service that moves is not profiled: it is what it was before.
        let moves = |profile: &ServiceMetrics| {
            let told = telemetry.services.iter().find(|info| info.name == profile.service);
            told.is_some_and(|info| info.state == ServiceState::Migrating)
                && telemetry.profiles.iter().all(|new| new.service != profile.service)
        };
        let before = host.telemetry.take().map_or_else(Vec::new, |before| before.profiles);
        let kept: Vec<ServiceMetrics> = before.into_iter().filter(moves).collect();
        telemetry.profiles.extend(kept);
        host.telemetry = Some(telemetry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(host: &str, at: u64) -> Telemetry {
        Telemetry {
            at: Timestamp(at),
            ..serde_json::from_value(serde_json::json!({
                "host": host, "at": at, "services": [], "trouble": null
            }))
            .unwrap()
        }
    }

    #[test]
    fn silence_makes_a_host_stale_and_only_its_token_makes_it_lost() {
        let mut fleet = Fleet::default();
        let name: HostName = "edge-a".parse().unwrap();
        let second = |n: u64| Timestamp(n * 1_000_000);
        fleet.seen(name.clone(), second(1));
        assert_eq!(fleet.host(&name).unwrap().presence(second(60)), Presence::Unknown);
        fleet.telemetry(telemetry("edge-a", 5), second(2));
        assert_eq!(fleet.host(&name).unwrap().presence(second(3)), Presence::Live);
        assert_eq!(fleet.host(&name).unwrap().presence(second(3600)), Presence::Stale);
        fleet.gone(&name, second(3601));
        assert_eq!(fleet.host(&name).unwrap().presence(second(3601)), Presence::Lost);
        fleet.seen(name.clone(), second(3602));
        assert_eq!(fleet.host(&name).unwrap().presence(second(3602)), Presence::Unknown);
    }

    #[test]
    fn an_older_telemetry_that_comes_later_changes_nothing() {
        let mut fleet = Fleet::default();
        fleet.telemetry(telemetry("edge-a", 9), Timestamp(1));
        fleet.telemetry(telemetry("edge-a", 8), Timestamp(2));
        let host = fleet.hosts().next().unwrap();
        assert_eq!((host.telemetry.as_ref().unwrap().at, host.heard), (Timestamp(9), Some(Timestamp(1))));
    }
}
