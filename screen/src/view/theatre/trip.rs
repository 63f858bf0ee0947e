//! The round trip from the client to its service and back, over the last minutes: it climbs as the vehicle flies away from the
//! service, and drops when the service has come after it.

use mose_pam::Millis;
use mose_protocol::Timestamp;
use mose_protocol::record::Outcome;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::answers::Answers;
use super::cast::client;
use super::{fitting, span};
use crate::phrase;
use crate::theme::Role;
use crate::view::{Scene, words};

/// The time of a column.
const STEP: Millis = Millis(1000.0);
/// The same where there are more columns than seconds are kept.
const FINER: Millis = Millis(500.0);
/// Columns from which on they are finer.
const WIDE: u16 = 110;
/// Rows from which on one tells when the service moved.
const MARKED: u16 = 5;

/// Whose round trip it is, for its heading.
pub(in super::super) fn title(scene: &Scene<'_>) -> Option<String> {
    let (service, (host, _)) = (scene.state.followed()?, client(scene)?);
    let dot = scene.theme.glyphs.dot;
    Some(format!("Round trip {dot} {} to {service}", host.name))
}

pub(in super::super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let room = usize::from(area.width);
    let Some((answers, host, client)) = Answers::of(scene) else {
        let texts = ["no client of it is known".to_owned(), "no client".to_owned()];
        let text = fitting(scene, &texts, room);
        return Line::from(scene.span(Role::Dim, text)).render(area, buf);
    };
    let now = scene.state.shown().now;
    let step = if area.width >= WIDE { FINER } else { STEP };
    let series = host.trips.get(&client.service);
    let values = series.map(|series| bridged(series.last(room, step, now))).unwrap_or_default();
    let most = values.iter().flatten().copied().fold(0.0_f64, f64::max);
    let known = values.iter().position(Option::is_some).map_or(0, |first| values.len() - first);
    let highest = format!("highest {}", phrase::time(Millis(most)));
    let since = span(Millis(known as f64 * step.0));
    // Measured only while answers come, so it is shorter than the silence of a handover.
    let ends = [
        format!("{highest} while answered, in the last {since}"),
        format!("{highest} while answered"),
        format!("highest answered {}", phrase::time(Millis(most))),
        highest,
    ];
    let newest = match (answers, client.rtt) {
        (Answers::Come, Some(rtt)) => (Role::Title, format!("{} now", phrase::time(rtt))),
        (Answers::Come | Answers::Untold(_), _) => (Role::Dim, "not known now".to_owned()),
        (Answers::Awaited(_) | Answers::Impossible(_), _) => (Role::Warning, "no answer now".to_owned()),
    };
    heading(scene, newest, &ends, Rect { height: area.height.min(1), ..area }, buf);
    let marked = u16::from(area.height >= MARKED);
    let plot = Rect { y: area.y + 1, height: area.height.saturating_sub(1 + marked), ..area };
    plotted(scene, &values, most, plot, buf);
    if marked > 0 {
        moves(scene, step, now, Rect { y: area.bottom() - 1, height: 1, ..area }, buf);
    }
}

/// Telemetry that comes once a second misses a column now and then: a single one between two that are known is no gap.
fn bridged(mut values: Vec<Option<f64>>) -> Vec<Option<f64>> {
    for place in 1..values.len().saturating_sub(1) {
        if let (Some(before), None, Some(_)) = (values[place - 1], values[place], values[place + 1]) {
            values[place] = Some(before);
        }
    }
    // The newest column may have begun just now.
    if let [.., Some(before), last @ None] = values.as_mut_slice() {
        *last = Some(*before);
    }
    values
}

fn heading(scene: &Scene<'_>, (role, now): (Role, String), ends: &[String], area: Rect, buf: &mut Buffer) {
    let room = usize::from(area.width);
    let line = vec![scene.span(role, words::fit(scene, &now, room))];
    let end = fitting(scene, ends, room.saturating_sub(words::width(&now) + 2));
    let end = vec![scene.span(Role::Dim, end)];
    words::justified(line, end, room).render(area, buf);
}

/// Columns as high as the values, from zero to the greatest.
fn plotted(scene: &Scene<'_>, values: &[Option<f64>], most: f64, area: Rect, buf: &mut Buffer) {
    let glyphs = &scene.theme.glyphs.spark;
    let rows = usize::from(area.height);
    if rows == 0 || most <= 0.0 {
        return;
    }
    let style = scene.style(Role::Link);
    for (x, value) in (area.x..area.right()).zip(values) {
        let Some(value) = value else { continue };
        let eighths = ((value / most * (rows * 8) as f64).round() as usize).clamp(1, rows * 8);
        for (up, y) in (area.y..area.bottom()).rev().enumerate() {
            match eighths.saturating_sub(up * 8) {
                0 => break,
                left => buf.set_stringn(x, y, glyphs[left.min(8) - 1], 1, style),
            };
        }
    }
}

/// When the service has moved, below the columns.
fn moves(scene: &Scene<'_>, step: Millis, now: Timestamp, area: Rect, buf: &mut Buffer) {
    let service = scene.state.followed();
    let moved = scene.state.shown().migrations.all().filter(|track| {
        track.outcome() == Some(Outcome::Done) && !track.is_rehearsal() && track.service() == service
    });
    let text = if scene.theme.glyphs.boxes { "↑ moved" } else { "^ moved" };
    let mut free = area.x;
    for track in moved {
        let back = (now.since(track.ended()).0.max(0.0) / step.0) as usize;
        let Some(place) = usize::from(area.width).checked_sub(back + 1) else { continue };
        let x = area.x + place as u16;
        let width = words::width(text) as u16;
        // At the right end the word is on the other side of the mark.
        if x + width > area.right() {
            let other = if scene.theme.glyphs.boxes { "moved ↑" } else { "moved ^" };
            if (x + 1).saturating_sub(width) >= free.max(area.x) {
                buf.set_stringn(x + 1 - width, area.y, other, usize::from(width), scene.style(Role::Service));
            }
            continue;
        }
        if x >= free {
            buf.set_stringn(x, area.y, text, usize::from(width), scene.style(Role::Service));
            free = x + width + 1;
        }
    }
}
