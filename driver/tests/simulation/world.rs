//! The simulated hosts: their containers, disks and records, what goes wrong there, and what must never be.
//!
//! A container has the same id on every host that its service moves to, as Podman's have. What an agent's engine does for it takes time
//! and may fail halfway, as Podman and CRIU do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mose_driver::{HandOvers, Tasks};
use mose_handover::SourceState;
use mose_protocol::handover::{HandoverState, Prepare, Task};
use mose_protocol::record::{Outcome, Record};
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, ServiceName};
use tokio::time::{Instant, sleep};

use crate::network::{Asking, Fault};
use crate::works::{Arriving, Departing};

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    Created,
    Restoring,
    Running,
    Frozen,
    /// Its images are there, its processes are not.
    Dumped,
}

pub(crate) struct Container {
    pub(crate) service: ServiceName,
    /// The migration that made it here.
    pub(crate) made_by: Option<MigrationId>,
    pub(crate) copy: Copy,
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) events: u64,
    /// Of all events.
    pub(crate) hash: u64,
    /// How the migrations ended.
    pub(crate) outcomes: Vec<Outcome>,
    /// How often the wanted fault befell a message.
    pub(crate) befell: u32,
    /// What should never be.
    pub(crate) wrong: Option<String>,
    /// Every event, where they are kept.
    pub(crate) trace: Vec<String>,
}

/// How likely something goes wrong, of one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odds {
    /// A message is lost.
    pub(crate) loss: f64,
    /// A source that has relinquished its service hears nothing.
    pub(crate) silence: f64,
    /// A request comes twice.
    pub(crate) double: f64,
    /// A message comes seconds late.
    pub(crate) late: f64,
    /// An engine, a disk or an overlay fails.
    pub(crate) failure: f64,
}

#[derive(Default)]
pub(crate) struct Host {
    /// `None` while its agent is down.
    pub(crate) hand_overs: Option<Arc<HandOvers>>,
    pub(crate) life: u32,
    /// By id.
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) departures: BTreeMap<MigrationId, (Task, SourceState)>,
    pub(crate) arrivals: BTreeMap<MigrationId, (Prepare, HandoverState, bool)>,
    pub(crate) records: BTreeMap<MigrationId, Record>,
}

pub(crate) struct WorldState {
    pub(crate) random: fastrand::Rng,
    pub(crate) odds: Odds,
    pub(crate) hosts: BTreeMap<HostName, Host>,
    /// Pairs of hosts that do not hear each other.
    pub(crate) cut: BTreeSet<(HostName, HostName)>,
    /// Images that are at a migration's destination, whole, by their digest.
    pub(crate) images: BTreeMap<MigrationId, String>,
    /// Migrations whose destination ran the service.
    pub(crate) arrived: BTreeSet<MigrationId>,
    /// What sources have heard from destinations: whether that was *restored*.
    pub(crate) heard: BTreeMap<MigrationId, bool>,
    /// Whether the operator has decided about a service in doubt: what he risks he was told.
    pub(crate) forced: bool,
    /// What happens to one kind of message, and how often it has.
    pub(crate) fault: Option<Fault>,
    pub(crate) befell: u32,
    /// Containers that were removed.
    pub(crate) removed: u32,
    violation: Option<String>,
    begun: Instant,
    hash: DefaultHasher,
    events: u64,
    trace: Option<Vec<String>>,
}

