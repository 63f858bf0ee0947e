//! Ordering one migration and seeing it through to its record.

use std::time::{Duration, SystemTime};

use mose_pam::Plan;
use mose_protocol::agent::{Capability, Hello};
use mose_protocol::forecast::Forecast;
use mose_protocol::handover::{FilePolicy, ImagePolicy, PreCopyWay, Task};
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::{Step, StepEvent};
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, ServiceName, Timestamp};

use crate::fleet::Fleet;
use crate::follow::Follower;
use crate::told::{Told, ago};

/// How long without any step before the source is asked how far it is.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a source may be unreachable before the order is given up. The migration itself goes on.
const LOST: Duration = Duration::from_secs(60);

/// What is to be moved, and how.
#[derive(Debug, Clone)]
pub struct Order {
    /// The service.
    pub service: ServiceName,
    /// From where; `None`: from where it runs.
    pub from: Option<HostName>,
    /// Whereto.
    pub to: HostName,
    /// How.
    pub plan: Plan,
    /// Which way the images go.
    pub transport: Option<TransportKind>,
    /// What becomes of a missing image.
    pub image_policy: ImagePolicy,
    /// What becomes of volumes and bind mounts.
    pub files: FilePolicy,
    /// How pre-copy reads the running service.
    pub pre_copy: Option<PreCopyWay>,
    /// What the designer promised, if the plan is its.
    pub forecast: Option<Box<Forecast>>,
    /// Whether it is only rehearsed.
    pub rehearsal: bool,
}

/// The request that orders a task of its source.
#[must_use]
pub fn request(task: Task) -> Request {
    match task.rehearsal {
        true => Request::OrderRehearsal(Box::new(task)),
        false => Request::Migrate(Box::new(task)),
    }
}

/// Refuses a rehearsal by agents that do not know any.
///
/// # Errors
/// Where one does not.
pub fn know_rehearsals<'a>(agents: impl IntoIterator<Item = &'a Hello>) -> Result<(), Refusal> {
    match agents.into_iter().find(|agent| !agent.capabilities.contains(&Capability::Rehearsals)) {
        None => Ok(()),
        Some(old) => Err(Refusal::new(
            RefusalCode::Capability,
            format!("the agent on {} (release {}) knows no rehearsals", old.host, old.release),
            "run this release of MOSE there",
        )),
    }
}

/// A fresh migration's identity: readable, sortable, unique.
pub(crate) fn identity() -> Result<MigrationId, Refusal> {
    let now = Timestamp::from(SystemTime::now());
    let text = format!("m{:x}-{:x}", now.0, std::process::id());
    text.parse()
        .map_err(|error: mose_protocol::NameError| Refusal::new(RefusalCode::Failed, error.to_string(), ""))
}

