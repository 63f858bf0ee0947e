//! The agents as the orchestrator sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mose_bus::peers::Requests;
use mose_bus::session;
use mose_protocol::agent::{Capability, Hello, ServiceInfo};
use mose_protocol::link::LinkMetrics;
use mose_protocol::record::Record;
use mose_protocol::time::ClockOffset;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, Timestamp, envelope, keys};
use serde::Serialize;
use tokio::task::JoinSet;
use zenoh::Session;

/// How long one waits for agents that are expected, and for their answers.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long an answer may take.
pub const ANSWER: Duration = Duration::from_secs(10);

/// How long agents that nobody announced are looked for.
const LOOK_AROUND: Duration = Duration::from_millis(800);

/// How long more agents are waited for when as many are there as were named.
const OTHERS: Duration = Duration::from_millis(150);

/// An agent that was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The host.
    pub host: HostName,
    /// How it introduced itself, or why it did not.
    pub hello: Result<Hello, Refusal>,
}

/// A link, in one direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Link {
    /// Where it begins.
    pub from: HostName,
    /// Where it goes, and what its beginning knows of it.
    #[serde(flatten)]
    pub metrics: LinkMetrics,
}

/// A host that did not tell what it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unanswered {
    /// Which.
    pub host: HostName,
    /// Why not.
    pub refused: Refusal,
    /// What it told last, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Box<LastTold>>,
}

/// What ran on a host when its engine last answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LastTold {
    /// When that was, on the host's clock.
    pub at: Timestamp,
    /// What ran there.
    pub services: Vec<ServiceInfo>,
}

impl Unanswered {
    const fn new(host: HostName, refused: Refusal) -> Self {
        Self { host, refused, last: None }
    }
}

/// What hosts told, and which of them did not.
#[derive(Debug, Clone, PartialEq)]
pub struct Told<T> {
    /// What was told.
    pub told: Vec<T>,
    /// The hosts that did not tell, or not all.
    pub unanswered: Vec<Unanswered>,
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self { told: Vec::new(), unanswered: Vec::new() }
    }
}

/// A connection to the agents.
pub struct Fleet {
    session: Session,
    requests: Requests,
    endpoints: Vec<String>,
}

impl Fleet {
    /// Connects to the agents at `endpoints`; where none are given they are looked for by multicast.
    ///
    /// # Errors
    /// Where no session can be opened.
    pub async fn join(endpoints: &[String]) -> Result<Self, Refusal> {
        let session = session::open(&[], endpoints).await?;
        Ok(Self { requests: Requests::new(session.clone()), session, endpoints: endpoints.to_vec() })
    }

    /// The Zenoh session.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// How many agents were named.
    const fn expected(&self) -> usize {
        self.endpoints.len()
    }

    /// Asks one agent.
    ///
    /// # Errors
    /// What it refused, or that it does not answer.
    pub async fn ask(&self, host: &HostName, request: &Request) -> mose_protocol::Response {
        self.ask_within(host, request, ANSWER).await
    }

    /// Asks one agent for what takes it a while.
    ///
    /// # Errors
    /// As [`Fleet::ask`].
    pub async fn ask_within(
        &self,
        host: &HostName,
        request: &Request,
        deadline: Duration,
    ) -> mose_protocol::Response {
        self.requests.ask(host, request, deadline).await
    }

    /// How far the clock of `host` is ahead of this machine's.
    ///
    /// # Errors
    /// Where the host does not answer.
    pub async fn clock_offset(&self, host: &HostName) -> Result<ClockOffset, Refusal> {
        self.requests.clock_offset(host).await
    }

    /// That no agent is live, where agents were looked for, and what to do about it.
    #[must_use]
    pub fn nobody(&self) -> Refusal {
        let (reason, remedy) = if self.endpoints.is_empty() {
            (
                "no agent is live: none was named, and multicast found none on this machine's networks"
                    .to_owned(),
                "start mose-agent on the hosts, name one that runs with --connect tcp/ADDRESS:7447, or bring the lab up: \
                 mose lab up",
            )
        } else {
            (
                format!("no agent is live: none answers at {}", self.endpoints.join(", ")),
                "see whether mose-agent runs there (in the lab: mose lab status), and whether its --listen address can be \
                 reached from here",
            )
        };
        Refusal::new(RefusalCode::Unreachable, reason, remedy)
    }

    /// The agents that are live, of which there must be one.
    ///
    /// # Errors
    /// Where there is none, or the session fails.
    pub async fn live(&self) -> Result<Vec<Seen>, Refusal> {
        let seen = self.agents(&[]).await?;
        if seen.is_empty() { Err(self.nobody()) } else { Ok(seen) }
    }

