//! Refusing, withdrawing, closing: every way in which a hand-over to this host ends without, or after, its good end.

use std::sync::Arc;
use std::time::Duration;

use mose_bus::peers::QUICK;
use mose_protocol::agent::Location;
use mose_protocol::handover::{HandoverState, Prepare, Restored, Task};
use mose_protocol::record::{Outcome, Record};
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, Timestamp};
use mose_transfer::Receiver;

use super::{IDLE_DEADLINE, Incoming, Inner, remove_file};
use crate::agent::{Agent, overlay_refusal};

/// How often sources are asked about hand-overs that have ended here.
const SETTLED_PERIOD: Duration = Duration::from_secs(5);

/// How often it is tried again to remove what a refused hand-over left behind.
const REMOVAL_PERIOD: Duration = Duration::from_secs(1);

impl Agent {
    /// What this host knows of a hand-over.
    pub(crate) async fn inquire(&self, migration: &MigrationId) -> HandoverState {
        self.incoming(migration).map_or(HandoverState::Unknown, |incoming| incoming.said())
    }

    /// Promises that the service will never run here by this hand-over, unless it does already or is about to.
    pub(crate) async fn withdraw(
        self: &Arc<Self>,
        migration: &MigrationId,
    ) -> Result<HandoverState, Refusal> {
        let withdrawn = || {
            Refusal::new(RefusalCode::Failed, "the source took the service back before handing it over", "")
        };
        // What it never heard of it cannot restore: that takes a preparation, and its journal.
        let Some(incoming) = self.incoming(migration) else { return Ok(HandoverState::Refused(withdrawn())) };
        let Ok(mut inner) = incoming.inner.try_lock() else {
            return match incoming.said() {
                // It is being prepared at this moment: wait for that, then drop it.
                HandoverState::Preparing => {
                    let mut inner = incoming.inner.lock().await;
                    if incoming.said() == HandoverState::Preparing {
                        self.refuse(&incoming, &mut inner, &withdrawn()).await?;
                    }
                    Ok(incoming.said())
                }
                said => Ok(said),
            };
        };
        if incoming.said() == HandoverState::Preparing {
            self.refuse(&incoming, &mut inner, &withdrawn()).await?;
        }
        Ok(incoming.said())
    }

    /// Ends a hand-over here. Before the service is ours it can be said at once that it will never run here, as
    /// nothing of it was ever started; once it is ours, only when nothing of it is left. What cannot be removed now is
    /// tried again until it is gone.
    pub(super) async fn refuse(
        self: &Arc<Self>,
        incoming: &Arc<Incoming>,
        inner: &mut Inner,
        reason: &Refusal,
    ) -> Result<(), Refusal> {
        tracing::warn!(service = %incoming.service(), %reason, "a hand-over is refused");
        if let Some(receiver) = inner.receiver.take() {
            receiver.abort();
        }
        inner.container = None;
        let refused = HandoverState::Refused(reason.clone());
        let ours = incoming.said() == HandoverState::Restoring;
        if !ours {
            incoming.say(inner, refused.clone())?;
        }
        match self.remove_preparation(&incoming.prepare).await {
            Ok(()) if ours => incoming.say(inner, refused),
            Ok(()) => Ok(()),
            Err(refusal) => {
                tracing::warn!(service = %incoming.service(), %refusal, "something is left over; it is tried again");
                tokio::spawn(self.clone().remove_later(incoming.clone(), refused));
                if ours { Err(refusal) } else { Ok(()) }
            }
        }
    }

    /// Removes what a refused hand-over left behind as soon as it can be, and says *refused* where that had to wait.
    async fn remove_later(self: Arc<Self>, incoming: Arc<Incoming>, refused: HandoverState) {
        loop {
            tokio::time::sleep(REMOVAL_PERIOD).await;
            let mut inner = incoming.inner.lock().await;
            if self.session.is_closed() {
                return;
            }
            if let Err(refusal) = self.remove_preparation(&incoming.prepare).await {
                tracing::debug!(service = %incoming.service(), %refusal, "it is still left over");
                continue;
            }
            if incoming.said() == HandoverState::Restoring
                && let Err(refusal) = incoming.say(&mut inner, refused.clone())
            {
                tracing::error!(%refusal, "a refusal is not on disk, and so not said");
                continue;
            }
            return;
        }
    }

