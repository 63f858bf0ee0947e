//! Many light agents in one process, to load a console: they introduce themselves, answer what a console asks, and publish
//! telemetry over real Zenoh. They have no engine and no journal, and refuse to migrate anything.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use mose_bus::session;
use mose_pam::{BitsPerSec, Bytes, Metres, MetresPerSec, Millis, PagesPerSec};
use mose_protocol::agent::{
    Capability, Heading, Hello, Position, Role, ServiceInfo, ServiceState, Telemetry,
};
use mose_protocol::link::{CapacityFrom, LinkMetrics, RttFrom};
use mose_protocol::metrics::{DirtyFigures, ServiceMetrics};
use mose_protocol::{
    HostName, NameError, Refusal, RefusalCode, Reply, Request, Response, Timestamp, envelope, keys,
};
use tokio_util::task::AbortOnDropHandle;
use zenoh::Session;
use zenoh::liveliness::LivelinessToken;
use zenoh::query::Queryable;

/// The most agents, and services of all of them, that one process plays.
const MOST_AGENTS: usize = 2000;
const MOST_SERVICES: usize = 20_000;
/// How long the session may take to close.
const CLOSING: Duration = Duration::from_secs(2);

/// Light agents that run, until this is dropped.
pub struct Swarm {
    session: Session,
    endpoint: String,
    tokens: Vec<LivelinessToken>,
    answering: Queryable<()>,
    publishing: AbortOnDropHandle<()>,
}

/// Starts `agents` light edge agents with `services` services each, over one session, each of which publishes telemetry every
/// `period`, evenly spread over it. Their figures change with time and follow from nothing.
///
/// # Errors
/// Where there are too many, the period is zero, or no session can be opened.
pub async fn swarm(agents: usize, services: usize, period: Duration) -> Result<Swarm, Refusal> {
    if agents == 0 || agents > MOST_AGENTS || agents * services > MOST_SERVICES || period.is_zero() {
        return Err(Refusal::new(
            RefusalCode::Malformed,
            format!("a swarm of {agents} agents with {services} services each, every {period:?}"),
            format!(
                "1 to {MOST_AGENTS} agents with at most {MOST_SERVICES} services together, and a period above 0"
            ),
        ));
    }
    let members = (0..agents).map(|number| Member::new(number, services, agents));
    let members = members.collect::<Result<Vec<_>, _>>();
    let members =
        Arc::new(members.map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string(), ""))?);
    let (session, endpoint) = session::open_alone(None, &[]).await?;
    let known = members.clone();
    let answering = session
        .declare_queryable("mose/agent/*/request")
        .complete(true)
        .callback(move |query| {
            let host = query.key_expr().as_str().split('/').nth(2);
            let member = known.iter().find(|member| Some(member.hello.host.as_str()) == host);
            let request = query.payload().map(|payload| envelope::open::<Request>(&payload.to_bytes()));
            let (Some(member), Some(request)) = (member, request) else { return };
            let response = request.and_then(|request| member.answer(&request));
            let Ok(bytes) = envelope::seal(&response) else { return };
            let reply = query.reply(query.key_expr().clone(), bytes).express(true);
            if let Err(error) = zenoh::Wait::wait(reply) {
                tracing::debug!(%error, "an answer was not sent");
            }
        })
        .await
        .map_err(|error| failed(&error))?;
    let mut tokens = Vec::with_capacity(agents);
    for member in members.iter() {
        let token = session.liveliness().declare_token(keys::live(&member.hello.host)).await;
        tokens.push(token.map_err(|error| failed(&error))?);
    }
    let publishing = AbortOnDropHandle::new(tokio::spawn(publish(session.clone(), members, period)));
    Ok(Swarm { session, endpoint, tokens, answering, publishing })
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Failed, format!("the swarm's session failed: {error}"), "")
}

impl Swarm {
    /// Where a console reaches all of them, for [`Fleet::join`](mose_orchestrator::fleet::Fleet::join).
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// How many agents there are.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.tokens.len()
    }

    /// Has the last agent vanish, as if it had died; it is seen to go. `None` where there is none left.
    pub async fn lose_one(&mut self) -> Option<()> {
        let token = self.tokens.pop()?;
        token.undeclare().await.ok()
    }

    /// Ends all of them.
    pub async fn stop(self) {
        drop(self.publishing);
        drop((self.tokens, self.answering));
        let _ = tokio::time::timeout(CLOSING, self.session.close()).await;
    }
}

/// One light agent.
struct Member {
    number: usize,
    hello: Hello,
    services: Vec<ServiceInfo>,
    /// The agent that its link goes to.
    neighbour: HostName,
}

impl Member {
    fn new(number: usize, services: usize, agents: usize) -> Result<Self, NameError> {
        let host: HostName = name_of(number).parse()?;
        let service = |index: usize| {
            let address = Ipv4Addr::from(0x0a4d_0000 + u32::try_from(number * services + index).unwrap_or(0));
            Ok::<_, NameError>(ServiceInfo {
                name: format!("service-{number}-{index}").parse()?,
                host: host.clone(),
                state: ServiceState::Running,
                image: "localhost/swarm:load".to_owned(),
                address: Ipv4Net::new(address, 8).ok(),
                memory: Some(Bytes(1 << 20)),
                processes: Some(1),
                connections: Some(1),
            })
        };
        Ok(Self {
            number,
            services: (0..services).map(service).collect::<Result<_, _>>()?,
            hello: Hello {
                host: host.clone(),
                role: Role::Edge,
                release: env!("CARGO_PKG_VERSION").to_owned(),
                protocol: envelope::PROTOCOL_VERSION,
                capabilities: BTreeSet::from([Capability::Overlay, Capability::Containers]),
                underlay: Ipv4Addr::LOCALHOST,
                tools: vec![("engine".to_owned(), "none (load)".to_owned())],
                started_at: Timestamp::now(),
                simulated: true,
            },
            neighbour: name_of((number + 1) % agents).parse()?,
        })
    }

