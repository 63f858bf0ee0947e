//! Watching the clients of a service while it moves.

use std::time::Duration;

use mose_protocol::agent::Role;
use mose_protocol::{HostName, Reply, Request};

use super::Source;
use crate::peers::QUICK;

/// How long a client may stay silent after the restore before its watch is ended.
const WATCH_DEADLINE: Duration = Duration::from_secs(5);

impl Source {
    /// Ends the watches at the clients, once they have heard from the service again.
    pub(super) async fn measure_clients(&mut self) {
        let migration = self.task().migration.clone();
        let back = self.measured.back_at();
        for host in self.watchers() {
            let deadline = tokio::time::Instant::now() + WATCH_DEADLINE;
            // When the service was back, on that host's clock.
            let Ok(clock) = self.agent.requests.clock_offset(&host).await else { continue };
            let back = back.map(|back| back.shifted(clock.offset_us));
            loop {
                let stop = tokio::time::Instant::now() > deadline;
                let request = Request::Watched { migration: migration.clone(), stop: false };
                let Ok(Reply::Watched(seen)) = self.agent.requests.ask(&host, &request, QUICK).await else {
                    break;
                };
                let heard = seen.iter().all(|w| w.last.zip(back).is_none_or(|(last, back)| last > back));
                if stop || heard {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let request = Request::Watched { migration: migration.clone(), stop: true };
            if let Ok(Reply::Watched(seen)) = self.agent.requests.ask(&host, &request, QUICK).await {
                for watched in seen {
                    self.measured.client(&host, &watched);
                }
            }
        }
    }

    /// Ends watches that nobody will ask for any more.
    pub(super) async fn end_watches(&self) {
        let request = Request::Watched { migration: self.task().migration.clone(), stop: true };
        for host in self.watchers() {
            let _ = self.agent.requests.ask(&host, &request, QUICK).await;
        }
    }

    /// The hosts whose clients are watched.
    pub(super) fn watchers(&self) -> Vec<HostName> {
        let peers = self.agent.peers.live();
        peers.into_iter().filter(|peer| peer.role == Role::Mobile).map(|peer| peer.host).collect()
    }
}
