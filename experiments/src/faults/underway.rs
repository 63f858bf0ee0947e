//! A migration with a fault in it: ordered, struck at the moment, followed until nothing of it is in doubt.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use color_eyre::eyre::eyre;
use mose_lab::Lab;
use mose_orchestrator::design::{Given, Wanted};
use mose_orchestrator::order::Order;
use mose_pam::{BitsPerSec, Bytes, Limits, Millis, Objective, PagesPerSec, RoundsRule, Targets};
use mose_protocol::forecast::Forecast;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request};

use super::bound::{DOUBT, LINK, STATE, Worst};
use super::cell::{By, Cell, Fault, Moment, Place};
use super::host::wait_until;
use super::strike::{Aim, Hosts, Undo, amiss, strike};
use super::wrap::Wrapped;
use crate::course::Orders;

/// How long a migration may take until its order comes back, fault included; and until nothing of it is in doubt.
const ORDER: Duration = Duration::from_secs(120);
/// How long two agents that were cut off from each other may take to meet again.
const ACQUAINTANCE: Duration = Duration::from_secs(60);
const SETTLED: Duration = Duration::from_secs(60);

/// How it ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// One after the other, as the source told them.
    pub(crate) outcomes: Vec<Outcome>,
    /// The record, as it was told last.
    pub(crate) record: Option<Record>,
    /// What the order was refused for, where there is no record.
    pub(crate) refused: Option<Refusal>,
    /// Whether the fault struck.
    pub(crate) struck: bool,
    /// What went otherwise than it should.
    pub(crate) complaints: Vec<String>,
}

/// What is ordered, of whom.
#[derive(Clone, Copy)]
pub(crate) struct Course<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) orders: &'a Orders,
    pub(crate) service: &'static str,
    pub(crate) hosts: Hosts,
}

/// What the one that orders and the one that strikes know of each other.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    migration: Mutex<Option<MigrationId>>,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    fn id(&self) -> Option<MigrationId> {
        self.migration.lock().ok().and_then(|id| id.clone())
    }
}

impl<'a> Course<'a> {
    fn source(&self) -> color_eyre::Result<HostName> {
        Ok(self.hosts.source.parse()?)
    }

    /// The order from the one host to the other.
    pub(crate) fn order(&self, by: By) -> color_eyre::Result<Order> {
        let Hosts { source, destination } = self.hosts;
        let mut how = by.how();
        if by.promised {
            how.forecast = Some(Box::new(self.promise(by)?));
        }
        Orders::order(self.service, source, destination, &how)
    }

    /// A forecast whose worst case is the table's: what the designer says of this order, with that in its place.
    fn promise(&self, by: By) -> color_eyre::Result<Forecast> {
        let worst = Millis(Worst::of(by).downtime.as_secs_f64() * 1e3);
        let given = Given {
            state: Some(Bytes(STATE)),
            dirty_rate: Some(PagesPerSec(200.0)),
            bandwidth: Some(BitsPerSec(LINK)),
            interval: None,
        };
        let wanted = Wanted {
            targets: Targets::new(worst, Millis(60_000.0)).map_err(|error| eyre!("{error}"))?,
            objective: Objective::Downtime,
            limits: Limits::default(),
            rounds: RoundsRule::Enough,
            profile: None,
            given,
        };
        let Hosts { source, destination } = self.hosts;
        let mut forecast = self.orders.design(self.service, source, destination, &wanted)?.forecast();
        forecast.bound.downtime = worst;
        Ok(forecast)
    }

    /// Waits until the two hosts' agents have met: after a fault of the link that takes a while.
    pub(crate) fn acquainted(&self) {
        let Ok(source) = self.source() else { return };
        let (Ok(service), Ok(to)) = (self.service.parse(), self.hosts.destination.parse()) else { return };
        let check = Request::Check { service, to: Some(to) };
        wait_until(ACQUAINTANCE, || self.orders.answer(&source, &check).is_ok());
    }

