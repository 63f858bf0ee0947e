//! Past migrations: for how long the service stood still, and for those that were done, whether worst case and targets held.

use mose_pam::Millis;
use mose_protocol::record::{Outcome, Record};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Scene, figure, words};
use crate::hit::{Hit, Hits};
use crate::pane::Pane;
use crate::phrase;
use crate::state::Still;
use crate::theme::Role;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let ui = &scene.state.ui;
    let records: Vec<&Record> = scene.state.history().collect();
    if records.is_empty() {
        let text = if ui.filter(Pane::History).is_empty() {
            "no past migration"
        } else {
            "nothing contains the filter"
        };
        return super::lines(vec![Line::from(scene.span(Role::Dim, text))], 0, area, buf);
    }
    let columns = Columns::of(scene, &records, usize::from(area.width));
    let mut rows = area.rows();
    let headed = area.height > 2;
    if headed && let Some(row) = rows.next() {
        super::lines(vec![columns.heading(scene)], 0, row, buf);
    }
    let room = usize::from(area.height) - usize::from(headed);
    let place = ui.record.as_ref().and_then(|id| records.iter().position(|record| &record.migration == id));
    let first = (place.unwrap_or(0) + 1).saturating_sub(room).min(records.len().saturating_sub(room));
    for (row, record) in rows.zip(records.into_iter().skip(first)) {
        hits.note(row, Hit::Record(record.migration.clone()));
        super::lines(vec![columns.line(scene, record)], 0, row, buf);
    }
}

/// How wide the columns are; 0: it is left out.
struct Columns {
    outcome: usize,
    service: usize,
    way: usize,
    plan: usize,
    downtime: usize,
    duration: usize,
    targets: usize,
    client: usize,
    sent: usize,
}

/// The mark and the time of day.
const FIRST: usize = 2 + 9;
/// Time, at most, time, mark.
const BOUNDED: usize = 21;
/// A time alone.
const BARE: usize = 8;

impl Columns {
    /// As wide as what is in them, as many as there is room for.
    fn of(scene: &Scene<'_>, records: &[&Record], room: usize) -> Self {
        let widest = |of: &dyn Fn(&Record) -> usize, least: usize, most: usize| {
            records.iter().take(200).map(|record| of(record)).max().unwrap_or(0).clamp(least, most)
        };
        let mut columns = Self {
            outcome: 14,
            service: widest(&|record| record.service.as_str().len(), 8, 18) + 2,
            way: widest(&|record| words::width(&way(scene, record)), 6, 24) + 2,
            plan: 15,
            downtime: BOUNDED + 2,
            duration: BOUNDED + 2,
            targets: 12,
            client: BARE + 2,
            sent: BARE + 1,
        };
        // What matters less goes first.
        let give: [fn(&mut Self); 9] = [
            |columns| columns.sent = 0,
            |columns| columns.client = 0,
            |columns| columns.plan = 0,
            |columns| columns.duration = BARE + 2,
            |columns| columns.duration = 0,
            |columns| columns.targets = 0,
            |columns| columns.downtime = BARE + 2,
            |columns| columns.way = columns.way.min(12),
            |columns| columns.downtime = 0,
        ];
        for less in give {
            if columns.width() <= room {
                break;
            }
            less(&mut columns);
        }
        columns
    }

    const fn width(&self) -> usize {
        let figures = self.downtime + self.duration + self.targets + self.client + self.sent;
        FIRST + self.outcome + self.service + self.way + self.plan + figures
    }

