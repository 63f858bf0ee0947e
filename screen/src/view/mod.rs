//! Views: functions of the state that draw a part of the screen, and say what lies where. They change nothing.

pub mod dialog;
pub mod figure;
pub mod fleet;
pub mod footer;
pub mod header;
pub mod history;
pub mod notices;
mod plain;
pub mod plan;
pub mod record;
pub mod regions;
pub mod service;
pub mod spark;
pub mod targets;
mod theatre;
pub mod timeline;
pub mod topology;
pub mod words;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Borders, Paragraph, Widget};

use crate::action::Action;
use crate::derived::Settled;
use crate::hit::{Hit, Hits};
use crate::pane::Pane;
use crate::theme::{Role, Theme};

/// The clock by which times of day are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Zone {
    /// That of the one who looks.
    #[default]
    Local,
    /// The same everywhere: for pictures and tests.
    Utc,
}

/// What is drawn, and with what.
pub struct Scene<'a> {
    /// What is known, and what follows from it.
    pub state: &'a Settled,
    /// Styles and glyphs.
    pub theme: &'a Theme,
    /// The first key of an action, as people write it.
    pub key: &'a dyn Fn(Action) -> Option<String>,
    /// All keys of an action.
    pub keys: &'a dyn Fn(Action) -> Vec<String>,
    /// The names of layout and theme in use.
    pub layout: &'a str,
    /// Where the panes go in the area between header and footer.
    pub place: &'a dyn Fn(Rect) -> Vec<(Pane, Rect)>,
    /// Draws the program's log, which is no part of the state.
    pub logs: &'a dyn Fn(Rect, &mut Buffer),
    /// The clock by which times of day are told.
    pub zone: Zone,
}

impl Scene<'_> {
    /// A text in a role.
    pub fn span<'s>(&self, role: Role, text: impl Into<std::borrow::Cow<'s, str>>) -> Span<'s> {
        Span::styled(text, self.theme.style(role))
    }

    /// The style of a role.
    #[must_use]
    pub fn style(&self, role: Role) -> Style {
        self.theme.style(role)
    }
}

/// The smallest terminal in which anything but a word is drawn.
const LEAST: (u16, u16) = (20, 5);

/// Draws all, and says what lies where.
pub fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) -> Hits {
    let mut hits = Hits::default();
    buf.set_style(area, scene.style(Role::Text));
    if area.width < LEAST.0 || area.height < LEAST.1 {
        Paragraph::new("MOSE").render(area, buf);
        return hits;
    }
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(area);
    header::draw(scene, top, buf);
    let panes = panes(scene, middle);
    // In the theatre what went well is on the stage already, in an audience's words.
    let theatre = panes.iter().any(|(pane, _)| *pane == Pane::Stopped);
    for (pane, area) in panes {
        self::pane(scene, pane, area, buf, &mut hits);
    }
    footer::draw(scene, theatre, bottom, buf, &mut hits);
    dialog::draw(scene, area, buf, &mut hits);
    if !scene.theme.glyphs.boxes {
        plain::plain(area, buf);
    }
    hits
}

/// Where the panes go: the focused one alone where it is zoomed or has no place in the layout.
fn panes(scene: &Scene<'_>, area: Rect) -> Vec<(Pane, Rect)> {
    let focus = scene.state.ui.focus.0;
    if scene.state.ui.zoomed {
        return vec![(focus, area)];
    }
    let placed = (scene.place)(area);
    // One that this size has no room for is shown instead of all when it is focused.
    if placed.iter().any(|(pane, _)| *pane == focus) { placed } else { vec![(focus, area)] }
}

