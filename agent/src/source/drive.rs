//! Carries out what the machine of the source's side decides, and tells it what came of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mose_bus::peers::QUICK;
use mose_handover::Written;
use mose_handover::source::{Answer, Event, Question, Timer};
use mose_protocol::handover::{HandoverState, Restored};
use mose_protocol::step::Step;
use mose_protocol::{Refusal, RefusalCode, Reply, Request};
use tokio::time::Instant;

use super::{Effect, Source};
use crate::journal::SourceState;

/// How long the destination may take to restore before the source asks how far it is.
const RESTORE_DEADLINE: Duration = Duration::from_secs(120);

/// How long the source asks in vain before it says that the service is in doubt. It goes on asking.
pub(super) const DOUBT_AFTER: Duration = Duration::from_secs(10);

/// How long the destination may answer that it has not decided yet: longer than any restore takes.
pub(super) const UNDECIDED: Duration = Duration::from_secs(420);

/// How long a destination that answers is waited for once the operator has decided.
const LAST_WORD: Duration = Duration::from_secs(5);

/// How often something is tried again on this host.
const RETRY_PERIOD: Duration = Duration::from_secs(5);

/// The shortest and the longest time between two questions.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// An answer of the destination, and what it says of a restore.
type Heard = (Answer<Refusal>, Option<Restored>);

impl Source {
    /// Carries out effects, and those of what comes of them, until the migration has ended.
    pub(super) async fn drive(mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        let mut asking: Option<BoxFuture<'static, Heard>> = None;
        let mut timers: BTreeMap<Timer, Instant> = BTreeMap::new();
        let mut pause = PAUSES[0];
        loop {
            while let Some(effect) = effects.pop_front() {
                match effect {
                    Effect::Ask(question) => asking = Some(self.question(question)),
                    Effect::Set(timer) => {
                        let after = match timer {
                            Timer::Pause => pause,
                            Timer::Silence => DOUBT_AFTER,
                            Timer::Undecided => UNDECIDED,
                            Timer::LastWord => LAST_WORD,
                            Timer::Retry => RETRY_PERIOD,
                        };
                        if timer == Timer::Pause {
                            pause = (pause * 2).min(PAUSES[1]);
                        }
                        timers.insert(timer, Instant::now() + after);
                    }
                    Effect::Stop(timer) => {
                        timers.remove(&timer);
                    }
                    Effect::Doubt(doubt) => self.doubt(&doubt).await,
                    Effect::Forget => {
                        if let Some(journal) = self.journal.take() {
                            journal.close();
                        }
                    }
                    Effect::Conclude(outcome, why) => {
                        let reason = why.map(|why| self.reason(why));
                        self.end_watches().await;
                        return self.conclude((outcome, reason)).await;
                    }
                    work => {
                        if let Some(event) = self.work(work).await {
                            effects.extend(self.tell(event));
                        }
                    }
                }
            }
            let next = timers.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
            let event = tokio::select! {
                (answer, restored) = heard(&mut asking) => {
                    asking = None;
                    self.restored = restored.or(self.restored.take());
                    Event::Answered(answer)
                }
                timer = rings(next) => {
                    timers.remove(&timer);
                    Event::Rang(timer)
                }
                Some(keep) = self.decided.recv() => Event::Decided { keep },
            };
            effects.extend(self.tell(event));
        }
    }

    fn tell(&self, event: Event<Refusal>) -> Vec<Effect> {
        self.control.machine().step(event)
    }

    /// Does what takes its time; what came of it.
    async fn work(&mut self, effect: Effect) -> Option<Event<Refusal>> {
        Some(match effect {
            Effect::Inspect => Event::Inspected(self.inspect().await),
            Effect::Write(state) => Event::Written(self.write(&state)),
            Effect::MakeReady => Event::Ready(self.make_ready().await),
            Effect::StopAndCopy => Event::Dumped(self.stop_and_copy().await),
            Effect::Undo => {
                self.undo().await;
                Event::Undone
            }
            Effect::TakeBack => {
                self.end_dump().await;
                Event::TakenBack(self.take_back().await)
            }
            Effect::TellBack => {
                self.tell_back().await;
                Event::ToldBack
            }
            Effect::CleanUp => {
                self.end_dump().await;
                Event::CleanedUp(self.clean_up().await)
            }
            Effect::Discard => {
                self.end_dump().await;
                // Its volumes stay: they may be the only copy.
                Event::Discarded(self.discard(&[]).await)
            }
            Effect::Close => {
                // If it is not heard, the destination keeps a small file until it asks for the record.
                let _ = self.ask(&Request::Close(self.task().migration.clone()), QUICK).await;
                Event::Closed
            }
            // `Control::abort` breaks off, and `drive` does the others itself.
            Effect::BreakOff
            | Effect::Ask(_)
            | Effect::Set(_)
            | Effect::Stop(_)
            | Effect::Doubt(_)
            | Effect::Forget
            | Effect::Conclude(..) => return None,
        })
    }

    /// Puts a state on disk.
    fn write(&mut self, state: &SourceState) -> Written {
        let relinquishes = matches!(state, SourceState::Relinquished { .. });
        if relinquishes {
            self.steps.started(Step::Relinquish);
        }
        let mut written = match (&mut self.journal, &self.leaving) {
            (Some(journal), _) => journal.write(state),
            (None, Some(leaving)) => {
                self.agent.journals.begin_source(leaving).map(|journal| self.journal = Some(journal))
            }
            (None, None) => Err(super::out_of_order("nothing is known of the service")),
        };
        if relinquishes {
            written = self.steps.end(Step::Relinquish, written);
        }
        match written {
            Ok(()) => Written::OnDisk,
            Err(refusal) => {
                tracing::error!(%refusal, ?state, "a state may not be on disk");
                self.unwritten = Some(refusal);
                Written::Unsure
            }
        }
    }

    /// The destination's answer to a question, to be waited for.
    fn question(&self, question: Question) -> BoxFuture<'static, Heard> {
        let migration = self.task().migration.clone();
        let (request, deadline) = match question {
            Question::Relinquish(digest) => (Request::Relinquish { migration, digest }, RESTORE_DEADLINE),
            Question::Inquire => (Request::Inquire(migration), QUICK),
            Question::Withdraw => (Request::Withdraw(migration), QUICK),
        };
        let (agent, to) = (self.agent.clone(), self.task().to.clone());
        Box::pin(async move {
            match agent.requests.ask(&to, &request, deadline).await {
                Ok(Reply::Handover(HandoverState::Restored(restored))) => (Answer::Restored, Some(restored)),
                Ok(Reply::Handover(HandoverState::Refused(refusal))) => (Answer::Refused(refusal), None),
                Ok(Reply::Handover(HandoverState::Preparing)) => (Answer::Preparing, None),
                Ok(Reply::Handover(HandoverState::Restoring)) => (Answer::Restoring, None),
                Ok(Reply::Handover(HandoverState::Unknown)) => (Answer::Unknown, None),
                Err(refusal) if refusal.code == RefusalCode::OutOfTurn => (Answer::Unknown, None),
                Ok(_) | Err(_) => (Answer::Silent, None),
            }
        })
    }
}

/// What is heard on a question, if there is one; else nothing, ever.
async fn heard(asking: &mut Option<BoxFuture<'static, Heard>>) -> Heard {
    match asking {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}

/// The timer that rings next.
async fn rings(next: Option<(Timer, Instant)>) -> Timer {
    let Some((timer, at)) = next else { return std::future::pending().await };
    tokio::time::sleep_until(at).await;
    timer
}
