//! What `mose lab services` finds.

use mose_lab::trial::{Contents, Figures};
use mose_pam::Strategy;
use mose_protocol::record::{Outcome, Record};
use schemars::JsonSchema;
use serde::Serialize;

/// `mose lab services`: real services under their clients, there and back.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Trials {
    /// Each service, in the order in which they were tried.
    pub services: Vec<Tried>,
}

impl Trials {
    /// Whether nothing was lost, nothing failed, and all that was to be moved was.
    #[must_use]
    pub fn good(&self) -> bool {
        !self.services.is_empty() && self.services.iter().all(Tried::good)
    }
}

/// A service that was tried.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Tried {
    /// Which.
    pub service: String,
    /// What it is, in a few words.
    pub what: String,
    /// A row for each strategy.
    pub by: Vec<TriedBy>,
    /// What its clients saw from the first to the last.
    pub all: Figures,
    /// What failed at the clients, in words.
    pub failures: Vec<String>,
    /// Its contents after the last move; none if it could not be asked.
    pub moved: Option<Contents>,
    /// Its contents after it was then stopped and started again.
    pub restarted: Option<Contents>,
    /// What broke the trial off, if anything did.
    pub broken_off: Option<String>,
}

impl Tried {
    /// Whether nothing was lost, nothing failed, and all that was to be moved was.
    #[must_use]
    pub fn good(&self) -> bool {
        let whole = |contents: &Option<Contents>| contents.as_ref().is_some_and(|c| c.whole());
        self.broken_off.is_none()
            && !self.by.is_empty()
            && self.by.iter().all(TriedBy::good)
            && self.all.requests > 0
            && self.all.lost + self.all.failed == 0
            && whole(&self.moved)
            && whole(&self.restarted)
    }
}

/// What came of a strategy.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TriedBy {
    /// Which.
    pub strategy: Strategy,
    /// How long the service was stopped, the longest of its moves.
    pub service_stopped_ms: Option<f64>,
    /// What the clients saw while it was moved by this strategy.
    pub clients: Figures,
    /// Whether all clients were at work during all moves.
    pub under_load: bool,
    /// The moves.
    pub records: Vec<Record>,
}

impl TriedBy {
    /// Whether every move was done, under load, and its clients noticed nothing but silence.
    #[must_use]
    pub fn good(&self) -> bool {
        let done = |record: &Record| record.outcome == Outcome::Done;
        self.under_load
            && !self.records.is_empty()
            && self.records.iter().all(done)
            && self.clients.lost + self.clients.failed == 0
    }
}
