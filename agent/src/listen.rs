//! Listens to what the other agents tell of themselves, and tells it on.

use std::sync::Arc;

use mose_bus::session::session_refusal;
use mose_protocol::agent::Telemetry;
use mose_protocol::heard::MAX_REMEMBERED;
use mose_protocol::{Refusal, Reply, Timestamp, envelope, keys};
use tokio::time::Instant;
use zenoh::handlers::RingChannel;

use crate::agent::Agent;

/// Telemetry that waits to be taken in; where it is more, the oldest goes.
const WAITING: usize = 512;

impl Agent {
    /// Takes in what the others tell of themselves.
    pub(crate) async fn hear_peers(self: &Arc<Self>) -> Result<(), Refusal> {
        let subscriber = self
            .session
            .declare_subscriber(keys::TELEMETRY_ALL)
            .with(RingChannel::new(WAITING))
            .await
            .map_err(|error| session_refusal(&error))?;
        let agent = self.clone();
        self.spawn(async move {
            while let Ok(sample) = subscriber.recv_async().await {
                let Some(host) = keys::host_of_telemetry(sample.key_expr().as_str()) else { continue };
                if host == agent.config.host {
                    continue;
                }
                let bytes = sample.payload();
                let said = (bytes.len() <= MAX_REMEMBERED)
                    .then(|| envelope::open::<Telemetry>(&bytes.to_bytes()).ok())
                    .flatten()
                    .filter(|said| said.host == host);
                agent.heard.note(host, said, Instant::now());
            }
        });
        Ok(())
    }

    /// What was heard last of the others, and what is known of the links to them.
    pub(crate) fn tell_heard(&self) -> Reply {
        let mut hosts = self.heard.tell(Instant::now());
        for heard in &mut hosts {
            heard.hello = self.peers.introduction(&heard.host).map(Box::new);
            heard.towards = self.links.to(&heard.host);
        }
        Reply::Heard { at: Timestamp::now(), hosts }
    }
}
