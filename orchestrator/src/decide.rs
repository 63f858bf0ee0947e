//! Orders by hand about a migration in progress, and what came of them: told after it has happened, not before.

use std::collections::BTreeMap;
use std::time::Duration;

use mose_protocol::agent::ServiceState;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::{Phase, Step};
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, ServiceName, Timestamp};
use tokio::time::Instant;

use crate::call::{Asked, Calls, PATIENCE as ONE_ANSWER};
use crate::fleet::Fleet;
use crate::told::{Silent, ago, silent};

/// How long an order may take to have its effect before it is told that it has none yet. It goes on.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often the source is asked meanwhile.
const PERIOD: Duration = Duration::from_millis(200);

/// What came of an order by hand.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    /// The migration has ended, and as it was ordered to.
    AsOrdered(Box<Record>),
    /// The migration has ended in another way.
    Otherwise(Box<Record>),
    /// It has not ended yet; the record is there if it is in doubt.
    NotYet(Option<Box<Record>>),
    /// The source took the order and has not answered since, for this reason.
    Unheard(Refusal),
}

/// What a migration's destination says of its service, after the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtDestination {
    /// Nothing: it does not answer, for this reason.
    Silent(Refusal),
    /// It has it, in that state.
    Has(ServiceState),
    /// It has nothing of it.
    Nothing,
}

/// Has the source abort a migration, and waits for its end. The source is looked for where it is not named.
///
/// # Errors
/// What the source refused, such as an abort after the commit point, or that it does not answer.
pub async fn abort(
    fleet: &Fleet,
    from: Option<&HostName>,
    migration: &MigrationId,
) -> Result<Decided, Refusal> {
    let from = source(fleet, from, migration, "abort").await?;
    give(fleet, &from, migration, &Request::Abort(migration.clone()), "abort").await?;
    Ok(match ended(fleet, &from, migration).await {
        // It may have failed by itself at the same moment: it is off, and the service runs at its source.
        Ended::Over(record) if at_source(&record) => Decided::AsOrdered(record),
        Ended::Over(record) => Decided::Otherwise(record),
        Ended::NotYet(record) => Decided::NotYet(record),
        Ended::Unheard(refusal) => Decided::Unheard(refusal),
    })
}

/// Has the source settle a service in doubt, and waits until the doubt is over. Where the destination speaks at that moment its
/// word counts: the doubt is over then too. The source is looked for where it is not named.
///
/// # Errors
/// What the source refused, such as to settle what is not in doubt, or that it does not answer.
pub async fn settle(
    fleet: &Fleet,
    from: Option<&HostName>,
    migration: &MigrationId,
    keep: bool,
) -> Result<Decided, Refusal> {
    let from = source(fleet, from, migration, "settle").await?;
    let request = Request::Settle { migration: migration.clone(), keep };
    give(fleet, &from, migration, &request, "settle").await?;
    Ok(match ended(fleet, &from, migration).await {
        Ended::Over(record) => Decided::AsOrdered(record),
        Ended::NotYet(record) => Decided::NotYet(record),
        Ended::Unheard(refusal) => Decided::Unheard(refusal),
    })
}

/// What the destination of a migration has of its service now.
pub async fn at_destination(fleet: &Fleet, record: &Record) -> AtDestination {
    let services = match fleet.ask_within(&record.to, &Request::Services, ONE_ANSWER).await {
        Ok(Reply::Services(services)) => services,
        Ok(Reply::LastServices { refused, .. }) | Err(refused) => return AtDestination::Silent(refused),
        Ok(_) => {
            let reason = format!("{} gave an answer of another kind", record.to);
            return AtDestination::Silent(Refusal::new(RefusalCode::Malformed, reason, ""));
        }
    };
    let of_it = services.iter().find(|service| service.name == record.service);
    of_it.map_or(AtDestination::Nothing, |service| AtDestination::Has(service.state))
}

const fn at_source(record: &Record) -> bool {
    matches!(record.outcome, Outcome::Aborted | Outcome::RolledBack | Outcome::Refused)
}

/// The source of a migration, which answers: the one that was named, or else the one that says so.
async fn source(
    fleet: &Fleet,
    from: Option<&HostName>,
    migration: &MigrationId,
    what: &str,
) -> Result<HostName, Refusal> {
    let calls = fleet.call(from.map(std::slice::from_ref).unwrap_or_default(), asked(migration)).await?;
    let known = Known::of(&calls);
    let Some(host) = from.or(known.source.as_ref()) else {
        return Err(if calls.0.is_empty() { fleet.nobody() } else { known.without_source(migration, what) });
    };
    match calls.0.get(host).map(|called| &called.hello) {
        Some(Ok(_)) => return Ok(host.clone()),
        Some(Err(refused)) if refused.code != RefusalCode::Unreachable => return Err(refused.clone()),
        _ => {}
    }
    Err(match known.silent.get(host) {
        Some(silent) => known.of_silent_source(silent, what),
        None if calls.0.is_empty() => fleet.nobody(),
        None => {
            let names: Vec<_> = calls.0.keys().map(HostName::as_str).collect();
            Refusal::new(
                RefusalCode::UnknownHost,
                format!("no agent of a host {host} is live, and none that answers has heard of it"),
                format!("live are: {}", names.join(", ")),
            )
        }
    })
}

