//! Making ready for a service: looking whether it could come, its container's image, its container, its namespace, and the transfer.

use std::path::PathBuf;

use mose_coat::EndpointSpec;
use mose_engine::{Container, Described};
use mose_protocol::handover::{ImagePolicy, Place, Prepare, Prepared};
use mose_protocol::step::Step;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{Refusal, RefusalCode, ServiceName};

use super::{Arrival, said_if_left, transfer_refusal};
use crate::agent::Agent;
use crate::overlay::overlay_refusal;
use mose_transfer::{Folders, Receiver, TransferLimits, TreeFolder};

impl Agent {
    /// Refuses what would collide with something that is here already.
    pub(crate) async fn check_free(&self, service: &ServiceName, place: &Place) -> Result<(), Refusal> {
        let conflict = |what: String, remedy: &str| Err(Refusal::new(RefusalCode::Conflict, what, remedy));
        match self.engine.inspect(service).await {
            Ok(_) => {
                return conflict(
                    format!("{} already has a container named {service}", self.config.host),
                    "remove or rename it there",
                );
            }
            Err(refusal) if refusal.code == RefusalCode::UnknownService => {}
            Err(refusal) => return Err(refusal),
        }
        let endpoints = self.overlay.endpoints().await.map_err(|error| overlay_refusal(&error))?;
        if let Some(taken) = endpoints
            .iter()
            .find(|e| e.spec.name == place.name || e.spec.address.addr() == place.address.addr())
        {
            return conflict(
                format!(
                    "{} already has the endpoint {} with {}",
                    self.config.host, taken.spec.name, taken.spec.address
                ),
                "detach it there: mose-agent detach NAME",
            );
        }
        Ok(())
    }
}

