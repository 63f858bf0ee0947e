//! The themes: roles that matter can be told apart, in colours and without, and what is wrong in a theme is named with its place.

use std::collections::BTreeMap;

use ratatui::style::{Color, Modifier};
use ratatui::text::Span;

use super::*;

const FRAME: [Role; 1] = [Role::Border];
/// Areas, not text.
const AREAS: [Role; 3] = [Role::RegionBoth, Role::RegionOne, Role::RegionNeither];

fn theme(name: &str) -> Theme {
    Theme::load(name).unwrap()
}

/// Red, green, blue in linear light.
fn linear(colour: Color) -> [f64; 3] {
    let Color::Rgb(r, g, b) = colour else { panic!("{colour} is no RGB colour") };
    [r, g, b].map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    })
}

fn multiply(matrix: [[f64; 3]; 3], vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
}

/// WCAG 2: relative luminance.
fn luminance(colour: Color) -> f64 {
    multiply([[0.2126, 0.7152, 0.0722]; 3], linear(colour))[0]
}

/// WCAG 2: contrast ratio.
fn contrast(a: Color, b: Color) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// The colours in which a role is seen: reversed where it says so, on the screen's background where it has none.
fn seen(theme: &Theme, role: Role) -> (Color, Color) {
    let (style, text) = (theme.style(role), theme.style(Role::Text));
    let (fg, bg) = (style.fg.or(text.fg).unwrap(), style.bg.or(text.bg).unwrap());
    if style.add_modifier.contains(Modifier::REVERSED) { (bg, fg) } else { (fg, bg) }
}

