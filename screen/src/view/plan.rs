//! The plan: what would be done, what that promises, whether the targets are met, and why it is so.

use mose_pam::{Proposal, Strategy, Verdict};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::{Scene, figure};
use crate::action::Action;
use crate::hit::{Hit, Hits};
use crate::pane::Pane;
use crate::state::planning::Designed;
use crate::theme::Role;

/// A plan in a line: strategy, I, L.
#[must_use]
pub fn headline(proposal: &Proposal) -> String {
    let name = match proposal.strategy {
        Strategy::Cold => "cold",
        Strategy::Precopy => "pre-copy",
        Strategy::IterativePrecopy => "iterative pre-copy",
    };
    let iterations = match proposal.iterations {
        Some(iterations) if iterations > 0 => format!("   I = {iterations}"),
        _ => String::new(),
    };
    format!("{name}{iterations}   L = {}", proposal.bandwidth)
}

pub(super) fn draw(scene: &Scene<'_>, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let lines = match scene.state.planning.outcome(scene.state) {
        Ok(designed) => told(scene, &designed),
        Err(reason) => {
            vec![Line::from(scene.span(Role::Dim, "no plan yet")), Line::from(scene.span(Role::Text, reason))]
        }
    };
    if Action::Migrate.enabled(scene.state).is_ok()
        && let Some(row) = area.rows().next()
    {
        hits.note(row, Hit::Action(Action::Migrate));
    }
    let scroll = u16::try_from(scene.state.ui.scrolled(Pane::Plan)).unwrap_or(u16::MAX);
    Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((scroll.min(200), 0)).render(area, buf);
}

fn told<'a>(scene: &Scene<'_>, designed: &Designed) -> Vec<Line<'a>> {
    let proposal = &designed.proposal;
    let glyphs = &scene.theme.glyphs;
    let mut head = vec![scene.span(Role::Title, headline(proposal))];
    if let (Some(key), Ok(())) = ((scene.key)(Action::Migrate), Action::Migrate.enabled(scene.state)) {
        head.push(scene.span(Role::Key, format!("   [{key}]")));
        head.push(scene.span(Role::Dim, format!(" migrate {} {}", glyphs.arrow, designed.to)));
    }
    let mut lines = vec![Line::from(head)];
    for (name, verdict, expected) in [
        ("downtime", &proposal.downtime, proposal.expected.downtime),
        ("duration", &proposal.duration, proposal.expected.duration),
    ] {
        let mut line = vec![scene.span(Role::Dim, format!("{name} {} ", glyphs.at_most))];
        line.push(scene.span(Role::Text, format!("{:<8}", figure::time(verdict.bound))));
        line.extend(met(scene, verdict));
        line.push(scene.span(Role::Dim, "  expected "));
        line.push(scene.span(Role::Predicted, figure::time(expected)));
        lines.push(Line::from(line));
    }
    lines.push(parts(scene, proposal));
    lines.push(Line::from(vec![
        scene.span(Role::Dim, "why  "),
        scene.span(Role::Text, proposal.why.to_string()),
    ]));
    if let Some(nearest) = &proposal.nearest {
        lines.push(Line::from(vec![
            scene.span(Role::Warning, "nearest  "),
            scene.span(Role::Text, nearest.to_string()),
        ]));
    }
    lines.push(Line::from(vec![
        scene.span(Role::Dim, "from  "),
        scene.span(
            Role::Dim,
            format!(
                "M {}  R {}  r {:.3}  {} available  {}",
                designed.request.service().memory(),
                designed.dirty_rate,
                proposal.rate.get(),
                designed.request.bandwidth(),
                designed.profile
            ),
        ),
    ]));
    for doubt in &designed.doubts {
        lines.push(Line::from(scene.span(Role::Warning, format!("but  {doubt}"))));
    }
    lines
}

/// Whether a target is met, in a word and a glyph.
fn met<'a>(scene: &Scene<'_>, verdict: &Verdict) -> Vec<ratatui::text::Span<'a>> {
    let glyphs = &scene.theme.glyphs;
    let (role, mark, word) =
        if verdict.met() { (Role::Good, glyphs.yes, "meets") } else { (Role::Bad, glyphs.no, "misses") };
    vec![scene.span(role, format!(" {mark} {word} ")), scene.span(Role::Text, figure::time(verdict.target))]
}

/// The parts of the bound, in the order in which they happen.
fn parts<'a>(scene: &Scene<'_>, proposal: &Proposal) -> Line<'a> {
    let c = &proposal.components;
    let mut line = vec![scene.span(Role::Dim, "parts  ")];
    for (name, time) in [
        ("prepare", c.prepare),
        ("pre-dump", c.predump),
        ("V₀/L", c.transfer_predump),
        ("round", c.round),
        ("dump", c.dump),
        ("V/L", c.transfer_dump),
        ("restore", c.restore),
        ("overlay", c.overlay),
    ] {
        if time.0 > 0.05 {
            line.push(scene.span(Role::Dim, format!("{name} ")));
            line.push(scene.span(Role::Text, format!("{:.0}  ", time.0)));
        }
    }
    line.push(scene.span(Role::Dim, "ms"));
    Line::from(line)
}
