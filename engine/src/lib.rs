//! Container engines as a hand-over sees them: what the steps of a migration need of one ([`Engine`]), and Podman as one
//! ([`podman`]).
//!
//! It knows containers, their images, files and memory on one host. It knows no agent, no other host and no overlay: an order says
//! where a service comes from and goes to, and is only read.

pub mod aside;
pub mod podman;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use mose_movable::Looked;
use mose_pam::Bytes;
use mose_protocol::check::Machine;
use mose_protocol::container::ContainerDescription;
use mose_protocol::doctor::Check;
use mose_protocol::handover::Task;
use mose_protocol::record::CriuTimes;
use mose_protocol::secret::Secret;
use mose_protocol::{Refusal, RefusalCode, ServiceName};
use mose_transfer::{TakePage, TransferError};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// A container that a hand-over is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// The engine's identity of it.
    pub id: String,
    /// Its name.
    pub name: ServiceName,
    /// Whether it runs.
    pub running: bool,
    /// The first of its processes, in the agent's PID namespace; `None` where it does not run.
    pub pid: Option<u32>,
    /// The network namespace that it was given by path, if it was.
    pub netns: Option<PathBuf>,
    /// Its image's name.
    pub image: String,
    /// Its image's id.
    pub image_id: String,
    /// The folder of its root file system's changes.
    pub rootfs_changes: PathBuf,
    /// The folder where the engine looks for CRIU's images of it.
    pub checkpoint: PathBuf,
}

/// A tree of files that is part of a container's state and lies beside its root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTree {
    /// What it is, as people read it; the same on every host.
    pub name: String,
    /// Its folder on this host.
    pub path: PathBuf,
    /// Where only some names in the folder belong to it: those.
    pub only: Option<Vec<OsString>>,
    /// Whether others than the container's own processes write it, until those are gone.
    pub until_gone: bool,
}

impl StateTree {
    /// A folder on a disk that only the container writes to.
    #[must_use]
    pub fn whole(name: &str, path: PathBuf) -> Self {
        Self { name: name.to_owned(), path, only: None, until_gone: false }
    }
}

/// What another host's engine needs to create the same container.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// The container.
    pub container: ContainerDescription,
    /// The secrets that it was given.
    pub secrets: Vec<Secret>,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: ServiceName,
    /// Whether it runs.
    pub running: bool,
    /// The first of its processes.
    pub pid: Option<u32>,
    /// Its image's name.
    pub image: String,
    /// The network namespace that it was given by path.
    pub netns: Option<PathBuf>,
}

/// A moment of CRIU's work at which it waits for an answer.
#[derive(Debug)]
pub struct Moment {
    /// Which.
    pub stage: Stage,
    /// Lets CRIU go on, or makes it fail. Dropped without an answer, it makes CRIU fail.
    pub answer: tokio::sync::oneshot::Sender<Result<(), String>>,
}

/// The moments that a hand-over acts on (CRIU's action scripts, criu(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing is frozen yet; the dump begins when this is answered.
    PreDump,
    /// Every image file is written; the tasks still stand, and go on if this is answered with an error.
    PostDump,
    /// Every task is restored, its sockets exist and are silent: they are in repair mode (tcp(7)). CRIU ends all of it if this is
    /// answered with an error, and nobody hears of it.
    PostRestore,
    /// The sockets are as any others; the tasks run when this is answered. Answered with an error they end, as they do without an answer
    /// before [`Engine::releases`]. What they say then has to be kept in.
    PreResume,
}

/// The moments of one dump or restore.
pub type Moments = mpsc::Receiver<Moment>;

/// One pre-dump of a chain: the pages that were written to since the one before.
#[derive(Debug, Clone, PartialEq)]
pub struct PreDumped {
    /// The name under which its folder must lie in the destination's checkpoint folder.
    pub name: String,
    /// The folder of its images; complete.
    pub folder: PathBuf,
    /// Pages that were looked at.
    pub looked_at: u64,
    /// Pages that it holds.
    pub pages: u64,
    /// CRIU's times; the service stood still for `freezing` and `frozen`.
    pub times: CriuTimes,
    /// From the order to the complete folder.
    pub took: Duration,
}

/// The end of a container's processes.
#[async_trait]
pub trait ExitWatch: Send {
    /// Returns once none of them is left.
    async fn gone(&mut self);
}

/// The memory of a running container, read without freezing it.
pub trait LiveMemory: Send {
    /// How changed pages are found, as people read it.
    fn means(&self) -> String;