/// CIE L*a*b* (D65).
fn lab(linear: [f64; 3]) -> [f64; 3] {
    let xyz =
        multiply([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], linear);
    let [x, y, z] = [xyz[0] / 0.9505, xyz[1], xyz[2] / 1.089].map(|t: f64| {
        let t = t.max(0.0);
        if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 }
    });
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// How far apart two colours are for an eye: ΔE*ab.
fn apart(a: Color, b: Color, eye: [[f64; 3]; 3]) -> f64 {
    let [a, b] = [a, b].map(|colour| lab(multiply(eye, linear(colour))));
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

const ORDINARY: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
/// Machado, Oliveira, Fernandes 2009, severity 1, in linear light.
const PROTANOPE: [[f64; 3]; 3] = [
    [0.152_286, 1.052_583, -0.204_868],
    [0.114_503, 0.786_281, 0.099_216],
    [-0.003_882, -0.048_116, 1.051_998],
];
const DEUTERANOPE: [[f64; 3]; 3] = [
    [0.367_322, 0.860_646, -0.227_968],
    [0.280_085, 0.672_501, 0.047_413],
    [-0.011_820, 0.042_940, 0.968_881],
];

#[test]
fn the_built_in_themes_are_those_that_are_named_and_have_every_role() {
    let themes = Theme::builtin();
    assert_eq!(themes.iter().map(|theme| theme.name.as_str()).collect::<Vec<_>>(), Theme::NAMES);
    for theme in &themes {
        assert_eq!(theme.styles.len(), Role::ALL.len(), "{}", theme.name);
        assert_eq!(theme.glyphs, UNICODE);
        assert_eq!(theme.clone().ascii(true).glyphs, ASCII);
        assert_eq!(theme.clone().ascii(true).ascii(false), *theme);
    }
    assert_eq!(Theme::load("solarized"), None);
}

#[test]
fn text_stands_out_from_its_background() {
    for name in ["dark", "light", "colourblind"] {
        let theme = theme(name);
        for role in Role::ALL {
            let (fg, bg) = seen(&theme, role);
            let least = if FRAME.contains(&role) || AREAS.contains(&role) { 3.0 } else { 4.5 };
            let ratio = contrast(fg, bg);
            assert!(ratio >= least, "{name}: {role:?} has {ratio:.2} of {least}");
        }
        let (fg, bg) = seen(&theme, Role::Text);
        assert!(contrast(fg, bg) >= 10.0, "{name}: ordinary text is for the last row of a hall");
    }
}

#[test]
fn states_that_lie_side_by_side_differ_in_colour() {
    let groups: [&[Role]; 5] = [
        &[Role::Good, Role::Warning, Role::Bad],
        &AREAS,
        &[Role::Step, Role::Transfer, Role::Frozen],
        &[Role::Edge, Role::Mobile, Role::Service],
        &[Role::Link, Role::Moving],
    ];
    for (name, eyes) in [
        ("dark", vec![ORDINARY]),
        ("light", vec![ORDINARY]),
        ("colourblind", vec![ORDINARY, PROTANOPE, DEUTERANOPE]),
    ] {
        let theme = theme(name);
        for (which, eye) in eyes.into_iter().enumerate() {
            for group in groups {
                for (at, &a) in group.iter().enumerate() {
                    for &b in &group[at + 1..] {
                        let distance = apart(seen(&theme, a).0, seen(&theme, b).0, eye);
                        assert!(
                            distance > 20.0,
                            "{name}, eye {which}: {a:?} and {b:?} are {distance:.0} apart"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn without_colours_there_are_none_and_what_matters_still_differs() {
    let mono = theme(Theme::MONO);
    for role in Role::ALL {
        let style = mono.style(role);
        assert_eq!((style.fg, style.bg), (None, None), "{role:?}");
    }
    for role in
        [Role::Focus, Role::Selected, Role::Bad, Role::Moving, Role::Simulated, Role::Key, Role::Frozen]
    {
        assert_ne!(mono.style(role), mono.style(Role::Text), "{role:?}");
    }
}

#[test]
fn the_theme_of_sixteen_colours_has_no_others() {
    let theme = theme("ansi16");
    for role in Role::ALL {
        for colour in [theme.style(role).fg, theme.style(role).bg].into_iter().flatten() {
            assert!(!matches!(colour, Color::Rgb(..) | Color::Indexed(_)), "{role:?} {colour}");
        }
    }
}

#[test]
fn ascii_is_ascii_and_bars_are_as_wide_as_they_are_long() {
    let Glyphs {
        live,
        stale,
        lost,
        unknown,
        incompatible,
        yes,
        no,
        pointer,
        arrow,
        bar,
        frozen,
        ghost,
        gap,
        ..
    } = ASCII;
    let Glyphs { regions, here, spark, recording, at_most, dot, more, .. } = ASCII;
    let single = [live, stale, lost, unknown, incompatible, yes, no, pointer, arrow, bar, frozen, ghost, gap];
    let rest = [here, recording, at_most, dot, more];
    for glyph in single.into_iter().chain(rest).chain(regions).chain(spark) {
        assert!(glyph.is_ascii() && !glyph.is_empty(), "{glyph}");
    }
    for glyphs in [ASCII, UNICODE] {
        let cells = [glyphs.bar, glyphs.frozen, glyphs.ghost, glyphs.here, glyphs.pointer];
        for cell in cells.into_iter().chain(glyphs.regions).chain(glyphs.spark) {
            assert_eq!(Span::raw(cell).width(), 1, "{cell}");
        }
    }
}

/// A theme with all roles, one of them as given.
fn with(role: &str, row: &str) -> String {
    let mut rows: BTreeMap<String, &str> = Role::ALL
        .iter()
        .map(|role| (serde_json::to_value(role).unwrap().as_str().unwrap().to_owned(), "{}"))
        .collect();
    rows.insert(role.to_owned(), row);
    // The given row on the fourth line.
    let mut text = format!("[palette]\nink = '#102030'\n[roles]\n{role} = {row}\n");
    for (name, row) in rows.iter().filter(|(name, _)| *name != role) {
        text += &format!("{name} = {row}\n");
    }
    text
}

#[test]
fn styles_are_read_with_colours_of_every_kind() {
    let read = |row: &str| Theme::parse(&with("good", row), "themes/mine.toml").unwrap();
    let theme = read("{ fg = 'ink', bg = '42', bold = true, underline = true }");
    assert_eq!(theme.name, "mine");
    let style = theme.style(Role::Good);
    assert_eq!((style.fg, style.bg), (Some(Color::Rgb(16, 32, 48)), Some(Color::Indexed(42))));
    assert_eq!(style.add_modifier, Modifier::BOLD | Modifier::UNDERLINED);
    assert_eq!(
        read("{ fg = 'light-blue', dim = true, reverse = true }").style(Role::Good).fg,
        Some(Color::LightBlue)
    );
}

#[test]
fn a_missing_role_and_what_is_unknown_are_named_with_their_place() {
    let fault = |text: &str| Theme::parse(text, "mine.toml").unwrap_err().to_string();
    let text = with("good", "{}").replace("moving = {}\n", "").replace("step = {}\n", "");
    let missing = fault(&text);
    assert!(
        missing.starts_with("mine.toml:3:1: no style is given for `moving`, `step`: add a row"),
        "{missing}"
    );
    assert_eq!(
        fault(&with("good", "{}").replace("moving", "movin")),
        "mine.toml:14:1: `movin` is not known here: did you mean `moving`?"
    );
    assert_eq!(
        fault(&with("good", "{ fg = 'red', blink = true }")),
        "mine.toml:4:22: there is no setting `blink`: known here: `fg`, `bg`, `bold`, `dim`, `underline`, `reverse`"
    );
    let colour = fault(&with("good", "{ fg = 'inc' }"));
    assert!(colour.starts_with("mine.toml:4:15: `inc` is no colour: write \"#rrggbb\""), "{colour}");
    assert!(colour.ends_with("did you mean `ink`?"), "{colour}");
    let palette = fault(&with("good", "{}").replace("#102030", "#1020"));
    assert!(palette.starts_with("mine.toml:2:7: `#1020` is no colour"), "{palette}");
    assert!(fault("").contains("the setting `roles` is missing"));
}
