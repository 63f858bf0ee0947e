//! The source's side: it drives the hand-over and owns the service until it relinquishes it.
//!
//! A rehearsal it never relinquishes: where the service would be handed over, the destination is asked to rehearse its restore, and
//! whatever comes of that, the service goes on here. Its journal says *preparing* from the begin to the end.

mod effect;
mod event;

use mose_protocol::record::Outcome;

pub use effect::{Doubt, Effect, Question, Timer, Why};
pub use event::{Answer, Event};

use crate::{SourceState, Written};

/// Where the machine stands. A stage waits for the end of the effect that it is named after, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage<R> {
    Inspecting,
    /// The journal is begun.
    Beginning,
    MakingReady,
    Undoing(Why<R>),
    /// *Dumping* is written.
    Opening,
    Copying,
    /// The destination is asked to rehearse the restore.
    Rehearsing,
    /// *Relinquished* is written.
    Relinquishing(String),
    /// The destination is asked until it has decided.
    Asking {
        /// What it is told again where it has not heard it; `None` where it must not restore the service.
        digest: Option<String>,
        next: Question,
        /// Whether it was heard since it fell silent.
        heard: bool,
    },
    /// The operator has decided; the destination is asked once more.
    LastWord {
        keep: bool,
        over: bool,
    },
    /// *Reclaiming* is written.
    Reverting {
        why: Why<R>,
        /// Whether the destination never runs the service, or the operator has decided.
        free: bool,
    },
    TakingBack(Why<R>),
    /// Before it is tried again to take the service back.
    Waiting(Why<R>),
    TellingBack(Why<R>),
    CleaningUp,
    /// *Restored* is written, or is to be again after [`Timer::Retry`].
    Confirming {
        clean: bool,
    },
    Closing,
    /// *Given up* is written, or is to be again after [`Timer::Retry`].
    GivingUp(Why<R>),
    Discarding(Why<R>),
    Ended,
}

/// How far the source's side is, for who may not abort any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The service is the source's, and has not been handed over.
    Here,
    /// It was handed over, and the destination has not decided.
    HandedOver,
    /// It runs at the destination; the source cleans up.
    Restored,
    /// The source takes it back.
    ComesBack,
    /// The operator gave it up.
    GivenUp,
}

/// Whether a migration can still be aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Course {
    /// It can be.
    Open,
    /// It was.
    Aborted,
    /// It cannot be any more: the service is about to be relinquished, or is being taken back.
    Committed,
}

/// The source's side of one hand-over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source<R> {
    stage: Stage<R>,
    course: Course,
    /// Whether the service is never handed over.
    rehearsal: bool,
    in_doubt: bool,
    /// Whether the operator gives up a service that is being taken back, if that fails once more.
    gives_up: bool,
}

impl<R: Clone> Source<R> {
    /// A new migration or rehearsal, and its first effects.
    #[must_use]
    pub fn ordered(rehearsal: bool) -> (Self, Vec<Effect<R>>) {
        let (stage, course) = (Stage::Inspecting, Course::Open);
        (Self { stage, course, rehearsal, in_doubt: false, gives_up: false }, vec![Effect::Inspect])
    }

    /// One that an earlier life of the agent left open, by the last state in its journal.
    #[must_use]
    pub fn taken_up(state: SourceState, rehearsal: bool) -> (Self, Vec<Effect<R>>) {
        let (stage, course) = (Stage::Ended, Course::Committed);
        let mut machine = Self { stage, course, rehearsal, in_doubt: false, gives_up: false };
        let effects = match state {
            SourceState::Preparing | SourceState::Dumping | SourceState::Reclaiming => {
                machine.take_back(Why::Restarted)
            }
            SourceState::Relinquished { digest } => machine.ask_whether_restored(Some(digest)),
            SourceState::Restored => machine.clean_up(),
            SourceState::GivenUp => machine.discard(Why::GivenUp),
        };
        (machine, effects)
    }

    /// Whether nobody knows where the service is, or it could not be taken back: the operator may decide.
    #[must_use]
    pub const fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Whether the operator can still abort the migration.
    #[must_use]
    pub fn can_be_aborted(&self) -> bool {
        self.course == Course::Open
    }

