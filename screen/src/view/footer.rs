//! The foot line: what can be done here and with which key, or the newest notice.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::Scene;
use crate::action::Action;
use crate::hit::{Hit, Hits};
use crate::state::{Level, Source};
use crate::theme::Role;

/// What an operator most likely wants next, in this order.
const OFFERED: &[Action] = &[
    Action::KeepAtSource,
    Action::GiveUpAtSource,
    Action::Abort,
    Action::Migrate,
    Action::EditDowntime,
    Action::ToggleObjective,
    Action::ChooseDestination,
    Action::NextPane,
    Action::Zoom,
    Action::Filter,
    Action::Freeze,
    Action::NextLayout,
];

/// In a replay.
const REPLAYING: &[Action] = &[
    Action::ReplayPause,
    Action::ReplaySlower,
    Action::ReplayFaster,
    Action::ReplayBack,
    Action::ReplayForward,
    Action::NextPane,
    Action::Zoom,
    Action::NextLayout,
];

/// Always there, at the right.
const LAST: [Action; 3] = [Action::Palette, Action::Help, Action::Quit];

/// Beside the theatre, what that shows is not told again.
pub(super) fn draw(scene: &Scene<'_>, theatre: bool, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let state = scene.state;
    if let Some(dialog) = state.ui.dialog() {
        let mut line = Vec::new();
        for (key, word) in dialog.hint() {
            line.extend([
                scene.span(Role::Key, format!(" {key} ")),
                scene.span(Role::Dim, format!("{word}  ")),
            ]);
        }
        Line::from(line).render(area, buf);
        return;
    }
    if state.ui.typing.is_some() {
        let line = vec![
            scene.span(Role::Key, " type "),
            scene.span(Role::Dim, "filter  "),
            scene.span(Role::Key, " Enter "),
            scene.span(Role::Dim, "keep  "),
            scene.span(Role::Key, " Esc "),
            scene.span(Role::Dim, "all again"),
        ];
        Line::from(line).render(area, buf);
        return;
    }
    let right = offers(scene, &LAST, area.width);
    let width: u16 = right.iter().map(|(_, spans)| width(spans)).sum();
    let left_area = Rect { width: area.width.saturating_sub(width + 1), ..area };
    let right_area = Rect { x: area.right().saturating_sub(width), width: width.min(area.width), ..area };
    if let Some(notice) = state.notices.fresh(state.data.now).filter(|notice| !(theatre && notice.staged)) {
        let (role, word) = match notice.level {
            Level::Info => (Role::Good, ""),
            Level::Warning => (Role::Warning, "warning: "),
            Level::Error => (Role::Bad, "error: "),
        };
        Line::from(scene.span(role, format!(" {word}{}", notice.text))).render(left_area, buf);
    } else {
        let wanted = if matches!(state.source, Source::Replay(_)) { REPLAYING } else { OFFERED };
        place(offers(scene, wanted, left_area.width), left_area, buf, hits);
    }
    place(right, right_area, buf, hits);
}

fn width(spans: &[Span<'_>]) -> u16 {
    spans.iter().map(|span| span.width() as u16).sum()
}

/// The actions that can be done, as many as there is room for.
fn offers<'s>(scene: &Scene<'_>, wanted: &[Action], room: u16) -> Vec<(Action, Vec<Span<'s>>)> {
    let mut left = room;
    let mut offers = Vec::new();
    for &action in wanted {
        let Some(key) = (scene.key)(action) else { continue };
        if scene.state.enabled(action).is_err() {
            continue;
        }
        let spans = vec![
            scene.span(Role::Key, format!(" {key}")),
            scene.span(Role::Dim, format!(" {} ", action.spec().title)),
        ];
        match left.checked_sub(width(&spans)) {
            Some(rest) => left = rest,
            None => break,
        }
        offers.push((action, spans));
    }
    offers
}

fn place(offers: Vec<(Action, Vec<Span<'_>>)>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let mut x = area.x;
    for (action, spans) in offers {
        let spot = Rect { x, width: width(&spans).min(area.right().saturating_sub(x)), ..area };
        x = x.saturating_add(width(&spans));
        hits.note(spot, Hit::Action(action));
        Line::from(spans).render(spot, buf);
    }
}
