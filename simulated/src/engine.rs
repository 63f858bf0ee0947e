//! The simulated engine: virtual services on hosts that share a [`World`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use mose_engine::{
    Container, ContainerSampler, Described, Engine, ExitWatch, Listed, LiveMemory, Moment, Moments,
    PreDumped, Stage,
};
use mose_pam::{Bytes, Millis};
use mose_protocol::container::ContainerDescription;
use mose_protocol::handover::Task;
use mose_protocol::record::CriuTimes;
use mose_protocol::{HostName, Refusal, RefusalCode, ServiceName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::draw::Component;
use crate::fault::{FaultEffect, FaultStep};
use crate::images::{self, Core};
use crate::live::{SimulatedMemory, SimulatedSampling};
use crate::memory::Pages;
use crate::world::{Instance, Service, World};

/// The parts of the time of preparation that creating a container takes, and CRIU until it stands ready. The rest is what
/// the agents themselves need.
const CREATING: f64 = 0.55;
const STANDING_READY: f64 = 0.25;
/// The part of a dump after which pages are written: CRIU collects before it writes.
const COLLECTING: f64 = 0.5;

/// The engine of one simulated host.
pub(crate) struct SimulatedEngine {
    pub(crate) world: Arc<World>,
    pub(crate) host: HostName,
}

fn unknown(name: &ServiceName) -> Refusal {
    Refusal::new(
        RefusalCode::UnknownService,
        format!("no container is named {name} here"),
        "`mose services` lists what runs where",
    )
}

fn failed(what: String, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Engine, format!("{what}: {error}"), "")
}

fn no_chain() -> Refusal {
    Refusal::new(
        RefusalCode::Capability,
        "the simulated engine makes no chains of pre-dumps",
        "use --pre-copy live",
    )
}

fn elapsed(since: Instant) -> Option<Millis> {
    Some(since.elapsed().into())
}

impl SimulatedEngine {
    fn remove(&self, name: &ServiceName) -> Result<(), Refusal> {
        self.world.end(&self.host, name, true);
        remove_folder(&self.world.container_folder(&self.host, name))
    }

    /// Does something with a container here.
    fn with<T>(&self, name: &ServiceName, work: impl FnOnce(&mut Instance) -> T) -> Result<T, Refusal> {
        let mut state = self.world.state();
        let instance = state.instances.get_mut(&(self.host.clone(), name.clone()));
        instance.map(work).ok_or_else(|| unknown(name))
    }

    /// What a service is at this moment.
    fn truth(&self, name: &ServiceName) -> Result<(Core, Pages), Refusal> {
        let state = self.world.state();
        let service = state.services.get(name).ok_or_else(|| unknown(name))?;
        Ok((service.core(Instant::now()), service.pages))
    }

    /// What a service was when it was dumped.
    fn dumped(&self, name: &ServiceName) -> Result<(Core, Pages), Refusal> {
        let state = self.world.state();
        let service = state.services.get(name).ok_or_else(|| unknown(name))?;
        // One that runs has gone on since it was dumped, as it is only rehearsed.
        let goes_on = !state.live(name).is_empty();
        let dumped = service.dumped.clone().filter(|_| goes_on);
        Ok((dumped.unwrap_or_else(|| service.core(Instant::now())), service.pages))
    }

    /// Lets a fault that waits for this step strike. One that kills the agent leaves it no time to see anything fail.
    async fn await_fault(&self, name: &ServiceName, step: FaultStep) -> Result<(), Refusal> {
        match self.world.strike(&self.host, name, step) {
            None => Ok(()),
            Some(FaultEffect::StalePage) if step == FaultStep::Restore => self.make_stale(name),
            Some(FaultEffect::Fail | FaultEffect::StalePage) => Err(self.fault(name, step)),
            Some(FaultEffect::AgentLost { .. }) => std::future::pending().await,
        }
    }

    /// Damages the images that lie here of a service.
    fn make_stale(&self, name: &ServiceName) -> Result<(), Refusal> {
        let (core, pages) = self.truth(name)?;
        let folder = self.world.container_folder(&self.host, name).join("checkpoint");
        let made = images::make_stale(&folder, &core, &pages);
        made.map(|_| ()).map_err(|error| failed(format!("no page of {name} was made stale"), &error))
    }

    fn fault(&self, name: &ServiceName, step: FaultStep) -> Refusal {
        let log = format!("Error (simulated): the scenario has {} of {name} fail", step.name());
        let _ = self.with(name, |instance| instance.log = Some((SystemTime::now(), log)));
        Refusal::new(
            RefusalCode::Engine,
            format!("a simulated fault of the scenario: {} of {name} failed", step.name()),
            "migrate again",
        )
    }

