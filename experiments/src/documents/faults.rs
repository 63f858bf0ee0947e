//! What `mose lab faults` and `mose lab soak` find.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `mose lab faults`: the table of faults in the lab.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FaultTable {
    /// What comes of all cells.
    pub totals: FaultTotals,
    /// Each cell.
    pub cells: Vec<FaultCell>,
    /// What the table leaves to the simulation and the model, which need no lab.
    pub elsewhere: Vec<Elsewhere>,
}

/// Faults that are struck elsewhere.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Elsewhere {
    /// Which.
    pub what: String,
    /// Where.
    pub by: String,
    /// The command that does it.
    pub command: String,
}

/// A cell: a fault at a moment, at a side, while the service is moved by a strategy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultCell {
    /// Fault, moment, side and strategy.
    pub name: String,
    /// What went wrong.
    pub fault: String,
    /// When.
    pub moment: String,
    /// At which side.
    pub side: String,
    /// By which strategy the service was moved, and which way its images went where that is not TCP.
    pub strategy: String,
    /// How it ended: done, refused, rolled back, aborted, given up; where it was in doubt before, that too.
    pub outcome: String,
    /// How it may end.
    pub expected: String,
    /// How long the service stood still as the client saw it: the longest silence in its own log. Where that lists none, what it was at most.
    pub silence_ms: f64,
    /// How long it may stand still for this fault.
    pub bound_ms: f64,
    /// Requests that were never answered.
    pub lost: u64,
    /// Requests that were answered more than once, and counts that two copies gave.
    pub repeated: u64,
    /// Answers that were damaged, or told of lost state.
    pub corrupted: u64,
    /// Connections that were reset or closed.
    pub resets: u64,
    /// Connections that the client had, of which all but those that were reset were kept.
    pub connections: u64,
    /// Copies that ran at the end.
    pub copies: u32,
    /// Where.
    pub on: Vec<String>,
    /// What was left over, in words.
    pub leaked: Vec<String>,
    /// The client gap that the record tells; none where it tells none, or says that it is unknown.
    pub told_ms: Option<f64>,
    /// Whether that is off the client's own log by more than 10 % and 20 ms.
    pub told_off: bool,
    /// Whether all is as it should be.
    pub good: bool,
    /// Why not.
    pub why: Vec<String>,
    /// What the record gives as the reason.
    pub reason: Option<String>,
    /// How long the cell took, in seconds.
    pub took_s: f64,
}

/// What comes of all cells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FaultTotals {
    /// How many.
    pub cells: usize,
    /// The service was moved.
    pub done: usize,
    /// It went on at its source after something failed.
    pub rolled_back: usize,
    /// Nothing was changed.
    pub refused: usize,
    /// The operator broke it off.
    pub aborted: usize,
    /// It was in doubt, and then one of these.
    pub settled: usize,
    /// The operator had one copy discarded, and no other was heard of.
    pub given_up: usize,
    /// Requests that were never answered, and answers that told of lost state.
    pub lost: u64,
    /// Requests that were answered twice, and cells at whose end more than one copy ran.
    pub duplicated: u64,
    /// Cells at whose end no copy ran.
    pub without_copy: usize,
    /// Connections that were reset or closed.
    pub resets: u64,
    /// Things that were left over.
    pub leaked: usize,
    /// Cells in which the service stood still for longer than its bound.
    pub over_bound: usize,
    /// Records whose client gap is off the client's own log.
    pub figures_off: usize,
    /// Cells that are not as they should be, for whichever reason.
    pub failed: usize,
}

