//! The source's side of a hand-over: it drives the migration from the order to the clean-up.
//!
//! Until *relinquished* is in its journal the service is this host's, and whatever fails ends with it running
//! here. From then on it is nobody's until the destination speaks; where that stays silent the source waits and
//! asks, and never guesses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mose_coat::{Change, Route};
use mose_pam::{Bytes, Strategy};
use mose_protocol::agent::{Capability, Location, Role};
use mose_protocol::handover::{HandoverState, Place, Prepare, Prepared, Restored, Task, WatchTarget};
use mose_protocol::record::{CriuTimes, Outcome};
use mose_protocol::step::Step;
use mose_protocol::time::ClockOffset;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Reply, Request, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::agent::{Agent, Busy, overlay_refusal};
use crate::destination::{STATE_LIMIT, endpoint_spec, transfer_refusal};
use crate::engine::{Container, ExitWatch, Moments, Stage};
use crate::journal::{Journal, Outgoing, SourceState};
use crate::peers::QUICK;
use crate::report::Measured;
use crate::steps::{Note, Steps};
use crate::transfer::{Limits, Sender, Sent, dump_signal};

/// How long the destination may take to make ready: creating a container, or loading an image.
const PREPARE_DEADLINE: Duration = Duration::from_secs(120);

/// How long CRIU may take to come to its first moment: Podman and runc get there in a fraction of a second.
const FREEZE_DEADLINE: Duration = Duration::from_secs(30);

/// How long a container's processes may take to end once CRIU kills them.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// How long the destination may take to restore before the source asks how far it is.
const RESTORE_DEADLINE: Duration = Duration::from_secs(120);

/// How long the source asks in vain before it says that the service is in doubt. It goes on asking.
const DOUBT_AFTER: Duration = Duration::from_secs(10);

/// How long a client may stay silent after the restore before its watch is ended.
const WATCH_DEADLINE: Duration = Duration::from_secs(5);

/// A migration that leaves this host, as others may see and influence it.
pub(crate) struct Control {
    task: Task,
    abort: watch::Sender<bool>,
    in_doubt: AtomicBool,
    /// What the operator decided for a service in doubt: whether this host keeps it.
    settled: watch::Sender<Option<bool>>,
}

impl Control {
    pub(crate) fn new(task: Task) -> Arc<Self> {
        Arc::new(Self {
            task,
            abort: watch::Sender::new(false),
            in_doubt: AtomicBool::new(false),
            settled: watch::Sender::new(None),
        })
    }

    pub(crate) const fn task(&self) -> &Task {
        &self.task
    }

    /// Marks it in doubt; whether it was not before.
    pub(crate) fn now_in_doubt(&self) -> bool {
        !self.in_doubt.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed)
    }
}

/// How a migration ended, for its record.
pub(crate) type Ending = (Outcome, Option<Refusal>);

/// One migration at its source.
pub(crate) struct Source {
    pub(crate) agent: Arc<Agent>,
    pub(crate) control: Arc<Control>,
    pub(crate) steps: Steps,
    pub(crate) measured: Measured,
}

/// Everything that is ready before the freeze.
struct Ready {
    container: Container,
    journal: Journal<SourceState>,
    place: Place,
    epoch: u64,
    sender: Sender,
}

/// What remains to be done with, once the images are at the destination.
struct Dumped {
    sent: Sent,
    dump: JoinHandle<Result<CriuTimes, Refusal>>,
}

