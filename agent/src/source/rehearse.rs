//! A rehearsal at its source: the service is dumped and goes on, and its images are sent while it does.
//!
//! Its files are sent as soon as the dump is complete, before the service goes on and before the rest of the images: CRIU restores no file
//! that is not as it was dumped, and takes away the names that it gives to files without one when it lets the service go on. No route
//! is turned and nothing is held: the service is reached here all the time.

use std::sync::OnceLock;
use std::time::Duration;

use mose_engine::{Container, Moment};
use mose_pam::Bytes;
use mose_protocol::handover::Rehearsed;
use mose_protocol::step::Step;
use mose_protocol::{Refusal, RefusalCode, Timestamp};
use mose_transfer::{DumpSignal, Pass, Sender, Sent};
use tokio::sync::oneshot;

use super::Source;
use super::files::Files;
use super::stop_and_copy::lost_hook;
use crate::destination::transfer_refusal;
use crate::steps::Note;

/// How long a service that is dumped stands still for its files at most. One that goes on before they are sent may have changed them.
const FILES_PATIENCE: Duration = Duration::from_secs(1);

impl Source {
    /// Sends what the service is at this moment, and tells when its files are read.
    pub(super) async fn send_as_dumped(
        &self,
        files: &Files,
        mut sender: Sender,
        container: &Container,
        signal: DumpSignal,
        read: oneshot::Sender<()>,
    ) -> Result<Sent, Refusal> {
        let mut volumes = files.final_beside(&mut sender, false).await?;
        let (rootfs_read, rootfs_is_read) = oneshot::channel::<Pass>();
        let tell = async {
            // Where the transfer has failed it says why.
            let pass = rootfs_is_read.await.ok()?;
            let _ = read.send(());
            Some(Bytes(pass.bytes))
        };
        let images =
            sender.follow_images_and_tree(&container.checkpoint, signal, files.rootfs_tree(), rootfs_read);
        let (images, changes) = tokio::join!(images, tell);
        let images = images.map_err(|error| transfer_refusal(&error))?;
        let changes = changes.unwrap_or_default();
        volumes.0 += files.beside_that_goes_on(&mut sender).await?.0;
        let sent = sender.finish().await.map_err(|error| transfer_refusal(&error))?;
        let mut detail = format!("CRIU's images {}, root file system changes {changes}", Bytes(images.bytes));
        if files.any_beside() {
            detail += &format!(", volumes and shared memory {volumes}");
        }
        let bytes = Some(Bytes(images.bytes + changes.0 + volumes.0));
        self.steps.finished(Step::Transfer, Note { bytes, detail: Some(detail), ..Note::default() });
        Ok(sent)
    }

    /// Lets the service, whose dump is complete, go on as soon as its files are `read`; when that was.
    pub(super) async fn let_go_on(
        &self,
        container: &Container,
        moment: Moment,
        read: oneshot::Receiver<()>,
        back: &OnceLock<Timestamp>,
    ) -> Result<(), Refusal> {
        if tokio::time::timeout(FILES_PATIENCE, read).await.is_err() {
            tracing::warn!(service = %container.name, "it goes on while its files are sent, and may change them");
        }
        self.steps.started(Step::Reclaim);
        let gone_on = async {
            moment.answer.send(Ok(())).map_err(|_| lost_hook())?;
            self.agent.engine.gone_on(container).await
        };
        let gone_on = gone_on.await;
        let _ = back.set(Timestamp::now());
        self.steps.end(Step::Reclaim, gone_on)
    }

    /// The destination has rehearsed the restore.
    pub(super) fn note_rehearsed(&mut self, rehearsed: &Rehearsed) {
        self.measured.rehearsed(rehearsed);
    }

    /// Sees to it that the service goes on here, whatever came of the rehearsal, and that nothing is left of its dump. Its images are never
    /// restored here: it has gone on since they were made.
    pub(super) async fn see_it_go_on(&mut self) -> Result<(), Refusal> {
        let engine = self.agent.engine.clone();
        let container = match self.container() {
            Ok(container) => container,
            Err(_) => engine.inspect(&self.task().service).await?,
        };
        let stood_still = self.measured.was_frozen() && self.measured.back_at().is_none();
        if stood_still {
            self.steps.started(Step::Reclaim);
        }
        let gone_on = async {
            let stands = engine.let_go(&container).await?;
            if stands {
                engine.thaw(&container)?;
            }
            Ok::<_, Refusal>(stands)
        };
        let mut gone_on = gone_on.await;
        if stood_still {
            gone_on = self.steps.end(Step::Reclaim, gone_on);
        }
        let stands = gone_on?;
        if stood_still {
            self.measured.released_at(Timestamp::now());
        }
        if !stands {
            let name = &container.name;
            tracing::error!(service = %name, "it ended by itself while it was rehearsed");
            let reason = format!("{name} ended by itself while it was rehearsed");
            self.ended_by_itself = Some(Refusal::new(RefusalCode::NotRunning, reason, "see its own log"));
        }
        if let Err(left) = engine.drop_images(&container).await {
            tracing::warn!(%left, "images are left over; the next dump removes them");
        }
        Ok(())
    }
}
