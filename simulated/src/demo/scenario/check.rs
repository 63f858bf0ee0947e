//! What a scenario must fulfil: names that exist, figures that are possible, parts that fit together.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use mose_orchestrator::by_hand::ByHand;
use mose_pam::{BitsPerSec, Bytes, Calibration, Metres, MetresPerSec, Millis, PagesPerSec, Targets};
use mose_protocol::agent::{Heading, MessagesPerSec, Role};
use mose_protocol::{HostName, ServiceName, Timestamp};

use super::file::{
    ByHandTable, CircleTable, ClientTable, CrossTable, FaultTable, File, FollowTable, HostTable, Signed,
    Step, StillTable, Text, WritingTable,
};
use super::{Follow, Host, Scenario};
use crate::{Bursts, Client, CrossTraffic, Fault, FaultEffect, Motion, ServiceSpec, SimulatedLink, Writing};

/// What one process can simulate: hosts, services, a service's state and all of them.
const MOST_HOSTS: usize = 16;
const MOST_SERVICES: usize = 64;
const LARGEST_STATE: Bytes = Bytes(1 << 30);
const LARGEST_STATES: Bytes = Bytes(4 << 30);
/// The least that a link must have left for a migration.
const LEAST_BANDWIDTH: BitsPerSec = BitsPerSec(1_000_000);
/// A page (σ), which is the least that a service can have.
const PAGE: Bytes = Bytes(4096);
/// How far away and how fast anything can be.
const FARTHEST: Metres = Metres(1e6);
const FASTEST: MetresPerSec = MetresPerSec(1000.0);

/// Where something is wrong, and what.
type Wrong = (String, String);

/// Refuses with a place and a reason unless `holds`.
fn must(holds: bool, place: &dyn Display, reason: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err((place.to_string(), reason())) }
}

/// A time above zero and of no more than a day.
fn time(value: Millis, place: &dyn Display) -> Result<Duration, Wrong> {
    const DAY: f64 = 24.0 * 3.6e6;
    must(value.0 > 0.0 && value.0 <= DAY, place, || format!("{value} must be above 0 and at most a day"))?;
    Ok(Duration::from_secs_f64(value.0 / 1e3))
}

fn find<'a, T>(
    all: &'a [T],
    kind: &str,
    name: &str,
    place: &dyn Display,
    called: impl Fn(&T) -> &str,
) -> Result<&'a T, Wrong> {
    all.iter().find(|one| called(one) == name).ok_or_else(|| {
        let known = all.iter().map(called).collect::<Vec<_>>().join(", ");
        (place.to_string(), format!("there is no {kind} `{name}`; there are {known}"))
    })
}

impl File {
    fn host(&self, name: &HostName, place: &dyn Display) -> Result<&HostTable, Wrong> {
        find(&self.host, "host", name.as_str(), place, |host| host.name.as_str())
    }

    fn edge(&self, name: &HostName, place: &dyn Display) -> Result<(), Wrong> {
        let role = self.host(name, place)?.role;
        must(role == Role::Edge, place, || format!("{name} is a {} host: choose an edge host", role.name()))
    }

    fn service(&self, name: &ServiceName, place: &dyn Display) -> Result<(), Wrong> {
        find(&self.service, "service", name.as_str(), place, |service| service.name.as_str()).map(|_| ())
    }

    /// The scenario, if it is possible.
    pub(super) fn check(self, calibration: Calibration) -> Result<Scenario, Wrong> {
        must(!self.name.trim().is_empty(), &"name", || "it is empty: give it one".to_owned())?;
        let (hosts, services) = (self.host.len(), self.service.len());
        must((1..=MOST_HOSTS).contains(&hosts), &"host", || {
            format!("{hosts} hosts: 1 to {MOST_HOSTS} are possible")
        })?;
        must((1..=MOST_SERVICES).contains(&services), &"service", || {
            format!("{services} services: 1 to {MOST_SERVICES} are possible")
        })?;
        let hosts = self.hosts()?;
        let links = self.links()?;
        let services = self.services()?;
        let faults = self.faults()?;
        let follow = self.follow.as_ref().map(|follow| self.followed(follow)).transpose()?;
        let by_hand = self.by_hand.iter().map(|moved| self.moved_by_hand(moved)).collect::<Result<_, _>>()?;
        let File { name, about, seed, .. } = self;
        Ok(Scenario { name, about, seed, calibration, hosts, links, services, faults, follow, by_hand })
    }

