//! What the destination's side has done.

#[cfg(doc)]
use super::event::Event;

/// What the destination says of a hand-over, and has on disk before it says it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Said<R> {
    /// It prepares or receives; the service is not its own.
    Preparing,
    /// The service is its own and is being restored.
    Restoring,
    /// The service runs here.
    Restored,
    /// It never runs here by this hand-over.
    Refused(Why<R>),
    /// It was rehearsed, and nothing is left of it: it never runs here by this hand-over.
    Rehearsed,
}

/// Why the destination refused a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Why<R> {
    /// Something failed.
    Failed(R),
    /// The journal could not be written.
    Journal,
    /// The source withdrew the hand-over.
    Withdrawn,
    /// The destination's agent was restarted.
    Restarted,
    /// The source was silent.
    Idle,
    /// The migration ended at the source, which was not heard here.
    Over,
}

/// Stands for whoever waits for an [`Answer`].
pub type Ticket = u32;

/// What the source is answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer<R> {
    /// It is ready, or waits for the container's image.
    Prepared,
    /// It is done.
    Done,
    /// How far it is.
    State(Said<R>),
    /// This cannot be done to a hand-over that is so far.
    OutOfTurn(Said<R>),
    /// It was not begun, for this reason.
    Failed(Why<R>),
}

/// What is waited for. How long each takes is the executor's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// Before something is tried again.
    Retry,
}

/// What is to be done. Effects of one event are begun in their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect<R> {
    /// Look whether the service could come here; changes nothing: [`Event::Admitted`].
    Admit,
    /// Put a state on disk: [`Event::Written`]. [`Said::Preparing`] begins the journal.
    Write(Said<R>),
    /// Make the namespace and the container and open the transfer, or open the transfer of the container's image: [`Event::Ready`].
    MakeReady,
    /// Take the image that has come, then as [`Effect::MakeReady`]: [`Event::Created`].
    Create,
    /// Hold what comes for the service, and answer.
    Hold(Ticket),
    /// See whether the images are here and have this digest: [`Event::Verified`].
    Verify(String),
    /// Restore the service behind its guard: [`Event::Restored`].
    Restore,
    /// Restore the service up to where it could run, and end it there, so that none of it ever runs: [`Event::Rehearsed`].
    Rehearse,
    /// Let out what is held for a service that was restored in an earlier life: [`Event::Released`].
    Release,
    /// The service is here for good: remove its images and what else was for the migration only.
    Keep,
    /// See to it that the service never runs here by this hand-over: end a restore that is at work, end what it made, take its images away:
    /// [`Event::Disarmed`]. The service stands still meanwhile.
    Disarm,
    /// Remove everything that the hand-over has made here, processes first, and note on disk that nothing is left: [`Event::Removed`].
    Remove,
    /// See whether the service runs here: [`Event::Looked`].
    Look,
    /// Restart a timer: [`Event::Rang`].
    Set(Timer),
    /// Answer the source.
    Reply(Ticket, Answer<R>),
    /// Remove the journal; the hand-over is forgotten.
    Forget,
}
