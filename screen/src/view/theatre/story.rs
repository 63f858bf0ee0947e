//! What is going on, in a sentence without a technical word; and how far the service is on its way.

use mose_pam::Millis;
use mose_protocol::HostName;
use mose_protocol::record::Outcome;
use mose_protocol::step::Step;
use ratatui::text::{Line, Span};

use super::cast::Cast;
use super::fitting;
use crate::state::Track;
use crate::theme::Role;
use crate::view::{Scene, words};

/// For how long it is told that the service has moved.
const NEWS: Millis = Millis(10_000.0);

/// How far a service is on its way, and whether it is stopped meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Way {
    /// At its source, where it runs on; so much of the time until the end that is expected has passed.
    Copying(f64),
    /// Stopped, and so far on its way.
    Travelling(f64),
    /// At its destination, and running.
    Arrived,
    /// Running at its source again.
    Returned,
}

impl Way {
    pub(super) fn of(scene: &Scene<'_>, track: &Track) -> Self {
        let begun = |step: Step| track.bars.iter().any(|bar| bar.step == step);
        let done = |step: Step| track.bars.iter().any(|bar| bar.step == step && bar.is_done());
        if done(Step::Reclaim) {
            return Self::Returned;
        }
        if done(Step::Release) {
            return Self::Arrived;
        }
        // The farthest that was heard of counts: what came before it may have been missed.
        let stages = [
            (begun(Step::Restore), 0.9),
            (done(Step::Transfer) || begun(Step::Relinquish), 0.75),
            (begun(Step::Transfer), 0.5),
            (begun(Step::Dump), 0.25),
            (begun(Step::Freeze), 0.1),
        ];
        if let Some((_, share)) = stages.into_iter().find(|(reached, _)| *reached) {
            return Self::Travelling(share);
        }
        let elapsed = scene.state.course(track).elapsed.0;
        let forecast = track.task.as_ref().and_then(|task| task.forecast.as_deref());
        let expected = forecast.map(|forecast| forecast.expected.duration.0 - forecast.expected.downtime.0);
        // Where nothing was expected, the copies are seen to leave, and no more.
        Self::Copying(expected.map_or(0.3, |expected| (elapsed / expected.max(1.0)).clamp(0.0, 1.0)))
    }
}

/// The migration that has just moved the service, and how long ago.
pub(super) fn news<'a>(scene: &'a Scene<'_>, cast: &Cast<'_>) -> Option<(&'a Track, Millis)> {
    let data = scene.state.shown();
    let track = data.migrations.newest_of(cast.service?)?;
    let age = data.now.since(track.last_heard);
    let moved = track.outcome() == Some(Outcome::Done) && !track.is_rehearsal();
    (moved && age <= NEWS).then_some((track, age))
}

/// The line above the map.
pub(super) fn headline<'a>(scene: &Scene<'_>, cast: &Cast<'_>, room: usize) -> Line<'a> {
    let (role, texts, aside) = told(scene, cast);
    let text = fitting(scene, &texts, room);
    let left = room.saturating_sub(words::width(&text) + 2);
    let mut line = vec![scene.span(role, text)];
    if let Some(aside) = aside.filter(|aside| words::width(aside) <= left) {
        line.push(scene.span(Role::Dim, format!("  {aside}")));
    }
    Line::from(line)
}

fn named(name: Option<&HostName>) -> String {
    name.map_or_else(|| "elsewhere".to_owned(), ToString::to_string)
}

/// What is going on, in ever fewer words, and what may stand beside it.
fn told(scene: &Scene<'_>, cast: &Cast<'_>) -> (Role, Vec<String>, Option<String>) {
    let data = scene.state.shown();
    let lines = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    if let Some(track) = cast.rehearsal {
        let to = named(track.to());
        return (Role::Moving, lines(&[&format!("rehearsing a move to {to}"), "rehearsing a move"]), None);
    }
    if let Some(track) = cast.moving {
        return travelling(scene, track);
    }
    let following = data.following();
    if let Some(trouble) = following.and_then(|following| following.trouble.as_ref()) {
        return (Role::Warning, vec![format!("does not follow now: {trouble}"), trouble.clone()], None);
    }
    if let Some((track, age)) = news(scene, cast) {
        let (to, seconds) = (named(track.to()), (age.0.max(0.0) / 1e3).floor());
        let ago = if seconds < 1.0 { "just now".to_owned() } else { format!("{seconds:.0} s ago") };
        return (Role::Good, vec![format!("moved to {to} {ago}"), format!("moved {ago}")], None);
    }
    let on = following.filter(|following| following.on);
    if let Some(next) = on.and_then(|following| following.next.as_ref()) {
        let seconds = (next.at.since(data.now).0 / 1e3).ceil();
        let when =
            if seconds >= 1.0 { format!("handover in {seconds:.0} s") } else { "handover due".to_owned() };
        return (Role::Moving, vec![when], Some(next.why.clone()));
    }
    let Some(service) = cast.service else {
        return (Role::Dim, lines(&["no service is known yet"]), None);
    };
    match (cast.home, cast.runs) {
        (Some(home), true) => {
            (Role::Text, vec![format!("{service} runs at {home}"), format!("it runs at {home}")], None)
        }
        (Some(home), false) => (
            Role::Warning,
            vec![format!("{service} does not run at {home}"), "it does not run".to_owned()],
            None,
        ),
        (None, _) => (Role::Warning, vec![format!("nobody tells of {service}")], None),
    }
}