    fn hosts(&self) -> Result<Vec<Host>, Wrong> {
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        let mut hosts = Vec::new();
        for host in &self.host {
            let place = format!("host `{}`", host.name);
            must(names.insert(&host.name), &place, || {
                "it is there twice: give each another name".to_owned()
            })?;
            if let Some(address) = host.client_address {
                must(addresses.insert(address.addr()), &place, || format!("the address {address} is taken"))?;
            }
            let motion = match (host.still, host.circle) {
                (Some(_), Some(_)) => {
                    return Err((place, "it is still and on a circle at once: choose one".to_owned()));
                }
                (Some(StillTable { x, y }), None) => {
                    near(&[x.0, y.0], &place)?;
                    Some(Motion::Still { x: x.0, y: y.0 })
                }
                (None, Some(circle)) => Some(circle.motion(&format!("{place}: circle"))?),
                (None, None) => None,
            };
            hosts.push(Host {
                name: host.name.clone(),
                role: host.role,
                motion,
                client: host.client_address,
            });
        }
        Ok(hosts)
    }

    fn links(&self) -> Result<Vec<SimulatedLink>, Wrong> {
        let mut links: Vec<SimulatedLink> = Vec::new();
        for link in &self.link {
            let [one, other] = &link.between;
            let place = format!("link `{one}` – `{other}`");
            self.host(one, &place)?;
            self.host(other, &place)?;
            must(one != other, &place, || "a link is between two hosts".to_owned())?;
            must(
                !links.iter().any(|l| l.between.contains(one) && l.between.contains(other)),
                &place,
                || "it is there twice".to_owned(),
            )?;
            let (Text(bandwidth), Text(rtt)) = (link.bandwidth, link.rtt);
            must(bandwidth >= LEAST_BANDWIDTH, &format!("{place}: bandwidth"), || {
                format!("{bandwidth}: it must be at least {LEAST_BANDWIDTH}")
            })?;
            must((0.0..=10_000.0).contains(&rtt.0), &format!("{place}: rtt"), || {
                format!("{rtt}: it must be at most 10 s")
            })?;
            let cross =
                link.cross.map(|cross| cross.traffic(bandwidth, &format!("{place}: cross"))).transpose()?;
            links.push(SimulatedLink { between: link.between.clone(), bandwidth, rtt, cross });
        }
        let edges: Vec<&HostName> =
            self.host.iter().filter(|host| host.role == Role::Edge).map(|host| &host.name).collect();
        for (number, one) in edges.iter().enumerate() {
            for other in &edges[number + 1..] {
                let linked = links.iter().any(|l| l.between.contains(one) && l.between.contains(other));
                must(linked, &"link", || {
                    format!("{one} and {other} have none, and services move between them: add a [[link]]")
                })?;
            }
        }
        Ok(links)
    }

    fn services(&self) -> Result<Vec<(ServiceSpec, HostName)>, Wrong> {
        let mut names = BTreeSet::new();
        let mut addresses: BTreeSet<_> =
            self.host.iter().filter_map(|host| host.client_address).map(|address| address.addr()).collect();
        let mut services = Vec::new();
        let mut total = 0;
        for service in &self.service {
            let place = format!("service `{}`", service.name);
            must(names.insert(&service.name), &place, || {
                "it is there twice: give each another name".to_owned()
            })?;
            must(addresses.insert(service.address.addr()), &format!("{place}: address"), || {
                format!("{} is taken", service.address)
            })?;
            self.edge(&service.on, &format!("{place}: on"))?;
            let Text(memory) = service.state;
            must((PAGE..=LARGEST_STATE).contains(&memory), &format!("{place}: state"), || {
                format!("{memory}: it must be at least {PAGE} and at most {LARGEST_STATE}")
            })?;
            total += memory.0;
            let clients =
                service.clients.iter().map(|client| self.client(client, &format!("{place}: clients")));
            let spec = ServiceSpec {
                name: service.name.clone(),
                image: service.image.clone(),
                address: service.address,
                memory,
                writing: service.writing.writing(memory, &format!("{place}: writing"))?,
                clients: clients.collect::<Result<_, _>>()?,
            };
            services.push((spec, service.on.clone()));
        }
        must(total <= LARGEST_STATES.0, &"service", || {
            format!("all states together are {}: at most {LARGEST_STATES} are possible", Bytes(total))
        })?;
        Ok(services)
    }

