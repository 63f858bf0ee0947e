//! The autopilot: has a service follow its mobile host, by migrations that the designer plans.
//!
//! It is an orchestrator like any other: it sees what telemetry says, and orders over the protocol.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use mose_orchestrator::design::{self, Design, Given, Wanted};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::order::{self, Order};
use mose_pam::{Limits, RoundsRule};
use mose_protocol::agent::{ServiceState, Telemetry};
use mose_protocol::handover::ImagePolicy;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::StepEvent;
use mose_protocol::{HostName, Refusal, RefusalCode, envelope, keys};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::task::AbortOnDropHandle;

use super::scenario::Follow;

/// A station is not left for another one that is hardly nearer.
const NEARER: f64 = 0.97;
/// After a migration that did not move the service, the next one waits.
const LONGEST: Duration = Duration::from_secs(12);
const AGAIN: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_secs(3))
    .with_max_delay(LONGEST)
    .without_max_times();
/// News that wait for a reader who is slow.
const NEWS: usize = 1024;

/// What the autopilot has done.
#[derive(Debug, Clone)]
pub enum News {
    /// It planned a migration, and orders it.
    Planned {
        /// From where.
        from: HostName,
        /// Whereto.
        to: HostName,
        /// The plan and its reasons.
        design: Arc<Design>,
    },
    /// A step of it.
    Step(Box<StepEvent>),
    /// It ended.
    Ended(Box<Record>),
    /// It could not be planned or ordered; it will be tried again.
    Trouble(Refusal),
}

type Newest = Arc<Mutex<HashMap<HostName, Telemetry>>>;

/// An autopilot. Dropping it ends it; a migration that it ordered goes on.
pub struct Autopilot {
    on: watch::Sender<bool>,
    news: broadcast::Sender<News>,
    _task: AbortOnDropHandle<()>,
}

impl Autopilot {
    /// An autopilot for the agents at `endpoints`.
    pub(super) async fn start(endpoints: &[String], follow: Follow, on: bool) -> Result<Self, Refusal> {
        let fleet = Fleet::join(endpoints).await?;
        let (on, news) = (watch::Sender::new(on), broadcast::Sender::new(NEWS));
        let pilot =
            Pilot { fleet, follow, news: news.clone(), newest: Newest::default(), heard: Arc::default() };
        let switched = on.subscribe();
        let task = tokio::spawn(async move {
            if let Err(refusal) = Box::pin(pilot.fly(switched)).await {
                tracing::error!(%refusal, "the autopilot ended");
            }
        });
        Ok(Self { on, news, _task: AbortOnDropHandle::new(task) })
    }

    /// Switches it on or off. What is under way is not broken off.
    pub fn switch(&self, on: bool) {
        self.on.send_replace(on);
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self.on.borrow()
    }

    /// What it does from now on.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }
}

struct Pilot {
    fleet: Fleet,
    follow: Follow,
    news: broadcast::Sender<News>,
    newest: Newest,
    heard: Arc<Notify>,
}

impl Pilot {
    async fn fly(self, mut switched: watch::Receiver<bool>) -> Result<(), Refusal> {
        let (newest, heard) = (self.newest.clone(), self.heard.clone());
        let subscriber =
            self.fleet.session().declare_subscriber(keys::TELEMETRY_ALL).callback(move |sample| {
                if let Ok(telemetry) = envelope::open::<Telemetry>(&sample.payload().to_bytes()) {
                    let mut newest = newest.lock();
                    newest.insert(telemetry.host.clone(), telemetry);
                    heard.notify_one();
                }
            });
        let _subscriber = subscriber.await.map_err(|error| {
            Refusal::new(RefusalCode::Failed, format!("telemetry cannot be followed: {error}"), "")
        })?;
        let mut pauses = AGAIN.build();
        loop {
            tokio::select! {
                () = self.heard.notified() => {}
                // Whoever could switch it is gone.
                changed = switched.changed() => if changed.is_err() { return Ok(()) },
            }
            if !*switched.borrow_and_update() {
                continue;
            }
            let wanted = wanted(&self.follow, &self.newest.lock());
            let Some((from, to)) = wanted else { continue };
            let moved = match self.migrate(from, to).await {
                Ok(record) => {
                    let moved = record.outcome == Outcome::Done;
                    let _ = self.news.send(News::Ended(Box::new(record)));
                    moved
                }
                Err(refusal) => {
                    let _ = self.news.send(News::Trouble(refusal));
                    false
                }
            };
            // What was known before says nothing of where the service is now.
            self.newest.lock().clear();
            if moved {
                pauses = AGAIN.build();
            } else {
                tokio::time::sleep(pauses.next().unwrap_or(LONGEST)).await;
            }
        }
    }

