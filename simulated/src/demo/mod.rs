//! The demo testbed: agents in this process on simulated hosts, real Zenoh between them on loopback, real transfers.
//!
//! The orchestrator reaches these agents as it reaches any others: over the protocol, at [`Demo::endpoints`].

mod host;
mod scenario;

use std::sync::Arc;
use std::time::Duration;

use mose_orchestrator::by_hand::{self, ByHand};
use mose_orchestrator::fleet::Fleet;
use mose_orchestrator::follow_me::FollowMe;
use mose_protocol::{HostName, Refusal, RefusalCode, Timestamp};
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

pub use scenario::{Follow, Host, Scenario, ScenarioError};

use crate::{Lost, World, WorldSpec};
use host::DemoHost;

/// How long the agents may take to meet.
const MEETING: Duration = Duration::from_secs(10);
/// How long a session may take to end.
const CLOSING: Duration = Duration::from_secs(1);
/// How long threads that still write may keep the folder from being removed.
const REMOVAL: Duration = Duration::from_secs(3);

/// A demo testbed that runs. Dropping it ends it too, without waiting for what it was doing.
pub struct Demo {
    scenario: Scenario,
    world: Arc<World>,
    hosts: Arc<Mutex<Vec<DemoHost>>>,
    endpoints: Vec<String>,
    /// Carries out what faults do; it holds the hosts, and ends with the demo.
    supervisor: AbortOnDropHandle<()>,
    folder: TempDir,
}

impl Demo {
    /// Starts a scenario's hosts, each with its agent; returns when all agents have met.
    ///
    /// # Errors
    /// Where no folder can be made, no port is free, or the agents do not meet.
    pub async fn start(scenario: &Scenario) -> Result<Self, Refusal> {
        let folder =
            tempfile::Builder::new().prefix("mose-demo-").tempdir().map_err(|e| folder_refusal(&e))?;
        let (world, losses) = World::new(WorldSpec {
            seed: scenario.seed,
            calibration: scenario.calibration.clone(),
            folder: folder.path().to_owned(),
            links: scenario.links.clone(),
            motions: scenario.motions(),
            faults: scenario.faults.clone(),
        });
        for (service, host) in &scenario.services {
            world.start(service.clone(), host).map_err(|error| folder_refusal(&error))?;
        }
        let mut hosts = Vec::new();
        for host in &scenario.hosts {
            let others = hosts.iter().map(DemoHost::endpoints).collect();
            hosts.push(DemoHost::open(&world, host, scenario, folder.path(), others).await?);
        }
        let endpoints: Vec<String> = hosts.iter().map(|host| host.endpoints().control).collect();
        futures_util::future::try_join_all(hosts.iter_mut().map(DemoHost::start_agent)).await?;
        await_meeting(&hosts).await?;
        note(&scenario.by_hand, &endpoints).await?;
        let hosts = Arc::new(Mutex::new(hosts));
        let supervisor = AbortOnDropHandle::new(tokio::spawn(supervise(hosts.clone(), losses)));
        Ok(Self { scenario: scenario.clone(), world, hosts, endpoints, supervisor, folder })
    }

    /// What is shown.
    #[must_use]
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The world that the hosts share: the truth about the services, and the place for more faults.
    #[must_use]
    pub const fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The agents' Zenoh endpoints, for [`Fleet::join`](mose_orchestrator::fleet::Fleet::join).
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The folder of the hosts' state; it is gone when the demo has ended.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Has the service that the scenario says follow its mobile host, by the scenario's targets, once it is switched on; `None` where
    /// the scenario has none to follow.
    ///
    /// # Errors
    /// Where no session to the agents can be opened.
    pub async fn follow(&self) -> Result<Option<FollowMe>, Refusal> {
        let Some(follow) = &self.scenario.follow else { return Ok(None) };
        let fleet = Arc::new(Fleet::join(&self.endpoints).await?);
        FollowMe::start(fleet, Some(follow.pair()), follow.aim()).await.map(Some)
    }

