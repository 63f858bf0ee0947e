//! The mouse: what was drawn at a place answers.

use mose_pam::Millis;
use mose_protocol::Timestamp;
use ratatui::crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use super::{Surroundings, act, dialog};
use crate::action::Action;
use crate::derived::Settled;
use crate::effect::Effect;
use crate::hit::Hit;
use crate::palette;
use crate::pane::Pane;
use crate::state::Source;
use crate::state::planning::Field;
use crate::state::ui::{Dialog, Drag, Focus};

pub(super) fn on_mouse(
    state: &mut Settled,
    event: MouseEvent,
    now: Timestamp,
    around: &mut Surroundings<'_>,
) -> Vec<Effect> {
    match event.kind {
        MouseEventKind::Down(MouseButton::Left) => press(state, event, now, around),
        MouseEventKind::Up(MouseButton::Left) => {
            state.ui.dragging = None;
            Vec::new()
        }
        MouseEventKind::Drag(MouseButton::Left) => {
            drag(state, event, around);
            Vec::new()
        }
        MouseEventKind::ScrollUp => wheel(state, event, true, now, around),
        MouseEventKind::ScrollDown => wheel(state, event, false, now, around),
        _ => Vec::new(),
    }
}

fn press(
    state: &mut Settled,
    event: MouseEvent,
    now: Timestamp,
    around: &mut Surroundings<'_>,
) -> Vec<Effect> {
    let under: Vec<Hit> = around.hits.at(event.column, event.row).cloned().collect();
    let mut effects = Vec::new();
    // Beside a dialog: it is left, unless it asks something that must be answered. What lies there does not answer: else one
    // question would be asked above the other.
    if let Some(dialog) = state.ui.dialog()
        && !under.contains(&Hit::Dialog)
    {
        let must = matches!(dialog, Dialog::Welcome { .. }) && state.source == Source::Choosing;
        return if must { effects } else { act::act(state, Action::Cancel, now, around) };
    }
    for hit in under {
        match hit {
            Hit::Dialog => {}
            Hit::Item(index) => return item(state, index, now, around),
            Hit::Action(action) => return act::act(state, action, now, around),
            Hit::Pane(pane) => state.ui.focus = Focus(pane),
            Hit::Service(service) => act::select_service(state, service),
            Hit::Host(host) => {
                let from = state.service().map(|located| located.host.name.clone());
                let edge = state.data.fleet.host(&host).and_then(|host| host.role());
                if edge == Some(mose_protocol::agent::Role::Edge) && from.as_ref() != Some(&host) {
                    state.ui.destination = Some(host);
                }
            }
            Hit::Record(migration) => {
                // A second press opens it.
                if state.ui.record.as_ref() == Some(&migration) {
                    state.ui.focus = Focus(Pane::History);
                    effects.extend(act::act(state, Action::Open, now, around));
                } else {
                    state.ui.track = state.data.migrations.get(&migration).map(|t| t.migration.clone());
                    state.ui.record = Some(migration);
                }
            }
            Hit::Target(field) => {
                state.planning.field = field;
                let begun = state.planning.target(field);
                state.ui.dragging = Some(Drag::Target { field, column: event.column, begun });
            }
            Hit::Map { downtime, duration } => {
                place(state, downtime, duration);
                state.ui.dragging = Some(Drag::Map);
            }
        }
    }
    effects
}

/// A line of the uppermost dialog.
fn item(state: &mut Settled, index: usize, now: Timestamp, around: &mut Surroundings<'_>) -> Vec<Effect> {
    match state.ui.dialogs.pop() {
        Some(Dialog::Welcome { choices, .. }) => act::choose(state, choices, index, now),
        Some(Dialog::Palette { input, .. }) => match palette::search(input.value()).get(index) {
            Some(&action) => act::act(state, action, now, around),
            None => Vec::new(),
        },
        Some(Dialog::Pick { purpose, items, .. }) => dialog::picked(state, purpose, &items, index, now),
        // The first line of a question is yes, the second no.
        Some(Dialog::Confirm { effect, .. }) if index == 0 => act::confirmed(state, *effect, now),
        Some(Dialog::Confirm { .. }) | None => Vec::new(),
        Some(other) => {
            state.ui.dialogs.push(other);
            Vec::new()
        }
    }
}

/// A place on the region map: the targets that it stands for.
fn place(state: &mut Settled, downtime: Option<Millis>, duration: Option<Millis>) {
    for (field, value) in [(Field::Downtime, downtime), (Field::Duration, duration)] {
        if let Some(value) = value {
            state.planning.set(field, value);
        }
    }
}

fn drag(state: &mut Settled, event: MouseEvent, around: &Surroundings<'_>) {
    match state.ui.dragging {
        // A column is a fiftieth of where the dragging began, at least 10 ms.
        Some(Drag::Target { field, column, begun }) => {
            let step = (begun.0 / 50.0).max(10.0);
            let by = f64::from(event.column) - f64::from(column);
            let value = ((begun.0 + by * step) / 10.0).round() * 10.0;
            state.planning.set(field, Millis(value.max(10.0)));
        }
        Some(Drag::Map) => {
            let under = around.hits.at(event.column, event.row).find_map(|hit| match hit {
                Hit::Map { downtime, duration } => Some((*downtime, *duration)),
                _ => None,
            });
            if let Some((downtime, duration)) = under {
                place(state, downtime, duration);
            }
        }
        None => {}
    }
}

fn wheel(
    state: &mut Settled,
    event: MouseEvent,
    up: bool,
    now: Timestamp,
    around: &mut Surroundings<'_>,
) -> Vec<Effect> {
    let under: Vec<Hit> = around.hits.at(event.column, event.row).cloned().collect();
    let asked = matches!(state.ui.dialog(), Some(dialog) if !matches!(dialog, Dialog::Edit { .. }));
    if let Some(Hit::Target(field)) = under.iter().find(|hit| matches!(hit, Hit::Target(_)) && !asked) {
        state.planning.field = *field;
        state.planning.step(*field, up);
        return Vec::new();
    }
    if let Some(
        Dialog::Help { scroll, .. }
        | Dialog::Record { scroll, .. }
        | Dialog::Compare { scroll, .. }
        | Dialog::CriuLog { scroll },
    ) = state.ui.dialogs.last_mut()
    {
        *scroll = if up { scroll.saturating_sub(3) } else { (*scroll + 3).min(dialog::MOST_SCROLLED) };
        return Vec::new();
    }
    if state.ui.dialogs.is_empty()
        && let Some(Hit::Pane(pane)) = under.iter().find(|hit| matches!(hit, Hit::Pane(_)))
    {
        state.ui.focus = Focus(*pane);
        return act::act(state, if up { Action::Up } else { Action::Down }, now, around);
    }
    Vec::new()
}
