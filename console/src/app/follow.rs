//! From the agents to events: who is there, what they measure, every step, every record.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow::Follower;
use mose_protocol::agent::Telemetry;
use mose_protocol::record::Outcome;
use mose_protocol::step::{Step, StepEvent};
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, envelope, keys};
use mose_screen::event::Event;
use mose_screen::fleet_event::FleetEvent;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use zenoh::handlers::RingChannel;
use zenoh::sample::SampleKind;

/// Telemetry that waits; where it is more, the oldest goes.
const TELEMETRY_WAITING: usize = 2048;
/// Records that are asked for when an agent appears.
const RECORDS: u32 = 200;
/// How long a migration is silent before its source is asked.
const SILENCE: Duration = Duration::from_secs(2);
/// How long an agent is asked again for its introduction.
const INTRODUCTION: Duration = Duration::from_secs(20);

type Out = mpsc::Sender<Event>;

/// Tells all that the agents tell, until the session is closed or nobody listens.
///
/// # Errors
/// Where the session cannot be listened to.
pub async fn follow(fleet: Arc<Fleet>, out: Out) -> Result<(), Refusal> {
    // Followed before anybody is asked for the past, so that nothing falls in between.
    let mut tasks = JoinSet::new();
    let (ready, steps_ready) = tokio::sync::oneshot::channel();
    tasks.spawn(steps(fleet.clone(), out.clone(), ready));
    let _ = steps_ready.await;
    tasks.spawn(telemetry(fleet.clone(), out.clone()));
    tasks.spawn(presence(fleet, out));
    // The first that ends ends all.
    match tasks.join_next().await {
        Some(Ok(result)) => result,
        _ => Ok(()),
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Failed, format!("{what}: {error}"), "begin anew")
}

async fn tell(out: &Out, event: FleetEvent) -> bool {
    out.send(Event::Fleet(event)).await.is_ok()
}

/// Tokens that appear and vanish; who appears introduces itself and tells of the past.
async fn presence(fleet: Arc<Fleet>, out: Out) -> Result<(), Refusal> {
    let subscriber = fleet
        .session()
        .liveliness()
        .declare_subscriber(keys::LIVE_ALL)
        .history(true)
        .await
        .map_err(|error| failed("the agents cannot be looked for", &error))?;
    let mut introductions = JoinSet::new();
    while let Ok(sample) = subscriber.recv_async().await {
        while introductions.try_join_next().is_some() {}
        let Some(host) = keys::host_of_live(sample.key_expr().as_str()) else { continue };
        let event = match sample.kind() {
            SampleKind::Delete => FleetEvent::Gone(host),
            SampleKind::Put => {
                introductions.spawn(introduce(fleet.clone(), host.clone(), out.clone()));
                FleetEvent::Seen(host)
            }
        };
        if !tell(&out, event).await {
            return Ok(());
        }
    }
    Ok(())
}

async fn introduce(fleet: Arc<Fleet>, host: HostName, out: Out) {
    let deadline = Instant::now() + INTRODUCTION;
    let role = loop {
        match fleet.introduce(&host).await {
            Ok(hello) => {
                let role = hello.role;
                if !tell(&out, FleetEvent::Hello(Box::new(hello))).await {
                    return;
                }
                break role;
            }
            // One that has just started may not answer yet.
            Err(refusal) if refusal.code == RefusalCode::Unreachable && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(refusal) => {
                tell(&out, FleetEvent::Stranger { host, refusal }).await;
                return;
            }
        }
    };
    if role != mose_protocol::agent::Role::Edge {
        return;
    }
    if let Ok(Reply::History(records)) = fleet.ask(&host, &Request::History(RECORDS)).await {
        for record in records {
            if !tell(&out, FleetEvent::Record(Box::new(record))).await {
                return;
            }
        }
    }
}