impl Agent {
    /// Takes an order. What becomes of it is told by its events and, at its end, its record.
    pub(crate) fn migrate(self: &Arc<Self>, task: Task) -> Result<(), Refusal> {
        if self.history.get(&task.migration).is_some() {
            return Ok(());
        }
        if task.from != self.config.host {
            return Err(Refusal::new(
                RefusalCode::UnknownHost,
                format!("an order for {} came to {}", task.from, self.config.host),
                "",
            ));
        }
        if task.from == task.to {
            return Err(Refusal::new(
                RefusalCode::SameHost,
                format!("source and destination are both {}", task.from),
                "choose another host as the destination",
            ));
        }
        if task.plan.strategy != Strategy::Cold {
            return Err(Refusal::new(
                RefusalCode::Capability,
                format!("the strategy {} is not available in this release", task.plan.strategy),
                "use --strategy cold",
            ));
        }
        let control = Control::new(task);
        {
            let busy = self.busy_with(&control.task.service);
            let mut outgoing = self.outgoing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if outgoing.contains_key(&control.task.migration) {
                return Ok(());
            }
            if busy.is_some() || outgoing.values().any(|o| o.task.service == control.task.service) {
                return Err(Refusal::new(
                    RefusalCode::Conflict,
                    format!(
                        "another migration of {} is {}",
                        control.task.service,
                        if busy == Some(Busy::InDoubt) { "in doubt" } else { "under way" }
                    ),
                    if busy == Some(Busy::InDoubt) {
                        "settle it first: mose settle"
                    } else {
                        "wait for its end (`mose watch`)"
                    },
                ));
            }
            outgoing.insert(control.task.migration.clone(), control.clone());
        }
        let source = Source {
            steps: self.steps.of(&control.task.migration),
            measured: Measured::default(),
            agent: self.clone(),
            control,
        };
        tokio::spawn(async move { Box::pin(source.run()).await });
        Ok(())
    }

    /// Breaks a migration off before its commit point.
    pub(crate) fn abort(&self, migration: &MigrationId) -> Result<(), Refusal> {
        self.control(migration)?.abort.send_replace(true);
        Ok(())
    }

    /// Settles a service in doubt as the operator decides.
    pub(crate) async fn settle(&self, migration: &MigrationId, keep: bool) -> Result<(), Refusal> {
        let control = self.control(migration)?;
        if !control.in_doubt() {
            return Err(Refusal::new(
                RefusalCode::OutOfTurn,
                format!("migration {migration} is not in doubt"),
                "there is nothing to settle",
            ));
        }
        control.settled.send_replace(Some(keep));
        Ok(())
    }

    fn control(&self, migration: &MigrationId) -> Result<Arc<Control>, Refusal> {
        let outgoing = self.outgoing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        outgoing.get(migration).cloned().ok_or_else(|| {
            Refusal::new(
                RefusalCode::OutOfTurn,
                format!("no migration {migration} is under way on {}", self.config.host),
                "`mose history` shows how it ended",
            )
        })
    }

    /// A fresh pen, clock and control for a migration that is taken up again.
    pub(crate) fn resume(self: &Arc<Self>, task: Task, begun: Timestamp) -> Source {
        let control = Control::new(task);
        self.outgoing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(control.task.migration.clone(), control.clone());
        Source {
            steps: self.steps.resumed(&control.task.migration, begun),
            measured: Measured::default(),
            agent: self.clone(),
            control,
        }
    }
}

impl Source {
    pub(crate) fn task(&self) -> &Task {
        &self.control.task
    }

    async fn run(mut self) {
        self.steps.started(Step::Migration);
        let ending = self.attempt().await;
        self.conclude(ending).await;
    }

    async fn ask(&self, request: &Request, deadline: Duration) -> mose_protocol::Response {
        self.agent.requests.ask(&self.task().to, request, deadline).await
    }

    fn aborted(&self) -> Result<(), Refusal> {
        if *self.control.abort.borrow() {
            return Err(Refusal::new(RefusalCode::Failed, "the operator broke the migration off", ""));
        }
        Ok(())
    }

