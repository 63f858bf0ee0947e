//! What the hosts tell, and of those that do not, what they told last: as the agents that answer heard it.

use std::collections::BTreeSet;

use mose_protocol::agent::{Capability, ServiceInfo};
use mose_protocol::link::LinkMetrics;
use mose_protocol::record::Record;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, Timestamp};
use serde::Serialize;

pub use crate::call::LastHeard;
use crate::call::{Asked, Called, Calls, cut_off};
use crate::fleet::{ANSWER, Fleet, Seen};

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
    /// Whether nothing came from it; otherwise it refused.
    pub silent: bool,
    /// When it was heard last, on the clock of the machine that asks, where anybody who answers has heard it. What it told then is
    /// listed beside this, marked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_told_at: Option<Timestamp>,
}

/// What a host told last that does not answer now, or whose container engine does not.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Last<T> {
    /// What it told.
    #[serde(flatten)]
    pub row: T,
    /// Always true: this is not how it is now, but how it was.
    pub silent: bool,
    /// When it was told, on the clock of the machine that asks.
    pub last_told_at: Timestamp,
}

impl<T> Last<T> {
    /// All that was told at one time.
    fn each(last_told_at: Timestamp, rows: Vec<T>) -> impl Iterator<Item = Self> {
        rows.into_iter().map(move |row| Self { row, silent: true, last_told_at })
    }
}

/// What hosts told, and which of them did not.
#[derive(Debug, Clone, PartialEq)]
pub struct Told<T> {
    /// What was told.
    pub told: Vec<T>,
    /// What those told last that do not tell it now.
    pub last: Vec<Last<T>>,
    /// The hosts that did not tell, or not all.
    pub unanswered: Vec<Unanswered>,
}

/// A host that does not answer, or that others have heard of and nobody reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Silent {
    /// Which.
    pub host: HostName,
    /// That it does not answer, and what to do about it.
    pub refused: Refusal,
    /// What others heard of it last.
    pub last: Option<LastHeard>,
}

/// A host that does not tell, with what it told before where it says that itself.
struct Missing<T> {
    refused: Refusal,
    last: Option<(Timestamp, Vec<T>)>,
}

impl<T> From<Refusal> for Missing<T> {
    fn from(refused: Refusal) -> Self {
        Self { refused, last: None }
    }
}

impl Fleet {
    /// The agents that are live, as [`Fleet::agents`] has them, and the hosts that are silent, with what others heard of them last.
    ///
    /// # Errors
    /// Where the session fails.
    pub async fn roll(&self, wanted: &[HostName]) -> Result<(Vec<Seen>, Vec<Silent>), Refusal> {
        let calls = self.call(wanted, Asked::with(&[])).await?;
        let silent = silent(&calls);
        let seen = calls.0.into_iter().map(|(host, called)| Seen { host, hello: called.hello });
        Ok((seen.collect(), silent))
    }

