//! What the simulated agents do for the machines: as Podman and CRIU do it, which also means halfway.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mose_driver::departure::{self, Control};
use mose_driver::{Ask, arrival};
use mose_handover::SourceState;
use mose_handover::source::{Doubt, Why};
use mose_protocol::handover::{HandoverState, Prepare, Prepared, Rehearsed, Restored, Task};
use mose_protocol::record::{Downtime, Outcome, Record};
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request};
use serde_json::json;

use crate::network::Asking;
use crate::world::{Container, Copy, World, failed};

/// The id of a service's container, on every host.
pub(crate) fn id_of(task: &Task) -> String {
    format!("container-of-{}", task.service)
}

/// A service that leaves a simulated host.
pub(crate) struct Departing {
    world: World,
    host: HostName,
    control: Arc<Control>,
    asking: Asking,
    id: String,
}

impl Departing {
    pub(crate) fn new(world: &World, host: &HostName, control: &Arc<Control>) -> Self {
        let asking = Asking { world: world.clone(), from: host.clone() };
        let id = id_of(control.task());
        Self { world: world.clone(), host: host.clone(), control: control.clone(), asking, id }
    }

    fn migration(&self) -> MigrationId {
        self.control.task().migration.clone()
    }

    async fn ask(&self, request: Request, seconds: u64) -> Result<Reply, Refusal> {
        self.asking.ask(&self.control.task().to, &request, Duration::from_secs(seconds)).await
    }

    fn record(&self, outcome: Outcome) {
        let task = self.control.task();
        let record: Record = serde_json::from_value(json!({
            "migration": task.migration, "simulated": true, "service": task.service, "from": task.from, "to": task.to,
            "plan": task.plan, "transport": null, "started_at": 1, "duration": 0.0, "outcome": outcome, "reason": null,
            "image": 0, "downtime": Downtime::default(), "steps": [],
        }))
        .unwrap();
        self.world.log(format_args!("{}: {} is {}", self.host, task.migration, outcome.name()));
        self.world.with(&self.host, |host| host.records.insert(task.migration.clone(), record));
    }

    /// Makes everything ready, if nobody aborts it.
    async fn everything_ready(&self) -> Result<(), Refusal> {
        let task = self.control.task();
        let prepare: Prepare = serde_json::from_value(json!({
            "task": task, "epoch": 1, "place": {"name": task.service, "address": "10.0.0.1/24", "mac": "02:00:00:00:00:01"},
            "container": {"config": {"id": self.id}, "image": "i"}, "image_id": "i", "limit": 1,
        }))
        .unwrap();
        let Reply::Prepared(prepared) = self.ask(Request::Prepare(Box::new(prepare)), 120).await? else {
            return Err(failed("no preparation"));
        };
        if prepared.needs_image {
            self.world.pause(10..2000).await;
            self.ask(Request::Create(self.migration()), 120).await?;
        }
        self.world.pause(10..3000).await;
        if self.world.fails() { Err(failed("the transfer broke")) } else { Ok(()) }
    }

    /// From the freeze on.
    async fn dumped_and_sent(&self) -> Result<String, Refusal> {
        let (world, host, id) = (&self.world, &self.host, &self.id);
        world.pause(1..300).await;
        if world.fails() || world.is_cut(host, &self.control.task().to) {
            return Err(failed("the dump or the transfer broke"));
        }
        world.set(host, id, Copy::Dumped);
        world.pause(1..100).await;
        if world.fails() {
            return Err(failed("the last bytes did not arrive"));
        }
        let digest = format!("digest of {}", self.migration());
        world.state().images.insert(self.migration(), digest.clone());
        Ok(digest)
    }

    /// From the freeze to the images at the destination, while the service goes on.
    async fn dumped_and_gone_on(&self) -> Result<String, Refusal> {
        let (world, host, id) = (&self.world, &self.host, &self.id);
        world.pause(1..300).await;
        if world.fails() {
            return Err(failed("the dump broke"));
        }
        world.set(host, id, Copy::Running);
        world.pause(1..300).await;
        if world.fails() || world.is_cut(host, &self.control.task().to) {
            return Err(failed("the transfer broke"));
        }
        let digest = format!("digest of {}", self.migration());
        world.state().images.insert(self.migration(), digest.clone());
        Ok(digest)
    }

