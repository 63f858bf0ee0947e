//! The head line: where the picture comes from, how many are there, what is moving, the time.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::{Scene, figure, words};
use crate::phrase;
use crate::state::{Presence, Source};
use crate::theme::Role;

/// A part of the line, and how much it matters: the least goes first where there is no room.
type Part<'a> = (u8, Vec<Span<'a>>);

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let data = scene.state.shown();
    let clock = figure::clock(scene, data.now);
    let room = usize::from(area.width).saturating_sub(clock.len() + 2);
    let mut parts = vec![(9, source(scene))];
    parts.extend(flags(scene));
    parts.extend(moving(scene));
    parts.extend(follow(scene));
    parts.extend(fleet(scene));
    while parts.iter().map(|(_, spans)| words::length(spans) + 2).sum::<usize>() > room + 2 && parts.len() > 1
    {
        let least = parts.iter().map(|(weight, _)| *weight).min().unwrap_or(0);
        let Some(place) = parts.iter().rposition(|(weight, _)| *weight == least) else { break };
        parts.remove(place);
    }
    let mut line = Vec::new();
    for (_, spans) in parts {
        line.extend(spans);
        line.push(Span::raw("  "));
    }
    Line::from(line)
        .render(Rect { width: u16::try_from(room).unwrap_or(u16::MAX).min(area.width), ..area }, buf);
    let right = Line::from(scene.span(Role::Dim, format!("{clock} ")));
    right.alignment(Alignment::Right).render(area, buf);
}

fn source<'a>(scene: &Scene<'_>) -> Vec<Span<'a>> {
    let simulated = match &scene.state.source {
        Source::Demo { .. } => true,
        Source::Replay(replay) => replay.simulated,
        _ => false,
    };
    let role = match (&scene.state.source, simulated) {
        (_, true) | (Source::Replay(_), _) => Role::Simulated,
        _ => Role::Text,
    };
    let label = words::fit(scene, &scene.state.source.label(), 40);
    vec![scene.span(Role::Title, " MOSE "), scene.span(role, format!(" {label} "))]
}

/// What is unusual about the picture.
fn flags<'a>(scene: &Scene<'_>) -> Vec<Part<'a>> {
    let (state, glyphs) = (scene.state, &scene.theme.glyphs);
    let mut parts = Vec::new();
    if let Source::Replay(replay) = &state.source {
        let done = replay.at.since(replay.begin).0 / replay.end.since(replay.begin).0.max(1.0);
        let word = if replay.paused { "paused".to_owned() } else { format!("x{}", replay.speed) };
        let text = format!("{:.0} % {word}", (done * 100.0).clamp(0.0, 100.0));
        parts.push((8, vec![scene.span(Role::Title, text)]));
    }
    if let Some(frozen) = &state.frozen {
        let age = phrase::age(state.data.now.since(frozen.now));
        parts.push((8, vec![scene.span(Role::Warning, format!("FROZEN since {age}"))]));
    }
    if state.read_only {
        parts.push((5, vec![scene.span(Role::Warning, "read-only")]));
    }
    if let Some((_, since)) = &state.recording {
        let elapsed = phrase::age(state.data.now.since(*since));
        let text = match glyphs.boxes {
            true => format!("{} rec {elapsed}", glyphs.recording),
            false => format!("{} {elapsed}", glyphs.recording),
        };
        parts.push((6, vec![scene.span(Role::Bad, text)]));
    }
    parts
}

/// The services on their way: the first, and how many more.
fn moving<'a>(scene: &Scene<'_>) -> Option<Part<'a>> {
    let arrow = scene.theme.glyphs.arrow;
    let mut moving =
        scene.state.shown().migrations.under_way().filter_map(|track| {
            Some(format!("{}: {} {arrow} {}", track.service()?, track.from()?, track.to()?))
        });
    let first = words::fit(scene, &moving.next()?, 60);
    let more = moving.count();
    let more = if more > 0 { format!("  +{more}") } else { String::new() };
    Some((7, vec![scene.span(Role::Moving, format!("{first}{more}"))]))
}

/// Whether a service follows its mobile host, and when it moves next.
fn follow<'a>(scene: &Scene<'_>) -> Option<Part<'a>> {
    let data = scene.state.shown();
    let following = data.following()?;
    if !following.on {
        return Some((1, vec![scene.span(Role::Dim, "follow off")]));
    }
    let dot = if scene.theme.glyphs.boxes { "·" } else { "-" };
    let mut spans = vec![scene.span(Role::Good, "follow on")];
    match (&following.trouble, &following.next) {
        (Some(_), _) => spans.push(scene.span(Role::Warning, format!(" {dot} waits"))),
        (None, Some(next)) => {
            let left = (next.at.since(data.now).0 / 1e3).ceil();
            let when = if left > 0.0 { format!("in {left:.0} s") } else { "now".to_owned() };
            let to = words::fit(scene, next.to.as_str(), 20);
            spans.push(scene.span(Role::Text, format!(" {dot} next move to {to} {when}")));
        }
        (None, None) => {}
    }
    Some((6, spans))
}

/// How many hosts there are, and how they are.
fn fleet<'a>(scene: &Scene<'_>) -> Vec<Part<'a>> {
    let (data, glyphs) = (scene.state.shown(), &scene.theme.glyphs);
    let mut counts = [0_usize; 5];
    let known = [
        (Presence::Live, glyphs.live, Role::Good, 2),
        (Presence::Lost, glyphs.lost, Role::Bad, 4),
        (Presence::Stale, glyphs.stale, Role::Warning, 3),
        (Presence::Unknown, glyphs.unknown, Role::Warning, 1),
        (Presence::Incompatible, glyphs.incompatible, Role::Bad, 1),
    ];
    for host in data.fleet.hosts() {
        let presence = host.presence(data.now);
        if let Some(place) = known.iter().position(|(known, ..)| *known == presence) {
            counts[place] += 1;
        }
    }
    let noun = if data.fleet.len() == 1 { "agent" } else { "agents" };
    let mut parts = vec![(2, vec![scene.span(Role::Dim, format!("{} {noun}", data.fleet.len()))])];
    for ((presence, glyph, role, weight), count) in known.into_iter().zip(counts) {
        if count > 0 {
            parts.push((weight, vec![scene.span(role, format!("{glyph} {count} {}", presence.name()))]));
        }
    }
    parts
}
