//! The engine on libpod's REST interface, with runc and CRIU beneath it.
//!
//! The destination's container is created, initialised and taken down again before the freeze, so that it has its OCI configuration;
//! CRIU's images are put into its own checkpoint folder, and libpod restores it from there. No archive of its state is packed.

mod at_work;
mod beside;
mod binds;
mod call;
mod cgroup_image;
mod chain;
mod conmon;
mod criu_log;
mod description;
mod doctor;
mod dump;
mod dump_kind;
pub mod freezer;
mod going_on;
mod health;
pub mod hooks;
mod images;
mod inspect;
mod listing;
mod live;
mod looked;
mod making;
mod own_files;
mod places;
pub mod processes;
mod removable;
mod restore;
mod restoring;
mod runtime_state;
mod sampling;
mod socket;
mod space;
mod stand_in;
mod sysctls;
mod volumes;
mod wording;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use mose_movable::Looked;
use mose_pam::{Bytes, Millis};
use mose_protocol::check::Machine;
use mose_protocol::container::ContainerDescription;
use mose_protocol::doctor::Check;
use mose_protocol::handover::Task;
use mose_protocol::record::CriuTimes;
use mose_protocol::{Refusal, RefusalCode, ServiceName};
use parking_lot::Mutex;
use podman_api::Podman;
use podman_api::opts::ContainerDeleteOpts;
use serde_json::Value;
use tokio::task::JoinSet;

use self::at_work::AtWork;
use self::chain::Chains;
use self::conmon::{Conmon, EndWatch};
use self::description::{essence, secrets};
use self::dump_kind::DumpKind;
use self::hooks::Hooks;
use self::inspect::container;
use self::restoring::Restoring;
use self::socket::Socket;
use self::wording::repository_and_tag;
use super::{
    Container, ContainerSampler, Described, Engine, ExitWatch, Listed, LiveMemory, Moments, PreDumped,
    StateTree,
};
use crate::aside::aside;

/// How long a dump or a restore may take: state moves through memory and page cache at no less than 50 MB/s.
pub const CRIU_DEADLINE: Duration = Duration::from_secs(300);

/// How long any other call may take.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Podman on its socket.
pub struct PodmanEngine {
    socket: Socket,
    podman: Podman,
    hooks: Arc<Hooks>,
    chains: Chains,
    checks: health::Checks,
    /// Whose turn it is to have Podman write down a container's configuration.
    describing: tokio::sync::Mutex<()>,
    /// Waits for Podman before the markers of an earlier life are removed.
    forgetting: Mutex<JoinSet<()>>,
    /// The folder of all containers' own folders, once one was seen.
    storage: OnceLock<PathBuf>,
}

impl PodmanEngine {
    /// The engine behind the Podman service on `socket`. Podman need not be there yet.
    ///
    /// # Errors
    /// Where the place at which CRIU's hooks meet the agent cannot be made.
    pub fn new(socket: &Path) -> Result<Self, Refusal> {
        Ok(Self {
            socket: Socket::new(socket),
            podman: Podman::unix(socket),
            hooks: Arc::new(Hooks::listen(Path::new(hooks::FOLDER))?),
            chains: Chains::default(),
            checks: health::Checks::default(),
            describing: tokio::sync::Mutex::default(),
            forgetting: Mutex::default(),
            storage: OnceLock::new(),
        })
    }

    /// What Podman says of a dump or a restore is that a command failed; CRIU's log says why.
    pub(super) fn by_criu(&self, container: &Container, since: SystemTime, refusal: Refusal) -> Refusal {
        let Some(log) = self.criu_log(container, since) else { return refusal };
        let refusal = match criu_log::reason(&log) {
            Some(reason) => Refusal {
                reason: format!("CRIU failed on {}: {reason}", container.name),
                remedy: format!(
                    "mose check {} says what CRIU cannot move; its log says more",
                    container.name
                ),
                ..refusal
            },
            None => refusal,
        };
        refusal.with_log(Some(&log))
    }

    /// Gives an image a name; whether it can bear one.
    async fn name_image(&self, image_id: &str, name: &str) -> Result<bool, Refusal> {
        let Some((repo, tag)) = repository_and_tag(name) else { return Ok(false) };
        let path = format!("/images/{image_id}/tag?repo={repo}&tag={tag}");
        self.socket.post("name an image", &path, None, CALL_DEADLINE).await?;
        Ok(true)
    }

