//! The world that the simulated hosts of a testbed share: the services and where they live, independent of any agent.
//!
//! It is what hardware and kernel are to real agents. It knows the truth about every service, so that a stale image and a
//! second copy are seen.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::Ipv4Net;
use mose_engine::Moment;
use mose_pam::{Bytes, Calibration};
use mose_protocol::agent::MessagesPerSec;
use mose_protocol::{HostName, ServiceName, Timestamp};
use mose_transfer::PAGE;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};

use crate::draw::{Component, Times};
use crate::fault::{self, Fault, FaultEffect, FaultStep, Lost};
use crate::geography::{Motion, SimulatedLink};
use crate::images::Core;
use crate::memory::{Pages, Progress, Writing};

/// Placements and outages that are remembered.
const REMEMBERED: usize = 4096;

/// A client of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// The host that it is on.
    pub host: HostName,
    /// How often it asks.
    pub rate: MessagesPerSec,
    /// Its TCP connections.
    pub connections: u32,
}

/// A virtual service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSpec {
    /// Its name.
    pub name: ServiceName,
    /// Its image's name.
    pub image: String,
    /// Its address and the overlay's prefix.
    pub address: Ipv4Net,
    /// M.
    pub memory: Bytes,
    /// How it writes to its memory.
    pub writing: Writing,
    /// Who asks it.
    pub clients: Vec<Client>,
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldSpec {
    /// What all draws and contents follow from.
    pub seed: u64,
    /// The calibration that step times are drawn around.
    pub calibration: Calibration,
    /// The folder of containers.
    pub folder: PathBuf,
    /// The links between hosts.
    pub links: Vec<SimulatedLink>,
    /// Where the hosts are.
    pub motions: BTreeMap<HostName, Motion>,
    /// What is to go wrong.
    pub faults: Vec<Fault>,
}

/// Where a service lived from an instant on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// From when on.
    pub at: Timestamp,
    /// Which service.
    pub service: ServiceName,
    /// The hosts on which processes of it existed: never more than one, if all is well.
    pub live: Vec<HostName>,
}

/// A time for which a service did not answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) down: Instant,
    pub(crate) up: Option<Instant>,
}

pub(crate) struct Service {
    pub(crate) spec: ServiceSpec,
    pub(crate) pages: Pages,
    pub(crate) progress: Progress,
    pub(crate) outages: VecDeque<Outage>,
    /// What it was when it was dumped last.
    pub(crate) dumped: Option<Core>,
}

impl Service {
    pub(crate) fn core(&self, now: Instant) -> Core {
        Core {
            service: self.spec.name.to_string(),
            pages: self.pages.count,
            writes: self.progress.writes(now),
            connections: self.connections(),
        }
    }

    pub(crate) fn connections(&self) -> u32 {
        self.spec.clients.iter().map(|client| client.connections).sum()
    }

    fn answers(&mut self, answers: bool, now: Instant) {
        if answers {
            self.progress.run(now);
            if let Some(outage) = self.outages.back_mut() {
                outage.up.get_or_insert(now);
            }
        } else {
            self.progress.stand(now);
            if self.outages.back().is_none_or(|outage| outage.up.is_some()) {
                push(&mut self.outages, Outage { down: now, up: None });
            }
        }
    }
}

/// A container on one host.
pub(crate) struct Instance {
    pub(crate) id: String,
    /// The first of its processes, while it has any.
    pub(crate) pid: Option<u32>,
    pub(crate) frozen: bool,
    /// Whom CRIU asks at its moments.
    pub(crate) moments: Option<mpsc::Sender<Moment>>,
    /// The service's writes when its memory was last read for a round of pre-copy.
    pub(crate) read_at: Option<u64>,
    /// What CRIU's log would say, and since when.
    pub(crate) log: Option<(SystemTime, String)>,
}

#[derive(Default)]
pub(crate) struct WorldState {
    pub(crate) services: BTreeMap<ServiceName, Service>,
    pub(crate) instances: BTreeMap<(HostName, ServiceName), Instance>,
    placements: VecDeque<Placement>,
    faults: Vec<Fault>,
    drawn: HashMap<(ServiceName, Component), u64>,
    ids: u32,
}

fn push<T>(kept: &mut VecDeque<T>, new: T) {
    kept.push_back(new);
    if kept.len() > REMEMBERED {
        kept.pop_front();
    }
}

impl WorldState {
    fn next_id(&mut self) -> u32 {
        self.ids += 1;
        self.ids
    }

    pub(crate) fn live(&self, service: &ServiceName) -> Vec<HostName> {
        let of =
            self.instances.iter().filter(|((_, name), instance)| name == service && instance.pid.is_some());
        of.map(|((host, _), _)| host.clone()).collect()
    }

