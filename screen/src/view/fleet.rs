//! The fleet: agents by role, with what is known of whether they are there, and their services.

use mose_protocol::agent::{Role as HostRole, ServiceInfo, ServiceState};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Scene, figure};
use crate::hit::{Hit, Hits};
use crate::pane::Pane;
use crate::state::{Host, Presence};
use crate::theme::Role;

/// A line and what it is.
type Row<'a> = (Line<'a>, Option<Hit>);

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let rows = rows(scene, usize::from(area.width));
    let chosen = scene.state.ui.service.clone().map(Hit::Service);
    // The selected service stays in sight.
    let place = rows.iter().position(|(_, hit)| hit.is_some() && *hit == chosen).unwrap_or(0);
    let height = usize::from(area.height);
    let first = (place + 2).saturating_sub(height).min(rows.len().saturating_sub(height));
    for (row, (line, hit)) in area.rows().zip(rows.into_iter().skip(first)) {
        if let Some(hit) = hit {
            hits.note(row, hit);
        }
        super::lines(vec![line], 0, row, buf);
    }
}

fn rows<'a>(scene: &Scene<'a>, width: usize) -> Vec<Row<'a>> {
    let data = scene.state.shown();
    let filter = scene.state.ui.filter(Pane::Fleet).to_lowercase();
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
            let named = |text: &str| text.to_lowercase().contains(&filter);
            let all = named(host.name.as_str());
            let wanted: Vec<&ServiceInfo> =
                services.iter().filter(|info| all || named(info.name.as_str())).collect();
            if !all && wanted.is_empty() {
                continue;
            }
            if std::mem::take(&mut first) {
                rows.push((Line::from(scene.span(Role::Dim, heading)), None));
            }
            rows.push((host_line(scene, host), Some(Hit::Host(host.name.clone()))));
            rows.extend(
                wanted.into_iter().map(|info| {
                    (service_line(scene, host, info, width), Some(Hit::Service(info.name.clone())))
                }),
            );
        }
    }
    if rows.is_empty() {
        let text = if filter.is_empty() { "no agent was seen yet" } else { "nothing contains the filter" };
        rows.push((Line::from(scene.span(Role::Dim, text)), None));
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

fn host_line<'a>(scene: &Scene<'_>, host: &'a Host) -> Line<'a> {
    let now = scene.state.shown().now;
    let presence = host.presence(now);
    let role = match host.role() {
        Some(HostRole::Mobile) => Role::Mobile,
        _ => Role::Edge,
    };
    let mut line = vec![
        mark(scene, presence),
        Span::raw(" "),
        scene.span(if presence.is_there() { role } else { Role::Dim }, host.name.as_str()),
    ];
    match presence {
        Presence::Live => {}
        other => line.push(scene.span(Role::Warning, format!(" {}", other.name()))),
    }
    if let Some(age) = host.age(now) {
        line.push(scene.span(Role::Dim, format!(" {}", figure::age(age))));
    }
    match &host.hello {
        Some(Err(refusal)) => line.push(scene.span(Role::Bad, format!(" {}", refusal.reason))),
        Some(Ok(hello)) => {
            line.push(scene.span(Role::Dim, format!(" v{}", hello.release)));
            if let Some(trouble) = host.telemetry.as_ref().and_then(|telemetry| telemetry.trouble.as_ref()) {
                line.push(scene.span(Role::Warning, format!(" {trouble}")));
            }
        }
        None => {}
    }
    Line::from(line)
}

fn service_line<'a>(scene: &Scene<'_>, host: &'a Host, info: &'a ServiceInfo, width: usize) -> Line<'a> {
    let glyphs = &scene.theme.glyphs;
    let selected = scene.state.ui.service.as_ref() == Some(&info.name);
    let there = host.presence(scene.state.shown().now).is_there();
    let (role, mark) = match info.state {
        _ if !there => (Role::Dim, glyphs.unknown),
        ServiceState::Running => (Role::Good, glyphs.live),
        ServiceState::Migrating => (Role::Moving, glyphs.arrow),
        ServiceState::Stopped => (Role::Dim, glyphs.gap),
        ServiceState::InDoubt => (Role::Bad, glyphs.unknown),
    };
    let name_role = if selected { Role::Selected } else { Role::Service };
    let mut line = vec![
        scene.span(Role::Focus, if selected { format!(" {} ", glyphs.pointer) } else { "   ".to_owned() }),
        scene.span(name_role, info.name.as_str()),
        Span::raw(" "),
        scene.span(role, mark),
    ];
    // What a lost host told last is no news of its services.
    if !there {
        line.push(scene.span(Role::Dim, " last known"));
    } else if info.state != ServiceState::Running {
        line.push(scene.span(role, format!(" {}", info.state.name())));
    } else {
        let state = host.profile(&info.name).map(|profile| profile.state).or(info.memory);
        let rate = host.profile(&info.name).map(|profile| profile.dirty.current);
        line.push(scene.span(Role::Dim, format!(" {}", figure::known(scene, state))));
        if let Some(rate) = rate.filter(|_| width >= 34) {
            line.push(scene.span(Role::Dim, format!(" {rate}")));
        }
    }
    Line::from(line)
}
