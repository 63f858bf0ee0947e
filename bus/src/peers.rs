//! The other agents: who is there, what they can do, and how to ask them something.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mose_protocol::agent::Hello;
use mose_protocol::time::ClockOffset;
use mose_protocol::{HostName, Refusal, RefusalCode, Reply, Request, Response, Timestamp, envelope, keys};
use parking_lot::{Mutex, MutexGuard};
use zenoh::Session;

/// How long a peer may take for what it answers out of memory.
pub const QUICK: Duration = Duration::from_secs(3);

/// Requests over a session.
#[derive(Clone)]
pub struct Requests {
    session: Session,
}

impl Requests {
    /// Requests over `session`.
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    /// Asks the agent on `host`, and waits for its answer.
    ///
    /// # Errors
    /// What the agent refused, or `Unreachable` where it does not answer within `deadline`.
    pub fn ask<'a>(
        &'a self,
        host: &'a HostName,
        request: &'a Request,
        deadline: Duration,
    ) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let unreachable = |reason: &dyn std::fmt::Display| {
                Refusal::new(
                    RefusalCode::Unreachable,
                    format!("the agent on {host} did not answer `{}`: {reason}", request.name()),
                    format!("see whether mose-agent runs on {host} (`mose agents`)"),
                )
            };
            let bytes = envelope::seal(request)?;
            let replies = self
                .session
                .get(keys::requests(host))
                .payload(bytes)
                .timeout(deadline)
                .priority(zenoh::qos::Priority::InteractiveHigh)
                .congestion_control(zenoh::qos::CongestionControl::Block)
                .express(true)
                .await
                .map_err(|error| unreachable(&error))?;
            let answer =
                tokio::time::timeout(deadline + Duration::from_millis(200), replies.recv_async()).await;
            let reply = match answer {
                Ok(Ok(reply)) => reply,
                Ok(Err(_)) => return Err(unreachable(&"no agent listens there")),
                Err(_) => return Err(unreachable(&format!("nothing came within {deadline:?}"))),
            };
            match reply.result() {
                Ok(sample) => envelope::open::<Response>(&sample.payload().to_bytes())?,
                Err(error) => Err(unreachable(&String::from_utf8_lossy(&error.payload().to_bytes()))),
            }
        })
    }

    /// How far the clock of `host` is ahead: the exchange with the shortest round trip of a few tells it best.
    ///
    /// # Errors
    /// Where the host does not answer.
    pub async fn clock_offset(&self, host: &HostName) -> Result<ClockOffset, Refusal> {
        let mut best: Option<ClockOffset> = None;
        for _ in 0..5 {
            let sent = Timestamp::now();
            let Reply::Clock(there) = self.ask(host, &Request::Clock, QUICK).await? else {
                return Err(Refusal::new(
                    RefusalCode::Malformed,
                    format!("{host} did not tell the time"),
                    "",
                ));
            };
            let round_trip = Timestamp::now().0.saturating_sub(sent.0);
            let middle = sent.0 + round_trip / 2;
            let offset = ClockOffset {
                offset_us: i64::try_from(i128::from(there.0) - i128::from(middle)).unwrap_or_default(),
                uncertainty_us: round_trip / 2,
            };
            if best.is_none_or(|best| offset.uncertainty_us < best.uncertainty_us) {
                best = Some(offset);
            }
        }
        Ok(best.unwrap_or_default())
    }
}

/// A peer as it was last seen.
#[derive(Debug, Clone)]
pub struct Peer {
    /// How it introduced itself.
    pub hello: Hello,
    /// Whether its liveliness token is there.
    pub live: bool,
}

/// The other agents.
#[derive(Clone, Default)]
pub struct Peers {
    known: Arc<Mutex<HashMap<HostName, Peer>>>,
}

impl Peers {
    /// Notes how a peer introduced itself.
    pub fn met(&self, hello: Hello) {
        let peer = Peer { live: true, hello };
        self.lock().insert(peer.hello.host.clone(), peer);
    }

    /// Notes that a peer's token is gone.
    pub fn lost(&self, host: &HostName) {
        if let Some(peer) = self.lock().get_mut(host) {
            peer.live = false;
        }
    }

    /// The live peers.
    #[must_use]
    pub fn live(&self) -> Vec<Hello> {
        self.lock().values().filter(|peer| peer.live).map(|peer| peer.hello.clone()).collect()
    }

    /// How a peer introduced itself, also one that is gone.
    #[must_use]
    pub fn introduction(&self, host: &HostName) -> Option<Hello> {
        self.lock().get(host).map(|peer| peer.hello.clone())
    }

    /// One live peer.
    ///
    /// # Errors
    /// Where no agent of that host is live.
    pub fn get(&self, host: &HostName) -> Result<Hello, Refusal> {
        let known = self.lock();
        known.get(host).filter(|peer| peer.live).map(|peer| peer.hello.clone()).ok_or_else(|| {
            let mut names: Vec<_> =
                known.values().filter(|p| p.live).map(|p| p.hello.host.to_string()).collect();
            names.sort();
            Refusal::new(
                RefusalCode::UnknownHost,
                format!("no agent of a host {host} is live"),
                format!("live here: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") }),
            )
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostName, Peer>> {
        self.known.lock()
    }
}
