//! The selected service and the link that it would cross.

use mose_pam::Millis;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::spark::spark;
use super::{Scene, figure, words};
use crate::action::Action;
use crate::phrase;
use crate::state::{Located, Series};
use crate::theme::Role;

/// A cell of a sparkline.
const STEP: Millis = Millis(1000.0);
/// The columns of the labels, and of the figures behind them.
const LABEL: usize = 9;
const FIGURE: usize = 11;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer) {
    let Some(located) = scene.state.service() else {
        let mut lines = vec![Line::from(scene.span(Role::Dim, "no service is known yet"))];
        if let (Ok(()), Some(key)) =
            (scene.state.enabled(Action::StartService), (scene.key)(Action::StartService))
        {
            lines.push(Line::from(vec![
                scene.span(Role::Key, format!("[{key}]")),
                scene.span(Role::Text, " start a workload"),
            ]));
        }
        return super::lines(lines, 0, area, buf);
    };
    let room = usize::from(area.width);
    // What an operator looks at while something moves comes first: small panes show the first lines.
    let mut lines = state(scene, located, room);
    lines.extend(link(scene, located, room));
    lines.extend(clients(scene, located, room));
    lines.extend(identity(scene, located, room));
    super::lines(lines, 0, area, buf);
}

fn label<'a>(scene: &Scene<'_>, text: &str) -> Span<'a> {
    scene.span(Role::Dim, format!("{text:<LABEL$}"))
}

/// A figure with its course over time, and what is told behind it.
fn course<'a>(
    scene: &Scene<'_>,
    name: &str,
    figure: &str,
    (series, role): (Option<&Series>, Role),
    after: &str,
    room: usize,
) -> Line<'a> {
    let after = words::fit(scene, after, room.saturating_sub(LABEL + FIGURE + 8));
    let left = room.saturating_sub(LABEL + FIGURE + words::width(&after)).clamp(0, 60);
    let cells = series.map(|series| series.last(left, STEP, scene.state.shown().now)).unwrap_or_default();
    let trace = words::left(scene, &spark(scene, &cells), left);
    Line::from(vec![
        label(scene, name),
        scene.span(Role::Title, words::left(scene, figure, FIGURE)),
        scene.span(role, trace),
        scene.span(Role::Dim, after),
    ])
}

fn state<'a>(scene: &Scene<'_>, Located { host, info }: Located<'_>, room: usize) -> Vec<Line<'a>> {
    let now = scene.state.shown().now;
    let age = host.age(now).map(|age| format!("{} ago", phrase::age(age)));
    let age = vec![scene.span(Role::Dim, age.unwrap_or_default())];
    let Some(profile) = host.profile(&info.name) else {
        let memory = figure::known(scene, info.memory);
        let line = vec![
            label(scene, "state"),
            scene.span(Role::Title, words::left(scene, &memory, FIGURE)),
            scene.span(Role::Dim, if room < 44 { "not profiled" } else { "resident; not profiled" }),
        ];
        return vec![words::justified(line, age, room)];
    };
    let line = vec![
        label(scene, "state"),
        scene.span(Role::Title, words::left(scene, &profile.state.to_string(), FIGURE)),
        scene.span(Role::Dim, "WSS "),
        scene.span(Role::Text, profile.working_set.to_string()),
    ];
    let dirty = &profile.dirty;
    let current = dirty.current.to_string();
    let rate = scene
        .state
        .plan()
        .map_or_else(|_| String::new(), |designed| format!("  r {:.2}", designed.proposal.rate.get()));
    vec![
        words::justified(line, age, room),
        course(scene, "dirty", &current, (host.dirty.get(&info.name), Role::Step), "", room),
        Line::from(vec![
            label(scene, ""),
            scene.span(Role::Dim, "mean "),
            scene.span(Role::Text, dirty.mean.to_string()),
            scene.span(Role::Dim, "  worst "),
            scene.span(Role::Text, dirty.worst.to_string()),
            scene.span(Role::Dim, rate),
        ]),
    ]
}

