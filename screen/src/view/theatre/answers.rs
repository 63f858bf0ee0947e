//! Whether the client is answered now, as far as anybody knows: what it told before its service stopped says nothing of after.

use mose_pam::Millis;
use mose_protocol::agent::ClientInfo;

use super::cast::client;
use crate::derived::Act;
use crate::state::Host;
use crate::view::Scene;

/// Whether the client is answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answers {
    /// It says so.
    Come,
    /// It says that it has waited for one, for so long by now.
    Awaited(Millis),
    /// It has not said so, but its service has been stopped for so long: nothing can answer it.
    Impossible(Millis),
    /// Its service was stopped for so long and is back, and the client has told nothing since.
    Untold(Millis),
}

impl Answers {
    /// Of the client that is shown, with its host.
    pub(super) fn of<'a>(scene: &'a Scene<'_>) -> Option<(Self, &'a Host, &'a ClientInfo)> {
        let (host, client) = client(scene)?;
        let data = scene.state.shown();
        let age = host.age(data.now).unwrap_or_default().0.max(0.0);
        // What the client told some time ago has gone on since.
        let waits = client.silent.map(|silent| silent.0 + age).filter(|waits| waits.is_finite());
        let told = scene.state.headline();
        let stopped = told.time.unwrap_or_default();
        let answers = match told.act {
            Act::Back if since_back(scene).is_some_and(|since| since <= age) => Self::Untold(stopped),
            Act::Stopped => waits.map_or(Self::Impossible(stopped), |waits| Self::Awaited(Millis(waits))),
            _ => waits.map_or(Self::Come, |waits| Self::Awaited(Millis(waits))),
        };
        Some((answers, host, client))
    }
}

/// For how many milliseconds the service that is being moved has been back.
fn since_back(scene: &Scene<'_>) -> Option<f64> {
    let data = scene.state.shown();
    let track = data.migrations.newest_of(scene.state.followed()?)?;
    let (_, back) = track.frozen(data.now)?;
    Some(data.now.since(track.begun()).0 - back.0)
}
