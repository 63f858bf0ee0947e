//! The timeline: a lane for each host, steps as bars as they happen, what was predicted behind them, and the time for which the
//! service stands still.

use mose_pam::{Bytes, Millis};
use mose_protocol::HostName;
use mose_protocol::forecast::Forecast;
use mose_protocol::record::{Downtime, Outcome};
use mose_protocol::step::Step;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::{Scene, figure};
use crate::hit::{Hit, Hits};
use crate::state::Track;
use crate::state::migrations::Placed;
use crate::theme::Role;

/// Room for a lane's name.
const LEFT: u16 = 9;

/// What a migration is, for the pane's title.
pub(super) fn heading(scene: &Scene<'_>, track: &Track) -> String {
    let glyphs = &scene.theme.glyphs;
    let word = |word: Option<String>| word.unwrap_or_else(|| glyphs.gap.to_owned());
    let what = format!(
        "{} {} {} {}",
        word(track.service().map(ToString::to_string)),
        word(track.from().map(ToString::to_string)),
        glyphs.arrow,
        word(track.to().map(ToString::to_string))
    );
    let how = match track.outcome() {
        Some(outcome) => outcome.name().to_owned(),
        None if track.over => "over".to_owned(),
        None => match (track.doing(), track.round()) {
            (Some(bar), Some(round)) if matches!(bar.step, Step::PreDump | Step::Iteration) => {
                format!("{} {round}", bar.step.name())
            }
            (Some(bar), _) => bar.step.name().to_owned(),
            (None, _) => "ordered".to_owned(),
        },
    };
    format!(
        "{what} {} {how} {} {}",
        glyphs.dot,
        glyphs.dot,
        figure::time(track.elapsed(scene.state.shown().now))
    )
}

/// The part of time that is shown, and where.
struct Window {
    whole: f64,
    plot: Rect,
}

impl Window {
    fn column(&self, at: Millis) -> u16 {
        let share = (at.0 / self.whole).clamp(0.0, 1.0);
        self.plot.x + (share * f64::from(self.plot.width.saturating_sub(1))).round() as u16
    }
}

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let Some(track) = scene.state.track() else {
        let key = (scene.key)(crate::action::Action::Migrate).unwrap_or_default();
        let text = format!("no migration yet: {key} orders the selected service's");
        return super::lines(vec![Line::from(scene.span(Role::Dim, text))], 0, area, buf);
    };
    let now = scene.state.shown().now;
    let left = LEFT.min(area.width / 3);
    let plot = Rect { x: area.x + left, width: area.width - left, ..area };
    let forecast = forecast(track);
    let elapsed = track.elapsed(now);
    let placed: Vec<Placed<'_>> = track.placed(now).collect();
    let last = placed.iter().map(|placed| placed.end.0).fold(elapsed.0, f64::max);
    // While it goes on, the whole of what was promised is in sight.
    let bound = forecast.map_or(0.0, |forecast| forecast.bound.duration.0);
    let whole = if track.over { last.max(bound.min(last * 2.0)) } else { last.max(bound) * 1.02 };
    let window = Window { whole: whole.max(1.0), plot };
    let mut rows = area.rows();
    let summary_lines = if area.height >= 6 { 2 } else { u16::from(area.height >= 3) };
    let lanes = usize::from(area.height.saturating_sub(summary_lines + u16::from(forecast.is_some())));
    shade(scene, track, &window, lanes, buf);
    for host in hosts(track, &placed).into_iter().take(lanes) {
        let Some(row) = rows.next() else { return };
        lane(scene, &host, &placed, &window, row, left, buf);
    }
    if let (Some(forecast), Some(row)) = (forecast, rows.next()) {
        promise(scene, forecast, &window, row, left, buf);
    }
    for line in summary(scene, track, forecast).into_iter().take(usize::from(summary_lines)) {
        let Some(row) = rows.next() else { return };
        line.render(row, buf);
    }
    if let Some(record) = &track.record {
        hits.note(area, Hit::Record(record.migration.clone()));
    }
}

