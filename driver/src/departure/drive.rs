//! Carries out what the machine of the source's side decides, and tells it what came of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mose_handover::Written;
use mose_handover::source::{Answer, Event, Question, Timer};
use mose_protocol::handover::{HandoverState, Rehearsed, Restored};
use mose_protocol::{MigrationId, Refusal, RefusalCode, Reply, Request, Response};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Control, Work};
use crate::{HandOvers, QUICK};

type Effect = mose_handover::source::Effect<Refusal>;

/// How long the destination may take to restore before the source asks how far it is, which costs nothing. Where the answer was lost,
/// the service would be missed for as long.
const RESTORE_DEADLINE: Duration = Duration::from_secs(3);

/// How long the destination may take to rehearse the restore, and to remove all of it: the service goes on meanwhile.
const REHEARSE_DEADLINE: Duration = Duration::from_secs(120);

/// How long the source asks in vain before it says that the service is in doubt. It goes on asking.
pub const DOUBT_AFTER: Duration = Duration::from_secs(10);

/// How long the destination may answer that it has not decided yet: longer than any restore takes.
pub const UNDECIDED: Duration = Duration::from_secs(420);

/// How long a destination that answers is waited for once the operator has decided, before it is asked for the last time.
const LAST_WORD: Duration = Duration::from_secs(5);

/// How often something is tried again on this host.
const RETRY_PERIOD: Duration = Duration::from_secs(5);

/// The shortest and the longest time between two questions.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// An answer of the destination, and what it says of a restore or a rehearsal.
type Heard = (Answer<Refusal>, Option<Figures>);

/// What the destination says of a good end.
enum Figures {
    Restored(Restored),
    Rehearsed(Rehearsed),
}

/// One migration that leaves.
pub(super) struct Drive<W> {
    hand_overs: Arc<HandOvers>,
    control: Arc<Control>,
    decided: mpsc::UnboundedReceiver<bool>,
    work: W,
    /// What the destination said of the restore.
    restored: Option<Restored>,
}

impl<W: Work> Drive<W> {
    pub(super) fn new(
        hand_overs: &Arc<HandOvers>,
        control: Arc<Control>,
        decided: mpsc::UnboundedReceiver<bool>,
        work: W,
    ) -> Self {
        Self { hand_overs: hand_overs.clone(), control, decided, work, restored: None }
    }

    /// Carries out effects, and those of what comes of them, until the migration has ended.
    pub(super) async fn run(mut self, effects: Vec<Effect>) {
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
                    Effect::Doubt(doubt) => self.work.doubt(&doubt).await,
                    Effect::Forget => self.work.forget().await,
                    Effect::Conclude(outcome, why) => {
                        self.work.conclude(outcome, why).await;
                        // The service is free before the end is told, so that who waits for the end may migrate at once.
                        self.hand_overs.lock().leaving.remove(&self.control.task.migration);
                        return self.work.tell_end();
                    }
                    effect => {
                        if let Some(event) = Box::pin(self.carry_out(effect)).await {
                            effects.extend(self.control.tell(event));
                        }
                    }
                }
            }
            let next = timers.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
            let event = tokio::select! {
                biased;
                Some(keep) = self.decided.recv() => Event::Decided { keep },
                (answer, figures) = heard(&mut asking) => {
                    asking = None;
                    match figures {
                        Some(Figures::Restored(restored)) => self.restored = Some(restored),
                        Some(Figures::Rehearsed(rehearsed)) => self.work.rehearsed(rehearsed),
                        None => {}
                    }
                    Event::Answered(answer)
                }
                timer = rings(next) => {
                    timers.remove(&timer);
                    Event::Rang(timer)
                }
            };
            effects.extend(self.control.tell(event));
        }
    }

    /// Does what takes its time; what came of it.
    async fn carry_out(&mut self, effect: Effect) -> Option<Event<Refusal>> {
        Some(match effect {
            Effect::Inspect => Event::Inspected(self.work.inspect().await),
            Effect::Write(state) => Event::Written(match self.work.write(&state).await {
                Ok(()) => Written::OnDisk,
                Err(refusal) => {
                    tracing::error!(%refusal, ?state, "a state may not be on disk");
                    Written::Unsure
                }
            }),
            Effect::MakeReady => Event::Ready(self.work.make_ready().await),
            Effect::StopAndCopy => Event::Dumped(self.work.stop_and_copy().await),
            Effect::Undo => {
                self.work.undo().await;
                // A destination that cannot be reached drops its preparation by itself.
                let _ = self.ask(Request::Withdraw).await;
                let _ = self.ask(Request::Close).await;
                Event::Undone
            }
            Effect::TakeBack => Event::TakenBack(self.work.take_back().await),
            Effect::TellBack => {
                self.work.tell_back().await;
                let said = self.ask(Request::Withdraw).await;
                // One that runs it too, as the operator had it resumed here without knowing, is not told to forget it: it says so.
                if !matches!(said, Ok(Reply::Handover(HandoverState::Restored(_)))) {
                    let _ = self.ask(Request::Close).await;
                }
                self.work.measure().await;
                Event::ToldBack
            }
            Effect::CleanUp => Event::CleanedUp(self.work.clean_up(self.restored.take()).await),
            Effect::Discard => Event::Discarded(self.work.discard().await),
            Effect::Close => {
                // If it is not heard, the destination keeps a small file until it asks for the record.
                let _ = self.ask(Request::Close).await;
                Event::Closed
            }
            // `Control::abort` breaks off, and `run` does the others itself.
            Effect::BreakOff
            | Effect::Ask(_)
            | Effect::Set(_)
            | Effect::Stop(_)
            | Effect::Doubt(_)
            | Effect::Forget
            | Effect::Conclude(..) => return None,
        })
    }

    /// Asks the destination what it can answer at once. Borrows nothing: what is done for a migration need not be shareable.
    fn ask(&self, request: impl FnOnce(MigrationId) -> Request) -> BoxFuture<'static, Response> {
        let request = request(self.control.task.migration.clone());
        let (ask, to) = (self.hand_overs.ask.clone(), self.control.task.to.clone());
        Box::pin(async move { ask.ask(&to, &request, QUICK).await })
    }

    /// The destination's answer to a question, to be waited for.
    fn question(&self, question: Question) -> BoxFuture<'static, Heard> {
        let migration = self.control.task.migration.clone();
        let rehearses = matches!(question, Question::Rehearse(_));
        let (request, deadline) = match question {
            Question::Relinquish(digest) => (Request::Relinquish { migration, digest }, RESTORE_DEADLINE),
            Question::Rehearse(digest) => (Request::Rehearse { migration, digest }, REHEARSE_DEADLINE),
            Question::Inquire => (Request::Inquire(migration), QUICK),
            Question::Withdraw => (Request::Withdraw(migration), QUICK),
        };
        let (ask, to) = (self.hand_overs.ask.clone(), self.control.task.to.clone());
        let control = self.control.clone();
        Box::pin(async move {
            let answer = tokio::select! {
                answer = ask.ask(&to, &request, deadline) => answer,
                // The destination ends by itself what it rehearses; nobody need wait for that.
                aborted = control.broken_off(), if rehearses => Err(aborted),
            };
            match answer {
                Ok(Reply::Handover(HandoverState::Restored(restored))) => {
                    (Answer::Restored, Some(Figures::Restored(restored)))
                }
                Ok(Reply::Handover(HandoverState::Rehearsed(rehearsed))) => {
                    (Answer::Rehearsed, Some(Figures::Rehearsed(rehearsed)))
                }
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
