//! What the destination makes of its source's silence. A preparation whose source says nothing any more is dropped; and how a migration
//! ended there is asked, where the source's own word was not heard here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mose_handover::destination::Event;
use mose_protocol::handover::{HandoverState, Prepare};
use mose_protocol::record::{Outcome, Record};
use mose_protocol::{Reply, Request};
use tokio::time::{Duration, Instant, timeout};

use super::{Asked, IDLE_DEADLINE, Incoming};
use crate::{HandOvers, QUICK};

/// How often a source is listened for.
pub(super) const PERIOD: Duration = Duration::from_secs(5);

/// What was heard last.
pub(super) struct Listening {
    received: u64,
    touched: Instant,
    /// Whether the source is being asked.
    asking: Arc<AtomicBool>,
}

impl Default for Listening {
    fn default() -> Self {
        Self { received: 0, touched: Instant::now(), asking: Arc::default() }
    }
}

impl Listening {
    /// Something came from the source.
    pub(super) fn touch(&mut self) {
        self.touched = Instant::now();
    }

    /// Looks whether the source, of which so many bytes have come, is silent; asks it, beside everything else, where it may have ended
    /// the migration.
    pub(super) fn look(&mut self, received: u64, hand_overs: &Arc<HandOvers>, incoming: &Arc<Incoming>) {
        if received != self.received {
            self.received = received;
            self.touch();
        }
        let idle = self.touched.elapsed();
        match incoming.said() {
            HandoverState::Preparing if idle > IDLE_DEADLINE => incoming.tell(Event::Idle),
            HandoverState::Preparing if idle < PERIOD => {}
            HandoverState::Unknown | HandoverState::Restoring => {}
            HandoverState::Preparing
            | HandoverState::Restored(_)
            | HandoverState::Refused(_)
            | HandoverState::Rehearsed(_) => {
                if self.asking.swap(true, Ordering::Relaxed) {
                    return;
                }
                let asking = self.asking.clone();
                let (ask, incoming) = (hand_overs.clone(), incoming.clone());
                hand_overs.spawn(async move {
                    ask.end_if_settled(&incoming).await;
                    asking.store(false, Ordering::Relaxed);
                });
            }
        }
    }
}

impl HandOvers {
    /// Before another hand-over of the same service from the same source: ends those that have ended there, whose end was not heard
    /// here, as the link was cut. The new order alone does not say so: it may be an old one that was long on its way.
    pub(super) async fn end_earlier(&self, prepare: &Prepare) {
        let task = &prepare.task;
        let same = |other: &Arc<Incoming>| {
            let theirs = &other.prepare().task;
            other.is_open()
                && theirs.service == task.service
                && theirs.from == task.from
                && theirs.migration != task.migration
        };
        let earlier: Vec<_> = {
            let both = self.lock();
            both.coming.values().filter(|other| same(other)).cloned().collect()
        };
        for incoming in earlier {
            let ends = match incoming.said() {
                HandoverState::Preparing => self.end_if_settled(&incoming).await,
                HandoverState::Refused(_) => true,
                _ => false,
            };
            // What it has made here is soon removed.
            if ends {
                let _ = timeout(QUICK, incoming.cleared()).await;
            }
        }
    }

    /// Ends a hand-over here if its source says that the migration is over; whether it says so.
    async fn end_if_settled(&self, incoming: &Incoming) -> bool {
        let task = &incoming.prepare().task;
        let record = self.ask.ask(&task.from, &Request::Record(task.migration.clone()), QUICK).await;
        let Ok(Reply::Record(Some(record))) = record else { return false };
        if record.outcome == Outcome::InDoubt {
            return false;
        }
        match incoming.said() {
            HandoverState::Preparing => incoming.tell(Event::Over),
            HandoverState::Restored(_) | HandoverState::Refused(_) | HandoverState::Rehearsed(_)
                if self.told_source(incoming, &record).await =>
            {
                let _ = self.heard(incoming.ask(Asked::Close)).await;
            }
            _ => {}
        }
        true
    }

    /// Tells the source what became of a hand-over that its operator decided about without knowing; whether there is nothing
    /// more to tell.
    async fn told_source(&self, incoming: &Incoming, record: &Record) -> bool {
        let state = incoming.said();
        let news = match record.outcome {
            Outcome::GivenUp => true,
            // It was taken back there, by hand, and runs here.
            Outcome::RolledBack => matches!(state, HandoverState::Restored(_)),
            _ => false,
        };
        let became = Request::Became { migration: record.migration.clone(), state: Box::new(state) };
        !news || self.ask.ask(&record.from, &became, QUICK).await.is_ok()
    }
}
