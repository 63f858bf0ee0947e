//! What lies above the panes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, BorderType, Borders, Clear, Paragraph, Widget, Wrap};

use super::{Scene, record, targets, words};
use crate::action::{ACTIONS, Action};
use crate::hit::{Hit, Hits};
use crate::palette;
use crate::pane::Pane;
use crate::phrase;
use crate::state::Source;
use crate::state::planning::Field;
use crate::state::ui::{Choice, Dialog, Purpose};
use crate::theme::Role;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let Some(dialog) = scene.state.ui.dialog() else { return };
    match dialog {
        // Typed where it stands, if that is in sight.
        Dialog::Edit { .. } if hits.pane(Pane::Targets).is_some() => {}
        Dialog::Edit { field, input, fault, .. } => {
            let name = match field {
                Field::Downtime => " θ_down ",
                Field::Duration => " θ_mig ",
            };
            let (role, text) = targets::advice(scene.state, *field, fault.as_deref());
            let value = format!("{}_", input.value());
            let mut lines = vec![Line::from(scene.span(Role::Selected, format!(" {value} ")))];
            lines.extend(words::labelled(scene, (role, " "), (role, &text), 50));
            let now = phrase::time(scene.state.planning.target(*field));
            lines.push(Line::from(scene.span(Role::Dim, format!(" = {now}"))));
            let inner = window(scene, name, (54, lines.len()), area, buf, hits);
            super::lines(lines, 0, inner, buf);
        }
        Dialog::Welcome { choices, selected } => welcome(scene, choices, *selected, area, buf, hits),
        Dialog::Help { filter, scroll } => {
            let lines = help(scene, filter.value(), room(area, 92));
            let title = format!(" Help  /{}_ ", filter.value());
            let inner = window(scene, &title, (92, lines.len()), area, buf, hits);
            super::lines(lines, *scroll, inner, buf);
        }
        Dialog::Palette { input, selected } => {
            let found = palette::search(input.value());
            let lines: Vec<Line<'_>> = found
                .iter()
                .enumerate()
                .map(|(number, action)| offered(scene, *action, number == *selected))
                .collect();
            let title = format!(" : {}_ ", input.value());
            let inner = window(scene, &title, (84, lines.len().max(1)), area, buf, hits);
            let first = (*selected + 1).saturating_sub(usize::from(inner.height));
            for row in 0..usize::from(inner.height).min(lines.len().saturating_sub(first)) {
                note(inner, row, 1, first + row, hits);
            }
            super::lines(lines, first, inner, buf);
        }
        Dialog::Pick { purpose, items, selected } => {
            let title = match purpose {
                Purpose::Destination => " Destination ".to_owned(),
                Purpose::Workload => " Start which workload? ".to_owned(),
                Purpose::Host { kind } => format!(" Start {kind} where? "),
            };
            let lines: Vec<Line<'_>> = items
                .iter()
                .enumerate()
                .map(|(number, text)| item(scene, number == *selected, text.clone()))
                .collect();
            let inner = window(scene, &title, (40, lines.len()), area, buf, hits);
            let first = (*selected + 1).saturating_sub(usize::from(inner.height));
            for row in 0..usize::from(inner.height).min(lines.len().saturating_sub(first)) {
                note(inner, row, 1, first + row, hits);
            }
            super::lines(lines, first, inner, buf);
        }
        Dialog::Confirm { question, lines, proceed, .. } => {
            confirm(scene, ((*question).into(), *proceed), lines, area, buf, hits);
        }
        Dialog::Record { migration, scroll } => {
            let lines = match scene.state.shown().past.get(migration) {
                Some(found) => record::lines(scene, found, room(area, RECORD)),
                None => vec![Line::from(scene.span(Role::Dim, "this record is not kept any more"))],
            };
            let inner = window(scene, &format!(" {migration} "), (RECORD, lines.len()), area, buf, hits);
            super::lines(lines, *scroll, inner, buf);
        }
        Dialog::Compare { one, other, scroll } => {
            let past = &scene.state.shown().past;
            let lines = match (past.get(one), past.get(other)) {
                (Some(one), Some(other)) => record::compared(scene, one, other, room(area, RECORD)),
                _ => vec![Line::from(scene.span(Role::Dim, "one of the records is not kept any more"))],
            };
            let inner = window(scene, &format!(" {one} | {other} "), (RECORD, lines.len()), area, buf, hits);
            super::lines(lines, *scroll, inner, buf);
        }
        Dialog::CriuLog { scroll } => criu_log(scene, *scroll, area, buf, hits),
    }
}

