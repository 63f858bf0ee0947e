//! Pre-copy on every kernel: the agent reads the running service's pages, and the dump is sent as what differs.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use mose_engine::{Container, Engine, LiveMemory};
use mose_protocol::Refusal;
use mose_transfer::{RoundSent, Sender};
use parking_lot::Mutex;

use super::PreCopy;
use crate::destination::transfer_refusal;

/// The service's memory, shared with the sending thread for the time of a round.
pub(super) struct Live {
    memory: Arc<Mutex<Box<dyn LiveMemory>>>,
    means: String,
}

impl Live {
    pub(super) fn open(engine: &dyn Engine, container: &Container) -> Result<Self, Refusal> {
        let memory = engine.live_memory(container)?;
        Ok(Self { means: memory.means(), memory: Arc::new(Mutex::new(memory)) })
    }
}

#[async_trait]
impl PreCopy for Live {
    fn means(&self) -> String {
        self.means.clone()
    }

    async fn round(&mut self, sender: &mut Sender) -> Result<RoundSent, Refusal> {
        let begun = Instant::now();
        let memory = Arc::clone(&self.memory);
        // Not on the sending thread, which tells the destination meanwhile that the source lives.
        let look = move || memory.lock().look();
        let looked = tokio::task::spawn_blocking(look).await;
        looked.map_err(|error| transfer_refusal(&error))?.map_err(|error| transfer_refusal(&error))?;
        let memory = Arc::clone(&self.memory);
        let read = move |take: &mut mose_transfer::TakePage<'_>| memory.lock().changed(take);
        let sent = sender.round(Box::new(read)).await.map_err(|error| transfer_refusal(&error))?;
        Ok(RoundSent { elapsed: begun.elapsed(), ..sent })
    }
}
