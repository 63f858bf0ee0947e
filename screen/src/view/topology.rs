//! The topology: hosts, links with what they have left, where each service runs, whom the mobile hosts talk to; a migration is
//! seen crossing.

use mose_protocol::HostName;
use mose_protocol::agent::{Role as HostRole, ServiceState};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;
use ratatui::widgets::canvas::{Canvas, Line as Stroke};

use super::{Scene, figure, fleet};
use crate::hit::{Hit, Hits};
use crate::state::{Host, Track};
use crate::theme::Role;

/// Where hosts stand, in the unit square; y grows upwards.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spot {
    x: f64,
    y: f64,
}

/// Columns that a host's label needs.
const LABEL: u16 = 16;

struct Board<'a> {
    area: Rect,
    hosts: Vec<(&'a Host, Spot)>,
    left_out: usize,
}

impl Board<'_> {
    fn spot(&self, name: &HostName) -> Option<Spot> {
        self.hosts.iter().find(|(host, _)| &host.name == name).map(|(_, spot)| *spot)
    }

    /// The cell of a spot, with room for labels at the edges.
    fn cell(&self, spot: Spot) -> (u16, u16) {
        let width = f64::from(self.area.width.saturating_sub(1));
        let height = f64::from(self.area.height.saturating_sub(1));
        let x = self.area.x + (spot.x.clamp(0.0, 1.0) * width).round() as u16;
        let y = self.area.y + ((1.0 - spot.y.clamp(0.0, 1.0)) * height).round() as u16;
        (x, y)
    }
}

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let board = board(scene, area);
    if board.hosts.is_empty() {
        return super::lines(vec![Line::from(scene.span(Role::Dim, "no host is known yet"))], 0, area, buf);
    }
    strokes(scene, &board, buf);
    link_labels(scene, &board, buf);
    for (host, spot) in &board.hosts {
        label(scene, &board, host, *spot, buf, hits);
    }
    for track in scene.state.shown().migrations.under_way() {
        crossing(scene, &board, track, buf);
    }
    if board.left_out > 0 {
        let text = format!("{} {} more", scene.theme.glyphs.more, board.left_out);
        buf.set_stringn(area.x, area.y, text, usize::from(area.width), scene.style(Role::Dim));
    }
}

/// Edge hosts in a row, mobile hosts above them; as many as there is room for, those of the selected service first.
fn board<'a>(scene: &'a Scene<'_>, area: Rect) -> Board<'a> {
    let state = scene.state;
    let data = state.shown();
    let own = state.service().map(|located| located.host.name.clone());
    let other = state.destination().cloned();
    let of = |role: HostRole| {
        let mut hosts: Vec<&Host> = data.fleet.hosts().filter(|host| host.role() == Some(role)).collect();
        // A service's own two hosts are always in sight.
        hosts.sort_by_key(|host| Some(&host.name) != own.as_ref() && Some(&host.name) != other.as_ref());
        hosts
    };
    let room = usize::from(area.width / LABEL).max(1);
    let mut hosts = Vec::new();
    let mut left_out = 0;
    for (role, y) in [(HostRole::Edge, 0.28), (HostRole::Mobile, 0.92)] {
        let mut all = of(role);
        left_out += all.len().saturating_sub(room);
        all.truncate(room);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let count = all.len() as f64;
        for (place, host) in all.into_iter().enumerate() {
            let x = (place as f64 + 0.5) / count;
            hosts.push((host, Spot { x, y }));
        }
    }
    Board { area, hosts, left_out }
}

/// Links between edge hosts, and from each mobile host to where its service is.
fn strokes(scene: &Scene<'_>, board: &Board<'_>, buf: &mut Buffer) {
    let now = scene.state.shown().now;
    let color = |role| scene.style(role).fg.unwrap_or_default();
    let mut lines: Vec<Stroke> = Vec::new();
    let edges: Vec<_> = board.hosts.iter().filter(|(host, _)| host.role() == Some(HostRole::Edge)).collect();
    for pair in edges.windows(2) {
        let there = pair.iter().all(|(host, _)| host.presence(now).is_there());
        lines.push(stroke(board, pair[0].1, pair[1].1, color(if there { Role::Link } else { Role::Dim })));
    }
    if let Some(service) = scene.state.service()
        && let Some(to) = board.spot(&service.host.name)
    {
        for (host, from) in board.hosts.iter().filter(|(host, _)| host.role() == Some(HostRole::Mobile)) {
            if host.presence(now).is_there() {
                lines.push(stroke(board, *from, to, color(Role::Mobile)));
            }
        }
    }
    let (width, height) = (f64::from(board.area.width), f64::from(board.area.height));
    Canvas::default()
        .marker(if scene.theme.glyphs.boxes { Marker::Braille } else { Marker::Dot })
        .x_bounds([0.0, width])
        .y_bounds([0.0, height])
        .paint(|context| lines.iter().for_each(|line| context.draw(line)))
        .render(board.area, buf);
}