    /// Has the agent answer at a moment of CRIU's, if it wants to be asked.
    async fn ask(&self, name: &ServiceName, stage: Stage) -> Result<(), Refusal> {
        let Some(asked) = self.with(name, |instance| instance.moments.clone())? else { return Ok(()) };
        let (answer, verdict) = oneshot::channel();
        let broken_off = || "the migration was broken off".to_owned();
        let said = match asked.send(Moment { stage, answer }).await {
            Ok(()) => verdict.await.unwrap_or_else(|_| Err(broken_off())),
            Err(_) => Err(broken_off()),
        };
        said.map_err(|reason| failed(format!("CRIU's hook failed at {stage:?}"), &reason))
    }

    /// The part of its state that a service dirtied since its memory was last read for pre-copy; all of it, if it never was.
    fn dirty(&self, name: &ServiceName) -> Result<f64, Refusal> {
        let (core, pages) = self.truth(name)?;
        let read_at = self.with(name, |instance| instance.read_at)?;
        Ok(read_at.map_or(1.0, |read_at| pages.dirtied(read_at, core.writes) as f64 / pages.count as f64))
    }

    /// Dumps it once its agent says so, and ends it or lets it go on.
    async fn checkpoint(&self, container: &Container, goes_on: bool) -> Result<CriuTimes, Refusal> {
        let name = &container.name;
        let ready = self.world.draw(Component::Prepare, name, 0.0).mul_f64(STANDING_READY);
        tokio::time::sleep(ready).await;
        let dumped = async {
            self.ask(name, Stage::PreDump).await?;
            // As CRIU does, where nobody has frozen it.
            self.freeze(container)?;
            self.dump_frozen(container, goes_on).await
        };
        let dumped = dumped.await;
        let _ = self.with(name, |instance| instance.moments = None);
        dumped
    }

    async fn dump_frozen(&self, container: &Container, goes_on: bool) -> Result<CriuTimes, Refusal> {
        let name = &container.name;
        let frozen = Instant::now();
        self.await_fault(name, FaultStep::Dump).await?;
        let lasting = self.world.draw(Component::Dump, name, self.dirty(name)?);
        let (core, pages) = self.truth(name)?;
        let written = pages.count;
        tokio::time::sleep_until((frozen + lasting.mul_f64(COLLECTING)).into()).await;
        let (memdump, writing) = (elapsed(frozen), Instant::now());
        let folder = container.checkpoint.clone();
        let pace = move |part: f64| {
            let due = frozen + lasting.mul_f64(COLLECTING + (1.0 - COLLECTING) * part);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        };
        let dumped = core.clone();
        let images = tokio::task::spawn_blocking(move || images::write(&folder, &core, &pages, pace));
        let images = images.await.map_err(|error| failed(format!("{name} was not dumped"), &error))?;
        images.map_err(|error| failed(format!("the images of {name} cannot be written"), &error))?;
        let memwrite = elapsed(writing);
        self.world.note_dumped(name, dumped);
        self.ask(name, Stage::PostDump).await?;
        match goes_on {
            true => drop(self.world.freeze(&self.host, name, false)),
            false => self.world.end(&self.host, name, false),
        }
        Ok(CriuTimes {
            frozen: elapsed(frozen),
            memdump,
            memwrite,
            pages_written: Some(written),
            ..CriuTimes::default()
        })
    }

    fn container(&self, name: &ServiceName, instance: &Instance, image: &str) -> Container {
        let folder = self.world.container_folder(&self.host, name);
        Container {
            id: instance.id.clone(),
            name: name.clone(),
            running: instance.pid.is_some(),
            pid: instance.pid,
            netns: Some(netns(name)),
            image: image.to_owned(),
            image_id: format!("simulated-{image}"),
            rootfs_changes: folder.join("changes"),
            checkpoint: folder.join("checkpoint"),
        }
    }
}

/// Where the overlay in memory puts a service's namespace; there is none.
fn netns(name: &ServiceName) -> PathBuf {
    PathBuf::from("/run/netns").join(name.as_str())
}

