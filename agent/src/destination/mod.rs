//! The destination's side of a hand-over.
//!
//! It owns nothing before the source relinquishes. From then on the service is this host's, until it has said
//! *refused*, after which it will never run here by that hand-over. What it says is on disk before it is said.

mod refuse;
mod take_over;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mose_coat::{Change, EndpointSpec, Route};
use mose_pam::Bytes;
use mose_protocol::handover::{HandoverState, ImagePolicy, Place, Prepare, Prepared};
use mose_protocol::step::Step;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{MigrationId, Refusal, RefusalCode, ServiceName};
use mose_transfer::{Folders, Limits, Progress, Receiver, TreeFolder};
use tokio::sync::Mutex;

use crate::agent::{Agent, overlay_refusal};
use crate::engine::{Container, Described};
use crate::journal::{DestinationState, Journal};

/// How long a hand-over may stand still before the destination drops its preparation. It owns nothing then.
const IDLE_DEADLINE: Duration = Duration::from_secs(180);

/// A migration that comes to this host.
pub(crate) struct Incoming {
    prepare: Prepare,
    open: std::sync::atomic::AtomicBool,
    inner: Mutex<Inner>,
    /// What it would say, readable while `inner` is busy.
    said: std::sync::Mutex<HandoverState>,
}

struct Inner {
    journal: Option<Journal<DestinationState>>,
    container: Option<Container>,
    receiver: Option<Receiver>,
    prepared: Option<Prepared>,
    touched: tokio::time::Instant,
    progress: Progress,
}

impl Incoming {
    fn new(prepare: Prepare, journal: Journal<DestinationState>, state: HandoverState) -> Arc<Self> {
        let open = !matches!(state, HandoverState::Restored(_) | HandoverState::Refused(_));
        Arc::new(Self {
            prepare,
            open: open.into(),
            inner: Mutex::new(Inner {
                journal: Some(journal),
                container: None,
                receiver: None,
                prepared: None,
                touched: tokio::time::Instant::now(),
                progress: Progress::default(),
            }),
            said: std::sync::Mutex::new(state),
        })
    }

    /// The service that comes.
    pub(crate) fn service(&self) -> &ServiceName {
        &self.prepare.task.service
    }

    /// Whether it is still on its way.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn said(&self) -> HandoverState {
        self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Puts a state on disk, then into what is said.
    fn say(&self, inner: &mut Inner, state: HandoverState) -> Result<(), Refusal> {
        if let Some(journal) = &mut inner.journal {
            journal.write(&state)?;
        }
        if matches!(state, HandoverState::Restored(_) | HandoverState::Refused(_)) {
            self.open.store(false, std::sync::atomic::Ordering::Relaxed);
        }
        *self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = state;
        Ok(())
    }
}

fn out_of_turn(migration: &MigrationId, state: &HandoverState) -> Refusal {
    let name = match state {
        HandoverState::Unknown => "unknown",
        HandoverState::Preparing => "being prepared",
        HandoverState::Restoring => "being restored",
        HandoverState::Restored(_) => "restored",
        HandoverState::Refused(_) => "refused",
    };
    Refusal::new(
        RefusalCode::OutOfTurn,
        format!("the destination cannot do this to migration {migration}, which is {name} there"),
        "",
    )
}

impl Agent {
    fn incoming(&self, migration: &MigrationId) -> Option<Arc<Incoming>> {
        self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(migration).cloned()
    }

    fn coming(&self, migration: &MigrationId) -> Result<Arc<Incoming>, Refusal> {
        self.incoming(migration).ok_or_else(|| out_of_turn(migration, &HandoverState::Unknown))
    }

    /// Keeps a hand-over at hand.
    pub(crate) fn note_incoming(&self, migration: MigrationId, incoming: Arc<Incoming>) {
        self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(migration, incoming);
    }

