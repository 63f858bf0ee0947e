//! What is known of each link, and whose turn it is to be measured.

use std::collections::HashMap;
use std::time::Duration;

use mose_protocol::record::{Outcome, Record, StepTime};
use mose_protocol::step::Step;
use mose_protocol::{HostName, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::BURSTS;
use super::estimate::Estimate;

/// How often a burst is sent on a link.
const BURST_PERIOD: Duration = Duration::from_secs(60);

/// The least time between two bursts of this agent, on whichever links.
const BURST_SPACING: Duration = Duration::from_secs(2);

/// What is known of each link, by the host at its other end.
#[derive(Default)]
pub(super) struct KnownLinks(Mutex<HashMap<HostName, Known>>);

/// What is known of a link.
#[derive(Default)]
pub(super) struct Known {
    pub(super) estimate: Estimate,
    pub(super) last_burst: Option<Instant>,
}

impl KnownLinks {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<HostName, Known>> {
        self.0.lock()
    }

    pub(super) fn with<T>(&self, host: &HostName, work: impl FnOnce(&mut Known) -> T) -> T {
        work(self.lock().entry(host.clone()).or_default())
    }

    /// Whether it is a link's turn for a burst: it is new, or its last one is a minute ago; and no other was just now.
    pub(super) fn burst_due(&self, host: &HostName, now: Instant) -> bool {
        let known = self.lock();
        let newest = known.values().filter_map(|known| known.last_burst).max();
        if newest.is_some_and(|newest| now < newest + BURST_SPACING) {
            return false;
        }
        known.get(host).is_none_or(|known| {
            let period = if known.estimate.bursts() < BURSTS { BURST_SPACING } else { BURST_PERIOD };
            known.last_burst.is_none_or(|last| now >= last + period)
        })
    }

    /// What a migration's transfer shows of its link, if it was held up by nothing else.
    pub(super) fn transferred(&self, record: &Record) {
        if !matches!(record.outcome, Outcome::Done | Outcome::Rehearsed) || record.plan.bandwidth.is_some() {
            return;
        }
        let sent = |step: &&StepTime| step.step == Step::Transfer && step.host == record.from;
        if let Some(step) = record.steps.iter().find(sent)
            && let Some(bytes) = step.bytes
        {
            let begun = record.started_at.0 as f64 + (step.start.0 + step.took.0) * 1e3;
            self.with(&record.to, |known| known.estimate.transfer(bytes, step.took, Timestamp(begun as u64)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::estimate::Burst;
    use super::*;

    fn host(name: &str) -> HostName {
        name.parse().unwrap()
    }

    #[test]
    fn a_new_link_has_its_bursts_soon_and_then_one_a_minute() {
        let links = KnownLinks::default();
        let (a, b, begin) = (host("a"), host("b"), Instant::now());
        assert!(links.burst_due(&a, begin));
        links.with(&a, |known| known.last_burst = Some(begin));
        assert!(!links.burst_due(&a, begin + BURST_SPACING / 2));
        assert!(!links.burst_due(&b, begin + BURST_SPACING / 2), "no two at once");
        assert!(links.burst_due(&a, begin + BURST_SPACING));
        // Some that told something.
        let arrivals: Vec<_> = (1..100).map(|i| (i * 1_000_000, i * 50_000)).collect();
        links.with(&a, |known| {
            for _ in 0..BURSTS {
                assert!(
                    known
                        .estimate
                        .burst(&Burst { arrivals: arrivals.clone(), others: (0.0, 0.0) }, Timestamp(1))
                );
            }
        });
        assert!(!links.burst_due(&a, begin + BURST_PERIOD / 2));
        assert!(links.burst_due(&a, begin + BURST_PERIOD));
    }
}
