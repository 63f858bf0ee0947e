//! The handover theatre, for an audience: where the vehicle flies and its service is, how long the service was stopped, what its
//! client noticed. It shows what is known, and no more; its words are plain.

mod answers;
mod cast;
mod digits;
mod ground;
pub(super) mod map;
pub(super) mod number;
mod raster;
pub(super) mod requests;
pub(super) mod runs;
mod story;
mod strip;
pub(super) mod trip;

use mose_pam::Millis;

use super::{Scene, words};

/// What the map is about, for its heading.
pub(super) fn heading(scene: &Scene<'_>) -> String {
    match scene.state.followed() {
        Some(service) => format!("Map {} {service}", scene.theme.glyphs.dot),
        None => "Map".to_owned(),
    }
}

/// A time as an audience says it: `8 s`, `3 min`, `2 h`.
fn span(time: Millis) -> String {
    match (time.0.max(0.0) / 1e3).floor() {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", (s / 60.0).floor()),
        s => format!("{:.0} h", (s / 3600.0).floor()),
    }
}

/// How long ago something was: `just now`, `8 s ago`.
fn ago(age: Millis) -> String {
    if age.0 < 1000.0 { "just now".to_owned() } else { format!("{} ago", span(age)) }
}

/// The first of some texts, from the longest to the shortest, that there is room for; the last one, cut, where none is.
fn fitting(scene: &Scene<'_>, texts: &[String], room: usize) -> String {
    let whole = texts.iter().find(|text| words::width(text) <= room).cloned();
    whole.unwrap_or_else(|| texts.last().map_or_else(String::new, |text| words::fit(scene, text, room)))
}
