//! Carries out what the machine of the destination's side decides, and tells it what came of it.

use std::sync::Arc;
use std::time::Duration;

use mose_handover::Written;
use mose_handover::destination::{Event, Said, Timer};
use mose_protocol::handover::{HandoverState, Prepared};
use mose_protocol::{Refusal, Reply};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::source_heard::{Listening, PERIOD};
use super::{Effect, Incoming, Work};
use crate::HandOvers;

/// How often something is tried again on this host.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// One migration that comes.
pub(super) struct Drive<W> {
    hand_overs: Arc<HandOvers>,
    incoming: Arc<Incoming>,
    effects: mpsc::UnboundedReceiver<Effect>,
    work: W,
    /// Whether something may be here that is to be removed once it is refused.
    left: bool,
    listening: Listening,
}

impl<W: Work> Drive<W> {
    pub(super) fn new(
        hand_overs: &Arc<HandOvers>,
        incoming: Arc<Incoming>,
        effects: mpsc::UnboundedReceiver<Effect>,
        work: W,
        left: bool,
    ) -> Self {
        let listening = Listening::default();
        Self { hand_overs: hand_overs.clone(), incoming, effects, work, left, listening }
    }

    /// Carries out effects until the hand-over is forgotten.
    pub(super) async fn run(mut self) {
        let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry: Option<Instant> = None;
        while !(self.incoming.has_ended() && self.effects.is_empty()) {
            let effect = tokio::select! {
                biased;
                Some(effect) = self.effects.recv() => effect,
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                    retry = None;
                    self.incoming.tell(Event::Rang(Timer::Retry));
                    continue;
                }
                _ = ticks.tick() => {
                    self.listening.look(self.work.received(), &self.hand_overs, &self.incoming);
                    continue;
                }
            };
            match effect {
                Effect::Set(Timer::Retry) => retry = Some(Instant::now() + RETRY_PERIOD),
                Effect::Hold(ticket) => {
                    let held = self.work.hold().await;
                    self.incoming.answer(ticket, held.map(|()| Reply::Ok));
                }
                Effect::Forget => self.work.forget().await,
                effect => {
                    if let Some(event) = Box::pin(self.carry_out(effect)).await {
                        self.incoming.tell(event);
                    }
                }
            }
        }
        self.hand_overs.lock().coming.remove(&self.incoming.prepare().task.migration);
    }

    /// Does what takes its time; what came of it.
    async fn carry_out(&mut self, effect: Effect) -> Option<Event<Refusal>> {
        Some(match effect {
            Effect::Admit => Event::Admitted(self.work.admit().await),
            Effect::Write(said) => Event::Written(self.write(said).await),
            Effect::MakeReady => {
                self.left = true;
                let ready = self.work.make_ready().await;
                Event::Ready(ready.map(|prepared| self.prepared(prepared)))
            }
            Effect::Create => {
                let created = self.work.create().await;
                Event::Created(created.map(|prepared| {
                    self.prepared(prepared);
                }))
            }
            Effect::Verify(digest) => Event::Verified(self.work.verify(&digest).await),
            Effect::Restore => {
                let restored = self.work.restore().await;
                Event::Restored(restored.map(|restored| self.incoming.put_restored(restored)))
            }
            Effect::Rehearse => {
                let rehearsed = self.work.rehearse().await;
                Event::Rehearsed(rehearsed.map(|rehearsed| self.incoming.put_rehearsed(rehearsed)))
            }
            Effect::Release => {
                let released = self.work.release().await;
                Event::Released(released.map(|restored| self.incoming.put_restored(restored)))
            }
            Effect::Keep => {
                self.work.keep().await;
                return None;
            }
            Effect::Disarm => Event::Disarmed(self.disarm().await),
            Effect::Remove => Event::Removed(self.remove().await),
            Effect::Look => Event::Looked(self.work.look().await),
            // `run` does these itself, and replies are given at once.
            Effect::Set(_) | Effect::Hold(_) | Effect::Forget | Effect::Reply(..) => return None,
        })
    }

    /// Notes what the source is told; whether it has to send the container's image first.
    fn prepared(&mut self, prepared: Prepared) -> bool {
        let needs_image = prepared.needs_image;
        self.incoming.put_prepared(prepared);
        self.listening.touch();
        needs_image
    }

    /// Puts a state on disk.
    async fn write(&mut self, said: Said<Refusal>) -> Written {
        let state = self.incoming.state(said);
        if let HandoverState::Refused(reason) = &state {
            tracing::warn!(service = %self.incoming.service(), %reason, "a hand-over is refused");
        }
        let left = self.left && matches!(state, HandoverState::Refused(_));
        match self.work.write(&state, left).await {
            Ok(()) => Written::OnDisk,
            Err(refusal) => {
                tracing::error!(%refusal, "a state may not be on disk");
                self.incoming.put_unwritten(refusal);
                Written::Unsure
            }
        }
    }

    /// Sees to it that the service never runs here; whether that is certain.
    async fn disarm(&mut self) -> bool {
        let disarmed = self.work.disarm().await;
        let service = self.incoming.service();
        disarmed
            .inspect_err(|refusal| {
                tracing::error!(%service, %refusal, "a copy cannot be ended; it is tried again");
            })
            .is_ok()
    }

    /// Removes everything that the hand-over has made here, and notes that on disk; whether nothing is left.
    async fn remove(&mut self) -> bool {
        let removed = match self.work.remove().await {
            Ok(()) => self.note_removal().await,
            failed => failed,
        };
        let service = self.incoming.service();
        removed
            .inspect_err(|refusal| {
                tracing::warn!(%service, %refusal, "something is left over; it is tried again");
            })
            .is_ok()
    }

    /// A later life must not remove again what by then is another hand-over's.
    async fn note_removal(&mut self) -> Result<(), Refusal> {
        let state = self.incoming.said();
        if self.left && matches!(state, HandoverState::Refused(_)) {
            self.work.write(&state, false).await?;
        }
        self.left = false;
        Ok(())
    }
}
