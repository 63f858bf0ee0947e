//! What the source's side has done.

use mose_protocol::record::Outcome;

#[cfg(doc)]
use super::event::Event;
use crate::SourceState;

/// What the destination is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// The service is yours: restore it from the images with this digest. Answered when the restore has ended.
    Relinquish(String),
    /// Restore it from the images with this digest, have none of it run, and remove it again. Answered when nothing of it is left.
    Rehearse(String),
    /// What became of the service? Answered at once.
    Inquire,
    /// Promise never to run it by this hand-over, unless it runs already. Answered at once.
    Withdraw,
}

/// What is waited for. How long each takes is the executor's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// Before the destination is asked again.
    Pause,
    /// The destination has not been heard for too long: the service is in doubt.
    Silence,
    /// The destination answers, but has not decided for longer than any restore takes.
    Undecided,
    /// A destination that answers is not waited for any longer, after the operator has decided.
    LastWord,
    /// Before something is tried again on this host.
    Retry,
}

/// Why a service is in doubt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Doubt<R> {
    /// The destination says nothing.
    Silent,
    /// The destination does not decide.
    Undecided,
    /// The service could not be taken back.
    NotTakenBack {
        /// Why it was to be.
        why: Why<R>,
        /// What went wrong.
        error: R,
    },
}

/// Why the service stays, or comes back, where it was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Why<R> {
    /// Something failed, or was refused.
    Failed(R),
    /// The journal could not be written.
    Journal,
    /// It was a rehearsal, and all went well.
    Rehearsed,
    /// The destination did not say how the rehearsal went.
    Unheard,
    /// The operator aborted it.
    Aborted,
    /// The source's agent was restarted.
    Restarted,
    /// The operator had the service resumed at the source.
    Kept,
    /// The operator gave the service up while the destination was silent.
    GivenUp,
    /// The operator gave up a service that could not be taken back.
    Lost(Box<Why<R>>),
}

/// What is to be done. Effects of one event are begun in their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect<R> {
    /// Look at the service and the destination, before anything is changed: [`Event::Inspected`].
    Inspect,
    /// Put a state on disk: [`Event::Written`]. [`SourceState::Preparing`] begins the journal.
    Write(SourceState),
    /// Have the destination get ready, and send what can be sent while the service runs: [`Event::Ready`].
    MakeReady,
    /// Freeze the service, dump it, and have its images verified at the destination: [`Event::Dumped`]. When it ends well, no process of
    /// the service is left here; when it fails, they stand still or are gone. In a rehearsal they go on as soon as they are dumped.
    StopAndCopy,
    /// End [`Effect::MakeReady`], [`Effect::StopAndCopy`] or a rehearsal's [`Effect::Ask`] early; its own event still comes.
    BreakOff,
    /// Have the destination drop what it prepared, as far as it can be reached, and remove what was prepared here: [`Event::Undone`].
    Undo,
    /// Ask the destination; an earlier question that is still open is given up: [`Event::Answered`].
    Ask(Question),
    /// Restart a timer: [`Event::Rang`].
    Set(Timer),
    /// Stop a timer.
    Stop(Timer),
    /// Bring the service back here, from its processes or from its images: [`Event::TakenBack`]. In a rehearsal from its processes alone, as it
    /// has gone on since it was dumped.
    TakeBack,
    /// Tell everyone that the service is back, which was never away in a rehearsal, and have the destination forget it: [`Event::ToldBack`].
    TellBack,
    /// Put into the record that the service is in doubt.
    Doubt(Doubt<R>),
    /// Remove what the service left here, volumes included: [`Event::CleanedUp`].
    CleanUp,
    /// Remove what the service left here, but for its volumes: [`Event::Discarded`].
    Discard,
    /// Have the destination forget the hand-over: [`Event::Closed`].
    Close,
    /// Remove the journal.
    Forget,
    /// The migration has ended: write its record, and let the service be migrated again.
    Conclude(Outcome, Option<Why<R>>),
}
