//! Orders by hand about a migration in progress, and what came of them: told after it has happened, not before.

use std::time::Duration;

use mose_protocol::record::{Outcome, Record};
use mose_protocol::{HostName, MigrationId, Refusal, Reply, Request};

use crate::fleet::Fleet;

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
}

/// Has the source abort a migration, and waits for its end.
///
/// # Errors
/// What the source refused, such as an abort after the commit point, or that it does not answer.
pub async fn abort(fleet: &Fleet, from: &HostName, migration: &MigrationId) -> Result<Decided, Refusal> {
    fleet.agent(from).await?;
    fleet.ask(from, &Request::Abort(migration.clone())).await?;
    Ok(match ended(fleet, from, migration).await? {
        // It may have failed by itself at the same moment: it is off, and the service runs at its source.
        Ok(record) if at_source(&record) => Decided::AsOrdered(record),
        Ok(record) => Decided::Otherwise(record),
        Err(record) => Decided::NotYet(record),
    })
}

/// Has the source settle a service in doubt, and waits until the doubt is over. Where the destination speaks at that moment its
/// word counts: the doubt is over then too.
///
/// # Errors
/// What the source refused, such as to settle what is not in doubt, or that it does not answer.
pub async fn settle(
    fleet: &Fleet,
    from: &HostName,
    migration: &MigrationId,
    keep: bool,
) -> Result<Decided, Refusal> {
    fleet.agent(from).await?;
    fleet.ask(from, &Request::Settle { migration: migration.clone(), keep }).await?;
    Ok(match ended(fleet, from, migration).await? {
        Ok(record) => Decided::AsOrdered(record),
        Err(record) => Decided::NotYet(record),
    })
}

const fn at_source(record: &Record) -> bool {
    matches!(record.outcome, Outcome::Aborted | Outcome::RolledBack | Outcome::Refused)
}

/// The record of a migration once it has ended; what there is of it when that takes too long.
async fn ended(
    fleet: &Fleet,
    from: &HostName,
    migration: &MigrationId,
) -> Result<Result<Box<Record>, Option<Box<Record>>>, Refusal> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let last = match fleet.ask(from, &Request::Record(migration.clone())).await? {
            Reply::Record(Some(record)) if record.outcome != Outcome::InDoubt => return Ok(Ok(record)),
            Reply::Record(record) => record,
            _ => None,
        };
        if tokio::time::Instant::now() >= deadline {
            return Ok(Err(last));
        }
        tokio::time::sleep(PERIOD).await;
    }
}
