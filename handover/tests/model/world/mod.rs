//! Two hosts, the network between them, the service's copies, and everything that can happen to them. Nothing is counted: messages
//! are lost, doubled, late and out of order, agents die and come back, writes and effects fail as often as you like.

mod effects;

use std::collections::BTreeSet;

use mose_handover::SourceState;
use mose_handover::destination::{self, Destination, Said};
use mose_handover::source::{self, Source};
use mose_protocol::record::Outcome;

/// Packets that are on their way at most; one more is lost.
const ON_THE_WAY: usize = 2;

/// The service at its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Here {
    Runs,
    Frozen,
    /// Its processes are gone; its images are kept.
    Dumped,
    Gone,
}

/// The service at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum There {
    Nothing,
    /// CRIU is at work, whether or not its agent lives.
    Restoring,
    Runs,
}

/// What is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Packet {
    Request(destination::Request),
    Answer(Asked, destination::Answer<()>),
}

/// Which kind of request an answer belongs to. In reality an answer belongs to one question; here a late one may even be taken for the
/// answer to the next of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Asked {
    Prepare = 1,
    Relinquish,
    Rehearse,
    Inquire,
    Withdraw,
    Close,
}

impl Asked {
    fn of(request: &destination::Request) -> Self {
        match request {
            destination::Request::Prepare | destination::Request::Create | destination::Request::Hold => {
                Self::Prepare
            }
            destination::Request::Relinquish(_) => Self::Relinquish,
            destination::Request::Rehearse(_) => Self::Rehearse,
            destination::Request::Inquire => Self::Inquire,
            destination::Request::Withdraw => Self::Withdraw,
            destination::Request::Close => Self::Close,
        }
    }

    fn of_ticket(ticket: destination::Ticket) -> Self {
        [Self::Prepare, Self::Relinquish, Self::Rehearse, Self::Inquire, Self::Withdraw, Self::Close]
            .into_iter()
            .find(|asked| *asked as u32 == ticket)
            .expect("tickets are kinds")
    }
}

/// An effect of the source that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SourceWork {
    Inspect,
    Write(SourceState),
    MakeReady,
    StopAndCopy,
    Undo,
    TakeBack,
    TellBack,
    CleanUp,
    Discard,
    Close,
}

/// An effect of the destination that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum DestinationWork {
    Admit,
    Write(Said<()>),
    MakeReady,
    Verify,
    Restore,
    Rehearse,
    Release,
    Disarm,
    Remove,
    Look,
}

/// How an effect ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Well,
    /// Badly, with nothing changed.
    Badly,
    /// Badly, with everything done nevertheless.
    BadlyButDone,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A packet arrives, and may arrive again.
    Deliver {
        at: usize,
        again: bool,
    },
    Lose {
        at: usize,
    },
    /// Nothing came in time for what the source asked.
    Silence,
    SourceWork(End),
    DestinationWork(End),
    /// A restore that outlives its agent ends.
    CriuEnds {
        well: bool,
    },
    SourceRings(source::Timer),
    DestinationRings,
    /// The destination drops what it prepared for a silent source.
    Idle,
    /// The destination hears of the source's record.
    Over,
    SourceDies,
    SourceReturns,
    DestinationDies,
    DestinationReturns,
    Abort,
    Decide {
        keep: bool,
    },
}

/// The state of everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// Whether the service is only rehearsed.
    pub(crate) rehearsal: bool,
    pub(crate) source_up: bool,
    pub(crate) source: Option<Source<()>>,
    pub(crate) source_disk: Option<SourceState>,
    pub(crate) source_work: Option<SourceWork>,
    pub(crate) source_timers: BTreeSet<source::Timer>,
    pub(crate) asked: Option<Asked>,
    pub(crate) destination_up: bool,
    pub(crate) destination: Option<Destination<()>>,
    pub(crate) destination_disk: Option<Said<()>>,
    /// Whether something was made there that is not noted to be removed.
    pub(crate) destination_left: bool,
    pub(crate) destination_work: Option<DestinationWork>,
    pub(crate) destination_rings: bool,
    pub(crate) net: Vec<Packet>,
    pub(crate) here: Here,
    pub(crate) there: There,
    /// Whether the images are at the destination, whole.
    pub(crate) images: bool,
    /// What the source's record says.
    pub(crate) record: Option<Outcome>,
    /// Whether the operator has decided without the destination's word.
    pub(crate) forced: bool,
    /// Whether the destination ever said so.
    pub(crate) said_refused: bool,
    pub(crate) said_restored: bool,
    /// Whether a restore was rehearsed to its end, and the source was told.
    pub(crate) rehearsed: bool,
    /// What was told that was not so.
    pub(crate) untrue: Option<&'static str>,
}

