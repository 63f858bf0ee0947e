//! From the freeze to the verified images at the destination: the part that the service stands still for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use mose_bus::peers::QUICK;
use mose_coat::{Change, Route};
use mose_engine::{Container, Moment, Moments, Stage};
use mose_pam::Bytes;
use mose_protocol::agent::Location;
use mose_protocol::handover::Place;
use mose_protocol::record::CriuTimes;
use mose_protocol::step::Step;
use mose_protocol::{HostName, Refusal, RefusalCode, Request, Timestamp};
use mose_transfer::{Sent, dump_signal};
use tokio::task::JoinHandle;

use super::pre_copy::Rounds;
use super::{Ready, Source, aborted, out_of_order};
use crate::destination::transfer_refusal;
use crate::overlay::overlay_refusal;
use crate::steps::Note;

/// How long CRIU may take to come to its first moment: Podman and runc get there in a fraction of a second.
const FREEZE_DEADLINE: Duration = Duration::from_secs(30);

/// How long a service may take to accept the connections that wait for it, before it is frozen.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(10);

/// How long the freeze waits for a connection that came at the last moment.
const ACCEPT_GRACE: Duration = Duration::from_millis(50);

/// How long the engine may take to say how its dump ended, once CRIU is gone. A Podman that hangs is not waited for.
const ENGINE_GRACE: Duration = Duration::from_secs(1);

impl Source {
    /// Freezes the service, dumps it, and has its images verified at the destination, whose digest it returns. Its processes are gone
    /// when this returns well; where it does not, they go on or are gone. In a rehearsal they go on as soon as they are dumped.
    pub(super) async fn dump_and_copy(&mut self) -> Result<String, Refusal> {
        let container = self.container()?;
        let mut refusal = match self.dump_and_send(&container).await {
            Ok(sent) => return Ok(sent.digest.to_string()),
            Err(refusal) => refusal,
        };
        // Whatever hangs, the service goes on first. Where it cannot yet, taking it back says so and tries again.
        if let Err(kept) = self.agent.engine.let_go(&container).await {
            tracing::error!(%kept, "the engine does not let go of the service");
        }
        // Where the engine failed, its own words say more than that its call ended.
        if let Some(dump) = self.dump.take()
            && let Some(Err(said)) = engines_end(dump).await
            && refusal.code == RefusalCode::Engine
        {
            refusal = said;
        }
        tracing::warn!(%refusal, "the source takes its service back");
        Err(refusal)
    }

    /// Waits for what the engine says of its dump.
    pub(super) async fn end_dump(&mut self) {
        let Some(dump) = self.dump.take() else { return };
        match engines_end(dump).await {
            Some(Ok(criu)) => self.measured.criu_dump(criu),
            Some(Err(refusal)) => tracing::warn!(%refusal, "the engine's checkpoint call ended badly"),
            None => tracing::warn!("the engine has not ended its checkpoint call; its times are not known"),
        }
    }

