//! The radio and the flight of simulated hosts: which station's cell serves a host, how long a round trip over the radio takes, and
//! how far a vehicle is off its course. All of it follows from where the hosts are and from when the service was silent; nothing is
//! measured.

use std::time::{Duration, Instant};

use mose_pam::{Metres, Millis};
use mose_protocol::agent::{Cell, Position, Radio};
use mose_protocol::flight::{FlightError, FlightReport, FlightTimes};
use mose_protocol::{HostName, Timestamp};

use crate::geography::Motion;
use crate::world::{Outage, World};

/// The cell that serves a host is left for one whose station is nearer than that share of the distance.
const NEARER: f64 = 0.95;
/// Where the signal is half of what it is at the station.
const HALF: Metres = Metres(120.0);
/// Where a round trip over the radio takes twice as long as the scenario says of the link.
const TWICE: Metres = Metres(100.0);
/// How far a vehicle is off its course when nothing disturbs it: a little, and not always the same.
const USUAL: (f64, f64) = (0.04, 0.03);
/// In that time a vehicle makes good two thirds of its deviation.
const BACK: Duration = Duration::from_secs(2);
/// How often a report looks at the flight.
const LOOK: Duration = Duration::from_millis(50);

/// How long a round trip takes at that distance from the station: longer with the square of it.
pub(crate) fn trip(link: Millis, distance: Metres) -> Millis {
    Millis(link.0 * (1.0 + (distance.0 / TWICE.0).powi(2)))
}

/// How well a station is heard at that distance.
fn signal_percent(distance: Metres) -> u8 {
    (100.0 / (1.0 + (distance.0 / HALF.0).powi(2))).round() as u8
}

/// How far a vehicle of that speed is off its course at an instant. Without its service it flies on as it did, away from where it
/// should be; then it comes back.
fn deviation(outages: &[Outage], speed: f64, since: Instant, at: Instant) -> Metres {
    let waves = at.saturating_duration_since(since).as_secs_f64();
    let usual = USUAL.0 + USUAL.1 * (waves * 1.7).sin().abs();
    let of = |outage: &Outage| {
        let end = outage.up.map_or(at, |up| up.min(at));
        let silent = end.saturating_duration_since(outage.down).as_secs_f64();
        let back = at.saturating_duration_since(end).as_secs_f64() / BACK.as_secs_f64();
        speed * silent * (-back).exp()
    };
    Metres(outages.iter().map(of).fold(usual, f64::max))
}

impl World {
    /// Where a host is at an instant.
    pub(crate) fn position(&self, host: &HostName, at: Instant) -> Option<Position> {
        Some(self.spec.motions.get(host)?.at(at.saturating_duration_since(self.origin.0)))
    }

    /// The stations, each with its cell: the hosts that stand still and have no client, by name.
    fn stations(&self) -> Vec<(&HostName, Cell)> {
        let state = self.state();
        let has_client = |host: &HostName| {
            state.services.values().any(|service| service.spec.clients.iter().any(|c| c.host == *host))
        };
        let stands = self.spec.motions.iter().filter(|(_, motion)| matches!(motion, Motion::Still { .. }));
        stands.map(|(host, _)| host).filter(|host| !has_client(host)).zip((1..).map(Cell)).collect()
    }

    /// A host's part in the radio network; `served` is the station that served it until now, and becomes the one that does.
    pub(crate) fn radio(&self, host: &HostName, served: &mut Option<HostName>, at: Instant) -> Option<Radio> {
        let stations = self.stations();
        if let Some((_, cell)) = stations.iter().find(|(station, _)| *station == host) {
            return Some(Radio { cell: *cell, signal_percent: None });
        }
        let here = self.position(host, at)?;
        let far = |station: &HostName| Some(self.position(station, at)?.distance(&here));
        let heard: Vec<(&HostName, Cell, Metres)> =
            stations.into_iter().filter_map(|(station, cell)| Some((station, cell, far(station)?))).collect();
        let nearest = heard.iter().min_by(|one, other| one.2.0.total_cmp(&other.2.0))?;
        let current = heard.iter().find(|(station, ..)| served.as_ref() == Some(*station));
        let (station, cell, distance) = match current {
            Some(current) if nearest.2.0 >= current.2.0 * NEARER => current,
            _ => nearest,
        };
        *served = Some((*station).clone());
        Some(Radio { cell: *cell, signal_percent: Some(signal_percent(*distance)) })
    }

