//! Which keys do what. Rows of a file, `{ on = "g g", run = "first" }`, each for the whole screen or for one pane; a pane's row
//! goes before the screen's. An operator's rows lie over the built-in ones.
//!
//! The crate `keybinds` reads keys and compares sequences. Its dispatcher is not used, as it asks the clock by itself.

use keybinds::{Key, KeyInput, KeySeq, Match, Mods};
use mose_pam::Millis;
use ratatui::crossterm::event::KeyEvent;
use serde::Deserialize;
use toml::Spanned;

use crate::action::{ACTIONS, Action};
use crate::config_error::{ConfigError, Source, built_in};
use crate::pane::Pane;

const BUILT_IN: &str = include_str!("../../../assets/keymap.toml");

/// How long the next key of a sequence may take.
const PATIENCE: Millis = Millis(1000.0);

/// What a row says to take a key away.
const NOTHING: &str = "nothing";

/// What a key press leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// This is to be done.
    Action(Action),
    /// A sequence has begun; see [`Dispatch::pending`].
    Pending,
    /// Nothing.
    None,
}

/// The begin of a sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dispatch {
    keys: Vec<KeyInput>,
    last: Option<Millis>,
}

impl Dispatch {
    /// The keys pressed so far of a sequence, such as `g`.
    #[must_use]
    pub fn pending(&self) -> Option<String> {
        (!self.keys.is_empty()).then(|| self.keys.iter().copied().collect::<KeySeq>().to_string())
    }

    /// Forgets what has begun.
    pub fn reset(&mut self) {
        self.keys.clear();
        self.last = None;
    }
}

/// A row: what a key does, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    keys: KeySeq,
    /// What it does; `None` takes the key away.
    pub action: Option<Action>,
    /// The pane that it holds in; `None` for all.
    pub pane: Option<Pane>,
    /// What the operator calls it.
    pub desc: Option<String>,
}

impl Binding {
    /// The key or keys, as help writes them: `Ctrl+z`, `g g`.
    #[must_use]
    pub fn keys(&self) -> String {
        self.keys.to_string()
    }

    /// Whether pressing one would get in the way of the other.
    fn overlaps(&self, other: &Self) -> bool {
        self.keys.match_to(other.keys.as_slice()) != Match::Unmatch
            || other.keys.match_to(self.keys.as_slice()) != Match::Unmatch
    }
}

/// What the keys do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeymapFile {
    #[serde(default)]
    keys: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    on: Spanned<String>,
    run: Spanned<String>,
    pane: Option<Spanned<String>>,
    desc: Option<String>,
}

impl Row {
    fn binding(&self, source: &Source<'_>) -> Result<Binding, ConfigError> {
        let on = self.on.get_ref();
        let keys: KeySeq = on.parse().map_err(|error| {
            let (reason, remedy) = explain(&error);
            source.error(self.on.span(), reason, remedy)
        })?;
        if let Some((input, sent)) = keys.as_slice().iter().find_map(|&input| Some((input, sent_for(input)?)))
        {
            let reason = format!("for `{input}` a terminal sends `{sent}`");
            return Err(source.error(
                self.on.span(),
                reason,
                format!("bind `{sent}`, or choose another key"),
            ));
        }
        let run = self.run.get_ref();
        let action = match Action::named(run) {
            None if run != NOTHING => {
                let known = ACTIONS.iter().map(|spec| spec.id).chain([NOTHING]);
                return Err(source.unknown(self.run.span(), "action", run, known));
            }
            action => action,
        };
        let pane = self.pane.as_ref().map(|pane| named_pane(source, pane)).transpose()?;
        Ok(Binding { keys, action, pane, desc: self.desc.clone() })
    }
}

/// The pane of that name.
pub(crate) fn named_pane(source: &Source<'_>, written: &Spanned<String>) -> Result<Pane, ConfigError> {
    let name = written.get_ref();
    Pane::ALL
        .into_iter()
        .find(|pane| pane.id() == name)
        .ok_or_else(|| source.unknown(written.span(), "pane", name, Pane::ALL.map(Pane::id)))
}

/// Why keys cannot be read, and what to write instead.
fn explain(error: &keybinds::Error) -> (String, String) {
    use keybinds::Error;
    match error {
        Error::UnknownKey(key) => (
            format!("there is no key `{key}`"),
            "write one character, or a name such as Enter, Esc, Tab, Space, Plus, Up, PageDown, F1; keys after one another \
             stand apart, as in `g g`"
                .to_owned(),
        ),
        Error::UnknownModifier(name) => (
            format!("there is no modifier `{name}`"),
            "write Ctrl, Alt, Shift or Super before the `+`; the key + itself is Plus".to_owned(),
        ),
        Error::ShiftUnavailable(key) => (
            format!("Shift goes with named keys, not with `{key}`"),
            format!("write what the key then types, such as `{}`", key.to_string().to_uppercase()),
        ),
        Error::EmptyKey | Error::EmptyModifier => (
            "beside `+` a key or a modifier is missing".to_owned(),
            "write as in `Ctrl+x`; the key + itself is Plus".to_owned(),
        ),
        Error::EmptyKeySequence => ("no key is named".to_owned(), "write one, as in `on = \"m\"`".to_owned()),
    }
}

