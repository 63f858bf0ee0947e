//! What the source's side is told.

#[cfg(doc)]
use super::effect::Effect;
use super::effect::Timer;
use crate::Written;

/// What happened, as far as the source's side must know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event<R> {
    /// [`Effect::Inspect`] ended.
    Inspected(Result<(), R>),
    /// [`Effect::Write`] ended.
    Written(Written),
    /// [`Effect::MakeReady`] ended.
    Ready(Result<(), R>),
    /// [`Effect::StopAndCopy`] ended, with the digest of the images that the destination has.
    Dumped(Result<String, R>),
    /// [`Effect::Undo`] ended.
    Undone,
    /// The destination answered the newest [`Effect::Ask`], or did not.
    Answered(Answer<R>),
    /// A timer that [`Effect::Set`] set rang.
    Rang(Timer),
    /// [`Effect::TakeBack`] ended: the service runs here again, or does not.
    TakenBack(Result<(), R>),
    /// [`Effect::TellBack`] ended.
    ToldBack,
    /// [`Effect::CleanUp`] ended; whether nothing is left.
    CleanedUp(bool),
    /// [`Effect::Discard`] ended; whether nothing is left.
    Discarded(bool),
    /// [`Effect::Close`] ended, heard or not.
    Closed,
    /// The operator aborts the migration.
    Abort,
    /// The operator decides about a service in doubt.
    Decided {
        /// Whether the source keeps it; otherwise the source gives it up.
        keep: bool,
    },
}

/// What the destination says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer<R> {
    /// It never heard of the hand-over, has forgotten it, or cannot do this to it.
    Unknown,
    /// It prepares or receives.
    Preparing,
    /// It restores the service.
    Restoring,
    /// The service runs there.
    Restored,
    /// It never runs there by this hand-over.
    Refused(R),
    /// It was rehearsed there, and nothing is left of it: it never runs there by this hand-over.
    Rehearsed,
    /// Nothing was heard in time.
    Silent,
}
