//! The lanes: a bar for each step, what was predicted behind them, the time for which the service stands still, the axis.

use mose_pam::Millis;
use mose_protocol::HostName;
use mose_protocol::forecast::Forecast;
use mose_protocol::step::Step;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use crate::derived::Course;
use crate::phrase;
use crate::state::Track;
use crate::state::migrations::Placed;
use crate::theme::Role;
use crate::view::{Scene, words};

/// The part of time that is shown, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Milliseconds from the begin to the right end.
    pub(super) whole: f64,
    pub(super) plot: Rect,
}

impl Window {
    pub(super) fn column(&self, at: Millis) -> u16 {
        let share = at.0 / self.whole;
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 };
        self.plot.x + (share * f64::from(self.plot.width.saturating_sub(1))).round() as u16
    }
}

/// A step that the plan makes, as long as its bound.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ghost {
    /// Whether it is the destination's.
    at_destination: bool,
    name: &'static str,
    start: f64,
    end: f64,
    still: bool,
}

/// The plan's steps that have not begun, one after another from `now` on, each as long as it may take at most.
pub(super) fn ghosts(
    forecast: &Forecast,
    iterations: Option<u32>,
    track: Option<(&Track, Millis)>,
) -> Vec<Ghost> {
    let c = &forecast.components;
    let begun =
        |step: Step| track.map_or(0, |(track, _)| track.bars.iter().filter(|bar| bar.step == step).count());
    let mut ghosts = Vec::new();
    let mut at = track.map_or(0.0, |(_, now)| now.0);
    let mut then = |destination: bool, name, took: f64, still| {
        if took.is_finite() && took > 0.0 {
            ghosts.push(Ghost { at_destination: destination, name, start: at, end: at + took, still });
            at += took;
        }
    };
    let frozen = begun(Step::Freeze) + begun(Step::Dump) > 0;
    if begun(Step::Prepare) == 0 && !frozen {
        then(true, "prepare", c.prepare.0, false);
    }
    if begun(Step::VolumePrecopy) == 0 && !frozen {
        then(false, "volumes", c.files.0, false);
    }
    if iterations.is_some() && begun(Step::PreDump) + begun(Step::Iteration) == 0 && !frozen {
        then(false, "pre-dump", c.predump.0 + c.transfer_predump.0, false);
    }
    // More rounds than can be told apart are one stretch.
    let made = u32::try_from(begun(Step::Iteration)).unwrap_or(u32::MAX);
    let rounds = iterations.unwrap_or(0).saturating_sub(made);
    if rounds > 0 && !frozen {
        let name = if rounds == 1 { "last round" } else { "rounds" };
        then(false, name, f64::from(rounds) * (c.round.0 + c.transfer_dump.0 + c.files_changed.0), false);
    }
    if !frozen {
        then(false, "dump", c.dump.0 + c.transfer_dump.0 + c.files_changed.0, true);
    }
    if begun(Step::Restore) == 0 {
        then(true, "restore", c.restore.0 + c.overlay.0, true);
    }
    ghosts
}

/// Steps that are parts of others, or of no length, are not drawn over them.
fn is_drawn(step: Step) -> bool {
    !matches!(step, Step::Migration | Step::Checkpoint | Step::ClientGap)
}

fn role(step: Step) -> Role {
    match step {
        Step::PreDump
        | Step::Iteration
        | Step::Transfer
        | Step::RootfsPrecopy
        | Step::VolumePrecopy
        | Step::ContainerImage => Role::Transfer,
        Step::Freeze | Step::Dump | Step::Stop | Step::Relinquish | Step::Restore | Step::Release => {
            Role::Frozen
        }
        _ => Role::Step,
    }
}

/// What a step is called, in ever fewer letters.
fn names(step: Step, round: usize) -> [String; 3] {
    let short = match step {
        Step::RootfsPrecopy => "rootfs",
        Step::VolumePrecopy => "volumes",
        Step::ContainerImage => "image",
        Step::Relinquish => "relinq",
        Step::PreDump => "pre",
        Step::Prepare => "prep",
        Step::Redirect => "redir",
        other => other.name(),
    };
    match step {
        Step::Iteration => [format!("round {round}"), round.to_string(), String::new()],
        _ => [step.name().to_owned(), short.to_owned(), String::new()],
    }
}

