//! The destination's side: it owns nothing before the source relinquishes. From then on the service is its own, until it has said
//! *refused*.
//!
//! In a rehearsal it never owns anything: it restores the service and ends it before any of it runs, removes all, and says *rehearsed*, or
//! *refused*. Its journal says *preparing* until then.

mod effect;
mod event;

pub use effect::{Answer, Effect, Said, Ticket, Timer, Why};
pub use event::{Event, Request};

use crate::Written;

/// Where the machine stands. A stage waits for the end of the effect that it is named after, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage<R> {
    Admitting,
    /// The journal is begun.
    Beginning,
    MakingReady,
    Creating,
    /// For the source.
    Prepared {
        image_to_come: bool,
    },
    Verifying,
    /// *Restoring* is written.
    Committing,
    Restoring,
    /// A rehearsal's restore, which is ended before any of it runs.
    Rehearsing,
    /// Everything is removed of what was rehearsed, or is to be again after [`Timer::Retry`]; why it did not go well, if it did not.
    Clearing(Option<Why<R>>),
    /// *Rehearsed* is written, or is to be again after [`Timer::Retry`].
    Noting,
    /// For the source to close it.
    Rehearsed,
    /// *Restored* is written, or is to be again after [`Timer::Retry`].
    Confirming,
    /// For the source to close it.
    Restored,
    /// It is seen to that a service that was the destination's own can never run here, or is to be again after [`Timer::Retry`].
    Disarming(Why<R>),
    /// *Refused* is written, or is to be again after [`Timer::Retry`].
    Refusing {
        why: Why<R>,
        /// Whether the service was the destination's own, or was rehearsed to its end.
        own: bool,
    },
    /// For the source to close it.
    Refused {
        why: Why<R>,
        /// Whether something is still to be removed.
        left: bool,
        closed: bool,
    },
    /// An earlier life left it open: it is looked at what became of it.
    Looking,
    Releasing,
    Ended,
}

/// The destination's side of one hand-over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination<R> {
    stage: Stage<R>,
    /// Who waits for the end of what is being done.
    waiting: Vec<Ticket>,
    /// Whether the source withdrew while it could not be refused at once.
    withdrawn: bool,
    /// Whether the service never becomes the destination's own.
    rehearsal: bool,
}

impl<R: Clone> Destination<R> {
    /// A hand-over that the source asks to prepare, and its first effects. The service's name must be reserved.
    #[must_use]
    pub fn asked(ticket: Ticket, rehearsal: bool) -> (Self, Vec<Effect<R>>) {
        let (stage, waiting) = (Stage::Admitting, vec![ticket]);
        (Self { stage, waiting, withdrawn: false, rehearsal }, vec![Effect::Admit])
    }

    /// A hand-over that an earlier life of the agent left open, by the last state in its journal. `left`: whether something of a refused
    /// one may still be there. What was removed must not be removed again: by now it may be another hand-over's.
    #[must_use]
    pub fn taken_up(said: Said<R>, left: bool, rehearsal: bool) -> (Self, Vec<Effect<R>>) {
        let (stage, waiting) = (Stage::Looking, Vec::new());
        let mut machine = Self { stage, waiting, withdrawn: false, rehearsal };
        let effects = match said {
            // What was received is lost with the earlier life.
            Said::Preparing => machine.refuse(Why::Restarted),
            Said::Restoring => vec![Effect::Look],
            Said::Restored => machine.go(Stage::Restored, Effect::Keep),
            Said::Rehearsed => {
                machine.stage = Stage::Rehearsed;
                Vec::new()
            }
            Said::Refused(why) if left => {
                machine.go(Stage::Refused { why, left: true, closed: false }, Effect::Remove)
            }
            Said::Refused(why) => {
                machine.stage = Stage::Refused { why, left: false, closed: false };
                Vec::new()
            }
        };
        (machine, effects)
    }

    /// What is said of it; it is on disk. `None` where nothing is: it was never begun, or is forgotten.
    #[must_use]
    pub fn said(&self) -> Option<Said<R>> {
        Some(match &self.stage {
            Stage::Admitting | Stage::Beginning | Stage::Ended => return None,
            Stage::MakingReady
            | Stage::Creating
            | Stage::Prepared { .. }
            | Stage::Verifying
            | Stage::Committing
            | Stage::Rehearsing
            | Stage::Clearing(_)
            | Stage::Noting
            | Stage::Refusing { own: false, .. } => Said::Preparing,
            Stage::Refusing { .. } if self.rehearsal => Said::Preparing,
            Stage::Restoring
            | Stage::Confirming
            | Stage::Disarming(_)
            | Stage::Refusing { own: true, .. }
            | Stage::Looking
            | Stage::Releasing => Said::Restoring,
            Stage::Restored => Said::Restored,
            Stage::Rehearsed => Said::Rehearsed,
            Stage::Refused { why, .. } => Said::Refused(why.clone()),
        })
    }

