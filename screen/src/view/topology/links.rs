//! What lies between hosts: links with their rates, the flow from a mobile host to its service, a service on its way.

use mose_protocol::agent::ClientInfo;
use mose_protocol::step::Step;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::symbols::Marker;
use ratatui::widgets::Widget;
use ratatui::widgets::canvas::{Canvas, Line as Stroke};

use super::board::{Board, Station};
use crate::phrase;
use crate::state::Track;
use crate::theme::Role;
use crate::view::{Scene, words};

/// From each mobile host that is there to the hosts of the services that its clients say they talk to.
pub(super) fn flows(scene: &Scene<'_>, board: &Board<'_>, buf: &mut Buffer) {
    let now = scene.state.shown().now;
    for from in board.mobiles.iter().filter(|station| station.host.presence(now).is_there()) {
        let clients = from.host.telemetry.as_ref().map_or(&[][..], |telemetry| &telemetry.clients);
        for client in clients {
            let Some(to) = server(scene, board, client) else { continue };
            let (top, bottom) = (from.area.bottom(), to.area.y);
            let begin = (f64::from(from.middle()) + 0.5, f64::from(top));
            let end = (f64::from(to.middle()) + 0.5, f64::from(bottom));
            if bottom > top {
                let role = if client.silent.is_some() { Role::Frozen } else { Role::Mobile };
                line(scene, board.area, begin, end, role, buf);
            }
        }
    }
}

/// The station of the host where a client's service is.
fn server<'b>(scene: &Scene<'_>, board: &'b Board<'_>, client: &ClientInfo) -> Option<&'b Station<'b>> {
    let mut services = scene.state.shown().fleet.services();
    let service = services.find(|found| found.info.address.is_some_and(|a| a.addr() == client.service))?;
    let host = &scene.state.located(&service.info.name)?.host.name;
    board.edges.get(board.place(host)?)
}

/// A line in cells, of dots where there are any.
fn line(scene: &Scene<'_>, area: Rect, begin: (f64, f64), end: (f64, f64), role: Role, buf: &mut Buffer) {
    let style = scene.style(role);
    if !scene.theme.glyphs.boxes {
        let rows = end.1 - begin.1;
        for row in 0..rows as u16 {
            let x = begin.0 + (end.0 - begin.0) * (f64::from(row) + 0.5) / rows;
            buf.set_stringn(x as u16, begin.1 as u16 + row, ".", 1, style);
        }
        return;
    }
    let color = style.fg.unwrap_or(Color::Reset);
    let (left, bottom) = (f64::from(area.x), f64::from(area.bottom()));
    Canvas::default()
        .marker(Marker::Braille)
        .background_color(scene.style(Role::Text).bg.unwrap_or(Color::Reset))
        .x_bounds([0.0, f64::from(area.width)])
        .y_bounds([0.0, f64::from(area.height)])
        .paint(|context| {
            context.draw(&Stroke {
                x1: begin.0 - left,
                y1: bottom - begin.1,
                x2: end.0 - left,
                y2: bottom - end.1,
                color,
            });
        })
        .render(area, buf);
}

/// Between neighbours in the row of edge hosts.
pub(super) fn links(scene: &Scene<'_>, board: &Board<'_>, buf: &mut Buffer) {
    for pair in board.edges.windows(2) {
        link(scene, &pair[0], &pair[1], buf);
    }
}