impl World {
    /// An order has just come in.
    pub(crate) fn ordered(rehearsal: bool) -> Self {
        let (machine, effects) = Source::ordered(rehearsal);
        let mut world = Self {
            rehearsal,
            source_up: true,
            source: Some(machine),
            source_disk: None,
            source_work: None,
            source_timers: BTreeSet::new(),
            asked: None,
            destination_up: true,
            destination: None,
            destination_disk: None,
            destination_left: false,
            destination_work: None,
            destination_rings: false,
            net: Vec::new(),
            here: Here::Runs,
            there: There::Nothing,
            images: false,
            record: None,
            forced: false,
            said_refused: false,
            said_restored: false,
            rehearsed: false,
            untrue: None,
        };
        world.carry_out_source(effects);
        world
    }

    /// What can happen next.
    pub(crate) fn actions(&self, actions: &mut Vec<Action>) {
        for at in 0..self.net.len() {
            if at > 0 && self.net[at] == self.net[at - 1] {
                continue;
            }
            for again in [false, true] {
                actions.push(Action::Deliver { at, again });
            }
            actions.push(Action::Lose { at });
        }
        if self.source_up {
            if self.asked.is_some() {
                actions.push(Action::Silence);
            }
            if let Some(work) = &self.source_work {
                actions.extend(self.ends_of_source(work).iter().map(|end| Action::SourceWork(*end)));
            }
            actions.extend(self.source_timers.iter().map(|timer| Action::SourceRings(*timer)));
            actions.push(Action::SourceDies);
            if let Some(machine) = &self.source {
                if machine.can_be_aborted() && !machine.has_ended() {
                    actions.push(Action::Abort);
                }
                if machine.in_doubt() {
                    actions.extend([true, false].map(|keep| Action::Decide { keep }));
                }
            }
        } else {
            actions.push(Action::SourceReturns);
        }
        if self.destination_up {
            if let Some(work) = &self.destination_work {
                let ends = self.ends_of_destination(work);
                actions.extend(ends.iter().map(|end| Action::DestinationWork(*end)));
            }
            if self.destination_rings {
                actions.push(Action::DestinationRings);
            }
            if self.destination.is_some() {
                actions.push(Action::Idle);
                if self.hears_of_the_record() {
                    actions.push(Action::Over);
                }
            }
            actions.push(Action::DestinationDies);
        } else {
            actions.push(Action::DestinationReturns);
        }
        if self.criu_is_alone() {
            // In a rehearsal it fails at the moment at which nobody answers it.
            let ends = [false, true].into_iter().filter(|well| !(*well && self.rehearsal));
            actions.extend(ends.map(|well| Action::CriuEnds { well }));
        }
    }

    pub(crate) fn hears_of_the_record(&self) -> bool {
        self.source_up && self.record.is_some_and(|outcome| outcome != Outcome::InDoubt)
    }

    pub(crate) fn criu_is_alone(&self) -> bool {
        self.there == There::Restoring
            && !matches!(self.destination_work, Some(DestinationWork::Restore | DestinationWork::Rehearse))
    }