/// A lane of some rows: whose, where, and what there is to draw.
pub(super) struct Lane<'a> {
    pub(super) host: &'a HostName,
    pub(super) rows: Rect,
    pub(super) placed: &'a [Placed<'a>],
    pub(super) ghosts: &'a [Ghost],
    /// Whether it is the source's, the destination's, or neither.
    pub(super) is_source: bool,
    pub(super) is_destination: bool,
}

impl Lane<'_> {
    pub(super) fn draw(&self, scene: &Scene<'_>, window: &Window, left: u16, buf: &mut Buffer) {
        let rows = self.rows;
        let middle = rows.y + (rows.height - 1) / 2;
        let name = words::fit(scene, self.host.as_str(), usize::from(left.saturating_sub(1)));
        let role = if self.is_source || self.is_destination { Role::Edge } else { Role::Mobile };
        buf.set_stringn(rows.x, middle, name, usize::from(left), scene.style(role));
        self.predicted(scene, window, middle, buf);
        self.measured(scene, window, middle, buf);
    }

    fn predicted(&self, scene: &Scene<'_>, window: &Window, middle: u16, buf: &mut Buffer) {
        let glyphs = &scene.theme.glyphs;
        let style = scene.style(Role::Predicted);
        for ghost in self.ghosts {
            let mine = if ghost.at_destination { self.is_destination } else { self.is_source };
            if !mine {
                continue;
            }
            let (from, to) = (window.column(Millis(ghost.start)), window.column(Millis(ghost.end)));
            let glyph = if ghost.still { glyphs.shade } else { glyphs.ghost };
            let end = to.max(from + 1).min(window.plot.right());
            for y in self.rows.y..self.rows.bottom() {
                // The stretch in which the service would stand still fills the lane; the rest is a line.
                if ghost.still || y == middle {
                    (from..end).for_each(|x| {
                        buf.set_stringn(x, y, glyph, 1, style);
                    });
                }
            }
            let width = words::width(ghost.name) as u16;
            if end.saturating_sub(from) > width + 2 {
                let text = format!(" {} ", ghost.name);
                buf.set_string(from + (end - from - width - 2) / 2, middle, text, style);
            }
        }
    }

    fn measured(&self, scene: &Scene<'_>, window: &Window, middle: u16, buf: &mut Buffer) {
        let glyphs = &scene.theme.glyphs;
        let mut rounds = 0;
        // The last letter that is written must stay legible below the next bar.
        for placed in self.placed.iter().filter(|p| &p.bar.host == self.host && is_drawn(p.bar.step)) {
            rounds += usize::from(placed.bar.step == Step::Iteration);
            let (from, to) = (window.column(placed.start), window.column(placed.end));
            let width = to.saturating_sub(from).max(1);
            let failed = placed.bar.failed;
            let role = if failed { Role::Bad } else { role(placed.bar.step) };
            let glyph = if role == Role::Frozen { glyphs.frozen } else { glyphs.bar };
            let style = scene.style(role);
            let end = (from + width).min(window.plot.right());
            for y in self.rows.y..self.rows.bottom() {
                for x in from..end {
                    // One step ends where the next begins: a hair's breadth tells them apart.
                    let last = x + 1 == end && width > 1 && placed.bar.ended.is_some();
                    let end = if role == Role::Frozen { glyphs.shade } else { glyphs.bar_end };
                    buf.set_stringn(x, y, if last { end } else { glyph }, 1, style);
                }
            }
            let mut names = names(placed.bar.step, rounds);
            if failed {
                names = names.map(|name| format!("{} {name}", glyphs.no));
            }
            let fits = |name: &&String| !name.is_empty() && words::width(name) as u16 + 2 <= width;
            if let Some(name) = names.iter().find(fits) {
                let style = style.add_modifier(Modifier::REVERSED);
                buf.set_string(from + 1, middle, name, style);
            }
        }
    }
}