    /// Looks which pages may have changed since the last look: all of them at the first. May take seconds, where many processes
    /// are looked at for the first time.
    ///
    /// # Errors
    /// Where the memory cannot be looked at.
    fn look(&mut self) -> Result<(), TransferError>;

    /// Yields the pages that the last look found. What is written to meanwhile may be yielded torn. Processes that ended are
    /// passed over.
    ///
    /// # Errors
    /// What `take` fails with, or where the memory cannot be read at all.
    fn changed(&mut self, take: &mut TakePage<'_>) -> Result<(), TransferError>;
}

/// Measures a running container's state size and dirty-page rate, step by step, within a budget of its time. Dropping it
/// leaves the container as if it had never been; that may take milliseconds.
pub trait ContainerSampler: Send {
    /// Does what is due at `now`, and says when something is due again. May block for as long as a look takes.
    ///
    /// # Errors
    /// Where no sample could be taken this time.
    fn step(&mut self, now: Instant, processes: &[u32]) -> Result<mose_pages::Next, Refusal>;

    /// What is known so far.
    fn profile(&self) -> mose_pages::DirtyProfile;

    /// How it measures, as people read it.
    fn means(&self) -> String;

    /// What it has cost the container so far.
    fn cost(&self) -> Duration;

    /// How far back the profile looks.
    fn window(&self) -> Duration;
}

/// Container engines as the hand-over sees them.
///
/// A call that fails leaves the container as it was, unless the method says otherwise.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The versions of the engine's parts, by name.
    async fn tools(&self) -> Result<Vec<(String, String)>, Refusal>;

    /// What it finds when it looks at what it stands on, each check within a time of its own; nothing where it stands on nothing
    /// that can break. `room`: what a service that comes may need in the storage of containers.
    async fn doctor(&self, room: Bytes) -> Vec<Check> {
        let _ = room;
        Vec::new()
    }

    /// What of a running container could not be dumped or restored as it is now, or would stay behind; nothing where it has no
    /// processes that are real. The container goes on meanwhile.
    async fn look(&self, container: &Container) -> Result<Looked, Refusal> {
        let _ = container;
        Ok(Looked::default())
    }

    /// What a host has that processes depend on; `None` where no process is real.
    fn machine(&self) -> Option<Machine> {
        None
    }

    /// All containers.
    async fn list(&self) -> Result<Vec<Listed>, Refusal>;

    /// One container by its name.
    async fn inspect(&self, name: &ServiceName) -> Result<Container, Refusal>;

    /// What another host's engine needs to create the same container, or why it cannot be moved. Its `trees` name the
    /// container's [`Engine::state_trees`].
    async fn describe(&self, task: &Task, container: &Container) -> Result<Described, Refusal>;

    /// The state of a container that lies beside its root file system and moves with it, where it is on the order's source.
    async fn state_trees(&self, task: &Task, container: &Container) -> Result<Vec<StateTree>, Refusal> {
        let _ = (task, container);
        Ok(Vec::new())
    }

    /// The same on the order's destination, of a container that [`Engine::create`] made there from the description: where it arrives.
    async fn arriving_trees(
        &self,
        task: &Task,
        container: &Container,
        description: &ContainerDescription,
    ) -> Result<Vec<StateTree>, Refusal> {
        let _ = (task, container, description);
        Ok(Vec::new())
    }

    /// Puts what has arrived beside the root file system into its place, right before the restore.
    async fn adopt(&self, task: &Task, description: &ContainerDescription) -> Result<(), Refusal> {
        let _ = (task, description);
        Ok(())
    }

    /// What the container's [`Engine::state_trees`] take without copied bind mounts; `None` where it has none.
    async fn files_size(&self, container: &Container) -> Result<Option<Bytes>, Refusal> {
        let _ = container;
        Ok(None)
    }

    /// The inode numbers of the files that the container's processes have mapped shared and writable: their times do not tell
    /// what was written to them.
    fn mapped_files(&self, container: &Container) -> HashSet<u64> {
        let _ = container;
        HashSet::new()
    }

    /// Looks whether a container of another host's description could be created here, as far as that shows without its image;
    /// changes nothing.
    async fn admit(&self, task: &Task, described: &Described) -> Result<(), Refusal> {
        let _ = (task, described);
        Ok(())
    }

    /// Refuses a container that would come out different here, though its image is not here yet; leaves nothing. Its endpoint must be
    /// there. What shows only with the image is refused by [`Engine::create`].
    async fn rehearse(&self, task: &Task, described: &Described) -> Result<(), Refusal> {
        let _ = (task, described);
        Ok(())
    }

