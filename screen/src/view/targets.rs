//! The targets: θ_down, θ_mig, what is minimised; typed, stepped, dragged.

use mose_pam::Objective;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::{Scene, words};
use crate::action::Action;
use crate::hit::{Hit, Hits};
use crate::phrase;
use crate::state::State;
use crate::state::planning::{Field, Unit};
use crate::state::ui::Dialog;
use crate::theme::Role;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let planning = &scene.state.planning;
    let objective = match planning.objective {
        Objective::Downtime => "downtime",
        Objective::Resources => "resources",
    };
    let key = |action| (scene.key)(action).map(|key| format!("{key} ")).unwrap_or_default();
    let mut rows: Vec<(Vec<Span<'_>>, Option<Hit>)> = vec![
        target(scene, Field::Downtime, &key(Action::EditDowntime)),
        target(scene, Field::Duration, &key(Action::EditDuration)),
        (
            vec![
                scene.span(Role::Key, key(Action::ToggleObjective)),
                scene.span(Role::Dim, "minimise "),
                scene.span(Role::Text, objective),
            ],
            Some(Hit::Action(Action::ToggleObjective)),
        ),
    ];
    let application = scene.state.application();
    if let Some(mut shown) = application.show(planning.unit, planning.downtime) {
        if planning.unit == Unit::Deviation {
            let whose = scene.state.vehicle().map_or("set", |(host, _)| host.as_str());
            shown = format!("{shown} at {} m/s ({whose})", application.vehicle.speed.0);
            // The speed matters more than the words.
            if words::width(&shown) + 6 > usize::from(area.width) {
                shown = shown.replace(" off the path", "");
            }
        }
        rows.insert(
            1,
            (
                vec![scene.span(Role::Dim, "    = "), scene.span(Role::Text, shown)],
                Some(Hit::Action(Action::NextUnit)),
            ),
        );
    }
    if let Some(Dialog::Edit { field, fault, .. }) = scene.state.ui.dialog() {
        // What is wrong with it, or what may be typed, right below: the lines after it can wait.
        let (role, text) = advice(scene.state, *field, fault.as_deref());
        let place = rows.iter().rposition(|(_, hit)| *hit == Some(Hit::Target(*field))).unwrap_or(0) + 1;
        let wrapped = words::wrapped(&text, usize::from(area.width).saturating_sub(2));
        rows.truncate(place);
        rows.extend(wrapped.into_iter().map(|row| (vec![scene.span(role, format!("  {row}"))], None)));
        let spare = rows.len().saturating_sub(usize::from(area.height)).min(place.saturating_sub(1));
        rows.drain(..spare);
    } else {
        let keys = [Action::TargetDown, Action::TargetUp, Action::NextUnit];
        let mut hint = Vec::new();
        for action in keys {
            if let Some(key) = (scene.key)(action) {
                hint.push(scene.span(Role::Key, key));
                hint.push(scene.span(Role::Dim, format!(" {}  ", action.spec().title)));
            }
        }
        rows.push((hint, None));
    }
    for (row, (spans, hit)) in area.rows().zip(rows) {
        if let Some(hit) = hit {
            hits.note(row, hit);
        }
        Line::from(spans).render(row, buf);
    }
}

/// What is wrong with what was typed, or what may be.
pub(super) fn advice(state: &State, field: Field, fault: Option<&str>) -> (Role, String) {
    let unit = match field {
        Field::Downtime => state.planning.unit,
        Field::Duration => Unit::Seconds,
    };
    match (fault, field) {
        (Some(fault), _) => (Role::Bad, fault.to_owned()),
        (None, Field::Downtime) => (Role::Dim, unit.prompt().to_owned()),
        (None, Field::Duration) => (Role::Dim, "longest duration, such as 800ms or 5s".to_owned()),
    }
}

fn target<'a>(scene: &Scene<'_>, field: Field, key: &str) -> (Vec<Span<'a>>, Option<Hit>) {
    let planning = &scene.state.planning;
    let focused = planning.field == field;
    let name = match field {
        Field::Downtime => "θ_down",
        Field::Duration => "θ_mig ",
    };
    let value = match scene.state.ui.dialog() {
        Some(Dialog::Edit { field: edited, input, .. }) if *edited == field => format!("{}_", input.value()),
        _ => phrase::time(planning.target(field)),
    };
    let mut spans = vec![
        scene.span(Role::Key, key.to_owned()),
        scene.span(Role::Dim, format!("{name} ")),
        scene.span(if focused { Role::Selected } else { Role::Text }, format!(" {value} ")),
    ];
    if focused {
        let mark = format!(" {}", scene.theme.glyphs.pointer);
        spans.push(scene.span(Role::Focus, mark));
    }
    (spans, Some(Hit::Target(field)))
}
