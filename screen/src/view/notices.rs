//! Notices, newest at the bottom.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::{Scene, figure, words};
use crate::pane::Pane;
use crate::state::Level;
use crate::theme::Role;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let filter = scene.state.ui.filter(Pane::Notices).to_lowercase();
    let room = usize::from(area.width);
    let wanted = usize::from(area.height) + scene.state.ui.scrolled(Pane::Notices);
    let mut shown: Vec<Line<'_>> = Vec::new();
    // From the newest back, as far as can be seen.
    for notice in scene.state.notices.all().rev().filter(|n| n.text.to_lowercase().contains(&filter)) {
        let role = match notice.level {
            Level::Info => Role::Dim,
            Level::Warning => Role::Warning,
            Level::Error => Role::Bad,
        };
        let times = if notice.times > 1 { format!(" ({} times)", notice.times) } else { String::new() };
        let label = format!("{} {:<5} ", figure::clock(scene, notice.at), notice.level.name());
        let text = format!("{}{times}", notice.text);
        let rows = words::labelled(scene, (role, &label), (Role::Text, &text), room);
        shown.extend(rows.into_iter().rev());
        if shown.len() >= wanted {
            break;
        }
    }
    if shown.is_empty() {
        shown.push(Line::from(scene.span(Role::Dim, "nothing to note")));
    }
    shown.reverse();
    let first = shown.len().saturating_sub(usize::from(area.height));
    super::lines(shown, first.saturating_sub(scene.state.ui.scrolled(Pane::Notices)), area, buf);
}
