//! What the machines' effects do to the world, and how they end.

use mose_handover::Written;
use mose_handover::destination::{self, Destination, Said};
use mose_handover::source::{self, Why};
use mose_protocol::record::Outcome;

use super::{Asked, DestinationWork, End, Here, Packet, SourceWork, There, World};

impl World {
    fn begin(&mut self, work: SourceWork) {
        assert!(self.source_work.is_none(), "two effects at once: {:?} and {work:?}", self.source_work);
        self.source_work = Some(work);
    }

    fn ask(&mut self, request: destination::Request) {
        self.asked = Some(Asked::of(&request));
        self.send(Packet::Request(request));
    }

    pub(super) fn carry_out_source(&mut self, effects: Vec<source::Effect<()>>) {
        use source::{Effect, Question};
        for effect in effects {
            match effect {
                Effect::Inspect => self.begin(SourceWork::Inspect),
                Effect::Write(state) => self.begin(SourceWork::Write(state)),
                Effect::MakeReady => {
                    self.begin(SourceWork::MakeReady);
                    self.ask(destination::Request::Prepare);
                }
                Effect::StopAndCopy => self.begin(SourceWork::StopAndCopy),
                // Its effect may end at any time anyhow.
                Effect::BreakOff => {}
                Effect::Undo => {
                    self.begin(SourceWork::Undo);
                    self.asked = None;
                    self.send(Packet::Request(destination::Request::Withdraw));
                    self.send(Packet::Request(destination::Request::Close));
                }
                Effect::Ask(question) => self.ask(match question {
                    Question::Relinquish(digest) => destination::Request::Relinquish(digest),
                    Question::Rehearse(digest) => destination::Request::Rehearse(digest),
                    Question::Inquire => destination::Request::Inquire,
                    Question::Withdraw => destination::Request::Withdraw,
                }),
                Effect::Set(timer) => {
                    self.source_timers.insert(timer);
                }
                Effect::Stop(timer) => {
                    self.source_timers.remove(&timer);
                }
                Effect::TakeBack => self.begin(SourceWork::TakeBack),
                Effect::TellBack => {
                    self.begin(SourceWork::TellBack);
                    self.send(Packet::Request(destination::Request::Withdraw));
                    self.send(Packet::Request(destination::Request::Close));
                }
                Effect::Doubt(_) => self.record = Some(Outcome::InDoubt),
                Effect::CleanUp => self.begin(SourceWork::CleanUp),
                Effect::Discard => self.begin(SourceWork::Discard),
                Effect::Close => {
                    self.begin(SourceWork::Close);
                    self.send(Packet::Request(destination::Request::Close));
                }
                Effect::Forget => self.source_disk = None,
                Effect::Conclude(outcome, why) => self.conclude(outcome, why.as_ref()),
            }
        }
    }

    fn conclude(&mut self, outcome: Outcome, why: Option<&Why<()>>) {
        let so = match outcome {
            Outcome::Done => self.there == There::Runs && self.here != Here::Runs,
            Outcome::Refused | Outcome::RolledBack | Outcome::Aborted => self.here == Here::Runs,
            Outcome::Rehearsed => self.rehearsal && self.rehearsed && self.here == Here::Runs,
            Outcome::GivenUp => matches!(why, Some(Why::GivenUp | Why::Lost(_))),
            Outcome::InDoubt => false,
        };
        // Whoever has decided by hand was told what he risks.
        if !so && !self.forced {
            self.untrue = Some(outcome.name());
        }
        self.record = Some(outcome);
    }

    pub(super) fn source_work_ends(&mut self, end: End) {
        use source::Event;
        let Some(work) = self.source_work.take() else { return };
        let done = end != End::Badly;
        let result = if end == End::Well { Ok(()) } else { Err(()) };
        let event = match work {
            SourceWork::Inspect => Event::Inspected(result),
            SourceWork::Write(state) => {
                if done {
                    self.source_disk = Some(state);
                }
                Event::Written(if end == End::Well { Written::OnDisk } else { Written::Unsure })
            }
            SourceWork::MakeReady => {
                self.asked = None;
                Event::Ready(Err(()))
            }
            SourceWork::StopAndCopy if self.rehearsal => {
                // It goes on as soon as it is dumped, whatever becomes of the images.
                self.here = if done { Here::Runs } else { Here::Frozen };
                self.images |= end == End::Well;
                Event::Dumped(result.map(|()| String::new()))
            }
            SourceWork::StopAndCopy => {
                // Where it failed, it stands still or its processes are gone.
                self.here = if done { Here::Dumped } else { Here::Frozen };
                self.images |= end == End::Well;
                Event::Dumped(result.map(|()| String::new()))
            }
            SourceWork::Undo => Event::Undone,
            SourceWork::TakeBack => {
                if done && self.here != Here::Gone {
                    self.here = Here::Runs;
                }
                Event::TakenBack(result)
            }
            SourceWork::TellBack => Event::ToldBack,
            SourceWork::CleanUp => {
                self.here = if done { Here::Gone } else { self.here };
                Event::CleanedUp(done)
            }
            SourceWork::Discard => {
                self.here = if done { Here::Gone } else { self.here };
                Event::Discarded(done)
            }
            SourceWork::Close => Event::Closed,
        };
        self.tell_source(event);
    }

