//! Following the steps of migrations: live, in order, and with what was missed asked for.

use std::collections::{HashMap, VecDeque};

use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, envelope, keys};
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

use crate::fleet::Fleet;

/// Events as they come, each exactly once and in order per migration and host.
pub struct Follower<'a> {
    fleet: &'a Fleet,
    subscriber: Subscriber<FifoChannelHandler<Sample>>,
    next: HashMap<(MigrationId, HostName), u64>,
    ready: VecDeque<StepEvent>,
    /// One that came, while what was before it is asked for: it is not lost where that is broken off.
    waiting: Option<StepEvent>,
}

impl<'a> Follower<'a> {
    /// Follows every migration from now on.
    ///
    /// # Errors
    /// Where the session fails.
    pub async fn new(fleet: &'a Fleet) -> Result<Self, Refusal> {
        let subscriber = fleet.session().declare_subscriber(keys::STEPS_ALL).await.map_err(|error| {
            Refusal::new(RefusalCode::Failed, format!("steps cannot be followed: {error}"), "")
        })?;
        Ok(Self { fleet, subscriber, next: HashMap::new(), ready: VecDeque::new(), waiting: None })
    }

    /// The next event; `None` when the session is closed. May be broken off and begun again; nothing is lost by it.
    pub async fn next(&mut self) -> Option<StepEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.waiting.is_some() {
                self.take_waiting().await;
                continue;
            }
            let sample = self.subscriber.recv_async().await.ok()?;
            match envelope::open::<StepEvent>(&sample.payload().to_bytes()) {
                Ok(event) => self.waiting = Some(event),
                Err(refusal) => tracing::warn!(%refusal, "a step cannot be read"),
            }
        }
    }

    /// Asks a host for what it did in a migration since the last that was seen.
    pub async fn catch_up(&mut self, migration: &MigrationId, host: &HostName) {
        let from = self.next.get(&(migration.clone(), host.clone())).copied().unwrap_or(0);
        let request = Request::Steps { migration: migration.clone(), from };
        match self.fleet.ask(host, &request).await {
            Ok(Reply::Steps(events)) => {
                for event in events {
                    self.put(event);
                }
            }
            Ok(_) => {}
            Err(refusal) => tracing::warn!(%refusal, "missed steps cannot be had"),
        }
    }

    /// Takes in the one that waits, and before it what is missing.
    async fn take_waiting(&mut self) {
        let Some(event) = &self.waiting else { return };
        let (key, seq) = ((event.migration.clone(), event.host.clone()), event.seq);
        if seq > self.next.get(&key).copied().unwrap_or(0) {
            self.catch_up(&key.0, &key.1).await;
        }
        if let Some(event) = self.waiting.take() {
            self.put(event);
        }
    }

    fn put(&mut self, event: StepEvent) {
        let next = self.next.entry((event.migration.clone(), event.host.clone())).or_default();
        // Older ones were seen. A gap that could not be filled is passed over rather than waited on for ever.
        if event.seq >= *next {
            *next = event.seq + 1;
            self.ready.push_back(event);
        }
    }
}
