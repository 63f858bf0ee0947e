//! Keys while something lies above the panes, or a filter is typed.

use std::net::Ipv4Addr;

use mose_protocol::{HostName, ServiceName, Timestamp};
use ratatui::crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent, KeyModifiers};
use tui_input::Input;
use tui_input::backend::crossterm::EventHandler;

use super::{Surroundings, act};
use crate::action::Action;
use crate::derived::Settled;
use crate::effect::{Attach, Effect};
use crate::palette;
use crate::state::planning::{Application, Field, seconds};
use crate::state::ui::{Dialog, Purpose};
use crate::state::{Level, Source, State};

/// No dialog has more lines; the view shows the last ones at most.
pub(super) const MOST_SCROLLED: usize = 10_000;

/// The longest text that is typed.
const LONGEST: usize = 200;

/// A key for a dialog or a filter; `None` where there is neither.
pub(super) fn on_key(
    state: &mut Settled,
    key: KeyEvent,
    now: Timestamp,
    around: &mut Surroundings<'_>,
) -> Option<Vec<Effect>> {
    let ctrl = |letter| key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char(letter);
    let busy = !state.ui.dialogs.is_empty() || state.ui.typing.is_some();
    if busy && ctrl('c') {
        return Some(vec![Effect::Quit]);
    }
    if busy && ctrl('z') {
        return Some(vec![Effect::Suspend]);
    }
    if let Some(mut input) = state.ui.typing.take() {
        let pane = state.ui.focus.0;
        match key.code {
            KeyCode::Enter => {}
            KeyCode::Esc => {
                state.ui.filters.remove(&pane);
            }
            _ => {
                write(&mut input, key);
                state.ui.filters.insert(pane, input.value().to_owned());
                state.ui.typing = Some(input);
            }
        }
        return Some(Vec::new());
    }
    let dialog = state.ui.dialogs.pop()?;
    Some(match dialog {
        Dialog::Welcome { choices, selected } => welcome(state, (choices, selected), key, now),
        Dialog::Help { mut filter, scroll } => {
            if let Some(scroll) = scrolled(key, scroll, false) {
                state.ui.dialogs.push(Dialog::Help { filter, scroll });
            } else if key.code != KeyCode::Esc && key.code != KeyCode::Enter {
                write(&mut filter, key);
                state.ui.dialogs.push(Dialog::Help { filter, scroll: 0 });
            }
            Vec::new()
        }
        Dialog::Palette { input, selected } => palette_key(state, input, selected, key, now, around),
        Dialog::Pick { purpose, items, selected } => pick_key(state, (purpose, items, selected), key, now),
        Dialog::Edit { field, input, fault, before } => {
            edit_key(state, (field, input, fault, before), key);
            Vec::new()
        }
        Dialog::Confirm { question, lines, effect, proceed } => match key.code {
            KeyCode::Enter if !proceed => Vec::new(),
            KeyCode::Enter | KeyCode::Char('y') => act::confirmed(state, *effect, now),
            KeyCode::Esc | KeyCode::Char('n' | 'q') => Vec::new(),
            KeyCode::Up
            | KeyCode::Down
            | KeyCode::Left
            | KeyCode::Right
            | KeyCode::Tab
            | KeyCode::BackTab => {
                state.ui.dialogs.push(Dialog::Confirm { question, lines, effect, proceed: !proceed });
                Vec::new()
            }
            // Ordering again confirms: the key that asked.
            _ if !Action::from(question).spec().destructive
                && (around.keys)(key, state.ui.focus.0) == Some(question.into()) =>
            {
                act::confirmed(state, *effect, now)
            }
            _ => {
                state.ui.dialogs.push(Dialog::Confirm { question, lines, effect, proceed });
                Vec::new()
            }
        },
        Dialog::Record { migration, scroll } => {
            reading(state, key, scroll, |scroll| Dialog::Record { migration, scroll })
        }
        Dialog::Compare { one, other, scroll } => {
            reading(state, key, scroll, |scroll| Dialog::Compare { one, other, scroll })
        }
        Dialog::CriuLog { scroll } => reading(state, key, scroll, |scroll| Dialog::CriuLog { scroll }),
    })
}

