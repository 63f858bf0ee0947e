//! What is known of the hosts, as far as it matters for where a service should be.

use std::collections::{BTreeMap, VecDeque};

use mose_protocol::agent::{Position, Radio, Role, ServiceInfo, Telemetry};
use mose_protocol::{HostName, ServiceName, Timestamp};

use super::foresight::Motion;

/// What is older is not acted on: three periods in which an agent tells of itself, and a little more.
const STALE_MS: f64 = 3500.0;
/// From how far back a vehicle's turn is seen, and in how many steps at most.
const TURN_S: f64 = 4.0;
const HEADINGS: usize = 32;
/// What a vehicle's heading must have been seen for before it turns, in seconds.
const LEAST_S: f64 = 0.3;
/// No vehicle turns faster, in radians per second: what looks like it is noise.
const FASTEST_TURN: f64 = 2.0;
/// The most hosts that are kept: what is on the wire is not trusted to be few.
const MOST_HOSTS: usize = 2000;

/// Figures of a host, and when they came.
#[derive(Debug, Clone)]
struct Told {
    telemetry: Telemetry,
    heard: Timestamp,
}

/// A host.
#[derive(Debug, Clone, Default)]
struct Host {
    role: Option<Role>,
    gone: bool,
    told: Option<Told>,
    /// Seconds on the host's own clock, and headings in radians that do not jump at north.
    headings: VecDeque<(f64, f64)>,
}

/// What is known of all hosts.
#[derive(Debug, Clone, Default)]
pub(super) struct Sight {
    hosts: BTreeMap<HostName, Host>,
}

/// Where an instance of a service is told of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instance<'a> {
    pub(super) host: &'a HostName,
    pub(super) info: &'a ServiceInfo,
    pub(super) heard: Timestamp,
}

impl Sight {
    fn entry(&mut self, host: &HostName) -> Option<&mut Host> {
        if self.hosts.len() >= MOST_HOSTS && !self.hosts.contains_key(host) {
            return None;
        }
        Some(self.hosts.entry(host.clone()).or_default())
    }

    /// An agent is there.
    pub(super) fn seen(&mut self, host: &HostName) {
        if let Some(known) = self.entry(host) {
            known.gone = false;
        }
    }

    /// An agent is there no more.
    pub(super) fn gone(&mut self, host: &HostName) {
        if let Some(known) = self.hosts.get_mut(host) {
            known.gone = true;
        }
    }

    /// What a host is for.
    pub(super) fn introduced(&mut self, host: &HostName, role: Role) {
        if let Some(known) = self.entry(host) {
            known.role = Some(role);
        }
    }

    /// A host's newest figures, which came at `now`.
    pub(super) fn take(&mut self, telemetry: Telemetry, now: Timestamp) {
        let Some(host) = self.entry(&telemetry.host) else { return };
        // An older one may come later; a clock that was set back is believed after a while.
        let late = |told: &Told| told.telemetry.at > telemetry.at && now.since(told.heard).0 < STALE_MS;
        if host.told.as_ref().is_some_and(late) {
            return;
        }
        if let Some(place) = telemetry.position.filter(|place| place.speed.0 > 0.0) {
            let (at, heading) = (telemetry.at.0 as f64 / 1e6, place.heading.0.to_radians());
            if host.headings.back().is_some_and(|(last, _)| at <= *last) {
                host.headings.clear();
            }
            let near = host.headings.back().map_or(heading, |(_, last)| {
                last + (heading - last + std::f64::consts::PI).rem_euclid(std::f64::consts::TAU)
                    - std::f64::consts::PI
            });
            host.headings.push_back((at, near));
            while host.headings.len() > HEADINGS
                || host.headings.front().is_some_and(|(first, _)| at - first > TURN_S)
            {
                host.headings.pop_front();
            }
        }
        host.gone = false;
        host.told = Some(Told { telemetry, heard: now });
    }

    /// A host's figures, if they can be acted on, or why not.
    pub(super) fn fresh(&self, host: &HostName, now: Timestamp) -> Result<&Telemetry, String> {
        let known = self.hosts.get(host).ok_or_else(|| format!("{host} is not known yet"))?;
        if known.gone {
            return Err(format!("{host} is disconnected"));
        }
        match &known.told {
            None => Err(format!("{host} has told nothing yet")),
            Some(told) if now.since(told.heard).0 > STALE_MS => {
                Err(format!("{host} has told nothing for some seconds"))
            }
            Some(told) => Ok(&told.telemetry),
        }
    }

