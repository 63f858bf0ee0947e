//! The agent itself: what it is made of, how it starts, and how it answers requests.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use mose_bus::peers::{Peers, Requests};
use mose_bus::session::session_refusal;
use mose_coat::Overlay;
use mose_driver::arrival::Asked;
use mose_driver::{Ask, Busy, HandOvers, Tasks};
use mose_engine::Engine;
use mose_engine::aside::aside;
use mose_protocol::agent::{Capability, Hello, Role, ServiceInfo, ServiceState, Telemetry};
use mose_protocol::following::FollowNews;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Response, Timestamp, envelope, keys};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use zenoh::Session;
use zenoh::liveliness::LivelinessToken;
use zenoh::query::{Query, Queryable};

use crate::calibrations::Calibrations;
use crate::config::Config;
use crate::heard::HeardOf;
use crate::history::History;
use crate::journal::Journals;
use crate::link::Links;
use crate::profile::Profiler;
use crate::steps::StepLog;
use crate::surroundings::Surroundings;
use crate::watch::Watches;

/// How often telemetry goes out while the host moves: a vehicle moves on by a metre. Podman is not asked more often for that.
const IN_FLIGHT: Duration = Duration::from_millis(200);

/// What is slower stands still, in metres per second.
const STILL: f64 = 0.1;

/// How long the word of an orchestrator that a service follows this host is passed on: it comes once a second.
const SAID_AGAIN: Duration = Duration::from_secs(3);

/// Past migrations that tell something of the links when an agent starts.
const REMEMBERED: usize = 50;

/// How long the agent's tasks may take to end: all that is left to do is to send the last events.
const ENDING: Duration = Duration::from_secs(2);

/// How long the container engine may take to list what runs: while it hangs, all else goes on.
const LISTING: Duration = Duration::from_secs(2);

/// An agent's parts. Everything that it does is a method of one of its modules on this.
pub struct Agent {
    /// What it was told.
    pub config: Config,
    /// The Zenoh session for everything but images.
    pub session: Session,
    /// The Zenoh session for images.
    pub bulk: Session,
    /// Asking others.
    pub requests: Requests,
    /// The others.
    pub peers: Peers,
    /// The overlay.
    pub overlay: Arc<dyn Overlay>,
    /// The container engine.
    pub engine: Arc<dyn Engine>,
    /// The events.
    pub steps: StepLog,
    /// The journals.
    pub journals: Journals,
    /// The records.
    pub history: History,
    /// The calibrations of the ways from here.
    pub calibrations: Calibrations,
    /// The services that are sampled.
    pub(crate) profiler: Arc<Profiler>,
    /// The migrations that leave and come.
    pub hand_overs: Arc<HandOvers>,
    /// Watches on behalf of migrations.
    pub(crate) watches: Watches,
    /// The links to the other edge hosts.
    pub(crate) links: Arc<Links>,
    /// What was heard last of the others.
    pub(crate) heard: HeardOf,
    /// What surrounds the host.
    pub(crate) surroundings: Arc<dyn Surroundings>,
    tools: Vec<(String, String)>,
    started_at: Timestamp,
    /// What ran here when the engine was last asked with success.
    listed: Mutex<Option<(Timestamp, Vec<ServiceInfo>)>>,
    /// What an orchestrator said last of a service that follows this host, and when.
    following: Mutex<Option<(Box<FollowNews>, Instant)>>,
    declared: Mutex<Declared>,
}

/// What others see of an agent, for as long as it is held.
#[derive(Default)]
struct Declared {
    requests: Option<Queryable<()>>,
    token: Option<LivelinessToken>,
}

