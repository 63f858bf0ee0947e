//! From relinquishing to the end: asking the destination until it says what became of the service.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mose_protocol::agent::Location;
use mose_protocol::handover::{HandoverState, Place, Restored};
use mose_protocol::record::Outcome;
use mose_protocol::step::Step;
use mose_protocol::{Refusal, RefusalCode, Reply, Request};

use super::{Ending, Source};
use crate::agent::overlay_refusal;
use crate::journal::{Journal, SourceState};
use crate::peers::QUICK;

/// How long the destination may take to restore before the source asks how far it is.
const RESTORE_DEADLINE: Duration = Duration::from_secs(120);

/// How long the source asks in vain before it says that the service is in doubt. It goes on asking.
const DOUBT_AFTER: Duration = Duration::from_secs(10);

/// How long a destination that answers is waited for once the operator has decided.
const LAST_WORD: Duration = Duration::from_secs(5);

/// How long the destination may answer that it has not decided yet: longer than any restore takes.
const UNDECIDED: Duration = Duration::from_secs(420);

impl Source {
    /// Tells the destination that the service is its own, until it says what became of it.
    pub(super) async fn hand_over(&self, digest: &str) -> Settled {
        let migration = self.task().migration.clone();
        let relinquish = Request::Relinquish { migration: migration.clone(), digest: digest.to_owned() };
        let asked_since = tokio::time::Instant::now();
        let mut silent_since = asked_since;
        let mut settled = self.control.settled.subscribe();
        let mut request = relinquish.clone();
        let mut deadline = RESTORE_DEADLINE;
        let mut pause = Duration::from_millis(50);
        loop {
            let answer = tokio::select! {
                answer = self.ask(&request, deadline) => answer,
                keep = decision(&mut settled) => return self.by_hand(keep).await,
            };
            // A first order that runs into its deadline was heard: where nobody listens, that is known at once.
            if answer.is_ok() || deadline == RESTORE_DEADLINE {
                silent_since = tokio::time::Instant::now();
            }
            match answer {
                Ok(Reply::Handover(HandoverState::Restored(restored))) => return Settled::Restored(restored),
                Ok(Reply::Handover(HandoverState::Refused(refusal))) => return Settled::Refused(refusal),
                Ok(Reply::Handover(HandoverState::Preparing)) => {
                    (request, deadline) = (relinquish.clone(), RESTORE_DEADLINE);
                }
                // It has no journal of it: have it promise that it will never run the service.
                Ok(Reply::Handover(HandoverState::Unknown)) => {
                    (request, deadline) = (Request::Withdraw(migration.clone()), QUICK);
                }
                Err(refusal) if refusal.code == RefusalCode::OutOfTurn => {
                    (request, deadline) = (Request::Withdraw(migration.clone()), QUICK);
                }
                Ok(_) | Err(_) => {
                    (request, deadline) = (Request::Inquire(migration.clone()), QUICK);
                }
            }
            let silent = silent_since.elapsed() > DOUBT_AFTER;
            if (silent || asked_since.elapsed() > UNDECIDED) && !self.control.in_doubt() {
                let (to, service) = (&self.task().to, &self.task().service);
                let waited = if silent { DOUBT_AFTER } else { UNDECIDED };
                self.doubt(Refusal::new(
                    RefusalCode::Unreachable,
                    format!("{to} has not said for {waited:?} whether it restored {service}"),
                    "bring its agent back; or look there with podman ps, and settle it by hand: mose settle",
                ))
                .await;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                keep = decision(&mut settled) => return self.by_hand(keep).await,
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The operator decided. The destination is asked once more: where it speaks now, its word counts, so that no second copy
    /// is made of a service that runs there, and none is discarded that is the only one.
    async fn by_hand(&self, keep: bool) -> Settled {
        let last = Request::Withdraw(self.task().migration.clone());
        let asked_since = tokio::time::Instant::now();
        loop {
            match self.ask(&last, QUICK).await {
                Ok(Reply::Handover(HandoverState::Restored(restored))) => return Settled::Restored(restored),
                Ok(Reply::Handover(HandoverState::Refused(refusal))) if !keep => {
                    return Settled::Refused(refusal);
                }
                // It is there, and about to say.
                Ok(Reply::Handover(HandoverState::Restoring)) if asked_since.elapsed() < LAST_WORD => {}
                _ => return Settled::ByHand { keep },
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Goes by what the destination said.
    pub(crate) async fn settled(
        &mut self,
        settled: Settled,
        mut journal: Journal<SourceState>,
        place: &Place,
        epoch: u64,
    ) -> Ending {
        self.control.in_doubt.store(false, Ordering::Relaxed);
        match settled {
            Settled::Restored(restored) => {
                self.measured.restored(&restored);
                self.measure_clients().await;
                self.clean_up(journal, place, epoch).await;
                (Outcome::Done, None)
            }
            Settled::ByHand { keep: false } => {
                let (from, to) = (&self.task().from, &self.task().to);
                let reason = Refusal::new(
                    RefusalCode::Failed,
                    format!(
                        "the operator had {from} discard its copy, and {to} has not said that it runs the service"
                    ),
                    format!(
                        "look at {to} with podman ps; once its agent speaks, this record says what became of it"
                    ),
                );
                self.give_up(journal, place, epoch, reason).await
            }
            Settled::Refused(refusal) => {
                if let Err(unwritten) = journal.write(&SourceState::Reclaiming) {
                    tracing::error!(%unwritten, "the journal lags behind; the destination refused");
                }
                self.take_back(journal, place, epoch, refusal).await
            }
            Settled::ByHand { keep: true } => {
                let reason = Refusal::new(
                    RefusalCode::Failed,
                    format!("the operator had the service resumed at {}", self.task().from),
                    "",
                );
                if let Err(unwritten) = journal.write(&SourceState::Reclaiming) {
                    tracing::error!(%unwritten, "the journal lags behind");
                }
                self.take_back(journal, place, epoch, reason).await
            }
        }
    }

    /// Asks, for as long as it takes, what became of a service that was relinquished.
    pub(crate) async fn learn(&self, digest: &str) -> Settled {
        self.hand_over(digest).await
    }

    /// The operator gave the service up: this host discards what it has of it. The destination is not told to forget the
    /// hand-over, so that it says what became of it once it is back.
    pub(crate) async fn give_up(
        &self,
        mut journal: Journal<SourceState>,
        place: &Place,
        epoch: u64,
        mut reason: Refusal,
    ) -> Ending {
        if let Err(unwritten) = journal.write(&SourceState::GivenUp) {
            tracing::error!(%unwritten, "the journal lags behind");
        }
        // Its volumes are kept: nobody has said that they are anywhere else.
        if self.discard(place, epoch, &[]).await {
            journal.close();
        }
        if !self.volumes.is_empty() {
            reason.reason.push_str(&format!("; its volumes are kept at {}", self.task().from));
        }
        (Outcome::GivenUp, Some(reason))
    }

    /// Removes what the service left behind on this host, and has the destination forget the hand-over.
    pub(super) async fn clean_up(&self, journal: Journal<SourceState>, place: &Place, epoch: u64) {
        if self.discard(place, epoch, &self.volumes).await {
            // If it is not heard, the destination keeps a small file until this host asks it again.
            let _ = self.ask(&Request::Close(self.task().migration.clone()), QUICK).await;
            journal.close();
        }
    }

    /// Removes what the service left behind on this host; whether that is done.
    async fn discard(&self, place: &Place, epoch: u64, volumes: &[String]) -> bool {
        self.steps.started(Step::Cleanup);
        let agent = &self.agent;
        let result = async {
            agent.engine.discard(&self.task().service).await?;
            agent.engine.remove_volumes(volumes).await?;
            let there = Location { address: place.address.addr(), host: self.task().to.clone(), epoch };
            agent.locate(&there).await?;
            agent.overlay.detach(&place.name).await.map_err(|error| overlay_refusal(&error))
        };
        let removed = self.steps.end(Step::Cleanup, result.await);
        if let Err(refusal) = &removed {
            tracing::error!(%refusal, "the clean-up is left to the agent's next start; its journal is kept");
        }
        removed.is_ok()
    }

    /// Says that nobody knows, and goes on asking.
    pub(super) async fn doubt(&self, reason: Refusal) {
        if self.control.now_in_doubt() {
            tracing::error!(service = %self.task().service, %reason, "in doubt");
            self.record(Outcome::InDoubt, Some(reason)).await;
        }
    }
}

/// Returns when the operator has decided: whether this host keeps the service.
async fn decision(settled: &mut tokio::sync::watch::Receiver<Option<bool>>) -> bool {
    match settled.wait_for(Option::is_some).await.map(|settled| *settled) {
        Ok(Some(keep)) => keep,
        // Its sender lives as long as the migration.
        _ => std::future::pending().await,
    }
}

/// What became of a service that was relinquished.
pub(crate) enum Settled {
    /// It runs at the destination.
    Restored(Restored),
    /// It will never run at the destination by this hand-over.
    Refused(Refusal),
    /// The operator decided.
    ByHand {
        /// For the source.
        keep: bool,
    },
}
