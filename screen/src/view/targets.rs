//! The targets: θ_down, θ_mig, what is minimised; typed, stepped, dragged.

use mose_pam::Objective;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::{Scene, figure};
use crate::action::Action;
use crate::hit::{Hit, Hits};
use crate::state::planning::Field;
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
    if let Some(shown) = planning.application.show(planning.unit, planning.downtime) {
        rows.insert(
            1,
            (
                vec![scene.span(Role::Dim, "    = "), scene.span(Role::Text, shown)],
                Some(Hit::Action(Action::NextUnit)),
            ),
        );
    }
    if let Some(Dialog::Edit { fault: Some(fault), .. }) = scene.state.ui.dialog() {
        rows.push((vec![scene.span(Role::Bad, fault.clone())], None));
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

fn target<'a>(scene: &Scene<'_>, field: Field, key: &str) -> (Vec<Span<'a>>, Option<Hit>) {
    let planning = &scene.state.planning;
    let focused = planning.field == field;
    let name = match field {
        Field::Downtime => "θ_down",
        Field::Duration => "θ_mig ",
    };
    let value = match scene.state.ui.dialog() {
        Some(Dialog::Edit { field: edited, input, .. }) if *edited == field => format!("{}_", input.value()),
        _ => figure::time(planning.target(field)),
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