    /// Whether the operator has aborted it.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.course == Course::Aborted
    }

    /// How far it is.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        match self.stage {
            Stage::Relinquishing(_) | Stage::Asking { .. } | Stage::LastWord { .. } => Standing::HandedOver,
            Stage::Reverting { .. } | Stage::TakingBack(_) | Stage::Waiting(_) | Stage::TellingBack(_) => {
                Standing::ComesBack
            }
            Stage::CleaningUp | Stage::Confirming { .. } | Stage::Closing => Standing::Restored,
            Stage::GivingUp(_) | Stage::Discarding(_) => Standing::GivenUp,
            _ => Standing::Here,
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// What follows from an event. One that does not fit, such as a timer that rang as it was stopped, changes nothing.
    #[must_use]
    pub fn step(&mut self, event: Event<R>) -> Vec<Effect<R>> {
        match event {
            Event::Abort => return self.abort(),
            Event::Decided { keep } => return self.decided(keep),
            _ => {}
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        match (stage, event) {
            (Stage::Inspecting, Event::Inspected(Ok(()))) if self.is_aborted() => self.end(Why::Aborted),
            (Stage::Inspecting, Event::Inspected(Ok(()))) => {
                self.go(Stage::Beginning, Effect::Write(SourceState::Preparing))
            }
            (Stage::Inspecting, Event::Inspected(Err(reason))) => {
                self.stage = Stage::Ended;
                let (outcome, why) = self.untouched(Why::Failed(reason));
                vec![Effect::Conclude(outcome, Some(why))]
            }
            (Stage::Beginning, Event::Written(Written::OnDisk)) if !self.is_aborted() => {
                self.go(Stage::MakingReady, Effect::MakeReady)
            }
            (Stage::Beginning, Event::Written(Written::OnDisk)) => self.end(Why::Aborted),
            (Stage::Beginning, Event::Written(Written::Unsure)) => self.end(Why::Journal),
            (Stage::MakingReady, Event::Ready(Ok(()))) if self.rehearsal && !self.is_aborted() => {
                self.go(Stage::Copying, Effect::StopAndCopy)
            }
            (Stage::MakingReady, Event::Ready(Ok(()))) if !self.is_aborted() => {
                self.go(Stage::Opening, Effect::Write(SourceState::Dumping))
            }
            (Stage::MakingReady, Event::Ready(ready)) => {
                let why = ready.err().map_or(Why::Aborted, Why::Failed);
                self.go(Stage::Undoing(why), Effect::Undo)
            }
            (Stage::Undoing(why), Event::Undone) => self.end(why),
            (Stage::Opening, Event::Written(Written::OnDisk)) if !self.is_aborted() => {
                self.go(Stage::Copying, Effect::StopAndCopy)
            }
            (Stage::Opening, Event::Written(written)) => self.take_back(match written {
                Written::OnDisk => Why::Aborted,
                Written::Unsure => Why::Journal,
            }),
            (Stage::Copying, Event::Dumped(_)) if self.is_aborted() => self.take_back(Why::Aborted),
            (Stage::Copying, Event::Dumped(Ok(digest))) if self.rehearsal => {
                self.go(Stage::Rehearsing, Effect::Ask(Question::Rehearse(digest)))
            }
            (Stage::Copying, Event::Dumped(Ok(digest))) => {
                self.course = Course::Committed;
                let state = SourceState::Relinquished { digest: digest.clone() };
                self.go(Stage::Relinquishing(digest), Effect::Write(state))
            }
            (Stage::Copying, Event::Dumped(Err(reason))) => self.take_back(Why::Failed(reason)),
            (Stage::Rehearsing, Event::Answered(_)) if self.is_aborted() => self.take_back(Why::Aborted),
            (Stage::Rehearsing, Event::Answered(answer)) => self.take_back(match answer {
                Answer::Rehearsed => Why::Rehearsed,
                Answer::Refused(reason) => Why::Failed(reason),
                _ => Why::Unheard,
            }),
            (Stage::Relinquishing(digest), Event::Written(Written::OnDisk)) => {
                self.ask_whether_restored(Some(digest))
            }
            // It may be on disk that the service is relinquished: that is taken back on disk before the service is.
            (Stage::Relinquishing(_), Event::Written(Written::Unsure)) => {
                if cfg!(feature = "seeded-bug") {
                    self.take_back(Why::Journal)
                } else {
                    self.revert(Why::Journal, false)
                }
            }
            (Stage::Asking { digest, next, heard }, event) => self.asking(digest, next, heard, event),
            (Stage::LastWord { keep, over }, event) => self.last_word(keep, over, event),
            (Stage::Reverting { free: false, .. }, Event::Written(Written::Unsure)) => {
                // A next life could find *relinquished*, and have the destination restore a second copy: it must promise that it will not.
                self.ask_whether_restored(None)
            }
            (Stage::Reverting { why, .. }, Event::Written(_)) => self.take_back(why),
            (Stage::TakingBack(why), Event::TakenBack(Ok(()))) => {
                self.in_doubt = false;
                self.go(Stage::TellingBack(why), Effect::TellBack)
            }
            (Stage::TakingBack(why), Event::TakenBack(Err(_))) if self.gives_up => {
                self.give_up(Why::Lost(Box::new(why)))
            }
            (Stage::TakingBack(why), Event::TakenBack(Err(error))) => {
                let doubt = self.doubt(Doubt::NotTakenBack { why: why.clone(), error });
                self.stage = Stage::Waiting(why);
                doubt.into_iter().chain([Effect::Set(Timer::Retry)]).collect()
            }
            (Stage::Waiting(why), Event::Rang(Timer::Retry)) => self.take_back(why),
            (Stage::TellingBack(why), Event::ToldBack) => {
                self.stage = Stage::Ended;
                let end = match why {
                    Why::Rehearsed => Effect::Conclude(Outcome::Rehearsed, None),
                    Why::Aborted => Effect::Conclude(Outcome::Aborted, Some(Why::Aborted)),
                    why => Effect::Conclude(Outcome::RolledBack, Some(why)),
                };
                vec![Effect::Forget, end]
            }
            (Stage::CleaningUp, Event::CleanedUp(clean)) => {
                self.go(Stage::Confirming { clean }, Effect::Write(SourceState::Restored))
            }
            (Stage::Confirming { clean: true }, Event::Written(Written::OnDisk)) => {
                self.go(Stage::Closing, Effect::Close)
            }
            // The rest is left to the agent's next start.
            (Stage::Confirming { clean: false }, Event::Written(Written::OnDisk)) => {
                vec![Effect::Conclude(Outcome::Done, None)]
            }
            // Before it is on disk, the destination must not forget that it runs the service.
            (Stage::Confirming { clean }, Event::Written(Written::Unsure)) => {
                self.go(Stage::Confirming { clean }, Effect::Set(Timer::Retry))
            }
            (Stage::Confirming { clean }, Event::Rang(Timer::Retry)) => {
                self.go(Stage::Confirming { clean }, Effect::Write(SourceState::Restored))
            }
            (Stage::Closing, Event::Closed) => vec![Effect::Forget, Effect::Conclude(Outcome::Done, None)],
            (Stage::GivingUp(why), Event::Written(Written::OnDisk)) => self.discard(why),
            (Stage::GivingUp(why), Event::Written(Written::Unsure)) => {
                self.go(Stage::GivingUp(why), Effect::Set(Timer::Retry))
            }
            (Stage::GivingUp(why), Event::Rang(Timer::Retry)) => {
                self.go(Stage::GivingUp(why), Effect::Write(SourceState::GivenUp))
            }
            (Stage::Discarding(why), Event::Discarded(clean)) => {
                let forget = clean.then_some(Effect::Forget);
                forget.into_iter().chain([Effect::Conclude(Outcome::GivenUp, Some(why))]).collect()
            }
            (stage, _) => {
                self.stage = stage;
                Vec::new()
            }
        }
    }

    /// A stage, and the effect that it waits for.
    fn go(&mut self, stage: Stage<R>, effect: Effect<R>) -> Vec<Effect<R>> {
        self.stage = stage;
        vec![effect]
    }

    fn abort(&mut self) -> Vec<Effect<R>> {
        if self.course != Course::Open {
            return Vec::new();
        }
        self.course = Course::Aborted;
        match self.stage {
            Stage::MakingReady | Stage::Copying | Stage::Rehearsing => vec![Effect::BreakOff],
            _ => Vec::new(),
        }
    }

    /// Ends a migration that has changed nothing.
    fn end(&mut self, why: Why<R>) -> Vec<Effect<R>> {
        self.stage = Stage::Ended;
        let (outcome, why) = self.untouched(why);
        vec![Effect::Forget, Effect::Conclude(outcome, Some(why))]
    }

    fn untouched(&self, why: Why<R>) -> (Outcome, Why<R>) {
        if self.is_aborted() { (Outcome::Aborted, Why::Aborted) } else { (Outcome::Refused, why) }
    }

    fn doubt(&mut self, doubt: Doubt<R>) -> Option<Effect<R>> {
        let first = !self.in_doubt;
        self.in_doubt = true;
        first.then_some(Effect::Doubt(doubt))
    }

    fn ask_whether_restored(&mut self, digest: Option<String>) -> Vec<Effect<R>> {
        let question = relinquish(digest.as_ref());
        self.stage = Stage::Asking { digest, next: Question::Inquire, heard: true };
        vec![Effect::Set(Timer::Undecided), Effect::Ask(question)]
    }

    fn asking(
        &mut self,
        digest: Option<String>,
        next: Question,
        heard: bool,
        event: Event<R>,
    ) -> Vec<Effect<R>> {
        let answer = match event {
            Event::Answered(answer) => answer,
            Event::Rang(Timer::Pause) => {
                self.stage = Stage::Asking { digest, next: Question::Inquire, heard };
                return vec![Effect::Ask(next)];
            }
            Event::Rang(timer @ (Timer::Silence | Timer::Undecided)) => {
                self.stage = Stage::Asking { digest, next, heard };
                let why = if timer == Timer::Silence { Doubt::Silent } else { Doubt::Undecided };
                return self.doubt(why).into_iter().collect();
            }
            _ => {
                self.stage = Stage::Asking { digest, next, heard };
                return Vec::new();
            }
        };
        let silent = matches!(answer, Answer::Silent);
        let next = match answer {
            Answer::Restored => {
                self.in_doubt = false;
                return [stop_asking(), self.clean_up()].concat();
            }
            // Of a service that was relinquished it is never said.
            Answer::Rehearsed => Question::Withdraw,
            Answer::Refused(reason) => {
                self.in_doubt = false;
                let why = if digest.is_some() { Why::Failed(reason) } else { Why::Journal };
                return [stop_asking(), self.revert(why, true)].concat();
            }
            Answer::Preparing => relinquish(digest.as_ref()),
            // It has no journal of it: have it promise that it never runs the service.
            Answer::Unknown => Question::Withdraw,
            Answer::Restoring | Answer::Silent => Question::Inquire,
        };
        let mut effects = vec![Effect::Set(Timer::Pause)];
        match (silent, heard) {
            (true, true) => effects.push(Effect::Set(Timer::Silence)),
            (false, false) => effects.push(Effect::Stop(Timer::Silence)),
            _ => {}
        }
        self.stage = Stage::Asking { digest, next, heard: !silent };
        effects
    }

    fn decided(&mut self, keep: bool) -> Vec<Effect<R>> {
        // What was only rehearsed is never given up: it is here, whatever hangs.
        if !self.in_doubt || (self.rehearsal && !keep) {
            return Vec::new();
        }
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            // The destination is asked once more: where it speaks now, its word counts.
            Stage::Asking { .. } => {
                self.stage = Stage::LastWord { keep, over: false };
                let ask = [Effect::Set(Timer::LastWord), Effect::Ask(Question::Withdraw)];
                stop_asking().into_iter().chain(ask).collect()
            }
            Stage::Waiting(why) => {
                let mut effects = vec![Effect::Stop(Timer::Retry)];
                effects.extend(if keep {
                    self.take_back(why)
                } else {
                    self.give_up(Why::Lost(Box::new(why)))
                });
                effects
            }
            stage => {
                self.gives_up = matches!(stage, Stage::TakingBack(_)) && !keep;
                self.stage = stage;
                Vec::new()
            }
        }
    }

    fn last_word(&mut self, keep: bool, over: bool, event: Event<R>) -> Vec<Effect<R>> {
        let answer = match event {
            Event::Answered(answer) => answer,
            Event::Rang(Timer::LastWord) => {
                self.stage = Stage::LastWord { keep, over: true };
                return Vec::new();
            }
            Event::Rang(Timer::Pause) => {
                return self.go(Stage::LastWord { keep, over }, Effect::Ask(Question::Withdraw));
            }
            _ => {
                self.stage = Stage::LastWord { keep, over };
                return Vec::new();
            }
        };
        let mut effects = match answer {
            // It is there, and about to say.
            Answer::Restoring if !over => {
                return self.go(Stage::LastWord { keep, over }, Effect::Set(Timer::Pause));
            }
            Answer::Restored => self.clean_up(),
            Answer::Refused(reason) if !keep => self.revert(Why::Failed(reason), true),
            _ if keep => self.revert(Why::Kept, true),
            _ => self.give_up(Why::GivenUp),
        };
        self.in_doubt = false;
        effects.insert(0, Effect::Stop(Timer::LastWord));
        effects
    }

    fn revert(&mut self, why: Why<R>, free: bool) -> Vec<Effect<R>> {
        self.go(Stage::Reverting { why, free }, Effect::Write(SourceState::Reclaiming))
    }

    fn take_back(&mut self, why: Why<R>) -> Vec<Effect<R>> {
        if self.course == Course::Open {
            self.course = Course::Committed;
        }
        self.go(Stage::TakingBack(why), Effect::TakeBack)
    }

    fn clean_up(&mut self) -> Vec<Effect<R>> {
        self.go(Stage::CleaningUp, Effect::CleanUp)
    }

    fn give_up(&mut self, why: Why<R>) -> Vec<Effect<R>> {
        self.go(Stage::GivingUp(why), Effect::Write(SourceState::GivenUp))
    }

    fn discard(&mut self, why: Why<R>) -> Vec<Effect<R>> {
        self.go(Stage::Discarding(why), Effect::Discard)
    }
}

/// What a destination that has not heard it is told: that the service is its own, or that it never will be.
fn relinquish(digest: Option<&String>) -> Question {
    digest.cloned().map_or(Question::Withdraw, Question::Relinquish)
}

fn stop_asking<R>() -> Vec<Effect<R>> {
    [Timer::Pause, Timer::Silence, Timer::Undecided].map(Effect::Stop).into()
}
