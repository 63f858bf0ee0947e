//! The destination's side of a hand-over.
//!
//! It owns nothing before the source relinquishes. From then on the service is this host's, until it has said
//! *refused*, after which it will never run here by that hand-over. What it says is on disk before it is said.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mose_coat::{Change, EndpointSpec, Route};
use mose_pam::Bytes;
use mose_protocol::agent::Location;
use mose_protocol::handover::{HandoverState, ImagePolicy, Prepare, Prepared, Restored};
use mose_protocol::record::Outcome;
use mose_protocol::step::Step;
use mose_protocol::transfer::TransportKind;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, ServiceName, Timestamp};
use tokio::sync::Mutex;

use crate::agent::{Agent, overlay_refusal};
use crate::engine::{Container, Moments, Stage};
use crate::journal::{DestinationState, Journal};
use crate::peers::QUICK;
use crate::steps::Note;
use crate::transfer::{Folders, Limits, Progress, Receiver};

/// How long a hand-over may stand still before the destination drops its preparation. It owns nothing then.
const IDLE_DEADLINE: Duration = Duration::from_secs(180);

/// How long after the last byte the digest may take.
const VERIFY_DEADLINE: Duration = Duration::from_secs(30);

/// How often sources are asked about hand-overs that have ended here.
const SETTLED_PERIOD: Duration = Duration::from_secs(5);