    /// Makes ready for a service: everything but its state. Nothing of it is seen by the service.
    pub(crate) async fn prepare(self: &Arc<Self>, prepare: Prepare) -> Result<Prepared, Refusal> {
        let migration = prepare.task.migration.clone();
        if let Some(known) = self.incoming(&migration) {
            let inner = known.inner.lock().await;
            if let HandoverState::Refused(refusal) = known.said() {
                return Err(refusal);
            }
            return inner.prepared.clone().ok_or_else(|| out_of_turn(&migration, &known.said()));
        }
        let service = prepare.task.service.clone();
        self.end_earlier(&prepare).await;
        self.check_free(&service, &prepare.place).await?;
        self.engine.admit(&prepare.task, &described(&prepare)).await?;
        let needs_image = !self.engine.has_image(&prepare.image_id).await?;
        if needs_image && prepare.task.image_policy == ImagePolicy::Require {
            return Err(Refusal::new(
                RefusalCode::ImageMissing,
                format!(
                    "{} lacks the image {} of {service}",
                    self.config.host,
                    prepare.image_name().unwrap_or(&prepare.image_id)
                ),
                "pull or load it there, or migrate without --require-image so that the source sends it",
            ));
        }
        let journal = self.journals.begin_destination(&prepare)?;
        let incoming = Incoming::new(prepare, journal, HandoverState::Preparing);
        self.note_incoming(migration.clone(), incoming.clone());
        tokio::spawn(self.clone().drop_if_idle(migration.clone()));
        let mut inner = incoming.inner.lock().await;
        let prepared = if needs_image {
            self.await_image(&incoming, &mut inner).await
        } else {
            self.make_ready(&incoming, &mut inner).await
        };
        match prepared {
            Ok(prepared) => Ok(prepared),
            Err(refusal) => {
                self.refuse(&incoming, &mut inner, &refusal).await?;
                Err(refusal)
            }
        }
    }

