//! The fleet: agents by role, with what is known of whether they are there, and their services.

use mose_protocol::agent::{Role as HostRole, ServiceInfo, ServiceState};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Scene, figure, words};
use crate::hit::{Hit, Hits};
use crate::pane::Pane;
use crate::phrase;
use crate::state::{Host, Presence};
use crate::theme::Role;

/// What a line is. Only those in sight are put into words: there may be a thousand.
enum Row<'a> {
    Heading(&'static str),
    Host(&'a Host),
    Trouble(Line<'a>),
    Service(&'a Host, &'a ServiceInfo),
    Nothing(&'static str),
}

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let width = usize::from(area.width);
    let rows = rows(scene, width);
    let chosen = scene.state.ui.service.as_ref();
    // The selected service stays in sight.
    let is_chosen = |row: &Row<'_>| matches!(row, Row::Service(_, info) if Some(&info.name) == chosen);
    let place = rows.iter().position(is_chosen).unwrap_or(0);
    let height = usize::from(area.height);
    let first = (place + 2).saturating_sub(height).min(rows.len().saturating_sub(height));
    for (at, row) in area.rows().zip(rows.into_iter().skip(first)) {
        let (line, hit) = match row {
            Row::Heading(text) | Row::Nothing(text) => (Line::from(scene.span(Role::Dim, text)), None),
            Row::Trouble(line) => (line, None),
            Row::Host(host) => (host_line(scene, host, width), Some(Hit::Host(host.name.clone()))),
            Row::Service(host, info) => {
                (service_line(scene, host, info, width), Some(Hit::Service(info.name.clone())))
            }
        };
        if let Some(hit) = hit {
            hits.note(at, hit);
        }
        super::lines(vec![line], 0, at, buf);
    }
}

fn rows<'a>(scene: &Scene<'a>, width: usize) -> Vec<Row<'a>> {
    let data = scene.state.shown();
    let filter = scene.state.ui.filter(Pane::Fleet).to_lowercase();
    let named = |text: &str| filter.is_empty() || text.to_lowercase().contains(&filter);
    let mut rows: Vec<Row<'a>> = Vec::new();
    for (heading, role) in [
        ("EDGE", Some(HostRole::Edge)),
        ("MOBILE", Some(HostRole::Mobile)),
        ("CONTROLLER", Some(HostRole::Controller)),
        ("NOT INTRODUCED", None),
    ] {
        let mut first = true;
        for host in data.fleet.hosts().filter(|host| host.role() == role) {
            let services = host.telemetry.as_ref().map_or(&[][..], |telemetry| &telemetry.services);
            let all = named(host.name.as_str());
            let mut wanted = services.iter().filter(|info| all || named(info.name.as_str())).peekable();
            if !all && wanted.peek().is_none() {
                continue;
            }
            if std::mem::take(&mut first) {
                rows.push(Row::Heading(heading));
            }
            rows.push(Row::Host(host));
            rows.extend(troubles(scene, host, width).into_iter().map(Row::Trouble));
            rows.extend(wanted.map(|info| Row::Service(host, info)));
        }
    }
    if rows.is_empty() {
        let text = if filter.is_empty() { "no agent was seen yet" } else { "nothing contains the filter" };
        rows.push(Row::Nothing(text));
    }
    rows
}

/// The glyph and role of a presence.
pub(super) fn mark<'a>(scene: &Scene<'_>, presence: Presence) -> Span<'a> {
    let glyphs = &scene.theme.glyphs;
    match presence {
        Presence::Live => scene.span(Role::Good, glyphs.live),
        Presence::Stale => scene.span(Role::Warning, glyphs.stale),
        Presence::Unknown => scene.span(Role::Warning, glyphs.unknown),
        Presence::Incompatible => scene.span(Role::Bad, glyphs.incompatible),
        Presence::Lost => scene.span(Role::Bad, glyphs.lost),
    }
}