    /// Removes a container by its id, and the secrets that came with it.
    async fn remove(&self, id: &str, name: &ServiceName) -> Result<(), Refusal> {
        if let Ok(inspect) = self.inspect_raw(id).await {
            self.hooks.forget(id);
            // One that an agent stopped and then died.
            if let Some(conmon) = Conmon::of(&inspect).filter(|conmon| conmon.is_stopped()) {
                conmon.end();
            }
        }
        let handle = self.podman.containers().get(id);
        let options = ContainerDeleteOpts::builder().force(true).timeout(0).build();
        match self.call(&format!("remove {name}"), CALL_DEADLINE, handle.delete(&options)).await {
            Err(refusal) if refusal.code != RefusalCode::UnknownService => return Err(refusal),
            _ => {}
        }
        runtime_state::remove(id).await?;
        secrets::remove(&self.socket, name).await
    }

    async fn inspect_raw(&self, name: &str) -> Result<Value, Refusal> {
        self.socket.get(&format!("inspect {name}"), &format!("/containers/{name}/json")).await.map_err(
            |refusal| match refusal.code {
                RefusalCode::UnknownService => Refusal::new(
                    RefusalCode::UnknownService,
                    format!("no container is named {name} here"),
                    "`mose services` lists what runs where",
                ),
                _ => refusal,
            },
        )
    }
}

/// The OCI configuration of a container, beside its checkpoint folder.
fn runtime_config(container: &Container) -> Result<Value, Refusal> {
    essence::runtime_config(&container.checkpoint.with_file_name("config.json"))
}

/// CRIU's statistics (microseconds) out of libpod's report.
fn criu_times(report: &Value) -> CriuTimes {
    let statistics = &report["criu_statistics"];
    let millis = |key: &str| statistics[key].as_f64().map(|us| Millis(us / 1e3));
    CriuTimes {
        freezing: millis("freezing_time"),
        frozen: millis("frozen_time"),
        memdump: millis("memdump_time"),
        memwrite: millis("memwrite_time"),
        restore: millis("restore_time"),
        pages_written: statistics["pages_written"].as_u64(),
    }
}

/// A failure of the file system, as a refusal.
fn io_refusal(what: &str, error: &std::io::Error) -> Refusal {
    Refusal::new(RefusalCode::Failed, format!("{what}: {error}"), "")
}

/// The pid of a container that must be running.
fn pid_of(container: &Container) -> Result<u32, Refusal> {
    container.pid.ok_or_else(|| {
        Refusal::new(
            RefusalCode::NotRunning,
            format!("{} does not run", container.name),
            "start it, then migrate it",
        )
    })
}

#[async_trait]
impl Engine for PodmanEngine {
    async fn tools(&self) -> Result<Vec<(String, String)>, Refusal> {
        let info = self.socket.get("say its versions", "/info").await?;
        let text = |value: &Value| value.as_str().unwrap_or("?").lines().next().unwrap_or("?").to_owned();
        Ok(vec![
            ("podman".into(), text(&info["version"]["Version"])),
            ("runtime".into(), text(&info["host"]["ociRuntime"]["version"])),
            ("kernel".into(), text(&info["host"]["kernel"])),
        ])
    }

    async fn doctor(&self, room: Bytes) -> Vec<Check> {
        doctor::checks(&self.socket, room).await
    }

    async fn look(&self, container: &Container) -> Result<Looked, Refusal> {
        looked::look(container, &self.inspect_raw(&container.id).await?).await
    }

    fn machine(&self) -> Option<Machine> {
        Some(mose_movable::machine())
    }

    async fn list(&self) -> Result<Vec<Listed>, Refusal> {
        self.list_all().await
    }

    async fn inspect(&self, name: &ServiceName) -> Result<Container, Refusal> {
        let found = container(name, &self.inspect_raw(name.as_str()).await?)?;
        if let Some(storage) = inspect::folder_of(&found).ancestors().nth(2) {
            self.storage.get_or_init(|| storage.to_owned());
        }
        Ok(found)
    }

    async fn describe(&self, task: &Task, container: &Container) -> Result<Described, Refusal> {
        self.describe_whole(task, container).await
    }

    async fn state_trees(&self, task: &Task, container: &Container) -> Result<Vec<StateTree>, Refusal> {
        let inspect = self.inspect_raw(&container.id).await?;
        let mut trees = beside::trees(&inspect, &runtime_config(container)?);
        trees.extend(binds::trees(task, &inspect));
        Ok(trees)
    }