fn pane(scene: &Scene<'_>, pane: Pane, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    hits.note(area, Hit::Pane(pane));
    let inner = frame(scene, pane, area, buf);
    if inner.is_empty() {
        return;
    }
    match pane {
        Pane::Fleet => fleet::draw(scene, inner, buf, hits),
        Pane::Topology => topology::draw(scene, inner, buf, hits),
        Pane::Service => service::draw(scene, inner, buf),
        Pane::Targets => targets::draw(scene, inner, buf, hits),
        Pane::Plan => plan::draw(scene, inner, buf, hits),
        Pane::Regions => regions::draw(scene, inner, buf, hits),
        Pane::Timeline => timeline::draw(scene, inner, buf, hits),
        Pane::History => history::draw(scene, inner, buf, hits),
        Pane::Notices => notices::draw(scene, inner, buf),
        Pane::Logs => (scene.logs)(inner, buf),
        Pane::Map => theatre::map::draw(scene, inner, buf, hits),
        Pane::Stopped => theatre::number::draw(scene, inner, buf),
        Pane::Requests => theatre::requests::draw(scene, inner, buf),
        Pane::RoundTrip => theatre::trip::draw(scene, inner, buf),
        Pane::Runs => theatre::runs::draw(scene, inner, buf),
    }
}

/// Frames without box characters.
pub(crate) const ASCII_BORDER: ratatui::symbols::border::Set<'static> = ratatui::symbols::border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// The frame of a pane, with its title and filter; the area inside.
fn frame(scene: &Scene<'_>, pane: Pane, area: Rect, buf: &mut Buffer) -> Rect {
    let ui = &scene.state.ui;
    let focused = ui.focus.0 == pane;
    let mut title = vec![scene.span(
        if focused { Role::Focus } else { Role::Title },
        format!(
            " {}{} ",
            if focused { format!("{} ", scene.theme.glyphs.pointer) } else { String::new() },
            title(scene, pane)
        ),
    )];
    let filter = ui.filter(pane);
    let typing = focused && ui.typing.is_some();
    if typing || !filter.is_empty() {
        title.push(scene.span(Role::Key, format!("/{filter}{} ", if typing { "_" } else { "" })));
    }
    // Small panes need every line.
    if area.height < 3 || area.width < 8 {
        return area;
    }
    let mut block = Block::new()
        .borders(Borders::ALL)
        .border_style(scene.style(if focused { Role::Focus } else { Role::Border }))
        .title(Line::from(title));
    block = if scene.theme.glyphs.boxes {
        block.border_type(if focused { BorderType::Thick } else { BorderType::Plain })
    } else {
        block.border_set(ASCII_BORDER)
    };
    let inner = block.inner(area);
    block.render(area, buf);
    inner
}

fn title(scene: &Scene<'_>, pane: Pane) -> String {
    match pane {
        Pane::Service => match scene.state.service() {
            Some(located) => format!("{} @ {}", located.info.name, located.host.name),
            None => pane.title().to_owned(),
        },
        Pane::Timeline => match scene.state.track() {
            Some(track) => format!("Timeline {} {}", scene.theme.glyphs.dot, timeline::heading(scene, track)),
            None => pane.title().to_owned(),
        },
        Pane::History => {
            let past = &scene.state.shown().past;
            format!(
                "History {} {} by {}",
                scene.theme.glyphs.dot,
                past.records().len(),
                scene.state.ui.order.name()
            )
        }
        Pane::Map => theatre::heading(scene),
        Pane::Stopped => theatre::number::title(scene),
        Pane::Runs => theatre::runs::title(),
        Pane::RoundTrip => theatre::trip::title(scene).unwrap_or_else(|| pane.title().to_owned()),
        _ => pane.title().to_owned(),
    }
}

/// Draws lines from the top of an area, as many as there is room for, from the `scroll`th on.
pub(crate) fn lines(lines: Vec<Line<'_>>, scroll: usize, area: Rect, buf: &mut Buffer) {
    let scroll = scroll.min(lines.len().saturating_sub(usize::from(area.height)));
    for (row, line) in area.rows().zip(lines.into_iter().skip(scroll)) {
        line.render(row, buf);
    }
}