    async fn dump_and_send(&mut self, container: &Container) -> Result<Sent, Refusal> {
        let Ready { mut sender, rounds, mut files } =
            self.take_ready().ok_or_else(|| out_of_order("nothing is ready"))?;
        let (place, epoch) = self.place()?;
        let place = &place;
        let rehearsal = self.task().rehearsal;
        let agent = self.agent.clone();
        let steps = self.steps.clone();
        let mut exit = agent.engine.exit_watch(container)?;
        let patience = self.patience(container);
        // A hook waits as long as what is done before it is answered may take.
        let mut moments = agent.engine.moments(container, patience.whole).await?;
        steps.started(Step::Checkpoint);
        // Kept until its end is heard. An agent that ends leaves it to its own end: CRIU must not be broken off half-way.
        self.dump = Some(tokio::spawn({
            let (agent, container, steps) = (agent.clone(), container.clone(), steps.clone());
            let control = self.control.clone();
            let previous = rounds.as_ref().is_some_and(Rounds::dumps_with_previous);
            async move {
                let begun = SystemTime::now();
                let dumped = match (rehearsal, previous) {
                    (true, previous) => agent.engine.dump_and_go_on(&container, previous).await,
                    (false, true) => agent.engine.dump_with_previous(&container).await,
                    (false, false) => agent.engine.dump(&container).await,
                };
                let dumped = dumped
                    .map_err(|refusal| refusal.with_log(agent.engine.criu_log(&container, begun).as_deref()));
                // A dump that fails because the migration was aborted under it is no failure of its own.
                if control.is_aborted() && dumped.is_err() {
                    steps.failed(Step::Checkpoint, &aborted());
                    return dumped;
                }
                steps.end(Step::Checkpoint, dumped)
            }
        }));
        // The destination guards the address while Podman and runc get ready.
        if !rehearsal {
            self.ask(&Request::Hold(self.task().migration.clone()), QUICK).await?;
        }
        let moment = self.first_moment(&mut moments).await?;
        self.precopy_beside(&mut files, &mut sender).await?;
        if let Some(rounds) = rounds {
            self.last_round(rounds, &mut sender).await?;
        }
        self.freeze(container, moment, place, epoch).await?;
        if !rehearsal {
            self.redirect(place, epoch);
        }
        let (dumped, signal) = dump_signal();
        // What lies in memory vanishes with the container's processes, which the dump ends.
        let (beside, beside_sent) = tokio::sync::oneshot::channel();
        let before = self.measured.sent();
        steps.started(Step::Transfer);
        let back = OnceLock::new();
        let images = async {
            if rehearsal {
                return self.send_as_dumped(&files, sender, container, signal, beside).await;
            }
            let mut volumes = files.final_beside(&mut sender, false).await?;
            let _ = beside.send(());
            let pass = sender.follow_images(&container.checkpoint, signal).await;
            let pass = pass.map_err(|error| transfer_refusal(&error))?;
            let changes = files.final_rootfs(&mut sender).await?;
            volumes.0 += files.final_beside(&mut sender, true).await?.0;
            let sent = sender.finish().await.map_err(|error| transfer_refusal(&error))?;
            let mut detail =
                format!("CRIU's images {}, root file system changes {changes}", Bytes(pass.bytes));
            if files.any_beside() {
                detail += &format!(", volumes and shared memory {volumes}");
            }
            let bytes = Some(Bytes(pass.bytes + changes.0 + volumes.0));
            steps.finished(Step::Transfer, Note { bytes, detail: Some(detail), ..Note::default() });
            Ok::<_, Refusal>(sent)
        };
        let written = AtomicBool::new(false);
        let stopped = async {
            let moment = tokio::select! {
                moment = last_image_written(&mut moments) => moment?,
                // From then on CRIU waits for the answer, and has every reason to do nothing.
                hang = agent.engine.hangs(container, patience.quiet) => return Err(hang),
            };
            written.store(true, Ordering::Relaxed);
            if rehearsal {
                steps.done(Step::Dump);
                dumped.done();
                return self.let_go_on(container, moment, beside_sent, &back).await;
            }
            let_die(moment, beside_sent).await?;
            steps.done(Step::Dump);
            dumped.done();
            steps.started(Step::Stop);
            let gone = tokio::select! {
                () = exit.gone() => Ok(()),
                hang = agent.engine.hangs(container, patience.quiet) => Err(hang),
            };
            steps.end(Step::Stop, gone)
        };
        let moved = tokio::select! {
            moved = futures_util::future::try_join(images, stopped) => moved,
            refusal = self.control.broken_off() => Err(refusal),
            // In a rehearsal the service waits for none of it.
            refusal = self.waits_in_vain(patience, &written), if !rehearsal => Err(refusal),
        };
        if let Some(at) = back.into_inner() {
            self.measured.released_at(at);
        }
        moved.map(|(sent, ())| sent).inspect_err(|refusal| {
            let moved = self.measured.sent().0.saturating_sub(before.0);
            steps.failed_after(Step::Transfer, refusal, Some(Bytes(moved)));
        })
    }