/// A migration that comes to this host.
pub(crate) struct Incoming {
    prepare: Option<Prepare>,
    service: ServiceName,
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
        let service = prepare.task.service.clone();
        Self::with(Some(prepare), service, Some(journal), state)
    }

    fn with(
        prepare: Option<Prepare>,
        service: ServiceName,
        journal: Option<Journal<DestinationState>>,
        state: HandoverState,
    ) -> Arc<Self> {
        let open = !matches!(state, HandoverState::Restored(_) | HandoverState::Refused(_));
        Arc::new(Self {
            prepare,
            service,
            open: open.into(),
            inner: Mutex::new(Inner {
                journal,
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
        &self.service
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
        HandoverState::Received => "received",
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
            return inner.prepared.clone().ok_or_else(|| out_of_turn(&migration, &known.said()));
        }
        let service = prepare.task.service.clone();
        self.check_free(&prepare).await?;
        let needs_image = !self.engine.has_image(&prepare.image_id).await?;
        if needs_image && prepare.task.image_policy == ImagePolicy::Require {
            return Err(Refusal::new(
                RefusalCode::ImageMissing,
                format!(
                    "{} lacks the image {} of {service}",
                    self.config.host,
                    prepare.container["spec"]["raw_image_name"].as_str().unwrap_or(&prepare.image_id)
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
    async fn check_free(&self, prepare: &Prepare) -> Result<(), Refusal> {
        let service = &prepare.task.service;
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
        if let Some(taken) = endpoints.iter().find(|e| {
            e.spec.name == prepare.place.name || e.spec.address.addr() == prepare.place.address.addr()
        }) {
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

    /// Opens the transfer of the container's image.
    async fn await_image(&self, incoming: &Incoming, inner: &mut Inner) -> Result<Prepared, Refusal> {
        let prepare = incoming.prepare.as_ref().ok_or_else(|| {
            Refusal::new(RefusalCode::OutOfTurn, "a refused hand-over is not prepared again", "")
        })?;
        let migration = &prepare.task.migration;
        let folders = Folders {
            stream: self.image_archive(migration),
            images: self.config.state.join(format!("{migration}.unused")),
            rootfs: None,
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
            Some(self.session.clone()),
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
    pub(crate) async fn create(&self, migration: &MigrationId) -> Result<Prepared, Refusal> {
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
            let prepare =
                incoming.prepare.as_ref().ok_or_else(|| out_of_turn(migration, &incoming.said()))?;
            let mut receiver =
                inner.receiver.take().ok_or_else(|| out_of_turn(migration, &incoming.said()))?;
            let archive = receiver.stream_received().await.map_err(|error| transfer_refusal(&error))?;
            receiver.finished().await.map_err(|error| transfer_refusal(&error))?;
            let name = prepare.container["spec"]["raw_image_name"].as_str().unwrap_or("localhost/unnamed");
            self.engine.import_image(&archive, &prepare.image_id, name).await?;
            remove_file(&archive);
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
        let prepare = incoming.prepare.as_ref().ok_or_else(|| {
            Refusal::new(RefusalCode::OutOfTurn, "a refused hand-over is not prepared again", "")
        })?;
        let steps = self.steps.of(&prepare.task.migration);
        steps.started(Step::Prepare);
        let made = async {
            let spec = endpoint_spec(&prepare.place)?;
            self.overlay.attach(&spec, prepare.epoch).await.map_err(|error| overlay_refusal(&error))?;
            let container = self.engine.create(&prepare.task.service, &prepare.container).await?;
            let folders = Folders {
                stream: self.image_archive(&prepare.task.migration),
                images: container.checkpoint.clone(),
                rootfs: Some(container.rootfs_changes.clone()),
            };
            inner.container = Some(container);
            self.open_transfer(prepare, inner, folders, false).await
        };
        let prepared = steps.end(Step::Prepare, made.await)?;
        inner.prepared = Some(prepared.clone());
        Ok(prepared)
    }

    /// Holds what comes for the service from now on, until it is back.
    pub(crate) async fn hold(&self, migration: &MigrationId) -> Result<(), Refusal> {
        let incoming = self.coming(migration)?;
        let (Some(prepare), HandoverState::Preparing) = (&incoming.prepare, incoming.said()) else {
            return Err(out_of_turn(migration, &incoming.said()));
        };
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

    /// The service is this host's: restores it.
    pub(crate) async fn take_over(
        &self,
        migration: &MigrationId,
        digest: &str,
    ) -> Result<HandoverState, Refusal> {
        let incoming = self.coming(migration)?;
        // A repeated order finds the first one at work and learns how far it is.
        let Ok(mut inner) = incoming.inner.try_lock() else { return Ok(incoming.said()) };
        match incoming.said() {
            HandoverState::Preparing | HandoverState::Received => {}
            said => return Ok(said),
        }
        let Some(prepare) = &incoming.prepare else { return Ok(incoming.said()) };
        let verified = self.verified(&mut inner, migration, digest).await;
        if let Err(refusal) = verified {
            self.refuse(&incoming, &mut inner, &refusal).await?;
            return Ok(incoming.said());
        }
        incoming.say(&mut inner, HandoverState::Restoring)?;
        match self.bring_back(prepare, &inner).await {
            Ok(restored) => {
                incoming.say(&mut inner, HandoverState::Restored(restored))?;
                if let Some(container) = &inner.container {
                    self.engine.drop_images(container).await.unwrap_or_else(|refusal| {
                        tracing::warn!(%refusal, "images are left over");
                    });
                }
            }
            Err(refusal) => self.refuse(&incoming, &mut inner, &refusal).await?,
        }
        Ok(incoming.said())
    }

    /// Whether the images are all here and are what the source sent.
    async fn verified(
        &self,
        inner: &mut Inner,
        migration: &MigrationId,
        digest: &str,
    ) -> Result<(), Refusal> {
        let mut receiver =
            inner.receiver.take().ok_or_else(|| out_of_turn(migration, &HandoverState::Preparing))?;
        let received = tokio::time::timeout(VERIFY_DEADLINE, receiver.finished())
            .await
            .map_err(|_| {
                Refusal::new(
                    RefusalCode::Failed,
                    format!("the images were not complete within {VERIFY_DEADLINE:?}"),
                    "migrate again",
                )
            })?
            .map_err(|error| transfer_refusal(&error))?;
        if received.digest.to_string() != digest {
            return Err(Refusal::new(
                RefusalCode::Failed,
                format!("the images' digest is {} here and {digest} at the source", received.digest),
                "migrate again; if it happens again, suspect memory or disk",
            ));
        }
        Ok(())
    }

    /// Restores the container, and lets the held segments go the moment its sockets exist.
    async fn bring_back(&self, prepare: &Prepare, inner: &Inner) -> Result<Restored, Refusal> {
        let migration = &prepare.task.migration;
        let steps = self.steps.of(migration);
        let container =
            inner.container.as_ref().ok_or_else(|| out_of_turn(migration, &HandoverState::Preparing))?;
        let started_at = Timestamp::now();
        steps.started_at(Step::Restore, started_at);
        let restored = self
            .restore_behind_guard(container, prepare.place.address.addr(), &prepare.place.name, prepare.epoch)
            .await;
        let (times, release) = match restored {
            Ok(restored) => restored,
            Err(refusal) => {
                steps.failed(Step::Restore, &refusal);
                return Err(refusal);
            }
        };
        let note = Note { detail: times.restore.map(|ms| format!("CRIU {ms}")), bytes: None, at: None };
        steps.finished(Step::Restore, note);
        Ok(Restored {
            started_at,
            released_at: release.at,
            finished_at: Timestamp::now(),
            criu_restore: times.restore,
            held: release.held,
            overflowed: release.overflowed,
        })
    }

    /// Restores a container whose address is held, and turns its route to it when its sockets exist.
    pub(crate) async fn restore_behind_guard(
        &self,
        container: &Container,
        address: std::net::Ipv4Addr,
        endpoint: &str,
        epoch: u64,
    ) -> Result<(mose_protocol::record::CriuTimes, Release), Refusal> {
        let mut moments = self.engine.moments(container).await?;
        let restore = self.engine.restore(container);
        let release = self.release_at_resume(&mut moments, address, endpoint, epoch);
        tokio::pin!(restore);
        tokio::pin!(release);
        let with_log = |mut refusal: Refusal| {
            if let Some(log) = self.engine.criu_log(container).filter(|log| !log.is_empty()) {
                refusal.reason = format!("{}; CRIU's log: {log}", refusal.reason);
            }
            refusal
        };
        tokio::select! {
            // CRIU waits for the release, so it comes first, unless the restore fails before it.
            release = &mut release => {
                let times = restore.await.map_err(with_log)?;
                Ok((times, release?))
            }
            times = &mut restore => {
                let times = times.map_err(with_log)?;
                // The engine has no moments: the service is back all the same.
                let release = self.release(address, endpoint, epoch).await?;
                Ok((times, release))
            }
        }
    }

    async fn release_at_resume(
        &self,
        moments: &mut Moments,
        address: std::net::Ipv4Addr,
        endpoint: &str,
        epoch: u64,
    ) -> Result<Release, Refusal> {
        while let Some(moment) = moments.recv().await {
            if moment.stage == Stage::PreResume {
                let release = self.release(address, endpoint, epoch).await;
                let verdict = release.as_ref().map(|_| ()).map_err(ToString::to_string);
                let _ = moment.answer.send(verdict);
                return release;
            }
            let _ = moment.answer.send(Ok(()));
        }
        // No more moments: the restore's own answer tells what happened.
        std::future::pending().await
    }

    async fn release(
        &self,
        address: std::net::Ipv4Addr,
        endpoint: &str,
        epoch: u64,
    ) -> Result<Release, Refusal> {
        let change = self
            .overlay
            .route(address, Route::Endpoint(endpoint.to_owned()), epoch)
            .await
            .map_err(|error| overlay_refusal(&error))?;
        let (held, overflowed) = match change {
            Change::Applied { released, overflowed } => (released, overflowed),
            Change::Unchanged => (0, 0),
            Change::Stale { current } => {
                return Err(Refusal::new(
                    RefusalCode::Overlay,
                    format!("a newer hand-over (epoch {current}) has the address {address}"),
                    "",
                ));
            }
        };
        Ok(Release { at: Timestamp::now(), held, overflowed })
    }

    /// What this host knows of a hand-over.
    pub(crate) async fn inquire(&self, migration: &MigrationId) -> HandoverState {
        self.incoming(migration).map_or(HandoverState::Unknown, |incoming| incoming.said())
    }

    /// Promises that the service will never run here by this hand-over, unless it does already or is about to.
    pub(crate) async fn withdraw(&self, migration: &MigrationId) -> Result<HandoverState, Refusal> {
        let withdrawn = || {
            Refusal::new(RefusalCode::Failed, "the source took the service back before handing it over", "")
        };
        let Some(incoming) = self.incoming(migration) else {
            let state = HandoverState::Refused(withdrawn());
            let journal = self.journals.begin_refusal(migration, &state)?;
            let nobody: ServiceName = "unknown".parse().map_err(|error: mose_protocol::NameError| {
                Refusal::new(RefusalCode::Failed, error.to_string(), "")
            })?;
            let incoming = Incoming::with(None, nobody, Some(journal), state.clone());
            self.note_incoming(migration.clone(), incoming);
            return Ok(state);
        };
        let Ok(mut inner) = incoming.inner.try_lock() else {
            return match incoming.said() {
                // It is being prepared at this moment: wait for that, then drop it.
                HandoverState::Preparing | HandoverState::Received => {
                    let mut inner = incoming.inner.lock().await;
                    if matches!(incoming.said(), HandoverState::Preparing | HandoverState::Received) {
                        self.refuse(&incoming, &mut inner, &withdrawn()).await?;
                    }
                    Ok(incoming.said())
                }
                said => Ok(said),
            };
        };
        if matches!(incoming.said(), HandoverState::Preparing | HandoverState::Received) {
            self.refuse(&incoming, &mut inner, &withdrawn()).await?;
        }
        Ok(incoming.said())
    }

    /// Removes everything that was made ready, then puts *refused* on disk, then says it.
    async fn refuse(&self, incoming: &Incoming, inner: &mut Inner, reason: &Refusal) -> Result<(), Refusal> {
        tracing::warn!(service = %incoming.service, %reason, "a hand-over is refused");
        if let Some(receiver) = inner.receiver.take() {
            receiver.abort();
        }
        if let Some(prepare) = &incoming.prepare {
            self.remove_preparation(prepare).await?;
        }
        inner.container = None;
        incoming.say(inner, HandoverState::Refused(reason.clone()))
    }

    /// Removes what a preparation has made here; when it returns well, nothing of the service can run here.
    pub(crate) async fn remove_preparation(&self, prepare: &Prepare) -> Result<(), Refusal> {
        self.engine.discard(&prepare.task.service).await?;
        let from = Location {
            address: prepare.place.address.addr(),
            host: prepare.task.from.clone(),
            epoch: prepare.epoch,
        };
        self.locate(&from).await?;
        self.overlay.detach(&prepare.place.name).await.map_err(|error| overlay_refusal(&error))?;
        remove_file(&self.image_archive(&prepare.task.migration));
        Ok(())
    }

    /// The source has heard: the journal is no longer needed.
    pub(crate) async fn close(&self, migration: &MigrationId) {
        let Some(incoming) = self.incoming(migration) else { return };
        if incoming.is_open() {
            return;
        }
        if let Some(journal) = incoming.inner.lock().await.journal.take() {
            journal.close();
        }
        self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(migration);
    }

    /// Closes, for as long as the agent lives, the journals of hand-overs whose source has settled them without our
    /// hearing of it.
    pub(crate) async fn close_settled(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SETTLED_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.session.is_closed() {
                return;
            }
            let ended: Vec<(MigrationId, HostName)> = {
                let incoming = self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let ended = incoming.iter().filter(|(_, incoming)| !incoming.is_open());
                ended
                    .filter_map(|(id, incoming)| {
                        Some((id.clone(), incoming.prepare.as_ref()?.task.from.clone()))
                    })
                    .collect()
            };
            for (migration, source) in ended {
                let record = self.requests.ask(&source, &Request::Record(migration.clone()), QUICK).await;
                if let Ok(Reply::Record(Some(record))) = record
                    && record.outcome != Outcome::InDoubt
                {
                    self.close(&migration).await;
                }
            }
        }
    }

    /// Drops a preparation whose source has fallen silent. It can do no harm: the service is not ours yet.
    async fn drop_if_idle(self: Arc<Self>, migration: MigrationId) {
        loop {
            tokio::time::sleep(IDLE_DEADLINE / 4).await;
            let Some(incoming) = self.incoming(&migration) else { return };
            if !incoming.is_open() {
                return;
            }
            let Ok(mut inner) = incoming.inner.try_lock() else { continue };
            if matches!(incoming.said(), HandoverState::Restoring) {
                return;
            }
            let progress = inner.receiver.as_ref().map(Receiver::progress).unwrap_or_default();
            if progress != inner.progress {
                inner.progress = progress;
                inner.touched = tokio::time::Instant::now();
            }
            if inner.touched.elapsed() > IDLE_DEADLINE {
                let reason = Refusal::new(
                    RefusalCode::Unreachable,
                    format!("the source was silent for {IDLE_DEADLINE:?}"),
                    "migrate again",
                );
                if let Err(refusal) = self.refuse(&incoming, &mut inner, &reason).await {
                    tracing::error!(%refusal, "a preparation cannot be removed");
                }
                return;
            }
        }
    }

    /// Takes up the hand-overs to this host that an earlier life of the agent left open.
    pub(crate) async fn reconcile_destinations(self: &Arc<Self>) {
        for found in self.journals.refusals() {
            let Ok(nobody) = "unknown".parse() else { continue };
            let incoming = Incoming::with(None, nobody, Some(found.journal), found.state);
            self.note_incoming(found.head, incoming);
        }
        for found in self.journals.destinations() {
            let migration = found.head.task.migration.clone();
            let service = found.head.task.service.clone();
            tracing::info!(%migration, state = ?found.state, "a hand-over to this host was left open");
            let state = found.state.clone();
            let incoming = Incoming::new(found.head.clone(), found.journal, found.state);
            self.note_incoming(migration.clone(), incoming.clone());
            if !incoming.is_open() {
                continue;
            }
            let mut inner = incoming.inner.lock().await;
            let running = self.engine.inspect(&service).await.is_ok_and(|container| container.running);
            let settled = if running && state == HandoverState::Restoring {
                let now = Timestamp::now();
                let release = self
                    .release(found.head.place.address.addr(), &found.head.place.name, found.head.epoch)
                    .await;
                incoming.say(
                    &mut inner,
                    HandoverState::Restored(Restored {
                        started_at: now,
                        released_at: now,
                        finished_at: now,
                        criu_restore: None,
                        held: release.as_ref().map_or(0, |release| release.held),
                        overflowed: release.as_ref().map_or(0, |release| release.overflowed),
                    }),
                )
            } else {
                let reason = Refusal::new(
                    RefusalCode::Failed,
                    format!("the agent on {} was restarted during the hand-over", self.config.host),
                    "migrate again",
                );
                self.refuse(&incoming, &mut inner, &reason).await
            };
            if let Err(refusal) = settled {
                tracing::error!(%migration, %refusal, "a hand-over cannot be settled; its journal is kept");
            }
        }
    }
}

/// The moment at which held segments were let go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release {
    /// When.
    pub(crate) at: Timestamp,
    /// How many were let go.
    pub(crate) held: u64,
    /// How many had not fitted.
    pub(crate) overflowed: u64,
}

/// A place as the overlay knows it.
pub(crate) fn endpoint_spec(place: &mose_protocol::handover::Place) -> Result<EndpointSpec, Refusal> {
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