impl Agent {
    /// An agent over its parts, with what it did before taken up again, answering requests, seen by others.
    ///
    /// # Errors
    /// Where its state folder or its session cannot be used.
    pub fn start(
        config: Config,
        session: Session,
        bulk: Session,
        overlay: Arc<dyn Overlay>,
        engine: Arc<dyn Engine>,
        surroundings: Arc<dyn Surroundings>,
    ) -> BoxFuture<'static, Result<Arc<Self>, Refusal>> {
        Box::pin(async move {
            let journals = Journals::open(&config.state.join("journal"))?;
            let history = History::open(&config.state);
            let calibrations = Calibrations::open(&config.state);
            let tools = engine.tools().await.unwrap_or_else(|refusal| {
                tracing::warn!(%refusal, "the container engine does not answer yet");
                Vec::new()
            });
            let (host, requests, peers) =
                (config.host.clone(), Requests::new(session.clone()), Peers::default());
            let tasks = Tasks::default();
            let hand_overs = HandOvers::new(host.clone(), Arc::new(Asking(requests.clone())), tasks.clone());
            let agent = Arc::new(Self {
                profiler: Profiler::new(host.clone(), engine.clone(), hand_overs.clone()),
                watches: Watches::new(host.clone(), overlay.clone()),
                links: Links::new(
                    config.clone(),
                    requests.clone(),
                    peers.clone(),
                    hand_overs.clone(),
                    surroundings.clone(),
                ),
                steps: StepLog::publishing(host, session.clone(), &tasks),
                started_at: Timestamp::now(),
                heard: HeardOf::default(),
                listed: Mutex::default(),
                following: Mutex::default(),
                declared: Mutex::default(),
                journals,
                history,
                calibrations,
                surroundings,
                requests,
                peers,
                tools,
                config,
                session,
                bulk,
                overlay,
                engine,
                hand_overs,
            });
            let surroundings = agent.surroundings.clone();
            agent.spawn(async move { surroundings.attend().await });
            agent.take_up_arrivals();
            agent.serve().await?;
            agent.follow_peers().await?;
            agent.hear_peers().await?;
            agent.take_up_departures();
            let live = keys::live(&agent.config.host);
            let token = agent.session.liveliness().declare_token(live).await;
            agent.declared.lock().token = Some(token.map_err(|error| session_refusal(&error))?);
            agent.spawn(agent.clone().publish_telemetry());
            if agent.config.role == Role::Edge && agent.surroundings.may_measure_links().is_ok() {
                let past = agent.history.newest(REMEMBERED);
                agent.spawn(agent.links.clone().keep_measuring(past));
            }
            Ok(agent)
        })
    }

    /// How this agent introduces itself.
    #[must_use]
    pub fn hello(&self) -> Hello {
        let mut capabilities = vec![Capability::Overlay];
        if self.config.role == Role::Edge {
            capabilities.extend([Capability::Containers, Capability::Rehearsals]);
        }
        capabilities.extend(self.config.transports.iter().map(|transport| match transport {
            TransportKind::Tcp => Capability::TransferTcp,
            TransportKind::Zenoh => Capability::TransferZenoh,
        }));
        Hello {
            host: self.config.host.clone(),
            role: self.config.role,
            release: env!("CARGO_PKG_VERSION").into(),
            protocol: envelope::PROTOCOL_VERSION,
            capabilities: capabilities.into_iter().collect(),
            underlay: self.config.underlay,
            tools: self.tools.clone(),
            started_at: self.started_at,
            simulated: !self.surroundings.measured(),
        }
    }

    /// Runs a task for as long as the agent lives.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.hand_overs.tasks().spawn(task);
    }

    /// Ends the agent: it is seen no more, takes no more requests, and what it does is left as a crash would leave it, for its next life to
    /// take up. What runs on the host runs on.
    pub async fn stop(&self) {
        *self.declared.lock() = Declared::default();
        let tasks = self.hand_overs.tasks();
        tasks.stop();
        if tokio::time::timeout(ENDING, tasks.ended()).await.is_err() {
            tracing::warn!("some of the agent's tasks did not end within {ENDING:?}");
        }
    }

    /// Returns once one of the agent's tasks has panicked: it cannot be relied on any more, and is to be stopped and started again.
    pub async fn broken(&self) {
        self.hand_overs.tasks().broken().await;
    }

    /// Answers requests from now on.
    async fn serve(self: &Arc<Self>) -> Result<(), Refusal> {
        // The agent holds what calls this, and not the other way round as well.
        let agent = Arc::downgrade(self);
        let runtime = tokio::runtime::Handle::current();
        let answer = move |query| {
            let Some(agent) = agent.upgrade() else { return };
            let _entered = runtime.enter();
            agent.clone().spawn(agent.answer(query));
        };
        let requests = keys::requests(&self.config.host);
        let declared = self.session.declare_queryable(requests).complete(true).callback(answer).await;
        self.declared.lock().requests = Some(declared.map_err(|error| session_refusal(&error))?);
        Ok(())
    }

    async fn answer(self: Arc<Self>, query: Query) {
        let request = match query.payload() {
            Some(payload) => envelope::open::<Request>(&payload.to_bytes()),
            None => Err(Refusal::new(RefusalCode::Malformed, "the request is empty", "")),
        };
        let response = match request {
            Ok(request) => {
                tracing::debug!(request = request.name(), "asked");
                // A request that panics is refused. It must not end the agent: then anyone who may ask could.
                let answer = AssertUnwindSafe(Box::pin(self.carry_out(request))).catch_unwind().await;
                answer.unwrap_or_else(|_| {
                    let reason = format!("the agent on {} failed over this request", self.config.host);
                    Err(Refusal::new(RefusalCode::Failed, reason, "see the agent's log, and report it"))
                })
            }
            Err(refusal) => Err(refusal),
        };
        let bytes = match envelope::seal(&response).or_else(|refusal| envelope::seal(&Response::Err(refusal)))
        {
            Ok(bytes) => bytes,
            Err(refusal) => return tracing::error!(%refusal, "an answer cannot be written"),
        };
        // Its priority is the query's.
        if let Err(error) = query.reply(query.key_expr().clone(), bytes).express(true).await {
            tracing::warn!(%error, "an answer was not sent");
        }
    }

    async fn carry_out(self: &Arc<Self>, request: Request) -> Response {
        match request {
            Request::Hello => Ok(Reply::Hello(Box::new(self.hello()))),
            Request::Clock => Ok(Reply::Clock(Timestamp::now())),
            Request::Services => self.tell_services().await,
            Request::Locations => self.locations().await.map(Reply::Locations),
            Request::Locate(location) => self.locate(&location).await.map(|()| Reply::Ok),
            Request::Forget(location) => self.forget(&location).await.map(|()| Reply::Ok),
            Request::Migrate(task) => self.migrate(*task).map(|()| Reply::Ok),
            Request::OrderRehearsal(task) => self.rehearse(*task).map(|()| Reply::Ok),
            Request::Abort(migration) => self.hand_overs.abort(&migration).map(|()| Reply::Ok),
            Request::Steps { migration, from } => Ok(Reply::Steps(self.steps.since(&migration, from))),
            Request::Record(migration) => Ok(Reply::Record(self.history.get(&migration).map(Box::new))),
            Request::History(count) => Ok(Reply::History(self.history.newest(count.min(1000) as usize))),
            Request::Prepare(prepare) => self.prepare(*prepare).await,
            Request::Create(migration) => self.hand_overs.of_arrival(&migration, Asked::Create).await,
            Request::Hold(migration) => self.hand_overs.of_arrival(&migration, Asked::Hold).await,
            Request::Relinquish { migration, digest } => {
                self.hand_overs.of_arrival(&migration, Asked::Relinquish(digest)).await
            }
            Request::Rehearse { migration, digest } => {
                self.hand_overs.of_arrival(&migration, Asked::Rehearse(digest)).await
            }
            Request::Inquire(migration) => self.hand_overs.of_arrival(&migration, Asked::Inquire).await,
            Request::Withdraw(migration) => self.hand_overs.of_arrival(&migration, Asked::Withdraw).await,
            Request::Close(migration) => self.hand_overs.of_arrival(&migration, Asked::Close).await,
            Request::Became { migration, state } => {
                self.became(&migration, &state).await;
                Ok(Reply::Ok)
            }
            Request::Watch { migration, target } => {
                self.watches.begin(&migration, target).await.map(|()| Reply::Ok)
            }
            Request::Following(news) => {
                *self.following.lock() = Some((news, Instant::now()));
                Ok(Reply::Ok)
            }
            Request::Flight(times) => Ok(Reply::Flight(self.surroundings.flown(&times))),
            Request::Note(record) => self.note(*record).await,
            Request::Watched { migration, stop, outage } => {
                Ok(Reply::Watched(self.watches.seen(&migration, stop, outage).await))
            }
            Request::Profile(service) => {
                self.profiler.profile(&service).await.map(|metrics| Reply::Profile(Box::new(metrics)))
            }
            Request::Calibration(to) => {
                let calibrations = self.calibrations.clone();
                aside(move || calibrations.get(&to)).await.map(Reply::Calibration)
            }
            Request::Calibrate { to, profile } => {
                let calibrations = self.calibrations.clone();
                aside(move || calibrations.put(&to, &profile)).await.map(|()| Reply::Ok)
            }
            Request::Links => Ok(Reply::Links(self.links.metrics())),
            Request::ProbeLink(to) => self.links.probe(&to).await.map(|link| Reply::Links(vec![link])),
            Request::OpenProbe(order) => self.links.open_probe(&order).await.map(Reply::Probe),
            Request::Doctor => Ok(Reply::Doctor(self.doctor().await)),
            Request::Check { service, to } => {
                self.check(&service, to.as_ref()).await.map(|report| Reply::Check(Box::new(report)))
            }
            Request::Compare(arrival) => Ok(Reply::Check(Box::new(self.compare(&arrival).await))),
            Request::Heard => Ok(self.tell_heard()),
            Request::Settle { migration, keep } => {
                self.hand_overs.settle(&migration, keep).map(|()| Reply::Ok)
            }
        }
    }

    /// What runs on this host.
    pub(crate) async fn services(&self) -> Result<Vec<ServiceInfo>, Refusal> {
        if self.config.role != Role::Edge {
            return Ok(Vec::new());
        }
        let endpoints = self.overlay.endpoints().await.unwrap_or_default();
        let listed = tokio::time::timeout(LISTING, self.engine.list()).await.map_err(|_| {
            Refusal::new(
                RefusalCode::Engine,
                format!("the container engine did not answer within {LISTING:?}"),
                "see whether `podman ps` answers there (`mose doctor`)",
            )
        })??;
        let (engine, pids) =
            (self.engine.clone(), listed.iter().map(|listed| listed.pid).collect::<Vec<_>>());
        let look = move |pid: u32| (engine.memory(pid), engine.connections(pid));
        let figures =
            aside(move || Ok(pids.into_iter().map(|pid| pid.map(&look)).collect::<Vec<_>>())).await?;
        let mut services = Vec::new();
        for (listed, figures) in listed.into_iter().zip(figures) {
            let state = match self.hand_overs.busy_with(&listed.name) {
                // What a migration prepares here is not a service yet.
                Some(Busy::Coming) if !listed.running => continue,
                Some(Busy::Coming | Busy::Leaving) => ServiceState::Migrating,
                Some(Busy::InDoubt) => ServiceState::InDoubt,
                None if listed.running => ServiceState::Running,
                None => ServiceState::Stopped,
            };
            let address = endpoints
                .iter()
                .find(|endpoint| Some(&endpoint.netns) == listed.netns.as_ref())
                .map(|endpoint| endpoint.spec.address);
            let (memory, connections) = figures.unwrap_or_default();
            services.push(ServiceInfo {
                name: listed.name,
                host: self.config.host.clone(),
                state,
                image: listed.image,
                address,
                memory: memory.map(|(bytes, _)| bytes),
                processes: memory.map(|(_, processes)| processes),
                connections,
            });
        }
        let now = (Timestamp::now(), services.clone());
        *self.listed.lock() = Some(now);
        Ok(services)
    }

    /// What runs on this host; where the engine does not answer, what it told last.
    async fn tell_services(&self) -> Response {
        let refused = match self.services().await {
            Ok(services) => return Ok(Reply::Services(services)),
            Err(refused) => refused,
        };
        match self.listed.lock().clone() {
            Some((at, services)) => Ok(Reply::LastServices { at, services, refused }),
            None => Err(refused),
        }
    }

    async fn publish_telemetry(self: Arc<Self>) {
        let key = keys::telemetry(&self.config.host);
        let mut listed = self.list_and_sample().await;
        let mut list_at = Instant::now() + self.config.telemetry;
        loop {
            let (services, trouble) = listed.clone();
            let (host, links, profiles) =
                (self.config.host.clone(), self.links.metrics(), self.profiler.latest());
            let (position, clients) = (self.surroundings.position(), self.surroundings.clients().await);
            let at = Timestamp::now();
            let (radio, flight) = (self.surroundings.radio(), self.surroundings.flight());
            let following = self.followed_by();
            let telemetry = Telemetry {
                host,
                at,
                services,
                profiles,
                links,
                position,
                radio,
                flight,
                following,
                clients,
                trouble,
            };
            let Ok(bytes) = envelope::seal(&telemetry) else { continue };
            if let Err(error) = self.session.put(&key, bytes).await {
                tracing::debug!(%error, "telemetry was not published");
            }
            let now = Instant::now();
            let moves = flight.is_some() || position.is_some_and(|place| place.speed.0 > STILL);
            let next = if moves { list_at.min(now + IN_FLIGHT) } else { list_at };
            sleep_until(next).await;
            if next == list_at {
                listed = self.list_and_sample().await;
                // One that was missed is left out.
                list_at = (list_at + self.config.telemetry).max(Instant::now());
            }
        }
    }

    /// What an orchestrator says of a service that follows this host, while it says so.
    fn followed_by(&self) -> Option<Box<FollowNews>> {
        let told = self.following.lock();
        let (news, at) = told.as_ref()?;
        (at.elapsed() < SAID_AGAIN).then(|| news.clone())
    }

    /// The services, or what is wrong with them; those that run are sampled.
    async fn list_and_sample(&self) -> (Vec<ServiceInfo>, Option<String>) {
        let (services, trouble) = match self.services().await {
            Ok(services) => (services, None),
            Err(refusal) => (Vec::new(), Some(refusal.to_string())),
        };
        for service in services.iter().filter(|service| service.state == ServiceState::Running) {
            self.profiler.sample(&service.name);
        }
        (services, trouble)
    }
}

/// Asking over Zenoh.
struct Asking(Requests);

#[async_trait]
impl Ask for Asking {
    async fn ask(&self, to: &HostName, request: &Request, deadline: Duration) -> Response {
        self.0.ask(to, request, deadline).await
    }
}