    /// Refuses what would collide with something that is here already.
    pub(crate) async fn check_free(&self, service: &ServiceName, place: &Place) -> Result<(), Refusal> {
        let conflict = |what: String, remedy: &str| Err(Refusal::new(RefusalCode::Conflict, what, remedy));
        if self.busy_with(service).is_some() {
            return conflict(
                format!("another migration of {service} is under way on {}", self.config.host),
                "wait for its end (`mose watch`)",
            );
        }
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

    /// The file that a migration's container image is received into.
    fn image_archive(&self, migration: &MigrationId) -> PathBuf {
        self.config.state.join(format!("{migration}.image.tar"))
    }

    /// The folder for CRIU's images in a transfer that has none; it stays empty.
    fn no_images(&self, migration: &MigrationId) -> PathBuf {
        self.config.state.join(format!("{migration}.no-images"))
    }

    /// Opens the transfer of the container's image, if the container would come out the same here.
    async fn await_image(&self, incoming: &Incoming, inner: &mut Inner) -> Result<Prepared, Refusal> {
        let prepare = &incoming.prepare;
        let migration = &prepare.task.migration;
        let spec = endpoint_spec(&prepare.place)?;
        self.overlay.attach(&spec, prepare.epoch).await.map_err(|error| overlay_refusal(&error))?;
        let rehearsed = self.engine.rehearse(&prepare.task, &described(prepare)).await;
        self.overlay.detach(&spec.name).await.map_err(|error| overlay_refusal(&error))?;
        rehearsed?;
        let folders = Folders {
            stream: self.image_archive(migration),
            images: self.no_images(migration),
            trees: Vec::new(),
        };
        let prepared = self.open_transfer(prepare, inner, folders, true).await?;
        inner.prepared = Some(prepared.clone());
        Ok(prepared)
    }

    async fn open_transfer(
        &self,
        prepare: &Prepare,
        inner: &mut Inner,
        folders: Folders,
        needs_image: bool,
    ) -> Result<Prepared, Refusal> {
        let kind = match prepare.task.transport {
            Some(kind) if self.config.transports.contains(&kind) => kind,
            Some(kind) => {
                return Err(Refusal::new(
                    RefusalCode::Capability,
                    format!("{} does not receive images over {kind}", self.config.host),
                    "choose another transport, or let the agents choose",
                ));
            }
            None => self.config.transports.first().copied().unwrap_or(TransportKind::Tcp),
        };
        let (receiver, offer) = Receiver::open(
            kind,
            self.config.underlay,
            Some(self.bulk.clone()),
            prepare.task.migration.as_str(),
            folders,
            Limits { total: prepare.limit.0, ..Limits::default() },
        )
        .await
        .map_err(|error| transfer_refusal(&error))?;
        inner.receiver = Some(receiver);
        inner.touched = tokio::time::Instant::now();
        Ok(Prepared { offer, needs_image })
    }

    /// The container's image is all here.
    pub(crate) async fn create(self: &Arc<Self>, migration: &MigrationId) -> Result<Prepared, Refusal> {
        let incoming = self.coming(migration)?;
        let mut inner = incoming.inner.lock().await;
        match (&inner.prepared, incoming.said()) {
            (Some(prepared), HandoverState::Preparing) if !prepared.needs_image => {
                return Ok(prepared.clone());
            }
            (Some(_), HandoverState::Preparing) => {}
            (_, state) => return Err(out_of_turn(migration, &state)),
        }
        let created = async {
            let prepare = &incoming.prepare;
            let mut receiver =
                inner.receiver.take().ok_or_else(|| out_of_turn(migration, &incoming.said()))?;
            let archive = receiver.stream_received().await.map_err(|error| transfer_refusal(&error))?;
            receiver.finished().await.map_err(|error| transfer_refusal(&error))?;
            let name = prepare.image_name().unwrap_or("localhost/unnamed");
            self.engine.import_image(&archive, &prepare.image_id, name).await?;
            remove_file(&archive);
            let _ = std::fs::remove_dir(self.no_images(migration));
            self.make_ready(&incoming, &mut inner).await
        }
        .await;
        if let Err(refusal) = &created {
            self.refuse(&incoming, &mut inner, refusal).await?;
        }
        created
    }

    /// Creates container, namespace and port, and opens the transfer of the state.
    async fn make_ready(&self, incoming: &Incoming, inner: &mut Inner) -> Result<Prepared, Refusal> {
        let prepare = &incoming.prepare;
        let steps = self.steps.of(&prepare.task.migration);
        steps.started(Step::Prepare);
        let made = async {
            let spec = endpoint_spec(&prepare.place)?;
            self.overlay.attach(&spec, prepare.epoch).await.map_err(|error| overlay_refusal(&error))?;
            let container = self.engine.create(&prepare.task, &described(prepare)).await?;
            let folders = Folders {
                stream: self.image_archive(&prepare.task.migration),
                images: container.checkpoint.clone(),
                trees: self.tree_folders(prepare, &container).await?,
            };
            inner.container = Some(container);
            self.open_transfer(prepare, inner, folders, false).await
        };
        let prepared = steps.end(Step::Prepare, made.await)?;
        inner.prepared = Some(prepared.clone());
        Ok(prepared)
    }

    /// Where the trees of a service are put: the root file system's changes first, then what lies beside it, in the source's order.
    async fn tree_folders(
        &self,
        prepare: &Prepare,
        container: &Container,
    ) -> Result<Vec<TreeFolder>, Refusal> {
        let mut here = self.engine.arriving_trees(&prepare.task, container, &prepare.container).await?;
        let mut folders = vec![TreeFolder::whole(container.rootfs_changes.clone())];
        for name in tree_names(&prepare.container) {
            let Some(at) = here.iter().position(|tree| tree.name == name) else {
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

    /// Holds what comes for the service from now on, until it is back.
    pub(crate) async fn hold(&self, migration: &MigrationId) -> Result<(), Refusal> {
        let incoming = self.coming(migration)?;
        let said = incoming.said();
        if said != HandoverState::Preparing {
            return Err(out_of_turn(migration, &said));
        }
        let prepare = &incoming.prepare;
        let change = self.overlay.route(prepare.place.address.addr(), Route::Hold, prepare.epoch).await;
        match change.map_err(|error| overlay_refusal(&error))? {
            Change::Applied { .. } | Change::Unchanged => Ok(()),
            Change::Stale { current } => Err(Refusal::new(
                RefusalCode::Overlay,
                format!(
                    "{} has a newer route (epoch {current}) for {} than this hand-over ({})",
                    self.config.host, prepare.place.address, prepare.epoch
                ),
                "migrate again",
            )),
        }
    }
}

/// What came of a container, for the engine.
fn described(prepare: &Prepare) -> Described {
    Described { container: prepare.container.clone(), secrets: prepare.secrets.clone() }
}

/// The names of the trees beside the root file system, in the order of their numbers.
pub(crate) fn tree_names(description: &serde_json::Value) -> impl Iterator<Item = &str> {
    description["trees"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str)
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

/// The transfer's error as a refusal.
pub(crate) fn transfer_refusal(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Failed, error.to_string(), "migrate again")
}

fn remove_file(path: &std::path::Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "a file is left over");
        }
        _ => {}
    }
}

/// The most that a service's state and root file system changes may amount to.
pub(crate) const STATE_LIMIT: Bytes = Bytes(1 << 38);