    /// Notes where a service lives now; to be called whenever that may have changed.
    fn place(&mut self, service: &ServiceName) {
        let placement =
            Placement { at: Timestamp::now(), service: service.clone(), live: self.live(service) };
        if placement.live.len() > 1 {
            tracing::error!(%service, live = ?placement.live, "two copies of a simulated service");
        }
        push(&mut self.placements, placement);
    }
}

/// The world.
pub struct World {
    pub(crate) spec: WorldSpec,
    /// One instant, on both clocks.
    pub(crate) origin: (Instant, SystemTime),
    times: Times,
    state: Mutex<WorldState>,
    changes: watch::Sender<u64>,
    lost: mpsc::UnboundedSender<Lost>,
}

impl World {
    /// An empty world, and where it tells which agents its faults kill.
    #[must_use]
    pub fn new(spec: WorldSpec) -> (Arc<Self>, mpsc::UnboundedReceiver<Lost>) {
        let (lost, losses) = mpsc::unbounded_channel();
        let world = Self {
            origin: (Instant::now(), SystemTime::now()),
            times: Times::new(spec.seed, &spec.calibration),
            state: Mutex::new(WorldState { faults: spec.faults.clone(), ids: 1000, ..WorldState::default() }),
            changes: watch::Sender::new(0),
            lost,
            spec,
        };
        (Arc::new(world), losses)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock()
    }

    pub(crate) fn system_time(&self, at: Instant) -> SystemTime {
        self.origin.1 + at.saturating_duration_since(self.origin.0)
    }

    /// The folder of a container.
    pub(crate) fn container_folder(&self, host: &HostName, service: &ServiceName) -> PathBuf {
        self.spec.folder.join(host.as_str()).join("containers").join(service.as_str())
    }

    /// Where every service has lived, the newest last; the oldest are forgotten after some thousand.
    #[must_use]
    pub fn placements(&self) -> Vec<Placement> {
        self.state().placements.iter().cloned().collect()
    }

    /// The hosts on which a service lives: one, or none while it is moved.
    #[must_use]
    pub fn live_on(&self, service: &ServiceName) -> Vec<HostName> {
        self.state().live(service)
    }

    /// Has something go wrong from now on.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Tells of changes of where services live.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Puts a new service on a host, where it runs from now on. Its folders are made.
    ///
    /// # Errors
    /// If a service of that name exists, or the folders cannot be made.
    pub fn start(&self, spec: ServiceSpec, host: &HostName) -> std::io::Result<()> {
        let name = spec.name.clone();
        let folder = self.container_folder(host, &name);
        {
            let mut state = self.state();
            if state.services.contains_key(&name) {
                return Err(std::io::Error::other(format!("there are two services named {name}")));
            }
            let count = spec.memory.0.div_ceil(PAGE as u64).max(1);
            let seed = xxhash_rust::xxh3::xxh3_64_with_seed(name.as_str().as_bytes(), self.spec.seed);
            let pages = Pages::new(seed, count, spec.writing.working_set);
            let progress = Progress::new(spec.writing);
            let service = Service { spec, pages, progress, outages: VecDeque::new(), dumped: None };
            state.services.insert(name.clone(), service);
        }
        std::fs::create_dir_all(folder.join("changes/var/log"))?;
        std::fs::write(folder.join("changes/var/log/service.log"), format!("{name} started on {host}\n"))?;
        self.add(host, &name);
        self.begin(host, &name);
        Ok(())
    }

    /// Adds a container that does not run.
    pub(crate) fn add(&self, host: &HostName, service: &ServiceName) {
        let mut state = self.state();
        let id = format!("sim-{}", state.next_id());
        let instance = Instance { id, pid: None, frozen: false, moments: None, read_at: None, log: None };
        state.instances.insert((host.clone(), service.clone()), instance);
    }

    /// The container's processes exist and run.
    pub(crate) fn begin(&self, host: &HostName, service: &ServiceName) {
        let mut state = self.state();
        let pid = state.next_id();
        if let Some(instance) = state.instances.get_mut(&(host.clone(), service.clone())) {
            (instance.pid, instance.frozen, instance.read_at) = (Some(pid), false, None);
        }
        if let Some(found) = state.services.get_mut(service) {
            found.answers(true, Instant::now());
        }
        state.place(service);
        drop(state);
        self.changed();
    }

    /// The container's processes are gone; with `remove`, the container too.
    pub(crate) fn end(&self, host: &HostName, service: &ServiceName, remove: bool) {
        let mut state = self.state();
        let key = (host.clone(), service.clone());
        let ran = state.instances.get_mut(&key).and_then(|instance| instance.pid.take()).is_some();
        if remove {
            state.instances.remove(&key);
        }
        if ran {
            if let Some(found) = state.services.get_mut(service) {
                found.answers(false, Instant::now());
            }
            state.place(service);
        }
        drop(state);
        self.changed();
    }