/// The rows of a file, which must go together.
fn read(source: &Source<'_>) -> Result<Vec<(Binding, Row)>, ConfigError> {
    let mut bindings: Vec<(Binding, Row)> = Vec::new();
    for row in source.read::<KeymapFile>()?.keys {
        let binding = row.binding(source)?;
        let clash = bindings.iter().find(|(other, _)| other.pane == binding.pane && other.overlaps(&binding));
        if let Some((other, first)) = clash {
            let place = binding.pane.map_or_else(String::new, |pane| format!(" in the pane {}", pane.id()));
            let (reason, remedy) = if other.keys == binding.keys {
                (format!("`{}` is bound twice{place}", binding.keys), "bind one of the two to another key")
            } else {
                (
                    format!(
                        "`{}` and `{}` begin alike{place}, so that one is never reached",
                        other.keys, binding.keys
                    ),
                    "let neither be the begin of the other",
                )
            };
            return Err(source.conflict(row.on.span(), first.on.span(), reason, remedy));
        }
        bindings.push((binding, row));
    }
    Ok(bindings)
}

impl Keymap {
    /// The keys that come with the program.
    #[must_use]
    pub fn builtin() -> Self {
        let rows = built_in(read(&Source::new(BUILT_IN, "assets/keymap.toml")));
        Self { bindings: rows.into_iter().map(|(binding, _)| binding).collect() }
    }

    /// The operator's rows over the built-in ones: one that is in the way of a built-in one for the same place replaces it.
    ///
    /// # Errors
    /// [`ConfigError`] where a row names what is not known, two rows cannot both be reached, or no key would be left to quit
    /// or for the palette.
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        let source = Source::new(text, path);
        let rows = read(&source)?;
        let built_in = Self::builtin().bindings;
        let stays = |old: &&Binding| !rows.iter().any(|(new, _)| new.pane == old.pane && new.overlaps(old));
        let kept: Vec<Binding> = built_in.iter().filter(stays).cloned().collect();
        // The operator's own come first: of several keys the footer shows the first.
        let keymap = Self { bindings: rows.iter().map(|(binding, _)| binding.clone()).chain(kept).collect() };
        for action in [Action::Quit, Action::Palette] {
            if keymap.keys_of(action, None).is_empty() {
                let taken = rows.iter().find(|(new, _)| {
                    built_in
                        .iter()
                        .any(|old| old.action == Some(action) && old.pane == new.pane && old.overlaps(new))
                });
                let span = taken.map_or(0..0, |(_, row)| row.on.span());
                let name = action.spec().id;
                return Err(source.error(
                    span,
                    format!("no key is left for `{name}`"),
                    format!("add a row for it, as in `{{ on = \"F10\", run = \"{name}\" }}`"),
                ));
            }
        }
        Ok(keymap)
    }

    /// Takes a key: what it leads to in this pane, with what was pressed before. A sequence is forgotten when a key does not
    /// belong to it, or comes a second too late.
    pub fn press(&self, dispatch: &mut Dispatch, event: KeyEvent, pane: Pane, now: Millis) -> Press {
        let input = normal(KeyInput::from(event));
        if input.key() == Key::Ignored {
            return if dispatch.keys.is_empty() { Press::None } else { Press::Pending };
        }
        if dispatch.last.is_some_and(|last| now.0 - last.0 > PATIENCE.0) {
            dispatch.reset();
        }
        dispatch.keys.push(input);
        dispatch.last = Some(now);
        for place in [Some(pane), None] {
            let here = || self.bindings.iter().filter(|binding| binding.pane == place);
            let found = here().find(|binding| binding.keys.match_to(&dispatch.keys) == Match::Matched);
            if let Some(binding) = found {
                dispatch.reset();
                return binding.action.map_or(Press::None, Press::Action);
            }
            if here().any(|binding| binding.keys.match_to(&dispatch.keys) == Match::Prefix) {
                return Press::Pending;
            }
        }
        dispatch.reset();
        Press::None
    }

    /// The keys that do this: in a pane, or everywhere.
    #[must_use]
    pub fn keys_of(&self, action: Action, pane: Option<Pane>) -> Vec<String> {
        let in_pane = |binding: &&Binding| pane.is_some() && binding.pane == pane;
        let hidden = |global: &Binding| self.bindings.iter().filter(in_pane).any(|own| own.overlaps(global));
        let own = self.bindings.iter().filter(in_pane);
        let global = self.bindings.iter().filter(|binding| binding.pane.is_none() && !hidden(binding));
        own.chain(global).filter(|binding| binding.action == Some(action)).map(Binding::keys).collect()
    }

    /// All rows, an operator's before the built-in ones.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }
}

/// What arrives in place of keys that terminals do not tell apart from others: rows for them would never be reached.
fn sent_for(input: KeyInput) -> Option<KeyInput> {
    let Key::Char(c) = input.key() else { return None };
    if !input.mods().contains(Mods::CTRL) {
        return None;
    }
    let rest = input.mods() - Mods::CTRL;
    match c.to_ascii_lowercase() {
        'i' => Some(KeyInput::new(Key::Tab, rest)),
        'm' => Some(KeyInput::new(Key::Enter, rest)),
        '[' => Some(KeyInput::new(Key::Esc, rest)),
        lower => (lower != c).then(|| KeyInput::new(lower, input.mods())),
    }
}

/// Some terminals tell the Shift that a `+` is typed with, others do not.
fn normal(input: KeyInput) -> KeyInput {
    match input.key() {
        Key::Char('+') => KeyInput::new('+', input.mods() - Mods::SHIFT),
        _ => input,
    }
}

#[cfg(test)]
mod tests;
