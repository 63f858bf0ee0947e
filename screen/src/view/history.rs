//! Past migrations: predicted and measured, and whether the bounds held.

use mose_protocol::record::{Outcome, Record};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Scene, figure};
use crate::hit::{Hit, Hits};
use crate::pane::Pane;
use crate::theme::Role;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let ui = &scene.state.ui;
    let records = scene.state.shown().past.view(ui.filter(Pane::History), ui.order);
    if records.is_empty() {
        let text = if ui.filter(Pane::History).is_empty() {
            "no past migration"
        } else {
            "nothing contains the filter"
        };
        return super::lines(vec![Line::from(scene.span(Role::Dim, text))], 0, area, buf);
    }
    let mut rows = area.rows();
    let headed = area.height > 2;
    if headed && let Some(row) = rows.next() {
        super::lines(vec![heading(scene, area.width)], 0, row, buf);
    }
    let room = usize::from(area.height) - usize::from(headed);
    let place = ui.record.as_ref().and_then(|id| records.iter().position(|record| &record.migration == id));
    let first = (place.unwrap_or(0) + 1).saturating_sub(room).min(records.len().saturating_sub(room));
    for (row, record) in rows.zip(records.into_iter().skip(first)) {
        hits.note(row, Hit::Record(record.migration.clone()));
        super::lines(vec![line(scene, record, area.width)], 0, row, buf);
    }
}

/// How wide a terminal must be for the columns after the first ones.
const WIDE: u16 = 100;

fn heading<'a>(scene: &Scene<'_>, width: u16) -> Line<'a> {
    let mut text = format!("  {:<8} {:<12} {:<19} {:<13}", "time", "service", "way", "plan");
    text.push_str(&format!(" {:<24}", "downtime (client, else agents)"));
    if width >= WIDE {
        text.push_str(&format!("  {:<22} {:<9} outcome", "duration", "sent"));
    }
    Line::from(scene.span(Role::Dim, text))
}

fn plan(record: &Record) -> String {
    match record.plan.iterations {
        Some(iterations) if iterations > 0 => format!("iterative I={iterations}"),
        Some(_) => "pre-copy".to_owned(),
        None => record.plan.strategy.to_string().replace("precopy", "pre-copy"),
    }
}

fn line<'a>(scene: &Scene<'_>, record: &'a Record, width: u16) -> Line<'a> {
    let glyphs = &scene.theme.glyphs;
    let ui = &scene.state.ui;
    let selected = ui.record.as_ref() == Some(&record.migration);
    let marked = ui.marked.as_ref() == Some(&record.migration);
    let (role, mark) = match record.outcome {
        Outcome::Done => (Role::Good, glyphs.yes),
        Outcome::Refused => (Role::Warning, glyphs.gap),
        Outcome::RolledBack => (Role::Warning, glyphs.no),
        Outcome::InDoubt => (Role::Bad, glyphs.unknown),
    };
    let text = if selected { Role::Selected } else { Role::Text };
    let way = format!("{} {} {}", record.from, glyphs.arrow, record.to);
    let mut spans = vec![
        scene.span(
            Role::Focus,
            if marked {
                "* "
            } else if selected {
                glyphs.pointer
            } else {
                "  "
            },
        ),
        Span::raw(if selected && !marked { " " } else { "" }),
        scene.span(Role::Dim, format!("{} ", figure::clock(scene, record.started_at))),
        scene.span(text, format!("{:<12.12} ", record.service.as_str())),
        scene.span(Role::Text, format!("{way:<19.19} ")),
        scene.span(Role::Text, format!("{:<13.13} ", plan(record))),
    ];
    let forecast = record.forecast.as_deref();
    let bound = forecast.map(|forecast| forecast.bound);
    let downtime = record.downtime.blackout;
    let shown = record.downtime.client_gap().or(downtime);
    let mut cell: Vec<Span<'a>> = match (shown, bound, downtime) {
        (Some(shown), Some(bound), Some(blackout)) => {
            // The bound is of the agents' blackout; what the client saw is the headline.
            let mut spans = vec![scene.span(Role::Text, format!("{} ", figure::time(shown)))];
            let held = blackout <= bound.downtime;
            spans
                .push(scene.span(Role::Dim, format!("{} {} ", glyphs.at_most, figure::time(bound.downtime))));
            spans.push(
                scene.span(
                    if held { Role::Good } else { Role::Bad },
                    if held { glyphs.yes } else { glyphs.no },
                ),
            );
            spans
        }
        (shown, ..) => vec![scene.span(Role::Text, figure::known(scene, shown.map(figure::time)))],
    };
    pad(&mut cell, 24);
    spans.extend(cell);
    if width >= WIDE {
        let mut cell = match bound {
            Some(bound) if record.outcome == Outcome::Done => {
                figure::verdict(scene, record.duration, bound.duration)
            }
            _ => vec![scene.span(Role::Text, figure::time(record.duration))],
        };
        pad(&mut cell, 22);
        spans.push(Span::raw("  "));
        spans.extend(cell);
        spans.push(scene.span(Role::Text, format!(" {:<9}", record.image.to_string())));
    }
    spans.push(scene.span(role, format!(" {mark} {}", record.outcome.name())));
    Line::from(spans)
}

fn pad(cell: &mut Vec<Span<'_>>, width: usize) {
    let used: usize = cell.iter().map(Span::width).sum();
    cell.push(Span::raw(" ".repeat(width.saturating_sub(used))));
}
