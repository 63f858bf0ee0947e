//! The agents as the orchestrator sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use mose_bus::peers::Requests;
use mose_bus::session;
use mose_protocol::agent::Hello;
use mose_protocol::time::ClockOffset;
use mose_protocol::{HostName, Refusal, RefusalCode, Request, keys};
use tokio::task::JoinSet;
use zenoh::Session;

use crate::call::{Asked, Called, Calls, PATIENCE, call, introduction};

/// How long an answer may take.
pub const ANSWER: Duration = Duration::from_secs(10);

/// How long agents that nobody announced are looked for.
const LOOK_AROUND: Duration = Duration::from_millis(800);

/// How long more agents are waited for when as many are there as were named.
const OTHERS: Duration = Duration::from_millis(150);

/// How long a host is tried that others have heard of, and whose token was not seen.
const UNSEEN: Duration = Duration::from_secs(1);

/// An agent that was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The host.
    pub host: HostName,
    /// How it introduced itself, or why it did not.
    pub hello: Result<Hello, Refusal>,
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
        Ok(Self::over(session::open(&[], endpoints).await?, endpoints))
    }

    /// Connects like [`Fleet::join`], and keeps dialling `endpoints` whose agents start later.
    ///
    /// # Errors
    /// Where no session can be opened.
    pub async fn stay(endpoints: &[String]) -> Result<Self, Refusal> {
        Ok(Self::over(session::stay(endpoints).await?, endpoints))
    }

    fn over(session: Session, endpoints: &[String]) -> Self {
        Self { requests: Requests::new(session.clone()), session, endpoints: endpoints.to_vec() }
    }

    /// The Zenoh session.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// What tells this orchestrator from others.
    #[must_use]
    pub fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.session.zid().to_le_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
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

    /// The agents that are live, each with its introduction. Waits for as many as endpoints were given, or for
    /// `wanted`, but not forever.
    ///
    /// # Errors
    /// Where the session fails.
    pub fn agents<'a>(&'a self, wanted: &'a [HostName]) -> BoxFuture<'a, Result<Vec<Seen>, Refusal>> {
        Box::pin(async move {
            let calls = self.call(wanted, Asked::hello()).await?;
            Ok(calls.0.into_iter().map(|(host, called)| Seen { host, hello: called.hello }).collect())
        })
    }

    /// Asks all hosts at once that are live, or come while `wanted` ones are waited for. A silent one delays no other, and each has one
    /// deadline.
    pub(crate) fn call<'a>(
        &'a self,
        wanted: &'a [HostName],
        asked: Asked,
    ) -> BoxFuture<'a, Result<Calls, Refusal>> {
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
            let mut asking = JoinSet::new();
            let mut live: BTreeSet<HostName> = BTreeSet::new();
            let mut calls: BTreeMap<HostName, Called> = BTreeMap::new();
            // Where one that is wanted is silent, the others are waited for: they may have heard it.
            let settled = |called: &Called| {
                !asked.heard
                    || called.hello.as_ref().err().is_none_or(|error| error.code != RefusalCode::Unreachable)
            };
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
                            let (requests, asked) = (self.requests.clone(), asked.clone());
                            asking.spawn(async move {
                                let called = call(&requests, &host, &asked, PATIENCE).await;
                                (host, called)
                            });
                        }
                        // Those that were named are there; others, which they know, are given a moment.
                        if wanted.is_empty() && self.expected() > 0 && live.len() >= self.expected() {
                            deadline = deadline.min(tokio::time::Instant::now() + OTHERS);
                        }
                    }
                    Some(called) = asking.join_next() => calls.extend(called.ok()),
                }
                let all_wanted =
                    !wanted.is_empty() && wanted.iter().all(|host| calls.get(host).is_some_and(settled));
                if all_wanted || calls.values().any(asked.enough) {
                    // Whoever else is asked is not waited for, nor looked for.
                    calls.retain(|host, _| live.contains(host));
                    return Ok(Calls(calls));
                }
            }
            // Each has a deadline of its own.
            while let Some(called) = asking.join_next().await {
                calls.extend(called.ok());
            }
            calls.retain(|host, _| live.contains(host));
            let mut calls = Calls(calls);
            // A token may come late. Of a host that is gone one learns that at once.
            let unseen = calls.unseen();
            let asked_again = unseen.iter().map(|host| call(&self.requests, host, &asked, UNSEEN));
            for (host, called) in unseen.iter().zip(join_all(asked_again).await) {
                if called.hello.is_ok() {
                    calls.0.insert(host.clone(), called);
                }
            }
            Ok(calls)
        })
    }

    /// How one agent introduces itself, if it speaks the same protocol.
    ///
    /// # Errors
    /// What it refused, or that it does not answer, or speaks another protocol.
    pub async fn introduce(&self, host: &HostName) -> Result<Hello, Refusal> {
        introduction(&self.requests, host, PATIENCE).await
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

    /// Asks all hosts at once, of which one must be live.
    pub(crate) async fn call_live(&self, asked: Asked) -> Result<Calls, Refusal> {
        let calls = self.call(&[], asked).await?;
        if calls.0.is_empty() { Err(self.nobody()) } else { Ok(calls) }
    }
}
