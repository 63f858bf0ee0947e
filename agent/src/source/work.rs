//! What the source's machine has done, effect by effect.

use async_trait::async_trait;
use mose_driver::departure::Work;
use mose_handover::source::{Doubt, Why};
use mose_protocol::Refusal;
use mose_protocol::handover::{Rehearsed, Restored};
use mose_protocol::record::Outcome;
use mose_protocol::step::Step;

use super::Source;
use crate::journal::{SourceState, close, write_down};

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
        let begin = self.leaving.as_ref().filter(|_| self.journal.is_none()).map(|leaving| {
            let (journals, leaving) = (self.agent.journals.clone(), leaving.clone());
            move |state: &SourceState| journals.begin_source(&leaving, state)
        });
        let mut written = write_down(&mut self.journal, state.clone(), begin).await;
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

    fn rehearsed(&mut self, rehearsed: Rehearsed) {
        self.note_rehearsed(&rehearsed);
    }

    async fn undo(&mut self) {
        self.drop_ready().await;
    }

    async fn take_back(&mut self) -> Result<(), Refusal> {
        self.end_dump().await;
        if self.task().rehearsal { self.see_it_go_on().await } else { self.bring_back().await }
    }

    async fn tell_back(&mut self) {
        // No route was turned in a rehearsal.
        if !self.task().rehearsal {
            self.announce_back().await;
        }
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
        close(&mut self.journal).await;
    }

    async fn conclude(&mut self, outcome: Outcome, why: Option<Why<Refusal>>) {
        let reason = why.map(|why| self.reason(why)).or_else(|| self.ended_by_itself.clone());
        self.end_watches().await;
        self.record(outcome, reason.clone()).await;
        self.ending = Some((outcome, reason));
    }

    fn tell_end(&mut self) {
        if let Some(ending) = self.ending.take() {
            self.tell_ending(ending);
            self.ask_vehicles();
        }
    }
}