    /// A figure that wanders with time, between 0 and 1, differently for each agent and `salt`.
    fn wandering(&self, now: Timestamp, salt: usize) -> f64 {
        let phase = now.0 as f64 / 1e6 / (3.0 + (salt % 7) as f64) + (self.number * 31 + salt * 17) as f64;
        phase.sin().mul_add(0.5, 0.5)
    }

    fn link(&self, now: Timestamp) -> LinkMetrics {
        let capacity = 1_000_000_000;
        let used = (self.wandering(now, 5) * 4e8) as u64;
        LinkMetrics {
            to: self.neighbour.clone(),
            capacity: Some(BitsPerSec(capacity)),
            capacity_from: Some(CapacityFrom::Scenario),
            capacity_at: Some(now),
            used: Some(BitsPerSec(used)),
            available: Some(BitsPerSec(capacity - used)),
            rtt: Some(Millis(0.4)),
            rtt_jitter: None,
            rtt_from: Some(RttFrom::Scenario),
            measured_at: now,
        }
    }

    fn profile(&self, index: usize, now: Timestamp) -> ServiceMetrics {
        let service = &self.services[index];
        let rate = PagesPerSec((self.wandering(now, index) * 1000.0).round());
        ServiceMetrics {
            service: service.name.clone(),
            host: service.host.clone(),
            at: now,
            state: Bytes(1 << 20),
            dirty: DirtyFigures { current: rate, mean: PagesPerSec(500.0), worst: PagesPerSec(1000.0) },
            working_set: Bytes(1 << 19),
            window: Millis(60_000.0),
            tracker: "simulated".to_owned(),
            cost: 0.0,
            files: None,
        }
    }

    fn telemetry(&self, now: Timestamp) -> Telemetry {
        let position = Position {
            x: Metres((self.number % 20) as f64 * 50.0),
            y: Metres((self.number / 20) as f64 * 50.0),
            heading: Heading(0.0),
            speed: MetresPerSec(0.0),
        };
        Telemetry {
            host: self.hello.host.clone(),
            at: now,
            services: self.services.clone(),
            profiles: (0..self.services.len()).map(|index| self.profile(index, now)).collect(),
            links: vec![self.link(now)],
            position: Some(position),
            radio: None,
            flight: None,
            following: None,
            clients: Vec::new(),
            trouble: None,
        }
    }

    fn answer(&self, request: &Request) -> Response {
        let now = Timestamp::now();
        match request {
            Request::Hello => Ok(Reply::Hello(Box::new(self.hello.clone()))),
            Request::Clock => Ok(Reply::Clock(now)),
            Request::Services => Ok(Reply::Services(self.services.clone())),
            Request::Locations => Ok(Reply::Locations(Vec::new())),
            Request::Links => Ok(Reply::Links(vec![self.link(now)])),
            Request::History(_) => Ok(Reply::History(Vec::new())),
            Request::Steps { .. } => Ok(Reply::Steps(Vec::new())),
            Request::Record(_) => Ok(Reply::Record(None)),
            Request::Calibration(_) => Ok(Reply::Calibration(None)),
            Request::Profile(wanted) => {
                let index = self.services.iter().position(|service| &service.name == wanted);
                index.map(|index| Reply::Profile(Box::new(self.profile(index, now)))).ok_or_else(|| {
                    Refusal::new(
                        RefusalCode::UnknownService,
                        format!("no container is named {wanted} here"),
                        "",
                    )
                })
            }
            other => Err(Refusal::new(
                RefusalCode::Capability,
                format!(
                    "{} is an agent for load only, and does not know `{}`",
                    self.hello.host,
                    other.name()
                ),
                "use the demo testbed: mose demo",
            )),
        }
    }
}

fn name_of(number: usize) -> String {
    format!("load-{number:04}")
}

async fn publish(session: Session, members: Arc<Vec<Member>>, period: Duration) {
    let step = period / u32::try_from(members.len()).unwrap_or(u32::MAX);
    let mut due = tokio::time::Instant::now();
    loop {
        for member in members.iter() {
            tokio::time::sleep_until(due).await;
            due += step;
            let Ok(bytes) = envelope::seal(&member.telemetry(Timestamp::now())) else { continue };
            if let Err(error) = session.put(keys::telemetry(&member.hello.host), bytes).await {
                tracing::debug!(%error, "telemetry was not published");
            }
        }
        // Who was held up does not make up for it by a burst.
        due = due.max(tokio::time::Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_swarm_that_is_dropped_says_nothing_more() {
        let swarm = swarm(2, 1, Duration::from_millis(20)).await.unwrap();
        let (console, _) = session::open_alone(None, &[swarm.endpoint().to_owned()]).await.unwrap();
        let telemetry = console.declare_subscriber(keys::TELEMETRY_ALL).await.unwrap();
        let within = |time| tokio::time::timeout(time, telemetry.recv_async());
        within(Duration::from_secs(10)).await.expect("it is heard").unwrap();
        drop(swarm);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while within(Duration::from_millis(400)).await.is_ok() {
            assert!(tokio::time::Instant::now() < deadline, "it goes on");
        }
        console.close().await.unwrap();
    }
}
