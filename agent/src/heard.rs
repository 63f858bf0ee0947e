//! What this agent heard last of the others, so that somebody can still tell of a host that falls silent.

use std::collections::HashMap;
use std::time::Duration;

use mose_pam::Millis;
use mose_protocol::HostName;
use mose_protocol::agent::{ServiceInfo, Telemetry};
use mose_protocol::heard::{Heard, HeardServices, MAX_ANSWER, MAX_HOSTS};
use mose_protocol::link::LinkMetrics;
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a host that is not heard any more is remembered: one that was taken out for good is not told of for ever.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// How long ago a host may have told last how a vehicle flies to be asked how it flew: in a migration its radio may be away for a while.
const FLEW_LATELY: Duration = Duration::from_secs(60);

/// What was heard last of each host.
#[derive(Default)]
pub(crate) struct HeardOf(Mutex<HashMap<HostName, Last>>);

/// What was heard last of one host.
struct Last {
    at: Instant,
    /// What ran there when its engine last answered, and when that came.
    services: Option<(Instant, Vec<ServiceInfo>)>,
    links: Option<Vec<LinkMetrics>>,
    /// When it last told how a vehicle flies.
    flew: Option<Instant>,
}

impl HeardOf {
    /// Notes that telemetry of `host` came; what it says, where that is to be remembered.
    pub(crate) fn note(&self, host: HostName, said: Option<Telemetry>, now: Instant) {
        let mut all = self.0.lock();
        let (before, flew) = all.remove(&host).map_or((None, None), |last| (last.services, last.flew));
        let flew = said.as_ref().and_then(|said| said.flight).map(|_| now).or(flew);
        if all.len() >= MAX_HOSTS
            && let Some(oldest) = all.iter().min_by_key(|(_, last)| last.at).map(|(host, _)| host.clone())
        {
            all.remove(&oldest);
        }
        let last = match said {
            // Its engine does not answer: what ran before is all that is known.
            Some(said) if said.trouble.is_some() && said.services.is_empty() => {
                Last { at: now, services: before, links: Some(said.links), flew }
            }
            Some(said) => {
                Last { at: now, services: Some((now, said.services)), links: Some(said.links), flew }
            }
            None => Last { at: now, services: before, links: None, flew },
        };
        all.insert(host, last);
    }

    /// Whether a host has told lately how a vehicle flies.
    pub(crate) fn flies(&self, host: &HostName, now: Instant) -> bool {
        let flew = self.0.lock().get(host).and_then(|last| last.flew);
        flew.is_some_and(|flew| now.saturating_duration_since(flew) < FLEW_LATELY)
    }

    /// What is remembered, what was heard last first, of the size that an answer may have.
    pub(crate) fn tell(&self, now: Instant) -> Vec<Heard> {
        let ago = |at: Instant| Millis::from(now.saturating_duration_since(at));
        let mut all = self.0.lock();
        all.retain(|_, last| now.saturating_duration_since(last.at) < REMEMBERED_FOR);
        let mut heard: Vec<Heard> = all
            .iter()
            .map(|(host, last)| Heard {
                host: host.clone(),
                ago: ago(last.at),
                hello: None,
                services: last
                    .services
                    .as_ref()
                    .map(|(at, services)| HeardServices { ago: ago(*at), services: services.clone() }),
                links: last.links.clone(),
                towards: None,
            })
            .collect();
        drop(all);
        heard.sort_by(|a, b| a.ago.0.total_cmp(&b.ago.0));
        let mut room = MAX_ANSWER;
        for host in &mut heard {
            match serde_json::to_vec(&(&host.services, &host.links)) {
                Ok(json) if json.len() <= room => room -= json.len(),
                _ => (host.services, host.links) = (None, None),
            }
        }
        heard
    }
}

#[cfg(test)]
mod tests {
    use mose_protocol::agent::ServiceState;
    use mose_protocol::envelope::{self, MAX_MESSAGE};
    use mose_protocol::{Reply, Response, Timestamp};