    /// Moves the service, with a fault if there is one, and undoes what the fault did.
    pub(crate) fn carry_out(&self, by: By, cell: Option<&Cell>) -> color_eyre::Result<Ended> {
        let order = self.order(by)?;
        let Some(cell) = cell else {
            let mut ended = Ended { struck: true, ..Ended::default() };
            ended.take(self.orders.carry_out(&order, ORDER, |_| {}));
            return Ok(ended);
        };
        let wrapped = match cell.moment.side() {
            Some(side) => Wrapped::arm(self.lab, self.hosts.of(side), cell.moment)?,
            None => None,
        };
        let aim = Aim::at(self.lab, cell, self.hosts);
        let shared = Shared::default();
        let (tell, events) = mpsc::channel();
        let mut ended = Ended::default();
        let before = match cell.moment {
            Moment::Before => Some(strike(self.lab, cell, self.hosts, &aim, None, None)?),
            _ => None,
        };
        let struck = std::thread::scope(|scope| {
            let (aim, script, known) = (&aim, wrapped.as_ref(), &shared);
            let striker = scope.spawn(move || match before {
                Some(undo) => Ok(Some(undo)),
                None => self.strike_in_time(cell, aim, script, &events, known),
            });
            let second = (cell.fault == Fault::OrderedTwice)
                .then(|| scope.spawn(|| self.orders.carry_out(&order, ORDER, |_| {})));
            let watch = |event: &StepEvent| {
                if let Ok(mut id) = shared.migration.lock() {
                    id.get_or_insert_with(|| event.migration.clone());
                }
                let _ = tell.send(event.clone());
            };
            let mut first = self.orders.carry_out(&order, ORDER, watch);
            shared.over.store(true, Relaxed);
            if let Some(second) = second.and_then(|second| second.join().ok()) {
                first = ended.one_of(first, second);
            }
            ended.take(first);
            striker.join().unwrap_or_else(|_| Err(eyre!("the fault's thread failed")))
        });
        match struck {
            Ok(Some(undo)) => {
                ended.struck = true;
                ended.complaints.extend(amiss(self.lab, cell, self.hosts));
                drop(undo);
            }
            Ok(None) => {}
            Err(error) => ended.complaints.push(format!("the fault did not strike as it should: {error}")),
        }
        drop(wrapped);
        let lasting =
            if cell.fault == (Fault::Settled { keep: false }) { Some(Outcome::GivenUp) } else { None };
        self.settle(shared.id(), lasting, &mut ended)?;
        Ok(ended)
    }