/// A world that tasks share.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<WorldState>>);

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        Self(Arc::new(Mutex::new(WorldState {
            random: fastrand::Rng::with_seed(seed),
            odds: Odds::default(),
            hosts: BTreeMap::new(),
            cut: BTreeSet::new(),
            images: BTreeMap::new(),
            arrived: BTreeSet::new(),
            heard: BTreeMap::new(),
            forced: false,
            fault: None,
            befell: 0,
            removed: 0,
            violation: None,
            begun: Instant::now(),
            hash: DefaultHasher::new(),
            events: 0,
            trace: traced.then(Vec::new),
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, WorldState> {
        self.0.lock().unwrap()
    }

    /// Waits for some milliseconds.
    pub(crate) async fn pause(&self, range: std::ops::Range<u64>) {
        let millis = self.state().random.u64(range);
        sleep(Duration::from_millis(millis)).await;
    }

    /// Whether something fails here and now.
    pub(crate) fn fails(&self) -> bool {
        let mut state = self.state();
        let odds = state.odds.failure;
        state.random.f64() < odds
    }

    pub(crate) fn chance(&self, odds: f64) -> bool {
        self.state().random.f64() < odds
    }

    pub(crate) fn log(&self, what: impl fmt::Display) {
        self.state().log(what);
    }

    /// What must never be, is.
    pub(crate) fn violate(&self, what: impl fmt::Display) {
        self.state().violate(what);
    }

    /// Does something with a container.
    pub(crate) fn with<T>(&self, host: &HostName, work: impl FnOnce(&mut Host) -> T) -> T {
        work(self.state().hosts.get_mut(host).unwrap())
    }

    pub(crate) fn copy(&self, host: &HostName, id: &str) -> Option<Copy> {
        self.with(host, |host| host.containers.get(id).map(|container| container.copy))
    }

    /// A container is in another state from now on.
    pub(crate) fn set(&self, host: &HostName, id: &str, copy: Copy) {
        let mut state = self.state();
        state.log(format_args!("{host}: {id} {copy:?}"));
        if let Some(container) = state.hosts.get_mut(host).and_then(|host| host.containers.get_mut(id)) {
            container.copy = copy;
        }
        let running = state.running(id);
        if running > 1 && !state.forced {
            state.violate(format_args!("{id} runs {running} times"));
        }
    }

    /// The agent of a host begins a life, with what is on its disk.
    pub(crate) fn start(&self, name: &HostName) {
        let asking = Asking { world: self.clone(), from: name.clone() };
        let hand_overs = HandOvers::new(name.clone(), Arc::new(asking), Tasks::default());
        let (arrivals, departures) = self.with(name, |host| {
            host.hand_overs = Some(hand_overs.clone());
            host.life += 1;
            (host.arrivals.clone(), host.departures.clone())
        });
        self.log(format_args!("{name}: starts"));
        for (_, (prepare, state, left)) in arrivals {
            let work = |prepare: &Prepare| Arriving::new(self, name, prepare, true);
            hand_overs.take_up_arrival(prepare, state, left, work);
        }
        for (_, (task, state)) in departures {
            hand_overs.take_up_departure(task, state, |control| Departing::new(self, name, control));
        }
    }

    /// The agent of a host is killed. CRIU, which nobody answers any more, fails.
    pub(crate) fn kill(&self, name: &HostName) {
        let mut state = self.state();
        state.log(format_args!("{name}: killed"));
        let thaws = state.random.bool();
        let Some(host) = state.hosts.get_mut(name) else { return };
        let mut panicked = false;
        if let Some(hand_overs) = host.hand_overs.take() {
            hand_overs.tasks().stop();
            panicked = hand_overs.tasks().is_broken();
        }
        for container in host.containers.values_mut() {
            container.copy = match container.copy {
                Copy::Restoring => Copy::Created,
                Copy::Frozen if thaws => Copy::Running,
                other => other,
            };
        }
        let lost: Vec<_> = host.arrivals.keys().cloned().collect();
        state.images.retain(|migration, _| !lost.contains(migration));
        if panicked {
            state.violate(format_args!("a task at {name} panicked"));
        }
    }

    /// Whether no migration is under way and every agent lives.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.state();
        state.hosts.values().all(|host| {
            host.departures.is_empty()
                && host.arrivals.is_empty()
                && host.hand_overs.as_ref().is_some_and(|hand_overs| !hand_overs.any_moves())
        })
    }

    /// Whether every agent lives and nothing is being moved; something may still be to be cleaned up.
    pub(crate) fn nothing_moves(&self) -> bool {
        let state = self.state();
        state
            .hosts
            .values()
            .all(|host| host.hand_overs.as_ref().is_some_and(|hand_overs| !hand_overs.any_moves()))
    }

    /// How it went.
    pub(crate) fn end(&self) -> Ran {
        let mut state = self.state();
        let records = state.hosts.values().flat_map(|host| host.records.values());
        Ran {
            events: state.events,
            hash: state.hash.finish(),
            outcomes: records.map(|record| record.outcome).collect(),
            befell: state.befell,
            wrong: state.violation.take(),
            trace: state.trace.take().unwrap_or_default(),
        }
    }

    pub(crate) fn has_violation(&self) -> bool {
        let mut state = self.state();
        let broken =
            |host: &Host| host.hand_overs.as_ref().is_some_and(|hand_overs| hand_overs.tasks().is_broken());
        if state.hosts.values().any(broken) {
            state.violate("a task panicked");
        }
        state.violation.is_some()
    }

    /// What every host has on its disk and among its containers, for a violation's text.
    pub(crate) fn left(&self) -> String {
        let state = self.state();
        let hosts = state.hosts.iter().map(|(name, host)| {
            let containers: Vec<_> =
                host.containers.iter().map(|(id, container)| format!("{id} {:?}", container.copy)).collect();
            let departures: Vec<_> =
                host.departures.values().map(|(_, state)| format!("{state:?}")).collect();
            let arrivals: Vec<_> = host.arrivals.values().map(|(_, state, _)| format!("{state:?}")).collect();
            format!("{name}: {containers:?} leaving {departures:?} coming {arrivals:?}")
        });
        hosts.collect::<Vec<_>>().join("; ")
    }
}

impl WorldState {
    pub(crate) fn log(&mut self, what: impl fmt::Display) {
        let line = format!("{:8.3} {what}", self.begun.elapsed().as_secs_f64());
        line.hash(&mut self.hash);
        self.events += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    pub(crate) fn violate(&mut self, what: impl fmt::Display) {
        self.log(format_args!("VIOLATION: {what}"));
        self.violation.get_or_insert_with(|| what.to_string());
    }

    /// How often a container runs.
    pub(crate) fn running(&self, id: &str) -> usize {
        let copies = self.hosts.values().filter_map(|host| host.containers.get(id));
        copies.filter(|container| container.copy == Copy::Running).count()
    }
}

/// A failure of the simulated engine, disk or overlay.
pub(crate) fn failed(what: &str) -> Refusal {
    Refusal::new(RefusalCode::Failed, what, "")
}