    use super::*;

    fn host(number: usize) -> HostName {
        format!("edge-{number}").parse().unwrap()
    }

    fn said(host: &HostName, services: usize, trouble: Option<&str>) -> Option<Telemetry> {
        let service = |number: usize| ServiceInfo {
            name: format!("web-{number}").parse().unwrap(),
            host: host.clone(),
            state: ServiceState::Running,
            image: "localhost/web:latest".repeat(10),
            address: None,
            memory: None,
            processes: None,
            connections: None,
        };
        Some(Telemetry {
            host: host.clone(),
            at: Timestamp(1),
            services: (0..services).map(service).collect(),
            profiles: Vec::new(),
            links: Vec::new(),
            position: None,
            radio: None,
            flight: None,
            following: None,
            clients: Vec::new(),
            trouble: trouble.map(str::to_owned),
        })
    }

    #[test]
    fn what_ran_before_an_engine_fell_silent_is_told_with_its_own_age() {
        let (heard, begin, a) = (HeardOf::default(), Instant::now(), host(1));
        heard.note(a.clone(), said(&a, 2, None), begin);
        heard.note(a.clone(), said(&a, 0, Some("Podman does not answer")), begin + Duration::from_secs(5));
        // One that is too long to be remembered still says that the agent lives.
        heard.note(a.clone(), None, begin + Duration::from_secs(6));
        let told = heard.tell(begin + Duration::from_secs(40)).remove(0);
        let services = told.services.unwrap();
        assert_eq!(
            (told.ago.0, services.ago.0, services.services.len(), told.links),
            (34_000.0, 40_000.0, 2, None)
        );
        heard.note(a.clone(), said(&a, 0, None), begin + Duration::from_secs(50));
        let told = heard.tell(begin + Duration::from_secs(50)).remove(0);
        assert_eq!(told.services.unwrap().services, [], "nothing runs there any more, and it said so");
    }

    #[test]
    fn who_told_of_a_flight_lately_flies_and_nobody_else_does() {
        let (heard, begin, uav, box_) = (HeardOf::default(), Instant::now(), host(1), host(2));
        let flying = |host| {
            let flight = Some(mose_protocol::flight::FlightError::default());
            said(host, 0, None).map(|said| Telemetry { flight, ..said })
        };
        heard.note(uav.clone(), flying(&uav), begin);
        heard.note(box_.clone(), said(&box_, 0, None), begin);
        let later = begin + Duration::from_secs(50);
        heard.note(uav.clone(), said(&uav, 0, None), later);
        assert!(heard.flies(&uav, later) && !heard.flies(&box_, later) && !heard.flies(&host(3), later));
        assert!(!heard.flies(&uav, begin + FLEW_LATELY), "it has not told of a flight for a minute");
    }

    #[test]
    fn hosts_and_answers_are_bounded_and_nobody_is_remembered_for_ever() {
        let (heard, begin) = (HeardOf::default(), Instant::now());
        for number in 0..MAX_HOSTS + 10 {
            let at = begin + Duration::from_secs(number as u64);
            heard.note(host(number), said(&host(number), 100, None), at);
        }
        let now = begin + Duration::from_secs(1000);
        let told = heard.tell(now);
        assert_eq!((told.len(), told[0].host.clone()), (MAX_HOSTS, host(MAX_HOSTS + 9)), "the newest first");
        assert!(told.iter().all(|told| told.host != host(0)), "the oldest went");
        assert!(told[0].services.is_some() && told[MAX_HOSTS - 1].services.is_none());
        let reply: Response = Ok(Reply::Heard { at: Timestamp(1), hosts: told });
        assert!(envelope::seal(&reply).unwrap().len() < MAX_MESSAGE);
        assert!(heard.tell(now + REMEMBERED_FOR).is_empty());
    }
}
