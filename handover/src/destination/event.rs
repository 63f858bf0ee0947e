//! What the destination's side is told.

#[cfg(doc)]
use super::effect::Effect;
use super::effect::{Ticket, Timer};
use crate::Written;

/// What the source asks of the destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Get ready for the service.
    Prepare,
    /// The container's image is here: create the container.
    Create,
    /// Hold what comes for the service from now on.
    Hold,
    /// The service is yours: restore it from the images with this digest.
    Relinquish(String),
    /// Restore it from the images with this digest, have none of it run, and remove it again.
    Rehearse(String),
    /// What became of the service?
    Inquire,
    /// Promise never to run it by this hand-over, unless it runs already or is about to.
    Withdraw,
    /// The source knows what became of it: forget the hand-over.
    Close,
}

/// What happened, as far as the destination's side must know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event<R> {
    /// The source asks.
    Asked(Ticket, Request),
    /// [`Effect::Admit`] ended.
    Admitted(Result<(), R>),
    /// [`Effect::Write`] ended.
    Written(Written),
    /// [`Effect::MakeReady`] ended; whether the container's image is still to come.
    Ready(Result<bool, R>),
    /// [`Effect::Create`] ended.
    Created(Result<(), R>),
    /// [`Effect::Verify`] ended.
    Verified(Result<(), R>),
    /// [`Effect::Restore`] ended. Where it failed, a copy may run nevertheless.
    Restored(Result<(), R>),
    /// [`Effect::Rehearse`] ended: whether the restore came to where it was to be ended. None of it runs, however it ended.
    Rehearsed(Result<(), R>),
    /// [`Effect::Release`] ended.
    Released(Result<(), R>),
    /// [`Effect::Disarm`] ended; whether it is certain that the service never runs here.
    Disarmed(bool),
    /// [`Effect::Remove`] ended; whether nothing is left.
    Removed(bool),
    /// [`Effect::Look`] ended: whether the service runs here; `None` where the engine did not say.
    Looked(Option<bool>),
    /// A timer that [`Effect::Set`] set rang.
    Rang(Timer),
    /// Nothing came from the source for too long.
    Idle,
    /// The source says that the migration has ended there, and is not in doubt.
    Over,
}
