//! Figures as people read them: what is unknown is a dash, never a zero.

use mose_pam::Millis;
use mose_protocol::forecast::Forecast;
use mose_protocol::record::Silence;

use super::{Scene, Zone};
use crate::phrase;
use crate::state::Still;
use crate::theme::Role;
use ratatui::text::Span;

/// A quantity that may be unknown.
pub fn known<T: std::fmt::Display>(scene: &Scene<'_>, value: Option<T>) -> String {
    value.map_or_else(|| scene.theme.glyphs.gap.to_owned(), |value| value.to_string())
}

/// For how long a service stood still; while it lasts, the figure grows.
#[must_use]
pub fn still(scene: &Scene<'_>, still: Still) -> (Role, String) {
    match still {
        Still::Never => (Role::Text, "none".to_owned()),
        Still::SoFar(so_far) => {
            (Role::Frozen, format!("{}{}", phrase::time(so_far), scene.theme.glyphs.more))
        }
        Still::Heard(time) | Still::Measured(time) => (Role::Text, phrase::time(time)),
        Still::NotBack => (Role::Bad, "not back".to_owned()),
        Still::Unknown => (Role::Text, scene.theme.glyphs.gap.to_owned()),
    }
}

/// What a client heard nothing for, as far as it is known.
#[must_use]
pub fn silence(scene: &Scene<'_>, silence: Silence) -> String {
    match silence {
        Silence::Unwatched => scene.theme.glyphs.gap.to_owned(),
        Silence::Unknown => "unknown".to_owned(),
        Silence::AtLeast(least) => format!("at least {}", phrase::time(least)),
        Silence::Known(silence) => phrase::time(silence),
    }
}

/// A bound and whether it was kept: `203 ms ≤ 310 ms ✔`.
#[must_use]
pub fn verdict(scene: &Scene<'_>, value: Millis, bound: Millis) -> Vec<Span<'static>> {
    let glyphs = &scene.theme.glyphs;
    let (role, mark) = if value <= bound { (Role::Good, glyphs.yes) } else { (Role::Bad, glyphs.no) };
    vec![
        scene.span(Role::Text, format!("{} ", phrase::time(value))),
        scene.span(
            Role::Dim,
            format!("{} {} ", if value <= bound { glyphs.at_most } else { ">" }, phrase::time(bound)),
        ),
        scene.span(role, mark),
    ]
}

/// For how long a service stands still already, against its worst case and its target: what is exceeded before the end stays so,
/// what is not yet exceeded says nothing.
#[must_use]
pub fn so_far(scene: &Scene<'_>, still: Still, forecast: Option<&Forecast>) -> Vec<Span<'static>> {
    let glyphs = &scene.theme.glyphs;
    let time = still.time().map_or_else(|| glyphs.gap.to_owned(), phrase::time);
    let word = if matches!(still, Still::SoFar(_)) { " so far" } else { ", by when it was heard" };
    let mut spans = vec![scene.span(Role::Frozen, time), scene.span(Role::Dim, word)];
    let Some(forecast) = forecast else { return spans };
    let bound = phrase::time(forecast.bound.downtime);
    match still.exceeded(forecast) {
        (false, _) => spans.push(scene.span(Role::Dim, format!("; worst case {bound}"))),
        (true, _) => spans.push(scene.span(Role::Bad, format!(" > {bound} {}", glyphs.no))),
    }
    if still.exceeded(forecast).1 {
        let target = phrase::time(forecast.targets.downtime);
        spans.push(scene.span(Role::Bad, format!(" target {target} missed")));
    }
    spans
}

/// A time of day on the clock of the one who reads.
#[must_use]
pub fn clock(scene: &Scene<'_>, at: mose_protocol::Timestamp) -> String {
    let Some(at) = i64::try_from(at.0).ok().and_then(chrono::DateTime::from_timestamp_micros) else {
        return "?".to_owned();
    };
    match scene.zone {
        Zone::Local => at.with_timezone(&chrono::Local).format("%H:%M:%S").to_string(),
        Zone::Utc => at.format("%H:%M:%S").to_string(),
    }
}
