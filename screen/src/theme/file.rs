//! A theme's file, and what is wrong with it.

use std::collections::BTreeMap;

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;
use toml::Spanned;

use super::{Role, Theme, UNICODE};
use crate::config_error::{ConfigError, Source, suggest};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThemeFile {
    #[serde(default)]
    palette: BTreeMap<String, Spanned<String>>,
    roles: Spanned<BTreeMap<Role, Row>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    fg: Option<Spanned<String>>,
    bg: Option<Spanned<String>>,
    #[serde(default)]
    bold: bool,
    #[serde(default)]
    dim: bool,
    #[serde(default)]
    underline: bool,
    #[serde(default)]
    reverse: bool,
}

fn colour(
    source: &Source<'_>,
    palette: &BTreeMap<&str, Color>,
    written: &Spanned<String>,
) -> Result<Color, ConfigError> {
    let name = written.get_ref().trim();
    if let Some(colour) = palette.get(name) {
        return Ok(*colour);
    }
    name.parse().map_err(|_| {
        let known: Vec<&str> = palette.keys().copied().collect();
        let mut remedy =
            "write \"#rrggbb\", an index from \"0\" to \"255\", or a name such as \"light-blue\"".to_owned();
        if !known.is_empty() {
            remedy = format!("{remedy}, or one of the palette: {}", suggest(name, &known));
        }
        source.error(written.span(), format!("`{name}` is no colour"), remedy)
    })
}

impl Row {
    fn style(&self, source: &Source<'_>, palette: &BTreeMap<&str, Color>) -> Result<Style, ConfigError> {
        let colour = |written: &Option<Spanned<String>>| {
            written.as_ref().map(|written| colour(source, palette, written)).transpose()
        };
        let modifiers = [
            (self.bold, Modifier::BOLD),
            (self.dim, Modifier::DIM),
            (self.underline, Modifier::UNDERLINED),
            (self.reverse, Modifier::REVERSED),
        ];
        let modifier = modifiers.iter().filter(|(on, _)| *on).map(|(_, modifier)| *modifier).collect();
        Ok(Style { fg: colour(&self.fg)?, bg: colour(&self.bg)?, ..Style::default() }.add_modifier(modifier))
    }
}

/// Reads a theme.
pub(super) fn parse(source: &Source<'_>) -> Result<Theme, ConfigError> {
    let file: ThemeFile = source.read()?;
    let mut palette = BTreeMap::new();
    for (name, written) in &file.palette {
        palette.insert(name.as_str(), colour(source, &BTreeMap::new(), written)?);
    }
    let rows = file.roles.get_ref();
    let missing: Vec<String> = Role::ALL.iter().filter(|role| !rows.contains_key(role)).map(name).collect();
    if !missing.is_empty() {
        return Err(source.error(
            file.roles.span(),
            format!("no style is given for {}", missing.join(", ")),
            "add a row for each, as in `dim = { fg = \"gray\" }`",
        ));
    }
    let styles = rows
        .iter()
        .map(|(role, row)| Ok((*role, row.style(source, &palette)?)))
        .collect::<Result<_, ConfigError>>()?;
    Ok(Theme::new(&source.name(), styles, UNICODE))
}

/// A role as files write it.
fn name(role: &Role) -> String {
    let written = serde_json::to_value(role).ok();
    written.and_then(|name| name.as_str().map(|name| format!("`{name}`"))).unwrap_or_default()
}