    /// The agents that are live, each with its introduction. Waits for as many as endpoints were given, or for
    /// `wanted`, but not forever.
    ///
    /// # Errors
    /// Where the session fails.
    pub fn agents<'a>(&'a self, wanted: &'a [HostName]) -> BoxFuture<'a, Result<Vec<Seen>, Refusal>> {
        Box::pin(async move {
            let failed = |error: &dyn std::fmt::Display| {
                Refusal::new(RefusalCode::Failed, format!("the agents cannot be looked for: {error}"), "")
            };
            let subscriber = self
                .session
                .liveliness()
                .declare_subscriber(keys::LIVE_ALL)
                .history(true)
                .await
                .map_err(|error| failed(&error))?;
            let patience = if self.expected() > 0 { PATIENCE } else { LOOK_AROUND };
            let mut deadline = tokio::time::Instant::now() + patience;
            // All are asked at once, so that a silent one does not delay the others.
            let mut introductions = JoinSet::new();
            let mut live: BTreeSet<HostName> = BTreeSet::new();
            let mut seen: BTreeMap<HostName, Seen> = BTreeMap::new();
            loop {
                tokio::select! {
                    token = tokio::time::timeout_at(deadline, subscriber.recv_async()) => {
                        let Ok(Ok(sample)) = token else { break };
                        let Some(host) = keys::host_of_live(sample.key_expr().as_str()) else { continue };
                        if sample.kind() == zenoh::sample::SampleKind::Delete {
                            live.remove(&host);
                            continue;
                        }
                        if live.insert(host.clone()) {
                            let requests = self.requests.clone();
                            introductions.spawn(async move {
                                let hello = introduction(&requests, &host).await;
                                Seen { host, hello }
                            });
                        }
                        // Those that were named are there; others, which they know, are given a moment.
                        if wanted.is_empty() && self.expected() > 0 && live.len() >= self.expected() {
                            deadline = deadline.min(tokio::time::Instant::now() + OTHERS);
                        }
                    }
                    Some(introduced) = introductions.join_next() => {
                        if let Ok(agent) = introduced {
                            seen.insert(agent.host.clone(), agent);
                        }
                    }
                }
                if !wanted.is_empty() && wanted.iter().all(|host| seen.contains_key(host)) {
                    break;
                }
            }
            // Each has a deadline of its own.
            while let Some(introduced) = introductions.join_next().await {
                if wanted.is_empty()
                    && let Ok(agent) = introduced
                {
                    seen.insert(agent.host.clone(), agent);
                }
            }
            seen.retain(|host, _| live.contains(host));
            Ok(seen.into_values().collect())
        })
    }

    /// How one agent introduces itself, if it speaks the same protocol.
    ///
    /// # Errors
    /// What it refused, or that it does not answer, or speaks another protocol.
    pub async fn introduce(&self, host: &HostName) -> Result<Hello, Refusal> {
        introduction(&self.requests, host).await
    }

    /// One live agent by its host's name.
    ///
    /// # Errors
    /// Where it is not live, or speaks another version.
    pub async fn agent(&self, host: &HostName) -> Result<Hello, Refusal> {
        let seen = self.agents(std::slice::from_ref(host)).await?;
        match seen.iter().find(|agent| &agent.host == host) {
            Some(agent) => agent.hello.clone(),
            None if seen.is_empty() => Err(self.nobody()),
            None => {
                let names: Vec<_> = seen.iter().map(|agent| agent.host.to_string()).collect();
                Err(Refusal::new(
                    RefusalCode::UnknownHost,
                    format!("no agent of a host {host} is live"),
                    format!("live are: {}", names.join(", ")),
                ))
            }
        }
    }

    /// Asks hosts at once, each for one thing; the answers in the order in which they were asked for.
    async fn ask_all(&self, asked: Vec<(HostName, Request)>) -> Vec<(HostName, mose_protocol::Response)> {
        let answers = asked.into_iter().map(|(host, request)| async move {
            let answer = self.ask(&host, &request).await;
            (host, answer)
        });
        futures_util::future::join_all(answers).await
    }

    /// The agents that introduced themselves, of those that are live; the others did not answer.
    async fn introduced(&self) -> Result<Told<Hello>, Refusal> {
        let mut all = Told::default();
        for Seen { host, hello } in self.live().await? {
            match hello {
                Ok(hello) => all.told.push(hello),
                Err(refused) => all.unanswered.push(Unanswered::new(host, refused)),
            }
        }
        Ok(all)
    }

