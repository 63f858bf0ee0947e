//! Bringing the service back on the source.

use mose_coat::Route;
use mose_protocol::agent::Location;
use mose_protocol::handover::{HandoverState, Place};
use mose_protocol::record::Outcome;
use mose_protocol::step::Step;
use mose_protocol::{Refusal, RefusalCode, Reply, Request, Timestamp};

use super::{Ending, Source};
use crate::agent::overlay_refusal;
use crate::destination::endpoint_spec;
use crate::journal::{Journal, SourceState};
use crate::peers::QUICK;

/// How often it is tried again to take a service back.
const RETRY_PERIOD: std::time::Duration = std::time::Duration::from_secs(5);

impl Source {
    /// Brings the service back on this host: lets it go on where it still stands, restores it where it was dumped.
    pub(crate) async fn take_back(
        &mut self,
        journal: Journal<SourceState>,
        place: &Place,
        epoch: u64,
        reason: Refusal,
    ) -> Ending {
        let mut settled = self.control.settled.subscribe();
        settled.mark_unchanged();
        loop {
            self.steps.started(Step::Reclaim);
            match self.steps.end(Step::Reclaim, self.reclaim(place, epoch + 1).await) {
                Ok(at) => {
                    self.measured.released_at(at);
                    break;
                }
                Err(refusal) => {
                    // The images and the journal are kept: they are all that is left of the service.
                    self.doubt(Refusal::new(
                        RefusalCode::Failed,
                        format!("{reason}; and the source could not take the service back: {refusal}"),
                        "its images are kept and it is tried again every few seconds; remove the cause, or give the \
                         service up: mose settle",
                    )
                    .with_log(refusal.log.as_deref().or(reason.log.as_deref())))
                    .await;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_PERIOD) => {}
                _ = settled.changed() => {}
            }
            if *settled.borrow_and_update() == Some(false) {
                let (from, why) = (&self.task().from, &reason.reason);
                let lost = Refusal::new(
                    RefusalCode::Failed,
                    format!(
                        "{why}; {from} could not take the service back, and the operator gave it up: it is lost"
                    ),
                    "start it anew",
                );
                return self.give_up(journal, place, epoch, lost.with_log(reason.log.as_deref())).await;
            }
        }
        // Again: who was met while the service was being restored has not been told.
        let here =
            Location { address: place.address.addr(), host: self.task().from.clone(), epoch: epoch + 1 };
        let _ = self.agent.announce(&here, None, QUICK).await;
        let said = self.ask(&Request::Withdraw(self.task().migration.clone()), QUICK).await;
        // One that runs it too, as the operator had it resumed here without knowing, is not told to forget it: it says so.
        if !matches!(said, Ok(Reply::Handover(HandoverState::Restored(_)))) {
            let _ = self.ask(&Request::Close(self.task().migration.clone()), QUICK).await;
        }
        self.measure_clients().await;
        journal.close();
        self.back_at_source(Outcome::RolledBack, reason)
    }

    /// Returns when the service runs here again, and when that was.
    pub(super) async fn reclaim(&self, place: &Place, epoch: u64) -> Result<Timestamp, Refusal> {
        let agent = &self.agent;
        let address = place.address.addr();
        let here = Location { address, host: agent.config.host.clone(), epoch };
        // Whether its processes still stand is not asked of an engine that may hang, and is true even where it does.
        let standing = match &self.container {
            Some(known) if agent.engine.let_go(known).await? => Some(known.clone()),
            _ => None,
        };
        let container = match standing {
            Some(container) => container,
            None => agent.engine.inspect(&self.task().service).await?,
        };
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
}