    fn client(&self, client: &ClientTable, place: &dyn Display) -> Result<Client, Wrong> {
        let host = self.host(&client.on, place)?;
        must(host.client_address.is_some(), place, || {
            format!("{} has no `client_address`: give it one", client.on)
        })?;
        must((0.01..=100_000.0).contains(&client.rate), place, || {
            format!("a rate of {}: it must be between 0.01 and 100000 messages per second", client.rate)
        })?;
        must(client.connections <= 100_000, place, || "more than 100000 connections".to_owned())?;
        let (rate, connections) = (MessagesPerSec(client.rate), client.connections);
        Ok(Client { host: client.on.clone(), rate, connections })
    }

    fn faults(&self) -> Result<Vec<Fault>, Wrong> {
        self.fault.iter().enumerate().map(|(number, fault)| self.fault(fault, number + 1)).collect()
    }

    fn fault(&self, table: &FaultTable, number: usize) -> Result<Fault, Wrong> {
        let place = format!("fault {number}");
        let kinds = (&table.fail, &table.stale_page, &table.agent_lost);
        let (step, service, host, after, times, effect) = match kinds {
            (Some(f), None, None) => (f.step, &f.service, &f.on, f.after, f.times, FaultEffect::Fail),
            (None, Some(s), None) => {
                (Step::Restore, &s.service, &s.on, s.after, s.times, FaultEffect::StalePage)
            }
            (None, None, Some(lost)) => {
                must(lost.step != Step::PreDump, &place, || {
                    "an agent can be lost in prepare, dump or restore".to_owned()
                })?;
                let back_after = lost.back_after.map(|Text(after)| time(after, &place)).transpose()?;
                let effect = FaultEffect::AgentLost { back_after };
                (lost.step, &lost.service, &lost.on, lost.after, lost.times, effect)
            }
            _ => return Err((place, "it needs one of fail, stale_page and agent_lost".to_owned())),
        };
        if let Some(service) = service {
            self.service(service, &place)?;
        }
        if let Some(host) = host {
            self.edge(host, &place)?;
        }
        must(times >= 1, &place, || "times must be at least 1".to_owned())?;
        let (service, host) = (service.clone(), host.clone());
        Ok(Fault { step: step.into(), service, host, after, times, effect })
    }

    fn followed(&self, follow: &FollowTable) -> Result<Follow, Wrong> {
        self.service(&follow.service, &"follow: service")?;
        let host = self.host(&follow.mobile, &"follow: mobile")?;
        must(
            host.role == Role::Mobile && (host.still.is_some() || host.circle.is_some()),
            &"follow: mobile",
            || {
                format!(
                    "{} is no mobile host with a place: give it role = \"mobile\" and a circle",
                    follow.mobile
                )
            },
        )?;
        must(follow.between.len() >= 2, &"follow: between", || "it takes two hosts or more".to_owned())?;
        for station in &follow.between {
            self.edge(station, &"follow: between")?;
            let host = self.host(station, &"follow: between")?;
            must(host.still.is_some() || host.circle.is_some(), &"follow: between", || {
                format!("{station} has no place: give it `still`")
            })?;
        }
        let (Text(downtime), Text(duration)) = (follow.target_downtime, follow.target_duration);
        let targets =
            Targets::new(downtime, duration).map_err(|error| ("follow".to_owned(), error.to_string()))?;
        Ok(Follow {
            service: follow.service.clone(),
            mobile: follow.mobile.clone(),
            between: follow.between.clone(),
            targets,
            objective: follow.objective,
        })
    }
}

