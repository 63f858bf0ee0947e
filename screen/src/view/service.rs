//! The selected service and the link that it would cross.

use mose_pam::{BitsPerSec, Millis};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::spark::spark;
use super::{Scene, figure};
use crate::state::Series;
use crate::theme::Role;

/// A cell of a sparkline.
const STEP: Millis = Millis(1000.0);

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let state = scene.state;
    let Some(located) = state.service() else {
        let lines = vec![Line::from(scene.span(Role::Dim, "no service is known yet"))];
        return super::lines(lines, 0, area, buf);
    };
    let (host, info, now) = (located.host, located.info, state.shown().now);
    let label = |text: &'static str| scene.span(Role::Dim, format!("{text:<9}"));
    let room = usize::from(area.width).saturating_sub(30).clamp(0, 40);
    let trace = |series: Option<&Series>, role| {
        let cells = series.map(|series| series.last(room, STEP, now)).unwrap_or_default();
        scene.span(role, spark(scene, &cells))
    };
    let mut lines = Vec::new();
    let profile = host.profile(&info.name);
    match profile {
        Some(profile) => {
            lines.push(Line::from(vec![
                label("state"),
                scene.span(Role::Text, format!("{:<10}", profile.state.to_string())),
                scene.span(Role::Dim, " WSS "),
                scene.span(Role::Text, profile.working_set.to_string()),
                scene.span(Role::Dim, format!("  {} old", figure::age(host.age(now).unwrap_or_default()))),
            ]));
            lines.push(Line::from(vec![
                label("dirty"),
                scene.span(Role::Text, format!("{:<10} ", profile.dirty.current.to_string())),
                trace(host.dirty.get(&info.name), Role::Step),
                scene.span(Role::Dim, format!(" mean {} worst {}", profile.dirty.mean, profile.dirty.worst)),
            ]));
            lines.push(Line::from(vec![
                label("tracker"),
                scene.span(Role::Text, profile.tracker.clone()),
                scene.span(Role::Dim, format!("  costs {:.2} %", profile.cost * 100.0)),
            ]));
        }
        None => lines.push(Line::from(vec![
            label("state"),
            scene
                .span(Role::Dim, format!("{} resident; not profiled yet", figure::known(scene, info.memory))),
        ])),
    }
    if let Some(to) = state.destination() {
        let link = host.link(to);
        let available = link.and_then(|link| link.available);
        lines.push(Line::from(vec![
            label("link"),
            scene.span(Role::Text, format!("{:<10} ", figure::known(scene, available))),
            trace(host.available.get(to), Role::Link),
            scene.span(Role::Dim, format!(" {} {to}", scene.theme.glyphs.arrow)),
        ]));
        let used: Option<BitsPerSec> = link.and_then(|link| link.used);
        lines.push(Line::from(vec![
            label(""),
            scene.span(Role::Dim, "used "),
            scene.span(Role::Text, figure::known(scene, used)),
            scene.span(Role::Dim, " of "),
            scene.span(Role::Text, figure::known(scene, link.and_then(|link| link.capacity))),
            scene.span(Role::Dim, "  rtt "),
            scene.span(Role::Text, figure::known(scene, link.and_then(|link| link.rtt).map(figure::time))),
        ]));
    } else {
        lines.push(Line::from(vec![label("link"), scene.span(Role::Dim, "no other live edge host")]));
    }
    let address =
        info.address.map_or_else(|| "not on the overlay: it cannot be moved".to_owned(), |a| a.to_string());
    lines.push(Line::from(vec![
        label("address"),
        scene.span(if info.address.is_some() { Role::Text } else { Role::Warning }, address),
        Span::raw("  "),
        scene.span(Role::Dim, info.image.clone()),
    ]));
    super::lines(lines, 0, area, buf);
}
