//! The handover theatre, for an audience: where the vehicle flies and its service is, how long the service was stopped, what its
//! client noticed. It shows what is known, and no more; its words are plain.

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

use super::{Scene, words};

/// What the map is about, for its heading.
pub(super) fn heading(scene: &Scene<'_>) -> String {
    match scene.state.followed() {
        Some(service) => format!("Map {} {service}", scene.theme.glyphs.dot),
        None => "Map".to_owned(),
    }
}

/// The first of some texts, from the longest to the shortest, that there is room for; the last one, cut, where none is.
fn fitting(scene: &Scene<'_>, texts: &[String], room: usize) -> String {
    let whole = texts.iter().find(|text| words::width(text) <= room).cloned();
    whole.unwrap_or_else(|| texts.last().map_or_else(String::new, |text| words::fit(scene, text, room)))
}
