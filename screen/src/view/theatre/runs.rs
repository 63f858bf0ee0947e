//! The silences of the last handovers one above the other, all to the same scale: the last one of each way of moving, then earlier
//! ones.

use mose_pam::{Millis, Strategy};
use mose_protocol::record::{Outcome, Record};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::{ago, fitting};
use crate::derived::{Headline, Whose};
use crate::pane::Pane;
use crate::phrase;
use crate::theme::Role;
use crate::view::{Scene, figure, words};

/// Columns from which on the labels are whole, and there is a word behind the bars.
const WIDE: usize = 56;
/// The columns of what is told behind the bars: a time, a mark, whether it was simulated, and when it was.
const FIGURE: usize = 22;
/// From this many columns on there is room for all of it, and how many columns that takes.
const WIDER: usize = 90;
const WHOLE: usize = 36;
/// The same without words.
const NARROW: usize = 12;
/// What was promised, on the bar.
const LIMIT: &str = "|";
/// Younger handovers show their age, older ones the time of day.
const LATELY: Millis = Millis(3_600_000.0);
/// Below so many columns the bars are left out.
const LEAST: usize = 8;
/// How a service was moved: the order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    /// Without the agents.
    ByHand,
    Cold,
    Precopy,
    Rounds,
}

impl How {
    fn of(record: &Record) -> Self {
        match record.plan.strategy {
            _ if record.by_hand => Self::ByHand,
            Strategy::Cold => Self::Cold,
            Strategy::Precopy => Self::Precopy,
            Strategy::IterativePrecopy => Self::Rounds,
        }
    }

    fn label(self, record: &Record, wide: bool) -> String {
        match (self, record.iterations_made()) {
            (Self::ByHand, _) if wide => "by hand, without MOSE".to_owned(),
            (Self::ByHand, _) => "by hand".to_owned(),
            (Self::Cold, _) => "cold".to_owned(),
            (Self::Precopy, _) => "pre-copy".to_owned(),
            (Self::Rounds, rounds) if !wide => format!("pre-copy ×{rounds}"),
            (Self::Rounds, 1) => "pre-copy, 1 round".to_owned(),
            (Self::Rounds, rounds) => format!("pre-copy, {rounds} rounds"),
        }
    }
}

/// A silence to be drawn.
struct Row<'a> {
    label: String,
    record: &'a Record,
    told: Headline,
    time: Millis,
    /// Whether it is the last one of its kind.
    last: bool,
}

impl Row<'_> {
    /// How far its bar reaches, and what was promised.
    fn reach(&self) -> impl Iterator<Item = f64> {
        let worst = self.told.worst_case.map(|worst| worst.0).filter(|worst| worst.is_finite());
        [Some(self.time.0), worst].into_iter().flatten()
    }
}

/// The last record of each way of moving, then the others, newest first.
fn rows<'a>(scene: &'a Scene<'_>, wide: bool) -> Vec<Row<'a>> {
    let (data, service) = (scene.state.shown(), scene.state.followed());
    // What was moved by hand is another service, which the agents know nothing of.
    let mine = |record: &&Record| record.by_hand || service.is_none_or(|service| *service == record.service);
    let done = |record: &&Record| record.outcome == Outcome::Done && record.rehearsal.is_none();
    let mut seen: Vec<How> = Vec::new();
    let (mut first, mut then) = (Vec::new(), Vec::new());
    for record in data.past.records().iter().filter(mine).filter(done) {
        let told = Headline::recorded(data, record);
        let Some(time) = told.time.filter(|time| time.0.is_finite() && time.0 >= 0.0) else { continue };
        let how = How::of(record);
        let last = !seen.contains(&how);
        let row = Row { label: how.label(record, wide), record, told, time, last };
        if last {
            seen.push(how);
            first.push((how, row));
        } else {
            then.push(row);
        }
    }
    first.sort_by_key(|(how, _)| *how);
    first.into_iter().map(|(_, row)| row).chain(then).collect()
}

/// The pane's title, with the meaning of the mark on a bar.
pub(in super::super) fn title() -> String {
    format!("{}: {LIMIT} promised at most", Pane::Runs.title())
}

pub(in super::super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let room = usize::from(area.width);
    let wide = room >= WIDE;
    let mut rows = rows(scene, wide);
    if rows.is_empty() {
        let text = fitting(scene, &["no handover yet".to_owned(), "none".to_owned()], room);
        return Line::from(scene.span(Role::Dim, text)).render(area, buf);
    }
    let scale =
        u16::from(area.height > 3 && area.height as usize > rows.iter().filter(|row| row.last).count());
    rows.truncate(usize::from(area.height - scale));
    let label = rows.iter().map(|row| words::width(&row.label)).max().unwrap_or(0).min(room / 2) + 1;
    let figure = match room {
        room if room >= WIDER => WHOLE,
        _ if wide => FIGURE,
        _ => NARROW,
    };
    let bars = room.saturating_sub(label + figure + 1);
    let longest = rows.iter().flat_map(Row::reach).fold(1.0_f64, f64::max);
    // A little room after the longest.
    let cell = longest * 1.05 / bars.max(1) as f64;
    for (y, row) in (area.y..area.bottom()).zip(&rows) {
        let line = Rect { y, height: 1, ..area };
        let role = if row.last { Role::Title } else { Role::Dim };
        let name = words::fit(scene, &row.label, label - 1);
        buf.set_stringn(area.x, y, name, usize::from(line.width), scene.style(role));
        if bars >= LEAST {
            bar(scene, row, cell, Rect { x: area.x + label as u16, width: bars as u16, ..line }, buf);
        }
        let at = (label + if bars >= LEAST { bars + 1 } else { 0 }).min(room);
        let part = Rect { x: area.x + at as u16, width: area.width - at as u16, ..line };
        told(scene, row, usize::from(part.width)).render(part, buf);
    }
    if scale > 0 && bars >= LEAST {
        let y = area.y + rows.len() as u16;
        let texts = [
            "for how long the client heard nothing, to one scale".to_owned(),
            "silences, to one scale".to_owned(),
        ];
        let text = fitting(scene, &texts, room - label);
        buf.set_stringn(area.x + label as u16, y, text, room - label, scene.style(Role::Dim));
    }
}

