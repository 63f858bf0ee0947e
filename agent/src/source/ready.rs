//! Everything that can be done, and can fail, before the service notices anything.

use std::time::Duration;

use mose_engine::Container;
use mose_pam::{Bytes, Strategy};
use mose_protocol::agent::Capability;
use mose_protocol::handover::{Place, Prepare, Prepared};
use mose_protocol::step::Step;
use mose_protocol::time::ClockOffset;
use mose_protocol::{Refusal, RefusalCode, Reply, Request};
use mose_transfer::{Sender, TransferLimits};

use super::{Ready, Source, out_of_order};
use crate::destination::{STATE_LIMIT, transfer_refusal};
use crate::journal::Outgoing;
use crate::overlay::overlay_refusal;
use crate::steps::Note;

/// How long the destination may take to make ready: creating a container, or loading an image.
const PREPARE_DEADLINE: Duration = Duration::from_secs(150);

impl Source {
    /// Looks at the service and the destination, and changes nothing.
    pub(super) async fn look_around(&mut self) -> Result<(), Refusal> {
        let steps = self.steps.clone();
        steps.started(Step::Inspect);
        let inspected = self.look().await.inspect_err(|refusal| steps.failed(Step::Inspect, refusal));
        let (container, prepare, left_behind) = inspected?;
        steps.finished(Step::Inspect, Note { detail: left_behind, ..Note::default() });
        self.leaving = Some(Outgoing {
            task: self.task().clone(),
            epoch: prepare.epoch,
            place: prepare.place.clone(),
            started_at: self.measured.started_at(),
            volumes: prepare.container.volumes.iter().map(|volume| volume.name.clone()).collect(),
            container: Some(container),
        });
        self.prepare = Some(prepare);
        Ok(())
    }

    /// Everything that can be done, and can fail, before the service notices anything.
    pub(super) async fn make_everything_ready(&mut self) -> Result<(), Refusal> {
        let control = self.control.clone();
        let container = self.container()?;
        let prepare = self.prepare.take().ok_or_else(|| out_of_order("nothing is known of the service"))?;
        let ready = tokio::select! {
            // Where a round is aborted, it says itself how far it was.
            biased;
            ready = self.make_destination_ready(&container, &prepare) => ready,
            refusal = control.broken_off() => Err(refusal),
        };
        match ready {
            Ok(ready) => {
                self.put_ready(Some(ready));
                Ok(())
            }
            Err(refusal) => {
                self.steps.end_open(&refusal);
                Err(refusal)
            }
        }
    }

    /// Drops what was made ready here.
    pub(super) async fn drop_ready(&mut self) {
        self.put_ready(None);
        if self.task().plan.strategy != Strategy::Cold
            && let Ok(container) = self.container()
            && let Err(left) = self.agent.engine.drop_images(&container).await
        {
            tracing::warn!(%left, "pre-dumps are left over");
        }
    }

    /// The container, what the destination is asked, and what stays behind.
    async fn look(&self) -> Result<(Container, Prepare, Option<String>), Refusal> {
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
        if task.rehearsal && !peer.capabilities.contains(&Capability::Rehearsals) {
            return Err(Refusal::new(
                RefusalCode::Capability,
                format!("the agent on {} knows no rehearsals", task.to),
                "run this release of MOSE there",
            ));
        }
        let described = agent.engine.describe(&task, &container).await?;
        let address = endpoint.spec.address.addr();
        let routes = agent.overlay.routes().await.map_err(|error| overlay_refusal(&error))?;
        let current = routes.iter().find(|entry| entry.address == address).map_or(0, |entry| entry.epoch);
        let place = Place {
            name: endpoint.spec.name,
            address: endpoint.spec.address,
            mac: endpoint.spec.mac.to_string(),
        };
        let left_behind = agent.may_move(&container, &described.container, &place, &task).await?;
        let prepare = Prepare {
            task: task.clone(),
            epoch: current.max(endpoint.epoch) + 1,
            place,
            container: described.container,
            secrets: described.secrets,
            image_id: container.image_id.clone(),
            limit: STATE_LIMIT,
        };
        Ok((container, prepare, left_behind))
    }

    pub(super) async fn make_destination_ready(
        &mut self,
        container: &Container,
        prepare: &Prepare,
    ) -> Result<Ready, Refusal> {
        let mut files = self.files(container, prepare).await?;
        let clock: ClockOffset = self.agent.requests.clock_offset(&self.task().to).await?;
        self.measured.clock(clock);
        self.steps.started(Step::Prepare);
        let prepared = self.prepare_destination(container, prepare).await;
        let prepared = self.steps.end(Step::Prepare, prepared)?;
        self.measured.transport(prepared.offer.kind());
        let mut sender = self.open(&prepared).await?;
        self.measured.sending(sender.sent());
        self.watch_clients(prepare.place.address.addr()).await;
        self.precopy_rootfs(&mut files, &mut sender).await?;
        self.precopy_beside(&mut files, &mut sender).await?;
        let rounds = self.pre_copy(container, &mut files, &mut sender).await?;
        self.await_accepted(container).await?;
        // Descriptors come and go.
        self.agent.still_movable(container).await?;
        self.aborted()?;
        Ok(Ready { sender, rounds, files })
    }

    pub(super) async fn open(&self, prepared: &Prepared) -> Result<Sender, Refusal> {
        let task = self.task();
        let bandwidth = self.agent.links.allotted(&task.to, task.plan.bandwidth);
        Sender::connect(
            &prepared.offer,
            Some(self.agent.bulk.clone()),
            task.migration.as_str(),
            TransferLimits { bandwidth, ..TransferLimits::default() },
        )
        .await
        .map_err(|error| transfer_refusal(&error))
    }

    pub(super) async fn prepare_destination(
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

    pub(super) async fn send_image(
        &self,
        container: &Container,
        prepared: &Prepared,
    ) -> Result<u64, Refusal> {
        let archive = self.agent.engine.export_image(&container.image_id).await?;
        let mut sender = self.open(prepared).await?;
        let bytes = sender.send_stream(archive).await.map_err(|error| transfer_refusal(&error))?;
        sender.finish().await.map_err(|error| transfer_refusal(&error))?;
        Ok(bytes)
    }
}

fn expect_prepared(reply: Reply) -> Result<Prepared, Refusal> {
    match reply {
        Reply::Prepared(prepared) => Ok(prepared),
        _ => Err(Refusal::new(RefusalCode::Malformed, "the destination gave an answer of another kind", "")),
    }
}