fn link(scene: &Scene<'_>, left: &Station<'_>, right: &Station<'_>, buf: &mut Buffer) {
    let now = scene.state.shown().now;
    let y = left.area.y + (left.area.height.min(right.area.height) - 1) / 2;
    let (from, to) = (left.area.right(), right.area.x);
    if to <= from {
        return;
    }
    let between = Rect { x: from, y, width: to - from, height: 1 };
    let there = left.host.presence(now).is_there() && right.host.presence(now).is_there();
    let service = scene.state.service().map(|located| &located.host.name);
    let destination = scene.state.destination();
    // The way that the selected service would take.
    let way = match (service, destination) {
        (Some(from), Some(to)) if *from == left.host.name && *to == right.host.name => Some(true),
        (Some(from), Some(to)) if *from == right.host.name && *to == left.host.name => Some(false),
        _ => None,
    };
    let boxes = scene.theme.glyphs.boxes;
    let (stroke, role) = match (boxes, way, there) {
        (true, Some(_), _) => ("━", Role::Link),
        (true, None, true) => ("─", Role::Link),
        (true, None, false) => ("╌", Role::Dim),
        (false, Some(_), _) => ("=", Role::Link),
        (false, None, true) => ("-", Role::Link),
        (false, None, false) => (".", Role::Dim),
    };
    for x in between.x..between.right() {
        buf.set_stringn(x, y, stroke, 1, scene.style(role));
    }
    if let Some(rightwards) = way {
        let (x, head) = match (rightwards, boxes) {
            (true, true) => (between.right() - 1, "▶"),
            (false, true) => (between.x, "◀"),
            (true, false) => (between.right() - 1, ">"),
            (false, false) => (between.x, "<"),
        };
        buf.set_stringn(x, y, head, 1, scene.style(Role::Focus));
    }
    let (a, b) = if way == Some(false) { (right, left) } else { (left, right) };
    let metrics = a.host.link(&b.host.name);
    let above = metrics.and_then(|link| link.available).map(|rate| rate.to_string());
    // Between low boxes there is no row to spare, and in between is the only place for a word.
    let tall = left.area.height.min(right.area.height) >= 3;
    if let Some(text) = above {
        let row = if tall { Rect { y: y - 1, ..between } } else { between };
        centred(scene, &[text], row, Role::Text, buf);
    }
    let track = scene.state.shown().migrations.under_way().find(|track| {
        let ends = (track.from(), track.to());
        let names = (&left.host.name, &right.host.name);
        ends == (Some(names.0), Some(names.1)) || ends == (Some(names.1), Some(names.0))
    });
    let below = Rect { y: y + 1, ..between };
    match track {
        Some(track) => {
            crossing(scene, track, track.from() == Some(&left.host.name), between, buf);
            if tall {
                let (role, texts) = doing(scene, track);
                centred(scene, &texts, below, role, buf);
            }
        }
        None if tall && way.is_some() => {
            let rtt = metrics.and_then(|link| link.rtt).map(|rtt| format!("rtt {}", phrase::time(rtt)));
            centred(scene, rtt.as_slice(), below, Role::Dim, buf);
        }
        None => {}
    }
}

/// The first of some texts that there is room for, in the middle.
fn centred(scene: &Scene<'_>, texts: &[String], row: Rect, role: Role, buf: &mut Buffer) {
    let fits = |text: &&String| words::width(text) <= usize::from(row.width);
    if let Some(text) = texts.iter().find(fits) {
        let width = words::width(text) as u16;
        buf.set_string(row.x + (row.width - width) / 2, row.y, text, scene.style(role));
    }
}

/// What is being done, in ever fewer words.
fn doing(scene: &Scene<'_>, track: &Track) -> (Role, Vec<String>) {
    let course = scene.state.course(track);
    if let Some((from, to)) = course.frozen {
        let time = phrase::time(mose_pam::Millis(to.0 - from.0));
        return (Role::Frozen, vec![format!("frozen {time}"), time]);
    }
    let time = phrase::time(course.elapsed);
    let texts = match (track.doing(), track.round()) {
        (Some(bar), Some(round)) if bar.step == Step::Iteration => {
            vec![format!("iteration {round} {} {time}", scene.theme.glyphs.dot), format!("iteration {round}")]
        }
        (Some(bar), _) => vec![
            format!("{} {} {time}", bar.step.name(), scene.theme.glyphs.dot),
            bar.step.name().to_owned(),
            time,
        ],
        (None, _) => vec!["ordered".to_owned()],
    };
    (Role::Moving, texts)
}

/// The service on its way: as far as the time that was expected has passed.
fn crossing(scene: &Scene<'_>, track: &Track, rightwards: bool, between: Rect, buf: &mut Buffer) {
    let elapsed = scene.state.course(track).elapsed;
    let expected = track.task.as_ref().and_then(|task| task.forecast.as_ref()).map(|f| f.expected.duration.0);
    let share = (elapsed.0 / expected.unwrap_or(2000.0).max(1.0)).clamp(0.0, 1.0);
    let boxes = scene.theme.glyphs.boxes;
    let head = match (rightwards, boxes) {
        (true, true) => "▶",
        (false, true) => "◀",
        (true, false) => ">",
        (false, false) => "<",
    };
    let name = track.service().map(ToString::to_string).unwrap_or_default();
    let room = usize::from(between.width);
    let text = match rightwards {
        true => format!("{}{head}", words::fit(scene, &name, room.saturating_sub(1))),
        false => format!("{head}{}", words::fit(scene, &name, room.saturating_sub(1))),
    };
    let width = (words::width(&text) as u16).min(between.width);
    let free = f64::from(between.width - width);
    let at = (free * if rightwards { share } else { 1.0 - share }).round() as u16;
    let style = scene.style(Role::Moving);
    // The way that it has gone.
    let gone = if rightwards { between.x..between.x + at } else { between.x + at + width..between.right() };
    for x in gone {
        buf.set_stringn(x, between.y, if boxes { "━" } else { "=" }, 1, style);
    }
    buf.set_stringn(between.x + at, between.y, text, usize::from(width), style);
}