/// What tells a migration's source.
fn asked(migration: &MigrationId) -> Asked {
    let (record, steps) =
        (Request::Record(migration.clone()), Request::Steps { migration: migration.clone(), from: 0 });
    Asked::with(&[record, steps])
}

/// What the hosts that answer know of a migration.
struct Known {
    source: Option<HostName>,
    /// Its record, by the host that keeps it.
    record: Option<(HostName, Box<Record>)>,
    /// The hosts that had a part in it and are not its source.
    others: Vec<HostName>,
    /// Which of them has restored the service.
    restored: Option<HostName>,
    silent: BTreeMap<HostName, Silent>,
}

impl Known {
    fn of(calls: &Calls) -> Self {
        let silent = silent(calls).into_iter().map(|silent| (silent.host.clone(), silent)).collect();
        let mut known = Self { source: None, record: None, others: Vec::new(), restored: None, silent };
        for (host, called) in &calls.0 {
            if let Some(Ok(Reply::Record(Some(record)))) = called.answers.first() {
                known.source = Some(record.from.clone());
                known.record = Some((host.clone(), record.clone()));
            }
            let Some(Ok(Reply::Steps(steps))) = called.answers.get(1) else { continue };
            // Only the source tells of the whole.
            if steps.iter().any(|event| event.step == Step::Migration) {
                known.source = Some(host.clone());
            } else if !steps.is_empty() {
                known.others.push(host.clone());
            }
            if steps.iter().any(|event| event.step == Step::Restore && event.phase == Phase::Finished) {
                known.restored = Some(host.clone());
            }
        }
        known
    }

    /// That the source is silent, and why nobody else will do.
    fn of_silent_source(&self, source: &Silent, what: &str) -> Refusal {
        let host = &source.host;
        let why = match what {
            "settle" => "it has the journal, and the service's images to resume it from or to discard",
            _ => "it drives the migration, which goes on without this command",
        };
        let mut remedy =
            format!("see whether mose-agent on {host} runs, and its network; once it answers, order again");
        if let Some(restored) = &self.restored {
            remedy.push_str(&format!("; {restored} has restored the service, which runs there"));
        }
        Refusal::new(
            RefusalCode::Unreachable,
            format!(
                "nothing was ordered: {}, and only the source can {what} a migration: {why}",
                told(source)
            ),
            remedy,
        )
    }

    /// That no host that answers is the source.
    fn without_source(&self, migration: &MigrationId, what: &str) -> Refusal {
        let mut reason = format!("no host that answers is the source of a migration {migration}");
        if let Some(other) = self.others.first() {
            reason.push_str(&format!("; {other} had a part in it as its destination"));
        }
        if self.silent.is_empty() {
            let remedy = "`mose history` lists those that are known";
            return Refusal::new(RefusalCode::OutOfTurn, reason, remedy);
        }
        let silent: Vec<String> = self.silent.values().map(told).collect();
        let restored = self.restored.as_ref();
        let restored = restored.map(|host| format!("; {host} has restored the service, which runs there"));
        Refusal::new(
            RefusalCode::Unreachable,
            format!("{reason}, and {}, and may be it", silent.join("; ")),
            format!(
                "only the source can {what} it: see whether mose-agent runs there, and the network{}",
                restored.unwrap_or_default()
            ),
        )
    }
}

/// That a host is silent, and since when.
fn told(silent: &Silent) -> String {
    let heard = silent.last.as_ref().map(|last| format!(" (heard last {})", ago(last.at, Timestamp::now())));
    format!("{} does not answer{}", silent.host, heard.unwrap_or_default())
}

/// Gives the source an order; where it refuses, with what is true of the migration.
async fn give(
    fleet: &Fleet,
    from: &HostName,
    migration: &MigrationId,
    request: &Request,
    what: &str,
) -> Result<(), Refusal> {
    let refusal = match fleet.ask(from, request).await {
        Ok(_) => return Ok(()),
        Err(refusal) => refusal,
    };
    match refusal.code {
        // Nobody can say that nothing was changed.
        RefusalCode::Unreachable => Err(Refusal::new(
            RefusalCode::Failed,
            format!("{from} fell silent over the order, and may have taken it: {}", refusal.reason),
            format!("`mose history {migration}` tells what came of it; to order the same again does no harm"),
        )),
        RefusalCode::OutOfTurn => {
            let known = Known::of(&fleet.call(&[], asked(migration)).await?);
            Err(explained(refusal, from, migration, &known, what))
        }
        _ => Err(refusal),
    }
}