/// A text was pasted.
pub(super) fn paste(state: &mut State, text: &str, now: Timestamp) -> Vec<Effect> {
    let _ = now;
    let line: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    let add = |input: &Input| Input::new(format!("{}{line}", input.value()).chars().take(LONGEST).collect());
    if let Some(input) = &mut state.ui.typing {
        *input = add(input);
        let value = input.value().to_owned();
        state.ui.filters.insert(state.ui.focus.0, value);
        return Vec::new();
    }
    match state.ui.dialogs.last_mut() {
        Some(Dialog::Help { filter: input, .. } | Dialog::Palette { input, .. }) => *input = add(input),
        Some(Dialog::Edit { field, input, .. }) => {
            *input = add(input);
            let (field, text) = (*field, input.value().to_owned());
            let fault = typed(state, field, &text).err();
            if let Some(Dialog::Edit { fault: shown, .. }) = state.ui.dialogs.last_mut() {
                *shown = fault;
            }
        }
        _ => {}
    }
    Vec::new()
}

fn write(input: &mut Input, key: KeyEvent) {
    let full = input.value().chars().count() >= LONGEST;
    if full && matches!(key.code, KeyCode::Char(_)) {
        return;
    }
    input.handle_event(&TerminalEvent::Key(key));
}

/// Where a text that is read is scrolled to by a key; letters only where none are typed.
fn scrolled(key: KeyEvent, scroll: usize, letters: bool) -> Option<usize> {
    let by: isize = match key.code {
        KeyCode::Up => -1,
        KeyCode::Down => 1,
        KeyCode::Char('k') if letters => -1,
        KeyCode::Char('j') if letters => 1,
        KeyCode::PageUp => -10,
        KeyCode::PageDown => 10,
        KeyCode::Home => isize::MIN,
        _ => return None,
    };
    Some(scroll.saturating_add_signed(by).min(MOST_SCROLLED))
}

fn reading(
    state: &mut Settled,
    key: KeyEvent,
    scroll: usize,
    dialog: impl FnOnce(usize) -> Dialog,
) -> Vec<Effect> {
    if !matches!(key.code, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q')) {
        let scroll = scrolled(key, scroll, true).unwrap_or(scroll);
        state.ui.dialogs.push(dialog(scroll));
    }
    Vec::new()
}

/// Up and down in a list, around its ends.
pub(super) fn moved(key: KeyEvent, selected: usize, count: usize, letters: bool) -> Option<usize> {
    let count = count.max(1);
    match key.code {
        KeyCode::Up | KeyCode::BackTab => Some((selected + count - 1) % count),
        KeyCode::Down | KeyCode::Tab => Some((selected + 1) % count),
        KeyCode::Char('k') if letters => Some((selected + count - 1) % count),
        KeyCode::Char('j') if letters => Some((selected + 1) % count),
        _ => None,
    }
}

fn welcome(
    state: &mut Settled,
    (choices, selected): (Vec<crate::state::ui::Choice>, usize),
    key: KeyEvent,
    now: Timestamp,
) -> Vec<Effect> {
    if let Some(selected) = moved(key, selected, choices.len(), true) {
        state.ui.dialogs.push(Dialog::Welcome { choices, selected });
        return Vec::new();
    }
    match key.code {
        KeyCode::Enter => act::choose(state, choices, selected, now),
        KeyCode::Char(digit @ '1'..='9') => act::choose(state, choices, digit as usize - '1' as usize, now),
        KeyCode::Char('q') => vec![Effect::Quit],
        // Where something is attached already, it stays.
        KeyCode::Esc if state.source != Source::Choosing => Vec::new(),
        KeyCode::Esc => act::attach(state, Attach::Look, now),
        _ => {
            state.ui.dialogs.push(Dialog::Welcome { choices, selected });
            Vec::new()
        }
    }
}

fn palette_key(
    state: &mut Settled,
    mut input: Input,
    selected: usize,
    key: KeyEvent,
    now: Timestamp,
    around: &mut Surroundings<'_>,
) -> Vec<Effect> {
    let found = palette::search(input.value());
    match key.code {
        KeyCode::Esc => Vec::new(),
        KeyCode::Enter => match found.get(selected) {
            Some(&action) => act::act(state, action, now, around),
            None => Vec::new(),
        },
        _ => {
            let selected = match moved(key, selected, found.len(), false) {
                Some(selected) => selected,
                None => {
                    write(&mut input, key);
                    0
                }
            };
            state.ui.dialogs.push(Dialog::Palette { input, selected });
            Vec::new()
        }
    }
}

