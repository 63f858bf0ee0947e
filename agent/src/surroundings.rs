//! What surrounds a host, and how its agent comes to know of it: the links to other hosts, where the host is, and the clients on it.

use std::sync::Arc;

use async_trait::async_trait;
use mose_coat::Overlay;
use mose_pam::{BitsPerSec, Metres};
use mose_protocol::agent::{Cell, ClientInfo, Position, Radio, Role};
use mose_protocol::flight::{FlightError, FlightReport, FlightTimes};
use mose_protocol::link::LinkMetrics;
use mose_protocol::{HostName, Refusal};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clients::Clients;
use crate::place::Place;
use crate::vehicle::Vehicle;

/// What surrounds a host.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Whether the figures that the agent tells are measurements. Whatever it says is labelled where they are not.
    fn measured(&self) -> bool;

    /// Whether the links can be measured, from this host and towards it.
    ///
    /// # Errors
    /// Where they cannot: with the reason, and where their figures are found instead.
    fn may_measure_links(&self) -> Result<(), Refusal>;

    /// The figures of the link to another host, where they are known without measuring; `None` where they have to be measured.
    ///
    /// # Errors
    /// Where there is no such link.
    fn link(&self, to: &HostName) -> Option<Result<LinkMetrics, Refusal>>;

    /// The bandwidth that transfers to another host are kept to; `None` where the link itself sees to it that no more is used.
    fn left(&self, to: &HostName) -> Option<BitsPerSec>;

    /// Does what has to go on for as long as the agent lives so that the rest is known.
    async fn attend(&self) {}

    /// Where the host is, if that is known.
    fn position(&self) -> Option<Position>;

    /// Its part in the radio network, if it has one.
    fn radio(&self) -> Option<Radio> {
        None
    }

    /// How the vehicle that carries it flies now, if one does.
    fn flight(&self) -> Option<FlightError> {
        None
    }

    /// How that vehicle flew at some times; `None` where it was not heard then.
    fn flown(&self, times: &FlightTimes) -> Option<FlightReport> {
        let _ = times;
        None
    }

    /// The clients on the host, and what they do now.
    async fn clients(&self) -> Vec<ClientInfo>;
}

/// Real surroundings: the links are measured, and the kernel is asked for the clients. A vehicle tells where it is and how it flies; of
/// any other host the operator says where it stands.
pub struct MeasuredSurroundings {
    role: Role,
    overlay: Arc<dyn Overlay>,
    clients: Mutex<Clients>,
    place: Option<Place>,
    cell: Option<Cell>,
    vehicle: Option<Vehicle>,
}

impl MeasuredSurroundings {
    /// The surroundings of a host of that role, with this part in the overlay.
    #[must_use]
    pub fn new(role: Role, overlay: Arc<dyn Overlay>) -> Self {
        Self { role, overlay, clients: Mutex::default(), place: None, cell: None, vehicle: None }
    }

    /// A host that stands still, and the radio cell that it stands at, as far as the operator says.
    #[must_use]
    pub fn standing(self, place: Option<Place>, cell: Option<Cell>) -> Self {
        Self { place, cell, ..self }
    }

    /// A host that a vehicle carries.
    #[must_use]
    pub fn carried(self, by: Vehicle) -> Self {
        Self { vehicle: Some(by), ..self }
    }
}

#[async_trait]
impl Surroundings for MeasuredSurroundings {
    fn measured(&self) -> bool {
        true
    }

    fn may_measure_links(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn link(&self, _: &HostName) -> Option<Result<LinkMetrics, Refusal>> {
        None
    }

    fn left(&self, _: &HostName) -> Option<BitsPerSec> {
        None
    }

    async fn attend(&self) {
        if let Some(vehicle) = &self.vehicle {
            vehicle.attend().await;
        }
    }

    fn position(&self) -> Option<Position> {
        match &self.vehicle {
            Some(vehicle) => vehicle.position(Instant::now()),
            None => self.place.map(|place| Position {
                x: Metres(place.east),
                y: Metres(place.north),
                ..Position::default()
            }),
        }
    }

    fn radio(&self) -> Option<Radio> {
        match &self.vehicle {
            Some(vehicle) => vehicle.radio(Instant::now()),
            None => self.cell.map(|cell| Radio { cell, signal_percent: None }),
        }
    }

    fn flight(&self) -> Option<FlightError> {
        self.vehicle.as_ref()?.flight(Instant::now())
    }

    fn flown(&self, times: &FlightTimes) -> Option<FlightReport> {
        self.vehicle.as_ref()?.flown(times)
    }

    /// Only mobile hosts carry clients.
    async fn clients(&self) -> Vec<ClientInfo> {
        match self.role {
            Role::Mobile => self.clients.lock().await.look(self.overlay.as_ref()).await,
            Role::Edge | Role::Controller => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mose_coat::MemoryOverlay;

    use super::*;

    #[tokio::test]
    async fn a_host_stands_where_the_operator_says_and_one_that_nobody_says_anything_of_is_nowhere() {
        let bare = MeasuredSurroundings::new(Role::Edge, Arc::new(MemoryOverlay::default()));
        assert_eq!((bare.position(), bare.radio(), bare.flight()), (None, None, None));
        // It has nothing to attend to.
        bare.attend().await;
        let standing = bare.standing(Some(Place { east: -60.0, north: 12.5 }), Some(Cell(2)));
        let position = Position { x: Metres(-60.0), y: Metres(12.5), ..Position::default() };
        assert_eq!(standing.position(), Some(position));
        assert_eq!(standing.radio(), Some(Radio { cell: Cell(2), signal_percent: None }));
    }

    #[tokio::test]
    async fn a_vehicle_that_has_told_nothing_yet_is_nowhere() {
        let any = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        let vehicle = Vehicle::listen("uav".parse().unwrap(), any, Place::default()).await.unwrap();
        let surroundings = MeasuredSurroundings::new(Role::Mobile, Arc::new(MemoryOverlay::default()));
        let carried = surroundings.standing(Some(Place::default()), Some(Cell(1))).carried(vehicle);
        assert_eq!((carried.position(), carried.radio(), carried.flight()), (None, None, None));
    }
}
