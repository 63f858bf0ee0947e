//! Notices, newest at the bottom.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::{Scene, figure};
use crate::pane::Pane;
use crate::state::Level;
use crate::theme::Role;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let filter = scene.state.ui.filter(Pane::Notices).to_lowercase();
    let shown: Vec<Line<'_>> = scene
        .state
        .notices
        .all()
        .filter(|notice| notice.text.to_lowercase().contains(&filter))
        .map(|notice| {
            let role = match notice.level {
                Level::Info => Role::Dim,
                Level::Warning => Role::Warning,
                Level::Error => Role::Bad,
            };
            let times = if notice.times > 1 { format!(" ({} times)", notice.times) } else { String::new() };
            Line::from(vec![
                scene.span(Role::Dim, format!("{} ", figure::clock(scene, notice.at))),
                scene.span(role, format!("{:<5} ", notice.level.name())),
                scene.span(Role::Text, format!("{}{times}", notice.text)),
            ])
        })
        .collect();
    if shown.is_empty() {
        super::lines(vec![Line::from(scene.span(Role::Dim, "nothing to note"))], 0, area, buf);
        return;
    }
    let first = shown.len().saturating_sub(usize::from(area.height));
    super::lines(shown, first.saturating_sub(scene.state.ui.scrolled(Pane::Notices)), area, buf);
}
