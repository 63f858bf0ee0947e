//! Pre-copy: rounds in which pages travel while the service runs.
//!
//! Round 0 is the pre-dump and sends every page; each iteration sends what was dirtied since the round before. The last
//! iteration waits for CRIU to stand ready, so that nothing but itself lies between it and the freeze. If the plan says so,
//! iterations end as soon as one no longer pays; the last one is made all the same.

mod chain;
mod live;

use async_trait::async_trait;
use mose_engine::Container;
use mose_pam::{Bytes, Millis, Plan, Strategy};
use mose_protocol::Refusal;
use mose_protocol::handover::PreCopyWay;
use mose_protocol::step::{Round, Step, ended_early};
use mose_transfer::{RoundSent, Sender};

use super::Source;
use super::files::Files;
use crate::steps::Note;

/// A round that leaves more than this share of what the round before left does not pay.
const PAYS: f64 = 0.95;

/// A way of sending a running service's memory in rounds.
#[async_trait]
pub(super) trait PreCopy: Send {
    /// How it finds what changed, as people read it.
    fn means(&self) -> String;

    /// Whether the dump at the end is of what changed since the last round.
    fn dumps_with_previous(&self) -> bool {
        false
    }

    /// Sends what changed since the last call, everything at the first; returns once the destination has it.
    async fn round(&mut self, sender: &mut Sender) -> Result<RoundSent, Refusal>;
}

/// Rounds that were done, and one that is still to be done right before the freeze.
pub(super) struct Rounds {
    way: Box<dyn PreCopy>,
    /// Rounds done.
    done: u32,
    /// Iterations that the plan asks for.
    iterations: u32,
    /// Pages that the last round sent.
    before: Option<u64>,
}

impl Rounds {
    /// Whether the dump at the end is of what changed since the last round.
    pub(super) fn dumps_with_previous(&self) -> bool {
        self.way.dumps_with_previous()
    }
}

impl Source {
    /// Does all rounds but the last iteration. `None` for a cold migration.
    pub(super) async fn pre_copy(
        &self,
        container: &Container,
        files: &mut Files,
        sender: &mut Sender,
    ) -> Result<Option<Rounds>, Refusal> {
        let plan = &self.task().plan;
        if plan.strategy == Strategy::Cold {
            return Ok(None);
        }
        let way: Box<dyn PreCopy> = match self.task().pre_copy {
            None | Some(PreCopyWay::Live) => Box::new(live::Live::open(&*self.agent.engine, container)?),
            Some(PreCopyWay::Chain) => {
                Box::new(chain::Chain::open(self.agent.engine.clone(), container).await?)
            }
        };
        let iterations = plan.iterations.unwrap_or(0);
        let mut rounds = Rounds { way, done: 0, iterations, before: None };
        for number in 0..iterations.max(1) {
            if number > 0 {
                tokio::time::sleep(mose_pam::RoundCost::PAUSE).await;
            }
            let round = self.round(&mut rounds, sender, false).await?;
            self.aborted()?;
            self.precopy_beside(files, sender).await?;
            if ended_early(plan, [&round]).is_some() {
                break;
            }
        }
        Ok(Some(rounds))
    }

    /// The last iteration, if the plan has one; the service is left as if nobody had looked at it.
    pub(super) async fn last_round(&self, mut rounds: Rounds, sender: &mut Sender) -> Result<(), Refusal> {
        if rounds.done <= rounds.iterations {
            self.round(&mut rounds, sender, true).await?;
        }
        Ok(())
    }

    async fn round(&self, rounds: &mut Rounds, sender: &mut Sender, last: bool) -> Result<Round, Refusal> {
        let number = rounds.done;
        let step = if number == 0 { Step::PreDump } else { Step::Iteration };
        let before = self.measured.sent();
        self.steps.started(step);
        let sent = tokio::select! {
            sent = rounds.way.round(sender) => sent,
            refusal = self.control.broken_off() => Err(refusal),
        };
        let sent = sent.inspect_err(|refusal| {
            let moved = self.measured.sent().0.saturating_sub(before.0);
            self.steps.failed_after(step, refusal, Some(Bytes(moved)));
        })?;
        rounds.done += 1;
        let pays = rounds.before.is_none_or(|before| (sent.sent as f64) < before as f64 * PAYS);
        rounds.before = Some(sent.sent);
        let bytes = Bytes(sent.bytes);
        let round = Round {
            number,
            pages: sent.pages,
            sent: sent.sent,
            bytes,
            took: Millis::from(sent.elapsed),
            pays,
        };
        let detail = match number {
            0 => format!("{} of {} pages ({})", sent.sent, sent.pages, rounds.way.means()),
            _ => detail(&self.task().plan, &round, last),
        };
        let note = Note { bytes: Some(bytes), round: Some(round), detail: Some(detail), ..Note::default() };
        self.steps.finished(step, note);
        Ok(round)
    }
}

/// An iteration in a line; `last`: the one right before the freeze.
fn detail(plan: &Plan, round: &Round, last: bool) -> String {
    let planned = plan.iterations.unwrap_or(0);
    let mut text = format!("{} of {planned}: {} pages", round.number, round.sent);
    if !round.pays {
        text.push_str(", no longer pays");
    }
    if !last && ended_early(plan, [round]).is_some() {
        // Without the one that is made right before the freeze.
        match planned.saturating_sub(round.number + 1) {
            1 => text.push_str(": 1 further round is left out"),
            many => text.push_str(&format!(": {many} further rounds are left out")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iteration_after_which_others_are_left_out_says_so() {
        let plan = |iterations, end_early| Plan {
            strategy: Strategy::IterativePrecopy,
            iterations: Some(iterations),
            end_early,
            ..Plan::cold()
        };
        let round = |number, pays| Round {
            number,
            pages: 400,
            sent: 300,
            bytes: Bytes(300 * 4096),
            took: Millis(12.0),
            pays,
        };
        let told = |plan: Plan, round: Round| detail(&plan, &round, false);
        assert_eq!(told(plan(5, true), round(2, true)), "2 of 5: 300 pages");
        let ended = told(plan(5, true), round(2, false));
        assert_eq!(ended, "2 of 5: 300 pages, no longer pays: 2 further rounds are left out");
        let ended = told(plan(4, true), round(2, false));
        assert_eq!(ended, "2 of 4: 300 pages, no longer pays: 1 further round is left out");
        // An order that wants all of them gets them, and after the last one none is left out.
        assert_eq!(told(plan(5, false), round(2, false)), "2 of 5: 300 pages, no longer pays");
        assert_eq!(detail(&plan(5, true), &round(3, false), true), "3 of 5: 300 pages, no longer pays");
    }
}