    /// Has the container's processes stand still, or go on. Whether it has any.
    pub(crate) fn freeze(&self, host: &HostName, service: &ServiceName, frozen: bool) -> bool {
        let mut state = self.state();
        let instance = state.instances.get_mut(&(host.clone(), service.clone()));
        let Some(instance) = instance.filter(|instance| instance.pid.is_some()) else { return false };
        instance.frozen = frozen;
        if let Some(found) = state.services.get_mut(service) {
            found.answers(!frozen, Instant::now());
        }
        true
    }

    /// Notes what a service was when it was dumped.
    pub(crate) fn note_dumped(&self, service: &ServiceName, core: Core) {
        if let Some(found) = self.state().services.get_mut(service) {
            found.dumped = Some(core);
        }
    }

    /// What becomes of a step, where a fault waits for it.
    pub(crate) fn strike(
        &self,
        host: &HostName,
        service: &ServiceName,
        step: FaultStep,
    ) -> Option<FaultEffect> {
        let mut state = self.state();
        let effect = fault::strike(&mut state.faults, host, service, step)?;
        if let FaultEffect::AgentLost { back_after } = effect {
            let _ = self.lost.send(Lost { host: host.clone(), back_after });
        }
        Some(effect)
    }

    /// Draws the time of a component for a service, of whose memory the share `dirty` is to be dumped.
    pub(crate) fn draw(&self, component: Component, service: &ServiceName, dirty: f64) -> Duration {
        let mut state = self.state();
        let Some(memory) = state.services.get(service).map(|found| found.spec.memory) else {
            return Duration::ZERO;
        };
        let number = state.drawn.entry((service.clone(), component)).or_default();
        *number += 1;
        self.times.draw(component, service.as_str(), *number, memory, dirty)
    }

    /// The service with an overlay address.
    pub(crate) fn service_at(&self, address: Ipv4Addr) -> Option<ServiceName> {
        let state = self.state();
        let mut services = state.services.values();
        services.find(|found| found.spec.address.addr() == address).map(|found| found.spec.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use mose_pam::PagesPerSec;

    use super::*;

    fn world(folder: &std::path::Path) -> (Arc<World>, HostName, HostName, ServiceName) {
        let (world, _) = World::new(WorldSpec {
            seed: 1,
            calibration: Calibration::tnsm2024(),
            folder: folder.to_owned(),
            links: Vec::new(),
            motions: BTreeMap::new(),
            faults: Vec::new(),
        });
        let (a, b, web): (HostName, HostName, ServiceName) =
            ("a".parse().unwrap(), "b".parse().unwrap(), "web".parse().unwrap());
        let spec = ServiceSpec {
            name: web.clone(),
            image: "x".into(),
            address: "10.77.0.20/24".parse().unwrap(),
            memory: Bytes(1 << 20),
            writing: Writing { rate: PagesPerSec(1e6), bursts: None, working_set: 10 },
            clients: Vec::new(),
        };
        world.start(spec.clone(), &a).unwrap();
        assert!(world.start(spec, &b).is_err(), "a name stands for one service");
        (world, a, b, web)
    }

    #[test]
    fn a_second_copy_is_seen_at_the_instant_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let (world, a, b, web) = world(folder.path());
        world.add(&b, &web);
        assert_eq!(world.live_on(&web), std::slice::from_ref(&a), "a container that does not run is no copy");
        world.begin(&b, &web);
        world.end(&a, &web, true);
        let live: Vec<usize> = world.placements().iter().map(|placement| placement.live.len()).collect();
        assert_eq!(live, [1, 2, 1]);
        assert_eq!(world.live_on(&web), [b]);
    }

    #[test]
    fn a_frozen_service_writes_nothing_and_does_not_answer_until_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (world, a, _, web) = world(folder.path());
        let writes = || world.state().services[&web].core(Instant::now()).writes;
        assert!(world.freeze(&a, &web, true));
        let frozen = writes();
        assert_eq!(writes(), frozen);
        let outages =
            || world.state().services[&web].outages.iter().map(|o| o.up.is_some()).collect::<Vec<_>>();
        assert_eq!(outages(), [false]);
        world.end(&a, &web, false);
        assert_eq!(outages(), [false], "one outage from the freeze on");
        assert!(!world.freeze(&a, &web, true), "what is gone cannot be frozen");
        world.begin(&a, &web);
        assert_eq!(outages(), [true]);
        let begun = Instant::now();
        while writes() == frozen {
            assert!(begun.elapsed() < Duration::from_secs(10), "it goes on writing");
        }
    }
}
