//! The topology: hosts with what runs there, links with what they have left, whom the mobile hosts talk to; a migration is seen
//! crossing.

mod board;
mod links;

use mose_protocol::agent::{Role as HostRole, ServiceState};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Widget};

use super::{Scene, fleet, words};
use crate::hit::{Hit, Hits};
use crate::state::Presence;
use crate::theme::Role;
use board::{Board, Station};

/// The most rows that the picture takes.
const HIGHEST: u16 = 26;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    // A picture that is torn apart is no clearer: what is higher stays empty above and below.
    let height = area.height.min(HIGHEST);
    let area = Rect { y: area.y + (area.height - height) / 2, height, ..area };
    let board = board::board(scene, area);
    if board.edges.is_empty() && board.mobiles.is_empty() {
        return super::lines(vec![Line::from(scene.span(Role::Dim, "no host is known yet"))], 0, area, buf);
    }
    links::flows(scene, &board, buf);
    for station in board.edges.iter().chain(&board.mobiles) {
        self::station(scene, station, buf, hits);
    }
    links::links(scene, &board, buf);
    left_out(scene, &board, buf);
}

fn left_out(scene: &Scene<'_>, board: &Board<'_>, buf: &mut Buffer) {
    if board.left_out == 0 {
        return;
    }
    let noun = if board.left_out == 1 { "host" } else { "hosts" };
    let text = format!("{} {} {noun} more", scene.theme.glyphs.more, board.left_out);
    let x = board.area.right().saturating_sub(words::width(&text) as u16).max(board.area.x);
    let room = usize::from(board.area.right() - x);
    buf.set_stringn(x, board.area.bottom() - 1, text, room, scene.style(Role::Dim));
}

/// A host: its presence and name as the frame's heading, its services inside.
fn station(scene: &Scene<'_>, station: &Station<'_>, buf: &mut Buffer, hits: &mut Hits) {
    let Station { host, area, framed } = *station;
    if area.is_empty() {
        return;
    }
    let presence = host.presence(scene.state.shown().now);
    let mobile = host.role() == Some(HostRole::Mobile);
    let role = match (presence.is_there(), mobile) {
        (false, _) => Role::Dim,
        (_, true) => Role::Mobile,
        (_, false) => Role::Edge,
    };
    hits.note(area, Hit::Host(host.name.clone()));
    // The lines stay below the words.
    Clear.render(area, buf);
    buf.set_style(area, scene.style(Role::Text));
    let destination = !mobile && scene.state.destination() == Some(&host.name);
    let room = usize::from(area.width);
    let title = heading(scene, station, presence, role, room.saturating_sub(if framed { 4 } else { 0 }));
    let inner = if framed {
        let border = if destination { Role::Focus } else { role };
        let mut block = Block::bordered().border_style(scene.style(border));
        block = if scene.theme.glyphs.boxes {
            block.border_type(BorderType::Rounded)
        } else {
            block.border_set(super::ASCII_BORDER)
        };
        if !mobile {
            block = block.title(Line::from(title.clone()));
        }
        if destination && room >= 15 {
            block = block.title_bottom(Line::from(scene.span(Role::Focus, " destination ")).centered());
        }
        let inner = block.inner(area);
        block.render(area, buf);
        inner
    } else {
        Line::from(title.clone()).render(area, buf);
        Rect { y: area.y + 1, height: area.height - 1, ..area }
    };
    if mobile {
        if framed {
            Line::from(title).render(inner, buf);
        }
        return;
    }
    services(scene, station, inner, buf, hits);
}

fn heading<'a>(
    scene: &Scene<'_>,
    station: &Station<'_>,
    presence: Presence,
    role: Role,
    room: usize,
) -> Vec<Span<'a>> {
    let pad = if station.framed { " " } else { "" };
    let mut word = match presence {
        Presence::Live => String::new(),
        other => format!(" {}", other.name()),
    };
    let name = words::width(station.host.name.as_str());
    // The mark tells it too, and the name matters more.
    if 2 + name + word.len() > room {
        word.clear();
    }
    let taken = 2 + word.len();
    let name = words::fit(scene, station.host.name.as_str(), room.saturating_sub(taken));
    vec![
        Span::raw(pad.to_owned()),
        fleet::mark(scene, presence),
        Span::raw(" "),
        scene.span(role, name),
        scene.span(Role::Warning, word),
        Span::raw(pad.to_owned()),
    ]
}

fn services(scene: &Scene<'_>, station: &Station<'_>, inner: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let there = station.host.presence(scene.state.shown().now).is_there();
    let all = board::services(scene, station.host);
    let rows = usize::from(inner.height);
    let glyphs = &scene.theme.glyphs;
    if all.is_empty() && rows > 0 && inner.width >= 12 {
        Line::from(scene.span(Role::Dim, " no service")).render(Rect { height: 1, ..inner }, buf);
    }
    for (row, (place, info)) in inner.rows().zip(all.iter().enumerate()) {
        // The last row tells how many there is no room for.
        if place + 1 == rows && all.len() > rows {
            let text = format!(" {} {} more", glyphs.more, all.len() - place);
            Line::from(scene.span(Role::Dim, text)).render(row, buf);
            break;
        }
        let selected = scene.state.ui.service.as_ref() == Some(&info.name);
        let (role, mark) = match info.state {
            _ if !there => (Role::Dim, glyphs.unknown),
            ServiceState::InDoubt => (Role::Bad, glyphs.unknown),
            ServiceState::Migrating => (Role::Moving, glyphs.arrow),
            ServiceState::Stopped => (Role::Dim, glyphs.gap),
            ServiceState::Running if selected => (Role::Selected, glyphs.pointer),
            ServiceState::Running => (Role::Service, glyphs.live),
        };
        let room = usize::from(row.width).saturating_sub(2 + words::width(mark));
        let text = format!(" {mark} {}", words::fit(scene, info.name.as_str(), room));
        hits.note(row, Hit::Service(info.name.clone()));
        buf.set_stringn(row.x, row.y, text, usize::from(row.width), scene.style(role));
    }
}