/// Carries out an order and returns its record; `watch` is shown every step as it happens.
///
/// # Errors
/// What was refused before the migration began. What happened after is in the record.
pub async fn carry_out(
    fleet: &Fleet,
    order: &Order,
    mut watch: impl FnMut(&StepEvent),
) -> Result<Record, Refusal> {
    let from = match &order.from {
        Some(from) => from.clone(),
        None => locate(fleet, &order.service).await?,
    };
    if from == order.to {
        return Err(Refusal::new(
            RefusalCode::SameHost,
            format!("source and destination are both {from}"),
            "choose another host with --to",
        ));
    }
    let source = fleet.agent(&from).await?;
    let to = fleet.agent(&order.to).await?;
    if order.rehearsal {
        know_rehearsals([&source, &to])?;
    }
    if let Some(kind) = order.transport {
        let needed = match kind {
            TransportKind::Tcp => Capability::TransferTcp,
            TransportKind::Zenoh => Capability::TransferZenoh,
        };
        if !to.capabilities.contains(&needed) {
            return Err(Refusal::new(
                RefusalCode::Capability,
                format!("{} does not receive images over {kind}", order.to),
                "choose another transport, or let the agents choose",
            ));
        }
    }
    let task = Task {
        migration: identity()?,
        service: order.service.clone(),
        from: from.clone(),
        to: order.to.clone(),
        plan: order.plan.clone(),
        transport: order.transport,
        image_policy: order.image_policy,
        pre_copy: order.pre_copy,
        files: order.files.clone(),
        forecast: order.forecast.clone(),
        rehearsal: order.rehearsal,
    };
    let migration = task.migration.clone();
    let mut follower = Follower::new(fleet).await?;
    let under_way = |refusal: Refusal| match refusal.code {
        // From here on nobody can say that nothing was changed.
        RefusalCode::Unreachable => Refusal::new(
            RefusalCode::Failed,
            format!("{} was lost while migration {migration} may be under way: {}", from, refusal.reason),
            "the migration goes on without this command; see `mose history` and `mose services`",
        ),
        _ => refusal,
    };
    fleet.ask(&from, &request(task)).await.map_err(under_way)?;
    let mut heard = tokio::time::Instant::now();
    loop {
        match tokio::time::timeout(SILENCE, follower.next()).await {
            Ok(Some(event)) if event.migration == migration => {
                heard = tokio::time::Instant::now();
                let ended = event.step == Step::Migration && event.phase.is_end() && event.host == from;
                watch(&event);
                if ended {
                    break;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                return Err(Refusal::new(RefusalCode::Failed, "the session to the agents was closed", ""));
            }
            // Nothing was heard: what was missed is asked for, and whether it is all over or in doubt.
            Err(_) => {
                follower.catch_up(&migration, &from);
                match fleet.ask(&from, &Request::Record(migration.clone())).await {
                    Ok(Reply::Record(Some(record))) if record.outcome == Outcome::InDoubt => {
                        return Ok(*record);
                    }
                    Ok(Reply::Record(Some(_))) => break,
                    Ok(_) => heard = tokio::time::Instant::now(),
                    Err(_) if heard.elapsed() < LOST => {}
                    Err(refusal) => return Err(under_way(refusal)),
                }
            }
        }
    }
    match fleet.ask(&from, &Request::Record(migration.clone())).await.map_err(under_way)? {
        Reply::Record(Some(record)) => Ok(*record),
        _ => Err(Refusal::new(
            RefusalCode::Failed,
            format!("{from} keeps no record of migration {migration}"),
            "see the agent's log",
        )),
    }
}

/// Where a service runs.
///
/// # Errors
/// Where it runs nowhere, or at more than one place.
pub async fn locate(fleet: &Fleet, service: &ServiceName) -> Result<HostName, Refusal> {
    let Told { told: services, last, unanswered } = fleet.services().await?;
    let found: Vec<_> = services.iter().filter(|s| &s.name == service).collect();
    match found.as_slice() {
        [one] => Ok(one.host.clone()),
        [] => {
            // Nothing is ordered of where it was; but that is what there is to tell.
            if let Some(there) = last.iter().find(|last| &last.row.name == service) {
                let host = &there.row.host;
                return Err(Refusal::new(
                    RefusalCode::UnknownService,
                    format!(
                        "no host that answers runs a service {service}; {host}, which does not, last told of it {}",
                        ago(there.last_told_at, Timestamp::now())
                    ),
                    format!("see whether {host} and mose-agent there run, and its network"),
                ));
            }
            let mut known: Vec<_> = services.iter().map(|s| format!("{} on {}", s.name, s.host)).collect();
            known.extend(unanswered.iter().map(|missing| missing.refused.to_string()));
            Err(Refusal::new(
                RefusalCode::UnknownService,
                format!("no host runs a service {service}"),
                if known.is_empty() {
                    "nothing runs anywhere; start a service first, in the lab with: mose lab service start sockperf --on edge-a"
                        .to_owned()
                } else {
                    format!("known are: {}", known.join("; "))
                },
            ))
        }
        several => Err(Refusal::new(
            RefusalCode::Conflict,
            format!(
                "{service} is on {}",
                several.iter().map(|s| s.host.to_string()).collect::<Vec<_>>().join(" and ")
            ),
            "say which one with --from",
        )),
    }
}
