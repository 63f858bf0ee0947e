//! A record in full, and two of them side by side.

use mose_pam::Millis;
use mose_protocol::record::{Record, Verdict};
use ratatui::text::Line;

use super::{Scene, figure, words};
use crate::phrase;
use crate::state::Still;
use crate::theme::Role;

/// Columns of the names.
const NAME: usize = 17;

/// What is told of a record: a name, and the figure.
fn figures(scene: &Scene<'_>, record: &Record) -> Vec<(&'static str, String)> {
    let time = |time: Option<Millis>| time.map_or_else(|| "–".to_owned(), phrase::time);
    let criu = &record.downtime.criu;
    let forecast = record.forecast.as_deref();
    // A worst case is held against what was measured of a migration that was done, and no other.
    let glyphs = &scene.theme.glyphs;
    let bounded = |measured: String, bound: Option<Millis>, verdict: Verdict| {
        let against = bound.zip(verdict.worst_case).map(|(bound, held)| {
            let (compare, mark) = if held { (glyphs.at_most, glyphs.yes) } else { (">", glyphs.no) };
            format!(" {compare} {} {mark}", phrase::time(bound))
        });
        measured + &against.unwrap_or_default()
    };
    let still = figure::still(scene, Still::recorded(record, scene.state.shown().now)).1;
    // Of what was moved by hand no agent knows it.
    let known = |text: &str| if record.by_hand { "–".to_owned() } else { text.to_owned() };
    let mut rows = vec![
        ("service", record.service.to_string()),
        ("way", format!("{} → {}", record.from, record.to)),
        ("began", figure::clock(scene, record.started_at)),
        ("outcome", record.outcome_name()),
        ("plan", if record.by_hand { record.how() } else { record.plan.strategy.words().to_owned() }),
        ("rounds", rounds(record)),
        ("bandwidth", record.plan.bandwidth.map_or_else(|| known("all there is"), |l| l.to_string())),
        ("transport", record.transport.map_or_else(|| "–".into(), |t| t.to_string())),
        ("sent", known(&record.image.to_string())),
        (
            "duration",
            bounded(
                phrase::time(record.duration),
                forecast.map(|f| f.bound.duration),
                record.duration_verdict(),
            ),
        ),
        ("service stopped", bounded(still, forecast.map(|f| f.bound.downtime), record.downtime_verdict())),
        ("client silence", figure::silence(scene, record.downtime.silence())),
        ("freezing", time(criu.freezing)),
        ("process frozen", time(criu.frozen)),
        ("CRIU restore", time(criu.restore)),
        ("pages written", criu.pages_written.map_or_else(|| "–".into(), |pages| pages.to_string())),
    ];
    let flights = record.flights.iter().map(|flight| format!("{} at {}", flight.off_course(), flight.host));
    let flights = flights.collect::<Vec<_>>().join(", ");
    if !flights.is_empty() {
        let place = rows.iter().position(|(name, _)| *name == "freezing").unwrap_or(rows.len());
        rows.insert(place, ("off course", flights));
    }
    if record.rehearsal.is_some() {
        let (would, bound) = (record.would_stand_still(), forecast.map(|f| f.bound.downtime));
        let place = rows.iter().position(|(name, _)| *name == "client silence").unwrap_or(rows.len());
        rows.insert(place, ("would have been", bounded(time(would), bound, record.would_keep())));
    }
    if record.simulated {
        rows.insert(0, ("figures", "simulated (SIM)".to_owned()));
    }
    if let Some(forecast) = forecast {
        rows.extend([
            (
                "expected",
                format!(
                    "{} down, {} in all",
                    phrase::time(forecast.expected.downtime),
                    phrase::time(forecast.expected.duration)
                ),
            ),
            (
                "targets",
                format!(
                    "θ_down {}, θ_mig {}",
                    phrase::time(forecast.targets.downtime),
                    phrase::time(forecast.targets.duration)
                ),
            ),
            ("targets met", record.targets_met().unwrap_or(glyphs.gap).to_owned()),
            (
                "from",
                format!(
                    "M {}, R {}, r {:.3}, {}",
                    forecast.state, forecast.dirty_rate, forecast.normalized_dirty_rate, forecast.profile
                ),
            ),
            ("why", forecast.why.clone()),
        ]);
    }
    if let Some(reason) = &record.reason {
        rows.push(("reason", reason.to_string()));
    }
    rows
}

/// How many rounds were planned, made, and would have fitted.
fn rounds(record: &Record) -> String {
    let Some(planned) = record.plan.iterations else { return "–".to_owned() };
    let mut text = planned.to_string();
    if let Some(last) = record.ended_early() {
        text = format!("{} of {planned} planned: round {last} no longer paid", record.iterations_made());
    }
    let most = record.forecast.as_ref().and_then(|forecast| forecast.rounds).map(|rounds| rounds.most);
    match most.filter(|most| *most > planned) {
        Some(most) => format!("{text}, {most} would fit"),
        None => text,
    }
}

