//! Watching a service's packets at its clients, on behalf of a migration: what each connection waited for, on its own host's clock.

use std::collections::HashMap;
use std::sync::Arc;

use mose_coat::Overlay;
use mose_coat::gap::{self, GapReport, GapWatch};
use mose_pam::Millis;
use mose_protocol::handover::{Outage, WatchTarget, Watched};
use mose_protocol::record::MOST_ANSWERS;
use mose_protocol::{HostName, MigrationId, Refusal, RefusalCode, Timestamp};
use parking_lot::Mutex;

use crate::overlay::overlay_refusal;

/// The most endpoints that are watched at once for one migration.
const MAX_WATCHED: usize = 16;

/// The most migrations that are watched at once.
const MAX_WATCHES: usize = 64;

/// The watches that are on at a host.
pub(crate) struct Watches {
    host: HostName,
    overlay: Arc<dyn Overlay>,
    on: Mutex<HashMap<MigrationId, Vec<Box<dyn GapWatch>>>>,
}

impl Watches {
    /// None yet.
    pub(crate) fn new(host: HostName, overlay: Arc<dyn Overlay>) -> Self {
        Self { host, overlay, on: Mutex::default() }
    }

    /// Watches, at every endpoint of this host, what comes from an address and goes to it.
    pub(crate) async fn begin(&self, migration: &MigrationId, target: WatchTarget) -> Result<(), Refusal> {
        {
            let watches = self.on.lock();
            if watches.contains_key(migration) {
                return Ok(());
            }
            if watches.len() >= MAX_WATCHES {
                return Err(Refusal::new(
                    RefusalCode::Conflict,
                    format!("{} migrations are being watched at {}", watches.len(), self.host),
                    "wait for them to end",
                ));
            }
        }
        let endpoints = self.overlay.endpoints().await.map_err(|error| overlay_refusal(&error))?;
        let mut probes = Vec::new();
        for endpoint in endpoints.iter().filter(|e| e.spec.address.addr() != target.address).take(MAX_WATCHED)
        {
            match self.overlay.watch(endpoint, target.address) {
                Ok(probe) => probes.push(probe),
                Err(error) => tracing::warn!(endpoint = endpoint.spec.name, %error, "cannot be watched"),
            }
        }
        self.on.lock().insert(migration.clone(), probes);
        Ok(())
    }

    /// What was seen so far, where anything was: by a service that was heard, or a client that asked.
    pub(crate) async fn seen(&self, migration: &MigrationId, stop: bool, outage: Outage) -> Vec<Watched> {
        let outage = gap::Outage { from: outage.from.map(Into::into), until: outage.until.map(Into::into) };
        let reports = if stop {
            let probes = self.on.lock().remove(migration).unwrap_or_default();
            let stopping = move || probes.into_iter().map(|probe| probe.stop(outage)).collect::<Vec<_>>();
            tokio::task::spawn_blocking(stopping).await.unwrap_or_default()
        } else {
            let watches = self.on.lock();
            watches
                .get(migration)
                .map(|probes| probes.iter().map(|probe| probe.report(outage)).collect())
                .unwrap_or_default()
        };
        let now = Timestamp::now();
        reports
            .into_iter()
            .filter(|report| report.packets > 0 || report.waits.asked > 0)
            .map(|report| told(&report, now))
            .collect()
    }
}

const _: () = assert!(gap::MOST_ANSWERS == MOST_ANSWERS, "what is measured is what a record has room for");

/// The times of the answers around a wait, after its begin.
fn around(answers: &gap::Answers) -> Vec<Millis> {
    let Some(since) = answers.since.map(Timestamp::from) else { return Vec::new() };
    answers.at.iter().map(|at| Timestamp::from(*at).since(since)).collect()
}

fn told(report: &GapReport, now: Timestamp) -> Watched {
    let waits = report.waits;
    // Acknowledgements alone are no service; but some services send nothing else.
    let silence = report.longest_payload_silence.unwrap_or(report.longest_silence);
    Watched {
        asked: waits.asked,
        wait: waits.longest.map(|wait| Millis::from(wait.length)),
        since: waits.longest.map(|wait| wait.since.into()),
        waiting_since: waits.open.map(|wait| wait.since.into()),
        waiting: waits.waiting,
        first_ask: waits.first_ask.map(Into::into),
        silence: Millis::from(silence),
        last: report.last_packet_at.map(Into::into),
        now: Some(now),
        packets: report.packets,
        missed: report.missed + waits.unfollowed,
        resets: report.resets,
        accepted: report.syn_acks,
        answers_ms: around(&report.answers),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn answers_are_told_after_the_begin_of_the_wait() {
        let at = |us| SystemTime::UNIX_EPOCH + Duration::from_micros(us);
        let answers = gap::Answers { since: Some(at(50_000)), at: [29_500, 50_000, 250_125].map(at).into() };
        let report = GapReport { answers, ..GapReport::nothing() };
        assert_eq!(told(&report, Timestamp(0)).answers_ms, [-20.5, 0.0, 200.125].map(Millis));
        assert_eq!(told(&GapReport::nothing(), Timestamp(0)).answers_ms, []);
    }
}