    /// Removes what a preparation has made here; when it returns well, nothing of the service can run here.
    pub(crate) async fn remove_preparation(&self, prepare: &Prepare) -> Result<(), Refusal> {
        self.engine.discard(&prepare.task.service).await?;
        self.engine.discard_beside(&prepare.task, &prepare.container).await?;
        let from = Location {
            address: prepare.place.address.addr(),
            host: prepare.task.from.clone(),
            epoch: prepare.epoch,
        };
        self.locate(&from).await?;
        self.overlay.detach(&prepare.place.name).await.map_err(|error| overlay_refusal(&error))?;
        remove_file(&self.image_archive(&prepare.task.migration));
        let _ = std::fs::remove_dir(self.no_images(&prepare.task.migration));
        Ok(())
    }

    /// The source has heard: the journal is no longer needed.
    pub(crate) async fn close(&self, migration: &MigrationId) {
        let Some(incoming) = self.incoming(migration) else { return };
        if incoming.is_open() {
            return;
        }
        if let Some(journal) = incoming.inner.lock().await.journal.take() {
            journal.close();
        }
        self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(migration);
    }

    /// Closes, for as long as the agent lives, the journals of hand-overs whose source has settled them without our
    /// hearing of it.
    pub(crate) async fn close_settled(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SETTLED_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.session.is_closed() {
                return;
            }
            let ended: Vec<(MigrationId, HostName)> = {
                let incoming = self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let ended = incoming.iter().filter(|(_, incoming)| !incoming.is_open());
                ended.map(|(id, incoming)| (id.clone(), incoming.prepare.task.from.clone())).collect()
            };
            for (migration, source) in ended {
                let record = self.requests.ask(&source, &Request::Record(migration.clone()), QUICK).await;
                if let Ok(Reply::Record(Some(record))) = record
                    && record.outcome != Outcome::InDoubt
                    && self.told_source(&record).await
                {
                    self.close(&migration).await;
                }
            }
        }
    }

    /// Tells the source what became of a hand-over that its operator decided about without knowing; whether there is nothing
    /// more to tell.
    async fn told_source(&self, record: &Record) -> bool {
        let state = self.inquire(&record.migration).await;
        let news = match record.outcome {
            Outcome::GivenUp => true,
            // It was taken back there, by hand, and runs here.
            Outcome::RolledBack => matches!(state, HandoverState::Restored(_)),
            _ => false,
        };
        let became = Request::Became { migration: record.migration.clone(), state: Box::new(state) };
        !news || self.requests.ask(&record.from, &became, QUICK).await.is_ok()
    }

    /// Drops a preparation whose source has fallen silent, or has ended it without our hearing of it. It can do no harm: the
    /// service is not ours yet.
    pub(super) async fn drop_if_idle(self: Arc<Self>, migration: MigrationId) {
        loop {
            tokio::time::sleep(SETTLED_PERIOD).await;
            let Some(incoming) = self.incoming(&migration) else { return };
            if !incoming.is_open() {
                return;
            }
            let Ok(mut inner) = incoming.inner.try_lock() else { continue };
            if matches!(incoming.said(), HandoverState::Restoring) {
                return;
            }
            let progress = inner.receiver.as_ref().map(Receiver::progress).unwrap_or_default();
            if progress != inner.progress {
                inner.progress = progress;
                inner.touched = tokio::time::Instant::now();
            }
            let idle = inner.touched.elapsed();
            if idle > IDLE_DEADLINE {
                let reason = Refusal::new(
                    RefusalCode::Unreachable,
                    format!("the source was silent for {IDLE_DEADLINE:?}"),
                    "migrate again",
                );
                if let Err(refusal) = self.refuse(&incoming, &mut inner, &reason).await {
                    tracing::error!(%refusal, "a preparation cannot be removed");
                }
                return;
            }
            drop(inner);
            if idle >= SETTLED_PERIOD {
                self.end_if_settled(&incoming).await;
            }
        }
    }

    /// Before another hand-over of the same service from the same source: ends those that have ended there. Their end was not
    /// heard here where the link was cut.
    pub(super) async fn end_earlier(self: &Arc<Self>, prepare: &Prepare) {
        let task = &prepare.task;
        let earlier: Vec<Arc<Incoming>> = {
            let incoming = self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let same = |other: &Arc<Incoming>| {
                let theirs = &other.prepare.task;
                other.is_open()
                    && theirs.service == task.service
                    && theirs.from == task.from
                    && theirs.migration != task.migration
            };
            incoming.values().filter(|other| same(other)).cloned().collect()
        };
        for incoming in earlier {
            self.end_if_settled(&incoming).await;
        }
    }

    /// Ends a preparation here if its source says that the migration is over. The new order alone does not say so: it may be
    /// an old one that was long on its way.
    async fn end_if_settled(self: &Arc<Self>, incoming: &Arc<Incoming>) {
        let Task { migration, from, .. } = &incoming.prepare.task;
        if incoming.said() != HandoverState::Preparing {
            return;
        }
        let record = self.requests.ask(from, &Request::Record(migration.clone()), QUICK).await;
        let Ok(Reply::Record(Some(record))) = record else { return };
        if record.outcome == Outcome::InDoubt {
            return;
        }
        let Ok(mut inner) = tokio::time::timeout(QUICK, incoming.inner.lock()).await else { return };
        if incoming.said() == HandoverState::Preparing {
            let reason = Refusal::new(
                RefusalCode::Failed,
                format!(
                    "the migration ended at {from} ({}), which was not heard here",
                    record.outcome.name()
                ),
                "",
            );
            if let Err(refusal) = self.refuse(incoming, &mut inner, &reason).await {
                tracing::error!(%refusal, "a preparation cannot be removed");
                return;
            }
        }
        drop(inner);
        self.close(migration).await;
    }

    /// Takes up the hand-overs to this host that an earlier life of the agent left open. Until one is settled it is
    /// told to be as it was.
    pub(crate) fn reconcile_destinations(self: &Arc<Self>) {
        for found in self.journals.destinations() {
            let migration = found.head.task.migration.clone();
            tracing::info!(%migration, state = ?found.state, "a hand-over to this host was left open");
            let incoming = Incoming::new(found.head, found.journal, found.state);
            self.note_incoming(migration, incoming.clone());
            if incoming.is_open() {
                tokio::spawn(self.clone().settle_incoming(incoming));
            }
        }
    }

    /// Settles a hand-over that was left open: what runs here was restored, anything else is refused. Where that cannot
    /// be learnt, nothing is guessed, and it is asked again.
    async fn settle_incoming(self: Arc<Self>, incoming: Arc<Incoming>) {
        let mut inner = incoming.inner.lock().await;
        loop {
            match self.try_settle(&incoming, &mut inner).await {
                Ok(()) => return,
                Err(refusal) => {
                    tracing::error!(service = %incoming.service(), %refusal, "a hand-over cannot be settled yet");
                }
            }
            tokio::time::sleep(REMOVAL_PERIOD).await;
            if self.session.is_closed() {
                return;
            }
        }
    }

    async fn try_settle(
        self: &Arc<Self>,
        incoming: &Arc<Incoming>,
        inner: &mut Inner,
    ) -> Result<(), Refusal> {
        let prepare = &incoming.prepare;
        let running = match self.engine.inspect(incoming.service()).await {
            Ok(container) => container.running,
            Err(refusal) if refusal.code == RefusalCode::UnknownService => false,
            Err(refusal) => return Err(refusal),
        };
        if !running || incoming.said() != HandoverState::Restoring {
            let reason = Refusal::new(
                RefusalCode::Failed,
                format!("the agent on {} was restarted during the hand-over", self.config.host),
                "migrate again",
            );
            return self.refuse(incoming, inner, &reason).await;
        }
        let now = Timestamp::now();
        let release = self.release(prepare.place.address.addr(), &prepare.place.name, prepare.epoch).await?;
        let restored = Restored {
            started_at: now,
            released_at: release.at,
            finished_at: Timestamp::now(),
            criu_restore: None,
            held: release.held,
            overflowed: release.overflowed,
        };
        incoming.say(inner, HandoverState::Restored(restored))
    }
}
