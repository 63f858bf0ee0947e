//! What the source's machine has done, effect by effect.

use async_trait::async_trait;
use mose_driver::departure::Work;
use mose_handover::source::{Doubt, Why};
use mose_protocol::Refusal;
use mose_protocol::handover::Restored;
use mose_protocol::record::Outcome;
use mose_protocol::step::Step;

use super::Source;
use crate::journal::{SourceState, not_written};

#[async_trait]
impl Work for Source {
    async fn inspect(&mut self) -> Result<(), Refusal> {
        self.agent.profiler.release(&self.task().service).await;
        self.look_around().await
    }

    async fn write(&mut self, state: &SourceState) -> Result<(), Refusal> {
        let relinquishes = matches!(state, SourceState::Relinquished { .. });
        if relinquishes {
            self.steps.started(Step::Relinquish);
        }
        let (journals, leaving) = (self.agent.journals.clone(), self.leaving.clone());
        let (journal, state) = (self.journal.take(), state.clone());
        let write = move || match (journal, &leaving) {
            (Some(mut journal), _) => {
                let written = journal.write(&state);
                (Some(journal), written)
            }
            (None, Some(leaving)) => match journals.begin_source(leaving) {
                Ok(journal) => (Some(journal), Ok(())),
                Err(refusal) => (None, Err(refusal)),
            },
            (None, None) => (None, Err(super::out_of_order("nothing is known of the service"))),
        };
        let (journal, mut written) = tokio::task::spawn_blocking(write).await.unwrap_or_else(not_written);
        self.journal = journal;
        if relinquishes {
            written = self.steps.end(Step::Relinquish, written);
        }
        written.inspect_err(|refusal| self.unwritten = Some(refusal.clone()))
    }

    async fn make_ready(&mut self) -> Result<(), Refusal> {
        self.make_everything_ready().await
    }

    async fn stop_and_copy(&mut self) -> Result<String, Refusal> {
        self.dump_and_copy().await
    }

    async fn undo(&mut self) {
        self.drop_ready().await;
    }

    async fn take_back(&mut self) -> Result<(), Refusal> {
        self.end_dump().await;
        self.bring_back().await
    }

    async fn tell_back(&mut self) {
        self.announce_back().await;
    }

    async fn measure(&mut self) {
        self.measure_clients().await;
    }

    async fn clean_up(&mut self, restored: Option<Restored>) -> bool {
        self.end_dump().await;
        self.measure_and_clean_up(restored).await
    }

    async fn discard(&mut self) -> bool {
        self.end_dump().await;
        // Its volumes stay: they may be the only copy.
        self.remove(&[]).await
    }

    async fn doubt(&mut self, doubt: &Doubt<Refusal>) {
        self.record_doubt(doubt).await;
    }

    async fn forget(&mut self) {
        if let Some(journal) = self.journal.take() {
            let _ = tokio::task::spawn_blocking(move || journal.close()).await;
        }
    }

    async fn conclude(&mut self, outcome: Outcome, why: Option<Why<Refusal>>) {
        let reason = why.map(|why| self.reason(why));
        self.end_watches().await;
        self.record(outcome, reason.clone()).await;
        self.ending = Some((outcome, reason));
    }

    fn tell_end(&mut self) {
        if let Some(ending) = self.ending.take() {
            self.tell_ending(ending);
        }
    }
}