fn forecast(track: &Track) -> Option<&Forecast> {
    let task = track.task.as_ref().and_then(|task| task.forecast.as_deref());
    task.or_else(|| track.record.as_ref().and_then(|record| record.forecast.as_deref()))
}

/// The source first, then the destination, then the others as they were heard of.
fn hosts(track: &Track, placed: &[Placed<'_>]) -> Vec<HostName> {
    let mut hosts: Vec<HostName> = track.from().into_iter().chain(track.to()).cloned().collect();
    for placed in placed {
        if !hosts.contains(&placed.bar.host) {
            hosts.push(placed.bar.host.clone());
        }
    }
    hosts
}

/// Steps that are parts of others, or of no length, are not drawn over them.
fn is_drawn(step: Step) -> bool {
    !matches!(step, Step::Migration | Step::Checkpoint | Step::ClientGap)
}

fn short(step: Step) -> &'static str {
    match step {
        Step::RootfsPrecopy => "rootfs",
        Step::ContainerImage => "image",
        Step::Relinquish => "relinq",
        other => other.name(),
    }
}

fn role(step: Step) -> Role {
    match step {
        Step::PreDump | Step::Iteration | Step::Transfer | Step::RootfsPrecopy | Step::ContainerImage => {
            Role::Transfer
        }
        Step::Freeze | Step::Dump | Step::Stop | Step::Relinquish | Step::Restore | Step::Release => {
            Role::Frozen
        }
        _ => Role::Step,
    }
}

fn lane(
    scene: &Scene<'_>,
    host: &HostName,
    placed: &[Placed<'_>],
    window: &Window,
    row: Rect,
    left: u16,
    buf: &mut Buffer,
) {
    buf.set_stringn(
        row.x,
        row.y,
        host.as_str(),
        usize::from(left.saturating_sub(1)),
        scene.style(Role::Edge),
    );
    let glyphs = &scene.theme.glyphs;
    for placed in placed.iter().filter(|p| &p.bar.host == host && is_drawn(p.bar.step)) {
        let (from, to) = (window.column(placed.start), window.column(placed.end));
        let width = to.saturating_sub(from).max(1);
        let failed = placed.bar.failed;
        let role = if failed { Role::Bad } else { role(placed.bar.step) };
        let glyph = if role == Role::Frozen { glyphs.frozen } else { glyphs.bar };
        for x in from..(from + width).min(window.plot.right()) {
            buf.set_stringn(x, row.y, glyph, 1, scene.style(role));
        }
        let name = if failed {
            format!("{} {}", glyphs.no, short(placed.bar.step))
        } else {
            short(placed.bar.step).to_owned()
        };
        let length = name.chars().count() as u16;
        if width > length + 1 {
            let style = scene.style(role).add_modifier(ratatui::style::Modifier::REVERSED);
            buf.set_string(from + 1, row.y, &name, style);
        }
    }
}

/// The lanes are shaded for as long as the service stood still.
fn shade(scene: &Scene<'_>, track: &Track, window: &Window, lanes: usize, buf: &mut Buffer) {
    let Some((from, to)) = track.frozen(scene.state.shown().now) else { return };
    let (from, to) = (window.column(from), window.column(to));
    let style = scene.style(Role::Frozen);
    for y in window.plot.y..window.plot.y.saturating_add(lanes as u16).min(window.plot.bottom()) {
        for x in from..=to.min(window.plot.right().saturating_sub(1)) {
            buf.set_stringn(x, y, if scene.theme.glyphs.boxes { "░" } else { ":" }, 1, style);
        }
    }
}

/// What was promised: the expected duration, and the bound, with the downtime at its end.
fn promise(scene: &Scene<'_>, forecast: &Forecast, window: &Window, row: Rect, left: u16, buf: &mut Buffer) {
    buf.set_stringn(row.x, row.y, "bound", usize::from(left.saturating_sub(1)), scene.style(Role::Predicted));
    let glyphs = &scene.theme.glyphs;
    let end = window.column(forecast.bound.duration);
    let frozen = window.column(Millis((forecast.bound.duration.0 - forecast.bound.downtime.0).max(0.0)));
    let expected = window.column(forecast.expected.duration);
    let style = scene.style(Role::Predicted);
    for x in window.plot.x..=end.min(window.plot.right().saturating_sub(1)) {
        let glyph = if x >= frozen { glyphs.frozen } else { glyphs.ghost };
        buf.set_stringn(x, row.y, glyph, 1, style);
    }
    if expected < window.plot.right() {
        buf.set_stringn(expected, row.y, if glyphs.boxes { "┊" } else { "!" }, 1, scene.style(Role::Text));
    }
    let text = format!(" {} {} ", glyphs.at_most, figure::time(forecast.bound.duration));
    let width = text.chars().count() as u16;
    if frozen > window.plot.x + width + 2 {
        buf.set_string(window.plot.x + 1, row.y, text, style);
    }
}

fn summary<'a>(scene: &Scene<'_>, track: &Track, forecast: Option<&Forecast>) -> Vec<Line<'a>> {
    vec![clocks(scene, track, forecast), figures(scene, track, forecast)]
}

