//! What is going on, in a sentence without a technical word; and how far the service is on its way.

use mose_pam::Millis;
use mose_protocol::HostName;
use mose_protocol::record::Outcome;
use mose_protocol::step::Step;
use ratatui::text::{Line, Span};

use super::cast::Cast;
use super::{ago, fitting};
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

/// Columns from which on the badge is whole.
const WIDE: usize = 60;

/// The migration that has just moved the service, and how long ago.
pub(super) fn news<'a>(scene: &'a Scene<'_>, cast: &Cast<'_>) -> Option<(&'a Track, Millis)> {
    let data = scene.state.shown();
    let track = data.migrations.newest_of(cast.service?)?;
    let age = data.now.since(track.ended());
    let moved = track.outcome() == Some(Outcome::Done) && !track.is_rehearsal();
    (moved && age <= NEWS).then_some((track, age))
}

/// The line above the map.
pub(super) fn headline<'a>(scene: &Scene<'_>, cast: &Cast<'_>, room: usize) -> Line<'a> {
    let (role, texts, asides) = told(scene, cast);
    let text = fitting(scene, &texts, room);
    let left = room.saturating_sub(words::width(&text) + 2);
    let mut line = vec![scene.span(role, text)];
    if let Some(aside) = asides.into_iter().find(|aside| words::width(aside) <= left) {
        line.push(scene.span(Role::Dim, format!("  {aside}")));
    }
    Line::from(line)
}

fn named(name: Option<&HostName>) -> String {
    name.map_or_else(|| "elsewhere".to_owned(), ToString::to_string)
}

/// That the service has moved, and what that was good for, in ever fewer words.
fn moved(cast: &Cast<'_>, track: &Track, age: Millis) -> Vec<String> {
    let (from, to, ago) = (named(track.from()), named(track.to()), ago(age));
    let serving = cast.serving().filter(|(host, _)| Some(&host.name) == track.to());
    let near = cast.mobile.zip(serving).map(|(mobile, _)| format!(", nearer to {}", mobile.name));
    let near = near.unwrap_or_default();
    let service = track.service().map(|service| format!("{service} ")).unwrap_or_default();
    vec![
        format!("{service}moved from {from} to {to} {ago}{near}"),
        format!("moved to {to} {ago}{near}"),
        format!("moved to {to} {ago}"),
        format!("moved {ago}"),
    ]
}

/// What is going on, in ever fewer words, and what may stand beside it, likewise.
fn told(scene: &Scene<'_>, cast: &Cast<'_>) -> (Role, Vec<String>, Vec<String>) {
    let data = scene.state.shown();
    let lines = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    if let Some(track) = cast.rehearsal {
        let to = named(track.to());
        return (
            Role::Moving,
            lines(&[&format!("rehearsing a move to {to}"), "rehearsing a move"]),
            Vec::new(),
        );
    }
    if let Some(track) = cast.moving {
        return travelling(scene, track);
    }
    let following = data.following();
    if let Some(trouble) = following.and_then(|following| following.trouble.as_ref()) {
        return (Role::Warning, vec![format!("does not follow now: {trouble}"), trouble.clone()], Vec::new());
    }
    if let Some((track, age)) = news(scene, cast) {
        return (Role::Good, moved(cast, track, age), Vec::new());
    }
    let on = following.filter(|following| following.on);
    if let Some(next) = on.and_then(|following| following.next.as_ref()) {
        let seconds = (next.at.since(data.now).0 / 1e3).ceil();
        let when =
            if seconds >= 1.0 { format!("handover in {seconds:.0} s") } else { "handover due".to_owned() };
        let to = &next.to;
        return (Role::Moving, vec![when], vec![format!("to {to}: {}", next.why), format!("to {to}")]);
    }
    let Some(service) = cast.service else {
        return (Role::Dim, lines(&["no service is known yet"]), Vec::new());
    };
    match (cast.home, cast.runs) {
        (Some(home), true) => {
            (Role::Text, vec![format!("{service} runs at {home}"), format!("it runs at {home}")], Vec::new())
        }
        (Some(home), false) => (
            Role::Warning,
            vec![format!("{service} does not run at {home}"), "it does not run".to_owned()],
            Vec::new(),
        ),
        (None, _) => (Role::Warning, vec![format!("nobody tells of {service}")], Vec::new()),
    }
}

fn travelling(scene: &Scene<'_>, track: &Track) -> (Role, Vec<String>, Vec<String>) {
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
            Vec::new(),
        ),
        Way::Travelling(share) => {
            let stage =
                if share < 0.8 { "the rest of it is on its way" } else { "it is being started there" };
            (
                Role::Frozen,
                vec![
                    format!("handover to {to}: stopped for a moment, {stage}"),
                    format!("stopped for a moment: {stage}"),
                    format!("stopped: {stage}"),
                    "stopped".to_owned(),
                ],
                Vec::new(),
            )
        }
        Way::Arrived => (Role::Good, vec![format!("runs at {to} now")], Vec::new()),
        Way::Returned => {
            (Role::Warning, vec![format!("it did not move: it runs at {from} again")], Vec::new())
        }
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
    let (service, mobile) = (&following.service, &following.mobile);
    let (role, mark, texts) = match (following.on, &following.trouble) {
        (true, Some(_)) => {
            (Role::Warning, glyphs.stale, ["following, in trouble".to_owned(), "trouble".to_owned()])
        }
        (true, None) => (
            Role::Good,
            glyphs.live,
            [format!("{service} follows {mobile} by itself"), format!("follows {mobile}")],
        ),
        (false, _) => (Role::Dim, glyphs.gap, ["following is off".to_owned(), "off".to_owned()]),
    };
    let word = fitting(scene, &texts, if room >= WIDE { room / 2 } else { room / 3 });
    vec![scene.span(role, format!("{mark} {word}"))]
}
