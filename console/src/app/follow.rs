//! From the agents to events: who is there, what they measure, every step, every record.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow::Follower;
use mose_protocol::agent::Telemetry;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::{Step, StepEvent};
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, Timestamp, envelope, keys};
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
/// How long an agent is asked again for its introduction, and how long the pauses between are.
const INTRODUCTION: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

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
    // One that has just started may not answer yet.
    let not_yet = |refusal: &Refusal| refusal.code == RefusalCode::Unreachable && Instant::now() < deadline;
    let pauses = ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times();
    let hello = match (|| fleet.introduce(&host)).retry(pauses).when(not_yet).await {
        Ok(hello) => hello,
        Err(refusal) => {
            tell(&out, FleetEvent::Stranger { host, refusal }).await;
            return;
        }
    };
    let role = hello.role;
    if !tell(&out, FleetEvent::Hello(Box::new(hello))).await {
        return;
    }
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
            Ok(mut telemetry) => {
                let news = telemetry.following.take().filter(|news| news.by != fleet.number());
                let elsewhere =
                    news.map(|news| FleetEvent::FollowingElsewhere(Box::new(news.read(Timestamp::now()))));
                for event in elsewhere.into_iter().chain([FleetEvent::Telemetry(Box::new(telemetry))]) {
                    if !tell(&out, event).await {
                        return Ok(());
                    }
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
    /// Whether its source is being asked how far it is.
    asked: bool,
    doubt_told: bool,
}

/// What a source answers when it is asked for a migration's record.
type Recorded = (MigrationId, Result<Option<Box<Record>>, Refusal>);

/// Every step, each once and in order; the record of each migration that ends, or falls into doubt. Nobody's answer is waited for
/// here: one that is slow delays no other's steps.
async fn steps(fleet: Arc<Fleet>, out: Out, ready: tokio::sync::oneshot::Sender<()>) -> Result<(), Refusal> {
    let mut follower = Follower::new(&fleet).await?;
    let _ = ready.send(());
    let mut open: HashMap<MigrationId, Open> = HashMap::new();
    let mut records: JoinSet<Recorded> = JoinSet::new();
    let mut looks = tokio::time::interval(SILENCE);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = follower.next() => {
                let Some(event) = event else { return Ok(()) };
                let ended = note(&mut open, &event);
                let (source, migration) = (event.host.clone(), event.migration.clone());
                if !tell(&out, FleetEvent::Step(Box::new(event))).await {
                    return Ok(());
                }
                if ended {
                    open.remove(&migration);
                    records.spawn(record(fleet.clone(), source, migration));
                }
            }
            Some(answer) = records.join_next() => {
                let Ok((migration, answer)) = answer else { continue };
                if let Some(record) = news(&mut open, &migration, answer)
                    && !tell(&out, FleetEvent::Record(record)).await
                {
                    return Ok(());
                }
            }
            // Also while others are busy, the silent ones are looked after.
            _ = looks.tick() => {
                for (migration, state) in &mut open {
                    if state.asked || state.heard.elapsed() < SILENCE {
                        continue;
                    }
                    state.asked = true;
                    follower.catch_up(migration, &state.source);
                    records.spawn(record(fleet.clone(), state.source.clone(), migration.clone()));
                }
            }
        }
    }
}

/// What of an answer is worth telling: a doubt once, and every end.
fn news(
    open: &mut HashMap<MigrationId, Open>,
    migration: &MigrationId,
    answer: Result<Option<Box<Record>>, Refusal>,
) -> Option<Box<Record>> {
    let state = open.get_mut(migration);
    if let (Some(state), Ok(None) | Err(_)) = (state, &answer) {
        // It is under way, or its source does not answer now: it is asked again when it is silent for longer.
        (state.asked, state.heard) = (false, Instant::now());
        return None;
    }
    let record = match answer {
        Ok(Some(record)) => record,
        Ok(None) => {
            tracing::warn!(%migration, "its source keeps no record of it");
            return None;
        }
        Err(refusal) => {
            tracing::warn!(%migration, %refusal, "its record cannot be had");
            return None;
        }
    };
    let doubtful = record.outcome == Outcome::InDoubt;
    match open.get_mut(migration) {
        Some(state) if doubtful => {
            (state.asked, state.heard) = (false, Instant::now());
            (!std::mem::replace(&mut state.doubt_told, true)).then_some(record)
        }
        _ => {
            // Also one whose end was not heard.
            open.remove(migration);
            Some(record)
        }
    }
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
        asked: false,
        doubt_told: false,
    });
    event.phase.is_end()
}

async fn record(fleet: Arc<Fleet>, source: HostName, migration: MigrationId) -> Recorded {
    let answer = match fleet.ask(&source, &Request::Record(migration.clone())).await {
        Ok(Reply::Record(record)) => Ok(record),
        Ok(_) => Ok(None),
        Err(refusal) => Err(refusal),
    };
    (migration, answer)
}