    async fn migrate(&self, from: HostName, to: HostName) -> Result<Record, Refusal> {
        let Follow { service, targets, objective, .. } = &self.follow;
        let wanted = Wanted {
            targets: *targets,
            objective: *objective,
            limits: Limits::default(),
            rounds: RoundsRule::default(),
            profile: None,
            given: Given::default(),
        };
        let design = Arc::new(design::design(&self.fleet, service, &from, &to, &wanted).await?);
        let (plan, forecast) = (design.plan(), Some(Box::new(design.forecast())));
        let planned = News::Planned { from: from.clone(), to: to.clone(), design };
        let _ = self.news.send(planned);
        let order = Order {
            service: service.clone(),
            from: Some(from),
            to,
            plan,
            transport: None,
            image_policy: ImagePolicy::Bring,
            files: Default::default(),
            pre_copy: None,
            rehearsal: false,
            forecast,
        };
        let news = self.news.clone();
        let step = move |event: &StepEvent| {
            let _ = news.send(News::Step(Box::new(event.clone())));
        };
        Box::pin(order::carry_out(&self.fleet, &order, step)).await
    }
}

/// From where to where the service should go now, if anywhere: to the station that is nearest to the mobile host.
fn wanted(follow: &Follow, newest: &HashMap<HostName, Telemetry>) -> Option<(HostName, HostName)> {
    let mobile = newest.get(&follow.mobile)?.position?;
    let stations: Vec<(&HostName, &Telemetry, f64)> = follow
        .between
        .iter()
        .filter_map(|host| {
            let telemetry = newest.get(host)?;
            Some((host, telemetry, telemetry.position?.distance(&mobile).0))
        })
        .collect();
    let runs = |telemetry: &Telemetry| {
        let mut services = telemetry.services.iter();
        services.any(|info| info.name == follow.service && info.state == ServiceState::Running)
    };
    let here = stations.iter().find(|(_, telemetry, _)| runs(telemetry))?;
    let nearest = stations.iter().min_by(|one, other| one.2.total_cmp(&other.2))?;
    (nearest.0 != here.0 && nearest.2 < here.2 * NEARER).then(|| (here.0.clone(), nearest.0.clone()))
}

#[cfg(test)]
mod tests {
    use mose_pam::{Metres, Millis, Objective, Targets};
    use mose_protocol::Timestamp;
    use mose_protocol::agent::{Position, ServiceInfo};

    use super::*;

    fn telemetry(host: &str, x: f64, service: Option<ServiceState>) -> (HostName, Telemetry) {
        let info = |state| ServiceInfo {
            name: "web".parse().unwrap(),
            host: host.parse().unwrap(),
            state,
            image: String::new(),
            address: None,
            memory: None,
            processes: None,
            connections: None,
        };
        let telemetry = Telemetry {
            host: host.parse().unwrap(),
            at: Timestamp(0),
            services: service.into_iter().map(info).collect(),
            profiles: Vec::new(),
            links: Vec::new(),
            position: Some(Position { x: Metres(x), ..Position::default() }),
            radio: None,
            flight: None,
            clients: Vec::new(),
            trouble: None,
        };
        (host.parse().unwrap(), telemetry)
    }

    fn decided(x: f64, state: ServiceState) -> Option<(HostName, HostName)> {
        let follow = Follow {
            service: "web".parse().unwrap(),
            mobile: "uav".parse().unwrap(),
            between: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            targets: Targets::new(Millis(500.0), Millis(5000.0)).unwrap(),
            objective: Objective::Downtime,
        };
        let all =
            [telemetry("a", -100.0, Some(state)), telemetry("b", 100.0, None), telemetry("uav", x, None)];
        wanted(&follow, &all.into())
    }

    #[test]
    fn a_service_goes_to_the_station_in_whose_half_its_mobile_host_is() {
        assert_eq!(decided(-50.0, ServiceState::Running), None);
        assert_eq!(decided(0.5, ServiceState::Running), None, "hardly nearer");
        let (from, to) = decided(20.0, ServiceState::Running).unwrap();
        assert_eq!((from.as_str(), to.as_str()), ("a", "b"));
    }

    #[test]
    fn a_service_that_is_being_moved_or_in_doubt_is_left_alone() {
        for state in [ServiceState::Migrating, ServiceState::InDoubt, ServiceState::Stopped] {
            assert_eq!(decided(50.0, state), None);
        }
    }
}