fn host_line<'a>(scene: &Scene<'_>, host: &'a Host, width: usize) -> Line<'a> {
    let now = scene.state.shown().now;
    let presence = host.presence(now);
    let role = match host.role() {
        Some(HostRole::Mobile) => Role::Mobile,
        _ => Role::Edge,
    };
    let word = match presence {
        Presence::Live => String::new(),
        other => format!(" {}", other.name()),
    };
    let age = host.age(now).map(phrase::age).unwrap_or_default();
    let mut end = vec![scene.span(Role::Dim, age.clone())];
    if let Some(hello) = host.hello().filter(|_| width >= ROOMY) {
        end.insert(0, scene.span(Role::Dim, format!("{}  ", words::fit(scene, &hello.release, 12))));
    }
    let simulated = if host.hello().is_some_and(|hello| hello.simulated) { " SIM" } else { "" };
    let room = width.saturating_sub(3 + word.len() + simulated.len() + age.len());
    let line = vec![
        mark(scene, presence),
        Span::raw(" "),
        scene.span(
            if presence.is_there() { role } else { Role::Dim },
            words::fit(scene, host.name.as_str(), room),
        ),
        scene.span(Role::Warning, word),
        scene.span(Role::Simulated, simulated),
    ];
    words::justified(line, end, width)
}

/// What is wrong with a host, below it.
fn troubles<'a>(scene: &Scene<'_>, host: &Host, width: usize) -> Vec<Line<'a>> {
    let trouble = match &host.hello {
        Some(Err(refusal)) => Some((Role::Bad, refusal.reason.as_str())),
        _ => host.telemetry.as_ref().and_then(|told| Some((Role::Warning, told.trouble.as_deref()?))),
    };
    let Some(trouble) = trouble else { return Vec::new() };
    let mut lines = words::labelled(scene, (trouble.0, "  ! "), trouble, width);
    lines.truncate(3);
    lines
}

/// Columns from which on there is room for releases and dirty-page rates.
const ROOMY: usize = 34;

fn service_line<'a>(scene: &Scene<'_>, host: &'a Host, info: &'a ServiceInfo, width: usize) -> Line<'a> {
    let glyphs = &scene.theme.glyphs;
    let selected = scene.state.ui.service.as_ref() == Some(&info.name);
    let presence = host.presence(scene.state.shown().now);
    let (role, mark) = match info.state {
        _ if !presence.is_there() => (Role::Dim, glyphs.unknown),
        ServiceState::Migrating => (Role::Moving, glyphs.arrow),
        ServiceState::Stopped => (Role::Dim, glyphs.gap),
        ServiceState::InDoubt => (Role::Bad, glyphs.unknown),
        ServiceState::Running if presence == Presence::Stale => (Role::Warning, glyphs.stale),
        ServiceState::Running => (Role::Good, glyphs.live),
    };
    // What a lost host told last is no news of its services.
    let mut end = Vec::new();
    if !presence.is_there() {
        end.push(scene.span(Role::Dim, "last known"));
    } else if info.state != ServiceState::Running {
        end.push(scene.span(role, info.state.name()));
    } else {
        let profile = host.profile(&info.name);
        if let Some(profile) = profile.filter(|_| width >= ROOMY) {
            end.push(scene.span(Role::Dim, words::right(scene, &profile.dirty.current.to_string(), 9)));
            end.push(Span::raw(" "));
        }
        let state = figure::known(scene, profile.map(|profile| profile.state).or(info.memory));
        end.push(scene.span(Role::Dim, words::right(scene, &state, 8)));
    }
    let room = width.saturating_sub(words::length(&end) + 4 + words::width(mark));
    let line = vec![
        scene.span(Role::Focus, if selected { format!(" {} ", glyphs.pointer) } else { "   ".to_owned() }),
        scene.span(role, format!("{mark} ")),
        scene.span(
            if selected { Role::Selected } else { Role::Service },
            words::fit(scene, info.name.as_str(), room.saturating_sub(1)),
        ),
    ];
    words::justified(line, end, width)
}
