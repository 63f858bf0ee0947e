//! The plane that the hosts are on, seen from above: metres to dots, the same in both directions.

use mose_protocol::HostName;
use ratatui::layout::Rect;

use super::cast::{Cast, position};
use super::raster::Raster;
use crate::state::Host;
use crate::state::trail::Point;

/// What is left free around what is shown, in dots.
const MARGIN: f64 = 2.0;
/// How far apart hosts are drawn that do not say where they are, in metres that nobody sees.
const ROW: f64 = 200.0;

/// A host, and where it stands, in metres.
type Standing = (HostName, (f64, f64));

/// From metres to dots.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    /// The middle of what is shown, in metres.
    middle: (f64, f64),
    /// The middle of where it is shown, in dots.
    centre: (f64, f64),
    /// Dots for a metre.
    pub(super) scale: f64,
    /// The radius of a cell, in metres: cells of neighbours touch.
    pub(super) cell: f64,
    /// Whether the places are those that the hosts tell: where no edge host tells its own, they stand in a row.
    pub(super) told: bool,
    /// Where each host stands, in metres.
    places: Vec<Standing>,
    area: Rect,
}

/// Where a host says that it is, in metres.
fn metres(host: &Host) -> Option<(f64, f64)> {
    position(host).map(|place| (place.x.0, place.y.0))
}

/// The places of the edge hosts and of the vehicle: as they tell them, else in a row with the vehicle above.
fn places(cast: &Cast<'_>) -> (bool, Vec<Standing>) {
    let told = |host: &&Host| Some((host.name.clone(), metres(host)?));
    let known: Vec<_> = cast.edges.iter().filter_map(told).collect();
    if !known.is_empty() {
        let mobile = cast.mobile.as_ref().and_then(told);
        return (true, known.into_iter().chain(mobile).collect());
    }
    let row = (0..).map(|place| (f64::from(place) * ROW, 0.0));
    let edges: Vec<_> = cast.edges.iter().map(|host| host.name.clone()).zip(row).collect();
    let middle = (edges.len().saturating_sub(1) as f64 * ROW / 2.0, ROW * 0.4);
    let mobile = cast.mobile.map(|host| (host.name.clone(), middle));
    (false, edges.into_iter().chain(mobile).collect())
}

impl Ground {
    /// The ground that the hosts and their cells are on; `None` where there is no edge host.
    pub(super) fn of(cast: &Cast<'_>, lap: &[Point], area: Rect) -> Option<Self> {
        let (told, places) = places(cast);
        let of_edge =
            |(name, place): &Standing| cast.edges.iter().any(|host| host.name == *name).then_some(*place);
        let edges: Vec<(f64, f64)> = places.iter().filter_map(of_edge).collect();
        let first = *edges.first()?;
        let lap = if told { lap } else { &[] };
        let stands = places.iter().map(|(_, place)| *place);
        let flown: Vec<(f64, f64)> = lap.iter().map(|point| (point.x, point.y)).chain(stands).collect();
        let apart = |one: &(f64, f64), other: &(f64, f64)| (one.0 - other.0).hypot(one.1 - other.1);
        let mut nearest = f64::INFINITY;
        for (place, one) in edges.iter().enumerate() {
            let others = edges[place + 1..].iter().map(|other| apart(one, other));
            nearest = others.filter(|far| *far > 1e-3).fold(nearest, f64::min);
        }
        let alone = || flown.iter().map(|place| apart(&first, place)).fold(20.0, f64::max) * 2.0;
        let cell = if nearest.is_finite() { nearest } else { alone() } / 2.0;
        let mut bounds = (first, first);
        let cells = edges.iter().flat_map(|(x, y)| [(x - cell, y - cell), (x + cell, y + cell)]);
        for (x, y) in cells.chain(flown.iter().copied()) {
            bounds.0 = (bounds.0.0.min(x), bounds.0.1.min(y));
            bounds.1 = (bounds.1.0.max(x), bounds.1.1.max(y));
        }
        let (across, down) = Raster::size(area);
        let span = |from: f64, to: f64| (to - from).max(1e-3);
        let scale = ((across - 2.0 * MARGIN).max(1.0) / span(bounds.0.0, bounds.1.0))
            .min((down - 2.0 * MARGIN).max(1.0) / span(bounds.0.1, bounds.1.1));
        let middle = (f64::midpoint(bounds.0.0, bounds.1.0), f64::midpoint(bounds.0.1, bounds.1.1));
        Some(Self { middle, centre: (across / 2.0, down / 2.0), scale, cell, told, places, area })
    }

    /// The dot of a place; north is up.
    pub(super) fn dot(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (dx, dy) = ((x - self.middle.0) * self.scale, (y - self.middle.1) * self.scale);
        (self.centre.0 + dx, self.centre.1 - dy)
    }

    /// The screen's cell of a dot, if it is in sight.
    pub(super) fn seen(&self, (x, y): (f64, f64)) -> Option<(u16, u16)> {
        let (across, down) = Raster::size(self.area);
        let inside = x >= 0.0 && y >= 0.0 && x < across && y < down;
        inside.then(|| (self.area.x + (x / 2.0) as u16, self.area.y + (y / 4.0) as u16))
    }

    /// Where a host stands, in metres.
    pub(super) fn place(&self, name: &HostName) -> Option<(f64, f64)> {
        self.places.iter().find(|(known, _)| known == name).map(|(_, place)| *place)
    }

    /// Where a host stands, in dots.
    pub(super) fn host(&self, name: &HostName) -> Option<(f64, f64)> {
        self.place(name).map(|place| self.dot(place))
    }

    /// A round length in metres that takes up at most so many columns.
    pub(super) fn measure(&self, columns: u16) -> Option<(f64, u16)> {
        let most = f64::from(columns) * 2.0 / self.scale;
        let power = 10f64.powf(most.max(1e-6).log10().floor());
        let metres = [5.0, 2.0, 1.0].map(|n| n * power).into_iter().find(|metres| *metres <= most)?;
        let wide = (metres * self.scale / 2.0).round() as u16;
        (metres >= 1.0 && wide >= 2).then_some((metres, wide))
    }
}
