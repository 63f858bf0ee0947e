//! What surrounds a simulated host: its links, where it is, its radio, its flight, and its clients. All of it is the scenario's; nothing is measured.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use mose_agent::surroundings::Surroundings;
use mose_pam::{BitsPerSec, Millis};
use mose_protocol::agent::{ClientInfo, Position, Radio};
use mose_protocol::flight::{FlightError, FlightReport, FlightTimes};
use mose_protocol::link::LinkMetrics;
use mose_protocol::{HostName, Refusal, RefusalCode, Timestamp};
use parking_lot::Mutex;

use crate::flight;
use crate::geography::SimulatedLink;
use crate::world::{Service, World};

impl World {
    /// The scenario's link between two hosts.
    pub(crate) fn link(&self, from: &HostName, to: &HostName) -> Option<&SimulatedLink> {
        self.spec
            .links
            .iter()
            .find(|link| link.between.contains(from) && link.between.contains(to) && from != to)
    }
}

/// The surroundings of one host.
pub(crate) struct SimulatedSurroundings {
    pub(crate) world: Arc<World>,
    pub(crate) host: HostName,
    /// The station whose cell served it last.
    served: Mutex<Option<HostName>>,
}

impl SimulatedSurroundings {
    pub(crate) fn new(world: Arc<World>, host: HostName) -> Self {
        Self { world, host, served: Mutex::default() }
    }

    /// A round trip to a service at that host: the link's, longer with the distance where both are somewhere.
    fn trip(&self, to: &HostName, now: Instant) -> Option<Millis> {
        let link = self.world.link(&self.host, to)?.rtt;
        let place = |host| self.world.position(host, now);
        let distance = place(&self.host).zip(place(to)).map(|(here, there)| here.distance(&there));
        Some(distance.map_or(link, |distance| flight::trip(link, distance)))
    }

    /// The figures of the scenario's link to another host; `None` where it has none.
    fn metrics(&self, to: &HostName) -> Option<LinkMetrics> {
        let link = self.world.link(&self.host, to)?;
        Some(link.metrics(to, self.world.origin.0.elapsed(), Timestamp::now()))
    }
}

#[async_trait]
impl Surroundings for SimulatedSurroundings {
    fn measured(&self) -> bool {
        false
    }

    fn may_measure_links(&self) -> Result<(), Refusal> {
        Err(Refusal::new(
            RefusalCode::Capability,
            format!("{} is simulated, and its links cannot be measured", self.host),
            "take the scenario's figures: mose links",
        ))
    }

    fn link(&self, to: &HostName) -> Option<Result<LinkMetrics, Refusal>> {
        Some(self.metrics(to).ok_or_else(|| {
            Refusal::new(
                RefusalCode::UnknownHost,
                format!("the scenario has no link from {} to {to}", self.host),
                "add a [[link]] between them to the scenario",
            )
        }))
    }

    fn left(&self, to: &HostName) -> Option<BitsPerSec> {
        self.metrics(to)?.available
    }

    fn position(&self) -> Option<Position> {
        self.world.position(&self.host, Instant::now())
    }

    fn radio(&self) -> Option<Radio> {
        self.world.radio(&self.host, &mut self.served.lock(), Instant::now())
    }

    fn flight(&self) -> Option<FlightError> {
        self.world.flight(&self.host, Instant::now())
    }

    fn flown(&self, times: &FlightTimes) -> Option<FlightReport> {
        self.world.flown(&self.host, times)
    }

    async fn clients(&self) -> Vec<ClientInfo> {
        let now = Instant::now();
        let state = self.world.state();
        let of = |service: &Service| {
            let client = service.spec.clients.iter().find(|client| client.host == self.host)?;
            let down = service.outages.back().filter(|outage| outage.up.is_none()).map(|outage| outage.down);
            let place = state
                .instances
                .iter()
                .find(|((_, name), instance)| *name == service.spec.name && instance.pid.is_some());
            let rtt = place.and_then(|((host, _), _)| self.trip(host, now));
            Some(ClientInfo {
                service: service.spec.address.addr(),
                rate: Some(client.rate),
                rtt,
                silent: down.map(|down| now.saturating_duration_since(down).into()),
            })
        };
        state.services.values().filter_map(of).collect()
    }
}
