//! Where each host stands: edge hosts in a row, mobile hosts above them, as many as there is room for.

use mose_protocol::HostName;
use mose_protocol::agent::{Role as HostRole, ServiceInfo};
use ratatui::layout::Rect;

use crate::state::Host;
use crate::view::{Scene, words};

/// The columns between the middles of two edge hosts, at least.
const PITCH: u16 = 18;
/// Columns between two boxes, for a link and its rate, where there is room.
const GAP: u16 = 12;
/// The most columns between two boxes.
const FURTHEST: u16 = 40;
/// Rows from which on hosts are boxes with frames.
const FRAMED: u16 = 9;
/// Rows from which on mobile hosts are too.
const TALL: u16 = 13;

/// A host and its box.
#[derive(Debug, Clone, Copy)]
pub(super) struct Station<'a> {
    pub(super) host: &'a Host,
    pub(super) area: Rect,
    pub(super) framed: bool,
}

impl Station<'_> {
    /// Its middle column.
    pub(super) fn middle(&self) -> u16 {
        self.area.x + self.area.width / 2
    }
}

/// All of them, edge hosts from left to right first.
#[derive(Debug)]
pub(super) struct Board<'a> {
    pub(super) area: Rect,
    pub(super) edges: Vec<Station<'a>>,
    pub(super) mobiles: Vec<Station<'a>>,
    /// How many hosts there is no room for.
    pub(super) left_out: usize,
}

impl Board<'_> {
    /// The place of an edge host in the row.
    pub(super) fn place(&self, name: &HostName) -> Option<usize> {
        self.edges.iter().position(|station| &station.host.name == name)
    }
}

/// Where a host says that it is, in metres; `None` where it does not say.
fn position(host: &Host) -> Option<(f64, f64)> {
    let place = host.telemetry.as_ref()?.position?;
    let (x, y) = (place.x.0, place.y.0);
    (x.is_finite() && y.is_finite()).then_some((x, y))
}

/// A host's services, the selected one first, so that it is in sight.
pub(super) fn services<'a>(scene: &Scene<'_>, host: &'a Host) -> Vec<&'a ServiceInfo> {
    let told = host.telemetry.as_ref().map_or(&[][..], |telemetry| &telemetry.services);
    let mut services: Vec<&ServiceInfo> = told.iter().collect();
    services.sort_by_key(|info| scene.state.ui.service.as_ref() != Some(&info.name));
    services
}

pub(super) fn board<'a>(scene: &'a Scene<'_>, area: Rect) -> Board<'a> {
    let (edges, edges_out) = chosen(scene, HostRole::Edge, area.width);
    let (mobiles, mobiles_out) = chosen(scene, HostRole::Mobile, area.width);
    let framed = area.height >= FRAMED;
    let frame = if framed { 2 } else { 0 };
    let above = match (mobiles.is_empty(), area.height) {
        (true, _) => 0,
        (_, TALL..) => 5,
        _ => 2,
    };
    let room = area.height.saturating_sub(above).max(1);
    let most = edges.iter().map(|host| services(scene, host).len()).max().unwrap_or(0);
    let rows = u16::try_from(most.max(1)).unwrap_or(u16::MAX).min(room.saturating_sub(frame).clamp(1, 8));
    let height = match framed {
        true => rows + frame,
        false => rows + 1,
    };
    let height = height.min(area.height);
    // Lower than the middle, so that the way up is long enough to be seen.
    let spare = room.saturating_sub(height);
    let y = area.bottom().saturating_sub(height + spare / 4).max(area.y);
    let edges = spread(scene, &edges, Rect { y, height, ..area }, framed);
    let mobiles = aloft(scene, mobiles, &edges, Rect { height: y.saturating_sub(area.y), ..area });
    Board { area, edges, mobiles, left_out: edges_out + mobiles_out }
}

/// The hosts of a role that there is room for. The two between which the selected service would move stand side by side, in an
/// order that does not change as it moves.
fn chosen<'a>(scene: &'a Scene<'_>, role: HostRole, width: u16) -> (Vec<&'a Host>, usize) {
    let state = scene.state;
    let own = state.service().map(|located| &located.host.name);
    let to = state.destination();
    let mut hosts: Vec<&Host> =
        state.shown().fleet.hosts().filter(|host| host.role() == Some(role)).collect();
    hosts.sort_by_key(|host| Some(&host.name) != own && Some(&host.name) != to);
    let room = usize::from(width / PITCH).max(1);
    let left_out = hosts.len().saturating_sub(room);
    hosts.truncate(room);
    (hosts, left_out)
}