impl Arrival {
    /// Looks whether the service could come here; changes nothing.
    pub(super) async fn look_around(&mut self) -> Result<(), Refusal> {
        let (agent, prepare) = (&self.agent, &self.prepare);
        let service = &prepare.task.service;
        if prepare.task.rehearsal && prepare.task.files.overwrite {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                "a rehearsal has no volume give way: what that holds would be lost for nothing",
                "rehearse without --overwrite-volume",
            ));
        }
        agent.check_free(service, &prepare.place).await?;
        agent.engine.admit(&prepare.task, &described(prepare)).await?;
        let needs_image = !agent.engine.has_image(&prepare.image_id).await?;
        if needs_image && prepare.task.image_policy == ImagePolicy::Require {
            return Err(Refusal::new(
                RefusalCode::ImageMissing,
                format!(
                    "{} lacks the image {} of {service}",
                    agent.config.host,
                    prepare.container.image_name().unwrap_or(&prepare.image_id)
                ),
                "pull or load it there, or migrate without --require-image so that the source sends it",
            ));
        }
        self.needs_image = needs_image;
        Ok(())
    }

    /// Takes the container's image, which has come.
    pub(super) async fn take_image(&mut self) -> Result<(), Refusal> {
        let mut receiver = self.receiver.take().ok_or_else(nothing_to_receive)?;
        let archive = receiver.stream_received().await.map_err(|error| transfer_refusal(&error))?;
        receiver.finished().await.map_err(|error| transfer_refusal(&error))?;
        let prepare = &self.prepare;
        let name = prepare.container.image_name().unwrap_or("localhost/unnamed");
        self.agent.engine.import_image(&archive, &prepare.image_id, name).await?;
        said_if_left(&archive, tokio::fs::remove_file(&archive).await);
        said_if_left(&self.no_images(), tokio::fs::remove_dir(self.no_images()).await);
        Ok(())
    }

    /// The file that a migration's container image is received into.
    pub(super) fn image_archive(&self) -> PathBuf {
        self.agent.config.state.join(format!("{}.image.tar", self.prepare.task.migration))
    }

    /// The folder for CRIU's images in a transfer that has none; it stays empty.
    pub(super) fn no_images(&self) -> PathBuf {
        self.agent.config.state.join(format!("{}.no-images", self.prepare.task.migration))
    }

    /// Opens the transfer of the container's image, if the container would come out the same here.
    pub(super) async fn await_image(&mut self) -> Result<Prepared, Refusal> {
        let (agent, prepare) = (&self.agent, &self.prepare);
        let spec = endpoint_spec(&prepare.place)?;
        agent.overlay.attach(&spec, prepare.epoch).await.map_err(|error| overlay_refusal(&error))?;
        let rehearsed = agent.engine.rehearse(&prepare.task, &described(prepare)).await;
        agent.overlay.detach(&spec.name).await.map_err(|error| overlay_refusal(&error))?;
        rehearsed?;
        let folders = Folders { stream: self.image_archive(), images: self.no_images(), trees: Vec::new() };
        self.open_transfer(folders, true).await
    }

    /// Creates container, namespace and port, and opens the transfer of the state.
    pub(super) async fn make_container(&mut self) -> Result<Prepared, Refusal> {
        let steps = self.agent.steps.of(&self.prepare.task.migration);
        steps.started(Step::Prepare);
        let made = async {
            let (agent, prepare) = (&self.agent, &self.prepare);
            let spec = endpoint_spec(&prepare.place)?;
            agent.overlay.attach(&spec, prepare.epoch).await.map_err(|error| overlay_refusal(&error))?;
            agent.overlay.wall(&spec.name).await.map_err(|error| overlay_refusal(&error))?;
            let container = agent.engine.create(&prepare.task, &described(prepare)).await?;
            let folders = Folders {
                stream: self.image_archive(),
                images: container.checkpoint.clone(),
                trees: self.tree_folders(&container).await?,
            };
            self.container = Some(container);
            self.open_transfer(folders, false).await
        };
        let made = made.await;
        steps.end(Step::Prepare, made)
    }

    /// Where the trees of a service are put: the root file system's changes first, then what lies beside it, in the source's order.
    async fn tree_folders(&self, container: &Container) -> Result<Vec<TreeFolder>, Refusal> {
        let prepare = &self.prepare;
        let mut here = self.agent.engine.arriving_trees(&prepare.task, container, &prepare.container).await?;
        let mut folders = vec![TreeFolder::whole(container.rootfs_changes.clone())];
        for name in &prepare.container.trees {
            let Some(at) = here.iter().position(|tree| &tree.name == name) else {
                return Err(Refusal::new(
                    RefusalCode::Unmovable,
                    format!("{} has {name}, and the container that was created here has not", container.name),
                    "run the same releases of MOSE and Podman on both hosts",
                ));
            };
            let tree = here.swap_remove(at);
            folders.push(TreeFolder { path: tree.path, only: tree.only });
        }
        Ok(folders)
    }

    async fn open_transfer(&mut self, folders: Folders, needs_image: bool) -> Result<Prepared, Refusal> {
        let (agent, prepare) = (&self.agent, &self.prepare);
        let config = &agent.config;
        let kind = match prepare.task.transport {
            Some(kind) if config.transports.contains(&kind) => kind,
            Some(kind) => {
                return Err(Refusal::new(
                    RefusalCode::Capability,
                    format!("{} does not receive images over {kind}", config.host),
                    "choose another transport, or let the agents choose",
                ));
            }
            None => config.transports.first().copied().unwrap_or(TransportKind::Tcp),
        };
        let (receiver, offer) = Receiver::open(
            kind,
            config.underlay,
            Some(agent.bulk.clone()),
            prepare.task.migration.as_str(),
            folders,
            TransferLimits { total: prepare.limit.0, ..TransferLimits::default() },
        )
        .await
        .map_err(|error| transfer_refusal(&error))?;
        self.receiver = Some(receiver);
        Ok(Prepared { offer, needs_image })
    }
}

/// What the machine never asks for, as it comes in another order.
pub(super) fn nothing_to_receive() -> Refusal {
    Refusal::new(RefusalCode::Failed, "a step of the hand-over came too early: nothing is being received", "")
}

/// What came of a container, for the engine.
fn described(prepare: &Prepare) -> Described {
    Described { container: prepare.container.clone(), secrets: prepare.secrets.clone() }
}

/// A place as the overlay knows it.
pub(crate) fn endpoint_spec(place: &Place) -> Result<EndpointSpec, Refusal> {
    Ok(EndpointSpec {
        name: place.name.clone(),
        address: place.address,
        mac: place.mac.parse().map_err(|error: mose_coat::MacAddrError| {
            Refusal::new(RefusalCode::Malformed, error.to_string(), "")
        })?,
    })
}