    /// Waits for the service to accept the connections that wait at its door, while it still runs.
    pub(super) async fn await_accepted(&self, container: &Container) -> Result<(), Refusal> {
        let deadline = tokio::time::Instant::now() + ACCEPT_DEADLINE;
        loop {
            let waiting = self.agent.engine.unaccepted(container);
            if waiting == 0 {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(Refusal::new(
                    RefusalCode::Unmovable,
                    format!(
                        "{} has {waiting} connections that it did not accept within {ACCEPT_DEADLINE:?}, and CRIU cannot \
                         dump those",
                        container.name
                    ),
                    "migrate again when it accepts connections",
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for CRIU to be about to begin, with the service still running.
    async fn first_moment(&self, moments: &mut Moments) -> Result<Moment, Refusal> {
        loop {
            let moment = tokio::time::timeout(FREEZE_DEADLINE, moments.recv())
                .await
                .map_err(|_| late(&format!("CRIU did not report within {FREEZE_DEADLINE:?}")))?
                .ok_or_else(|| late("the engine gave up"))?;
            if moment.stage == Stage::PreDump {
                return Ok(moment);
            }
            let _ = moment.answer.send(Ok(()));
        }
    }

    /// At CRIU's first moment: turns this host's own flow to the destination, unless it is a rehearsal, and freezes the service at once.
    async fn freeze(
        &mut self,
        container: &Container,
        moment: Moment,
        place: &Place,
        epoch: u64,
    ) -> Result<(), Refusal> {
        self.aborted()?;
        // A connection that came just now is let in while the service still serves, as CRIU could not dump it. Looking
        // takes milliseconds, and is none of the downtime.
        let late_comers = tokio::time::Instant::now() + ACCEPT_GRACE;
        while self.agent.engine.unaccepted(container) > 0 && tokio::time::Instant::now() < late_comers {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let frozen_at = Timestamp::now();
        self.measured.frozen_at(frozen_at);
        self.steps.started_at(Step::Freeze, frozen_at);
        let route = Route::Tunnel(self.task().to.to_string());
        let turned = match self.task().rehearsal {
            true => Ok(Change::Unchanged),
            false => self.agent.overlay.route(place.address.addr(), route, epoch).await,
        };
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
        if frozen.is_ok() {
            self.measured.stands_still_at(Timestamp::now());
        }
        let verdict = frozen.as_ref().copied().map_err(ToString::to_string);
        self.steps.end(Step::Freeze, frozen)?;
        self.steps.started(Step::Dump);
        moment.answer.send(verdict).map_err(|_| late("CRIU's hook was lost"))
    }

    /// Turns the flows of everyone else to the destination. Nobody waits for it: this host passes on what still
    /// comes.
    pub(super) fn redirect(&self, place: &Place, epoch: u64) {
        let location = Location { address: place.address.addr(), host: self.task().to.clone(), epoch };
        self.tell_everyone(location, Some(self.task().to.clone()));
    }

    pub(super) fn tell_everyone(&self, location: Location, except: Option<HostName>) {
        let (agent, steps) = (self.agent.clone(), self.steps.clone());
        self.agent.spawn(async move {
            steps.started(Step::Redirect);
            let told = agent.announce_until_heard(&location, except.as_ref()).await;
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
}

/// What the engine says of its dump, where it says so soon enough: by then CRIU has ended, one way or the other.
async fn engines_end(dump: JoinHandle<Result<CriuTimes, Refusal>>) -> Option<Result<CriuTimes, Refusal>> {
    tokio::time::timeout(ENGINE_GRACE, dump).await.ok()?.ok()
}

fn late(reason: &str) -> Refusal {
    Refusal::new(RefusalCode::Engine, format!("the dump did not begin: {reason}"), "see CRIU's log")
}

/// Waits for CRIU to have written its last image file.
async fn last_image_written(moments: &mut Moments) -> Result<Moment, Refusal> {
    while let Some(moment) = moments.recv().await {
        if moment.stage == Stage::PostDump {
            return Ok(moment);
        }
        let _ = moment.answer.send(Ok(()));
    }
    Err(Refusal::new(RefusalCode::Engine, "the dump failed", "see CRIU's log on the source"))
}

/// Waits for `beside` to be sent, and lets CRIU kill the tasks.
async fn let_die(moment: Moment, beside: tokio::sync::oneshot::Receiver<()>) -> Result<(), Refusal> {
    if beside.await.is_err() {
        // The transfer has failed, and says why.
        std::future::pending::<()>().await;
    }
    moment.answer.send(Ok(())).map_err(|_| lost_hook())
}

pub(super) fn lost_hook() -> Refusal {
    Refusal::new(RefusalCode::Engine, "CRIU's hook was lost", "see CRIU's log on the source")
}