fn remove_folder(folder: &std::path::Path) -> Result<(), Refusal> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed(format!("{} cannot be removed", folder.display()), &error))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Engine for SimulatedEngine {
    async fn tools(&self) -> Result<Vec<(String, String)>, Refusal> {
        let text = |text: &str| text.to_owned();
        Ok(vec![
            (text("engine"), text("simulated")),
            (text("profile"), self.world.spec.calibration.name.clone()),
        ])
    }

    async fn list(&self) -> Result<Vec<Listed>, Refusal> {
        let state = self.world.state();
        let here = state.instances.iter().filter(|((host, _), _)| *host == self.host);
        let listed = here.filter_map(|((_, name), instance)| {
            Some(Listed {
                name: name.clone(),
                running: instance.pid.is_some(),
                pid: instance.pid,
                image: state.services.get(name)?.spec.image.clone(),
                netns: Some(netns(name)),
            })
        });
        Ok(listed.collect())
    }

    async fn inspect(&self, name: &ServiceName) -> Result<Container, Refusal> {
        let state = self.world.state();
        let instance =
            state.instances.get(&(self.host.clone(), name.clone())).ok_or_else(|| unknown(name))?;
        let service = state.services.get(name).ok_or_else(|| unknown(name))?;
        Ok(self.container(name, instance, &service.spec.image))
    }

    async fn describe(&self, _: &Task, container: &Container) -> Result<Described, Refusal> {
        let container = ContainerDescription {
            image: container.image.clone(),
            simulated: true,
            ..ContainerDescription::default()
        };
        Ok(Described { container, secrets: Vec::new() })
    }

    /// Every simulated host has every image.
    async fn has_image(&self, _: &str) -> Result<bool, Refusal> {
        Ok(true)
    }

    async fn export_image(
        &self,
        image: &str,
    ) -> Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>, Refusal> {
        let reason = format!("the simulated image {image} has no content");
        Err(Refusal::new(RefusalCode::Capability, reason, "none is ever missing on a simulated host"))
    }

    async fn import_image(&self, _: &std::path::Path, image_id: &str, _: &str) -> Result<(), Refusal> {
        let reason = format!("a simulated host takes no image ({image_id})");
        Err(Refusal::new(RefusalCode::Capability, reason, "none is ever missing on a simulated host"))
    }

    async fn create(&self, task: &Task, described: &Described) -> Result<Container, Refusal> {
        let name = &task.service;
        if !described.container.simulated {
            return Err(Refusal::new(
                RefusalCode::Capability,
                format!("{name} is a real container, and {} is simulated", self.host),
                "migrate it to a real host",
            ));
        }
        self.await_fault(name, FaultStep::Prepare).await?;
        tokio::time::sleep(self.world.draw(Component::Prepare, name, 0.0).mul_f64(CREATING)).await;
        let folder = self.world.container_folder(&self.host, name);
        remove_folder(&folder)?;
        std::fs::create_dir_all(folder.join("changes"))
            .map_err(|error| failed(format!("the folder of {name} cannot be made"), &error))?;
        self.world.add(&self.host, name);
        self.inspect(name).await
    }

    async fn moments(&self, container: &Container, _: Duration) -> Result<Moments, Refusal> {
        let (sender, receiver) = mpsc::channel(4);
        self.with(&container.name, |instance| instance.moments = Some(sender))?;
        Ok(receiver)
    }

    async fn dump(&self, container: &Container) -> Result<CriuTimes, Refusal> {
        self.checkpoint(container, false).await
    }

    async fn dump_and_go_on(&self, container: &Container, with_previous: bool) -> Result<CriuTimes, Refusal> {
        if with_previous { Err(no_chain()) } else { self.checkpoint(container, true).await }
    }

    async fn chain_support(&self) -> Result<(), Refusal> {
        Err(no_chain())
    }

    async fn pre_dump(&self, _: &Container, _: u32) -> Result<PreDumped, Refusal> {
        Err(no_chain())
    }

    async fn dump_with_previous(&self, _: &Container) -> Result<CriuTimes, Refusal> {
        Err(no_chain())
    }

    async fn restore(&self, container: &Container) -> Result<CriuTimes, Refusal> {
        let (name, began) = (&container.name, Instant::now());
        let lasting = self.world.draw(Component::Restore, name, 0.0);
        let restored = async {
            self.await_fault(name, FaultStep::Restore).await?;
            let (core, pages) = self.dumped(name)?;
            let folder = container.checkpoint.clone();
            let checking = tokio::task::spawn_blocking(move || images::check(&folder, &core, &pages));
            let checked =
                checking.await.map_err(|error| failed(format!("{name} was not restored"), &error))?;
            if let Err(what) = checked {
                let log = (SystemTime::now(), format!("Error (simulated): {what}"));
                self.with(name, |instance| instance.log = Some(log))?;
                return Err(failed(format!("the images of {name} are not what was dumped"), &what));
            }
            tokio::time::sleep_until((began + lasting).into()).await;
            let restore = elapsed(began);
            self.ask(name, Stage::PostRestore).await?;
            self.ask(name, Stage::PreResume).await?;
            self.world.begin(&self.host, name);
            Ok(CriuTimes { restore, ..CriuTimes::default() })
        };
        let restored = restored.await;
        let _ = self.with(name, |instance| instance.moments = None);
        restored
    }

    fn arrived(&self, task: &Task, _: &ContainerDescription) -> Option<Container> {
        let state = self.world.state();
        let instance = state.instances.get(&(self.host.clone(), task.service.clone()))?;
        let service = state.services.get(&task.service)?;
        Some(self.container(&task.service, instance, &service.spec.image))
    }

    fn live_memory(&self, container: &Container) -> Result<Box<dyn LiveMemory>, Refusal> {
        let service = container.name.clone();
        if self.world.strike(&self.host, &service, FaultStep::PreDump).is_some() {
            return Err(self.fault(&service, FaultStep::PreDump));
        }
        let pid = self.with(&service, |instance| instance.pid)?.ok_or_else(|| {
            Refusal::new(RefusalCode::NotRunning, format!("{service} does not run"), "start it first")
        })?;
        let (world, host) = (self.world.clone(), self.host.clone());
        Ok(Box::new(SimulatedMemory { world, host, service, pid, seen: None }))
    }

    fn sampler(&self, container: &Container) -> Result<Box<dyn ContainerSampler>, Refusal> {
        let (world, host) = (self.world.clone(), self.host.clone());
        Ok(Box::new(SimulatedSampling::new(world, host, container.name.clone())))
    }

    fn processes(&self, container: &Container) -> Vec<u32> {
        let pid = self.with(&container.name, |instance| instance.pid);
        pid.ok().flatten().into_iter().collect()
    }

    fn unaccepted(&self, _: &Container) -> u32 {
        0
    }

    fn freeze(&self, container: &Container) -> Result<(), Refusal> {
        if self.world.freeze(&self.host, &container.name, true) {
            return Ok(());
        }
        let reason = format!("{} does not run, and cannot be frozen", container.name);
        Err(Refusal::new(RefusalCode::NotRunning, reason, ""))
    }

    fn thaw(&self, container: &Container) -> Result<(), Refusal> {
        self.world.freeze(&self.host, &container.name, false);
        Ok(())
    }

    fn exit_watch(&self, container: &Container) -> Result<Box<dyn ExitWatch>, Refusal> {
        let key = (self.host.clone(), container.name.clone());
        Ok(Box::new(InstanceWatch { world: self.world.clone(), key, changes: self.world.changes() }))
    }

    async fn discard(&self, container: &Container) -> Result<(), Refusal> {
        self.remove(&container.name)
    }

    async fn discard_arrived(&self, task: &Task, _: &ContainerDescription) -> Result<(), Refusal> {
        self.remove(&task.service)
    }

    async fn drop_images(&self, container: &Container) -> Result<(), Refusal> {
        let _ = self.with(&container.name, |instance| instance.read_at = None);
        remove_folder(&container.checkpoint)
    }

    fn criu_log(&self, container: &Container, since: SystemTime) -> Option<String> {
        let (at, log) = self.with(&container.name, |instance| instance.log.clone()).ok().flatten()?;
        (at >= since).then_some(log)
    }

    fn memory(&self, pid: u32) -> Option<(Bytes, u32)> {
        self.world.service_of(pid, |service| (service.spec.memory, 1))
    }

    fn connections(&self, pid: u32) -> Option<u32> {
        self.world.service_of(pid, Service::connections)
    }
}

impl World {
    /// Something of the service that a process belongs to.
    fn service_of<T>(&self, pid: u32, what: impl FnOnce(&Service) -> T) -> Option<T> {
        let state = self.state();
        let ((_, name), _) = state.instances.iter().find(|(_, instance)| instance.pid == Some(pid))?;
        state.services.get(name).map(what)
    }
}

/// Waits for the end of a container's processes.
struct InstanceWatch {
    world: Arc<World>,
    key: (HostName, ServiceName),
    changes: watch::Receiver<u64>,
}

#[async_trait]
impl ExitWatch for InstanceWatch {
    async fn gone(&mut self) {
        loop {
            let lives = self.world.state().instances.get(&self.key).is_some_and(|found| found.pid.is_some());
            // The sender lives in the world.
            if !lives || self.changes.changed().await.is_err() {
                return;
            }
        }
    }
}