impl File {
    fn moved_by_hand(&self, moved: &ByHandTable) -> Result<ByHand, Wrong> {
        let place = &"by_hand";
        let ByHandTable { service, from, to, client, duration: Text(duration), silence: Text(silence) } =
            moved;
        self.service(service, place)?;
        self.edge(from, place)?;
        self.edge(to, place)?;
        must(from != to, place, || format!("it goes from {from} to another host"))?;
        self.host(client, place)?;
        time(*duration, place)?;
        time(*silence, place)?;
        must(silence <= duration, place, || {
            format!("a silence of {silence} is longer than the move ({duration})")
        })?;
        Ok(ByHand {
            service: service.clone(),
            from: from.clone(),
            to: to.clone(),
            started_at: Timestamp(0),
            duration: *duration,
            stopped: None,
            client: Some((client.clone(), *silence)),
            flight: None,
        })
    }
}

fn near(lengths: &[Metres], place: &dyn Display) -> Result<(), Wrong> {
    let near = lengths.iter().all(|length| length.0.abs() <= FARTHEST.0);
    must(near, place, || format!("it is farther away than {FARTHEST}"))
}

impl CircleTable {
    fn motion(self, place: &dyn Display) -> Result<Motion, Wrong> {
        let (Signed(x), Signed(y), Text(radius), Text(speed)) = (self.x, self.y, self.radius, self.speed);
        near(&[x, y, radius], place)?;
        must(radius.0 > 0.0, place, || "its radius must be above 0".to_owned())?;
        must(speed.0 > 0.0 && speed <= FASTEST, place, || {
            format!("its speed must be above 0 and at most {} m/s", FASTEST.0)
        })?;
        must((0.0..=360.0).contains(&self.start), place, || {
            "its start must be from 0 to 360 degrees".to_owned()
        })?;
        Ok(Motion::Circle { x, y, radius, speed, start: Heading(self.start) })
    }
}

impl CrossTable {
    fn traffic(self, bandwidth: BitsPerSec, place: &dyn Display) -> Result<CrossTraffic, Wrong> {
        let (Text(mean), Text(swing), Text(period)) = (self.mean, self.swing, self.period);
        must(swing <= mean, place, || format!("a swing of {swing} around {mean} goes below nothing"))?;
        let most = mean.0.saturating_add(swing.0).saturating_add(LEAST_BANDWIDTH.0);
        must(most <= bandwidth.0, place, || {
            format!("{mean} and a swing of {swing} leave less than {LEAST_BANDWIDTH} of {bandwidth}")
        })?;
        Ok(CrossTraffic { mean, swing, period: time(period, place)? })
    }
}

impl WritingTable {
    fn writing(&self, memory: Bytes, place: &dyn Display) -> Result<Writing, Wrong> {
        let (Text(rate), Text(working_set)) = (self.rate, self.working_set);
        must((0.0..=1e7).contains(&rate.0), &format!("{place}.rate"), || {
            format!("{rate}: it must be at most 10 million pages per second")
        })?;
        must(working_set >= PAGE && working_set <= memory, &format!("{place}.working_set"), || {
            format!(
                "{working_set}: it must be at least a page ({PAGE}) and no more than the state ({memory})"
            )
        })?;
        let quiet = self.quiet.map_or(PagesPerSec(0.0), |Text(quiet)| quiet);
        must(quiet <= rate, &format!("{place}.quiet"), || {
            format!("{quiet}: it must be no more than the rate in a burst ({rate})")
        })?;
        let bursts = match (self.every, self.lasting) {
            (None, None) if self.quiet.is_none() => None,
            (Some(Text(every)), Some(Text(lasting))) => {
                must(lasting < every, &format!("{place}.for"), || {
                    format!("{lasting}: a burst must be shorter than `every` ({every})")
                })?;
                Some(Bursts { period: time(every, place)?, lasting: time(lasting, place)?, quiet })
            }
            _ => {
                return Err((
                    place.to_string(),
                    "bursts need both `every` and `for`; `quiet` is between them".to_owned(),
                ));
            }
        };
        Ok(Writing { rate, bursts, working_set: working_set.0.div_ceil(PAGE.0) })
    }
}