    /// The service is here for good: what [`Engine::create`] made for it is no left-over.
    async fn keep(&self, task: &Task, description: &ContainerDescription) -> Result<(), Refusal> {
        let _ = (task, description);
        Ok(())
    }

    /// Removes volumes of a service that lives elsewhere now; none of them being there is no error.
    async fn remove_volumes(&self, volumes: &[String]) -> Result<(), Refusal> {
        let _ = volumes;
        Ok(())
    }

    /// Whether an image of that id is there.
    async fn has_image(&self, image_id: &str) -> Result<bool, Refusal>;

    /// The image as an archive.
    async fn export_image(
        &self,
        image: &str,
    ) -> Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>, Refusal>;

    /// Takes an image from an archive.
    async fn import_image(
        &self,
        archive: &std::path::Path,
        image_id: &str,
        name: &str,
    ) -> Result<(), Refusal>;

    /// Creates a container from another host's description, ready for its images, not running. Secrets that the store here
    /// lacks are put there, and removed by [`Engine::discard`].
    async fn create(&self, task: &Task, described: &Described) -> Result<Container, Refusal>;

    /// The moments of the dump or restore of a container that is about to begin. Until the receiver is
    /// dropped, CRIU fails rather than goes on without an answer. Where the service stands still it waits for one for `patience`.
    async fn moments(&self, container: &Container, patience: Duration) -> Result<Moments, Refusal>;

    /// Dumps the container into its checkpoint folder; it does not run afterwards, and its images are kept.
    async fn dump(&self, container: &Container) -> Result<CriuTimes, Refusal>;

    /// As [`Engine::dump`], or as [`Engine::dump_with_previous`]; but the container goes on running, whatever comes of it.
    /// [`Engine::gone_on`] is to be called once the last moment is answered: it stands still until then.
    async fn dump_and_go_on(&self, container: &Container, with_previous: bool) -> Result<CriuTimes, Refusal>;

    /// Returns once the processes of a container that was dumped to go on do so. Asks nobody who may hang himself, and has a deadline.
    async fn gone_on(&self, container: &Container) -> Result<(), Refusal> {
        self.thaw(container)
    }

    /// Has the restore of a container not fail over a file that is longer or shorter than when it was dumped. For a rehearsal, which
    /// comes to nothing: the service went on, and may have written to files that were not sent by then.
    async fn forgive_changed_files(&self, container: &Container) -> Result<(), Refusal> {
        let _ = container;
        Ok(())
    }

    /// Whether chains of pre-dumps can be made here, or why not.
    async fn chain_support(&self) -> Result<(), Refusal>;

    /// Makes one pre-dump of a chain, of the running container: `number` 1 begins a new chain, and each other one needs
    /// the one before. The container goes on running, whatever happens; a pre-dump that fails can be tried again. A call that is
    /// dropped goes on to its end. Also while the final dump waits at its first moment.
    async fn pre_dump(&self, container: &Container, number: u32) -> Result<PreDumped, Refusal>;

    /// As [`Engine::dump`], of what was written to since the newest pre-dump of the chain at the time at which the dump's first
    /// moment is answered. There must be a pre-dump before.
    async fn dump_with_previous(&self, container: &Container) -> Result<CriuTimes, Refusal>;

    /// Notes that the held packets are about to be released. From now on the service must run, even if this agent dies: its clients may hear
    /// that it has received what they sent.
    fn releases(&self, container: &Container) -> Result<(), Refusal> {
        let _ = container;
        Ok(())
    }

    /// The hand-over is over, also one that an earlier life of the agent began: soon CRIU no longer asks about the container.
    fn leave_alone(&self, container: &Container) {
        let _ = container;
    }

    /// Restores the container from its checkpoint folder; the images are kept. Pre-dumps of a chain are looked for in the checkpoint
    /// folder, under their names, and, where it was dumped here, where they were made.
    async fn restore(&self, container: &Container) -> Result<CriuTimes, Refusal>;

    /// Returns once a restore that was begun has made no progress for `patience`, with what it hangs in; where that cannot be told,
    /// never.
    async fn restore_hangs(&self, container: &Container, patience: Duration) -> Refusal {
        let _ = (container, patience);
        std::future::pending().await
    }

    /// Has a restore go on whose service was told to run, and lets the service go on where anything holds it; whether it runs then:
    /// `None` while the restore is still at work.
    async fn wake_restore(&self, container: &Container) -> Option<bool> {
        runs_as_inspected(self, container).await
    }