impl FaultTotals {
    /// The totals of these.
    #[must_use]
    pub fn of(cells: &[FaultCell]) -> Self {
        let ended = |word: &str| cells.iter().filter(|cell| cell.outcome.ends_with(word)).count();
        let counted = |count: fn(&FaultCell) -> u64| cells.iter().map(count).sum::<u64>();
        let those = |which: fn(&&FaultCell) -> bool| cells.iter().filter(which).count();
        Self {
            cells: cells.len(),
            done: ended("done"),
            rolled_back: ended("rolled back"),
            refused: ended("refused"),
            aborted: ended("aborted"),
            settled: those(|cell| cell.outcome.starts_with("in doubt, then")),
            given_up: ended("given up"),
            lost: counted(|cell| cell.lost + cell.corrupted),
            duplicated: counted(|cell| cell.repeated + u64::from(cell.copies > 1)),
            without_copy: those(|cell| cell.copies == 0),
            resets: counted(|cell| cell.resets),
            leaked: cells.iter().map(|cell| cell.leaked.len()).sum(),
            over_bound: those(|cell| cell.silence_ms > cell.bound_ms),
            figures_off: those(|cell| cell.told_off),
            failed: those(|cell| !cell.good),
        }
    }

    /// Whether everything is zero that has to be.
    #[must_use]
    pub const fn good(&self) -> bool {
        self.lost + self.duplicated + self.resets == 0
            && self.without_copy + self.leaked + self.over_bound + self.figures_off + self.failed == 0
    }
}

/// `mose lab soak`: many migrations with faults in some, under one client.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Soak {
    /// What the faults were drawn from.
    pub seed: u64,
    /// What comes of all migrations.
    pub totals: FaultTotals,
    /// How many had a fault.
    pub struck: usize,
    /// What the clients saw from the first to the last: requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// The memory of each edge host's agent; none where there were too few migrations to tell.
    pub agents: Vec<AgentMemory>,
    /// Each migration.
    pub migrations: Vec<FaultCell>,
}

impl Soak {
    /// Whether everything is zero that has to be, and the agents' memory has not grown.
    #[must_use]
    pub fn good(&self) -> bool {
        self.totals.good() && self.agents.iter().all(AgentMemory::good)
    }
}

/// What an agent held in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentMemory {
    /// The agent's host.
    pub host: String,
    /// Its resident memory after 50 migrations, in bytes: the median of the last ten readings, one after each migration.
    pub early_bytes: u64,
    /// And at the end.
    pub late_bytes: u64,
    /// The one over the other.
    pub ratio: f64,
    /// How many agents there were on that host one after the other: each that was killed and its successor.
    pub lives: usize,
}

impl AgentMemory {
    /// An agent's memory at two times.
    #[must_use]
    pub fn of(host: &str, early_bytes: u64, late_bytes: u64, lives: usize) -> Self {
        let ratio = late_bytes as f64 / early_bytes.max(1) as f64;
        Self { host: host.to_owned(), early_bytes, late_bytes, ratio, lives }
    }

    /// Whether it has not grown by more than a tenth.
    #[must_use]
    pub fn good(&self) -> bool {
        self.ratio <= 1.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(outcome: &str) -> FaultCell {
        FaultCell { outcome: outcome.into(), bound_ms: 5.0, copies: 1, good: true, ..FaultCell::default() }
    }

    #[test]
    fn each_outcome_is_counted_and_what_was_in_doubt_before_too() {
        let cells = [cell("done"), cell("rolled back"), cell("in doubt, then done"), cell("refused")];
        let totals = FaultTotals::of(&cells);
        assert_eq!((totals.cells, totals.done, totals.rolled_back, totals.refused), (4, 2, 1, 1));
        assert_eq!((totals.settled, totals.good()), (1, true));
    }

    #[test]
    fn every_kind_of_harm_shows_in_the_totals() {
        let harms: [fn(&mut FaultCell); 8] = [
            |cell| cell.lost = 1,
            |cell| cell.repeated = 1,
            |cell| cell.resets = 1,
            |cell| cell.copies = 2,
            |cell| cell.copies = 0,
            |cell| cell.leaked.push("a port".into()),
            |cell| cell.silence_ms = 6.0,
            |cell| cell.good = false,
        ];
        for harm in harms {
            let mut harmed = cell("done");
            harm(&mut harmed);
            assert!(!FaultTotals::of(&[harmed.clone()]).good(), "{harmed:?}");
        }
    }

    #[test]
    fn an_agent_may_grow_by_a_tenth() {
        assert!(AgentMemory::of("edge-a", 100, 110, 1).good());
        assert!(!AgentMemory::of("edge-a", 100, 111, 1).good());
    }
}