/// A source's refusal, by what is known of the migration.
fn explained(
    refusal: Refusal,
    from: &HostName,
    migration: &MigrationId,
    known: &Known,
    what: &str,
) -> Refusal {
    let refuse = |reason: String, remedy: String| Refusal::new(RefusalCode::OutOfTurn, reason, remedy);
    match (&known.record, &known.source) {
        (Some((_, record)), _) if record.outcome != Outcome::InDoubt => {
            let (service, to) = (&record.service, &record.to);
            let where_to = match record.outcome {
                Outcome::Done => format!("{service} was moved to {to}"),
                Outcome::GivenUp => format!("{} discarded its copy of {service}", record.from),
                _ => format!("{service} is at {}, as before", record.from),
            };
            refuse(
                format!(
                    "there is nothing to {what}: migration {migration} has ended ({}), and {where_to}",
                    record.outcome.name()
                ),
                format!("`mose history {migration}` shows it"),
            )
        }
        (_, Some(source)) if source != from => refuse(
            format!("{from} is not the source of migration {migration}: {source} is"),
            format!("say --from {source}, or leave --from out"),
        ),
        (None, None) => Refusal { reason: refusal.reason, ..known.without_source(migration, what) },
        _ => refusal,
    }
}

/// How far a migration is after an order.
enum Ended {
    Over(Box<Record>),
    NotYet(Option<Box<Record>>),
    Unheard(Refusal),
}

/// The record of a migration once it has ended; what there is of it when that takes too long. A source that falls silent meanwhile is
/// asked on.
async fn ended(fleet: &Fleet, from: &HostName, migration: &MigrationId) -> Ended {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = Request::Record(migration.clone());
        let not_yet = match fleet.ask_within(from, &request, ONE_ANSWER).await {
            Ok(Reply::Record(Some(record))) if record.outcome != Outcome::InDoubt => {
                return Ended::Over(record);
            }
            Ok(Reply::Record(record)) => Ended::NotYet(record),
            Ok(_) => Ended::NotYet(None),
            Err(refusal) => Ended::Unheard(refusal),
        };
        if Instant::now() >= deadline {
            return not_yet;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// What came of settling, in sentences: what happened to the service, and whether its destination is needed.
#[must_use]
pub fn settled(record: &Record, keep: bool, there: &AtDestination) -> Vec<String> {
    let Record { service, from, to, migration, .. } = record;
    let mut said = vec![match (record.outcome, keep) {
        (Outcome::Done, true) => format!("{to} said that it runs {service}: it was not resumed at {from}"),
        (Outcome::Done, false) => format!("{to} said that it runs {service}: nothing was given up"),
        (Outcome::GivenUp, _) => format!("{from} has discarded its copy of {service}"),
        (_, true) => format!("{service} was resumed at {from}"),
        (_, false) => {
            format!("{to} said that it will never run {service}: it was resumed at {from}, not given up")
        }
    }];
    said.extend(match (record.outcome, there) {
        (Outcome::Done, AtDestination::Has(state)) => Some(format!("{to} has it now: {}", state.name())),
        (Outcome::Done, _) => None,
        (Outcome::GivenUp, AtDestination::Silent(refused)) => Some(format!(
            "{to} is needed ({}): if it restored {service} it runs there, and else it is lost; once its agent is back, \
             `mose history {migration}` says which",
            refused.reason
        )),
        (Outcome::GivenUp, AtDestination::Has(state)) => {
            Some(format!("{to} has it, and says that it is {}", state.name()))
        }
        (Outcome::GivenUp, AtDestination::Nothing) => {
            Some(format!("{to} answers and has nothing of it: start it again"))
        }
        (_, AtDestination::Silent(refused)) => Some(format!(
            "{to} is needed ({}): nobody knows whether it runs {service} too; before its network is back, look there with \
             podman ps and remove its copy ({}), for two must not run; once its agent is back, `mose history {migration}` says \
             whether they did",
            refused.reason,
            removal(service)
        )),
        (_, AtDestination::Has(state)) => Some(format!(
            "{to} has it too, and says that it is {}: remove that copy if it runs ({})",
            state.name(),
            removal(service)
        )),
        (_, AtDestination::Nothing) => Some(format!("{to} answers and has nothing of it")),
    });
    said
}

fn removal(service: &ServiceName) -> String {
    format!("podman rm -f {service}")
}
