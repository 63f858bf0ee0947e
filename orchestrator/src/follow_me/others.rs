//! Telling other consoles how following stands. Peers hand no publications on to each other, so the mobile host's agent tells it in its
//! telemetry.

use std::sync::Arc;
use std::time::Duration;

use mose_bus::peers::QUICK;
use mose_protocol::following::FollowNews;
use mose_protocol::{Request, Timestamp};
use tokio::sync::watch;

use super::Standing;
use crate::fleet::Fleet;

/// The least time between two tellings: what stands changes with every telemetry, and the mobile host may be on a weak radio link.
const APART: Duration = Duration::from_millis(500);

/// Tells it while the service follows, and once when it no longer does; until nobody stands any more. While nothing follows it is silent:
/// there may be several such consoles.
pub(super) async fn tell(fleet: Arc<Fleet>, mut standing: watch::Receiver<Standing>) {
    let mut told_on = false;
    while standing.changed().await.is_ok() {
        let now = standing.borrow_and_update().clone();
        let on = now.on;
        let Some(following) = now.following().filter(|_| on || told_on) else { continue };
        let mobile = following.mobile.clone();
        let news = FollowNews { by: fleet.number(), told_at: Timestamp::now(), following };
        // What does not arrive is told again: it stands anew once a second.
        if let Err(refusal) = fleet.ask_within(&mobile, &Request::Following(Box::new(news)), QUICK).await {
            tracing::debug!(%mobile, %refusal, "it does not tell others what follows it");
        }
        told_on = on;
        tokio::time::sleep(APART).await;
    }
}
