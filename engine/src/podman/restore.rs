//! Asking Podman for a restore.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mose_protocol::Refusal;
use mose_protocol::container::ContainerDescription;
use mose_protocol::handover::Task;
use mose_protocol::record::CriuTimes;

use super::conmon::Conmon;
use super::restoring::Restoring;
use super::{
    CRIU_DEADLINE, PodmanEngine, cgroup_image, chain, criu_times, description, images, io_refusal, places,
    removable, runtime_config, sysctls,
};
use crate::Container;

/// Where Podman keeps what belongs to containers, unless it is found to be elsewhere.
const STORAGE: &str = "/var/lib/containers/storage/overlay-containers";

/// How long a Podman that has woken up may take to have CRIU begin with what it was asked for.
const AWAKE: Duration = Duration::from_secs(5);

impl PodmanEngine {
    /// Restores a container from its checkpoint folder.
    pub(super) async fn restore_from_images(&self, container: &Container) -> Result<CriuTimes, Refusal> {
        if let Err(refusal) = self.mend_for_restore(container).await {
            // CRIU will never ask.
            self.hooks.forget(&container.id);
            return Err(refusal);
        }
        let begun = SystemTime::now();
        let report = self.ask_for_restore(container).await;
        let report = report.map_err(|refusal| self.by_criu(container, begun, refusal))?;
        self.checks.go_on(&self.socket, &container.id);
        Ok(criu_times(&report))
    }

    /// Puts right what the images, and Podman's folder of the container, have to be like.
    async fn mend_for_restore(&self, container: &Container) -> Result<(), Refusal> {
        cgroup_image::adopt(&container.checkpoint, &container.id)
            .map_err(|error| io_refusal("CRIU's cgroup image cannot be adapted", &error))?;
        let runtime = runtime_config(container)?;
        let taken = |path: &Path| places::has_file(&runtime, &container.rootfs_changes, path);
        images::mend(&container.checkpoint, &taken)
            .map_err(|error| io_refusal("CRIU's images cannot be put right", &error))?;
        if let Some(namespace) = &container.netns {
            sysctls::set(&runtime, namespace).map_err(|error| {
                io_refusal(&format!("the network settings of {} cannot be made", container.name), &error)
            })?;
        }
        chain::join(&container.checkpoint).map_err(|error| {
            io_refusal(&format!("the images of {} cannot be used", container.name), &error)
        })?;
        self.keep_own_files(container, &runtime)?;
        if removable::is_removable(&runtime)
            && let Some(conmon) = Conmon::of(&self.inspect_raw(&container.id).await?)
        {
            // It would have the restored container removed when it goes on.
            conmon.end();
        }
        // An earlier one's, which would be taken for this one's.
        let _ = std::fs::remove_file(container.checkpoint.with_file_name("restore.log"));
        Ok(())
    }

    /// What became of a restore that an earlier life had begun.
    pub(super) async fn settled(&self, container: &Container) -> Option<bool> {
        let restoring = Restoring::of(container);
        let runs = restoring.has_ended().await;
        match (self.hooks.is_unreleased(&container.id), runs) {
            (_, Some(false)) => runs,
            (true, _) => {
                tracing::warn!(service = %container.name, "a restore that nobody waits for is ended");
                let ended = restoring.end().await;
                ended.inspect_err(|refusal| tracing::error!(%refusal, "it does not end")).ok().map(|()| false)
            }
            (false, Some(true)) => runs,
            (false, None) => restoring.wake().await,
        }
    }

    /// The container that is made of a description, by its identity alone.
    pub(super) fn made_of(&self, task: &Task, description: &ContainerDescription) -> Option<Container> {
        let id = description::id(description)?;
        let storage = self.storage.get().map_or(Path::new(STORAGE), PathBuf::as_path);
        let folder = storage.join(id).join("userdata");
        Some(Container {
            id: id.to_owned(),
            name: task.service.clone(),
            running: false,
            pid: None,
            netns: None,
            image: String::new(),
            image_id: String::new(),
            rootfs_changes: PathBuf::new(),
            checkpoint: folder.join("checkpoint"),
        })
    }

    /// Removes what an earlier life of the agent had CRIU ask for, unless this one waits for something. A Podman that hangs may still have a
    /// dump to begin that was asked for then, and that dump must find that nobody wants it.
    pub(super) fn forget_when_podman_answers(&self, container: &Container) {
        let (socket, hooks, id) = (self.socket.clone(), self.hooks.clone(), container.id.clone());
        if !hooks.is_left_over(&id) {
            return;
        }
        self.forgetting.lock().spawn(async move {
            while socket.get("say its version", "/version").await.is_err() {
                tokio::time::sleep(AWAKE).await;
            }
            tokio::time::sleep(AWAKE).await;
            if hooks.is_left_over(&id) {
                hooks.forget(&id);
            }
        });
    }

    /// What Podman says of a restore.
    async fn ask_for_restore(&self, container: &Container) -> Result<serde_json::Value, Refusal> {
        let what = format!("restore {}", container.name);
        let query = "keep=true&tcpEstablished=true&fileLocks=true&printStats=true";
        let path = format!("/containers/{}/restore?{query}", container.id);
        let socket = self.socket.clone();
        let restore = async move { socket.post(&what, &path, None, CRIU_DEADLINE).await };
        let report = self.hooks.to_the_end(&container.id, restore, Result::is_ok).await;
        report.unwrap_or_else(|| Err(self.socket.unreachable(&"the call was lost")))
    }
}