    /// Whether it is forgotten.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Whether the service is still on its way, or something of it is still to be removed: no other migration of it may begin here.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(
            self.stage,
            Stage::Restored | Stage::Rehearsed | Stage::Refused { left: false, .. } | Stage::Ended
        )
    }

    /// What follows from an event. One that does not fit changes nothing.
    #[must_use]
    pub fn step(&mut self, event: Event<R>) -> Vec<Effect<R>> {
        let event = match event {
            Event::Asked(ticket, request) => return self.requested(ticket, request),
            event => event,
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        match (stage, event) {
            (Stage::Admitting, Event::Admitted(Ok(()))) if !self.withdrawn => {
                self.go(Stage::Beginning, Effect::Write(Said::Preparing))
            }
            (Stage::Admitting, Event::Admitted(admitted)) => {
                self.answer(&Answer::Failed(admitted.err().map_or(Why::Withdrawn, Why::Failed)))
            }
            (Stage::Beginning, Event::Written(Written::OnDisk)) => {
                self.go(Stage::MakingReady, Effect::MakeReady)
            }
            (Stage::Beginning, Event::Written(Written::Unsure)) => {
                let mut effects = self.answer(&Answer::Failed(Why::Journal));
                effects.push(Effect::Forget);
                effects
            }
            (Stage::MakingReady, Event::Ready(Ok(image_to_come))) => self.prepared(image_to_come),
            (Stage::Creating, Event::Created(Ok(()))) => self.prepared(false),
            (Stage::MakingReady, Event::Ready(Err(reason)))
            | (Stage::Creating, Event::Created(Err(reason)))
            | (Stage::Verifying, Event::Verified(Err(reason))) => self.refuse(Why::Failed(reason)),
            (Stage::Prepared { .. }, Event::Idle) => self.refuse(Why::Idle),
            (Stage::Prepared { .. }, Event::Over) => self.refuse(Why::Over),
            (Stage::Verifying, Event::Verified(Ok(()))) if self.withdrawn => self.refuse(Why::Withdrawn),
            (Stage::Verifying, Event::Verified(Ok(()))) if self.rehearsal => {
                self.go(Stage::Rehearsing, Effect::Rehearse)
            }
            (Stage::Rehearsing, Event::Rehearsed(rehearsed)) => {
                self.go(Stage::Clearing(rehearsed.err().map(Why::Failed)), Effect::Remove)
            }
            (Stage::Clearing(why), Event::Removed(true)) => {
                match why.or_else(|| self.withdrawn.then_some(Why::Withdrawn)) {
                    None => self.go(Stage::Noting, Effect::Write(Said::Rehearsed)),
                    Some(why) => {
                        let refused = Effect::Write(Said::Refused(why.clone()));
                        self.go(Stage::Refusing { why, own: true }, refused)
                    }
                }
            }
            // Nothing is said before nothing is left.
            (Stage::Clearing(why), Event::Removed(false)) => {
                self.go(Stage::Clearing(why), Effect::Set(Timer::Retry))
            }
            (Stage::Clearing(why), Event::Rang(Timer::Retry)) => {
                self.go(Stage::Clearing(why), Effect::Remove)
            }
            (Stage::Noting, Event::Written(Written::OnDisk)) => {
                self.stage = Stage::Rehearsed;
                self.answer(&Answer::State(Said::Rehearsed))
            }
            (Stage::Noting, Event::Written(Written::Unsure)) => {
                self.go(Stage::Noting, Effect::Set(Timer::Retry))
            }
            (Stage::Noting, Event::Rang(Timer::Retry)) => {
                self.go(Stage::Noting, Effect::Write(Said::Rehearsed))
            }
            (Stage::Verifying, Event::Verified(Ok(()))) => {
                self.go(Stage::Committing, Effect::Write(Said::Restoring))
            }
            // Nothing of it was started.
            (Stage::Committing, Event::Written(Written::Unsure)) => self.refuse(Why::Journal),
            (Stage::Committing, Event::Written(Written::OnDisk)) if self.withdrawn => {
                self.go(Stage::Disarming(Why::Withdrawn), Effect::Disarm)
            }
            (Stage::Committing, Event::Written(Written::OnDisk)) => {
                self.go(Stage::Restoring, Effect::Restore)
            }
            (Stage::Restoring, Event::Restored(Ok(()))) | (Stage::Releasing, Event::Released(Ok(()))) => {
                self.go(Stage::Confirming, Effect::Write(Said::Restored))
            }
            (Stage::Restoring, Event::Restored(Err(reason))) => {
                self.go(Stage::Disarming(Why::Failed(reason)), Effect::Disarm)
            }
            (Stage::Confirming, Event::Written(Written::OnDisk)) => {
                self.stage = Stage::Restored;
                let mut effects = self.answer(&Answer::State(Said::Restored));
                effects.push(Effect::Keep);
                effects
            }
            (Stage::Confirming, Event::Written(Written::Unsure)) => {
                self.go(Stage::Confirming, Effect::Set(Timer::Retry))
            }
            (Stage::Confirming, Event::Rang(Timer::Retry)) => {
                self.go(Stage::Confirming, Effect::Write(Said::Restored))
            }
            (Stage::Disarming(why), Event::Disarmed(true)) => {
                let refused = Effect::Write(Said::Refused(why.clone()));
                self.go(Stage::Refusing { why, own: true }, refused)
            }
            // It is not said that it never runs here before that is so. The source need not wait for it.
            (Stage::Disarming(why), Event::Disarmed(false)) => {
                self.stage = Stage::Disarming(why);
                let mut effects = self.answer(&Answer::State(Said::Restoring));
                effects.push(Effect::Set(Timer::Retry));
                effects
            }
            (Stage::Disarming(why), Event::Rang(Timer::Retry)) => {
                self.go(Stage::Disarming(why), Effect::Disarm)
            }
            (Stage::Refusing { why, own }, Event::Written(Written::OnDisk)) => {
                // What was rehearsed is removed by then.
                let (closed, left) = (matches!(why, Why::Over), !(own && self.rehearsal));
                self.stage = Stage::Refused { why: why.clone(), left, closed };
                let mut effects = self.answer(&Answer::State(Said::Refused(why)));
                effects.extend(left.then_some(Effect::Remove));
                effects
            }
            (Stage::Refusing { why, own }, Event::Written(Written::Unsure)) => {
                self.go(Stage::Refusing { why, own }, Effect::Set(Timer::Retry))
            }
            (Stage::Refusing { why, own }, Event::Rang(Timer::Retry)) => {
                let refused = Effect::Write(Said::Refused(why.clone()));
                self.go(Stage::Refusing { why, own }, refused)
            }
            (Stage::Refused { closed: true, .. }, Event::Removed(true)) => vec![Effect::Forget],
            (Stage::Refused { why, closed, .. }, Event::Removed(true)) => {
                self.stage = Stage::Refused { why, left: false, closed };
                Vec::new()
            }
            (Stage::Refused { why, closed, .. }, Event::Removed(false)) => {
                self.go(Stage::Refused { why, left: true, closed }, Effect::Set(Timer::Retry))
            }
            (Stage::Refused { why, left: true, closed }, Event::Rang(Timer::Retry)) => {
                self.go(Stage::Refused { why, left: true, closed }, Effect::Remove)
            }
            (Stage::Looking, Event::Looked(Some(true))) => self.go(Stage::Releasing, Effect::Release),
            (Stage::Looking, Event::Looked(Some(false))) => {
                self.go(Stage::Disarming(Why::Restarted), Effect::Disarm)
            }
            // Nothing is guessed.
            (Stage::Looking, Event::Looked(None)) | (Stage::Releasing, Event::Released(Err(_))) => {
                self.go(Stage::Looking, Effect::Set(Timer::Retry))
            }
            (Stage::Looking, Event::Rang(Timer::Retry)) => self.go(Stage::Looking, Effect::Look),
            (stage @ (Stage::Restored | Stage::Rehearsed | Stage::Refused { .. }), Event::Over) => {
                self.stage = stage;
                self.close()
            }
            (stage, _) => {
                self.stage = stage;
                Vec::new()
            }
        }
    }

    fn requested(&mut self, ticket: Ticket, request: Request) -> Vec<Effect<R>> {
        let Some(said) = self.said() else {
            // It is being looked at whether it may come at all.
            return match request {
                Request::Prepare if !self.has_ended() => self.wait(ticket),
                Request::Withdraw if !self.has_ended() => {
                    self.withdrawn = true;
                    self.wait(ticket)
                }
                Request::Close => vec![Effect::Reply(ticket, Answer::Done)],
                _ => vec![Effect::Reply(ticket, Answer::Failed(Why::Withdrawn))],
            };
        };
        let state = |said| vec![Effect::Reply(ticket, Answer::State(said))];
        match (&self.stage, request) {
            (_, Request::Inquire) => state(said),
            (Stage::MakingReady, Request::Prepare)
            | (Stage::Creating, Request::Prepare | Request::Create) => self.wait(ticket),
            (Stage::Prepared { .. }, Request::Prepare)
            | (Stage::Prepared { image_to_come: false }, Request::Create) => {
                vec![Effect::Reply(ticket, Answer::Prepared)]
            }
            (Stage::Prepared { image_to_come: true }, Request::Create) => {
                self.wait(ticket);
                self.go(Stage::Creating, Effect::Create)
            }
            (Stage::Prepared { .. }, Request::Hold) => vec![Effect::Hold(ticket)],
            (Stage::Prepared { image_to_come: false }, Request::Relinquish(digest)) if !self.rehearsal => {
                self.wait(ticket);
                self.go(Stage::Verifying, Effect::Verify(digest))
            }
            (Stage::Prepared { image_to_come: false }, Request::Rehearse(digest)) if self.rehearsal => {
                self.wait(ticket);
                self.go(Stage::Verifying, Effect::Verify(digest))
            }
            (Stage::Prepared { .. }, Request::Withdraw) => {
                self.wait(ticket);
                self.refuse(Why::Withdrawn)
            }
            (
                Stage::MakingReady
                | Stage::Creating
                | Stage::Verifying
                | Stage::Committing
                | Stage::Rehearsing
                | Stage::Clearing(_),
                Request::Withdraw,
            ) => {
                self.withdrawn = true;
                self.wait(ticket)
            }
            (Stage::Refusing { own: false, .. }, Request::Withdraw) => self.wait(ticket),
            (Stage::Refused { why, .. }, Request::Prepare | Request::Create) => {
                vec![Effect::Reply(ticket, Answer::Failed(why.clone()))]
            }
            (
                Stage::Verifying | Stage::Rehearsing | Stage::Clearing(_) | Stage::Noting,
                Request::Rehearse(_),
            )
            | (Stage::Noting, Request::Withdraw) => self.wait(ticket),
            (Stage::Rehearsed | Stage::Refused { .. }, Request::Rehearse(_)) => state(said),
            // What is rehearsed is not handed over, and what is handed over is not rehearsed.
            (_, Request::Rehearse(_)) => vec![Effect::Reply(ticket, Answer::OutOfTurn(said))],
            (_, Request::Relinquish(_)) if self.rehearsal => {
                vec![Effect::Reply(ticket, Answer::OutOfTurn(said))]
            }
            // A repeated order learns how far the first one is.
            (_, Request::Relinquish(_) | Request::Withdraw) => state(said),
            (_, Request::Close) => {
                let reply = Effect::Reply(ticket, Answer::Done);
                [reply].into_iter().chain(self.close()).collect()
            }
            (_, Request::Prepare | Request::Create | Request::Hold) => {
                vec![Effect::Reply(ticket, Answer::OutOfTurn(said))]
            }
        }
    }

    /// A stage, and the effect that it waits for.
    fn go(&mut self, stage: Stage<R>, effect: Effect<R>) -> Vec<Effect<R>> {
        self.stage = stage;
        vec![effect]
    }

    fn wait(&mut self, ticket: Ticket) -> Vec<Effect<R>> {
        if !self.waiting.contains(&ticket) {
            self.waiting.push(ticket);
        }
        Vec::new()
    }

    /// Answers everyone who waits.
    fn answer(&mut self, answer: &Answer<R>) -> Vec<Effect<R>> {
        self.waiting.drain(..).map(|ticket| Effect::Reply(ticket, answer.clone())).collect()
    }

    fn prepared(&mut self, image_to_come: bool) -> Vec<Effect<R>> {
        if self.withdrawn {
            return self.refuse(Why::Withdrawn);
        }
        self.stage = Stage::Prepared { image_to_come };
        self.answer(&Answer::Prepared)
    }

    /// Refuses a service that is not the destination's own: as nothing of it was ever started here, that can be said at once.
    fn refuse(&mut self, why: Why<R>) -> Vec<Effect<R>> {
        let refused = Effect::Write(Said::Refused(why.clone()));
        self.go(Stage::Refusing { why, own: false }, refused)
    }

    /// The source has heard what became of it: forgotten, as soon as nothing is left.
    fn close(&mut self) -> Vec<Effect<R>> {
        match &mut self.stage {
            Stage::Restored | Stage::Rehearsed | Stage::Refused { left: false, .. } => {
                self.stage = Stage::Ended;
                vec![Effect::Forget]
            }
            Stage::Refused { closed, .. } => {
                *closed = true;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}
