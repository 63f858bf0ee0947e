//! All that the operator's files say, put together. A file that is broken is complained of, and what comes with the program is
//! used in its place: a wrong comma keeps nobody from his services.

use std::fmt;

use crate::config::{self, Config};
use crate::config_error::{ConfigError, Source};
use crate::keymap::Keymap;
use crate::layout::Layout;
use crate::theme::Theme;

/// A file that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// By which complaints call it.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// The operator's files; those that do not exist are left out.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The config.
    pub config: Option<File>,
    /// The keymap.
    pub keymap: Option<File>,
    /// Those of the layouts folder, in the order in which they are to follow each other.
    pub layouts: Vec<File>,
    /// Those of the themes folder, likewise.
    pub themes: Vec<File>,
}

/// A file, or a setting, that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The place, the reason, the remedy.
    pub error: ConfigError,
    /// What is used instead.
    pub instead: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} instead)", self.error, self.instead)
    }
}

/// What the console begins with.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The keys.
    pub keymap: Keymap,
    /// All layouts: the built-in ones, then the operator's.
    pub layouts: Vec<Layout>,
    /// Which of them to begin with.
    pub layout: usize,
    /// All themes, with the glyphs that the config asks for: the built-in ones, then the operator's.
    pub themes: Vec<Theme>,
    /// Which of them to begin with.
    pub theme: usize,
    /// What could not be used.
    pub complaints: Vec<Complaint>,
}

impl Loaded {
    /// Reads all files. With `no_color` the theme is the one without colours, whatever the config says.
    #[must_use]
    pub fn read(files: &Files, no_color: bool) -> Self {
        let mut complaints = Vec::new();
        let config = files.config.as_ref().map_or_else(Config::default, |file| {
            let read = Config::parse(&file.text, &file.path);
            or_else(read, &mut complaints, "the default settings", Config::default)
        });
        let keymap = files.keymap.as_ref().map_or_else(Keymap::builtin, |file| {
            let read = Keymap::parse(&file.text, &file.path);
            or_else(read, &mut complaints, "the built-in keys", Keymap::builtin)
        });
        let layouts = together(
            Layout::builtin(),
            &files.layouts,
            Layout::parse,
            |layout| &layout.name,
            &mut complaints,
        );
        let themes =
            together(Theme::builtin(), &files.themes, Theme::parse, |theme| &theme.name, &mut complaints);
        let themes: Vec<Theme> = themes.into_iter().map(|theme| theme.ascii(config.ascii)).collect();

        let file = files.config.as_ref();
        let layout = chosen(&layouts, |layout| &layout.name, &config.layout, "layout", file, &mut complaints);
        let wanted = if no_color { Theme::MONO } else { &config.theme };
        let theme = chosen(&themes, |theme| &theme.name, wanted, "theme", file, &mut complaints);
        Self { layout, theme, config, keymap, layouts, themes, complaints }
    }
}

fn or_else<T>(
    read: Result<T, ConfigError>,
    complaints: &mut Vec<Complaint>,
    instead: &str,
    default: impl FnOnce() -> T,
) -> T {
    read.unwrap_or_else(|error| {
        complaints.push(Complaint { error, instead: instead.to_owned() });
        default()
    })
}

/// The built-in ones, then the operator's; one of the same name takes the built-in one's place.
fn together<T>(
    built_in: Vec<T>,
    files: &[File],
    parse: impl Fn(&str, &str) -> Result<T, ConfigError>,
    name: impl Fn(&T) -> &String,
    complaints: &mut Vec<Complaint>,
) -> Vec<T> {
    let mut all = built_in;
    for file in files {
        match parse(&file.text, &file.path) {
            Ok(read) => match all.iter_mut().find(|other| name(other) == name(&read)) {
                Some(other) => *other = read,
                None => all.push(read),
            },
            Err(error) => complaints.push(Complaint { error, instead: "the others".to_owned() }),
        }
    }
    all
}

/// The one of that name, or the first, with a complaint about the config.
fn chosen<T>(
    all: &[T],
    name: impl Fn(&T) -> &String,
    wanted: &str,
    setting: &str,
    file: Option<&File>,
    complaints: &mut Vec<Complaint>,
) -> usize {
    if let Some(found) = all.iter().position(|one| name(one) == wanted) {
        return found;
    }
    // Without a file the name is a default, which exists.
    let (text, path) = file.map_or(("", ""), |file| (&file.text, &file.path));
    let source = Source::new(text, path);
    let known = all.iter().map(|one| name(one).as_str());
    let error = source.unknown(config::place(&source, &[setting]), setting, wanted, known);
    complaints
        .push(Complaint { error, instead: all.first().map_or(String::new(), |first| name(first).clone()) });
    0
}

#[cfg(test)]
mod tests;