    /// The links between the live edge hosts, and which hosts did not tell, with what they told last and what is known of the links to
    /// them; with `probe`, the others are measured now, one after another.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn links(&self, probe: bool) -> Result<Told<Link>, Refusal> {
        let last = |from: &HostName, last: &LastHeard| {
            let links = last.links.clone()?;
            Some((last.at, links.into_iter().map(|metrics| Link { from: from.clone(), metrics }).collect()))
        };
        if !probe {
            let calls = self.call_live(Asked::with(&[Request::Links])).await?;
            let all = gather(&calls, |from, reply| Ok(links_of(from, reply)?), last);
            return Ok(with_those_to_silent(all, &calls));
        }
        let calls = self.call_live(Asked::with(&[])).await?;
        let mut all = gather(&calls, |_, _| Ok(Vec::new()), last);
        let edge = |called: &Called| {
            called.hello.as_ref().is_ok_and(|hello| hello.capabilities.contains(&Capability::Containers))
        };
        let edges: Vec<&HostName> = calls.0.iter().filter(|(_, c)| edge(c)).map(|(host, _)| host).collect();
        for from in &edges {
            // Two measurements at once would measure each other.
            for to in edges.iter().filter(|to| to != &from) {
                let answer = self.ask(from, &Request::ProbeLink((*to).clone())).await;
                match answer.and_then(|reply| links_of(from, &reply)) {
                    Ok(found) => all.told.extend::<Vec<Link>>(found),
                    Err(refused) => all.unanswered.push(unanswered(from, refused, None)),
                }
            }
        }
        Ok(with_those_to_silent(all, &calls))
    }

    /// What runs on every live host, and which hosts did not say, with what ran there when they last did.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn services(&self) -> Result<Told<ServiceInfo>, Refusal> {
        let calls = self.call_live(Asked::with(&[Request::Services])).await?;
        let services = |host: &HostName, reply: &Reply| match reply {
            Reply::Services(found) => Ok(found.clone()),
            Reply::LastServices { at, services, refused } => {
                Err(Missing { refused: refused.clone(), last: Some((*at, services.clone())) })
            }
            _ => Err(of_another_kind(host).into()),
        };
        let mut all = gather(&calls, services, |_, last| last.services.clone());
        all.told.sort_by(|a, b| (&a.name, &a.host).cmp(&(&b.name, &b.host)));
        all.last.sort_by(|a, b| (&a.row.name, &a.row.host).cmp(&(&b.row.name, &b.row.host)));
        Ok(all)
    }

    /// The newest records of every live host, at most so many, newest first.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn history(&self, count: u32) -> Result<Told<Record>, Refusal> {
        let asked = Asked { patience: ANSWER, ..Asked::with(&[Request::History(count)]) };
        let calls = self.call_live(asked).await?;
        let records = |host: &HostName, reply: &Reply| match reply {
            Reply::History(found) => Ok(found.clone()),
            _ => Err(of_another_kind(host).into()),
        };
        let mut all = gather(&calls, records, |_, _| None);
        all.told.sort_by_key(|record| std::cmp::Reverse(record.started_at));
        all.told.truncate(count as usize);
        Ok(all)
    }

    /// The record of one migration, from whichever host keeps it.
    ///
    /// # Errors
    /// Where no agent is live, or the session fails.
    pub async fn record(&self, migration: &MigrationId) -> Result<Told<Record>, Refusal> {
        let asked = Asked { patience: ANSWER, ..Asked::with(&[Request::Record(migration.clone())]) };
        let calls = self.call_live(asked).await?;
        let record = |host: &HostName, reply: &Reply| match reply {
            Reply::Record(found) => Ok(found.iter().map(|record| (**record).clone()).collect()),
            _ => Err(of_another_kind(host).into()),
        };
        Ok(gather(&calls, record, |_, _| None))
    }
}

/// What the hosts told, and what is missing: `take` has what a reply tells, `last` what was heard of it before.
fn gather<T>(
    calls: &Calls,
    take: impl Fn(&HostName, &Reply) -> Result<Vec<T>, Missing<T>>,
    last: impl Fn(&HostName, &LastHeard) -> Option<(Timestamp, Vec<T>)>,
) -> Told<T> {
    let heard = calls.last();
    let mut all = Told { told: Vec::new(), last: Vec::new(), unanswered: Vec::new() };
    for (host, called) in &calls.0 {
        let answer = match (&called.hello, called.answers.first()) {
            (Err(refused), _) | (_, Some(Err(refused))) => Err(refused.clone().into()),
            (Ok(_), Some(Ok(reply))) => take(host, reply),
            (Ok(_), None) => Ok(Vec::new()),
        };
        match answer {
            Ok(found) => all.told.extend(found),
            Err(Missing { refused, last: own }) => {
                let own = own.map(|(at, rows)| (called.here(at), rows));
                all.missing(host, refused, own, heard.get(host), &last);
            }
        }
    }
    for host in calls.unseen() {
        all.missing(&host, cut_off(&host), None, heard.get(&host), &last);
    }
    all.unanswered.sort_by(|a, b| a.host.cmp(&b.host));
    all
}

