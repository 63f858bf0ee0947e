//! A service follows its mobile host: from station to station, by migrations that are planned for the operator's targets.
//!
//! It is an orchestrator like any other: it sees what telemetry says, and orders over the protocol, of agents anywhere. What it
//! decides is in `judge`, apart from all I/O.

mod foresight;
mod judge;
mod others;
mod pair;
mod sight;
#[cfg(test)]
mod stand_in;
mod task;
mod words;

use std::sync::Arc;

use mose_pam::{InputError, MetresPerSec, Millis, Targets};
use mose_protocol::following::{Decision, Following};
use mose_protocol::record::Record;
use mose_protocol::step::StepEvent;
use mose_protocol::{Refusal, ServiceName};
use tokio::sync::{broadcast, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::design::{Design, Given, Wanted};
use crate::fleet::Fleet;

pub use mose_protocol::following::{Aim, NextMove};
pub use pair::Pair;

/// News that wait for a reader who is slow.
const NEWS: usize = 1024;

/// What is to be planned for a vehicle that tells this speed of itself.
fn wanted(aim: &Aim, told: Option<MetresPerSec>) -> Result<Wanted, InputError> {
    let downtime = match aim.deviation {
        None => aim.downtime,
        Some((metres, vehicle)) => vehicle.at(told).downtime_for(metres)?,
    };
    Ok(Wanted {
        // A vehicle that is slow enough may be left alone for longer than a migration may take.
        targets: Targets::new(
            if aim.deviation.is_some() { Millis(downtime.0.min(aim.duration.0)) } else { downtime },
            aim.duration,
        )?,
        objective: aim.objective,
        limits: aim.limits,
        rounds: aim.rounds,
        profile: None,
        given: Given::default(),
    })
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// Whether the service follows.
    pub on: bool,
    /// Who follows whom; `None` while that is not known, or not clear.
    pub pair: Option<Pair>,
    /// Why no migration is ordered although one should be, or why the last one failed, or why it is not known who follows whom.
    pub trouble: Option<String>,
    /// The move that comes next, as far as it can be foreseen; one that is being made is none.
    pub next: Option<NextMove>,
}

impl Standing {
    /// The same as it is told; `None` while it is not known who follows whom.
    #[must_use]
    pub fn following(self) -> Option<Following> {
        let Self { on, pair, trouble, next } = self;
        pair.map(|pair| Following { service: pair.service, mobile: pair.mobile, on, trouble, next })
    }
}

/// What was done.
#[derive(Debug, Clone)]
pub enum News {
    /// A migration was planned, and is ordered.
    Planned(Box<Planned>),
    /// A step of it.
    Step(Box<StepEvent>),
    /// It ended.
    Ended(Box<Record>),
    /// Why no migration is ordered although one should be, or why the last one failed.
    Trouble(String),
}

/// A migration that is ordered.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Which service.
    pub service: ServiceName,
    /// From where, whereto and why.
    pub due: NextMove,
    /// The plan and its reasons.
    pub design: Design,
}

impl Planned {
    /// What is told of it.
    #[must_use]
    pub fn decision(&self) -> Decision {
        let NextMove { from, to, .. } = self.due.clone();
        Decision { service: self.service.clone(), from, to, why: self.why() }
    }

    /// Why it is moved, and how, in a line: `cell 2 serves uav; pre-copy, worst case 180 ms`.
    #[must_use]
    pub fn why(&self) -> String {
        format!("{}; {}", self.due.why, words::plan(&self.design.proposal))
    }
}

/// What is wanted of it.
#[derive(Debug, Clone)]
struct Orders {
    on: bool,
    aim: Aim,
}

/// Has a service follow its mobile host. Dropping it ends that; a migration that it ordered goes on.
pub struct FollowMe {
    orders: watch::Sender<Orders>,
    standing: watch::Receiver<Standing>,
    news: broadcast::Sender<News>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl FollowMe {
    /// Follows with the agents of a fleet, switched off at first. Where no `pair` is given, it is found.
    ///
    /// # Errors
    /// Where the session cannot be listened to.
    pub async fn start(fleet: Arc<Fleet>, pair: Option<Pair>, aim: Aim) -> Result<Self, Refusal> {
        let (orders, news) = (watch::Sender::new(Orders { on: false, aim }), broadcast::Sender::new(NEWS));
        let (told, standing) = watch::channel(Standing::default());
        let task = task::Task::listening(fleet.clone(), pair, news.clone(), told).await?;
        let tasks =
            [tokio::spawn(task.run(orders.subscribe())), tokio::spawn(others::tell(fleet, standing.clone()))];
        Ok(Self { orders, standing, news, _tasks: tasks.map(AbortOnDropHandle::new) })
    }

    /// Switches it on or off. What is under way is not broken off.
    pub fn switch(&self, on: bool) {
        self.orders.send_modify(|orders| orders.on = on);
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.orders.borrow().on
    }

    /// From now on, migrations are planned for this.
    pub fn aim(&self, aim: Aim) {
        self.orders.send_modify(|orders| orders.aim = aim);
    }

    /// What it does from now on.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// How it stands: told anew at every change, and once a second while it is on.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

#[cfg(test)]
mod tests {
    use mose_pam::{Metres, Objective, Vehicle};

    use super::*;

    #[test]
    fn a_deviation_is_a_downtime_at_the_vehicles_own_speed() {
        let targets = Targets::new(Millis(500.0), Millis(5000.0)).unwrap();
        let mut aim = Aim::of(targets, Objective::Downtime);
        let downtime = |aim: &Aim, speed| wanted(aim, speed).map(|wanted| wanted.targets.downtime());
        assert_eq!(downtime(&aim, Some(MetresPerSec(10.0))), Ok(Millis(500.0)));
        aim.deviation = Some((Metres(2.0), Vehicle::going_on(MetresPerSec(5.0))));
        assert_eq!(downtime(&aim, Some(MetresPerSec(10.0))), Ok(Millis(200.0)));
        assert_eq!(downtime(&aim, None), Ok(Millis(400.0)), "as configured");
        assert_eq!(downtime(&aim, Some(MetresPerSec(0.6))), Ok(Millis(10_000.0 / 3.0)));
        aim.duration = Millis(1000.0);
        assert_eq!(downtime(&aim, Some(MetresPerSec(0.6))), Ok(Millis(1000.0)));
        aim.deviation = None;
        aim.downtime = Millis(2000.0);
        assert!(downtime(&aim, None).is_err(), "longer than the migration that it is part of");
    }
}