    fn ends_of_source(&self, work: &SourceWork) -> &'static [End] {
        match work {
            SourceWork::Inspect => &[End::Well, End::Badly],
            // It ends well by an answer.
            SourceWork::MakeReady => &[End::Badly],
            SourceWork::StopAndCopy if !self.is_prepared() => &[End::Badly, End::BadlyButDone],
            SourceWork::TakeBack if self.here == Here::Gone => &[End::Badly],
            SourceWork::Write(_) | SourceWork::StopAndCopy | SourceWork::TakeBack => {
                &[End::Well, End::Badly, End::BadlyButDone]
            }
            SourceWork::CleanUp | SourceWork::Discard => &[End::Well, End::Badly],
            SourceWork::Undo | SourceWork::TellBack | SourceWork::Close => &[End::Well],
        }
    }

    fn ends_of_destination(&self, work: &DestinationWork) -> &'static [End] {
        match work {
            DestinationWork::Admit if self.there != There::Nothing => &[End::Badly],
            DestinationWork::Verify if !self.images => &[End::Badly],
            // CRIU lets a service go on whose last hook failed.
            DestinationWork::Write(_) | DestinationWork::Restore => {
                &[End::Well, End::Badly, End::BadlyButDone]
            }
            DestinationWork::Release if self.there != There::Runs => &[End::Badly],
            _ => &[End::Well, End::Badly],
        }
    }

    fn is_prepared(&self) -> bool {
        self.destination.as_ref().is_some_and(|machine| machine.said() == Some(Said::Preparing))
            && self.destination_work.is_none()
    }

    pub(crate) fn happen(&mut self, action: Action) {
        match action {
            Action::Deliver { at, again } => {
                let packet = if again { self.net[at].clone() } else { self.net.remove(at) };
                self.arrive(packet);
            }
            Action::Lose { at } => {
                self.net.remove(at);
            }
            Action::Silence => self.silence(),
            Action::SourceWork(end) => self.source_work_ends(end),
            Action::DestinationWork(end) => self.destination_work_ends(end),
            Action::CriuEnds { well } => {
                self.there = if well { There::Runs } else { There::Nothing };
            }
            Action::SourceRings(timer) => {
                self.source_timers.remove(&timer);
                self.tell_source(source::Event::Rang(timer));
            }
            Action::DestinationRings => {
                self.destination_rings = false;
                self.tell_destination(destination::Event::Rang(destination::Timer::Retry));
            }
            Action::Idle => self.tell_destination(destination::Event::Idle),
            Action::Over => self.tell_destination(destination::Event::Over),
            Action::SourceDies => self.source_dies(),
            Action::SourceReturns => {
                self.source_up = true;
                if let Some(state) = self.source_disk.clone() {
                    let (machine, effects) = Source::taken_up(state, self.rehearsal);
                    self.source = Some(machine);
                    self.carry_out_source(effects);
                }
            }
            Action::DestinationDies => {
                self.destination_up = false;
                self.destination = None;
                self.destination_rings = false;
                // What was received was for the transfer of that life.
                self.images = false;
                // Half of a removal is as good as nothing.
                self.destination_work = None;
            }
            Action::DestinationReturns => {
                self.destination_up = true;
                if let Some(said) = self.destination_disk.clone() {
                    let (machine, effects) =
                        Destination::taken_up(said, self.destination_left, self.rehearsal);
                    self.destination = Some(machine);
                    self.carry_out_destination(effects);
                }
            }
            Action::Abort => self.tell_source(source::Event::Abort),
            Action::Decide { keep } => {
                // A service that could not be taken back is the source's own: nothing is forced on anybody.
                let own = matches!(self.source_disk, Some(SourceState::Dumping | SourceState::Reclaiming));
                // What is only rehearsed is nobody else's, whatever is decided.
                self.forced |= !self.rehearsal && (!own || !keep);
                self.tell_source(source::Event::Decided { keep });
            }
        }
    }

    fn source_dies(&mut self) {
        self.source_up = false;
        self.source = None;
        self.source_timers.clear();
        self.asked = None;
        // A dump under way gets no answer from its hook and fails.
        if self.source_work.take() == Some(SourceWork::StopAndCopy) && self.here == Here::Frozen {
            self.here = Here::Frozen;
        }
    }

    fn silence(&mut self) {
        if self.asked.take() == Some(Asked::Prepare) {
            self.source_work = None;
            self.tell_source(source::Event::Ready(Err(())));
        } else {
            self.tell_source(source::Event::Answered(source::Answer::Silent));
        }
    }

    fn arrive(&mut self, packet: Packet) {
        match packet {
            Packet::Request(request) if self.destination_up => self.asks_destination(request),
            Packet::Answer(asked, answer) if self.source_up && self.asked == Some(asked) => {
                self.asked = None;
                self.answers_source(asked, answer);
            }
            Packet::Request(_) | Packet::Answer(..) => {}
        }
    }

    fn asks_destination(&mut self, request: destination::Request) {
        let ticket = Asked::of(&request) as u32;
        if self.destination.is_some() {
            return self.tell_destination(destination::Event::Asked(ticket, request));
        }
        // As the agent answers for what it has no machine for.
        match request {
            destination::Request::Prepare => {
                let (machine, effects) = Destination::asked(ticket, self.rehearsal);
                self.destination = Some(machine);
                self.carry_out_destination(effects);
            }
            destination::Request::Withdraw => {
                // What it never heard of it cannot restore.
                let refused = destination::Answer::State(Said::Refused(destination::Why::Withdrawn));
                self.send(Packet::Answer(Asked::Withdraw, refused));
            }
            request => {
                let unknown = destination::Answer::Failed(destination::Why::Withdrawn);
                self.send(Packet::Answer(Asked::of(&request), unknown));
            }
        }
    }

    fn answers_source(&mut self, asked: Asked, answer: destination::Answer<()>) {
        use destination::Answer;
        if asked == Asked::Prepare {
            self.source_work = None;
            let ready = if answer == Answer::Prepared { Ok(()) } else { Err(()) };
            return self.tell_source(source::Event::Ready(ready));
        }
        let answer = match answer {
            Answer::State(Said::Preparing) => source::Answer::Preparing,
            Answer::State(Said::Restoring) => source::Answer::Restoring,
            Answer::State(Said::Restored) => source::Answer::Restored,
            Answer::State(Said::Refused(_)) => source::Answer::Refused(()),
            Answer::State(Said::Rehearsed) => source::Answer::Rehearsed,
            Answer::OutOfTurn(_) | Answer::Failed(_) | Answer::Prepared | Answer::Done => {
                source::Answer::Unknown
            }
        };
        self.tell_source(source::Event::Answered(answer));
    }

    fn send(&mut self, packet: Packet) {
        if self.net.len() < ON_THE_WAY {
            self.net.push(packet);
            // Their order is no state: any of them may come next.
            self.net.sort_by_key(|packet| format!("{packet:?}"));
        }
    }

    fn tell_source(&mut self, event: source::Event<()>) {
        let Some(machine) = &mut self.source else { return };
        let effects = machine.step(event);
        self.carry_out_source(effects);
    }

    fn tell_destination(&mut self, event: destination::Event<()>) {
        let Some(machine) = &mut self.destination else { return };
        let effects = machine.step(event);
        self.carry_out_destination(effects);
    }
}