/// What can be attached to: a line for each choice, and what it means below it.
fn welcome(
    scene: &Scene<'_>,
    choices: &[Choice],
    selected: usize,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    const MARGIN: &str = "      ";
    let question = match scene.state.source {
        Source::Choosing => "No agents were found. What shall be shown?",
        _ => "What shall be shown? Migrations of what is shown now go on, but for a demo's.",
    };
    let longest = choices.iter().map(|choice| words::width(&choice.description) + MARGIN.len());
    let longest = longest.max().unwrap_or(0).max(words::width(question)).min(110);
    let width = u16::try_from(longest + 2).unwrap_or(u16::MAX);
    let room = room(area, width);
    let mut lines = words::labelled(scene, (Role::Text, ""), (Role::Text, question), room);
    lines.push(Line::default());
    let mut places = Vec::new();
    for (number, choice) in choices.iter().enumerate() {
        let begin = lines.len();
        lines.push(item(scene, number == selected, format!("{} {}", number + 1, choice.title)));
        lines.extend(words::labelled(scene, (Role::Dim, MARGIN), (Role::Dim, &choice.description), room));
        places.push((begin, lines.len() - begin));
    }
    let inner = window(scene, " MOSE ", (width, lines.len()), area, buf, hits);
    // The selected one is in sight.
    let end = places.get(selected).map_or(0, |(begin, rows)| begin + rows);
    let first = end.saturating_sub(usize::from(inner.height));
    for (number, (begin, rows)) in places.into_iter().enumerate() {
        if let Some(row) = begin.checked_sub(first) {
            note(inner, row, u16::try_from(rows).unwrap_or(u16::MAX), number, hits);
        }
    }
    super::lines(lines, first, inner, buf);
}

/// Columns of a record.
const RECORD: u16 = 104;

/// The columns inside a window of that width, if there is room for it.
fn room(area: Rect, width: u16) -> usize {
    usize::from(width.min(area.width.saturating_sub(2)).saturating_sub(2))
}

/// A window in the middle, as large as what is in it and no larger than there is room for; the area inside.
fn window(
    scene: &Scene<'_>,
    title: &str,
    (width, height): (u16, usize),
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) -> Rect {
    let width = width.min(area.width.saturating_sub(2)).max(area.width.min(20));
    let height = u16::try_from(height + 2)
        .unwrap_or(u16::MAX)
        .min(area.height.saturating_sub(2))
        .max(area.height.min(3));
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 3, width, height };
    hits.note(place, Hit::Dialog);
    Clear.render(place, buf);
    buf.set_style(place, scene.style(Role::Text));
    let mut block = Block::new()
        .borders(Borders::ALL)
        .border_style(scene.style(Role::Focus))
        .title(Line::from(scene.span(Role::Title, title.to_owned())));
    if scene.theme.glyphs.boxes {
        block = block.border_type(BorderType::Thick);
    } else {
        block = block.border_set(super::ASCII_BORDER);
    }
    let inner = block.inner(place);
    block.render(place, buf);
    inner
}

fn note(inner: Rect, row: usize, height: u16, index: usize, hits: &mut Hits) {
    let y = inner.y.saturating_add(u16::try_from(row).unwrap_or(u16::MAX));
    if y < inner.bottom() {
        hits.note(Rect { y, height: height.min(inner.bottom() - y), ..inner }, Hit::Item(index));
    }
}

fn item<'a>(scene: &Scene<'_>, selected: bool, text: String) -> Line<'a> {
    let pointer = if selected { scene.theme.glyphs.pointer } else { " " };
    Line::from(vec![
        scene.span(Role::Focus, format!(" {pointer} ")),
        scene.span(if selected { Role::Selected } else { Role::Text }, text),
    ])
}

fn offered<'a>(scene: &Scene<'_>, action: Action, selected: bool) -> Line<'a> {
    let spec = action.spec();
    let why_not = scene.state.enabled(action).err();
    let pointer = if selected { scene.theme.glyphs.pointer } else { " " };
    let role = match (selected, &why_not) {
        (true, _) => Role::Selected,
        (false, Some(_)) => Role::Dim,
        (false, None) => Role::Text,
    };
    let mut spans = vec![
        scene.span(Role::Focus, format!(" {pointer} ")),
        scene.span(Role::Key, format!("{:<11} ", (scene.key)(action).unwrap_or_default())),
        scene.span(role, format!("{:<12} ", spec.title)),
    ];
    match why_not {
        Some(reason) => spans.push(scene.span(Role::Dim, format!("not now: {reason}"))),
        None => spans.push(scene.span(Role::Dim, spec.description)),
    }
    Line::from(spans)
}

