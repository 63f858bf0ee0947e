//! Bringing the service back on the source.

use mose_bus::peers::QUICK;
use mose_coat::Route;
use mose_engine::Container;
use mose_protocol::agent::Location;
use mose_protocol::handover::Place;
use mose_protocol::step::Step;
use mose_protocol::{Refusal, RefusalCode, Timestamp};

use super::Source;
use crate::destination::endpoint_spec;
use crate::guard::Guarded;
use crate::overlay::overlay_refusal;
use crate::patience::Patience;

impl Source {
    /// Brings the service back on this host: lets it go on where it still stands, restores it where it was dumped.
    pub(super) async fn bring_back(&mut self) -> Result<(), Refusal> {
        self.steps.started(Step::Reclaim);
        let taken = async {
            let (place, epoch) = self.place()?;
            self.reclaim(&place, epoch + 1).await
        };
        let at = self.steps.end(Step::Reclaim, taken.await)?;
        self.measured.released_at(at);
        Ok(())
    }

    /// Tells everyone that the service is back.
    pub(super) async fn announce_back(&mut self) {
        if let Ok((place, epoch)) = self.place() {
            // Again: who was met while the service was being restored has not been told.
            let here =
                Location { address: place.address.addr(), host: self.task().from.clone(), epoch: epoch + 1 };
            let _ = self.agent.announce(&here, None, QUICK).await;
        }
    }

    /// Returns when the service runs here again, and when that was.
    async fn reclaim(&self, place: &Place, epoch: u64) -> Result<Timestamp, Refusal> {
        let agent = &self.agent;
        let address = place.address.addr();
        let here = Location { address, host: agent.config.host.clone(), epoch };
        // Whether its processes still stand is not asked of an engine that may hang, and is true even where it does.
        let known = self.leaving.as_ref().and_then(|leaving| leaving.container.as_ref());
        let standing = match known {
            Some(known) if agent.engine.let_go(known).await? => Some(known.clone()),
            _ => None,
        };
        let container = match standing {
            Some(container) => container,
            None => agent.engine.inspect(&self.task().service).await?,
        };
        if container.running || self.restored_already(&container).await? {
            agent.engine.thaw(&container)?;
            let route = Route::Endpoint(place.name.clone());
            agent.overlay.route(address, route, epoch).await.map_err(|error| overlay_refusal(&error))?;
            let at = Timestamp::now();
            self.tell_everyone(here, None);
            self.tidy_up(&container).await;
            return Ok(at);
        }
        let overlay_error = |error| overlay_refusal(&error);
        agent.overlay.route(address, Route::Hold, epoch).await.map_err(overlay_error)?;
        self.tell_everyone(here, None);
        // A namespace that CRIU has locked is not fit to restore into: it is made anew, with the same addresses.
        agent.overlay.detach(&place.name).await.map_err(overlay_error)?;
        agent.overlay.route(address, Route::Hold, epoch).await.map_err(overlay_error)?;
        agent.overlay.attach(&endpoint_spec(place)?, epoch).await.map_err(overlay_error)?;
        agent.overlay.wall(&place.name).await.map_err(overlay_error)?;
        let patience = Patience::of_restore(self.task(), &container.checkpoint);
        let guarded = Guarded { address, endpoint: &place.name, epoch, patience };
        let restored = agent.restore_behind_guard(&container, guarded).await;
        if restored.is_err() {
            // It is tried again, from the same images.
            agent.engine.end_restore(&container).await?;
        }
        let (_, release) = restored?;
        self.tidy_up(&container).await;
        Ok(release.at)
    }

    /// Removes what the dump has made. The service is back, whatever comes of that.
    async fn tidy_up(&self, container: &Container) {
        let engine = &self.agent.engine;
        engine.drop_images(container).await.unwrap_or_else(|refusal| {
            tracing::error!(service = %container.name, %refusal, "images are left over; the next dump removes them first");
        });
        engine.leave_alone(container);
    }

    /// Whether a container that the engine does not know to run runs: an earlier life of the agent may have restored it.
    async fn restored_already(&self, container: &Container) -> Result<bool, Refusal> {
        if let Some(runs) = self.agent.engine.settle_restore(container).await {
            return Ok(runs);
        }
        let reason = format!("an earlier restore of {} is still at work", container.name);
        Err(Refusal::new(RefusalCode::Engine, reason, ""))
    }
}