    fn heading<'a>(&self, scene: &Scene<'_>) -> Line<'a> {
        let mut text = format!("  {:<9}", "time");
        for (name, width, right) in [
            ("outcome", self.outcome, false),
            ("service", self.service, false),
            ("way", self.way, false),
            ("plan", self.plan, false),
            ("downtime", self.downtime, true),
            ("duration", self.duration, true),
            ("target", self.targets, false),
            ("client", self.client, true),
            ("sent", self.sent, true),
        ] {
            match (width, right) {
                (0, _) => {}
                (_, true) if width > BARE + 2 => {
                    // Above the figures, and above the bounds.
                    let figure = format!("{name:>BARE$}   worst case");
                    text.push_str(&words::left(scene, &figure, width));
                }
                (_, true) => text.push_str(&words::right(scene, name, width.min(BARE))),
                (_, false) => text.push_str(&words::left(scene, name, width)),
            }
            if right && width == BARE + 2 {
                text.push_str("  ");
            }
        }
        Line::from(scene.span(Role::Dim, text))
    }

    fn line<'a>(&self, scene: &Scene<'_>, record: &'a Record) -> Line<'a> {
        let glyphs = &scene.theme.glyphs;
        let ui = &scene.state.ui;
        let selected = ui.record.as_ref() == Some(&record.migration);
        let marked = ui.marked.as_ref() == Some(&record.migration);
        let (role, mark) = match record.outcome {
            Outcome::Done => (Role::Good, glyphs.yes),
            Outcome::Refused => (Role::Warning, glyphs.gap),
            Outcome::RolledBack => (Role::Warning, glyphs.no),
            Outcome::Aborted => (Role::Text, glyphs.gap),
            Outcome::InDoubt => (Role::Bad, glyphs.unknown),
            Outcome::GivenUp => (Role::Bad, glyphs.no),
            Outcome::Rehearsed => (Role::Good, glyphs.dot),
        };
        let text = if selected { Role::Selected } else { Role::Text };
        let pointer = match (marked, selected) {
            (true, _) => "*",
            (_, true) => glyphs.pointer,
            _ => " ",
        };
        let cell = |role, text: &str, width| scene.span(role, words::left(scene, text, width));
        let outcome = format!("{mark} {}", record.outcome_name());
        // The name alone is marked, not the blanks behind it.
        let service = words::fit(scene, record.service.as_str(), self.service.saturating_sub(2));
        let blanks = self.service.saturating_sub(words::width(&service));
        let mut spans = vec![
            scene.span(Role::Focus, format!("{pointer} ")),
            scene.span(Role::Dim, format!("{} ", figure::clock(scene, record.started_at))),
            cell(role, &outcome, self.outcome),
            scene.span(text, service),
            Span::raw(" ".repeat(blanks)),
        ];
        let way = words::fit(scene, &way(scene, record), self.way.saturating_sub(2));
        spans.push(cell(Role::Text, &way, self.way));
        if self.plan > 0 {
            spans.push(cell(Role::Text, &plan(record), self.plan));
        }
        spans.extend(self.downtime(scene, record));
        let bound = record.forecast.as_deref().map(|forecast| forecast.bound.duration);
        let held = bound.zip(record.duration_verdict().worst_case);
        let duration = (Role::Text, phrase::time(record.duration));
        spans.extend(measured(scene, duration, held, self.duration));
        if self.targets > 0 {
            let (role, text) = targets(scene, record);
            spans.push(cell(role, &text, self.targets));
        }
        if self.client > 0 {
            let silence = figure::known(scene, record.downtime.client_gap().map(phrase::time));
            spans.push(scene.span(Role::Text, words::right(scene, &silence, BARE)));
            spans.push(Span::raw("  "));
        }
        if self.sent > 0 {
            let sent = Some(record.image).filter(|bytes| bytes.0 > 0);
            spans.push(scene.span(Role::Text, words::right(scene, &figure::known(scene, sent), BARE)));
        }
        Line::from(spans)
    }

    /// For how long the service stood still, and what that says of the worst case: ✔ only of a migration that was done, ✘ also
    /// while it is in doubt.
    fn downtime<'a>(&self, scene: &Scene<'_>, record: &Record) -> Vec<Span<'a>> {
        let data = scene.state.shown();
        let still = match data.migrations.get(&record.migration).filter(|track| track.is_in_doubt()) {
            Some(track) => scene.state.course(track).still,
            None => Still::recorded(record, data.now),
        };
        let forecast = record.forecast.as_deref();
        let held = match still {
            Still::SoFar(_) => forecast.filter(|forecast| still.exceeded(forecast).0).map(|_| false),
            _ => record.downtime_verdict().worst_case,
        };
        let bound = forecast.map(|forecast| forecast.bound.downtime);
        measured(scene, figure::still(scene, still), bound.zip(held), self.downtime)
    }
}

/// What was measured, and the worst case that it stayed within or not.
fn measured<'a>(
    scene: &Scene<'_>,
    (role, value): (Role, String),
    bound: Option<(Millis, bool)>,
    width: usize,
) -> Vec<Span<'a>> {
    if width == 0 {
        return Vec::new();
    }
    let glyphs = &scene.theme.glyphs;
    let mut spans = vec![scene.span(role, words::right(scene, &value, BARE))];
    if let Some((bound, held)) = bound.filter(|_| width > BARE + 2) {
        let (role, mark) = if held { (Role::Good, glyphs.yes) } else { (Role::Bad, glyphs.no) };
        let compare = if held { glyphs.at_most } else { ">" };
        let text = format!(" {compare} {} ", phrase::time(bound));
        spans.extend([scene.span(Role::Dim, text), scene.span(role, mark)]);
    }
    let used = words::length(&spans);
    spans.push(Span::raw(" ".repeat(width.saturating_sub(used))));
    spans
}

/// Whether the targets were met.
fn targets(scene: &Scene<'_>, record: &Record) -> (Role, String) {
    let glyphs = &scene.theme.glyphs;
    let missed = |what: &str| (Role::Bad, format!("{} {what}", glyphs.no));
    match (record.downtime_verdict().target, record.duration_verdict().target) {
        (Some(true), Some(true)) => (Role::Good, format!("{} met", glyphs.yes)),
        (Some(false), Some(false)) => missed("both"),
        (Some(false), _) => missed("downtime"),
        (_, Some(false)) => missed("duration"),
        (None, _) | (_, None) => (Role::Dim, glyphs.gap.to_owned()),
    }
}

fn way(scene: &Scene<'_>, record: &Record) -> String {
    format!("{} {} {}", record.from, scene.theme.glyphs.arrow, record.to)
}

fn plan(record: &Record) -> String {
    match record.plan.iterations {
        Some(planned) if record.ended_early().is_some() => {
            format!("iterative I={}/{planned}", record.iterations_made())
        }
        Some(iterations) if iterations > 0 => format!("iterative I={iterations}"),
        Some(_) => "pre-copy".to_owned(),
        None => record.how().replace("precopy", "pre-copy"),
    }
}
