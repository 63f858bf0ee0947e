//! When to stop waiting while the service stands still: going on would cost it more than to be taken back.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mose_engine::Container;
use mose_pam::{BitsPerSec, Bytes};
use mose_protocol::{Refusal, RefusalCode};

use super::Source;
use crate::patience::{LEAST, Patience};

/// How often it is looked whether something was sent.
const LOOK: Duration = Duration::from_millis(100);

/// What a link carries of which nothing is known.
const SLOW: BitsPerSec = BitsPerSec(10_000_000);

impl Source {
    /// How long the service may be kept waiting.
    pub(super) fn patience(&self, container: &Container) -> Patience {
        let task = self.task();
        Patience::of(task, || {
            let memory = container.pid.and_then(|pid| self.agent.engine.memory(pid));
            // What was sent so far of its files may have changed since.
            let state = memory.map_or(0, |(bytes, _)| bytes.0).saturating_add(self.measured.sent().0);
            let links = self.agent.links.metrics();
            let link = links.iter().find(|link| link.to == task.to);
            let link = link.and_then(|link| link.available.or(link.capacity));
            let rate = link.into_iter().chain(task.plan.bandwidth).min().unwrap_or(SLOW);
            LEAST.saturating_add(carried_in(Bytes(state), rate))
        })
    }

    /// Returns once nothing was sent for too long, of images that are all `written`, or all of it takes too long.
    pub(super) async fn waits_in_vain(&self, patience: Patience, written: &AtomicBool) -> Refusal {
        let to = &self.task().to;
        let refusal = |what: String| {
            let reason = format!(
                "{what} ({} of it were sent); to go on would have kept it waiting for longer than to take it back",
                self.measured.sent()
            );
            Refusal::new(RefusalCode::Unreachable, reason, "see the link (mose links), and migrate again")
        };
        tokio::select! {
            () = self.stalls(patience.quiet, written) => refusal(format!(
                "nothing could be sent to {to} for {:.1?} while the service stood still", patience.quiet
            )),
            () = tokio::time::sleep(patience.whole) => refusal(format!(
                "the service stood still for {:.1?}, much longer than it should, and was not at {to} yet",
                patience.whole
            )),
        }
    }

    /// Counted in looks, since on a machine that itself stood still no time has passed for the link either.
    async fn stalls(&self, quiet: Duration, written: &AtomicBool) {
        let Ok(looks) = u32::try_from(quiet.as_millis() / LOOK.as_millis()) else { return pending().await };
        let (mut seen, mut same) = (self.measured.sent(), 0);
        while same < looks {
            tokio::time::sleep(LOOK).await;
            let now = self.measured.sent();
            // Before, there may be nothing to send.
            same = if now == seen && written.load(Ordering::Relaxed) { same + 1 } else { 0 };
            seen = now;
        }
    }
}

/// How long it takes to send so much.
fn carried_in(state: Bytes, rate: BitsPerSec) -> Duration {
    let seconds = state.0 as f64 * 8.0 / (rate.0.max(1) as f64);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_takes_as_long_as_the_link_says() {
        assert_eq!(carried_in(Bytes(1_250_000), BitsPerSec(10_000_000)), Duration::from_secs(1));
        assert_eq!(carried_in(Bytes(u64::MAX), BitsPerSec(0)), Duration::MAX);
    }
}