fn pick_key(
    state: &mut Settled,
    (purpose, items, selected): (Purpose, Vec<String>, usize),
    key: KeyEvent,
    now: Timestamp,
) -> Vec<Effect> {
    if let Some(selected) = moved(key, selected, items.len(), true) {
        state.ui.dialogs.push(Dialog::Pick { purpose, items, selected });
        return Vec::new();
    }
    match key.code {
        KeyCode::Esc | KeyCode::Char('q') => Vec::new(),
        KeyCode::Enter => picked(state, purpose, &items, selected, now),
        _ => {
            state.ui.dialogs.push(Dialog::Pick { purpose, items, selected });
            Vec::new()
        }
    }
}

/// Something was picked.
pub(super) fn picked(
    state: &mut Settled,
    purpose: Purpose,
    items: &[String],
    selected: usize,
    now: Timestamp,
) -> Vec<Effect> {
    let Some(item) = items.get(selected) else { return Vec::new() };
    let mut host = || match item.parse() {
        Ok(host) => Some(host),
        Err(error) => {
            state.notices.say(Level::Error, format!("`{item}` is no host: {error}"), now);
            None
        }
    };
    match purpose {
        Purpose::Destination => state.ui.destination = host(),
        Purpose::Workload => {
            let hosts = state.data.fleet.hosts();
            let edges = hosts.filter(|host| host.role() == Some(mose_protocol::agent::Role::Edge));
            let items = edges.map(|host| host.name.to_string()).collect();
            let purpose = Purpose::Host { kind: item.clone() };
            state.ui.dialogs.push(Dialog::Pick { purpose, items, selected: 0 });
        }
        Purpose::Host { kind } => {
            if let Some(on) = host() {
                return start(state, kind, on, now);
            }
        }
    }
    Vec::new()
}

/// Starts a workload under a name and an address that no service has that is known of.
fn start(state: &mut Settled, kind: String, on: HostName, now: Timestamp) -> Vec<Effect> {
    let fleet = &state.data.fleet;
    let free = |name: &ServiceName| fleet.services().all(|located| &located.info.name != name);
    let numbered = (2..=99).map(|number| format!("{kind}-{number}"));
    let name = std::iter::once(kind.clone()).chain(numbered).filter_map(|name| name.parse().ok()).find(free);
    let taken: Vec<Ipv4Addr> = fleet.services().filter_map(|l| Some(l.info.address?.addr())).collect();
    let address = (20..=250).map(|host| Ipv4Addr::new(10, 77, 0, host)).find(|one| !taken.contains(one));
    let Some((name, address)) = name.zip(address) else {
        state.notices.say(Level::Error, format!("there is no name or address left for another {kind}"), now);
        return Vec::new();
    };
    vec![Effect::StartService { kind, name, address, on }]
}

/// A target is what was typed, if that is one.
fn typed(state: &mut State, field: Field, text: &str) -> Result<(), String> {
    let unit = act::unit(state, field);
    let value = match field {
        Field::Downtime => state.application().read(unit, text)?,
        Field::Duration => seconds(text)?,
    };
    match Application::metres(unit, text) {
        Some(metres) => state.planning.set_metres(metres, value),
        None => state.planning.set(field, value),
    }
    Ok(())
}

/// A target follows what is typed; leaving without Enter sets it back.
fn edit_key(
    state: &mut Settled,
    (field, mut input, mut fault, before): (Field, Input, Option<String>, mose_pam::Millis),
    key: KeyEvent,
) {
    match key.code {
        KeyCode::Esc => state.planning.undo(field, before),
        KeyCode::Enter if fault.is_none() || input.value().is_empty() => {}
        KeyCode::Up | KeyCode::Down => {
            state.planning.step(field, key.code == KeyCode::Up);
            let input = Input::default();
            state.ui.dialogs.push(Dialog::Edit { field, input, fault: None, before });
        }
        KeyCode::Tab if field == Field::Downtime => {
            state.planning.unit = state.planning.unit.next();
            state.ui.dialogs.push(Dialog::Edit { field, input: Input::default(), fault: None, before });
        }
        _ => {
            write(&mut input, key);
            fault = None;
            if input.value().is_empty() {
                state.planning.undo(field, before);
            } else {
                fault = typed(state, field, input.value()).err();
            }
            state.ui.dialogs.push(Dialog::Edit { field, input, fault, before });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_go_around_their_ends() {
        let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
        assert_eq!(moved(key(KeyCode::Up), 0, 3, false), Some(2));
        assert_eq!(moved(key(KeyCode::Down), 2, 3, false), Some(0));
        assert_eq!(moved(key(KeyCode::Char('j')), 0, 3, false), None);
        assert_eq!(moved(key(KeyCode::Char('j')), 0, 0, true), Some(0));
    }
}