impl<T> Told<T> {
    /// Notes a host that does not tell, and what it told before: by itself, or as others heard it.
    fn missing(
        &mut self,
        host: &HostName,
        refused: Refusal,
        own: Option<(Timestamp, Vec<T>)>,
        heard: Option<&LastHeard>,
        last: &impl Fn(&HostName, &LastHeard) -> Option<(Timestamp, Vec<T>)>,
    ) {
        // Who speaks and refuses has not fallen silent; what it told before may be as wrong as what it tells now.
        let heard = heard.filter(|_| refused.code == RefusalCode::Unreachable);
        let rows = own.or_else(|| last(host, heard?));
        let at = rows.as_ref().map(|(at, _)| *at).or(heard.map(|heard| heard.at));
        self.last.extend(rows.into_iter().flat_map(|(at, rows)| Last::each(at, rows)));
        self.unanswered.push(unanswered(host, refused, at));
    }
}

fn unanswered(host: &HostName, refused: Refusal, last_told_at: Option<Timestamp>) -> Unanswered {
    let silent = refused.code == RefusalCode::Unreachable;
    Unanswered { host: host.clone(), refused, silent, last_told_at }
}

/// The hosts that do not answer, and those that nobody reaches.
pub(crate) fn silent(calls: &Calls) -> Vec<Silent> {
    let mut last = calls.last();
    let mut silent = |host: &HostName, refused: &Refusal| Silent {
        host: host.clone(),
        refused: refused.clone(),
        last: last.remove(host),
    };
    let mut all = Vec::new();
    for (host, called) in &calls.0 {
        if let Err(refused) = &called.hello
            && refused.code == RefusalCode::Unreachable
        {
            all.push(silent(host, refused));
        }
    }
    all.extend(calls.unseen().iter().map(|host| silent(host, &cut_off(host))));
    all
}

/// The links as `from` tells them.
fn links_of(from: &HostName, reply: &Reply) -> Result<Vec<Link>, Refusal> {
    match reply {
        Reply::Links(found) => {
            Ok(found.iter().map(|metrics| Link { from: from.clone(), metrics: metrics.clone() }).collect())
        }
        _ => Err(of_another_kind(from)),
    }
}

/// The same with the links to silent hosts among what was told last: nobody can measure them now.
fn with_those_to_silent(mut all: Told<Link>, calls: &Calls) -> Told<Link> {
    let silent: BTreeSet<HostName> =
        all.unanswered.iter().filter(|missing| missing.silent).map(|missing| missing.host.clone()).collect();
    let (to_silent, told) = all.told.into_iter().partition(|link| silent.contains(&link.metrics.to));
    all.told = told;
    for link in to_silent {
        let at = link.metrics.measured_at;
        let at = calls.0.get(&link.from).map_or(at, |called| called.here(at));
        all.last.extend(Last::each(at, vec![link]));
    }
    for to in &silent {
        for (from, at, metrics) in calls.towards(to) {
            if all.last.iter().all(|last| last.row.from != *from || last.row.metrics.to != *to) {
                all.last.extend(Last::each(at, vec![Link { from: from.clone(), metrics: metrics.clone() }]));
            }
        }
    }
    all.last.sort_by(|a, b| (&a.row.from, &a.row.metrics.to).cmp(&(&b.row.from, &b.row.metrics.to)));
    all
}

fn of_another_kind(host: &HostName) -> Refusal {
    let reason = format!("the agent on {host} gave an answer of another kind");
    Refusal::new(RefusalCode::Malformed, reason, "run the same release of MOSE on both hosts")
}

/// How long ago a time was, as people say it.
#[must_use]
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = (now.since(at).0 / 1e3).max(0.0) as u64;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}
