//! A screen in memory, and what is on it as text.

use std::fmt::Write as _;

use mose_screen::action::Action;
use mose_screen::derived::Settled;
use mose_screen::hit::Hits;
use mose_screen::keymap::Keymap;
use mose_screen::layout::Layout;
use mose_screen::pane::Pane;
use mose_screen::state::State;
use mose_screen::theme::Theme;
use mose_screen::view::{self, Scene, Zone};
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::Modifier;

/// What a screen is drawn with.
pub(crate) struct Easel {
    pub(crate) keymap: Keymap,
    pub(crate) layouts: Vec<Layout>,
    pub(crate) theme: Theme,
}

impl Easel {
    /// With a theme that comes with the program.
    pub(crate) fn new(theme: &str) -> Self {
        let theme = Theme::load(theme).expect("a theme of that name");
        Self { keymap: Keymap::builtin(), layouts: Layout::builtin(), theme }
    }

    /// The whole screen, in the layout that the state names.
    pub(crate) fn draw(&self, state: &State, size: (u16, u16)) -> (Buffer, Hits) {
        self.draw_settled(&state.clone().into(), size)
    }

    /// The same of a state with what was derived from it.
    pub(crate) fn draw_settled(&self, state: &Settled, (width, height): (u16, u16)) -> (Buffer, Hits) {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        let hits = self.draw_into(state, area, &mut buffer);
        (buffer, hits)
    }

    /// The whole screen, into a part of a buffer.
    pub(crate) fn draw_into(&self, state: &Settled, area: Rect, buffer: &mut Buffer) -> Hits {
        let layout = &self.layouts[state.ui.layout % self.layouts.len()];
        let keys = |action: Action| self.keymap.keys_of(action, Some(state.ui.focus.0));
        let scene = Scene {
            state,
            theme: &self.theme,
            key: &|action| keys(action).into_iter().next(),
            keys: &|action| self.keymap.keys_of(action, None),
            layout: &layout.name,
            place: &|area| layout.place(area).panes,
            logs: &|area, buffer| {
                let style = self.theme.style(mose_screen::theme::Role::Dim);
                buffer.set_stringn(area.x, area.y, "the program's log", usize::from(area.width), style);
            },
            zone: Zone::Utc,
        };
        view::draw(&scene, area, buffer)
    }

    /// Focuses the first pane that a layout shows.
    pub(crate) fn focus_first(&self, state: &mut State, (width, height): (u16, u16)) {
        let layout = &self.layouts[state.ui.layout % self.layouts.len()];
        let area = Rect::new(0, 1, width, height.saturating_sub(2));
        if let Some((pane, _)) = layout.place(area).panes.first() {
            state.ui.focus = mose_screen::state::ui::Focus(*pane);
        }
    }

    /// One pane alone, as the zoom shows it.
    pub(crate) fn pane(&self, state: &State, pane: Pane, size: (u16, u16)) -> Buffer {
        let mut state = state.clone();
        state.ui.focus = mose_screen::state::ui::Focus(pane);
        state.ui.zoomed = true;
        self.draw(&state, size).0
    }
}

/// The rows as text, without the blanks at their ends.
pub(crate) fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in rows(buffer) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn rows(buffer: &Buffer) -> impl Iterator<Item = &[Cell]> {
    buffer.content.chunks(usize::from(buffer.area.width.max(1)))
}

/// The rows as text, then as a letter for each cell's style, then what each letter means.
pub(crate) fn styled(buffer: &Buffer) -> String {
    const LETTERS: &str = ".abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut styles: Vec<String> = Vec::new();
    let mut painted = String::new();
    for row in rows(buffer) {
        for cell in row {
            let style = described(cell);
            let place = styles.iter().position(|known| *known == style).unwrap_or_else(|| {
                styles.push(style);
                styles.len() - 1
            });
            painted.push(LETTERS.chars().nth(place).unwrap_or('#'));
        }
        painted.push('\n');
    }
    let mut all = text(buffer);
    all.push_str("\nstyles\n");
    all.push_str(&painted);
    all.push('\n');
    for (letter, style) in LETTERS.chars().zip(&styles) {
        let _ = writeln!(all, "{letter} {style}");
    }
    all
}

fn described(cell: &Cell) -> String {
    // A blank shows no ink.
    let modifier = if cell.modifier.is_empty() { String::new() } else { format!(" {:?}", cell.modifier) };
    if cell.symbol() == " " && !cell.modifier.intersects(Modifier::REVERSED | Modifier::UNDERLINED) {
        return format!("on {}", cell.bg);
    }
    format!("{} on {}{modifier}", cell.fg, cell.bg)
}
