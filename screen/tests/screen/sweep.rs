//! Every state on terminals of every size: nothing panics, nothing is drawn outside, everything that can be pressed is in sight.

use mose_screen::hit::Hits;
use mose_screen::pane::Pane;
use mose_screen::state::State;
use mose_screen::state::ui::Focus;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::support::canvas::Easel;
use crate::support::fleet::quiet;
use crate::support::moments::{self, with_past};

fn sizes() -> Vec<(u16, u16)> {
    let small = (1..=30).flat_map(|width| (1..=12).map(move |height| (width, height)));
    let large = [1, 19, 40, 60, 79, 100, 120, 160, 200, 250]
        .into_iter()
        .flat_map(|width| [1, 4, 5, 8, 13, 18, 20, 24, 30, 32, 48, 60, 80].map(|height| (width, height)));
    small.chain(large).collect()
}

/// Some of them, for what is drawn in many variants.
fn some_sizes() -> Vec<(u16, u16)> {
    sizes().into_iter().enumerate().filter(|(place, _)| place % 7 == 0).map(|(_, size)| size).collect()
}

/// What no view writes: a cell that was written is seen.
const UNTOUCHED: &str = "\u{2592}\u{2593}";

/// Draws into the middle of a larger buffer, whose rim must stay as it is.
fn drawn(easel: &Easel, state: &State, (width, height): (u16, u16)) -> (Buffer, Hits) {
    let whole = Rect::new(0, 0, width + 4, height + 4);
    let area = Rect::new(2, 2, width, height);
    let mut buffer = Buffer::empty(whole);
    buffer.content.iter_mut().for_each(|cell| {
        cell.set_symbol(UNTOUCHED);
    });
    let hits = easel.draw_into(&state.clone().into(), area, &mut buffer);
    for y in 0..whole.height {
        for x in 0..whole.width {
            let inside = area.contains((x, y).into());
            let symbol = buffer[(x, y)].symbol();
            assert!(inside || symbol == UNTOUCHED, "drew `{symbol}` at {x},{y}, outside of {width}x{height}");
            assert!(!symbol.chars().any(char::is_control), "a control character at {x},{y}");
        }
    }
    for x in 0..whole.width {
        for y in 0..whole.height {
            let hit = hits.at(x, y).next();
            let inside = area.contains((x, y).into());
            assert!(inside || hit.is_none(), "{hit:?} at {x},{y}, outside of {width}x{height}");
        }
    }
    (buffer, hits)
}

#[test]
fn every_moment_in_every_layout_at_every_size() {
    let easel = Easel::new("dark");
    for (name, mut state) in moments::all() {
        // A thousand services at five hundred sizes prove no more than at some.
        let sizes = if name == "crowd" { some_sizes() } else { sizes() };
        for size in sizes {
            state.ui.size = size;
            for layout in 0..easel.layouts.len() {
                state.ui.layout = layout;
                easel.focus_first(&mut state, size);
                drawn(&easel, &state, size);
            }
        }
    }
}

#[test]
fn every_pane_alone_at_every_size() {
    let easel = Easel::new("dark");
    for (name, mut state) in moments::all() {
        if name == "crowd" {
            continue;
        }
        state.ui.zoomed = true;
        for size in some_sizes() {
            for pane in Pane::ALL {
                state.ui.focus = Focus(pane);
                drawn(&easel, &state, size);
            }
        }
    }
}

#[test]
fn every_dialog_over_every_moment_at_every_size() {
    let mut easel = Easel::new("mono");
    easel.theme = easel.theme.ascii(true);
    for (name, mut state) in moments::all() {
        if name == "crowd" {
            continue;
        }
        for (_, dialog) in moments::dialogs() {
            state.ui.dialogs = vec![dialog];
            for size in some_sizes() {
                drawn(&easel, &state, size);
            }
        }
    }
}

#[test]
fn what_is_scrolled_too_far_shows_its_end() {
    let easel = Easel::new("light");
    let mut state = with_past(quiet());
    for pane in Pane::ALL {
        state.ui.scroll.insert(pane, usize::MAX / 2);
        state.ui.focus = Focus(pane);
        for size in [(30, 8), (80, 24), (200, 60)] {
            drawn(&easel, &state, size);
        }
    }
}
