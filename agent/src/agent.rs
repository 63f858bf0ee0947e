//! The agent itself: what it is made of, how it starts, and how it answers requests.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use mose_bus::peers::{Peers, Requests};
use mose_bus::session::session_refusal;
use mose_coat::Overlay;
use mose_driver::arrival::Asked;
use mose_driver::{Ask, Busy, HandOvers};
use mose_engine::Engine;
use mose_protocol::agent::{Capability, Hello, Role, ServiceInfo, ServiceState, Telemetry};
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Response, Timestamp, envelope, keys};
use parking_lot::Mutex;
use zenoh::Session;
use zenoh::query::Query;

use crate::calibrations::Calibrations;
use crate::history::History;
use crate::journal::Journals;
use crate::link::Links;
use crate::profile::Profiler;
use crate::steps::StepLog;
use crate::surroundings::Surroundings;
use crate::watch::Watches;

/// How often telemetry goes out, unless the configuration says otherwise.
pub const TELEMETRY_PERIOD: Duration = Duration::from_secs(1);

/// How long the container engine may take to list what runs: while it hangs, all else goes on.
const LISTING: Duration = Duration::from_secs(2);

/// What an agent is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The host that it speaks for.
    pub host: HostName,
    /// What the host is for.
    pub role: Role,
    /// Its address on the underlay.
    pub underlay: Ipv4Addr,
    /// The folder of journals and history.
    pub state: PathBuf,
    /// The ways for images that it offers, the best first.
    pub transports: Vec<TransportKind>,
    /// How often telemetry goes out.
    pub telemetry: Duration,
}

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
    pub(crate) profiler: Profiler,
    /// The migrations that leave and come.
    pub hand_overs: Arc<HandOvers>,
    /// Watches on behalf of migrations.
    pub(crate) watches: Watches,
    /// The links to the other edge hosts.
    pub(crate) links: Links,
    /// What surrounds the host.
    pub(crate) surroundings: Arc<dyn Surroundings>,
    tools: Vec<(String, String)>,
    started_at: Timestamp,
    /// What ran here when the engine was last asked with success.
    listed: Mutex<Option<(Timestamp, Vec<ServiceInfo>)>>,
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
            let agent = Arc::new(Self {
                requests: Requests::new(session.clone()),
                peers: Peers::default(),
                steps: StepLog::publishing(config.host.clone(), session.clone()),
                journals,
                history,
                calibrations,
                profiler: Profiler::default(),
                hand_overs: HandOvers::new(
                    config.host.clone(),
                    Arc::new(Asking(Requests::new(session.clone()))),
                ),
                watches: Watches::default(),
                links: Links::default(),
                surroundings,
                tools,
                started_at: Timestamp::now(),
                listed: Mutex::default(),
                config,
                session,
                bulk,
                overlay,
                engine,
            });
            agent.take_up_arrivals();
            agent.serve().await?;
            agent.follow_peers().await?;
            agent.take_up_departures();
            let token = agent
                .session
                .liveliness()
                .declare_token(keys::live(&agent.config.host))
                .await
                .map_err(|error| session_refusal(&error))?;
            // The token lives as long as the session.
            std::mem::forget(token);
            tokio::spawn(agent.clone().publish_telemetry());
            if agent.config.role == Role::Edge && agent.surroundings.may_measure_links().is_ok() {
                tokio::spawn(agent.clone().profile_links());
            }
            Ok(agent)
        })
    }

    /// How this agent introduces itself.
    #[must_use]
    pub fn hello(&self) -> Hello {
        let mut capabilities = vec![Capability::Overlay];
        if self.config.role == Role::Edge {
            capabilities.push(Capability::Containers);
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

    /// Answers requests from now on.
    async fn serve(self: &Arc<Self>) -> Result<(), Refusal> {
        let agent = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let queryable = self
            .session
            .declare_queryable(keys::requests(&self.config.host))
            .complete(true)
            .callback(move |query| {
                let agent = agent.clone();
                runtime.spawn(async move { agent.answer(query).await });
            })
            .await
            .map_err(|error| session_refusal(&error))?;
        std::mem::forget(queryable);
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
                Box::pin(self.carry_out(request)).await
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
            Request::Inquire(migration) => self.hand_overs.of_arrival(&migration, Asked::Inquire).await,
            Request::Withdraw(migration) => self.hand_overs.of_arrival(&migration, Asked::Withdraw).await,
            Request::Close(migration) => self.hand_overs.of_arrival(&migration, Asked::Close).await,
            Request::Became { migration, state } => {
                self.became(&migration, &state);
                Ok(Reply::Ok)
            }
            Request::Watch { migration, target } => self.watch(&migration, target).await.map(|()| Reply::Ok),
            Request::Watched { migration, stop, outage } => {
                Ok(Reply::Watched(self.watched(&migration, stop, outage).await))
            }
            Request::Profile(service) => self.profile(&service).await.map(|m| Reply::Profile(Box::new(m))),
            Request::Calibration(to) => self.calibrations.get(&to).map(Reply::Calibration),
            Request::Calibrate { to, profile } => self.calibrations.put(&to, &profile).map(|()| Reply::Ok),
            Request::Links => Ok(Reply::Links(self.links())),
            Request::ProbeLink(to) => self.probe_link(&to).await.map(|link| Reply::Links(vec![link])),
            Request::OpenProbe(order) => self.open_probe(&order).await.map(Reply::Probe),
            Request::Doctor => Ok(Reply::Doctor(self.doctor().await)),
            Request::Check { service, to } => {
                self.check(&service, to.as_ref()).await.map(|report| Reply::Check(Box::new(report)))
            }
            Request::Compare(arrival) => Ok(Reply::Check(Box::new(self.compare(&arrival).await))),
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
        let services = listed.into_iter().filter_map(|listed| {
            let state = match self.hand_overs.busy_with(&listed.name) {
                // What a migration prepares here is not a service yet.
                Some(Busy::Coming) if !listed.running => return None,
                Some(Busy::Coming | Busy::Leaving) => ServiceState::Migrating,
                Some(Busy::InDoubt) => ServiceState::InDoubt,
                None if listed.running => ServiceState::Running,
                None => ServiceState::Stopped,
            };
            let address = endpoints
                .iter()
                .find(|endpoint| Some(&endpoint.netns) == listed.netns.as_ref())
                .map(|endpoint| endpoint.spec.address);
            let memory = listed.pid.and_then(|pid| self.engine.memory(pid));
            Some(ServiceInfo {
                name: listed.name,
                host: self.config.host.clone(),
                state,
                image: listed.image,
                address,
                memory: memory.map(|(bytes, _)| bytes),
                processes: memory.map(|(_, processes)| processes),
                connections: listed.pid.and_then(|pid| self.engine.connections(pid)),
            })
        });
        let services: Vec<ServiceInfo> = services.collect();
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
        let mut ticks = tokio::time::interval(self.config.telemetry);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            if self.session.is_closed() {
                return;
            }
            let (services, trouble) = match self.services().await {
                Ok(services) => (services, None),
                Err(refusal) => (Vec::new(), Some(refusal.to_string())),
            };
            for service in services.iter().filter(|service| service.state == ServiceState::Running) {
                self.sample(&service.name);
            }
            let (host, links, profiles) = (self.config.host.clone(), self.links(), self.profiler.latest());
            let (position, clients) = (self.surroundings.position(), self.surroundings.clients().await);
            let at = Timestamp::now();
            let telemetry = Telemetry { host, at, services, profiles, links, position, clients, trouble };
            let Ok(bytes) = envelope::seal(&telemetry) else { continue };
            if let Err(error) = self.session.put(&key, bytes).await {
                tracing::debug!(%error, "telemetry was not published");
            }
        }
    }
}

/// The overlay's error as a refusal.
pub(crate) fn overlay_refusal(error: &mose_coat::CoatError) -> Refusal {
    Refusal::new(RefusalCode::Overlay, error.to_string(), "")
}

/// Asking over Zenoh.
struct Asking(Requests);

#[async_trait]
impl Ask for Asking {
    async fn ask(&self, to: &HostName, request: &Request, deadline: Duration) -> Response {
        self.0.ask(to, request, deadline).await
    }
}
