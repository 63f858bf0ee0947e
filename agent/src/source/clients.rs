//! Watching the clients of a service while it moves.

use std::net::Ipv4Addr;
use std::time::Duration;

use mose_bus::peers::QUICK;
use mose_protocol::agent::Role;
use mose_protocol::handover::{WatchTarget, Watched};
use mose_protocol::record::ClientGap;
use mose_protocol::time::ClockOffset;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request};
use tokio::time::Instant;

use super::Source;
use crate::client_gap::{self, Away};

/// How long connections may wait after the service is back before their watch is ended, beside the time that it was away: TCP
/// backs off, so that a lost segment is sent again after at most as long as the silence before.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest that is waited in all.
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// A host whose clients are watched.
pub(crate) struct Watcher {
    host: HostName,
    /// How far its clock is ahead.
    clock: ClockOffset,
}

impl Source {
    /// Has the clients' hosts watch the service's packets.
    pub(super) async fn watch_clients(&mut self, address: Ipv4Addr) {
        let request =
            Request::Watch { migration: self.task().migration.clone(), target: WatchTarget { address } };
        for host in self.mobile_peers() {
            let watching = async {
                let clock = self.agent.requests.clock_offset(&host).await?;
                self.agent.requests.ask(&host, &request, QUICK).await.map(|_| clock)
            };
            match watching.await {
                Ok(clock) => self.watchers.push(Watcher { host, clock }),
                Err(refusal) => tracing::warn!(%host, %refusal, "the clients there are not watched"),
            }
        }
    }

    /// Ends the watches at the clients once every connection that asked has been answered, or it took too long.
    pub(super) async fn measure_clients(&mut self) {
        self.meet_watchers().await;
        let away = self.measured.away();
        let deadline = Instant::now() + (PATIENCE + away.length()).min(MOST_PATIENCE);
        let mut gaps = Vec::new();
        for watcher in &self.watchers {
            let away = away.on(watcher.clock);
            let mut seen = self.seen(watcher, &away, false).await;
            while Instant::now() < deadline
                && !seen.as_ref().is_ok_and(|seen| seen.iter().all(|w| client_gap::answered(w, &away)))
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if let Ok(now) = self.seen(watcher, &away, false).await {
                    seen = Ok(now);
                }
            }
            // What was seen last is told where the host does not answer any more.
            let last = self.seen(watcher, &away, true).await.or(seen);
            gaps.extend(told(watcher, last, &away));
        }
        self.watchers.clear();
        self.measured.clients(gaps);
    }

    /// What the clients have seen so far; the watches go on.
    pub(crate) async fn clients_so_far(&self) -> Vec<ClientGap> {
        let away = self.measured.away();
        let mut gaps = Vec::new();
        for watcher in &self.watchers {
            let away = away.on(watcher.clock);
            let seen = self.seen(watcher, &away, false).await;
            gaps.extend(told(watcher, seen, &away));
        }
        gaps
    }

    async fn seen(&self, watcher: &Watcher, away: &Away, stop: bool) -> Result<Vec<Watched>, Refusal> {
        let migration = self.task().migration.clone();
        let request = Request::Watched { migration, stop, outage: away.outage() };
        match self.agent.requests.ask(&watcher.host, &request, QUICK).await? {
            Reply::Watched(seen) => Ok(seen),
            _ => Err(Refusal::new(
                RefusalCode::Malformed,
                format!("{} answered something else", watcher.host),
                "update its agent",
            )),
        }
    }

    /// After a restart the agent asks whoever may have watched for the life before.
    async fn meet_watchers(&mut self) {
        if !self.watchers.is_empty() {
            return;
        }
        for host in self.mobile_peers() {
            if let Ok(clock) = self.agent.requests.clock_offset(&host).await {
                self.watchers.push(Watcher { host, clock });
            }
        }
    }

    /// Ends watches that nobody will ask for any more.
    pub(super) async fn end_watches(&self) {
        let migration = self.task().migration.clone();
        let request = Request::Watched { migration, stop: true, outage: Default::default() };
        for watcher in &self.watchers {
            let _ = self.agent.requests.ask(&watcher.host, &request, QUICK).await;
        }
    }

    /// The hosts that may have clients.
    pub(super) fn mobile_peers(&self) -> Vec<HostName> {
        let peers = self.agent.peers.live();
        peers.into_iter().filter(|peer| peer.role == Role::Mobile).map(|peer| peer.host).collect()
    }
}

/// What a host's watch comes to, or why nothing does.
fn told(watcher: &Watcher, seen: Result<Vec<Watched>, Refusal>, away: &Away) -> Vec<ClientGap> {
    match seen {
        Ok(seen) => seen.iter().map(|watched| client_gap::judge(&watcher.host, watched, away)).collect(),
        Err(refusal) => vec![client_gap::unheard(&watcher.host, &refusal)],
    }
}