    async fn arriving_trees(
        &self,
        task: &Task,
        container: &Container,
        description: &ContainerDescription,
    ) -> Result<Vec<StateTree>, Refusal> {
        let inspect = self.inspect_raw(&container.id).await?;
        let mut trees = beside::trees(&inspect, &runtime_config(container)?);
        trees.extend(binds::arriving(task, &description.binds));
        Ok(trees)
    }

    async fn adopt(&self, task: &Task, description: &ContainerDescription) -> Result<(), Refusal> {
        binds::adopt(task, &description.binds)
    }

    async fn files_size(&self, container: &Container) -> Result<Option<Bytes>, Refusal> {
        let inspect = self.inspect_raw(&container.id).await?;
        beside::size(beside::trees(&inspect, &runtime_config(container)?)).await
    }

    fn mapped_files(&self, container: &Container) -> HashSet<u64> {
        beside::mapped(container)
    }

    async fn admit(&self, task: &Task, described: &Described) -> Result<(), Refusal> {
        self.look_at(task, described).await
    }

    async fn rehearse(&self, task: &Task, described: &Described) -> Result<(), Refusal> {
        self.rehearse_with_stand_in(task, described).await
    }

    async fn keep(&self, task: &Task, description: &ContainerDescription) -> Result<(), Refusal> {
        let (copied, binds) = (task.clone(), description.binds.clone());
        aside(move || binds::keep(&copied, &binds)).await?;
        volumes::keep(&self.socket, &description.volumes).await
    }

    async fn remove_volumes(&self, volumes: &[String]) -> Result<(), Refusal> {
        for volume in volumes {
            volumes::remove(&self.socket, volume).await?;
        }
        Ok(())
    }