/// How many columns a silence takes, and which column marks its limit. The mark lies within the bar only if the promise was broken,
/// even where rounding makes the two equal.
fn columns(told: &Headline, time: Millis, cell: f64, room: u16) -> (u16, Option<u16>) {
    let wide = |time: Millis| (time.0 / cell).round() as u16;
    let (holes, room) = (wide(time).clamp(1, room), room.max(3));
    let Some(limit) = told.worst_case.filter(|worst| worst.0.is_finite()).map(wide) else {
        return (holes, None);
    };
    match told.kept {
        Some(false) => {
            // One cell of the bar must show behind the mark: move the mark left, and widen the bar if that is not enough.
            let holes = holes.max(limit.saturating_add(1)).clamp(3, room);
            (holes, Some(limit.clamp(1, holes - 2)))
        }
        Some(true) => {
            let limit = limit.clamp(1, room - 1);
            (holes.min(limit), Some(limit))
        }
        None => (holes, Some(limit).filter(|limit| *limit < room)),
    }
}

fn bar(scene: &Scene<'_>, row: &Row<'_>, cell: f64, area: Rect, buf: &mut Buffer) {
    let glyphs = &scene.theme.glyphs;
    let (holes, limit) = columns(&row.told, row.time, cell, area.width);
    let role = match row.told.kept {
        Some(true) => Role::Good,
        Some(false) => Role::Bad,
        None => Role::Frozen,
    };
    for x in (area.x..area.right()).take(usize::from(holes)) {
        buf.set_stringn(x, area.y, glyphs.frozen, 1, scene.style(role));
    }
    if let Some(limit) = limit {
        buf.set_stringn(area.x + limit, area.y, LIMIT, 1, scene.style(Role::Title));
    }
}

/// For how long, whether that was promised, and whether it was simulated.
fn told<'a>(scene: &Scene<'_>, row: &Row<'_>, room: usize) -> Line<'a> {
    let glyphs = &scene.theme.glyphs;
    let (role, mark) = match row.told.kept {
        Some(true) => (Role::Good, glyphs.yes),
        Some(false) => (Role::Bad, glyphs.no),
        None => (Role::Text, ""),
    };
    let lead = if row.told.at_least { ">" } else { "" };
    let time = format!("{lead}{} {mark}", phrase::time(row.time));
    let mut line = vec![scene.span(role, words::fit(scene, time.trim_end(), room))];
    // In order of what matters most, as far as there is room.
    let mut asides = Vec::new();
    if row.record.simulated {
        // Where the word has no room, its beginning stands for it: it is not left out.
        let left = room.saturating_sub(words::length(&line) + 1);
        let word = if left >= 11 { " simulated " } else { "sim" };
        asides.push((Role::Simulated, word.to_owned()));
    }
    if row.told.whose == Whose::Service {
        asides.push((Role::Dim, "no client".to_owned()));
    }
    // Count from the end, as the large number does.
    let ended = row.record.ended();
    let age = scene.state.shown().now.since(ended);
    let when = if age.0 < LATELY.0 { ago(age) } else { figure::clock(scene, ended) };
    asides.push((Role::Dim, when));
    for (role, aside) in asides {
        if words::length(&line) + 1 + words::width(&aside) <= room {
            line.push(ratatui::text::Span::raw(" "));
            line.push(scene.span(role, aside));
        }
    }
    Line::from(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is drawn of a silence in 20 columns of 20 ms each.
    fn drawn(time: f64, worst: f64) -> (u16, u16) {
        let told = Headline {
            act: crate::derived::Act::Over(Outcome::Done),
            time: Some(Millis(time)),
            at_least: false,
            whose: Whose::Client,
            worst_case: Some(Millis(worst)),
            kept: Some(time <= worst),
            simulated: false,
            ended: None,
        };
        let (holes, limit) = columns(&told, Millis(time), 20.0, 20);
        (holes, limit.expect("a limit"))
    }

    #[test]
    fn the_mark_is_within_the_bar_exactly_if_the_promise_was_broken() {
        for worst in 1..=390 {
            for time in 1..=390 {
                let (time, worst) = (f64::from(time), f64::from(worst));
                let (holes, limit) = drawn(time, worst);
                assert!((1..=20).contains(&holes) && limit < 20, "{time} of {worst}: {holes}, {limit}");
                // At least one cell of a broken bar shows behind the mark.
                assert_eq!(limit + 1 < holes, time > worst, "{time} of {worst}: {holes}, {limit}");
                assert_eq!(limit >= holes, time <= worst, "{time} of {worst}: {holes}, {limit}");
            }
        }
        // Both round to the same column.
        assert_eq!((drawn(266.0, 263.0), drawn(263.0, 266.0)), ((14, 12), (13, 13)));
    }
}