/// What the keys do, by group.
fn help<'a>(scene: &Scene<'_>, filter: &str, room: usize) -> Vec<Line<'a>> {
    let wanted = filter.to_lowercase();
    let mut groups: Vec<_> = ACTIONS.iter().map(|spec| spec.group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut lines = Vec::new();
    for group in groups {
        let mut first = true;
        for spec in ACTIONS.iter().filter(|spec| spec.group == group) {
            let keys = (scene.keys)(spec.action).join(" ");
            let text = format!("{keys} {} {}", spec.title, spec.description).to_lowercase();
            if !text.contains(&wanted) {
                continue;
            }
            if std::mem::take(&mut first) {
                if !lines.is_empty() {
                    lines.push(Line::default());
                }
                lines.push(Line::from(scene.span(Role::Title, group.title())));
            }
            let keys = if keys.is_empty() { "palette".to_owned() } else { keys };
            let head = vec![
                scene.span(Role::Key, format!("  {:<13} ", keys)),
                scene.span(Role::Text, format!("{:<12} ", spec.title)),
            ];
            let indent = words::length(&head);
            let mut told = words::wrapped(spec.description, room.saturating_sub(indent).max(8)).into_iter();
            let mut first = head;
            first.push(scene.span(Role::Dim, told.next().unwrap_or_default()));
            lines.push(Line::from(first));
            lines.extend(
                told.map(|row| Line::from(scene.span(Role::Dim, format!("{}{row}", " ".repeat(indent))))),
            );
        }
    }
    if lines.is_empty() {
        lines.push(Line::from(scene.span(Role::Dim, "no action contains that")));
    }
    lines
}

fn confirm(
    scene: &Scene<'_>,
    (action, proceed): (Action, bool),
    text: &[String],
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let destructive = action.spec().destructive;
    let width: u16 = 76;
    let inside = usize::from(width.min(area.width).saturating_sub(2)).max(1);
    // Lines are wrapped: each takes as many rows as it needs.
    let rows: usize = text.iter().map(|line| line.chars().count().div_ceil(inside).max(1)).sum();
    let title = format!(" {} ", action.spec().title);
    let inner = window(scene, &title, (width, rows + 3), area, buf, hits);
    let lines: Vec<Line<'_>> = text
        .iter()
        .enumerate()
        .map(|(number, line)| {
            let role = match number {
                0 => Role::Title,
                _ if destructive => Role::Warning,
                _ => Role::Text,
            };
            Line::from(scene.span(role, line.clone()))
        })
        .collect();
    Paragraph::new(lines).wrap(Wrap { trim: false }).render(inner, buf);
    let bottom = usize::from(inner.height);
    if bottom >= 2 {
        let at = |row: usize| Rect { y: inner.y + row as u16, height: 1, ..inner };
        let (do_it, cancel) = if proceed { ("Enter", "Esc") } else { ("y", "Enter") };
        let answers = [(bottom - 2, do_it, action.verb(), proceed), (bottom - 1, cancel, "cancel", !proceed)];
        for (index, (row, key, word, selected)) in answers.into_iter().enumerate() {
            hits.note(at(row), Hit::Item(index));
            Clear.render(at(row), buf);
            buf.set_style(at(row), scene.style(Role::Text));
            let pointer = if selected { scene.theme.glyphs.pointer } else { " " };
            let role = if index == 0 && destructive { Role::Bad } else { Role::Text };
            Line::from(vec![
                scene.span(Role::Focus, format!(" {pointer} ")),
                scene.span(Role::Key, format!("{key:<6}")),
                scene.span(role, word),
            ])
            .render(at(row), buf);
        }
    }
}

/// Why a step failed: what was told of it, and CRIU's own log.
fn criu_log(scene: &Scene<'_>, scroll: usize, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    const WIDTH: u16 = 110;
    let room = room(area, WIDTH);
    let failure = scene.state.failure();
    let record = failure.and_then(|failure| failure.record);
    let reason = record.and_then(|record| record.reason.as_ref());
    let (title, told) = match (failure.and_then(|failure| failure.bar), record) {
        (Some(bar), _) => (format!(" {} failed at {} ", bar.step.name(), bar.host), bar.detail.as_deref()),
        (None, Some(record)) => (
            format!(" {} {} ", record.service, record.outcome_name()),
            record.reason.as_ref().map(|reason| reason.reason.as_str()),
        ),
        (None, None) => (" CRIU ".to_owned(), None),
    };
    let told = told.unwrap_or("nothing more was told");
    let mut lines = words::labelled(scene, (Role::Text, ""), (Role::Text, told), room);
    if let Some(reason) = reason.filter(|reason| !reason.remedy.is_empty()) {
        lines.extend(words::labelled(scene, (Role::Dim, "remedy  "), (Role::Text, &reason.remedy), room));
    }
    match reason.and_then(|reason| reason.log.as_deref()) {
        Some(log) => lines.extend(record::log(scene, log, room)),
        None => {
            lines.push(Line::default());
            lines.push(Line::from(scene.span(Role::Dim, "CRIU had no part in it, or left no log")));
        }
    }
    let inner = window(scene, &title, (WIDTH, lines.len()), area, buf, hits);
    super::lines(lines, scroll, inner, buf);
}
