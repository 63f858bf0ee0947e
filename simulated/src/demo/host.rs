//! One simulated host of the demo, and its agent, which can be lost and come back.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mose_agent::{Agent, Config};
use mose_bus::session;
use mose_protocol::agent::Role;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, Refusal, RefusalCode};
use tokio::runtime::Runtime;
use zenoh::{Session, Wait};

use super::scenario::{self, Scenario};
use crate::{SimulatedHost, World};

/// Threads of an agent: zenoh must not be starved by a step that blocks.
const THREADS: usize = 2;
/// How often simulated hosts publish telemetry: a moving host is to be seen moving.
const TELEMETRY: Duration = Duration::from_millis(500);
/// How long a session may take to close.
const CLOSING: Duration = Duration::from_secs(1);

/// Where an agent's two sessions are reached.
#[derive(Debug, Clone)]
pub(super) struct Endpoints {
    /// For everything but images.
    pub(super) control: String,
    /// For images.
    pub(super) bulk: String,
}

/// An agent's own threads: with them, all that it does ends at once.
struct Threads(Option<Runtime>);

impl Threads {
    fn start(host: &HostName) -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name(format!("demo-{host}")).enable_all();
        builder.build().map(|runtime| Self(Some(runtime)))
    }

    /// Runs something on these threads to its end.
    async fn run<T: Send + 'static>(
        &self,
        host: &HostName,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let Some(runtime) = &self.0 else { return Err(lost(host, &"its threads have ended")) };
        runtime.spawn(work).await.map_err(|error| lost(host, &error))?
    }
}

/// A runtime must not be waited for where other tasks run.
impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What runs while the host has an agent.
struct Life {
    threads: Threads,
    session: Session,
    bulk: Session,
    agent: Option<Arc<Agent>>,
}

/// A simulated host.
pub(super) struct DemoHost {
    scenario: scenario::Host,
    state: PathBuf,
    simulated: SimulatedHost,
    others: Vec<Endpoints>,
    endpoints: Endpoints,
    life: Option<Life>,
}

impl DemoHost {
    /// Makes a host with its sessions, which connect to those that are there already.
    pub(super) async fn open(
        world: &Arc<World>,
        host: &scenario::Host,
        scenario: &Scenario,
        folder: &Path,
        others: Vec<Endpoints>,
    ) -> Result<Self, Refusal> {
        let simulated = SimulatedHost::new(world, host.name.clone());
        simulated.attach(host.client).await?;
        let state = folder.join(host.name.as_str()).join("state");
        keep_calibrations(&state, host, scenario).map_err(|error| super::folder_refusal(&error))?;
        let (life, endpoints) = Life::open(&host.name, None, &others).await?;
        Ok(Self { scenario: host.clone(), state, simulated, others, endpoints, life: Some(life) })
    }

    pub(super) const fn name(&self) -> &HostName {
        &self.scenario.name
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        self.endpoints.clone()
    }

    /// How many other agents its agent knows.
    pub(super) fn met(&self) -> usize {
        let agent = self.life.as_ref().and_then(|life| life.agent.as_ref());
        agent.map_or(0, |agent| agent.peers.live().len())
    }

    /// Starts the agent over the sessions that are open.
    pub(super) async fn start_agent(&mut self) -> Result<(), Refusal> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let config = Config {
            host: self.scenario.name.clone(),
            role: self.scenario.role,
            underlay: Ipv4Addr::LOCALHOST,
            state: self.state.clone(),
            transports: vec![TransportKind::Tcp, TransportKind::Zenoh],
            telemetry: TELEMETRY,
        };
        let (session, bulk) = (life.session.clone(), life.bulk.clone());
        let (overlay, engine) = (self.simulated.overlay(), self.simulated.engine());
        let surroundings = self.simulated.surroundings();
        let starting = Box::pin(Agent::start(config, session, bulk, overlay, engine, surroundings));
        life.agent = Some(life.threads.run(&self.scenario.name, starting).await?);
        Ok(())
    }

    /// Ends the agent in the middle of what it does.
    pub(super) async fn lose(&mut self) {
        if let Some(life) = self.life.take() {
            life.end().await;
        }
    }

    /// Starts the agent again where it was.
    pub(super) async fn bring_back(&mut self) -> Result<(), Refusal> {
        if self.life.is_some() {
            return Ok(());
        }
        let (life, _) = Life::open(&self.scenario.name, Some(&self.endpoints), &self.others).await?;
        self.life = Some(life);
        self.start_agent().await
    }
}

impl Drop for DemoHost {
    fn drop(&mut self) {
        if let Some(life) = self.life.take() {
            // Closing waits, and nobody can be made to wait here. Zenoh gives up on it after ten seconds.
            std::thread::spawn(move || {
                let Life { threads, session, bulk, agent } = life;
                drop((threads, agent));
                for session in [bulk, session] {
                    let _ = session.close().wait();
                }
            });
        }
    }
}

fn lost(host: &HostName, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Failed, format!("the agent of {host} cannot be started: {error}"), "")
}

impl Life {
    async fn open(
        host: &HostName,
        at: Option<&Endpoints>,
        others: &[Endpoints],
    ) -> Result<(Self, Endpoints), Refusal> {
        let threads = Threads::start(host).map_err(|error| lost(host, &error))?;
        let control: Vec<String> = others.iter().map(|other| other.control.clone()).collect();
        let bulk: Vec<String> = others.iter().map(|other| other.bulk.clone()).collect();
        let (at_control, at_bulk) = (at.map(|at| at.control.clone()), at.map(|at| at.bulk.clone()));
        let opening = async move {
            tokio::try_join!(
                session::open_alone(at_control.as_deref(), &control),
                session::open_alone(at_bulk.as_deref(), &bulk)
            )
        };
        let ((session, control), (bulk, bulk_at)) = threads.run(host, opening).await?;
        Ok((Self { threads, session, bulk, agent: None }, Endpoints { control, bulk: bulk_at }))
    }

    /// Nothing of the agent runs on; then the others see it go.
    async fn end(self) {
        let Self { threads, session, bulk, agent } = self;
        drop((threads, agent));
        for session in [bulk, session] {
            let _ = tokio::time::timeout(CLOSING, session.close()).await;
        }
    }
}

/// Has an edge host's agent know its links as calibrated with what step times are drawn around.
fn keep_calibrations(state: &Path, host: &scenario::Host, scenario: &Scenario) -> std::io::Result<()> {
    let folder = state.join("calibration");
    std::fs::create_dir_all(&folder)?;
    let calibration = scenario.calibration.to_toml().map_err(std::io::Error::other)?;
    if host.role == Role::Edge {
        for other in scenario.edges().filter(|other| **other != host.name) {
            std::fs::write(folder.join(format!("{other}.toml")), &calibration)?;
        }
    }
    Ok(())
}
