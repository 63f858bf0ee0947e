//! Who plays: the service, the host that it is at, the hosts between which it moves, the vehicle with its client.

use mose_pam::Millis;
use mose_protocol::agent::{ClientInfo, Position, Role as HostRole, ServiceState};
use mose_protocol::record::Outcome;
use mose_protocol::{HostName, ServiceName};

use crate::state::{Host, Track};
use crate::view::Scene;

/// How much later than a migration's end hosts tell of what runs there.
const LATE: Millis = Millis(2000.0);

/// Who plays.
pub(super) struct Cast<'a> {
    pub(super) service: Option<&'a ServiceName>,
    /// The edge hosts, by name.
    pub(super) edges: Vec<&'a Host>,
    /// The vehicle: the host that the service follows, else one with a client of it, else the first mobile host.
    pub(super) mobile: Option<&'a Host>,
    /// Where the service is, as its host tells.
    pub(super) home: Option<&'a HostName>,
    /// Whether it runs there.
    pub(super) runs: bool,
    /// Its migration under way, unless that is a rehearsal.
    pub(super) moving: Option<&'a Track>,
    /// Its rehearsal under way.
    pub(super) rehearsal: Option<&'a Track>,
}

impl<'a> Cast<'a> {
    pub(super) fn of(scene: &'a Scene<'_>) -> Self {
        let (state, data) = (scene.state, scene.state.shown());
        let service = state.followed();
        let located = service.and_then(|service| state.located(service));
        let with_role = |role| data.fleet.hosts().filter(move |host| host.role() == Some(role));
        let followed = data.following().and_then(|following| data.fleet.host(&following.mobile));
        let client = || client(scene).map(|(host, _)| host);
        let mobile = followed.or_else(client).or_else(|| with_role(HostRole::Mobile).next());
        let track = service.and_then(|service| data.migrations.current(service));
        // What the hosts told last may be older than the end of the migration.
        let newest = service.and_then(|service| data.migrations.newest_of(service));
        let moved = |track: &&Track| track.outcome() == Some(Outcome::Done) && !track.is_rehearsal();
        let just = |track: &&Track| data.now.since(track.last_heard) <= LATE;
        let arrived = newest.filter(moved).filter(just).and_then(|track| track.to());
        Self {
            service,
            edges: with_role(HostRole::Edge).collect(),
            mobile,
            home: arrived.or(located.map(|located| &located.host.name)),
            runs: arrived.is_some() || located.is_some_and(|here| here.info.state == ServiceState::Running),
            moving: track.filter(|track| !track.is_rehearsal()),
            rehearsal: track.filter(|track| track.is_rehearsal()),
        }
    }

    /// The edge host in whose cell the vehicle is, and whether the radio says so; else the nearest one.
    pub(super) fn serving(&self) -> Option<(&'a Host, bool)> {
        let told = self.mobile?.telemetry.as_ref()?;
        let stands_at = |host: &&&Host| {
            let radio = host.telemetry.as_ref().and_then(|telemetry| telemetry.radio);
            told.radio.is_some() && radio.map(|radio| radio.cell) == told.radio.map(|radio| radio.cell)
        };
        if let Some(host) = self.edges.iter().find(stands_at) {
            return Some((host, true));
        }
        let here = position(self.mobile?)?;
        let far = |host: &&&Host| position(host).map(|place| place.distance(&here).0);
        let known = self.edges.iter().filter(|host| far(host).is_some());
        let nearest =
            known.min_by(|one, other| far(one).partial_cmp(&far(other)).unwrap_or(std::cmp::Ordering::Equal));
        nearest.map(|host| (*host, false))
    }

    /// The two edge hosts that a handover is between: where the service is and whereto it goes, else where it is and the nearest
    /// other one.
    pub(super) fn pair(&self, scene: &'a Scene<'_>) -> Option<(&'a Host, &'a Host)> {
        let named = |name: &HostName| self.edges.iter().find(|host| &host.name == name).copied();
        let next = scene.state.shown().following().and_then(|following| following.next.as_ref());
        let moving = self.moving.and_then(|track| Some((named(track.from()?)?, named(track.to()?)?)));
        let foreseen = || next.and_then(|next| Some((named(&next.from)?, named(&next.to)?)));
        let usual = || {
            let home = self.home.and_then(named).or_else(|| self.edges.first().copied())?;
            let here = position(self.mobile.unwrap_or(home)).or_else(|| position(home))?;
            let others = self.edges.iter().filter(|host| host.name != home.name);
            let far = |host: &&&Host| position(host).map_or(f64::INFINITY, |place| place.distance(&here).0);
            let other = others.min_by(|one, other| far(one).total_cmp(&far(other)))?;
            Some((home, *other))
        };
        moving.or_else(foreseen).or_else(usual)
    }
}

/// Where a host says that it is.
pub(super) fn position(host: &Host) -> Option<Position> {
    let place = host.telemetry.as_ref()?.position?;
    (place.x.0.is_finite() && place.y.0.is_finite()).then_some(place)
}

/// The client of the service that has waited the longest, else the first that is known, and its host.
pub(super) fn client<'a>(scene: &'a Scene<'_>) -> Option<(&'a Host, &'a ClientInfo)> {
    let (state, data) = (scene.state, scene.state.shown());
    let address = state.located(state.followed()?)?.info.address?.addr();
    let waited = |client: &ClientInfo| client.silent.map_or(-1.0, |silent| silent.0);
    let mut chosen: Option<(&Host, &ClientInfo)> = None;
    for (host, client) in data.fleet.clients_of(address, data.now) {
        if chosen.is_none_or(|(_, other)| waited(client) > waited(other)) {
            chosen = Some((host, client));
        }
    }
    chosen
}