    async fn has_image(&self, image_id: &str) -> Result<bool, Refusal> {
        match self.socket.get("look for an image", &format!("/images/{image_id}/exists")).await {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.code == RefusalCode::UnknownService => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    async fn export_image(
        &self,
        image: &str,
    ) -> Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>, Refusal> {
        self.socket
            .download("export an image", &format!("/images/{image}/get?format=docker-archive&compress=false"))
            .await
    }

    async fn import_image(&self, archive: &Path, image_id: &str, name: &str) -> Result<(), Refusal> {
        self.socket.upload("load an image", "/images/load", archive).await?;
        if !self.has_image(image_id).await? {
            return Err(Refusal::new(
                RefusalCode::Engine,
                format!("the image {name} came out different when it was loaded"),
                "bring the image to the destination by hand: podman save, podman load",
            ));
        }
        // An archive asked for by id carries no name.
        self.name_image(image_id, name).await.map(drop)
    }

    async fn create(&self, task: &Task, described: &Described) -> Result<Container, Refusal> {
        self.make(task, described).await
    }

    async fn moments(&self, container: &Container, patience: Duration) -> Result<Moments, Refusal> {
        self.hooks.expect(&container.id, patience)
    }

    async fn dump(&self, container: &Container) -> Result<CriuTimes, Refusal> {
        self.checkpoint(container, DumpKind { with_previous: false, goes_on: false }).await
    }

    async fn dump_and_go_on(&self, container: &Container, with_previous: bool) -> Result<CriuTimes, Refusal> {
        self.checkpoint(container, DumpKind { with_previous, goes_on: true }).await
    }

    async fn gone_on(&self, container: &Container) -> Result<(), Refusal> {
        going_on::gone_on(container).await
    }

    async fn forgive_changed_files(&self, container: &Container) -> Result<(), Refusal> {
        let images = container.checkpoint.clone();
        aside(move || {
            images::forgive_sizes(&images).map_err(|error| io_refusal("CRIU's images cannot be read", &error))
        })
        .await
    }

    async fn chain_support(&self) -> Result<(), Refusal> {
        self.chains.support().await
    }

    async fn pre_dump(&self, container: &Container, number: u32) -> Result<PreDumped, Refusal> {
        self.chains.pre_dump(container, number).await
    }

    async fn dump_with_previous(&self, container: &Container) -> Result<CriuTimes, Refusal> {
        self.checkpoint(container, DumpKind { with_previous: true, goes_on: false }).await
    }

    fn releases(&self, container: &Container) -> Result<(), Refusal> {
        self.hooks.releases(&container.id)
    }

    fn leave_alone(&self, container: &Container) {
        self.forget_when_podman_answers(container);
    }

    async fn restore(&self, container: &Container) -> Result<CriuTimes, Refusal> {
        self.restore_from_images(container).await
    }

    async fn restore_hangs(&self, container: &Container, patience: Duration) -> Refusal {
        Restoring::of(container).hangs(patience).await
    }

    async fn wake_restore(&self, container: &Container) -> Option<bool> {
        Restoring::of(container).wake().await
    }

    async fn settle_restore(&self, container: &Container) -> Option<bool> {
        self.settled(container).await
    }

    async fn end_restore(&self, container: &Container) -> Result<(), Refusal> {
        Restoring::of(container).end().await
    }

    fn arrived(&self, task: &Task, description: &ContainerDescription) -> Option<Container> {
        self.made_of(task, description)
    }

    fn live_memory(&self, container: &Container) -> Result<Box<dyn LiveMemory>, Refusal> {
        Ok(Box::new(live::ContainerMemory::of(pid_of(container)?)))
    }

    fn sampler(&self, _: &Container) -> Result<Box<dyn ContainerSampler>, Refusal> {
        Ok(Box::new(sampling::MemorySampling::open()?))
    }

    fn processes(&self, container: &Container) -> Vec<u32> {
        container.pid.map(processes::tree).unwrap_or_default()
    }

    fn unaccepted(&self, container: &Container) -> u32 {
        container.pid.map_or(0, processes::unaccepted)
    }

    fn freeze(&self, container: &Container) -> Result<(), Refusal> {
        freezer::freeze(pid_of(container)?)
            .map_err(|error| io_refusal(&format!("{} cannot be frozen", container.name), &error))
    }

    fn thaw(&self, container: &Container) -> Result<(), Refusal> {
        let Some(pid) = container.pid else { return Ok(()) };
        if let Some(conmon) = Conmon::over(pid) {
            conmon.go_on();
        }
        freezer::thaw(pid)
            .map_err(|error| io_refusal(&format!("{} cannot be thawed", container.name), &error))
    }

    async fn hangs(&self, container: &Container, patience: Duration) -> Refusal {
        AtWork::on(container).hangs(patience).await
    }

    async fn let_go(&self, container: &Container) -> Result<bool, Refusal> {
        AtWork::on(container).let_go().await
    }

    fn exit_watch(&self, container: &Container) -> Result<Box<dyn ExitWatch>, Refusal> {
        let watch = EndWatch::of(pid_of(container)?)
            .map_err(|error| io_refusal(&format!("{} cannot be watched", container.name), &error))?;
        Ok(Box::new(watch))
    }

    async fn discard(&self, container: &Container) -> Result<(), Refusal> {
        self.remove(&container.id, &container.name).await
    }

    async fn discard_arrived(&self, task: &Task, description: &ContainerDescription) -> Result<(), Refusal> {
        // Without an id it was not admitted.
        if let Some(id) = description::id(description) {
            self.remove(id, &task.service).await?;
        }
        let (copied, binds) = (task.clone(), description.binds.clone());
        aside(move || binds::discard(&copied, &binds)).await?;
        volumes::discard(&self.socket, &description.volumes, &task.migration).await
    }

    async fn drop_images(&self, container: &Container) -> Result<(), Refusal> {
        self.chains.remove(container).await?;
        let container = container.clone();
        aside(move || {
            images::remove(&container.checkpoint).map_err(|error| {
                io_refusal(&format!("the images of {} cannot be removed", container.name), &error)
            })
        })
        .await
    }

    fn criu_log(&self, container: &Container, since: SystemTime) -> Option<String> {
        let folder = container.checkpoint.parent()?;
        criu_log::newest([folder.join("dump.log"), folder.join("restore.log"), chain::log_of(folder)], since)
    }

    fn apparmor_profile(&self, described: &ContainerDescription) -> Option<String> {
        description::apparmor_profile(described).map(str::to_owned)
    }

    fn health_check_interval(&self, described: &ContainerDescription) -> Option<Duration> {
        health::health_check_interval(described)
    }

    fn memory(&self, pid: u32) -> Option<(Bytes, u32)> {
        processes::memory(pid)
    }

    fn connections(&self, pid: u32) -> Option<u32> {
        processes::connections(pid)
    }
}
