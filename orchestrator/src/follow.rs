//! Following the steps of migrations: live, in order, and with what was missed asked for.

use std::collections::{HashMap, VecDeque};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, envelope, keys};
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

use crate::fleet::Fleet;

/// A host's part in a migration.
type Part = (MigrationId, HostName);

/// Events as they come, each exactly once and in order per migration and host. What was missed is asked for beside that: a host
/// that is slow to answer delays its own events, and no other's.
pub struct Follower<'a> {
    fleet: &'a Fleet,
    subscriber: Subscriber<FifoChannelHandler<Sample>>,
    /// The number of the event that comes next.
    next: HashMap<Part, u64>,
    ready: VecDeque<StepEvent>,
    /// What came while what was before it is asked for.
    held: HashMap<Part, Vec<StepEvent>>,
    asked: FuturesUnordered<BoxFuture<'a, (Part, mose_protocol::Response)>>,
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
        let (next, ready, held) = (HashMap::new(), VecDeque::new(), HashMap::new());
        Ok(Self { fleet, subscriber, next, ready, held, asked: FuturesUnordered::new() })
    }

    /// The next event; `None` when the session is closed. May be broken off and begun again; nothing is lost by it.
    pub async fn next(&mut self) -> Option<StepEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            tokio::select! {
                sample = self.subscriber.recv_async() => {
                    match envelope::open::<StepEvent>(&sample.ok()?.payload().to_bytes()) {
                        Ok(event) => self.take(event),
                        Err(refusal) => tracing::warn!(%refusal, "a step cannot be read"),
                    }
                }
                Some((part, answer)) = self.asked.next() => self.caught_up(&part, answer),
            }
        }
    }

    /// Asks a host for what it did in a migration since the last that was seen. What it answers comes as the next events.
    pub fn catch_up(&mut self, migration: &MigrationId, host: &HostName) {
        self.ask((migration.clone(), host.clone()));
    }

    fn ask(&mut self, part: Part) {
        if self.held.contains_key(&part) {
            return;
        }
        self.held.insert(part.clone(), Vec::new());
        let from = self.next.get(&part).copied().unwrap_or(0);
        let (fleet, request) = (self.fleet, Request::Steps { migration: part.0.clone(), from });
        self.asked.push(Box::pin(async move {
            let answer = fleet.ask(&part.1, &request).await;
            (part, answer)
        }));
    }

    /// Takes in one that came; where others are missing before it, it is held until they are there.
    fn take(&mut self, event: StepEvent) {
        let part = (event.migration.clone(), event.host.clone());
        if event.seq > self.next.get(&part).copied().unwrap_or(0) {
            self.ask(part.clone());
        }
        match self.held.get_mut(&part) {
            Some(held) => held.push(event),
            None => self.put(event),
        }
    }

    /// Takes in what was asked for, then what came meanwhile.
    fn caught_up(&mut self, part: &Part, answer: mose_protocol::Response) {
        match answer {
            Ok(Reply::Steps(events)) => events.into_iter().for_each(|event| self.put(event)),
            Ok(_) => {}
            Err(refusal) => tracing::warn!(%refusal, "missed steps cannot be had"),
        }
        let mut held = self.held.remove(part).unwrap_or_default();
        held.sort_by_key(|event| event.seq);
        held.into_iter().for_each(|event| self.put(event));
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