fn travelling(scene: &Scene<'_>, track: &Track) -> (Role, Vec<String>, Option<String>) {
    let (from, to) = (named(track.from()), named(track.to()));
    match Way::of(scene, track) {
        Way::Copying(_) => (
            Role::Moving,
            vec![
                format!("handover to {to}: it is copied there, and goes on running at {from}"),
                format!("handover to {to}: copying, it goes on running"),
                format!("copying to {to}, it goes on running"),
                format!("copying to {to}"),
            ],
            None,
        ),
        Way::Travelling(share) => {
            let stage = if share < 0.8 { "the rest of it travels" } else { "it starts there" };
            (
                Role::Frozen,
                vec![
                    format!("handover to {to}: stopped for a moment, {stage}"),
                    format!("stopped for a moment: {stage}"),
                    format!("stopped: {stage}"),
                    "stopped".to_owned(),
                ],
                None,
            )
        }
        Way::Arrived => (Role::Good, vec![format!("runs at {to} now")], None),
        Way::Returned => (Role::Warning, vec![format!("it did not move: it runs at {from} again")], None),
    }
}

/// The line below the map: in whose cell the vehicle is, and whether the service follows it.
pub(super) fn footing<'a>(scene: &Scene<'_>, cast: &Cast<'_>, room: usize) -> Line<'a> {
    let badge = badge(scene, cast, room);
    let left = room.saturating_sub(words::length(&badge) + 2);
    let Some(mobile) = cast.mobile else { return Line::from(badge) };
    let name = &mobile.name;
    let mut texts = match cast.serving() {
        Some((host, true)) => {
            let told = mobile.telemetry.as_ref().and_then(|told| told.radio?.signal_percent);
            let signal = told.map(|percent| format!(", signal {percent} %")).unwrap_or_default();
            let host = &host.name;
            vec![
                format!("{name} is in the cell of {host}{signal}"),
                format!("{name} is in the cell of {host}"),
                format!("{name} in cell of {host}"),
                format!("cell: {host}"),
            ]
        }
        Some((host, false)) => {
            let host = &host.name;
            vec![format!("{name} is nearest to {host}"), format!("nearest: {host}")]
        }
        None => vec![format!("where {name} is, nobody says"), "place unknown".to_owned()],
    };
    texts.retain(|text| words::width(text) <= left);
    let mut line: Vec<Span<'a>> = Vec::new();
    if let Some(text) = texts.into_iter().next() {
        line.push(scene.span(Role::Mobile, text));
    }
    if line.is_empty() {
        return Line::from(badge);
    }
    words::justified(line, badge, room)
}

fn badge<'a>(scene: &Scene<'_>, cast: &Cast<'_>, room: usize) -> Vec<Span<'a>> {
    let Some(following) = scene.state.shown().following() else { return Vec::new() };
    // Of another service this says nothing.
    if Some(&following.service) != cast.service {
        return Vec::new();
    }
    let glyphs = &scene.theme.glyphs;
    let (role, mark, word) = match (following.on, &following.trouble) {
        (true, Some(_)) => (Role::Warning, glyphs.stale, "following, in trouble"),
        (true, None) => (Role::Good, glyphs.live, "service follows by itself"),
        (false, _) => (Role::Dim, glyphs.gap, "following is off"),
    };
    let short = match (following.on, &following.trouble) {
        (true, None) => "follows",
        (true, Some(_)) => "trouble",
        (false, _) => "off",
    };
    let word = if room >= 60 { word } else { short };
    vec![scene.span(role, format!("{mark} {word}"))]
}
