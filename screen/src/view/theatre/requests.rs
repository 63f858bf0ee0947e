//! The client's requests, one block each: silence is a hole. After a handover those around its gap; else what the client tells now.

use mose_pam::Millis;
use mose_protocol::record::{ClientGap, Record, Silence};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::answers::Answers;
use super::cast::client;
use super::fitting;
use super::strip::{Cell, Strip};
use crate::derived::Act;
use crate::phrase;
use crate::theme::Role;
use crate::view::{Scene, words};

/// The most rows that a cell is high.
const HIGHEST: u16 = 4;
/// A client that has waited longer is shown in place of the last handover.
const LONG: Millis = Millis(1000.0);

/// What is shown: the cells, what is written into the hole, what is told of them.
struct Shown<'a> {
    strip: Option<Strip>,
    hole: Option<String>,
    verdict: Vec<Span<'a>>,
    aside: Vec<String>,
}

pub(in super::super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let shown = shown(scene, usize::from(area.width));
    let below = match area.height {
        0 | 1 => 0,
        2 => 1,
        _ => 2,
    };
    let high = (area.height - below).min(HIGHEST);
    let top = area.y + (area.height - below - high) / 2;
    if let Some(strip) = &shown.strip {
        cells(scene, strip, shown.hole.as_deref(), Rect { y: top, height: high, ..area }, buf);
    }
    let room = usize::from(area.width);
    let aside = fitting(scene, &shown.aside, room);
    let rows = (top + high..area.bottom()).take(usize::from(below));
    for (row, line) in rows.zip([Line::from(shown.verdict), Line::from(scene.span(Role::Dim, aside))]) {
        line.render(Rect { y: row, height: 1, ..area }, buf);
    }
}

fn cells(scene: &Scene<'_>, strip: &Strip, hole: Option<&str>, area: Rect, buf: &mut Buffer) {
    let glyphs = &scene.theme.glyphs;
    let middle = area.y + area.height.saturating_sub(1) / 2;
    for (x, cell) in (area.x..area.right()).zip(&strip.cells) {
        let (glyph, role) = match cell {
            Cell::Answer => (glyphs.bar_end, Role::Good),
            Cell::Hole => (glyphs.frozen, Role::Frozen),
            Cell::Unknown => continue,
        };
        (area.y..area.bottom()).for_each(|y| {
            buf.set_stringn(x, y, glyph, 1, scene.style(role));
        });
    }
    let Some((text, (first, length))) = hole.zip(strip.hole()) else { return };
    let text = format!(" {text} ");
    let width = words::width(&text);
    if width + 2 <= length {
        let x = area.x + (first + (length - width) / 2) as u16;
        // Of the hole's own colour: one that is broken in two would be read as two.
        let style = scene.style(Role::Frozen).add_modifier(Modifier::REVERSED);
        buf.set_stringn(x, middle, text, width, style);
    }
}

fn shown<'a>(scene: &Scene<'_>, width: usize) -> Shown<'a> {
    match scene.state.headline().act {
        // A client that waits now matters more than the last handover.
        Act::Over(_) if !waits_long(scene) => after(scene, width).unwrap_or_else(|| live(scene, width)),
        _ => live(scene, width),
    }
}

fn waits_long(scene: &Scene<'_>) -> bool {
    matches!(Answers::of(scene), Some((Answers::Awaited(waits), ..)) if waits.0 > LONG.0)
}

/// What is known of the client's answers now.
fn live<'a>(scene: &Scene<'_>, width: usize) -> Shown<'a> {
    let Some((answers, host, client)) = Answers::of(scene) else {
        let verdict = vec![scene.span(Role::Dim, words::fit(scene, "no client of it is known", width))];
        return Shown { strip: None, hole: None, verdict, aside: Vec::new() };
    };
    let (silent, red) = match answers {
        Answers::Come => (None, None),
        Answers::Awaited(time) => (Some(time), Some("red waits for its answer")),
        Answers::Impossible(time) => (Some(time), Some("red is not answered yet")),
        Answers::Untold(time) => (Some(time), Some("red was not answered")),
    };
    let strip = Strip::live(client, silent.map(|time| time.0), width);
    let (name, glyphs) = (&host.name, &scene.theme.glyphs);
    let (role, texts) = match (answers, &strip) {
        (Answers::Awaited(time), _) => {
            let time = phrase::time(time);
            let whole = format!("{} {name} waits for an answer, for {time}", glyphs.no);
            (Role::Bad, vec![whole, "waiting".to_owned()])
        }
        (Answers::Impossible(_), _) => (
            Role::Frozen,
            vec![format!("the service is stopped: nothing answers {name}"), "stopped".to_owned()],
        ),
        (Answers::Untold(_), _) => {
            (Role::Dim, vec![format!("the service is back: {name} is yet to say so"), "back".to_owned()])
        }
        (Answers::Come, Some(_)) => (
            Role::Good,
            vec![format!("{} {name} is answered", glyphs.yes), format!("{} answered", glyphs.yes)],
        ),
        (Answers::Come, None) => {
            (Role::Dim, vec![format!("{name} asks for nothing now"), "no requests".to_owned()])
        }
    };
    let aside = strip.as_ref().map(|strip| legend(strip, red)).unwrap_or_default();
    let verdict = vec![scene.span(role, fitting(scene, &texts, width))];
    Shown { strip, hole: silent.map(phrase::time), verdict, aside }
}

