//! What things look like: a style for each role, and the glyphs to draw with. No state is told by colour alone: each role that
//! means something has its glyph or word beside it.

use std::collections::BTreeMap;

use ratatui::style::Style;
use serde::{Deserialize, Serialize};

use crate::config_error::{ConfigError, Source, built_in};

mod file;

const BUILT_IN: [(&str, &str); 5] = [
    ("dark.toml", include_str!("../../../assets/themes/dark.toml")),
    ("light.toml", include_str!("../../../assets/themes/light.toml")),
    ("ansi16.toml", include_str!("../../../assets/themes/ansi16.toml")),
    ("colourblind.toml", include_str!("../../../assets/themes/colourblind.toml")),
    ("mono.toml", include_str!("../../../assets/themes/mono.toml")),
];

/// What a piece of the screen means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Ordinary text.
    Text,
    /// What matters less: units, labels, ages.
    Dim,
    /// The heading of a pane.
    Title,
    /// A pane's frame.
    Border,
    /// The frame and heading of the focused pane.
    Focus,
    /// What is selected.
    Selected,
    /// A key in the footer and in help.
    Key,
    /// Live, met, done.
    Good,
    /// Stale, near its limit, rolled back.
    Warning,
    /// Lost, missed, failed, in doubt.
    Bad,
    /// A service.
    Service,
    /// An edge host.
    Edge,
    /// A mobile host.
    Mobile,
    /// A link, and what crosses it.
    Link,
    /// A migration on its way.
    Moving,
    /// A step that was measured.
    Step,
    /// Data under way.
    Transfer,
    /// The service stands still.
    Frozen,
    /// What was predicted.
    Predicted,
    /// The map: both targets met.
    RegionBoth,
    /// The map: one of them.
    RegionOne,
    /// The map: none.
    RegionNeither,
    /// Simulated or replayed.
    Simulated,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Text,
        Self::Dim,
        Self::Title,
        Self::Border,
        Self::Focus,
        Self::Selected,
        Self::Key,
        Self::Good,
        Self::Warning,
        Self::Bad,
        Self::Service,
        Self::Edge,
        Self::Mobile,
        Self::Link,
        Self::Moving,
        Self::Step,
        Self::Transfer,
        Self::Frozen,
        Self::Predicted,
        Self::RegionBoth,
        Self::RegionOne,
        Self::RegionNeither,
        Self::Simulated,
    ];
}

/// What is drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glyphs {
    /// Live, stale, lost, unknown, incompatible.
    pub live: &'static str,
    /// No telemetry lately.
    pub stale: &'static str,
    /// Its token is gone.
    pub lost: &'static str,
    /// Never introduced itself.
    pub unknown: &'static str,
    /// Speaks another protocol.
    pub incompatible: &'static str,
    /// Met, held.
    pub yes: &'static str,
    /// Missed, broken.
    pub no: &'static str,
    /// What is selected, and its opposite's padding.
    pub pointer: &'static str,
    /// From here to there.
    pub arrow: &'static str,
    /// A step's bar; of the same width each.
    pub bar: &'static str,
    /// The bar of a step in which the service stands still.
    pub frozen: &'static str,
    /// The last cell of a bar: narrower, so that the next one is seen to begin.
    pub bar_end: &'static str,
    /// What was predicted.
    pub ghost: &'static str,
    /// The time in which the service stands still, behind the bars.
    pub shade: &'static str,
    /// A figure that is not known.
    pub gap: &'static str,
    /// The map: both met, one, none.
    pub regions: [&'static str; 3],
    /// Where the operator stands on the map.
    pub here: &'static str,
    /// The eight heights of a sparkline.
    pub spark: [&'static str; 8],
    /// A recording runs.
    pub recording: &'static str,
    /// At most.
    pub at_most: &'static str,
    /// Between parts of a line.
    pub dot: &'static str,
    /// What was left out.
    pub more: &'static str,
    /// Whether lines may be drawn with box characters.
    pub boxes: bool,
}

/// For terminals with Unicode.
pub const UNICODE: Glyphs = Glyphs {
    live: "●",
    stale: "◐",
    lost: "✖",
    unknown: "?",
    incompatible: "≠",
    yes: "✔",
    no: "✘",
    pointer: "▸",
    arrow: "→",
    bar: "█",
    frozen: "▓",
    bar_end: "▊",
    ghost: "┄",
    shade: "░",
    gap: "–",
    regions: ["█", "▒", "·"],
    here: "◆",
    spark: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    recording: "⏺",
    at_most: "≤",
    dot: "·",
    more: "…",
    boxes: true,
};

/// For those without.
pub const ASCII: Glyphs = Glyphs {
    live: "*",
    stale: "~",
    lost: "x",
    unknown: "?",
    incompatible: "#",
    yes: "ok",
    no: "NO",
    pointer: ">",
    arrow: "->",
    bar: "=",
    frozen: "#",
    bar_end: "|",
    ghost: ".",
    shade: ":",
    gap: "-",
    regions: ["#", "+", "."],
    here: "@",
    spark: ["_", "_", ".", ".", "-", "-", "=", "#"],
    recording: "REC",
    at_most: "<=",
    dot: "|",
    more: "...",
    boxes: false,
};

/// Styles and glyphs.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    /// Its name.
    pub name: String,
    styles: BTreeMap<Role, Style>,
    /// What is drawn with.
    pub glyphs: Glyphs,
}

impl Theme {
    /// A theme of these styles; a role that is not among them is drawn plain.
    #[must_use]
    pub fn new(name: &str, styles: BTreeMap<Role, Style>, glyphs: Glyphs) -> Self {
        Self { name: name.to_owned(), styles, glyphs }
    }

    /// The names of those that come with the program, in order.
    pub const NAMES: [&'static str; 5] = ["dark", "light", "ansi16", "colourblind", "mono"];

    /// The one without colours: for `NO_COLOR`.
    pub const MONO: &'static str = "mono";

    /// Those that come with the program, in the order of [`Theme::NAMES`].
    #[must_use]
    pub fn builtin() -> Vec<Self> {
        BUILT_IN.iter().map(|(path, text)| built_in(Self::parse(text, path))).collect()
    }

    /// The one of that name that comes with the program.
    #[must_use]
    pub fn load(name: &str) -> Option<Self> {
        Self::builtin().into_iter().find(|theme| theme.name == name)
    }

    /// Reads a theme; its name is its file's. It draws with Unicode; see [`Theme::ascii`].
    ///
    /// # Errors
    /// [`ConfigError`] where a role is missing or unknown, or a colour is none.
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        file::parse(&Source::new(text, path))
    }

    /// The same styles, drawn with ASCII or with Unicode.
    #[must_use]
    pub fn ascii(self, ascii: bool) -> Self {
        Self { glyphs: if ascii { ASCII } else { UNICODE }, ..self }
    }

    /// The style of a role. One without a background lies on that of [`Role::Text`]: whoever draws fills the screen with that
    /// first.
    #[must_use]
    pub fn style(&self, role: Role) -> Style {
        self.styles.get(&role).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
