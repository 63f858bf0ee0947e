//! The plan: what would be done, what that promises, whether the targets are met, and why it is so.

use mose_pam::{Millis, Proposal, Verdict};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Scene, words};
use crate::action::Action;
use crate::derived::Designed;
use crate::hit::{Hit, Hits};
use crate::pane::Pane;
use crate::phrase;
use crate::theme::Role;

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let room = usize::from(area.width);
    if let Some(lines) = under_way(scene, room) {
        return super::lines(lines, scene.state.ui.scrolled(Pane::Plan), area, buf);
    }
    let lines = match scene.state.plan() {
        Ok(designed) => told(scene, designed, room),
        Err(reason) => {
            // One that is in doubt, or moves, is not waited for: why it cannot be moved says more than what is not known.
            let reason = scene.state.makes_sense(Action::Migrate).err().unwrap_or(reason);
            let mut lines = vec![Line::from(scene.span(Role::Dim, "no plan"))];
            lines.extend(words::labelled(scene, (Role::Dim, ""), (Role::Text, reason), room));
            lines
        }
    };
    if scene.state.enabled(Action::Migrate).is_ok()
        && let Some(row) = area.rows().next()
    {
        hits.note(row, Hit::Action(Action::Migrate));
    }
    super::lines(lines, scene.state.ui.scrolled(Pane::Plan), area, buf);
}

/// What was ordered, while it is being done.
fn under_way<'a>(scene: &Scene<'_>, room: usize) -> Option<Vec<Line<'a>>> {
    let state = scene.state;
    // One in doubt is in progress too: its service stands still.
    let track =
        state.shown().migrations.newest_of(state.ui.service.as_ref()?).filter(|track| !track.has_ended())?;
    let task = track.task.as_ref()?;
    let forecast = task.forecast.as_deref()?;
    let rounds = match (&forecast.rounds, task.plan.iterations) {
        (Some(rounds), _) => phrase::rounds(rounds),
        (None, Some(count)) if count > 0 => format!("  I = {count}"),
        (None, _) => String::new(),
    };
    let head = format!("{}{rounds}", task.plan.strategy.words());
    let end = match track.is_in_doubt() {
        true => vec![scene.span(Role::Bad, "in doubt")],
        false => vec![scene.span(Role::Moving, "in progress")],
    };
    let mut lines = vec![words::justified(vec![scene.span(Role::Title, head)], end, room)];
    lines.push(heading(scene));
    let course = state.course(track);
    for (name, so_far, target, bound, expected) in [
        (
            "downtime",
            course.still.time(),
            forecast.targets.downtime,
            forecast.bound.downtime,
            forecast.expected.downtime,
        ),
        (
            "duration",
            Some(course.elapsed),
            forecast.targets.duration,
            forecast.bound.duration,
            forecast.expected.duration,
        ),
    ] {
        lines.push(in_progress(scene, name, so_far, &Verdict { target, bound }, expected, room));
    }
    lines.extend(words::labelled(scene, (Role::Dim, "why      "), (Role::Text, &forecast.why), room));
    let from = format!(
        "M {}, R {}, r {:.3}, {} available, profile {}",
        forecast.state,
        forecast.dirty_rate,
        forecast.normalized_dirty_rate,
        forecast.available,
        forecast.profile
    );
    lines.extend(words::labelled(scene, (Role::Dim, "from     "), (Role::Dim, &from), room));
    Some(lines)
}

/// A worst case and a target while the migration is in progress: neither is kept before the end, but each may be exceeded.
fn in_progress<'a>(
    scene: &Scene<'_>,
    name: &str,
    so_far: Option<Millis>,
    verdict: &Verdict,
    expected: Millis,
    room: usize,
) -> Line<'a> {
    let glyphs = &scene.theme.glyphs;
    let missed = so_far.is_some_and(|so_far| so_far > verdict.target);
    let exceeded = so_far.is_some_and(|so_far| so_far > verdict.bound);
    let (role, mark, word) = match (missed, exceeded) {
        (true, _) => (Role::Bad, glyphs.no, "missed"),
        (false, true) => (Role::Bad, glyphs.no, "worst case exceeded"),
        (false, false) => (Role::Dim, " ", ""),
    };
    let compare = if verdict.met() { glyphs.at_most } else { ">" };
    let line = vec![
        scene.span(role, words::left(scene, mark, words::width(glyphs.yes) + 1)),
        scene.span(Role::Text, format!("{name:<9}")),
        scene.span(Role::Title, format!("{:>8}", phrase::time(verdict.bound))),
        scene.span(Role::Dim, format!(" {} ", words::left(scene, compare, words::width(glyphs.at_most)))),
        scene.span(Role::Text, format!("{:<10}", phrase::time(verdict.target))),
        scene.span(Role::Predicted, format!("{:<8}", phrase::time(expected))),
    ];
    words::justified(line, vec![scene.span(role, word)], room)
}