    /// Removes the container, which must not run.
    async fn removed(&self) -> bool {
        let (world, host, id) = (&self.world, &self.host, &self.id);
        world.pause(1..200).await;
        if world.fails() {
            return false;
        }
        if self.control.task().rehearsal {
            world.violate(format_args!("{host} removes {id}, which was only rehearsed"));
        }
        if world.copy(host, id) == Some(Copy::Running) && !world.state().forced {
            world.violate(format_args!("{host} removes {id}, which runs"));
        }
        world.log(format_args!("{host}: {id} removed"));
        world.with(host, |host| host.containers.remove(id));
        world.state().removed += 1;
        true
    }
}

#[async_trait]
impl departure::Work for Departing {
    async fn inspect(&mut self) -> Result<(), Refusal> {
        self.world.pause(1..50).await;
        match self.world.copy(&self.host, &self.id) {
            Some(Copy::Running) if !self.world.fails() => Ok(()),
            _ => Err(Refusal::new(RefusalCode::NotRunning, "it does not run here", "")),
        }
    }

    async fn write(&mut self, state: &SourceState) -> Result<(), Refusal> {
        if self.control.task().rehearsal && *state != SourceState::Preparing {
            self.world.violate(format_args!("a rehearsal writes {state:?} at its source"));
        }
        self.world.pause(0..5).await;
        let fails = self.world.fails();
        // What fails may be on the disk all the same.
        if !fails || self.world.chance(0.5) {
            self.world.log(format_args!("{}: {} on disk: {state:?}", self.host, self.migration()));
            let task = self.control.task();
            self.world.with(&self.host, |host| {
                host.departures.insert(task.migration.clone(), (task.clone(), state.clone()))
            });
        }
        self.world.pause(0..5).await;
        if fails { Err(failed("the disk is full")) } else { Ok(()) }
    }

    async fn make_ready(&mut self) -> Result<(), Refusal> {
        tokio::select! {
            biased;
            refusal = self.control.broken_off() => Err(refusal),
            ready = self.everything_ready() => ready,
        }
    }

    async fn stop_and_copy(&mut self) -> Result<String, Refusal> {
        let rehearsal = self.control.task().rehearsal;
        if !rehearsal {
            self.ask(Request::Hold(self.migration()), 3).await?;
        }
        if self.world.fails() {
            return Err(failed("CRIU does not dump it"));
        }
        self.world.set(&self.host, &self.id, Copy::Frozen);
        tokio::select! {
            biased;
            refusal = self.control.broken_off() => Err(refusal),
            sent = self.dumped_and_gone_on(), if rehearsal => sent,
            sent = self.dumped_and_sent(), if !rehearsal => sent,
        }
    }

    fn rehearsed(&mut self, _: Rehearsed) {
        if !self.control.task().rehearsal {
            self.world.violate("a migration was rehearsed");
        }
    }

    async fn undo(&mut self) {
        self.world.pause(0..50).await;
    }

    async fn take_back(&mut self) -> Result<(), Refusal> {
        let (world, host, id) = (&self.world, &self.host, &self.id);
        world.pause(1..200).await;
        if world.fails() {
            return Err(failed("the restore failed"));
        }
        match world.copy(host, id) {
            Some(Copy::Dumped) if self.control.task().rehearsal => {
                world.violate("a service that was rehearsed is restored at its source");
                Ok(())
            }
            Some(Copy::Running) => Ok(()),
            Some(Copy::Frozen | Copy::Dumped) => {
                world.set(host, id, Copy::Running);
                world.pause(0..50).await;
                // Where a restore fails late, the service runs all the same.
                if world.fails() { Err(failed("the restore's answer was lost")) } else { Ok(()) }
            }
            _ => Err(failed("nothing is left to take back")),
        }
    }

    async fn tell_back(&mut self) {
        self.world.pause(0..50).await;
    }

    async fn measure(&mut self) {
        self.world.pause(0..50).await;
    }

    async fn clean_up(&mut self, _: Option<Restored>) -> bool {
        self.removed().await
    }

    async fn discard(&mut self) -> bool {
        self.removed().await
    }

    async fn doubt(&mut self, _: &Doubt<Refusal>) {
        self.record(Outcome::InDoubt);
    }

    async fn forget(&mut self) {
        let migration = self.migration();
        self.world.with(&self.host, |host| host.departures.remove(&migration));
    }