/// The lanes are shaded for as long as the service stood still.
pub(super) fn shade(scene: &Scene<'_>, course: &Course, window: &Window, lanes: Rect, buf: &mut Buffer) {
    let Some((from, to)) = course.frozen else { return };
    let (from, to) = (window.column(from), window.column(to));
    let style = scene.style(Role::Frozen);
    for y in lanes.y..lanes.bottom() {
        for x in from..to.max(from + 1).min(window.plot.right()) {
            buf.set_stringn(x, y, scene.theme.glyphs.shade, 1, style);
        }
    }
}

/// What was promised: the bound with the downtime at its end, and what is expected.
pub(super) fn promise(
    scene: &Scene<'_>,
    forecast: &Forecast,
    window: &Window,
    row: Rect,
    left: u16,
    buf: &mut Buffer,
) {
    let style = scene.style(Role::Predicted);
    buf.set_stringn(row.x, row.y, "bound", usize::from(left.saturating_sub(1)), style);
    let glyphs = &scene.theme.glyphs;
    let bound = forecast.bound;
    let end = window.column(bound.duration).min(window.plot.right().saturating_sub(1));
    let still = window.column(Millis((bound.duration.0 - bound.downtime.0).max(0.0)));
    for x in window.plot.x..=end {
        buf.set_stringn(x, row.y, if x >= still { glyphs.shade } else { glyphs.ghost }, 1, style);
    }
    let expected = window.column(forecast.expected.duration);
    let mark = |x: u16, glyph: &str, role: Role, buf: &mut Buffer| {
        if x < window.plot.right() {
            buf.set_stringn(x, row.y, glyph, 1, scene.style(role));
        }
    };
    mark(expected, if glyphs.boxes { "┊" } else { "!" }, Role::Text, buf);
    mark(end, if glyphs.boxes { "▏" } else { "|" }, Role::Text, buf);
    let texts = [
        format!(
            " {} {}, expected {} ",
            glyphs.at_most,
            phrase::time(bound.duration),
            phrase::time(forecast.expected.duration)
        ),
        format!(" {} {} ", glyphs.at_most, phrase::time(bound.duration)),
    ];
    let until = still.min(expected).saturating_sub(window.plot.x + 2);
    if let Some(text) = texts.iter().find(|text| words::width(text) as u16 <= until) {
        buf.set_string(window.plot.x + 1, row.y, text, style);
    }
}

/// Time, in steps of 1, 2 or 5.
pub(super) fn axis(scene: &Scene<'_>, window: &Window, row: Rect, buf: &mut Buffer) {
    let style = scene.style(Role::Dim);
    let most = f64::from(window.plot.width / 14).max(1.0);
    let least = window.whole / most;
    let power = 10f64.powf(least.max(1e-3).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= least);
    let Some(step) = step.filter(|step| step.is_finite() && *step > 0.0) else { return };
    let ticks = (window.whole / step).floor().min(most + 1.0) as u32;
    let mut free = window.plot.x;
    for tick in 0..=ticks {
        let at = f64::from(tick) * step;
        let text = if tick == 0 { "0".to_owned() } else { tick_name(at, step) };
        let x = window.column(Millis(at));
        let width = words::width(&text) as u16 + 1;
        if x >= free && x + width <= window.plot.right() {
            let stroke = if scene.theme.glyphs.boxes { "╵" } else { "'" };
            buf.set_stringn(x, row.y, stroke, 1, style);
            buf.set_string(x + 1, row.y, &text, style);
            free = x + width + 1;
        }
    }
}

fn tick_name(at: f64, step: f64) -> String {
    match () {
        () if at < 1000.0 => format!("{at:.0} ms"),
        () if step < 100.0 => format!("{:.2} s", at / 1e3),
        () if step < 1000.0 => format!("{:.1} s", at / 1e3),
        () if at < 300_000.0 => format!("{:.0} s", at / 1e3),
        () => format!("{:.0} min", at / 60_000.0),
    }
}