fn stroke(board: &Board<'_>, from: Spot, to: Spot, color: ratatui::style::Color) -> Stroke {
    let (width, height) = (f64::from(board.area.width), f64::from(board.area.height));
    Stroke { x1: from.x * width, y1: from.y * height, x2: to.x * width, y2: to.y * height, color }
}

/// What the links that touch the selected service have left, in its direction.
fn link_labels(scene: &Scene<'_>, board: &Board<'_>, buf: &mut Buffer) {
    let Some(service) = scene.state.service() else { return };
    let Some(to) = scene.state.destination() else { return };
    let (Some(a), Some(b)) = (board.spot(&service.host.name), board.spot(to)) else { return };
    let available = service.host.link(to).and_then(|link| link.available);
    let text = format!(" {} ", figure::known(scene, available));
    let (x, y) = board.cell(Spot { x: f64::midpoint(a.x, b.x), y: a.y });
    let width = text.chars().count() as u16;
    let between = board.cell(a).0.abs_diff(board.cell(b).0);
    if between > width + LABEL {
        buf.set_string(x.saturating_sub(width / 2), y, text, scene.style(Role::Link));
    }
}

fn label(scene: &Scene<'_>, board: &Board<'_>, host: &Host, spot: Spot, buf: &mut Buffer, hits: &mut Hits) {
    let now = scene.state.shown().now;
    let presence = host.presence(now);
    let role = if host.role() == Some(HostRole::Mobile) { Role::Mobile } else { Role::Edge };
    let destination = scene.state.destination() == Some(&host.name);
    let mut head = vec![
        Span::raw(" "),
        fleet::mark(scene, presence),
        Span::raw(" "),
        scene.span(if presence.is_there() { role } else { Role::Dim }, host.name.to_string()),
    ];
    if !presence.is_there() {
        head.push(scene.span(Role::Warning, format!(" {}", presence.name())));
    }
    head.push(Span::raw(" "));
    let mut lines = vec![(Line::from(head), Some(Hit::Host(host.name.clone())))];
    let services = host.telemetry.as_ref().map_or(&[][..], |telemetry| &telemetry.services);
    for info in services.iter().take(usize::from(board.area.height / 4).max(1)) {
        let selected = scene.state.ui.service.as_ref() == Some(&info.name);
        let role = match info.state {
            _ if !presence.is_there() => Role::Dim,
            _ if selected => Role::Selected,
            ServiceState::InDoubt => Role::Bad,
            ServiceState::Migrating => Role::Moving,
            _ => Role::Service,
        };
        let text =
            format!(" {}{} ", info.name, if info.state == ServiceState::InDoubt { " in doubt" } else { "" });
        lines.push((Line::from(scene.span(role, text)), Some(Hit::Service(info.name.clone()))));
    }
    if destination && role == Role::Edge {
        let text = format!(" {} destination ", scene.theme.glyphs.pointer);
        lines.push((Line::from(scene.span(Role::Focus, text)), None));
    }
    let (x, y) = board.cell(spot);
    for (offset, (line, hit)) in lines.into_iter().enumerate() {
        let width = (line.width() as u16).min(board.area.width);
        let left = x.saturating_sub(width / 2).clamp(board.area.x, board.area.right() - width);
        let y = y.saturating_add(offset as u16);
        if y >= board.area.bottom() {
            break;
        }
        let place = Rect { x: left, y, width, height: 1 };
        if let Some(hit) = hit {
            hits.note(place, hit);
        }
        // The lines stay below the words.
        ratatui::widgets::Clear.render(place, buf);
        buf.set_style(place, scene.style(Role::Text));
        line.render(place, buf);
    }
}

/// The service on its way: as far as the time that was expected has passed.
fn crossing(scene: &Scene<'_>, board: &Board<'_>, track: &Track, buf: &mut Buffer) {
    let (Some(from), Some(to)) = (track.from(), track.to()) else { return };
    let (Some(a), Some(b)) = (board.spot(from), board.spot(to)) else { return };
    let elapsed = track.elapsed(scene.state.shown().now);
    let expected = track.task.as_ref().and_then(|task| task.forecast.as_ref()).map(|f| f.expected.duration.0);
    let share = (elapsed.0 / expected.unwrap_or(2000.0).max(1.0)).min(0.95);
    let spot = Spot { x: a.x + (b.x - a.x) * share, y: a.y + (b.y - a.y) * share };
    let (x, y) = board.cell(spot);
    let arrow = if b.x >= a.x { ">>" } else { "<<" };
    let name = track.service().map(ToString::to_string).unwrap_or_default();
    let text = format!(" {arrow} {name} {arrow} ");
    let width = (text.chars().count() as u16).min(board.area.width);
    let left = x.saturating_sub(width / 2).clamp(board.area.x, board.area.right() - width);
    let above = y.saturating_sub(1).max(board.area.y);
    buf.set_stringn(left, above, text, usize::from(width), scene.style(Role::Moving));
}