    async fn attempt(&mut self) -> Ending {
        let ready = match self.make_ready().await {
            Ok(ready) => ready,
            Err(refusal) => return (Outcome::Refused, Some(refusal)),
        };
        let Ready { container, mut journal, place, epoch, sender } = ready;
        let mut dump = None;
        let dumped = self.stop_and_copy(&container, &mut journal, &place, epoch, sender, &mut dump).await;
        let digest = match dumped {
            Ok(dumped) => {
                dump = Some(dumped.dump);
                dumped.sent.digest.to_string()
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "the source takes its service back");
                if let Some(dump) = dump {
                    let _ = dump.await;
                }
                return self.take_back(journal, &place, epoch, refusal).await;
            }
        };
        self.steps.started(Step::Relinquish);
        let written = journal.write(&SourceState::Relinquished { digest: digest.clone() });
        if let Err(refusal) = self.steps.end(Step::Relinquish, written) {
            if let Some(dump) = dump {
                let _ = dump.await;
            }
            return self.take_back(journal, &place, epoch, refusal).await;
        }
        let settled = self.hand_over(&digest).await;
        if let Some(dump) = dump {
            match dump.await {
                Ok(Ok(criu)) => self.measured.criu_dump(criu),
                Ok(Err(refusal)) => tracing::warn!(%refusal, "the engine's checkpoint call ended badly"),
                Err(error) => tracing::warn!(%error, "the engine's checkpoint call was lost"),
            }
        }
        self.settled(settled, journal, &place, epoch).await
    }

    /// Everything that can be done, and can fail, before the service notices anything.
    async fn make_ready(&mut self) -> Result<Ready, Refusal> {
        let steps = self.steps.clone();
        steps.started(Step::Inspect);
        let inspected = steps.end(Step::Inspect, self.inspect().await)?;
        let (container, journal, prepare) = inspected;
        let ready = self.make_destination_ready(&container, &prepare).await;
        match ready {
            Ok(sender) => {
                Ok(Ready { container, journal, place: prepare.place, epoch: prepare.epoch, sender })
            }
            Err(refusal) => {
                // A destination that cannot be reached drops its preparation by itself.
                let _ = self.ask(&Request::Withdraw(self.task().migration.clone()), QUICK).await;
                let _ = self.ask(&Request::Close(self.task().migration.clone()), QUICK).await;
                journal.close();
                Err(refusal)
            }
        }
    }

    async fn inspect(&mut self) -> Result<(Container, Journal<SourceState>, Prepare), Refusal> {
        let agent = self.agent.clone();
        let task = self.task().clone();
        let container = agent.engine.inspect(&task.service).await?;
        if !container.running {
            return Err(Refusal::new(
                RefusalCode::NotRunning,
                format!("{} does not run on {}", task.service, task.from),
                format!("start it there (podman start {}), or remove it", task.service),
            ));
        }
        let endpoints = agent.overlay.endpoints().await.map_err(|error| overlay_refusal(&error))?;
        let endpoint =
            endpoints.into_iter().find(|e| Some(&e.netns) == container.netns.as_ref()).ok_or_else(|| {
                Refusal::new(
                    RefusalCode::Unmovable,
                    format!("{} is not on the overlay, so its clients could not follow it", task.service),
                    "attach a namespace (mose-agent attach NAME --address …) and run the container with \
                     --network ns:/run/netns/NAME",
                )
            })?;
        let peer = agent.peers.get(&task.to)?;
        if !peer.capabilities.contains(&Capability::Containers) {
            return Err(Refusal::new(
                RefusalCode::Capability,
                format!("{} is a {} host and runs no services", task.to, peer.role.name()),
                "choose an edge host",
            ));
        }
        let description = agent.engine.describe(&container).await?;
        let address = endpoint.spec.address.addr();
        let routes = agent.overlay.routes().await.map_err(|error| overlay_refusal(&error))?;
        let current = routes.iter().find(|entry| entry.address == address).map_or(0, |entry| entry.epoch);
        let prepare = Prepare {
            task: task.clone(),
            epoch: current.max(endpoint.epoch) + 1,
            place: Place {
                name: endpoint.spec.name,
                address: endpoint.spec.address,
                mac: endpoint.spec.mac.to_string(),
            },
            container: description,
            image_id: container.image_id.clone(),
            limit: STATE_LIMIT,
        };
        let journal = agent.journals.begin_source(&Outgoing {
            task,
            epoch: prepare.epoch,
            place: prepare.place.clone(),
            started_at: self.measured.started_at(),
        })?;
        Ok((container, journal, prepare))
    }

    async fn make_destination_ready(
        &mut self,
        container: &Container,
        prepare: &Prepare,
    ) -> Result<Sender, Refusal> {
        let migration = self.task().migration.clone();
        let clock: ClockOffset = self.agent.requests.clock_offset(&self.task().to).await?;
        self.measured.clock(clock);
        self.steps.started(Step::Prepare);
        let prepared = self.prepare_destination(container, prepare).await;
        let prepared = self.steps.end(Step::Prepare, prepared)?;
        self.measured.transport(prepared.offer.kind());
        let mut sender = self.open(&prepared).await?;
        let target = WatchTarget { address: prepare.place.address.addr() };
        for peer in self.watchers() {
            let request = Request::Watch { migration: migration.clone(), target };
            if let Err(refusal) = self.agent.requests.ask(&peer, &request, QUICK).await {
                tracing::warn!(%peer, %refusal, "the clients there are not watched");
            }
        }
        self.steps.started(Step::RootfsPrecopy);
        let pass =
            sender.precopy_rootfs(&container.rootfs_changes).await.map_err(|error| transfer_refusal(&error));
        let pass = pass.inspect_err(|refusal| self.steps.failed(Step::RootfsPrecopy, refusal))?;
        let note = Note { bytes: Some(Bytes(pass.bytes)), ..Note::default() };
        self.steps.finished(Step::RootfsPrecopy, note);
        self.aborted()?;
        Ok(sender)
    }

    async fn open(&self, prepared: &Prepared) -> Result<Sender, Refusal> {
        Sender::connect(
            &prepared.offer,
            Some(self.agent.session.clone()),
            self.task().migration.as_str(),
            Limits::default(),
        )
        .await
        .map_err(|error| transfer_refusal(&error))
    }

    async fn prepare_destination(
        &mut self,
        container: &Container,
        prepare: &Prepare,
    ) -> Result<Prepared, Refusal> {
        let request = Request::Prepare(Box::new(prepare.clone()));
        let prepared = expect_prepared(self.ask(&request, PREPARE_DEADLINE).await?)?;
        if !prepared.needs_image {
            return Ok(prepared);
        }
        self.steps.started(Step::ContainerImage);
        let sent = self.send_image(container, &prepared).await;
        match &sent {
            Ok(bytes) => {
                let detail = Some(container.image.clone());
                let note = Note { bytes: Some(Bytes(*bytes)), detail, ..Note::default() };
                self.steps.finished(Step::ContainerImage, note);
            }
            Err(refusal) => self.steps.failed(Step::ContainerImage, refusal),
        }
        sent?;
        let request = Request::Create(self.task().migration.clone());
        expect_prepared(self.ask(&request, PREPARE_DEADLINE).await?)
    }

    async fn send_image(&self, container: &Container, prepared: &Prepared) -> Result<u64, Refusal> {
        let archive = self.agent.engine.export_image(&container.image_id).await?;
        let mut sender = self.open(prepared).await?;
        let bytes = sender.send_stream(archive).await.map_err(|error| transfer_refusal(&error))?;
        sender.finish().await.map_err(|error| transfer_refusal(&error))?;
        Ok(bytes)
    }

    /// The hosts whose clients are watched.
    fn watchers(&self) -> Vec<HostName> {
        let peers = self.agent.peers.live();
        peers.into_iter().filter(|peer| peer.role == Role::Mobile).map(|peer| peer.host).collect()
    }

    /// Freezes the service, dumps it, and has its images verified at the destination. Its processes are gone
    /// when this returns well; where it does not, `dump` holds the engine's call if it was begun.
    async fn stop_and_copy(
        &mut self,
        container: &Container,
        journal: &mut Journal<SourceState>,
        place: &Place,
        epoch: u64,
        mut sender: Sender,
        dump: &mut Option<JoinHandle<Result<CriuTimes, Refusal>>>,
    ) -> Result<Dumped, Refusal> {
        let agent = self.agent.clone();
        let steps = self.steps.clone();
        let mut exit = agent.engine.exit_watch(container)?;
        journal.write(&SourceState::Dumping)?;
        let mut moments = agent.engine.moments(container).await?;
        steps.started(Step::Checkpoint);
        *dump = Some(tokio::spawn({
            let (agent, container, steps) = (agent.clone(), container.clone(), steps.clone());
            async move { steps.end(Step::Checkpoint, agent.engine.dump(&container).await) }
        }));
        // The destination guards the address while Podman and runc get ready.
        self.ask(&Request::Hold(self.task().migration.clone()), QUICK).await?;
        self.freeze(container, &mut moments, place, epoch).await?;
        self.redirect(place, epoch);
        let (dumped, signal) = dump_signal();
        steps.started(Step::Transfer);
        let images = async {
            let pass = sender.follow_images(&container.checkpoint, signal).await;
            let pass = pass.map_err(|error| transfer_refusal(&error))?;
            let changes = sender.final_rootfs(&container.rootfs_changes).await;
            let changes = changes.map_err(|error| transfer_refusal(&error))?;
            let sent = sender.finish().await.map_err(|error| transfer_refusal(&error))?;
            let detail = Some(format!(
                "CRIU's images {}, root file system changes {}",
                Bytes(pass.bytes),
                Bytes(changes.bytes)
            ));
            steps.finished(
                Step::Transfer,
                Note { bytes: Some(Bytes(pass.bytes + changes.bytes)), detail, ..Note::default() },
            );
            Ok::<_, Refusal>(sent)
        };
        let stopped = async {
            await_dumped(&mut moments).await?;
            steps.done(Step::Dump);
            dumped.done();
            steps.started(Step::Stop);
            steps.end(Step::Stop, await_end(exit.as_mut()).await)
        };
        let sent = match futures_util::future::try_join(images, stopped).await {
            Ok((sent, ())) => sent,
            Err(refusal) => {
                steps.failed(Step::Transfer, &refusal);
                return Err(refusal);
            }
        };
        self.measured.image(Bytes(sent.bytes));
        self.aborted()?;
        let Some(dump) = dump.take() else {
            return Err(Refusal::new(RefusalCode::Failed, "the dump was lost", ""));
        };
        Ok(Dumped { sent, dump })
    }

    /// At CRIU's first moment: turns this host's own flow to the destination and freezes the service at once.
    async fn freeze(
        &mut self,
        container: &Container,
        moments: &mut Moments,
        place: &Place,
        epoch: u64,
    ) -> Result<(), Refusal> {
        let late = |reason: &str| {
            Refusal::new(RefusalCode::Engine, format!("the dump did not begin: {reason}"), "see CRIU's log")
        };
        let moment = loop {
            let moment = tokio::time::timeout(FREEZE_DEADLINE, moments.recv())
                .await
                .map_err(|_| late(&format!("CRIU did not report within {FREEZE_DEADLINE:?}")))?
                .ok_or_else(|| late("the engine gave up"))?;
            if moment.stage == Stage::PreDump {
                break moment;
            }
            let _ = moment.answer.send(Ok(()));
        };
        self.aborted()?;
        self.measured.frozen_at(moment.at.into());
        self.steps.started_at(Step::Freeze, moment.at.into());
        let route = Route::Tunnel(self.task().to.to_string());
        let turned = self.agent.overlay.route(place.address.addr(), route, epoch).await;
        let frozen = turned
            .map_err(|error| overlay_refusal(&error))
            .and_then(|change| match change {
                Change::Stale { current } => Err(Refusal::new(
                    RefusalCode::Overlay,
                    format!("the route of {} has a newer epoch ({current})", place.address),
                    "migrate again",
                )),
                _ => Ok(()),
            })
            .and_then(|()| self.agent.engine.freeze(container));
        let verdict = frozen.as_ref().copied().map_err(ToString::to_string);
        self.steps.end(Step::Freeze, frozen)?;
        self.steps.started(Step::Dump);
        moment.answer.send(verdict).map_err(|_| late("CRIU's hook was lost"))
    }

    /// Turns the flows of everyone else to the destination. Nobody waits for it: this host passes on what still
    /// comes.
    fn redirect(&self, place: &Place, epoch: u64) {
        let location = Location { address: place.address.addr(), host: self.task().to.clone(), epoch };
        self.tell_everyone(location, Some(self.task().to.clone()));
    }

    fn tell_everyone(&self, location: Location, except: Option<HostName>) {
        let (agent, steps) = (self.agent.clone(), self.steps.clone());
        tokio::spawn(async move {
            steps.started(Step::Redirect);
            let told = agent.announce(&location, except.as_ref(), QUICK).await;
            let mut hosts = Vec::new();
            for (host, told) in told {
                match told {
                    Ok(()) => hosts.push(host.to_string()),
                    // It asks for locations when it comes back; until then its packets are passed on from here.
                    Err(refusal) => tracing::warn!(%host, %refusal, "a flow was not redirected"),
                }
            }
            hosts.sort();
            steps.finished(Step::Redirect, Note { detail: Some(hosts.join(", ")), ..Note::default() });
        });
    }

    /// Tells the destination that the service is its own, until it says what became of it.
    async fn hand_over(&self, digest: &str) -> Settled {
        let migration = self.task().migration.clone();
        let relinquish = Request::Relinquish { migration: migration.clone(), digest: digest.to_owned() };
        let silent_since = tokio::time::Instant::now();
        let mut settled = self.control.settled.subscribe();
        let mut request = relinquish.clone();
        let mut deadline = RESTORE_DEADLINE;
        let mut pause = Duration::from_millis(50);
        loop {
            match self.ask(&request, deadline).await {
                Ok(Reply::Handover(HandoverState::Restored(restored))) => return Settled::Restored(restored),
                Ok(Reply::Handover(HandoverState::Refused(refusal))) => return Settled::Refused(refusal),
                Ok(Reply::Handover(HandoverState::Preparing | HandoverState::Received)) => {
                    (request, deadline) = (relinquish.clone(), RESTORE_DEADLINE);
                }
                // It has no journal of it: have it promise that it will never run the service.
                Ok(Reply::Handover(HandoverState::Unknown)) => {
                    (request, deadline) = (Request::Withdraw(migration.clone()), QUICK);
                }
                Err(refusal) if refusal.code == RefusalCode::OutOfTurn => {
                    (request, deadline) = (Request::Withdraw(migration.clone()), QUICK);
                }
                Ok(_) | Err(_) => {
                    (request, deadline) = (Request::Inquire(migration.clone()), QUICK);
                }
            }
            if silent_since.elapsed() > DOUBT_AFTER && !self.control.in_doubt() {
                self.doubt(DOUBT_AFTER).await;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = settled.changed() => {}
            }
            if let Some(keep) = *settled.borrow() {
                return Settled::ByHand { keep };
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Goes by what the destination said.
    pub(crate) async fn settled(
        &mut self,
        settled: Settled,
        mut journal: Journal<SourceState>,
        place: &Place,
        epoch: u64,
    ) -> Ending {
        self.control.in_doubt.store(false, Ordering::Relaxed);
        match settled {
            Settled::Restored(restored) => {
                self.measured.restored(&restored);
                self.measure_clients().await;
                self.clean_up(journal, place, epoch).await;
                (Outcome::Done, None)
            }
            Settled::ByHand { keep: false } => {
                let reason =
                    Refusal::new(RefusalCode::Failed, "the operator gave the service up on the source", "");
                self.clean_up(journal, place, epoch).await;
                (Outcome::Done, Some(reason))
            }
            Settled::Refused(refusal) => {
                if let Err(unwritten) = journal.write(&SourceState::Reclaiming) {
                    tracing::error!(%unwritten, "the journal lags behind; the destination refused");
                }
                self.take_back(journal, place, epoch, refusal).await
            }
            Settled::ByHand { keep: true } => {
                let reason =
                    Refusal::new(RefusalCode::Failed, "the operator kept the service on the source", "");
                if let Err(unwritten) = journal.write(&SourceState::Reclaiming) {
                    tracing::error!(%unwritten, "the journal lags behind");
                }
                self.take_back(journal, place, epoch, reason).await
            }
        }
    }

    /// Asks, for as long as it takes, what became of a service that was relinquished.
    pub(crate) async fn learn(&self, digest: &str) -> Settled {
        self.hand_over(digest).await
    }

    /// Removes what the service left behind on this host.
    async fn clean_up(&self, journal: Journal<SourceState>, place: &Place, epoch: u64) {
        self.steps.started(Step::Cleanup);
        let agent = &self.agent;
        let result = async {
            agent.engine.discard(&self.task().service).await?;
            let there = Location { address: place.address.addr(), host: self.task().to.clone(), epoch };
            agent.locate(&there).await?;
            agent.overlay.detach(&place.name).await.map_err(|error| overlay_refusal(&error))
        };
        match self.steps.end(Step::Cleanup, result.await) {
            Ok(()) => {
                // If it is not heard, the destination keeps a small file until this host asks it again.
                let _ = self.ask(&Request::Close(self.task().migration.clone()), QUICK).await;
                journal.close();
            }
            Err(refusal) => {
                tracing::error!(%refusal, "the clean-up is left to the agent's next start; its journal is kept");
            }
        }
    }

    /// Brings the service back on this host: lets it go on where it still stands, restores it where it was dumped.
    pub(crate) async fn take_back(
        &mut self,
        journal: Journal<SourceState>,
        place: &Place,
        epoch: u64,
        reason: Refusal,
    ) -> Ending {
        self.steps.started(Step::Reclaim);
        let back = self.steps.end(Step::Reclaim, self.reclaim(place, epoch + 1).await);
        match back {
            Ok(at) => {
                self.measured.released_at(at);
                // Again: who was met while the service was being restored has not been told.
                let here = Location {
                    address: place.address.addr(),
                    host: self.task().from.clone(),
                    epoch: epoch + 1,
                };
                let _ = self.agent.announce(&here, None, QUICK).await;
                let _ = self.ask(&Request::Withdraw(self.task().migration.clone()), QUICK).await;
                let _ = self.ask(&Request::Close(self.task().migration.clone()), QUICK).await;
                self.measure_clients().await;
                journal.close();
                (Outcome::RolledBack, Some(reason))
            }
            Err(refusal) => {
                // The images and the journal are kept: they are all that is left of the service.
                let told = Refusal::new(
                    RefusalCode::Failed,
                    format!("{reason}; and the source could not take the service back: {refusal}"),
                    "its images are kept; restart the agent there to try again",
                );
                (Outcome::InDoubt, Some(told))
            }
        }
    }

    /// Returns when the service runs here again, and when that was.
    async fn reclaim(&self, place: &Place, epoch: u64) -> Result<Timestamp, Refusal> {
        let agent = &self.agent;
        let address = place.address.addr();
        let here = Location { address, host: agent.config.host.clone(), epoch };
        let container = agent.engine.inspect(&self.task().service).await?;
        if container.running {
            agent.engine.thaw(&container)?;
            let route = Route::Endpoint(place.name.clone());
            agent.overlay.route(address, route, epoch).await.map_err(|error| overlay_refusal(&error))?;
            let at = Timestamp::now();
            self.tell_everyone(here, None);
            agent.engine.drop_images(&container).await?;
            return Ok(at);
        }
        let overlay_error = |error| overlay_refusal(&error);
        agent.overlay.route(address, Route::Hold, epoch).await.map_err(overlay_error)?;
        self.tell_everyone(here, None);
        // A namespace that CRIU has locked is not fit to restore into: it is made anew, with the same addresses.
        agent.overlay.detach(&place.name).await.map_err(overlay_error)?;
        agent.overlay.route(address, Route::Hold, epoch).await.map_err(overlay_error)?;
        agent.overlay.attach(&endpoint_spec(place)?, epoch).await.map_err(overlay_error)?;
        let (_, release) = agent.restore_behind_guard(&container, address, &place.name, epoch).await?;
        agent.engine.drop_images(&container).await?;
        Ok(release.at)
    }

    /// Ends the watches at the clients, once they have heard from the service again.
    async fn measure_clients(&mut self) {
        let migration = self.task().migration.clone();
        let back = self.measured.back_at();
        for host in self.watchers() {
            let deadline = tokio::time::Instant::now() + WATCH_DEADLINE;
            loop {
                let stop = tokio::time::Instant::now() > deadline;
                let request = Request::Watched { migration: migration.clone(), stop: false };
                let Ok(Reply::Watched(seen)) = self.agent.requests.ask(&host, &request, QUICK).await else {
                    break;
                };
                let heard = seen.iter().all(|w| w.last.zip(back).is_none_or(|(last, back)| last > back));
                if stop || heard {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let request = Request::Watched { migration: migration.clone(), stop: true };
            if let Ok(Reply::Watched(seen)) = self.agent.requests.ask(&host, &request, QUICK).await {
                for watched in seen {
                    self.measured.client(&host, &watched);
                }
            }
        }
    }

    /// Says that nobody knows, and goes on asking.
    async fn doubt(&self, silent: Duration) {
        if self.control.now_in_doubt() {
            let reason = Refusal::new(
                RefusalCode::Unreachable,
                format!(
                    "{} has not said for {silent:?} whether it restored {}",
                    self.task().to,
                    self.task().service
                ),
                "bring its agent back; or look there with podman ps, and settle it by hand: mose settle",
            );
            self.record(Outcome::InDoubt, Some(reason)).await;
        }
    }
}

/// What became of a service that was relinquished.
pub(crate) enum Settled {
    /// It runs at the destination.
    Restored(Restored),
    /// It will never run at the destination by this hand-over.
    Refused(Refusal),
    /// The operator decided.
    ByHand {
        /// For the source.
        keep: bool,
    },
}

fn expect_prepared(reply: Reply) -> Result<Prepared, Refusal> {
    match reply {
        Reply::Prepared(prepared) => Ok(prepared),
        _ => Err(Refusal::new(RefusalCode::Malformed, "the destination gave an answer of another kind", "")),
    }
}

/// Waits for CRIU to have written its last image file, and lets it kill the tasks.
async fn await_dumped(moments: &mut Moments) -> Result<(), Refusal> {
    while let Some(moment) = moments.recv().await {
        let answered = moment.answer.send(Ok(()));
        if moment.stage == Stage::PostDump {
            return answered.map_err(|_| lost_hook());
        }
    }
    Err(Refusal::new(RefusalCode::Engine, "the dump failed", "see CRIU's log on the source"))
}

fn lost_hook() -> Refusal {
    Refusal::new(RefusalCode::Engine, "CRIU's hook was lost", "see CRIU's log on the source")
}

async fn await_end(exit: &mut dyn ExitWatch) -> Result<(), Refusal> {
    tokio::time::timeout(STOP_DEADLINE, exit.gone()).await.map_err(|_| {
        Refusal::new(
            RefusalCode::Engine,
            format!("the dumped processes were still there after {STOP_DEADLINE:?}"),
            "see CRIU's log on the source",
        )
    })
}
