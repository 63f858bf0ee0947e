//! The one number, and what it says: for how long the service is stopped, or was, and whether that was promised.

use mose_protocol::record::Outcome;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::cast::client;
use super::{ago, digits, fitting, requests};
use crate::derived::{Act, Headline, Whose};
use crate::pane::Pane;
use crate::phrase;
use crate::theme::Role;
use crate::view::{Scene, words};

/// The most times that digits are larger than they are drawn.
const LARGEST: u16 = 4;

/// The pane's title: it says whether the number is of now or of the last handover.
pub(in super::super) fn title(scene: &Scene<'_>) -> String {
    let told = scene.state.headline();
    match (told.act, told.whose) {
        // It may still be stopped.
        (Act::Over(Outcome::GivenUp | Outcome::InDoubt), _) => Pane::Stopped.title().to_owned(),
        (Act::Over(_), Whose::Client) => "Last handover: no answer for".to_owned(),
        (Act::Over(_), Whose::Service) => "Last handover: stopped for".to_owned(),
        (Act::Back, _) => "Service was stopped for".to_owned(),
        _ => Pane::Stopped.title().to_owned(),
    }
}

pub(in super::super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let told = scene.state.headline();
    let role = role(&told);
    let captions = captions(scene, &told, usize::from(area.width));
    let (number, unit) = digits::number(told.time);
    let below = (captions.len() as u16).min(area.height.saturating_sub(digits::ROWS));
    let unit_wide = if unit.is_empty() { 0 } else { words::width(unit) as u16 + 1 };
    let fits = |times: &u16| {
        let (wide, high) = (digits::width(&number, *times) + unit_wide, digits::ROWS * times);
        wide <= area.width && high + below <= area.height
    };
    let Some(times) = (1..=LARGEST).rev().find(fits) else {
        return small(scene, &told, role, captions, area, buf);
    };
    let (wide, high) = (digits::width(&number, times), digits::ROWS * times);
    let free = area.height - high - below;
    // A blank line between number and words, where there is room for it.
    let gap = u16::from(free > 0);
    let (x, y) = (area.x + (area.width - wide - unit_wide) / 2, area.y + (free - gap) / 2);
    let style = scene.style(role);
    // Digits are blocks: in a style that is reversed or underlined they would be holes.
    let ink = style.remove_modifier(Modifier::REVERSED | Modifier::UNDERLINED);
    digits::draw(&number, times, scene.theme.glyphs.regions[0], ink, (x, y), buf);
    buf.set_stringn(x + wide + 1, y + high - 1, unit, usize::from(unit_wide), style);
    let room = usize::from(area.width);
    for (row, line) in (y + high + gap..area.bottom()).zip(captions) {
        let left = (room.saturating_sub(words::length(&line)) / 2) as u16;
        let part = Rect { x: area.x + left, y: row, width: area.width - left, height: 1 };
        ratatui::widgets::Widget::render(Line::from(line), part, buf);
    }
}

/// Where there is no room for large digits: a line of words, and what else there is room for.
fn small(
    scene: &Scene<'_>,
    told: &Headline,
    role: Role,
    captions: Vec<Vec<Span<'_>>>,
    area: Rect,
    buf: &mut Buffer,
) {
    let time = told.time.map_or_else(|| scene.theme.glyphs.gap.to_owned(), phrase::time);
    let mut lines = vec![Line::from(scene.span(role, time))];
    lines.extend(captions.into_iter().map(Line::from));
    super::super::lines(lines, 0, area, buf);
}

fn role(told: &Headline) -> Role {
    match (told.kept, told.act) {
        (Some(false), _) => Role::Bad,
        (Some(true), _) => Role::Good,
        (None, Act::Stopped) => Role::Frozen,
        (None, Act::Over(Outcome::GivenUp | Outcome::InDoubt | Outcome::RolledBack)) => Role::Warning,
        (None, Act::Waiting) => Role::Dim,
        (None, _) => Role::Text,
    }
}

/// What the number is, in ever fewer words.
fn what(scene: &Scene<'_>, told: &Headline) -> Vec<String> {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    // How long ago: beside a countdown, nobody may take it for the next handover's.
    let ago = told.ended.map(|ended| ago(scene.state.shown().now.since(ended))).unwrap_or_default();
    match (told.act, told.whose, told.at_least) {
        (Act::Waiting, ..) => texts(&["no handover yet"]),
        (Act::Copying, ..) => texts(&["still running while it is copied", "copied while it runs"]),
        (Act::Stopped, Whose::Client, _) => texts(&["stopped now: its client waits", "client waits"]),
        (Act::Stopped, Whose::Service, _) => texts(&["stopped now, counting", "stopped"]),
        (Act::Back, ..) => texts(&["it was stopped, and is back", "it is back"]),
        (Act::Over(Outcome::InDoubt), ..) => texts(&["stopped, perhaps still"]),
        (Act::Over(Outcome::GivenUp), ..) => texts(&["it was stopped, and is not back", "not back"]),
        (Act::Over(_), Whose::Client, at_least) => {
            let heard = requests::record(scene).and_then(requests::worst);
            let heard = heard.map_or_else(|| "its client".to_owned(), |worst| worst.host.to_string());
            let least = if at_least { "at least, " } else { "" };
            vec![format!("{ago}, {least}as {heard} saw it"), format!("{ago}, {least}its client"), ago]
        }
        (Act::Over(_), Whose::Service, _) if client(scene).is_none() => {
            vec![format!("{ago} (no client was watched)"), format!("{ago}, no client"), ago]
        }
        (Act::Over(_), Whose::Service, _) => vec![format!("{ago}, as its hosts saw it"), ago],
    }
}

/// What the number is, what was promised, and what became of the service.
fn captions<'a>(scene: &Scene<'_>, told: &Headline, room: usize) -> Vec<Vec<Span<'a>>> {
    let line = |role: Role, texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        vec![scene.span(role, fitting(scene, &texts, room))]
    };
    let mut lines = vec![vec![scene.span(Role::Title, fitting(scene, &what(scene, told), room))]];
    let glyphs = &scene.theme.glyphs;
    if let Some(worst) = told.worst_case {
        let worst = phrase::time(worst);
        let (role, lead) = match told.kept {
            Some(true) => (Role::Good, format!("{} within the {worst}", glyphs.yes)),
            Some(false) => (Role::Bad, format!("{} over the {worst}", glyphs.no)),
            None => (Role::Dim, format!("at most {worst}")),
        };
        let texts = match told.kept {
            Some(_) => [format!("{lead} that MOSE promised"), format!("{lead} promised"), lead],
            None => [format!("MOSE promised {lead}"), format!("promised {lead}"), lead],
        };
        lines.push(vec![scene.span(role, fitting(scene, &texts, room))]);
    } else if matches!(told.act, Act::Over(_)) {
        let by_hand = requests::record(scene).is_some_and(|record| record.by_hand);
        lines.push(match by_hand {
            true => line(Role::Dim, &["moved by hand: nothing was promised", "moved by hand"]),
            false => line(Role::Dim, &["nothing was promised"]),
        });
    }
    let end: &[&str] = match told.act {
        Act::Over(Outcome::RolledBack) => &["it did not move: it runs where it was", "it did not move"],
        Act::Over(Outcome::Aborted) => &["aborted: it runs where it was", "aborted"],
        Act::Over(Outcome::InDoubt) => &["nobody knows yet whether it is back", "in doubt"],
        _ => &[],
    };
    if !end.is_empty() {
        lines.push(line(Role::Warning, end));
    }
    if told.simulated {
        lines.push(line(Role::Simulated, &[" simulated ", "sim"]));
    }
    lines
}