    pub(super) fn carry_out_destination(&mut self, effects: Vec<destination::Effect<()>>) {
        use destination::Effect;
        for effect in effects {
            let work = match effect {
                Effect::Admit => DestinationWork::Admit,
                Effect::Write(said) => DestinationWork::Write(said),
                Effect::MakeReady => {
                    self.destination_left = true;
                    DestinationWork::MakeReady
                }
                Effect::Verify(_) => DestinationWork::Verify,
                Effect::Restore => {
                    self.there = There::Restoring;
                    DestinationWork::Restore
                }
                Effect::Rehearse => {
                    self.there = There::Restoring;
                    DestinationWork::Rehearse
                }
                Effect::Release => DestinationWork::Release,
                Effect::Disarm => DestinationWork::Disarm,
                Effect::Remove => DestinationWork::Remove,
                Effect::Look => DestinationWork::Look,
                Effect::Create | Effect::Hold(_) => unreachable!("not asked for"),
                Effect::Keep => {
                    self.images = false;
                    continue;
                }
                Effect::Set(destination::Timer::Retry) => {
                    self.destination_rings = true;
                    continue;
                }
                Effect::Reply(ticket, answer) => {
                    self.replies(ticket, answer);
                    continue;
                }
                Effect::Forget => {
                    self.destination_disk = None;
                    self.destination = None;
                    continue;
                }
            };
            assert!(
                self.destination_work.is_none(),
                "two effects at once: {:?}, {work:?}",
                self.destination_work
            );
            self.destination_work = Some(work);
        }
        if self.destination.as_ref().is_some_and(Destination::has_ended) {
            self.destination = None;
        }
    }

    fn replies(&mut self, ticket: destination::Ticket, answer: destination::Answer<()>) {
        match &answer {
            destination::Answer::State(Said::Refused(_)) => self.said_refused = true,
            destination::Answer::State(Said::Restored) => self.said_restored = true,
            destination::Answer::State(Said::Rehearsed) => {
                // By then nothing is left of what was rehearsed, unless the source has prepared it anew.
                (self.said_refused, self.rehearsed) = (true, true);
            }
            _ => {}
        }
        self.send(Packet::Answer(Asked::of_ticket(ticket), answer));
    }

    pub(super) fn destination_work_ends(&mut self, end: End) {
        use destination::Event;
        let Some(work) = self.destination_work.take() else { return };
        let done = end != End::Badly;
        let result = if end == End::Well { Ok(()) } else { Err(()) };
        let event = match work {
            DestinationWork::Admit => Event::Admitted(result),
            DestinationWork::Write(said) => {
                if done {
                    self.destination_disk = Some(said);
                }
                Event::Written(if end == End::Well { Written::OnDisk } else { Written::Unsure })
            }
            DestinationWork::MakeReady => Event::Ready(result.map(|()| false)),
            DestinationWork::Verify => Event::Verified(result),
            DestinationWork::Restore => {
                self.there = if done { There::Runs } else { There::Nothing };
                Event::Restored(result)
            }
            DestinationWork::Rehearse => {
                self.there = There::Nothing;
                Event::Rehearsed(result)
            }
            DestinationWork::Release => Event::Released(result),
            DestinationWork::Disarm => {
                if done {
                    (self.there, self.images) = (There::Nothing, false);
                }
                Event::Disarmed(done)
            }
            DestinationWork::Remove => {
                if done {
                    (self.there, self.images) = (There::Nothing, false);
                    self.destination_left = false;
                }
                Event::Removed(done)
            }
            DestinationWork::Look => Event::Looked(done.then_some(self.there == There::Runs)),
        };
        self.tell_destination(event);
    }
}