/// A record in full.
pub(super) fn lines<'a>(scene: &Scene<'_>, record: &Record, room: usize) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    for (name, value) in figures(scene, record) {
        let label = format!("{name:<NAME$}");
        lines.extend(words::labelled(scene, (Role::Dim, &label), (Role::Text, &value), room));
    }
    if !record.rounds.is_empty() {
        lines.push(Line::default());
        lines.push(Line::from(scene.span(Role::Title, "round      pages       sent      bytes       time")));
        for round in &record.rounds {
            let pays = if round.pays { "" } else { "  no longer pays" };
            lines.push(Line::from(scene.span(
                Role::Text,
                format!(
                    "{:>5} {:>10} {:>10} {:>10} {:>10}{pays}",
                    round.number,
                    round.pages,
                    round.sent,
                    round.bytes.to_string(),
                    phrase::time(round.took)
                ),
            )));
        }
    }
    lines.push(Line::default());
    lines.push(Line::from(
        scene.span(Role::Title, "   start       took  host         step             bytes"),
    ));
    for step in &record.steps {
        let bytes = step.bytes.map(|bytes| format!("  {bytes}")).unwrap_or_default();
        let detail = step.detail.as_ref().map(|detail| format!("  {detail}")).unwrap_or_default();
        lines.push(Line::from(scene.span(
            Role::Text,
            format!(
                "{:>8} {:>10}  {} {:<15}{bytes:<10}{}",
                phrase::time(step.start),
                phrase::time(step.took),
                words::left(scene, step.host.as_str(), 12),
                step.step.name(),
                words::fit(scene, &detail, room.saturating_sub(60))
            ),
        )));
    }
    if let Some(log) = record.reason.as_ref().and_then(|reason| reason.log.as_deref()) {
        lines.extend(self::log(scene, log, room));
    }
    lines
}

/// CRIU's log: what it complains of first, then all that was kept of it.
pub(super) fn log<'a>(scene: &Scene<'_>, log: &str, room: usize) -> Vec<Line<'a>> {
    let role = |line: &str| match line {
        line if line.contains("Error") => Role::Bad,
        line if line.contains("Warn") => Role::Warning,
        _ => Role::Dim,
    };
    let heading = |text: &'static str| [Line::default(), Line::from(scene.span(Role::Title, text))];
    let mut lines = Vec::new();
    let telling: Vec<&str> = log.lines().filter(|line| role(line) == Role::Bad).collect();
    if !telling.is_empty() {
        lines.extend(heading("CRIU's errors"));
    }
    // The last ones, and in the whole log again, where they stand.
    for line in &telling[telling.len().saturating_sub(6)..] {
        lines.extend(words::labelled(scene, (Role::Dim, "  "), (Role::Bad, line), room));
    }
    lines.extend(heading("CRIU's log, its end"));
    for line in log.lines() {
        lines.extend(words::labelled(scene, (Role::Dim, "  "), (role(line), line), room));
    }
    lines
}

/// Two records side by side; what differs stands out.
pub(super) fn compared<'a>(scene: &Scene<'_>, one: &Record, other: &Record, room: usize) -> Vec<Line<'a>> {
    let (left, right) = (figures(scene, one), figures(scene, other));
    let mut names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
    names.extend(
        right.iter().map(|(name, _)| *name).filter(|name| !left.iter().any(|(known, _)| known == name)),
    );
    let of = |rows: &[(&str, String)], name: &str| {
        rows.iter()
            .find(|(known, _)| *known == name)
            .map_or_else(|| "–".to_owned(), |(_, value)| value.clone())
    };
    let half = room.saturating_sub(NAME + 2) / 2;
    let mut lines = Vec::new();
    for name in names {
        let (a, b) = (of(&left, name), of(&right, name));
        // A mark too: a difference is not told by its colour alone.
        let (role, mark) = if a == b { (Role::Dim, " ") } else { (Role::Text, "*") };
        let (a, b) = (words::wrapped(&a, half.max(1)), words::wrapped(&b, half.max(1)));
        for row in 0..a.len().max(b.len()) {
            let part = |rows: &[String]| rows.get(row).cloned().unwrap_or_default();
            let (mark, name) = if row == 0 { (mark, name) } else { (" ", "") };
            lines.push(Line::from(vec![
                scene.span(Role::Focus, mark),
                scene.span(Role::Dim, format!("{name:<NAME$}")),
                scene.span(role, words::left(scene, &part(&a), half + 1)),
                scene.span(role, part(&b)),
            ]));
        }
    }
    lines
}