    /// When the services that have a client on a host were silent.
    fn silences(&self, host: &HostName) -> Vec<Outage> {
        let state = self.state();
        let mine = state.services.values().filter(|s| s.spec.clients.iter().any(|c| c.host == *host));
        mine.flat_map(|service| service.outages.iter().copied()).collect()
    }

    /// How a vehicle flies at an instant; `None` of a host that does not move.
    pub(crate) fn flight(&self, host: &HostName, at: Instant) -> Option<FlightError> {
        self.flying(host, &self.silences(host), at)
    }

    fn flying(&self, host: &HostName, silences: &[Outage], at: Instant) -> Option<FlightError> {
        let Motion::Circle { radius, speed, .. } = *self.spec.motions.get(host)? else { return None };
        let deviation_m = deviation(silences, speed.0, self.origin.0, at);
        // Straight on, where it should have turned.
        let cross_track_m = Metres((deviation_m.0.powi(2) / (2.0 * radius.0.max(1.0))).min(deviation_m.0));
        Some(FlightError { deviation_m, cross_track_m: Some(cross_track_m) })
    }

    /// How a vehicle flew at some times, and in as long a time before them.
    pub(crate) fn flown(&self, host: &HostName, times: &FlightTimes) -> Option<FlightReport> {
        let silences = self.silences(host);
        let worst = |from: Timestamp, until: Timestamp| {
            let looks = (until.since(from).0.max(0.0) / (LOOK.as_secs_f64() * 1e3)).min(1e4) as u32;
            let from = self.instant(from)?;
            let told = (0..=looks).filter_map(|look| self.flying(host, &silences, from + LOOK * look));
            told.reduce(FlightError::worse)
        };
        let watched_ms = Millis(times.until.since(times.frozen).0.max(0.0));
        let before = Timestamp(times.begun.0.saturating_sub((watched_ms.0 * 1e3) as u64));
        Some(FlightReport {
            host: host.clone(),
            worst: worst(times.frozen, times.until)?,
            undisturbed: worst(before, times.begun),
            watched_ms,
        })
    }

    /// The instant of a time of the host's clock; `None` before the world began.
    fn instant(&self, at: Timestamp) -> Option<Instant> {
        let since = std::time::SystemTime::from(at).duration_since(self.origin.1).ok()?;
        self.origin.0.checked_add(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vehicle_is_off_its_course_by_its_speed_times_the_silence_and_comes_back() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let outage = Outage { down: at(1000), up: Some(at(1200)) };
        let off = |outages: &[Outage], ms| deviation(outages, 10.0, begun, at(ms)).0;
        assert!((0..100).all(|n| off(&[], n * 100) < 0.1), "undisturbed");
        assert!(off(&[outage], 900) < 0.1, "not before it");
        assert!((off(&[outage], 1100) - 1.0).abs() < 1e-9);
        assert!((off(&[outage], 1200) - 2.0).abs() < 1e-9);
        assert!((0.3..1.0).contains(&off(&[outage], 3200)));
        assert!(off(&[outage], 20_000) < 0.1);
        let open = Outage { up: None, ..outage };
        assert!((off(&[open], 4000) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn the_round_trip_grows_with_the_distance() {
        let trip = |metres| trip(Millis(3.0), Metres(metres)).0;
        assert_eq!((trip(0.0), trip(100.0)), (3.0, 6.0));
        assert!(trip(220.0) > trip(156.0));
        assert_eq!((signal_percent(Metres(0.0)), signal_percent(HALF)), (100, 50));
    }
}