    /// Asks every live agent the same at once. `take` has what a reply tells, or why it does not.
    async fn of_all<T>(
        &self,
        request: &Request,
        take: impl Fn(&HostName, Reply) -> Result<Vec<T>, Unanswered>,
    ) -> Result<Told<T>, Refusal> {
        let Told { told: agents, mut unanswered } = self.introduced().await?;
        let asked = agents.into_iter().map(|agent| (agent.host, request.clone())).collect();
        let mut told = Vec::new();
        for (host, answer) in self.ask_all(asked).await {
            let answer = answer.map_err(|refused| Unanswered::new(host.clone(), refused));
            match answer.and_then(|reply| take(&host, reply)) {
                Ok(found) => told.extend(found),
                Err(missing) => unanswered.push(missing),
            }
        }
        Ok(Told { told, unanswered })
    }

    /// The links between the live edge hosts, and which hosts did not tell; with `probe`, measured now, one after another.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn links(&self, probe: bool) -> Result<Told<Link>, Refusal> {
        let links = |from: &HostName, reply| match reply {
            Reply::Links(found) => {
                Ok(found.into_iter().map(|metrics| Link { from: from.clone(), metrics }).collect())
            }
            _ => Err(of_another_kind(from)),
        };
        if !probe {
            return self.of_all(&Request::Links, links).await;
        }
        let Told { told: agents, unanswered } = self.introduced().await?;
        let edge = |agent: &&Hello| agent.capabilities.contains(&Capability::Containers);
        let edges: Vec<&HostName> = agents.iter().filter(edge).map(|agent| &agent.host).collect();
        let mut all = Told { told: Vec::new(), unanswered };
        for from in &edges {
            // Two measurements at once would measure each other.
            for to in edges.iter().filter(|to| to != &from) {
                let answer = self.ask(from, &Request::ProbeLink((*to).clone())).await;
                let answer = answer.map_err(|refused| Unanswered::new((*from).clone(), refused));
                match answer.and_then(|reply| links(from, reply)) {
                    Ok(found) => all.told.extend::<Vec<Link>>(found),
                    Err(missing) => all.unanswered.push(missing),
                }
            }
        }
        Ok(all)
    }

    /// What runs on every live host, and which hosts did not say.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn services(&self) -> Result<Told<ServiceInfo>, Refusal> {
        let services = |host: &HostName, reply| match reply {
            Reply::Services(found) => Ok(found),
            Reply::LastServices { at, services, refused } => Err(Unanswered {
                host: host.clone(),
                refused,
                last: Some(Box::new(LastTold { at, services })),
            }),
            _ => Err(of_another_kind(host)),
        };
        let mut all = self.of_all(&Request::Services, services).await?;
        all.told.sort_by(|a, b| (&a.name, &a.host).cmp(&(&b.name, &b.host)));
        Ok(all)
    }

    /// The newest records of every live host, at most so many, newest first.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn history(&self, count: u32) -> Result<Told<Record>, Refusal> {
        let records = |host: &HostName, reply| match reply {
            Reply::History(found) => Ok(found),
            _ => Err(of_another_kind(host)),
        };
        let mut all = self.of_all(&Request::History(count), records).await?;
        all.told.sort_by_key(|record| std::cmp::Reverse(record.started_at));
        all.told.truncate(count as usize);
        Ok(all)
    }

    /// The record of one migration, from whichever host keeps it.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn record(&self, migration: &MigrationId) -> Result<Told<Record>, Refusal> {
        let record = |host: &HostName, reply| match reply {
            Reply::Record(found) => Ok(found.into_iter().map(|record| *record).collect()),
            _ => Err(of_another_kind(host)),
        };
        self.of_all(&Request::Record(migration.clone()), record).await
    }
}

fn of_another_kind(host: &HostName) -> Unanswered {
    let reason = format!("the agent on {host} gave an answer of another kind");
    let refused = Refusal::new(RefusalCode::Malformed, reason, "run the same release of MOSE on both hosts");
    Unanswered::new(host.clone(), refused)
}

/// How an agent introduces itself, if it speaks the same protocol.
async fn introduction(requests: &Requests, host: &HostName) -> Result<Hello, Refusal> {
    match requests.ask(host, &Request::Hello, PATIENCE).await? {
        Reply::Hello(hello) if hello.protocol == envelope::PROTOCOL_VERSION => Ok(*hello),
        Reply::Hello(hello) => Err(Refusal::new(
            RefusalCode::Version,
            format!(
                "the agent on {host} speaks protocol version {}, this console {}",
                hello.protocol,
                envelope::PROTOCOL_VERSION
            ),
            "run the same release of MOSE on both",
        )),
        _ => Err(Refusal::new(
            RefusalCode::Malformed,
            format!("the agent on {host} did not introduce itself"),
            "run the same release of MOSE on both",
        )),
    }
}