fn heading<'a>(scene: &Scene<'_>) -> Line<'a> {
    let glyphs = &scene.theme.glyphs;
    let (mark, compare) = (words::width(glyphs.yes) + 10, words::width(glyphs.at_most) + 2);
    let text = format!("{:mark$}{:>8}{:compare$}{:<10}expected", "", "bound", "", "target");
    Line::from(scene.span(Role::Dim, text))
}

fn told<'a>(scene: &Scene<'_>, designed: &Designed, room: usize) -> Vec<Line<'a>> {
    let proposal = &designed.proposal;
    let mut lines = vec![head(scene, designed, room)];
    lines.push(heading(scene));
    for (name, verdict, expected) in [
        ("downtime", &proposal.downtime, proposal.expected.downtime),
        ("duration", &proposal.duration, proposal.expected.duration),
    ] {
        lines.push(promised(scene, name, verdict, expected, room));
    }
    // What would help, before why it is so.
    if let Some(nearest) = &proposal.nearest {
        let text = (Role::Text, &*nearest.to_string());
        lines.extend(words::labelled(scene, (Role::Warning, "instead  "), text, room));
    }
    for doubt in &designed.doubts {
        lines.extend(words::labelled(scene, (Role::Warning, "but      "), (Role::Warning, doubt), room));
    }
    let why = proposal.why.to_string();
    lines.extend(words::labelled(scene, (Role::Dim, "why      "), (Role::Text, &why), room));
    let parts = parts(scene, proposal);
    lines.extend(words::labelled(scene, (Role::Dim, "parts    "), (Role::Dim, &parts), room));
    let from = format!(
        "M {}, R {}, r {:.3}, {} available, profile {}",
        designed.request.service().memory(),
        designed.dirty_rate,
        proposal.rate.get(),
        designed.request.bandwidth(),
        designed.profile
    );
    lines.extend(words::labelled(scene, (Role::Dim, "from     "), (Role::Dim, &from), room));
    lines
}

/// The plan in a line, and the key that orders it, in as many words as there is room for.
fn head<'a>(scene: &Scene<'_>, designed: &Designed, room: usize) -> Line<'a> {
    let head = phrase::headline(&designed.proposal);
    let left = room.saturating_sub(words::width(&head));
    let mut end = Vec::new();
    if let (Some(key), Ok(())) = ((scene.key)(Action::Migrate), scene.state.enabled(Action::Migrate)) {
        let arrow = scene.theme.glyphs.arrow;
        let full = format!(" migrate {arrow} {}", designed.to);
        let short = format!(" {arrow} {}", designed.to);
        let text = [full, " migrate".to_owned(), short]
            .into_iter()
            .find(|text| words::width(text) + key.len() + 3 <= left)
            .unwrap_or_default();
        if !text.is_empty() {
            end = vec![scene.span(Role::Key, format!("[{key}]")), scene.span(Role::Text, text)];
        }
    }
    words::justified(vec![scene.span(Role::Title, head)], end, room)
}

/// A bound against its target, and what is expected.
fn promised<'a>(scene: &Scene<'_>, name: &str, verdict: &Verdict, expected: Millis, room: usize) -> Line<'a> {
    let glyphs = &scene.theme.glyphs;
    let (role, mark, compare, word) = match verdict.met() {
        true => (Role::Good, glyphs.yes, glyphs.at_most, "met"),
        false => (Role::Bad, glyphs.no, ">", "missed"),
    };
    let line = vec![
        scene.span(role, words::left(scene, mark, words::width(glyphs.yes) + 1)),
        scene.span(Role::Text, format!("{name:<9}")),
        scene.span(Role::Title, format!("{:>8}", phrase::time(verdict.bound))),
        scene.span(role, format!(" {} ", words::left(scene, compare, words::width(glyphs.at_most)))),
        scene.span(Role::Text, format!("{:<10}", phrase::time(verdict.target))),
        scene.span(Role::Predicted, format!("{:<8}", phrase::time(expected))),
    ];
    let word: Vec<Span<'_>> = vec![scene.span(role, word)];
    words::justified(line, word, room)
}

/// The parts of the bound, in the order in which they happen.
fn parts(scene: &Scene<'_>, proposal: &Proposal) -> String {
    let c = &proposal.components;
    let rounds = match proposal.iterations {
        Some(count) if count > 0 => format!("{count} rounds of"),
        _ => "round".to_owned(),
    };
    let (first, last) = match scene.theme.glyphs.boxes {
        true => ("V₀/L", "V/L"),
        false => ("V0/L", "V/L"),
    };
    let parts: Vec<String> = [
        ("prepare", c.prepare),
        ("files", c.files),
        ("pre-dump", c.predump),
        (first, c.transfer_predump),
        (rounds.as_str(), c.round),
        ("dump", c.dump),
        (last, c.transfer_dump),
        ("files changed", c.files_changed),
        ("restore", c.restore),
        ("overlay", c.overlay),
    ]
    .into_iter()
    .filter(|(_, time)| time.0 > 0.05)
    .map(|(name, time)| format!("{name} {:.0}", time.0))
    .collect();
    format!("{} ms", parts.join(", "))
}
