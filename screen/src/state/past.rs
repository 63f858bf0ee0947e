//! The migrations that are over.

use mose_protocol::MigrationId;
use mose_protocol::record::Record;

use crate::config::Config;

/// Records, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    records: Vec<Record>,
    kept: usize,
}

impl Default for Past {
    fn default() -> Self {
        Self::new(Config::default().history)
    }
}

/// What the history is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// When they began, newest first.
    #[default]
    Newest,
    /// The longest downtime first.
    Downtime,
    /// The longest duration first.
    Duration,
    /// By service.
    Service,
}

impl Order {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Downtime => "downtime",
            Self::Duration => "duration",
            Self::Service => "service",
        }
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Newest => Self::Downtime,
            Self::Downtime => Self::Duration,
            Self::Duration => Self::Service,
            Self::Service => Self::Newest,
        }
    }
}

impl Past {
    /// None yet; so many are kept.
    #[must_use]
    pub const fn new(kept: usize) -> Self {
        Self { records: Vec::new(), kept }
    }

    /// None again.
    #[must_use]
    pub const fn emptied(&self) -> Self {
        Self::new(self.kept)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All of them, newest first.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, migration: &MigrationId) -> Option<&Record> {
        self.records.iter().find(|record| &record.migration == migration)
    }

    /// Adds one; a migration that was in doubt comes again when it is settled.
    pub(super) fn take(&mut self, record: Record) {
        match self.records.iter_mut().find(|known| known.migration == record.migration) {
            Some(known) => *known = record,
            None => {
                let place = self.records.partition_point(|known| known.started_at > record.started_at);
                self.records.insert(place, record);
                self.records.truncate(self.kept);
            }
        }
    }

    /// The places of those that contain `filter` in what is shown of them, in that order.
    #[must_use]
    pub fn found(&self, filter: &str, order: Order) -> Vec<usize> {
        let wanted = filter.to_lowercase();
        let text = |record: &Record| {
            format!(
                "{} {} {} {} {} {}",
                record.migration,
                record.service,
                record.from,
                record.to,
                record.plan.strategy,
                record.outcome_name()
            )
        };
        let shown = |record: &Record| wanted.is_empty() || text(record).to_lowercase().contains(&wanted);
        let mut found: Vec<usize> =
            (0..self.records.len()).filter(|place| shown(&self.records[*place])).collect();
        let of = |place: &usize| &self.records[*place];
        let downtime = |record: &Record| record.downtime.client_gap().or(record.downtime.blackout);
        let longest = |value: Option<f64>| std::cmp::Reverse(value.map(ordered));
        match order {
            Order::Newest => {}
            Order::Downtime => found.sort_by_key(|place| longest(downtime(of(place)).map(|ms| ms.0))),
            Order::Duration => found.sort_by_key(|place| longest(Some(of(place).duration.0))),
            Order::Service => found.sort_by_key(|place| of(place).service.to_string()),
        }
        found
    }
}

/// A figure that can be sorted by; microseconds of a time in milliseconds.
fn ordered(ms: f64) -> u64 {
    (ms.max(0.0) * 1e3) as u64
}
