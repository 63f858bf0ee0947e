//! The hand-overs that are under way at a host. Each reserves its service's name before anything of it is awaited, so that of two
//! orders for one service one is refused before it has touched anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Response, ServiceName};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::arrival::Incoming;
use crate::departure::Control;
use crate::{Ask, Tasks};

/// What a migration is doing with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// It leaves this host.
    Leaving,
    /// It comes to this host.
    Coming,
    /// It left, and nobody knows whether it arrived.
    InDoubt,
}

impl Busy {
    /// Why another migration of the service cannot begin.
    #[must_use]
    pub fn refusal(self, service: &ServiceName) -> Refusal {
        let (state, remedy) = match self {
            Self::InDoubt => ("in doubt", "settle it first: mose settle"),
            Self::Leaving | Self::Coming => ("under way", "wait for its end (`mose watch`)"),
        };
        Refusal::new(RefusalCode::Conflict, format!("another migration of {service} is {state}"), remedy)
    }
}

/// All hand-overs that are under way at one host.
pub struct HandOvers {
    pub(crate) host: HostName,
    pub(crate) ask: Arc<dyn Ask>,
    both: Mutex<Both>,
    tasks: Tasks,
}

/// Both directions, under one lock.
#[derive(Default)]
pub(crate) struct Both {
    pub(crate) leaving: BTreeMap<MigrationId, Arc<Control>>,
    /// Until their source has heard how they ended.
    pub(crate) coming: BTreeMap<MigrationId, Arc<Incoming>>,
}

impl HandOvers {
    /// None yet, at a host that asks others so. Stopping `tasks` leaves all of them where they are, as a crash would; another life of the
    /// agent goes on from their journals.
    #[must_use]
    pub fn new(host: HostName, ask: Arc<dyn Ask>, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self { host, ask, both: Mutex::default(), tasks })
    }

    /// The tasks that drive them.
    #[must_use]
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// What a migration is doing with a service here.
    #[must_use]
    pub fn busy_with(&self, service: &ServiceName) -> Option<Busy> {
        self.lock().busy_with(service)
    }

    /// Whether a migration leaves or comes. One in doubt moves nothing.
    #[must_use]
    pub fn any_moves(&self) -> bool {
        let both = self.lock();
        both.leaving.values().any(|control| !control.in_doubt())
            || both.coming.values().any(|coming| coming.is_open())
    }

    /// To look and to reserve in one. Nothing may be awaited meanwhile.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Both> {
        self.both.lock()
    }

    /// Drives a hand-over for as long as the agent lives.
    pub(crate) fn spawn(&self, hand_over: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(hand_over);
    }

    /// An answer that is to come.
    pub(crate) async fn heard(&self, answer: oneshot::Receiver<Response>) -> Response {
        let answered = tokio::select! {
            biased;
            answered = answer => answered,
            // What was asked may be done or not: it tells as little as no answer at all.
            () = self.tasks.stopped() => {
                let reason = format!("the agent on {} is ending", self.host);
                return Err(Refusal::new(RefusalCode::Unreachable, reason, "ask again once it is back"));
            }
        };
        answered.unwrap_or_else(|_| {
            let reason = "the hand-over has ended at the destination";
            Err(Refusal::new(RefusalCode::OutOfTurn, reason, "migrate again"))
        })
    }
}

impl Both {
    pub(crate) fn busy_with(&self, service: &ServiceName) -> Option<Busy> {
        if let Some(control) = self.leaving.values().find(|control| &control.task().service == service) {
            return Some(if control.in_doubt() { Busy::InDoubt } else { Busy::Leaving });
        }
        let comes = |coming: &Arc<Incoming>| coming.service() == service && coming.is_open();
        self.coming.values().any(comes).then_some(Busy::Coming)
    }
}
