//! Whether the client is being answered. What it reported before its service stopped says nothing about now.

use mose_pam::Millis;
use mose_protocol::agent::ClientInfo;

use super::cast::client;
use crate::derived::Act;
use crate::state::Host;
use crate::view::Scene;

/// Whether the client is being answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answers {
    /// It reports that it is.
    Come,
    /// It reports that it waits, for this long by now.
    Awaited(Millis),
    /// It has not reported a wait, but its service has been stopped for this long and cannot answer.
    Impossible(Millis),
    /// Its service is back after this long, and the client has not reported since.
    Untold(Millis),
}

impl Answers {
    /// Of the client that is shown, with its host.
    pub(super) fn of<'a>(scene: &'a Scene<'_>) -> Option<(Self, &'a Host, &'a ClientInfo)> {
        let (host, client) = client(scene)?;
        let age = host.age(scene.state.shown().now).unwrap_or_default().0.max(0.0);
        let told = scene.state.headline();
        let stopped = told.time.unwrap_or_default();
        let untold = told.act == Act::Back && since_back(scene).is_some_and(|since| since <= age);
        // A wait has grown since it was reported.
        let waits = client.silent.map(|silent| Millis(silent.0 + age)).filter(|waits| waits.0.is_finite());
        let answers = match waits {
            _ if untold => Self::Untold(stopped),
            Some(waits) => Self::Awaited(waits),
            None if told.act == Act::Stopped => Self::Impossible(stopped),
            None => Self::Come,
        };
        Some((answers, host, client))
    }
}

/// How long ago the service that is being moved came back, in milliseconds.
fn since_back(scene: &Scene<'_>) -> Option<f64> {
    let data = scene.state.shown();
    let track = data.migrations.newest_of(scene.state.followed()?)?;
    let (_, back) = track.frozen(data.now)?;
    Some(data.now.since(track.begun()).0 - back.0)
}
