//! The operator's files together: what is in them is used, and what is broken is complained of and replaced by what is built in.

use ratatui::style::Color;

use super::*;
use crate::action::Action;
use crate::theme::{ASCII, Role};

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

fn said(loaded: &Loaded) -> Vec<String> {
    loaded.complaints.iter().map(Complaint::to_string).collect()
}

fn names<T>(all: &[T], name: impl Fn(&T) -> &String) -> Vec<String> {
    all.iter().map(|one| name(one).clone()).collect()
}

#[test]
fn without_files_there_is_what_comes_with_the_program_and_no_complaint() {
    let loaded = Loaded::read(&Files::default(), false);
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.keymap, Keymap::builtin());
    assert_eq!(loaded.themes[loaded.theme], Theme::load("dark").unwrap());
    assert_eq!(loaded.layouts[loaded.layout].name, "operator");
    assert_eq!(names(&loaded.layouts, |layout| &layout.name), ["operator", "explorer", "wall", "handover"]);
    assert_eq!(said(&loaded), [] as [&str; 0]);
}

#[test]
fn without_colour_the_theme_is_the_one_without() {
    let files = Files { config: Some(file("config.toml", "theme = 'light'")), ..Files::default() };
    for (no_color, name) in [(true, "mono"), (false, "light")] {
        let loaded = Loaded::read(&files, no_color);
        assert_eq!(loaded.themes[loaded.theme].name, name);
    }
}

#[test]
fn the_operators_files_are_used() {
    let dark = include_str!("../../../assets/themes/dark.toml").replace("#0f141d", "#000000");
    let files = Files {
        config: Some(file("config.toml", "layout = 'tiny'\nascii = true\n")),
        keymap: Some(file("keymap.toml", "keys = [{ on = 'F5', run = 'migrate' }]")),
        layouts: vec![file("layouts/tiny.toml", "[[variant]]\nmin = [10, 5]\npane = 'plan'")],
        themes: vec![file("themes/dark.toml", &dark), file("themes/night.toml", &dark)],
    };
    let loaded = Loaded::read(&files, false);
    assert_eq!(said(&loaded), [] as [&str; 0]);
    assert_eq!(loaded.layouts[loaded.layout].name, "tiny");
    assert_eq!(loaded.keymap.keys_of(Action::Migrate, None), ["F5", "m"]);
    assert_eq!(loaded.themes[loaded.theme].style(Role::Text).bg, Some(Color::Rgb(0, 0, 0)));
    assert_eq!(
        names(&loaded.themes, |theme| &theme.name),
        ["dark", "light", "ansi16", "colourblind", "mono", "night"]
    );
    assert!(loaded.themes.iter().all(|theme| theme.glyphs == ASCII));
}

#[test]
fn whatever_is_broken_is_complained_of_and_the_built_in_is_used() {
    let files = Files {
        config: Some(file("config.toml", "thme = 'dark'")),
        keymap: Some(file(
            "keymap.toml",
            "keys = [\n{ on = 'm', run = 'zoom' },\n{ on = 'm', run = 'help' }]",
        )),
        layouts: vec![file("layouts/wall.toml", "[[variant]]\nmin = [10, 5]\npane = 'plane'")],
        themes: vec![file("themes/night.toml", "[roles]\ntext = { fg = 'blak' }")],
    };
    let loaded = Loaded::read(&files, false);
    let said = said(&loaded);
    assert_eq!(
        said[0],
        "config.toml:1:1: there is no setting `thme`: did you mean `theme`? (the default settings instead)"
    );
    assert_eq!(
        said[1],
        "keymap.toml:3:8: `m` is bound twice (first at keymap.toml:2:8): bind one of the two to another key (the built-in keys \
         instead)"
    );
    assert_eq!(
        said[2],
        "layouts/wall.toml:3:8: there is no pane `plane`: did you mean `plan`? (the others instead)"
    );
    assert!(said[3].starts_with("themes/night.toml:1:1: no style is given for `dim`"), "{}", said[3]);
    assert_eq!(said.len(), 4);
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.keymap, Keymap::builtin());
    assert_eq!(loaded.layouts, Layout::builtin());
    assert_eq!(loaded.themes, Theme::builtin());
}

#[test]
fn a_theme_or_layout_that_does_not_exist_is_complained_of_at_its_setting() {
    let files = Files {
        config: Some(file("config.toml", "history = 5\nlayout = 'walls'\ntheme = 'solarized'")),
        ..Files::default()
    };
    let loaded = Loaded::read(&files, false);
    assert_eq!(
        said(&loaded),
        [
            "config.toml:2:10: there is no layout `walls`: did you mean `wall`? (operator instead)",
            "config.toml:3:9: there is no theme `solarized`: known here: `dark`, `light`, `ansi16`, `colourblind`, `mono` \
             (dark instead)",
        ]
    );
    assert_eq!((loaded.layout, loaded.theme), (0, 0));
    // The rest of the config holds.
    assert_eq!(loaded.config.history, 5);
}
