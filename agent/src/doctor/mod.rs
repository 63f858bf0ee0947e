//! What usually breaks on a host, looked at when it is asked for: each check within a time of its own, and one that cannot be
//! made is unknown, never ok.
//!
//! What the container engine stands on, it looks at itself ([`Engine::doctor`](crate::engine::Engine::doctor)).

mod images;
mod overlay;

use std::path::Path;
use std::time::Duration;

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
pub(crate) async fn in_time(
    what: &str,
    limit: Duration,
    checks: impl Future<Output = Vec<Check>>,
) -> Vec<Check> {
    tokio::time::timeout(limit, checks).await.unwrap_or_else(|_| vec![late(what, limit)])
}

/// A check that took too long.
pub(crate) fn late(what: &str, limit: Duration) -> Check {
    let reason = format!("no answer within {limit:?}");
    Check::unknown(
        what,
        reason,
        "look at the agent's log, and whether that host is overloaded; then ask again",
    )
}

/// Whether a folder, or the place where it is going to be, has room.
pub(crate) async fn disk(what: &str, folder: std::path::PathBuf, needed: Bytes, holds: &str) -> Check {
    let place = folder.clone();
    // A dead network file system never answers.
    let asked = tokio::task::spawn_blocking(move || free(&place));
    let shown = folder.display();
    match tokio::time::timeout(LOCAL, asked).await {
        Err(_) => late(what, LOCAL),
        Ok(Err(error)) => Check::unknown(what, format!("{shown}: {error}"), "ask again"),
        Ok(Ok(Err(error))) => Check::unknown(
            what,
            format!("the free space of {shown} cannot be read: {error}"),
            "see whether the folder exists and its file system is mounted",
        ),
        Ok(Ok(Ok(free))) if free < needed => Check::broken(
            what,
            format!("{free} free in {shown}, and {needed} are wanted for {holds}"),
            format!("free {} there, or move the folder to a larger file system", Bytes(needed.0 - free.0)),
        ),
        Ok(Ok(Ok(free))) => Check::ok(what, format!("{free} free in {shown}")),
    }
}

/// What an unprivileged process may still write in a folder, or in the nearest one above it that exists.
fn free(folder: &Path) -> std::io::Result<Bytes> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let found = nix::sys::statvfs::statvfs(there)?;
    Ok(Bytes(found.blocks_available().saturating_mul(found.fragment_size())))
}

#[cfg(test)]
mod tests {
    use mose_protocol::doctor::CheckState;

    use super::*;

    #[tokio::test]
    async fn a_disk_without_room_is_broken_and_says_how_much_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let deeper = folder.path().join("not/yet/made");
        let fits = disk("state folder", deeper.clone(), Bytes(1), "journals").await;
        assert_eq!(fits.state, CheckState::Ok, "{fits:?}");
        let short = disk("state folder", deeper, Bytes(u64::MAX), "journals").await;
        assert_eq!(short.state, CheckState::Broken, "{short:?}");
        assert!(short.found.contains("for journals"), "{short:?}");
        assert!(short.remedy.unwrap().starts_with("free "));
    }

    #[tokio::test]
    async fn what_hangs_is_unknown_and_never_ok() {
        let checks = in_time("overlay", Duration::from_millis(20), std::future::pending()).await;
        assert_eq!((checks.len(), checks[0].state), (1, CheckState::Unknown));
        assert!(checks[0].found.contains("within 20ms"), "{checks:?}");
    }
}