    /// Waits for the moment, strikes, does what the operator does, and undoes in time; what is left to undo at the end.
    fn strike_in_time(
        &self,
        cell: &Cell,
        aim: &Aim,
        wrapped: Option<&Wrapped<'_>>,
        events: &Receiver<StepEvent>,
        shared: &Shared,
    ) -> color_eyre::Result<Option<Undo<'a>>> {
        let deadline = Instant::now() + ORDER;
        let came = match (cell.moment, wrapped) {
            (Moment::Step(..), _) => {
                if !heard(cell.moment, events, shared, deadline) {
                    return Ok(None);
                }
                None
            }
            (_, Some(script)) => {
                let Some(pid) = script.wait(|| shared.is_over(), deadline) else { return Ok(None) };
                Some(pid)
            }
            (_, None) => None,
        };
        let undo = strike(self.lab, cell, self.hosts, aim, wrapped, came)?;
        let decided = match cell.fault {
            Fault::Aborted => self.abort(cell, shared),
            Fault::Settled { keep } => self.decide(keep, shared),
            _ => Ok(()),
        };
        if let Some(script) = wrapped {
            script.go()?;
        }
        decided?;
        if matches!(cell.fault, Fault::Settled { .. }) {
            drop(undo);
            return Ok(Some(Undo::nothing()));
        }
        Ok(Some(undo.in_time(|| shared.is_over()).unwrap_or(Undo::nothing())))
    }

    fn abort(&self, cell: &Cell, shared: &Shared) -> color_eyre::Result<()> {
        let id = shared.id().ok_or_else(|| eyre!("no step was heard of"))?;
        let answer = self.orders.answer(&self.source()?, &Request::Abort(id));
        match (answer, cell.moment.place() < Place::Handed) {
            (Ok(_), true) | (Err(_), false) => Ok(()),
            (Err(refusal), true) => Err(eyre!("the abort was refused: {refusal}")),
            (Ok(_), false) => Err(eyre!("an abort after the commit point was not refused")),
        }
    }

    /// Waits for the doubt, then decides it.
    fn decide(&self, keep: bool, shared: &Shared) -> color_eyre::Result<()> {
        let id = shared.id().ok_or_else(|| eyre!("no step was heard of"))?;
        let source = self.source()?;
        let in_doubt = || self.outcome(&source, &id).is_some_and(|(outcome, _)| outcome == Outcome::InDoubt);
        if !wait_until(3 * DOUBT, in_doubt) {
            return Err(eyre!("the service was never in doubt"));
        }
        let settled = self.orders.answer(&source, &Request::Settle { migration: id.clone(), keep });
        settled.map_err(|refusal| eyre!("the decision was refused: {refusal}"))?;
        let decided = || self.outcome(&source, &id).is_some_and(|(outcome, _)| outcome != Outcome::InDoubt);
        if wait_until(2 * DOUBT, decided) { Ok(()) } else { Err(eyre!("the decision came to nothing")) }
    }

    fn outcome(&self, source: &HostName, id: &MigrationId) -> Option<(Outcome, Record)> {
        match self.orders.answer(source, &Request::Record(id.clone())) {
            Ok(Reply::Record(Some(record))) => Some((record.outcome, *record)),
            _ => None,
        }
    }

    /// Waits until the source tells how it ended, and that is neither in doubt nor `passing`.
    fn settle(
        &self,
        id: Option<MigrationId>,
        passing: Option<Outcome>,
        ended: &mut Ended,
    ) -> color_eyre::Result<()> {
        let Some(id) = ended.record.as_ref().map(|record| record.migration.clone()).or(id) else {
            return Ok(());
        };
        let source = self.source()?;
        let over = |outcome: Outcome| outcome != Outcome::InDoubt && Some(outcome) != passing;
        let mut settled = false;
        wait_until(SETTLED, || {
            if let Some((outcome, record)) = self.outcome(&source, &id) {
                ended.see(record);
                settled = over(outcome);
            }
            if !settled {
                std::thread::sleep(Duration::from_millis(200));
            }
            settled
        });
        if !settled {
            ended.complaints.push(match ended.outcomes.last() {
                Some(outcome) => format!("it was still {} after {SETTLED:?}", outcome.name()),
                None => format!("{} has no record of it", self.hosts.source),
            });
        }
        Ok(())
    }

    /// Orders again what failed, as soon as both hosts are there: nothing of what ended may be in the way.
    pub(crate) fn again(&self, by: By, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let order = self.order(by).map_err(|error| error.to_string())?;
        loop {
            let refusal = match self.orders.carry_out(&order, ORDER, |_| {}) {
                Ok(record) if record.outcome == Outcome::Done => return Ok(()),
                Ok(record) => match record.reason {
                    Some(refusal) => refusal,
                    None => return Err(format!("the next order was {}", record.outcome.name())),
                },
                Err(refusal) => refusal,
            };
            if refusal.code == RefusalCode::Conflict || Instant::now() >= deadline {
                return Err(format!("the next order was not carried out: {refusal}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Ended {
    fn take(&mut self, carried: Result<Record, Refusal>) {
        match carried {
            Ok(record) => self.see(record),
            Err(refusal) => self.refused = Some(refusal),
        }
    }

    /// A record, as it is told now.
    fn see(&mut self, record: Record) {
        if self.outcomes.last() != Some(&record.outcome) {
            self.outcomes.push(record.outcome);
        }
        self.record = Some(record);
    }

    /// Of two orders for one service, the one that was carried out: the other has to be refused.
    fn one_of(
        &mut self,
        first: Result<Record, Refusal>,
        second: Result<Record, Refusal>,
    ) -> Result<Record, Refusal> {
        let done = |carried: &Result<Record, Refusal>| {
            carried.as_ref().is_ok_and(|record| record.outcome == Outcome::Done)
        };
        let refused = |carried: &Result<Record, Refusal>| match carried {
            Ok(record) => record.outcome == Outcome::Refused,
            Err(refusal) => refusal.code == RefusalCode::Conflict,
        };
        let (carried, other) = if done(&first) { (first, second) } else { (second, first) };
        if !refused(&other) {
            let what = match &other {
                Ok(record) => record.outcome.name().to_owned(),
                Err(refusal) => refusal.to_string(),
            };
            self.complaints.push(format!("the other order was not refused as a second one: {what}"));
        }
        carried
    }
}

/// Waits for a step's phase; whether it came before the migration was over.
fn heard(moment: Moment, events: &Receiver<StepEvent>, shared: &Shared, deadline: Instant) -> bool {
    let Moment::Step(step, phase) = moment else { return true };
    loop {
        // What was told before the end is read, even so.
        let over = shared.is_over();
        match events.recv_timeout(Duration::from_millis(20)) {
            Ok(event) if event.step == step && event.phase == phase => return true,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if !over && Instant::now() < deadline => {}
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return false,
        }
    }
}
