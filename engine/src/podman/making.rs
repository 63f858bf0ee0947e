//! Describing a container to another host, and making one of such a description.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use mose_protocol::container::ContainerDescription;
use mose_protocol::handover::Task;
use mose_protocol::{Refusal, RefusalCode, ServiceName};
use podman_api::opts::ContainerStopOpts;
use serde_json::Value;

use super::conmon::Conmon;
use super::description::{self, essence, export, import, secrets};
use super::inspect::{container, folder_of};
use super::{
    CALL_DEADLINE, PodmanEngine, beside, binds, hooks, images, io_refusal, own_files, runtime_config, volumes,
};
use crate::aside::aside;
use crate::{Container, Described, Engine};

/// How long Podman may take to take a container down that was only initialised. The service still runs at the source, and one whose
/// clean-up is killed half-way remembers a stop.
const TAKING_DOWN: Duration = Duration::from_secs(80);

impl PodmanEngine {
    /// All that another host needs to make the same container, or why it cannot be moved.
    pub(super) async fn describe_whole(
        &self,
        task: &Task,
        container: &Container,
    ) -> Result<Described, Refusal> {
        hooks::check_configured()?;
        let name = container.name.as_str();
        let inspect = self.inspect_raw(&container.id).await?;
        let config = {
            let _turn = self.describing.lock().await;
            export::export(&self.socket, container).await?
        };
        description::check(name, &inspect, &config)?;
        let runtime = runtime_config(container)?;
        let secrets = secrets::gather(&self.socket, &container.name, &config, folder_of(container)).await?;
        let volumes = volumes::describe(&self.socket, name, &inspect).await?;
        let binds = {
            let (name, inspect, task) = (name.to_owned(), inspect.clone(), task.clone());
            aside(move || binds::describe(&name, &inspect, &task)).await?
        };
        let essence = essence::essence(&runtime, &config, &container.id);
        let trees = beside::trees(&inspect, &runtime).into_iter().chain(binds::trees(task, &inspect));
        let container = ContainerDescription {
            image: container.image.clone(),
            config,
            essence,
            volumes,
            binds,
            trees: trees.map(|tree| tree.name).collect(),
            simulated: false,
        };
        Ok(Described { container, secrets })
    }

