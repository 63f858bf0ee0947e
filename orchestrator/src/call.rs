//! Asking every host at once: who is there, what each answers, and what those that answer heard last of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mose_bus::peers::Requests;
use mose_protocol::agent::{Hello, ServiceInfo};
use mose_protocol::heard::Heard;
use mose_protocol::link::LinkMetrics;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Response, Timestamp, envelope};
use tokio::time::Instant;

/// How long one waits for agents that are expected, and for their answers.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// What is left at least for a host's answers once it has introduced itself: it is there, and only busy.
const LEAST: Duration = Duration::from_secs(1);

/// What hosts are asked beside their introduction.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) requests: Arc<[Request]>,
    /// How long all answers of a host may take together.
    pub(crate) patience: Duration,
    /// Whether each is also asked what it heard of the others.
    pub(crate) heard: bool,
}

impl Asked {
    /// These requests, and what was heard; all within the time that an introduction may take.
    pub(crate) fn with(requests: &[Request]) -> Self {
        Self { requests: requests.into(), patience: PATIENCE, heard: true }
    }

    /// Nothing but the introduction.
    pub(crate) fn hello() -> Self {
        Self { heard: false, ..Self::with(&[]) }
    }
}

/// A host that was asked.
pub(crate) struct Called {
    pub(crate) hello: Result<Hello, Refusal>,
    /// Its answers, in the order of the requests; none where it did not introduce itself.
    pub(crate) answers: Vec<Response>,
    heard: Option<HeardThere>,
}

/// What a host heard of the others.
struct HeardThere {
    /// What the time was there, and here.
    at: Timestamp,
    received: Timestamp,
    hosts: Vec<Heard>,
}

impl Called {
    /// A time on the host's clock as this machine's shows it, as far as the two are known to differ.
    pub(crate) fn here(&self, at: Timestamp) -> Timestamp {
        let Some(heard) = &self.heard else { return at };
        let ahead = i128::from(heard.received.0) - i128::from(heard.at.0);
        at.shifted(i64::try_from(ahead).unwrap_or_default())
    }
}

/// Asks one host.
pub(crate) async fn call(requests: &Requests, host: &HostName, asked: &Asked, hello: Duration) -> Called {
    let begun = Instant::now();
    let hello = introduction(requests, host, hello).await;
    if hello.is_err() {
        return Called { hello, answers: Vec::new(), heard: None };
    }
    let left = |patience: Duration| patience.saturating_sub(begun.elapsed()).max(LEAST);
    let (patience, quick) = (left(asked.patience), left(PATIENCE));
    let answers = join_all(asked.requests.iter().map(|request| requests.ask(host, request, patience)));
    let heard = async {
        if !asked.heard {
            return None;
        }
        // An agent of 0.1.0 does not know the question: it has heard nothing.
        match requests.ask(host, &Request::Heard, quick).await {
            Ok(Reply::Heard { at, hosts }) => Some(HeardThere { at, received: Timestamp::now(), hosts }),
            Ok(_) | Err(_) => None,
        }
    };
    let (answers, heard) = tokio::join!(answers, heard);
    Called { hello, answers, heard }
}

/// What was heard last of a host, on this machine's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct LastHeard {
    /// When it was heard last.
    pub at: Timestamp,
    /// How it introduced itself.
    pub hello: Option<Box<Hello>>,
    /// When it said last what runs there, and what that was.
    pub services: Option<(Timestamp, Vec<ServiceInfo>)>,
    /// What it said of its links.
    pub links: Option<Vec<LinkMetrics>>,
}

/// Every host that was asked.
#[derive(Default)]
pub(crate) struct Calls(pub(crate) BTreeMap<HostName, Called>);

impl Calls {
    fn heard(&self) -> impl Iterator<Item = (&HostName, &Called, Timestamp, &Heard)> {
        self.0.iter().flat_map(|(by, called)| {
            let there = called.heard.iter();
            there.flat_map(move |there| there.hosts.iter().map(move |of| (by, called, there.received, of)))
        })
    }

    /// What anybody heard last of each host: the newest counts.
    pub(crate) fn last(&self) -> BTreeMap<HostName, LastHeard> {
        let mut all: BTreeMap<HostName, LastHeard> = BTreeMap::new();
        for (_, _, received, heard) in self.heard() {
            let ago = |ago: mose_pam::Millis| {
                // A peer may say anything: what is no time, or none that has been, is now.
                let micros = (ago.0 * 1e3).clamp(0.0, 1e15);
                received.shifted(-(if micros.is_nan() { 0 } else { micros as i64 }))
            };
            let at = ago(heard.ago);
            let services = heard.services.as_ref().map(|said| (ago(said.ago), said.services.clone()));
            let last = LastHeard { at, hello: heard.hello.clone(), services, links: heard.links.clone() };
            match all.remove(&heard.host) {
                None => drop(all.insert(heard.host.clone(), last)),
                Some(other) => {
                    let (newer, older) = if other.at >= last.at { (other, last) } else { (last, other) };
                    let services = match (newer.services, older.services) {
                        (Some(one), Some(two)) if two.0 > one.0 => Some(two),
                        (one, two) => one.or(two),
                    };
                    let (hello, links) = (newer.hello.or(older.hello), newer.links.or(older.links));
                    all.insert(heard.host.clone(), LastHeard { at: newer.at, hello, services, links });
                }
            }
        }
        all
    }

    /// What those that answer know themselves of their links to a host, each with when it was measured.
    pub(crate) fn towards<'a>(
        &'a self,
        to: &'a HostName,
    ) -> impl Iterator<Item = (&'a HostName, Timestamp, &'a LinkMetrics)> {
        self.heard().filter(move |(.., heard)| &heard.host == to).filter_map(move |(by, called, _, heard)| {
            let metrics = heard.towards.as_ref().filter(|metrics| &metrics.to == to)?;
            Some((by, called.here(metrics.measured_at), metrics))
        })
    }

    /// The hosts that were heard of, and that nobody reaches now.
    pub(crate) fn unseen(&self) -> Vec<HostName> {
        let mut unseen: Vec<HostName> = self.heard().map(|(.., heard)| heard.host.clone()).collect();
        unseen.retain(|host| !self.0.contains_key(host));
        unseen.sort();
        unseen.dedup();
        unseen
    }
}

/// That a host was heard of, and is not reached any more.
pub(crate) fn cut_off(host: &HostName) -> Refusal {
    Refusal::new(
        RefusalCode::Unreachable,
        format!("the agent on {host} is gone, or cut off from here"),
        format!(
            "see whether {host} and mose-agent there run, and its network; a host that was taken out for good is forgotten after \
             a day"
        ),
    )
}

/// How an agent introduces itself, if it speaks the same protocol.
pub(crate) async fn introduction(
    requests: &Requests,
    host: &HostName,
    patience: Duration,
) -> Result<Hello, Refusal> {
    match requests.ask(host, &Request::Hello, patience).await? {
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
