//! The head line: where the picture comes from, how many are there, what is moving, the time.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::{Scene, figure};
use crate::state::{Presence, Source};
use crate::theme::Role;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let (state, glyphs) = (scene.state, &scene.theme.glyphs);
    let data = state.shown();
    let simulated = matches!(&state.source, Source::Demo { .. } | Source::Replay(_));
    let mut line = vec![
        scene.span(Role::Title, " MOSE "),
        scene.span(
            if simulated { Role::Simulated } else { Role::Text },
            format!(" {} ", state.source.label()),
        ),
    ];
    let count =
        |wanted: Presence| data.fleet.hosts().filter(|host| host.presence(data.now) == wanted).count();
    line.push(scene.span(Role::Dim, format!(" {} agents", data.fleet.len())));
    for (presence, glyph, role) in [
        (Presence::Live, glyphs.live, Role::Good),
        (Presence::Stale, glyphs.stale, Role::Warning),
        (Presence::Lost, glyphs.lost, Role::Bad),
        (Presence::Unknown, glyphs.unknown, Role::Warning),
        (Presence::Incompatible, glyphs.incompatible, Role::Bad),
    ] {
        let count = count(presence);
        if count > 0 {
            line.push(scene.span(role, format!("  {glyph} {count} {}", presence.name())));
        }
    }
    if let Some((_, since)) = &state.recording {
        let elapsed = figure::age(data.now.since(*since));
        line.push(scene.span(Role::Bad, format!("  {} rec {elapsed}", glyphs.recording)));
    }
    if state.read_only {
        line.push(scene.span(Role::Warning, "  read-only"));
    }
    if let Some(frozen) = &state.frozen {
        let age = figure::age(state.data.now.since(frozen.now));
        line.push(scene.span(Role::Warning, format!("  FROZEN since {age}")));
    }
    if let Source::Replay(replay) = &state.source {
        let done = replay.at.since(replay.begin).0 / replay.end.since(replay.begin).0.max(1.0);
        let word = if replay.paused { "paused".to_owned() } else { format!("x{}", replay.speed) };
        line.push(scene.span(Role::Simulated, format!("  {:.0} % {word}", (done * 100.0).clamp(0.0, 100.0))));
    }
    let moving: Vec<String> = data
        .migrations
        .under_way()
        .filter_map(|track| {
            Some(format!("{}: {} {} {}", track.service()?, track.from()?, glyphs.arrow, track.to()?))
        })
        .collect();
    if !moving.is_empty() {
        line.push(scene.span(Role::Moving, format!("   {}", moving.join("  "))));
    }
    let right = Line::from(vec![scene.span(Role::Dim, format!("{} ", figure::clock(scene, data.now)))]);
    let right_width = right.width() as u16;
    let left = Rect { width: area.width.saturating_sub(right_width), ..area };
    Line::from(line).render(left, buf);
    right.alignment(Alignment::Right).render(area, buf);
}