    async fn conclude(&mut self, outcome: Outcome, _: Option<Why<Refusal>>) {
        let runs = self.world.copy(&self.host, &self.id) == Some(Copy::Running);
        let (arrived, forced) = {
            let state = self.world.state();
            (state.arrived.contains(&self.migration()), state.forced)
        };
        let so = match outcome {
            Outcome::Done => arrived && !runs,
            Outcome::RolledBack | Outcome::Aborted => runs,
            Outcome::Rehearsed => runs && !arrived && self.control.task().rehearsal,
            // It may not even have been there.
            Outcome::Refused | Outcome::GivenUp | Outcome::InDoubt => true,
        };
        if !so && !forced {
            self.world.violate(format_args!("{} is told to be {}", self.migration(), outcome.name()));
        }
        self.record(outcome);
    }

    fn tell_end(&mut self) {}
}

/// A service that comes to a simulated host.
pub(crate) struct Arriving {
    world: World,
    host: HostName,
    /// What the source asked to prepare.
    prepare: Prepare,
    id: String,
    /// Whether an earlier life began it.
    taken_up: bool,
}

impl Arriving {
    pub(crate) fn new(world: &World, host: &HostName, prepare: &Prepare, taken_up: bool) -> Self {
        let id = prepare.container.config["id"].as_str().unwrap().to_owned();
        Self { world: world.clone(), host: host.clone(), prepare: prepare.clone(), id, taken_up }
    }

    fn prepared(&self, needs_image: bool) -> Prepared {
        let bounds = json!({"chunk": 1, "window": 1, "total": 1, "stall_ms": 1, "entries": 1});
        let offer = json!({"kind": "tcp", "address": "10.0.0.1:1", "token": "0", "bounds": bounds});
        Prepared { offer: serde_json::from_value(offer).unwrap(), needs_image }
    }

    async fn container(&self) -> Result<Prepared, Refusal> {
        let (world, id) = (&self.world, &self.id);
        world.pause(10..500).await;
        if world.fails() {
            return Err(failed("the namespace cannot be made"));
        }
        let container = Container {
            service: self.prepare.task.service.clone(),
            made_by: Some(self.prepare.task.migration.clone()),
            copy: Copy::Created,
        };
        if world.with(&self.host, |host| host.containers.contains_key(id)) {
            return Err(failed("there is one already"));
        }
        world.log(format_args!("{}: {id} made by {}", self.host, self.prepare.task.migration));
        world.with(&self.host, |host| host.containers.insert(id.clone(), container));
        world.pause(0..100).await;
        if world.fails() { Err(failed("the transfer cannot be opened")) } else { Ok(self.prepared(false)) }
    }

    fn rehearsed() -> Rehearsed {
        serde_json::from_value(json!({"started_at": 1, "ended_at": 1, "criu_restore": null})).unwrap()
    }

    fn figures() -> Restored {
        serde_json::from_value(json!({
            "started_at": 1, "released_at": 1, "finished_at": 1, "criu_restore": null, "held": 0, "overflowed": 0
        }))
        .unwrap()
    }
}

#[async_trait]
impl arrival::Work for Arriving {
    async fn admit(&mut self) -> Result<(), Refusal> {
        self.world.pause(1..50).await;
        let taken = self.world.with(&self.host, |host| {
            host.containers.values().any(|container| container.service == self.prepare.task.service)
        });
        match taken {
            true => Err(Refusal::new(RefusalCode::Conflict, "a container of that name is here", "")),
            false if self.world.fails() => Err(failed("the engine does not answer")),
            false => Ok(()),
        }
    }

    async fn write(&mut self, state: &HandoverState, left: bool) -> Result<(), Refusal> {
        self.world.pause(0..5).await;
        let fails = self.world.fails();
        if !fails || self.world.chance(0.5) {
            self.world.log(format_args!(
                "{}: {} on disk: {state:?} {left}",
                self.host, self.prepare.task.migration
            ));
            let kept = (self.prepare.clone(), state.clone(), left);
            let migration = self.prepare.task.migration.clone();
            self.world.with(&self.host, |host| host.arrivals.insert(migration, kept));
        }
        self.world.pause(0..5).await;
        if fails { Err(failed("the disk is full")) } else { Ok(()) }
    }

    async fn make_ready(&mut self) -> Result<Prepared, Refusal> {
        if self.world.chance(0.2) { Ok(self.prepared(true)) } else { self.container().await }
    }