fn link<'a>(scene: &Scene<'_>, Located { host, .. }: Located<'_>, room: usize) -> Vec<Line<'a>> {
    let Some(to) = scene.state.destination() else {
        let text = scene.span(Role::Warning, "no other live edge host");
        return vec![Line::from(vec![label(scene, "link"), text])];
    };
    let link = host.link(to);
    let available = figure::known(scene, link.and_then(|link| link.available));
    let after = format!(" {} {to}", scene.theme.glyphs.arrow);
    let used = figure::known(scene, link.and_then(|link| link.used));
    let capacity = figure::known(scene, link.and_then(|link| link.capacity));
    let rtt = figure::known(scene, link.and_then(|link| link.rtt).map(phrase::time));
    let mut second = vec![
        label(scene, ""),
        scene.span(Role::Dim, "used "),
        scene.span(Role::Text, used),
        scene.span(Role::Dim, " of "),
        scene.span(Role::Text, capacity),
    ];
    let end = vec![scene.span(Role::Dim, "rtt "), scene.span(Role::Text, rtt)];
    if words::length(&second) + words::length(&end) + 2 > room {
        second.truncate(3);
    }
    vec![
        course(scene, "link", &available, (host.available.get(to), Role::Link), &after, room),
        words::justified(second, end, room),
    ]
}

/// How many connections stand, and what each host with a client tells of it.
fn clients<'a>(scene: &Scene<'_>, Located { info, .. }: Located<'_>, room: usize) -> Vec<Line<'a>> {
    let count = match info.connections {
        Some(1) => "1 connection".to_owned(),
        Some(count) => format!("{count} connections"),
        None => figure::known::<u32>(scene, None),
    };
    let mut lines = vec![Line::from(vec![label(scene, "clients"), scene.span(Role::Text, count)])];
    let address = info.address.map(|address| address.addr());
    let (fleet, now) = (&scene.state.shown().fleet, scene.state.shown().now);
    for (host, client) in address.into_iter().flat_map(|address| fleet.clients_of(address, now)) {
        let rate = client.rate.map(|rate| format!("{:.0}/s", rate.0));
        let mut line = vec![
            label(scene, ""),
            scene.span(Role::Mobile, words::left(scene, host.name.as_str(), FIGURE - 1)),
            scene.span(Role::Dim, " asks "),
            scene.span(Role::Text, figure::known(scene, rate)),
        ];
        let end = match client.silent {
            // It asked, and the service has been silent since.
            Some(silent) => {
                let text = format!("{} unanswered {}", scene.theme.glyphs.no, phrase::time(silent));
                vec![scene.span(Role::Warning, text)]
            }
            None => {
                let rtt = figure::known(scene, client.rtt.map(phrase::time));
                vec![scene.span(Role::Dim, "rtt "), scene.span(Role::Text, rtt)]
            }
        };
        if words::length(&line) + words::length(&end) + 1 > room {
            line.truncate(2);
        }
        lines.push(words::justified(line, end, room));
    }
    lines
}

fn identity<'a>(scene: &Scene<'_>, Located { host, info }: Located<'_>, room: usize) -> Vec<Line<'a>> {
    let left = room.saturating_sub(LABEL);
    let mut lines = Vec::new();
    if let Some(profile) = host.profile(&info.name) {
        let cost = format!("costs {:.2} %", profile.cost * 100.0);
        lines.push(words::justified(
            vec![label(scene, "tracker"), scene.span(Role::Text, words::fit(scene, &profile.tracker, left))],
            vec![scene.span(Role::Dim, cost)],
            room,
        ));
    }
    let (role, address) = match info.address {
        Some(address) => (Role::Text, address.to_string()),
        None => (Role::Warning, "not on the overlay: it cannot be moved".to_owned()),
    };
    lines
        .push(Line::from(vec![label(scene, "address"), scene.span(role, words::fit(scene, &address, left))]));
    let image = words::fit(scene, &info.image, left);
    lines.push(Line::from(vec![label(scene, "image"), scene.span(Role::Dim, image)]));
    lines
}
