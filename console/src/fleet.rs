//! The agents as the orchestrator sees them.

use std::collections::BTreeMap;
use std::time::Duration;

use mose_agent::peers::Requests;
use mose_agent::session;
use mose_protocol::agent::{Capability, Hello, ServiceInfo};
use mose_protocol::link::LinkMetrics;
use mose_protocol::time::ClockOffset;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, envelope, keys};
use schemars::JsonSchema;
use serde::Serialize;
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
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Link {
    /// Where it begins.
    pub from: HostName,
    /// Where it goes, and what its beginning knows of it.
    #[serde(flatten)]
    pub metrics: LinkMetrics,
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
    pub async fn agents(&self, wanted: &[HostName]) -> Result<Vec<Seen>, Refusal> {
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
        let mut seen: BTreeMap<HostName, Seen> = BTreeMap::new();
        while let Ok(Ok(sample)) = tokio::time::timeout_at(deadline, subscriber.recv_async()).await {
            let Some(host) = keys::host_of_live(sample.key_expr().as_str()) else { continue };
            if sample.kind() == zenoh::sample::SampleKind::Delete {
                seen.remove(&host);
                continue;
            }
            let hello = self.introduce(&host).await;
            seen.insert(host.clone(), Seen { host, hello });
            let all_wanted = !wanted.is_empty() && wanted.iter().all(|host| seen.contains_key(host));
            if all_wanted {
                break;
            }
            // Those that were named are there; others, which they know, are given a moment.
            if wanted.is_empty() && self.expected() > 0 && seen.len() >= self.expected() {
                deadline = deadline.min(tokio::time::Instant::now() + OTHERS);
            }
        }
        Ok(seen.into_values().collect())
    }

    /// How one agent introduces itself, if it speaks the same protocol.
    ///
    /// # Errors
    /// What it refused, or that it does not answer, or speaks another protocol.
    pub async fn introduce(&self, host: &HostName) -> Result<Hello, Refusal> {
        match self.requests.ask(host, &Request::Hello, PATIENCE).await? {
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

    /// The links between the live edge hosts, and which hosts did not tell; with `probe`, measured now, one after another.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn links(&self, probe: bool) -> Result<(Vec<Link>, Vec<Refusal>), Refusal> {
        let agents = self.live().await?;
        let edges: Vec<&HostName> = agents
            .iter()
            .filter(|agent| {
                agent.hello.as_ref().is_ok_and(|hello| hello.capabilities.contains(&Capability::Containers))
            })
            .map(|agent| &agent.host)
            .collect();
        let (mut links, mut troubles) = (Vec::new(), Vec::new());
        for from in &edges {
            let requests: Vec<Request> = if probe {
                edges.iter().filter(|to| to != &from).map(|&to| Request::ProbeLink(to.clone())).collect()
            } else {
                vec![Request::Links]
            };
            for request in requests {
                match self.ask(from, &request).await {
                    Ok(Reply::Links(found)) => {
                        links
                            .extend(found.into_iter().map(|metrics| Link { from: (*from).clone(), metrics }));
                    }
                    Ok(_) => {}
                    Err(refusal) => troubles.push(refusal),
                }
            }
        }
        Ok((links, troubles))
    }

    /// What runs on every live host, and which hosts did not say.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn services(&self) -> Result<(Vec<ServiceInfo>, Vec<Refusal>), Refusal> {
        let (mut services, mut troubles) = (Vec::new(), Vec::new());
        for agent in self.live().await? {
            let answer = match agent.hello {
                Ok(_) => self.ask(&agent.host, &Request::Services).await,
                Err(refusal) => Err(refusal),
            };
            match answer {
                Ok(Reply::Services(found)) => services.extend(found),
                Ok(_) => {}
                Err(refusal) => troubles.push(refusal),
            }
        }
        services.sort_by(|a, b| (&a.name, &a.host).cmp(&(&b.name, &b.host)));
        Ok((services, troubles))
    }
}