    /// What became of a restore that an earlier life of the agent had begun: whether the service runs here. One whose service was not to run
    /// yet ([`Engine::releases`]) is ended. `None` while another one is still at work.
    async fn settle_restore(&self, container: &Container) -> Option<bool> {
        runs_as_inspected(self, container).await
    }

    /// Ends a restore that is at work, and every process that it or an earlier one has made. Its images stay. Nobody is asked who may
    /// hang, and it has a deadline. To be called once nobody waits for the moments any more.
    async fn end_restore(&self, container: &Container) -> Result<(), Refusal> {
        let _ = container;
        Ok(())
    }

    /// The container that [`Engine::create`] makes, or has made, of a description, as far as that is known without asking anybody: its
    /// identity, its name and where its images are. `None` where it was never admitted.
    fn arrived(&self, task: &Task, description: &ContainerDescription) -> Option<Container>;

    /// The container's memory, to be read while it runs. Dropping it leaves the container as if it had never been.
    fn live_memory(&self, container: &Container) -> Result<Box<dyn LiveMemory>, Refusal>;

    /// A sampler of running containers' memory, to be given the processes of one. May block for a moment.
    fn sampler(&self, container: &Container) -> Result<Box<dyn ContainerSampler>, Refusal>;

    /// The container's processes, in the agent's PID namespace; none where it does not run.
    fn processes(&self, container: &Container) -> Vec<u32>;

    /// How many connections wait to be accepted by the container: those cannot be dumped.
    fn unaccepted(&self, container: &Container) -> u32;

    /// Freezes the container's processes at once.
    fn freeze(&self, container: &Container) -> Result<(), Refusal>;

    /// Lets them go on.
    fn thaw(&self, container: &Container) -> Result<(), Refusal>;

    /// Returns once the dump of a container that was frozen has made no progress for `patience`, with what it hangs in; where that
    /// cannot be told, never.
    async fn hangs(&self, container: &Container, patience: Duration) -> Refusal {
        let _ = (container, patience);
        std::future::pending().await
    }

    /// Ends whatever is being done with a container's running processes, without harm to them, and lets them go on; whether they
    /// are still there. To be called once nobody waits for the moments any more. It asks nobody who may hang himself, and has
    /// a deadline.
    async fn let_go(&self, container: &Container) -> Result<bool, Refusal> {
        let container = self.inspect(&container.name).await?;
        if container.running {
            self.thaw(&container)?;
        }
        Ok(container.running)
    }

    /// Watches for the end of the container's last process; to be asked for while it runs.
    fn exit_watch(&self, container: &Container) -> Result<Box<dyn ExitWatch>, Refusal>;

    /// Removes a container, its processes, its images and the secrets that came with it and that nobody else uses; none of
    /// them being there is no error. Another container of the same name is not touched.
    async fn discard(&self, container: &Container) -> Result<(), Refusal>;

    /// Removes what [`Engine::create`] and what came before it have made here for a migration: the container of this description, as with
    /// [`Engine::discard`], and what lies beside it.
    async fn discard_arrived(&self, task: &Task, description: &ContainerDescription) -> Result<(), Refusal>;

    /// Removes CRIU's images of a container, its chain of pre-dumps included.
    async fn drop_images(&self, container: &Container) -> Result<(), Refusal>;

    /// The end of CRIU's own log of what it has done with a container since a time; `None` where it has done nothing.
    fn criu_log(&self, container: &Container, since: SystemTime) -> Option<String>;

    /// The AppArmor profile that a described container is confined by and that must be loaded by hand, if there is one.
    fn apparmor_profile(&self, described: &ContainerDescription) -> Option<String> {
        let _ = described;
        None
    }

    /// How often the health check of a described container runs by itself; `None` if it does not.
    fn health_check_interval(&self, described: &ContainerDescription) -> Option<Duration> {
        let _ = described;
        None
    }

    /// Resident memory of a process tree, and the number of its processes.
    fn memory(&self, pid: u32) -> Option<(Bytes, u32)>;

    /// How many TCP connections with the container of that first process stand; `None` where they are not counted.
    fn connections(&self, pid: u32) -> Option<u32>;
}

/// Whether a container runs, as an engine says that does not hang.
async fn runs_as_inspected(engine: &(impl Engine + ?Sized), container: &Container) -> Option<bool> {
    match engine.inspect(&container.name).await {
        Ok(container) => Some(container.running),
        Err(refusal) if refusal.code == RefusalCode::UnknownService => Some(false),
        Err(_) => None,
    }
}
