//! One migration that comes to this host, as others may see and influence it: the machine, and who waits for what it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use mose_handover::destination::{Answer, Event, Said, Ticket};
use mose_protocol::handover::{HandoverState, Prepare, Prepared, Rehearsed, Restored};
use mose_protocol::{HostName, Refusal, Reply, Response, ServiceName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Tasks;
use crate::tasks::unbroken;

use super::reasons::{self, Figures, Parties};
use super::{Asked, Effect, Machine};

/// A migration that comes to this host, as others may see and influence it.
pub struct Incoming {
    prepare: Prepare,
    parties: Parties,
    desk: Mutex<Desk>,
    tasks: Tasks,
    /// Whether another migration of the service would be in its way.
    open: watch::Sender<bool>,
}

/// The machine, and who waits for what it says.
struct Desk {
    machine: Machine,
    effects: mpsc::UnboundedSender<Effect>,
    waiting: BTreeMap<Ticket, (Asked, oneshot::Sender<Response>)>,
    tickets: Ticket,
    /// What the source needs to send, once that is known.
    prepared: Option<Prepared>,
    /// The figures of the restore or the rehearsal, once it has ended well.
    figures: Figures,
    /// Why the journal could not be written, the last time.
    unwritten: Option<Refusal>,
}

impl Incoming {
    /// One that its source asks to prepare: with the answer to come and what is to be done.
    pub(super) fn asked(
        prepare: Prepare,
        host: &HostName,
        tasks: Tasks,
    ) -> (Arc<Self>, oneshot::Receiver<Response>, mpsc::UnboundedReceiver<Effect>) {
        let machine = Machine::asked(0, prepare.task.rehearsal);
        let (incoming, effects) = Self::new(prepare, host, tasks, machine, Figures::default());
        let answer = incoming.desk().wait(0, Asked::Prepare);
        (incoming, answer, effects)
    }

    /// One that an earlier life of the agent left open: with what is to be done.
    pub(super) fn taken_up(
        prepare: Prepare,
        host: &HostName,
        tasks: Tasks,
        state: HandoverState,
        left: bool,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Effect>) {
        let (said, figures) = reasons::said(state);
        let machine = Machine::taken_up(said, left, prepare.task.rehearsal);
        Self::new(prepare, host, tasks, machine, figures)
    }

    fn new(
        prepare: Prepare,
        host: &HostName,
        tasks: Tasks,
        (machine, first): (Machine, Vec<Effect>),
        figures: Figures,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Effect>) {
        let (effects, taken) = mpsc::unbounded_channel();
        for effect in first {
            let _ = effects.send(effect);
        }
        let open = watch::Sender::new(machine.is_open());
        let desk = Desk {
            machine,
            effects,
            waiting: BTreeMap::new(),
            // The first is that of the order to prepare.
            tickets: 1,
            prepared: None,
            figures,
            unwritten: None,
        };
        let parties = Parties {
            migration: prepare.task.migration.clone(),
            from: prepare.task.from.clone(),
            to: host.clone(),
        };
        (Arc::new(Self { prepare, parties, desk: Mutex::new(desk), tasks, open }), taken)
    }

    /// The service that comes.
    pub const fn service(&self) -> &ServiceName {
        &self.prepare.task.service
    }

    /// Whether it is still on its way, or something of it is still to be removed.
    pub(crate) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    pub(super) const fn prepare(&self) -> &Prepare {
        &self.prepare
    }

    /// What would be said of it.
    pub(super) fn said(&self) -> HandoverState {
        let desk = self.desk();
        let said = desk.machine.said();
        said.map_or(HandoverState::Unknown, |said| desk.state(said, &self.parties))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.desk().machine.has_ended()
    }

    /// What the source is to be answered, once that is known.
    pub(super) fn ask(&self, request: Asked) -> oneshot::Receiver<Response> {
        let mut desk = self.desk();
        let ticket = desk.tickets;
        desk.tickets = ticket.wrapping_add(1);
        let answer = desk.wait(ticket, request.clone());
        self.step(&mut desk, Event::Asked(ticket, request));
        answer
    }

    /// Returns once no other migration of the service would be in its way.
    pub(super) async fn cleared(&self) {
        let mut open = self.open.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = open.wait_for(|open| !open).await;
    }

    /// What the source needs to send.
    pub(super) fn put_prepared(&self, prepared: Prepared) {
        self.desk().prepared = Some(prepared);
    }

    /// The figures of the restore.
    pub(super) fn put_restored(&self, restored: Restored) {
        self.desk().figures.restored = Some(restored);
    }

    /// The figures of the rehearsal.
    pub(super) fn put_rehearsed(&self, rehearsed: Rehearsed) {
        self.desk().figures.rehearsed = Some(rehearsed);
    }

    /// Why the journal could not be written.
    pub(super) fn put_unwritten(&self, refusal: Refusal) {
        self.desk().unwritten = Some(refusal);
    }

    /// A state as it is told, and lies in the journal.
    pub(super) fn state(&self, said: Said<Refusal>) -> HandoverState {
        self.desk().state(said, &self.parties)
    }

    /// Answers who asked with a ticket.
    pub(super) fn answer(&self, ticket: Ticket, response: Response) {
        self.desk().answer(ticket, response);
    }

    /// Tells the machine what happened.
    pub(super) fn tell(&self, event: Event<Refusal>) {
        let mut desk = self.desk();
        self.step(&mut desk, event);
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        unbroken(self.desk.lock())
    }

    fn step(&self, desk: &mut Desk, event: Event<Refusal>) {
        for effect in self.tasks.whole(|| desk.machine.step(event)) {
            match effect {
                Effect::Reply(ticket, answer) => desk.reply(ticket, answer, &self.parties),
                // Where nobody takes it, the agent is ending.
                work => drop(desk.effects.send(work)),
            }
        }
        if desk.machine.has_ended() {
            desk.waiting.clear();
        }
        self.open.send_replace(desk.machine.is_open());
    }
}

impl Desk {
    fn wait(&mut self, ticket: Ticket, request: Asked) -> oneshot::Receiver<Response> {
        let (tell, answer) = oneshot::channel();
        self.waiting.insert(ticket, (request, tell));
        answer
    }

    fn state(&self, said: Said<Refusal>, parties: &Parties) -> HandoverState {
        parties.state(said, &self.figures, self.unwritten.as_ref())
    }

    fn reply(&mut self, ticket: Ticket, answer: Answer<Refusal>, parties: &Parties) {
        let Some((request, _)) = self.waiting.get(&ticket) else { return };
        let response = match answer {
            Answer::Prepared => {
                let prepared = self.prepared.clone().map(Reply::Prepared);
                prepared.ok_or_else(|| parties.out_of_turn(&HandoverState::Preparing))
            }
            Answer::Done => Ok(Reply::Ok),
            Answer::State(said) => match (request, self.state(said, parties)) {
                (Asked::Prepare | Asked::Create, HandoverState::Refused(refusal)) => Err(refusal),
                (Asked::Prepare | Asked::Create | Asked::Hold, state) => Err(parties.out_of_turn(&state)),
                (_, state) => Ok(Reply::Handover(state)),
            },
            Answer::OutOfTurn(said) => Err(parties.out_of_turn(&self.state(said, parties))),
            // It was not begun, or is forgotten.
            Answer::Failed(why) => match (request, parties.reason(&why, self.unwritten.as_ref())) {
                (Asked::Inquire, _) => Ok(Reply::Handover(HandoverState::Unknown)),
                (Asked::Withdraw, refusal) => Ok(Reply::Handover(HandoverState::Refused(refusal))),
                (Asked::Relinquish(_) | Asked::Rehearse(_), _) => {
                    Err(parties.out_of_turn(&HandoverState::Unknown))
                }
                (_, refusal) => Err(refusal),
            },
        };
        self.answer(ticket, response);
    }

    fn answer(&mut self, ticket: Ticket, response: Response) {
        if let Some((_, tell)) = self.waiting.remove(&ticket) {
            let _ = tell.send(response);
        }
    }
}