    /// Refuses what could not be made here, or would come out different, as far as that shows without the container's image.
    pub(super) async fn look_at(&self, task: &Task, described: &Described) -> Result<(), Refusal> {
        let description = &described.container;
        self.check_id_is_free(description::sound(description)?).await?;
        binds::admit(task, &description.binds)?;
        volumes::admit(&self.socket, &description.volumes, task.files.overwrite).await?;
        secrets::admit(&self.socket, &task.service, &described.secrets).await?;
        // Podman cannot say while its storage changes; what comes out is compared again once it is made.
        let Ok(info) = self.socket.get("say what its runtime is", "/info").await else { return Ok(()) };
        let (wanted, found) = (&description.config["runtime"], &info["host"]["ociRuntime"]["name"]);
        if wanted == found {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::Unmovable,
            format!(
                "{} would come out different here: OCI runtime: {found} instead of {wanted}",
                task.service
            ),
            "give both hosts the same `runtime` in containers.conf",
        ))
    }

    /// Refuses a container whose id another one has here, under whatever name: what a migration makes is removed by its id.
    async fn check_id_is_free(&self, id: &str) -> Result<(), Refusal> {
        match self.inspect_raw(id).await {
            Ok(found) => Err(Refusal::new(
                RefusalCode::Conflict,
                format!("a container with the id {id} is here already, named {}", found["Name"]),
                "remove it there: podman rm",
            )),
            Err(refusal) if refusal.code == RefusalCode::UnknownService => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Makes a container of another host's description, with what belongs to it, ready for its images.
    pub(super) async fn make(&self, task: &Task, described: &Described) -> Result<Container, Refusal> {
        hooks::check_configured()?;
        let name = &task.service;
        description::sound(&described.container)?;
        let mut config = described.container.config.clone();
        self.name_its_image(&mut config).await?;
        self.import(task, described, &mut config).await?;
        self.initialise(name).await?;
        self.take_down(name).await?;
        let inspect = self.inspect_raw(name.as_str()).await?;
        let container = container(name, &inspect)?;
        secrets::give(&described.secrets, folder_of(&container))
            .map_err(|error| io_refusal(&format!("a secret of {name} cannot be given to it"), &error))?;
        config["runtime"] = inspect["OCIRuntime"].clone();
        let runtime = runtime_config(&container)?;
        let found = essence::essence(&runtime, &config, &container.id);
        let differences = essence::differences(&described.container.essence, &found);
        if !differences.is_empty() {
            return Err(different(name, &differences));
        }
        beside::mount_shm(&inspect, &runtime)?;
        make_room_for_images(&container)?;
        Ok(container)
    }

    /// Has Podman know a container by its configuration, with what belongs to it.
    pub(super) async fn import(
        &self,
        task: &Task,
        described: &Described,
        config: &mut Value,
    ) -> Result<(), Refusal> {
        let name = &task.service;
        let (volumes, binds) = (&described.container.volumes, &described.container.binds);
        binds::admit(task, binds)?;
        volumes::admit(&self.socket, volumes, task.files.overwrite).await?;
        binds::make(task, binds)?;
        volumes::make(&self.socket, volumes, &task.migration).await?;
        volumes::tell_anonymous(volumes, config);
        secrets::put(&self.socket, name, &described.secrets, config).await?;
        import::import(&self.socket, name, config).await?;
        volumes::mark_anonymous(&self.socket, volumes, &task.migration).await
    }

    /// Has Podman write the OCI configuration that a restore reads; nothing of the service runs by it.
    pub(super) async fn initialise(&self, name: &ServiceName) -> Result<(), Refusal> {
        let handle = self.podman.containers().get(name.as_str());
        self.call(&format!("initialise {name}"), CALL_DEADLINE, handle.init()).await
    }

    /// Has a container's image known by the name that its configuration has: Podman pulls what it does not know by name, though it is
    /// here by its identity.
    async fn name_its_image(&self, config: &mut Value) -> Result<(), Refusal> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (id, name) = (text(&config["rootfsImageID"]), text(&config["rootfsImageName"]));
        if !self.has_image(&name).await? && !self.name_image(&id, &name).await? {
            config["rootfsImageName"] = id.into();
        }
        Ok(())
    }

    /// Takes an initialised container out of the runtime again; its OCI configuration stays.
    ///
    /// REST can only *stop* it, which Podman remembers as the user's will, so that its restart policy would never
    /// act after the restore. The command behind conmon's exit hook leaves no such memory; where it cannot be run,
    /// stopping is what there is. Conmon is ended first: it would have a container that was started with `--rm` removed. Podman finds
    /// fault with its absence after a stop that did what was asked, so that the container's state decides.
    async fn take_down(&self, name: &ServiceName) -> Result<(), Refusal> {
        if let Some(conmon) = Conmon::of(&self.inspect_raw(name.as_str()).await?) {
            conmon.end();
        }
        let cleanup = tokio::process::Command::new("podman")
            .args(["container", "cleanup", name.as_str()])
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(TAKING_DOWN, cleanup).await {
            Ok(Ok(output)) if output.status.success() => return Ok(()),
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                tracing::warn!(%name, said = said.trim(), "podman container cleanup failed; stopping instead");
            }
            Ok(Err(error)) => tracing::warn!(%name, %error, "podman cannot be run; stopping instead"),
            Err(_) => tracing::warn!(%name, "podman container cleanup took too long; stopping instead"),
        }
        let handle = self.podman.containers().get(name.as_str());
        let stop = ContainerStopOpts::builder().timeout(0).build();
        let stopped = self.call(&format!("stop {name}"), CALL_DEADLINE, handle.stop(&stop)).await;
        let Err(refusal) = stopped else { return Ok(()) };
        let state = self.inspect_raw(name.as_str()).await?;
        if is_down(&state) { Ok(()) } else { Err(refusal) }
    }

    /// Has the files that Podman is about to make anew put back as they are, before CRIU restores.
    pub(super) fn keep_own_files(&self, container: &Container, runtime: &Value) -> Result<(), Refusal> {
        let kept = own_files::keep(own_files::places(runtime, &container.id));
        let kept = kept.map_err(|error| {
            io_refusal(&format!("files that Podman made for {} cannot be kept", container.name), &error)
        })?;
        self.hooks.before_restore(&container.id, move || kept.put_back());
        Ok(())
    }
}

/// Whether an inspected container has nothing in the runtime (podman-inspect(1)).
fn is_down(inspect: &Value) -> bool {
    matches!(inspect["State"]["Status"].as_str(), Some("created" | "exited" | "stopped"))
}

/// In what a container would come out different here.
pub(super) fn different(name: &ServiceName, differences: &[String]) -> Refusal {
    Refusal::new(
        RefusalCode::Unmovable,
        format!("{name} would come out different here: {}", differences.join("; ")),
        "give both hosts the same containers.conf, Podman and kernel features",
    )
}

/// An empty checkpoint folder.
fn make_room_for_images(container: &Container) -> Result<(), Refusal> {
    images::remove(&container.checkpoint)
        .map_err(|error| io_refusal("old images cannot be removed", &error))?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&container.checkpoint)
        .map_err(|error| io_refusal("the checkpoint folder cannot be made", &error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_runtime_knows_nothing_of_is_down() {
        let down = |status: &str| is_down(&json!({ "State": { "Status": status } }));
        assert!(down("created") && down("exited") && down("stopped"));
        // podman-inspect(1): what `init` leaves is "initialized".
        assert!(!down("initialized") && !down("running") && !down("stopping"));
        assert!(!is_down(&json!({})));
    }
}