    async fn create(&mut self) -> Result<Prepared, Refusal> {
        self.container().await
    }

    async fn hold(&mut self) -> Result<(), Refusal> {
        self.world.pause(0..10).await;
        if self.world.fails() { Err(failed("the overlay does not answer")) } else { Ok(()) }
    }

    async fn verify(&mut self, digest: &str) -> Result<(), Refusal> {
        self.world.pause(0..20).await;
        let here =
            self.world.state().images.get(&self.prepare.task.migration).is_some_and(|here| here == digest);
        if here && !self.world.fails() { Ok(()) } else { Err(failed("the images are not whole")) }
    }

    async fn restore(&mut self) -> Result<Restored, Refusal> {
        let (world, host, id) = (&self.world, &self.host, &self.id);
        if self.prepare.task.rehearsal {
            world.violate("a rehearsal is restored for good");
        }
        if !world.state().images.contains_key(&self.prepare.task.migration) {
            world.violate("a service is restored without images");
        }
        world.set(host, id, Copy::Restoring);
        world.pause(10..400).await;
        let (fails, runs) = (world.fails(), world.chance(0.3));
        if fails && !runs {
            world.set(host, id, Copy::Created);
            return Err(failed("CRIU failed"));
        }
        world.set(host, id, Copy::Running);
        world.state().arrived.insert(self.prepare.task.migration.clone());
        world.pause(0..50).await;
        // A failure is told, and yet it runs.
        if fails { Err(failed("Podman's answer was lost")) } else { Ok(Self::figures()) }
    }

    async fn rehearse(&mut self) -> Result<Rehearsed, Refusal> {
        let (world, host, id) = (&self.world, &self.host, &self.id);
        if !self.prepare.task.rehearsal || !world.state().images.contains_key(&self.prepare.task.migration) {
            world.violate("what is no rehearsal, or has no images, is rehearsed");
        }
        world.set(host, id, Copy::Restoring);
        world.pause(10..400).await;
        let fails = world.fails();
        world.set(host, id, Copy::Created);
        if fails { Err(failed("CRIU failed")) } else { Ok(Self::rehearsed()) }
    }

    async fn release(&mut self) -> Result<Restored, Refusal> {
        self.world.pause(0..20).await;
        if self.world.fails() {
            return Err(failed("the overlay does not answer"));
        }
        self.world.state().arrived.insert(self.prepare.task.migration.clone());
        Ok(Self::figures())
    }

    async fn keep(&mut self) {
        self.world.pause(0..100).await;
    }

    async fn disarm(&mut self) -> Result<(), Refusal> {
        let (world, host, id) = (&self.world, &self.host, &self.id);
        world.pause(1..100).await;
        if world.fails() {
            return Err(failed("a process cannot be killed"));
        }
        if world.copy(host, id).is_some() {
            world.set(host, id, Copy::Created);
        }
        Ok(())
    }

    async fn remove(&mut self) -> Result<(), Refusal> {
        let (world, host, id) = (&self.world, &self.host, &self.id);
        // Of a rehearsal only its destination's copy is removed, which never ran.
        if self.prepare.task.rehearsal && world.copy(host, id) == Some(Copy::Running) {
            world.violate("a copy that was only rehearsed runs");
        }
        world.pause(1..300).await;
        if world.fails() {
            return Err(failed("the engine does not answer"));
        }
        if let Some(container) = world.with(host, |host| host.containers.remove(id)) {
            world.log(format_args!("{host}: {id} removed by {}", self.prepare.task.migration));
            world.state().removed += 1;
            if container.made_by.as_ref() != Some(&self.prepare.task.migration) {
                world.violate(format_args!(
                    "{} removes what {:?} has made (taken up: {})",
                    self.prepare.task.migration, container.made_by, self.taken_up
                ));
            }
        }
        world.pause(0..50).await;
        if world.fails() { Err(failed("the namespace is still there")) } else { Ok(()) }
    }

    async fn look(&mut self) -> Option<bool> {
        self.world.pause(1..50).await;
        (!self.world.fails()).then(|| self.world.copy(&self.host, &self.id) == Some(Copy::Running))
    }

    async fn forget(&mut self) {
        let migration = &self.prepare.task.migration;
        self.world.with(&self.host, |host| host.arrivals.remove(migration));
    }

    fn received(&self) -> u64 {
        0
    }
}