    /// Kills a host's agent in the middle of what it does; its containers live on.
    ///
    /// # Errors
    /// Where there is no such host.
    pub async fn lose(&self, host: &HostName) -> Result<(), Refusal> {
        let mut hosts = self.hosts.lock().await;
        find(&mut hosts, host)?.lose().await;
        Ok(())
    }

    /// Starts a host's agent again, which takes up what it left open; harmless if it runs.
    ///
    /// # Errors
    /// Where there is no such host, or the agent cannot be started.
    pub async fn bring_back(&self, host: &HostName) -> Result<(), Refusal> {
        let mut hosts = self.hosts.lock().await;
        find(&mut hosts, host)?.bring_back().await
    }

    /// Ends all agents, whatever they are doing, and removes their folder.
    ///
    /// # Errors
    /// Where the folder cannot be removed.
    pub async fn stop(self) -> Result<(), Refusal> {
        drop(self.supervisor);
        let mut hosts = self.hosts.lock().await;
        futures_util::future::join_all(hosts.iter_mut().map(DemoHost::lose)).await;
        drop(hosts);
        // A thread that is just writing an image may bring a folder back.
        let path = self.folder.keep();
        let deadline = tokio::time::Instant::now() + REMOVAL;
        loop {
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) if tokio::time::Instant::now() > deadline => return Err(folder_refusal(&error)),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

fn find<'a>(hosts: &'a mut [DemoHost], name: &HostName) -> Result<&'a mut DemoHost, Refusal> {
    hosts
        .iter_mut()
        .find(|host| host.name() == name)
        .ok_or_else(|| Refusal::new(RefusalCode::UnknownHost, format!("the scenario has no host {name}"), ""))
}

/// Carries out what faults do to agents. Those that are to come back do so only while this goes on.
async fn supervise(hosts: Arc<Mutex<Vec<DemoHost>>>, mut losses: mpsc::UnboundedReceiver<Lost>) {
    let mut returns = JoinSet::new();
    while let Some(Lost { host, back_after }) = losses.recv().await {
        while returns.try_join_next().is_some() {}
        if let Ok(found) = find(&mut hosts.lock().await, &host) {
            found.lose().await;
        }
        let Some(back_after) = back_after else { continue };
        let hosts = hosts.clone();
        returns.spawn(async move {
            tokio::time::sleep(back_after).await;
            if let Ok(found) = find(&mut hosts.lock().await, &host)
                && let Err(refusal) = found.bring_back().await
            {
                tracing::error!(%host, %refusal, "a simulated agent cannot be brought back");
            }
        });
    }
}

/// Has the agents remember what was moved by hand, as if it had just been.
async fn note(moved: &[ByHand], endpoints: &[String]) -> Result<(), Refusal> {
    if moved.is_empty() {
        return Ok(());
    }
    let fleet = Fleet::join(endpoints).await?;
    for moved in moved {
        let started_at = Timestamp::now().shifted(-((moved.duration.0 * 1e3) as i64));
        by_hand::note(&fleet, ByHand { started_at, ..moved.clone() }).await?;
    }
    // Its end is of no consequence.
    let _ = tokio::time::timeout(CLOSING, fleet.session().close()).await;
    Ok(())
}

/// Waits until every agent knows every other one.
async fn await_meeting(hosts: &[DemoHost]) -> Result<(), Refusal> {
    let deadline = tokio::time::Instant::now() + MEETING;
    while !hosts.iter().all(|host| host.met() + 1 >= hosts.len()) {
        if tokio::time::Instant::now() > deadline {
            return Err(Refusal::new(
                RefusalCode::Unreachable,
                format!("the simulated agents have not all met within {MEETING:?}"),
                "see whether this machine lets processes connect to 127.0.0.1",
            ));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

fn folder_refusal(error: &std::io::Error) -> Refusal {
    Refusal::new(
        RefusalCode::Failed,
        format!("the demo's folder in {} cannot be used: {error}", std::env::temp_dir().display()),
        "set TMPDIR to a folder with free space",
    )
}