/// The three clocks: CRIU's frozen time, the agents' blackout, the client's gap.
fn clocks<'a>(scene: &Scene<'_>, track: &Track, forecast: Option<&Forecast>) -> Line<'a> {
    let dot = format!(" {} ", scene.theme.glyphs.dot);
    let mut line = vec![scene.span(Role::Frozen, "downtime  ")];
    match track.record.as_deref().map(|record| &record.downtime) {
        Some(Downtime { criu, blackout, .. }) => {
            let gap = track.record.as_ref().and_then(|record| record.downtime.client_gap());
            for (name, time) in
                [("CRIU frozen", criu.frozen), ("agents' blackout", *blackout), ("client gap", gap)]
            {
                line.push(scene.span(Role::Dim, format!("{name} ")));
                line.push(scene.span(Role::Text, figure::known(scene, time.map(figure::time))));
                line.push(scene.span(Role::Dim, dot.clone()));
            }
            if let (Some(blackout), Some(forecast)) = (blackout, forecast) {
                line.extend(figure::verdict(scene, *blackout, forecast.bound.downtime));
            }
        }
        None => match track.frozen(scene.state.shown().now) {
            Some((from, to)) => {
                line.push(scene.span(Role::Frozen, figure::time(Millis(to.0 - from.0))));
                line.push(scene.span(Role::Dim, " so far, as it was heard"));
            }
            None => line.push(scene.span(Role::Dim, "not yet: the service runs")),
        },
    }
    Line::from(line)
}

fn figures<'a>(scene: &Scene<'_>, track: &Track, forecast: Option<&Forecast>) -> Line<'a> {
    let mut line = vec![scene.span(Role::Dim, "duration  ")];
    let elapsed = track.elapsed(scene.state.shown().now);
    match (track.outcome(), forecast) {
        (Some(Outcome::Done), Some(forecast)) => {
            line.extend(figure::verdict(scene, elapsed, forecast.bound.duration))
        }
        _ => line.push(scene.span(Role::Text, figure::time(elapsed))),
    }
    let sent: u64 = track
        .bars
        .iter()
        .filter(|bar| {
            matches!(
                bar.step,
                Step::Transfer | Step::PreDump | Step::Iteration | Step::RootfsPrecopy | Step::ContainerImage
            )
        })
        .filter_map(|bar| bar.bytes)
        .map(|bytes| bytes.0)
        .sum();
    line.push(scene.span(Role::Dim, format!("  {}  sent ", scene.theme.glyphs.dot)));
    line.push(scene.span(Role::Text, Bytes(sent).to_string()));
    if let Some(round) = track.round() {
        line.push(scene.span(Role::Dim, format!(" in {} rounds", round + 1)));
    }
    if let Some(failure) = track.failure() {
        let why = failure.detail.clone().unwrap_or_default();
        line.push(
            scene.span(Role::Bad, format!("  {} {}: {why}", scene.theme.glyphs.no, failure.step.name())),
        );
    }
    if scene.state.track().is_some_and(|track| track.failure().is_some())
        && let Some(key) = (scene.key)(crate::action::Action::CriuLog)
    {
        line.push(scene.span(Role::Key, format!(" [{key}] CRIU's log")));
    }
    Line::from(line)
}
