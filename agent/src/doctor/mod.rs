//! What usually breaks on a host, looked at when it is asked for: each check within a time of its own, and one that cannot be
//! made is unknown, never ok.
//!
//! What the container engine stands on, it looks at itself ([`Engine::doctor`](mose_engine::Engine::doctor)).

mod images;
mod overlay;

use std::time::Duration;

use mose_movable::disk;
use mose_pam::Bytes;
use mose_protocol::agent::Role;
use mose_protocol::doctor::{Check, bounded};

use crate::agent::Agent;

/// For what the kernel or a daemon of this host answers.
const LOCAL: Duration = Duration::from_secs(6);

/// For all that the engine looks at.
const ENGINE: Duration = Duration::from_secs(20);

/// What journals, history and calibrations need.
const STATE_ROOM: Bytes = Bytes(64 << 20);

/// What even the smallest service's images may come to.
const LEAST_ROOM: Bytes = Bytes(256 << 20);

impl Agent {
    /// Looks at this host. Takes less than half a minute, whatever hangs.
    pub(crate) async fn doctor(&self) -> Vec<Check> {
        let edge = self.config.role == Role::Edge;
        let state = disk(
            "state folder",
            self.config.state.clone(),
            STATE_ROOM,
            "journals, history and container images on their way",
        );
        let overlay = in_time("overlay", LOCAL, async { overlay::checks(self.overlay.health().await) });
        let engine = async {
            if !edge {
                return Vec::new();
            }
            let elsewhere = images::elsewhere(self).await;
            // Pages that come before the dump lie beside the images.
            let room = Bytes(elsewhere.largest.0.saturating_mul(2).max(LEAST_ROOM.0));
            let (mut checks, images) = tokio::join!(
                in_time("container engine", ENGINE, self.engine.doctor(room)),
                in_time("container images", LOCAL, images::checks(&*self.engine, &elsewhere)),
            );
            checks.extend(images);
            checks
        };
        let (engine, overlay, state) = tokio::join!(engine, overlay, state);
        let mut checks = engine;
        checks.extend(overlay);
        checks.push(state);
        bounded(checks)
    }
}

/// What `checks` come to, or that they took too long.
async fn in_time(what: &str, limit: Duration, checks: impl Future<Output = Vec<Check>>) -> Vec<Check> {
    tokio::time::timeout(limit, checks).await.unwrap_or_else(|_| vec![Check::late(what, limit)])
}

#[cfg(test)]
mod tests {
    use mose_protocol::doctor::CheckState;

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_unknown_and_never_ok() {
        let checks = in_time("overlay", Duration::from_millis(20), std::future::pending()).await;
        assert_eq!((checks.len(), checks[0].state), (1, CheckState::Unknown));
        assert!(checks[0].found.contains("within 20ms"), "{checks:?}");
    }
}