async fn telemetry(fleet: Arc<Fleet>, out: Out) -> Result<(), Refusal> {
    let subscriber = fleet
        .session()
        .declare_subscriber(keys::TELEMETRY_ALL)
        .with(RingChannel::new(TELEMETRY_WAITING))
        .await
        .map_err(|error| failed("telemetry cannot be followed", &error))?;
    while let Ok(sample) = subscriber.recv_async().await {
        match envelope::open::<Telemetry>(&sample.payload().to_bytes()) {
            // The ring keeps the newest while the console is busy.
            Ok(telemetry) => {
                if !tell(&out, FleetEvent::Telemetry(Box::new(telemetry))).await {
                    return Ok(());
                }
            }
            Err(refusal) => tracing::debug!(%refusal, "telemetry cannot be read"),
        }
    }
    Ok(())
}

/// A migration that has not ended yet.
struct Open {
    source: HostName,
    heard: Instant,
    doubt_told: bool,
}

/// Every step, each once and in order; the record of each migration that ends, or falls into doubt.
async fn steps(fleet: Arc<Fleet>, out: Out, ready: tokio::sync::oneshot::Sender<()>) -> Result<(), Refusal> {
    let mut follower = Follower::new(&fleet).await?;
    let _ = ready.send(());
    let mut open: HashMap<MigrationId, Open> = HashMap::new();
    // Also while others are busy, the silent ones are looked after.
    let mut due = Instant::now() + SILENCE;
    loop {
        match tokio::time::timeout_at(due, follower.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(event)) => {
                let ended = note(&mut open, &event);
                if !tell(&out, FleetEvent::Step(Box::new(event.clone()))).await {
                    return Ok(());
                }
                if ended {
                    open.remove(&event.migration);
                    record(&fleet, &event.host, &event.migration, &out).await;
                }
            }
            Err(_) => {
                if !look(&fleet, &mut follower, &mut open, &out).await {
                    return Ok(());
                }
                due = Instant::now() + SILENCE;
            }
        }
    }
}

/// Asks the sources of those that were silent how far they are; `false` where nobody listens any more.
async fn look(
    fleet: &Fleet,
    follower: &mut Follower<'_>,
    open: &mut HashMap<MigrationId, Open>,
    out: &Out,
) -> bool {
    let mut ended = Vec::new();
    for (migration, state) in open.iter_mut().filter(|(_, state)| state.heard.elapsed() >= SILENCE) {
        follower.catch_up(migration, &state.source).await;
        let reply = fleet.ask(&state.source, &Request::Record(migration.clone())).await;
        if let Ok(Reply::Record(Some(record))) = reply {
            let doubtful = record.outcome == Outcome::InDoubt;
            if !doubtful {
                ended.push(migration.clone());
            }
            let news = !doubtful || !state.doubt_told;
            if news && !tell(out, FleetEvent::Record(record)).await {
                return false;
            }
            state.doubt_told = doubtful;
        }
        state.heard = Instant::now();
    }
    // Those whose end was not heard.
    open.retain(|migration, _| !ended.contains(migration));
    true
}

/// Whether the migration ended with this event.
fn note(open: &mut HashMap<MigrationId, Open>, event: &StepEvent) -> bool {
    if let Some(state) = open.get_mut(&event.migration) {
        state.heard = Instant::now();
    }
    if event.step != Step::Migration {
        return false;
    }
    // Only its source tells of the whole.
    open.entry(event.migration.clone()).or_insert_with(|| Open {
        source: event.host.clone(),
        heard: Instant::now(),
        doubt_told: false,
    });
    event.phase.is_end()
}

async fn record(fleet: &Fleet, source: &HostName, migration: &MigrationId, out: &Out) {
    match fleet.ask(source, &Request::Record(migration.clone())).await {
        Ok(Reply::Record(Some(record))) => {
            tell(out, FleetEvent::Record(record)).await;
        }
        Ok(_) => tracing::warn!(%migration, "its source keeps no record of it"),
        Err(refusal) => tracing::warn!(%migration, %refusal, "its record cannot be had"),
    }
}