    /// The hosts of a kind.
    pub(super) fn of_role(&self, role: Role) -> impl Iterator<Item = &HostName> {
        self.hosts.iter().filter(move |(_, known)| known.role == Some(role)).map(|(host, _)| host)
    }

    /// Whether anything was ever told of a host.
    pub(super) fn knows(&self, host: &HostName) -> bool {
        self.hosts.contains_key(host)
    }

    /// Where a host is and how it moves, and when that was so on this clock.
    pub(super) fn motion(&self, host: &HostName) -> Option<(Motion, Timestamp)> {
        let known = self.hosts.get(host)?;
        let told = known.told.as_ref()?;
        let place = told.telemetry.position?;
        Some((Motion { place, turn: turn(&known.headings) }, told.heard))
    }

    /// A host's part in the radio network, as it told last.
    pub(super) fn radio(&self, host: &HostName) -> Option<Radio> {
        self.hosts.get(host)?.told.as_ref()?.telemetry.radio
    }

    /// Where a host is, as it told last.
    pub(super) fn place(&self, host: &HostName) -> Option<Position> {
        self.hosts.get(host)?.told.as_ref()?.telemetry.position
    }

    /// What was told of a service since, by hosts that are there; the newest first.
    pub(super) fn instances(
        &self,
        service: &ServiceName,
        since: Timestamp,
        now: Timestamp,
    ) -> Vec<Instance<'_>> {
        let mut found: Vec<Instance<'_>> = self
            .hosts
            .iter()
            .filter(|(host, _)| self.fresh(host, now).is_ok())
            .filter_map(|(host, known)| {
                let told = known.told.as_ref().filter(|told| told.heard > since)?;
                let info = told.telemetry.services.iter().find(|info| &info.name == service)?;
                Some(Instance { host, info, heard: told.heard })
            })
            .collect();
        found.sort_by_key(|instance| std::cmp::Reverse(instance.heard));
        found
    }

    /// The host that told last of a service, and does not any more.
    pub(super) fn last_with(&self, service: &ServiceName) -> Option<&HostName> {
        let had = |told: &Told| told.telemetry.services.iter().any(|info| &info.name == service);
        let found = self.hosts.iter().filter_map(|(host, known)| {
            known.told.as_ref().filter(|told| had(told)).map(|told| (told.heard, host))
        });
        found.max().map(|(_, host)| host)
    }
}

/// How fast a heading turns, clockwise, in radians per second: the slope through what was seen of it. 0 where that is not enough.
fn turn(headings: &VecDeque<(f64, f64)>) -> f64 {
    let (Some((first, _)), Some((last, _))) = (headings.front(), headings.back()) else { return 0.0 };
    if last - first < LEAST_S {
        return 0.0;
    }
    let count = headings.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| headings.iter().map(of).sum::<f64>() / count;
    let (mean_at, mean_heading) = (mean(|one| one.0), mean(|one| one.1));
    let (mut up, mut down) = (0.0, 0.0);
    for (at, heading) in headings {
        up += (at - mean_at) * (heading - mean_heading);
        down += (at - mean_at).powi(2);
    }
    let slope = up / down;
    if slope.is_finite() && slope.abs() <= FASTEST_TURN { slope } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use mose_pam::{Metres, MetresPerSec};
    use mose_protocol::agent::Heading;

    use super::*;

    #[test]
    fn a_turn_is_seen_across_north_and_only_with_enough_to_see() {
        let mut sight = Sight::default();
        let host: HostName = "uav".parse().unwrap();
        for half in 0..6_u32 {
            let heading = (350.0 + 5.0 * f64::from(half)).rem_euclid(360.0);
            let at = Timestamp(1_000_000 + u64::from(half) * 500_000);
            let place = Position {
                x: Metres(0.0),
                y: Metres(0.0),
                heading: Heading(heading),
                speed: MetresPerSec(5.0),
            };
            let telemetry: Telemetry = serde_json::from_value(serde_json::json!({
                "host": "uav", "at": at.0, "services": [], "trouble": null, "position": place
            }))
            .unwrap();
            sight.take(telemetry, at);
            let turn = sight.motion(&host).unwrap().0.turn.to_degrees();
            let seen = if half == 0 { 0.0 } else { 10.0 };
            assert!((turn - seen).abs() < 1e-6, "{half}: {turn} °/s");
        }
    }
}