/// In a row, as far from each other as there is room for: links need it.
fn spread<'a>(scene: &Scene<'_>, hosts: &[&'a Host], row: Rect, framed: bool) -> Vec<Station<'a>> {
    let count = u16::try_from(hosts.len()).unwrap_or(1).max(1);
    let widest = |gap: u16| row.width.saturating_sub(gap * (count - 1)) / count;
    let widest = if widest(GAP) >= 12 { widest(GAP) } else { widest(4) }.max(1);
    let widths: Vec<u16> = hosts.iter().map(|host| natural(scene, host).min(widest)).collect();
    let free = row.width.saturating_sub(widths.iter().sum());
    let gap = (free / (count + 1).max(2)).max(free.saturating_sub(4) / count.max(2)).min(FURTHEST);
    let gap = if count > 1 { gap.max(free.min(GAP * (count - 1)) / (count - 1)) } else { 0 };
    let mut x = row.x + free.saturating_sub(gap * (count - 1)) / 2;
    let mut stations = Vec::with_capacity(hosts.len());
    for (&host, width) in hosts.iter().zip(widths) {
        stations.push(Station { host, area: Rect { x, width, ..row }, framed });
        x += width + gap;
    }
    stations
}

/// The columns that a host's box would like to have.
fn natural(scene: &Scene<'_>, host: &Host) -> u16 {
    let presence = host.presence(scene.state.shown().now);
    let word = if presence.is_there() && presence != crate::state::Presence::Stale {
        0
    } else {
        presence.name().len() + 1
    };
    let title = host.name.as_str().len() + word + 6;
    let services = services(scene, host).iter().map(|info| words::width(info.name.as_str()) + 6).max();
    u16::try_from(title.max(services.unwrap_or(0)).max(15)).unwrap_or(u16::MAX)
}

/// Above the row: where they say that they are, between the edge hosts that say so too; else side by side.
fn aloft<'a>(scene: &Scene<'_>, hosts: Vec<&'a Host>, edges: &[Station<'a>], sky: Rect) -> Vec<Station<'a>> {
    let framed = sky.height >= 6;
    let height = (if framed { 3 } else { 1 }).min(sky.height);
    let count = u16::try_from(hosts.len()).unwrap_or(1).max(1);
    let pitch = (sky.width / count).max(1);
    let ground = ground(edges);
    hosts
        .into_iter()
        .zip(0..)
        .map(|(host, place)| {
            let presence = host.presence(scene.state.shown().now);
            let word = if presence == crate::state::Presence::Live { 0 } else { presence.name().len() + 1 };
            let natural = host.name.as_str().len() + word + if framed { 6 } else { 2 };
            let width = u16::try_from(natural).unwrap_or(u16::MAX).min(pitch).min(sky.width);
            let usual = (f64::from(sky.x + pitch * place + pitch / 2), 0.75);
            let (x, up) = ground.zip(position(host)).map_or(usual, |(ground, at)| ground.seen(at));
            let x = (x.round() as u16).saturating_sub(width / 2);
            let x = x.clamp(sky.x, sky.right().saturating_sub(width).max(sky.x));
            let fall = (1.0 - up) * f64::from(sky.height.saturating_sub(height + 2));
            let y = sky.y + fall.round() as u16;
            Station { host, area: Rect { x, y, width, height }, framed }
        })
        .collect()
}

/// The plane between the first and the last edge host that say where they are.
#[derive(Debug, Clone, Copy)]
struct Ground {
    /// Metres, and columns.
    from: (f64, f64),
    to: (f64, f64),
    /// The height of the middle between them, in metres.
    level: f64,
}

fn ground(edges: &[Station<'_>]) -> Option<Ground> {
    let told = || edges.iter().filter_map(|edge| Some((edge, position(edge.host)?)));
    let by_x = |a: &(&Station<'_>, (f64, f64)), b: &(&Station<'_>, (f64, f64))| a.1.0.total_cmp(&b.1.0);
    let (first, last) = (told().min_by(by_x)?, told().max_by(by_x)?);
    let column = |station: &Station<'_>| f64::from(station.middle());
    let ground = Ground {
        from: (first.1.0, column(first.0)),
        to: (last.1.0, column(last.0)),
        level: f64::midpoint(first.1.1, last.1.1),
    };
    (ground.to.0 - ground.from.0 > 1e-6).then_some(ground)
}

impl Ground {
    /// The column of a place, and how high in the sky it is, from 0 to 1.
    fn seen(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let span = self.to.0 - self.from.0;
        let share = ((x - self.from.0) / span).clamp(-0.5, 1.5);
        let column = self.from.1 + share * (self.to.1 - self.from.1);
        (column.max(0.0), (0.5 + (y - self.level) / span).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_between_the_stations_is_seen_between_them_and_higher_up_is_higher() {
        let ground = Ground { from: (0.0, 10.0), to: (100.0, 50.0), level: 0.0 };
        assert_eq!(ground.seen((50.0, 0.0)), (30.0, 0.5));
        assert_eq!(ground.seen((0.0, 40.0)), (10.0, 0.9));
        assert_eq!(ground.seen((-1e9, -1e9)), (0.0, 0.0));
    }
}
