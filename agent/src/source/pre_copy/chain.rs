//! Pre-copy by CRIU's own chain of pre-dumps, on kernels with soft-dirty bits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mose_engine::{Container, Engine};
use mose_protocol::Refusal;
use mose_transfer::{PAGE, RoundSent, Sender};

use super::PreCopy;
use crate::destination::transfer_refusal;

/// Pre-dumps, each sent as soon as it is complete.
pub(super) struct Chain {
    engine: Arc<dyn Engine>,
    container: Container,
    pre_dumps: u32,
    /// How long the service stood still for all of them.
    still: Duration,
}

impl Chain {
    pub(super) async fn open(engine: Arc<dyn Engine>, container: &Container) -> Result<Self, Refusal> {
        engine.chain_support().await?;
        Ok(Self { engine, container: container.clone(), pre_dumps: 0, still: Duration::ZERO })
    }
}

#[async_trait]
impl PreCopy for Chain {
    fn means(&self) -> String {
        let still = self.still.as_secs_f64() * 1e3;
        format!("CRIU's pre-dumps, soft-dirty; frozen for {still:.0} ms so far")
    }

    fn dumps_with_previous(&self) -> bool {
        true
    }

    async fn round(&mut self, sender: &mut Sender) -> Result<RoundSent, Refusal> {
        let began = Instant::now();
        let made = self.engine.pre_dump(&self.container, self.pre_dumps + 1).await?;
        self.pre_dumps += 1;
        let still =
            [made.times.freezing, made.times.frozen].into_iter().flatten().map(|ms| ms.0).sum::<f64>();
        self.still += Duration::from_secs_f64((still / 1e3).max(0.0));
        let pass = sender
            .finished_images(&made.folder, &made.name)
            .await
            .map_err(|error| transfer_refusal(&error))?;
        Ok(RoundSent {
            pages: made.looked_at,
            sent: made.pages,
            bytes: pass.bytes.max(made.pages * PAGE as u64),
            zero: 0,
            elapsed: began.elapsed(),
        })
    }
}