/// What a block is, and a red one if there are any, in ever fewer words.
fn legend(strip: &Strip, red: Option<&str>) -> Vec<String> {
    let Some(period) = strip.period else {
        return vec!["only how long it was silent is known".to_owned(), "length only".to_owned()];
    };
    let rate = format!("{:.0} a second", 1e3 / period);
    let block = match strip.each {
        1 => "one block is one request".to_owned(),
        each => format!("one block is {each} requests"),
    };
    let mut texts = vec![format!("{block}, {rate}"), block.clone()];
    if let Some(red) = red {
        texts.splice(0..0, [format!("{block}, {rate}; {red}"), format!("{block}; {red}"), red.to_owned()]);
    }
    texts
}

/// What the client saw of the last handover.
fn after<'a>(scene: &Scene<'_>, width: usize) -> Option<Shown<'a>> {
    let record = record(scene)?;
    let worst = worst(record)?;
    let now = client(scene).filter(|(host, _)| host.name == worst.host).map(|(_, client)| client);
    let rate = now.and_then(|client| client.rate).map(|rate| rate.0);
    // Since it was back, the client tells that it is answered.
    let since = now.filter(|client| client.rate.is_some() && client.silent.is_none());
    let since = since.map(|_| scene.state.shown().now.since(record.ended()).0);
    let strip = Strip::of_gap(worst, rate, since, width);
    let unanswered = record.downtime.clients.iter().any(|client| client.unanswered > 0 || client.at_least);
    let red = if unanswered { "red was not answered" } else { "red was answered late" };
    let kept = if worst.answers_ms.is_empty() && strip.is_some() {
        let rate = rate.map(|rate| format!(", at {rate:.0} a second")).unwrap_or_default();
        vec![
            format!("only the length of the silence is known{rate}: the answers around it were not kept"),
            format!("the answers around it were not kept{rate}"),
            "answers not kept".to_owned(),
        ]
    } else {
        let texts = strip.as_ref().map(|strip| legend(strip, Some(red))).unwrap_or_default();
        // It stands still, beside figures that do not.
        let around = texts.first().map(|text| format!("around the last handover: {text}"));
        let shorter = [format!("around the last handover; {red}"), format!("last handover; {red}")];
        around.into_iter().chain(shorter).chain([red.to_owned()]).collect()
    };
    let aside = match worst.note.as_ref() {
        Some(note) => std::iter::once(note.clone()).chain(kept).collect(),
        None => kept,
    };
    let hole = worst.gap.map(|gap| match worst.at_least {
        true => format!("at least {}", phrase::time(gap)),
        false => format!("{} of silence", phrase::time(gap)),
    });
    // Where it does not fit, the length alone says enough.
    let long = strip.as_ref().and_then(Strip::hole).map_or(0, |(_, length)| length);
    let hole = hole.map(|text| match words::width(&text) + 4 <= long {
        true => text,
        false => worst.gap.map(phrase::time).unwrap_or_default(),
    });
    Some(Shown { strip, hole, verdict: lost(scene, record, width), aside })
}

/// The record of the handover that the number tells of.
pub(super) fn record<'a>(scene: &'a Scene<'_>) -> Option<&'a Record> {
    let service = scene.state.followed();
    let mine = |record: &&Record| service.is_none_or(|service| *service == record.service);
    let past = scene.state.shown().past.records();
    past.iter().filter(mine).find(|record| crate::derived::moved(record))
}

/// The client that heard nothing for the longest.
pub(super) fn worst(record: &Record) -> Option<&ClientGap> {
    let length = |client: &&ClientGap| client.gap.map_or(-1.0, |gap| gap.0);
    record.downtime.clients.iter().max_by(|one, other| length(one).total_cmp(&length(other)))
}

/// What was lost, if anything was.
fn lost<'a>(scene: &Scene<'_>, record: &Record, width: usize) -> Vec<Span<'a>> {
    let clients = &record.downtime.clients;
    let sum = |of: fn(&ClientGap) -> u64| clients.iter().map(of).fold(0_u64, u64::saturating_add);
    let (unanswered, resets, accepted) =
        (sum(|client| client.unanswered), sum(|client| client.resets), sum(|client| client.accepted));
    let plural =
        |count: u64, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let mut faults = Vec::new();
    if unanswered > 0 {
        faults.push(format!("{} never answered", plural(unanswered, "request")));
    }
    if resets > 0 {
        faults.push(format!("connection cut ({})", plural(resets, "reset")));
    }
    if accepted > 0 {
        faults.push(format!("{} had to be made anew", plural(accepted, "connection")));
    }
    let glyphs = &scene.theme.glyphs;
    if !faults.is_empty() {
        let texts = [
            format!("{} {}", glyphs.no, faults.join(", ")),
            format!("{} {}", glyphs.no, faults.first().cloned().unwrap_or_default()),
            format!("{} lost", glyphs.no),
        ];
        return vec![scene.span(Role::Bad, fitting(scene, &texts, width))];
    }
    if matches!(record.downtime.silence(), Silence::Unknown | Silence::Unwatched) {
        let texts = ["what the client saw is not known".to_owned(), "not known".to_owned()];
        return vec![scene.span(Role::Warning, fitting(scene, &texts, width))];
    }
    let texts = [format!("{} 0 lost, connection kept", glyphs.yes), format!("{} 0 lost", glyphs.yes)];
    vec![scene.span(Role::Good, fitting(scene, &texts, width))]
}
