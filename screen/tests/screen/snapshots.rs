//! Every view as it is drawn, kept as text that can be read: a change of it is seen in review.

use mose_screen::pane::Pane;
use mose_screen::state::State;
use mose_screen::theme::Theme;

use crate::support::canvas::{Easel, styled, text};
use crate::support::fleet::quiet;
use crate::support::moments::{self, with_past};

/// The sizes that terminals commonly have.
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

/// The pictures of all sizes one below the other, as one file.
fn kept(name: String, picture: String) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, picture));
}

fn titled(size: (u16, u16), picture: &str) -> String {
    format!("── {} × {} ──\n{picture}\n", size.0, size.1)
}

#[test]
fn every_moment_in_every_layout() {
    let easel = Easel::new("dark");
    for (name, mut state) in moments::all() {
        for layout in 0..easel.layouts.len() {
            state.ui.layout = layout;
            let mut all = String::new();
            for size in SIZES {
                easel.focus_first(&mut state, size);
                all += &titled(size, &text(&easel.draw(&state, size).0));
            }
            kept(format!("{}-{name}", easel.layouts[layout].name), all);
        }
    }
}

#[test]
fn every_pane_alone() {
    let easel = Easel::new("dark");
    for (moment, state) in
        [("quiet", with_past(quiet())), ("round-3", moments::round_three()), ("done", moments::done())]
    {
        for pane in Pane::ALL {
            let pictures = SIZES.map(|size| titled(size, &text(&easel.pane(&state, pane, size))));
            kept(format!("pane-{}-{moment}", pane.id()), pictures.concat());
        }
    }
}

#[test]
fn every_dialog() {
    let easel = Easel::new("dark");
    for (name, dialog) in moments::dialogs() {
        let mut state = if name == "criu-log" { moments::rolled_back() } else { with_past(quiet()) };
        state.ui.dialogs.push(dialog);
        let pictures = SIZES.map(|size| titled(size, &text(&easel.draw(&state, size).0)));
        kept(format!("dialog-{name}"), pictures.concat());
    }
}

#[test]
fn every_theme_with_its_colours() {
    for name in Theme::NAMES {
        let easel = Easel::new(name);
        let mut state = moments::restoring();
        let at_all_sizes =
            |state: &State| SIZES.map(|size| titled(size, &styled(&easel.draw(state, size).0))).concat();
        kept(format!("theme-{name}"), at_all_sizes(&state));
        state.ui.dialogs.push(moments::dialogs().swap_remove(10).1);
        kept(format!("theme-{name}-dialog"), at_all_sizes(&state));
    }
}

#[test]
fn in_ascii_there_is_nothing_else() {
    let mut easel = Easel::new("mono");
    easel.theme = easel.theme.ascii(true);
    for (name, mut state) in moments::all() {
        let mut all = String::new();
        for size in [(80, 24), (120, 40)] {
            easel.focus_first(&mut state, size);
            let picture = text(&easel.draw(&state, size).0);
            assert!(picture.is_ascii(), "{name}:\n{picture}");
            // What is drawn has a stand-in each: a question mark is one that was meant.
            let asked = |word: &&str| word.contains('?') && !["?", "?:"].contains(word);
            let odd: Vec<&str> = picture.split([' ', '|', '\n']).filter(asked).collect();
            assert!(odd.is_empty(), "{name}: {odd:?}\n{picture}");
            all += &titled(size, &picture);
        }
        kept(format!("ascii-{name}"), all);
    }
}
