//! Corrects what Zenoh does with a session's connections, as they open and end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use zenoh::Session;
use zenoh::sample::SampleKind;
use zenoh::session::{Link, ZenohId};

use crate::anew::Connections;
use crate::sockets::{self, Connection};

/// How long a stale session is left open for more connections to join, so that all are closed together. No event tells that the last one
/// has joined, and Zenoh drops a new session if the one before it ends twice.
const SETTLING: Duration = Duration::from_millis(300);

/// Follows the connections of `session` for as long as it lives.
///
/// # Errors
/// Where they cannot be followed.
pub(crate) async fn look_after(session: &Session) -> zenoh::Result<()> {
    let known = Arc::new(Mutex::new(HashMap::<ZenohId, Connections>::new()));
    let of_links = known.clone();
    session
        .info()
        .transport_events_listener()
        .history(true)
        .callback(move |event| {
            let peer = *event.transport().zid();
            match event.kind() {
                SampleKind::Put => known.lock().insert(peer, Connections::default()),
                SampleKind::Delete => known.lock().remove(&peer),
            };
        })
        .background()
        .await?;
    session
        .info()
        .link_events_listener()
        .history(true)
        .callback(move |event| {
            let Some(connection) = ends(event.link()) else { return };
            if event.kind() == SampleKind::Put {
                sockets::never_linger(connection);
            }
            let peer = *event.link().zid();
            let mut sessions = of_links.lock();
            if event.kind() == SampleKind::Put {
                sessions.entry(peer).or_default();
            }
            let Some(connections) = sessions.get_mut(&peer) else { return };
            if !connections.note(event.kind(), connection, Instant::now()) {
                return;
            }
            drop(sessions);
            // Zenoh calls from a thread that may block.
            std::thread::sleep(SETTLING);
            let stale = of_links.lock().get_mut(&peer).map(Connections::take_stale).unwrap_or_default();
            if !stale.is_empty() {
                tracing::info!(%peer, "a peer opened a new session unnoticed; the old one is closed");
                sockets::end(&stale);
            }
        })
        .background()
        .await
}

/// The ends of a link over TCP.
fn ends(link: &Link) -> Option<Connection> {
    let end = |locator: &zenoh::config::Locator| locator.address().as_str().parse().ok();
    Some((end(link.src())?, end(link.dst())?))
}
