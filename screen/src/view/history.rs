//! Past migrations: predicted and measured, and whether the bounds held.

use mose_pam::Millis;
use mose_protocol::record::{Outcome, Record};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Scene, figure, words};
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
    sent: usize,
    /// Whether bounds stand beside what was measured.
    bounds: bool,
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
            sent: 9,
            bounds: true,
        };
        // What matters less goes first.
        let give: [fn(&mut Self); 7] = [
            |columns| columns.sent = 0,
            |columns| columns.plan = 0,
            |columns| columns.duration = BARE + 2,
            |columns| columns.duration = 0,
            |columns| {
                columns.downtime = BARE + 2;
                columns.bounds = false;
            },
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
        FIRST + self.outcome + self.service + self.way + self.plan + self.downtime + self.duration + self.sent
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
            ("sent", self.sent, true),
        ] {
            match (width, right) {
                (0, _) => {}
                (_, true) if width > BARE + 2 => {
                    // Above the figures, and above the bounds.
                    let figure = format!("{name:>BARE$}   bound");
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
            Outcome::InDoubt => (Role::Bad, glyphs.unknown),
        };
        let text = if selected { Role::Selected } else { Role::Text };
        let pointer = match (marked, selected) {
            (true, _) => "*",
            (_, true) => glyphs.pointer,
            _ => " ",
        };
        let cell = |role, text: &str, width| scene.span(role, words::left(scene, text, width));
        let outcome = format!("{mark} {}", record.outcome.name());
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
        let bound = record.forecast.as_deref().map(|forecast| forecast.bound);
        // The bound is of the agents' blackout; what the client saw is the headline.
        let blackout = record.downtime.blackout;
        let downtime = record.downtime.client_gap().or(blackout);
        let held = bound.zip(blackout).map(|(bound, blackout)| (bound.downtime, blackout <= bound.downtime));
        spans.extend(self.measured(scene, downtime, held, self.downtime));
        let done = record.outcome == Outcome::Done;
        let held = bound.filter(|_| done).map(|bound| (bound.duration, record.duration <= bound.duration));
        spans.extend(self.measured(scene, Some(record.duration), held, self.duration));
        if self.sent > 0 {
            let sent = Some(record.image).filter(|bytes| bytes.0 > 0);
            spans.push(scene.span(Role::Text, words::right(scene, &figure::known(scene, sent), BARE)));
        }
        Line::from(spans)
    }

    /// What was measured, and the bound that was held or not.
    fn measured<'a>(
        &self,
        scene: &Scene<'_>,
        value: Option<Millis>,
        bound: Option<(Millis, bool)>,
        width: usize,
    ) -> Vec<Span<'a>> {
        if width == 0 {
            return Vec::new();
        }
        let glyphs = &scene.theme.glyphs;
        let value = figure::known(scene, value.map(figure::time));
        let mut spans = vec![scene.span(Role::Text, words::right(scene, &value, BARE))];
        if let Some((bound, held)) = bound.filter(|_| width > BARE + 2) {
            let (role, mark) = if held { (Role::Good, glyphs.yes) } else { (Role::Bad, glyphs.no) };
            let compare = if held { glyphs.at_most } else { ">" };
            let text = format!(" {compare} {} ", figure::time(bound));
            spans.extend([scene.span(Role::Dim, text), scene.span(role, mark)]);
        }
        let used = words::length(&spans);
        spans.push(Span::raw(" ".repeat(width.saturating_sub(used))));
        spans
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
        None => record.plan.strategy.to_string().replace("precopy", "pre-copy"),
    }
}
