//! Tables and lines for people to read.

use mose_pam::{Bytes, Millis};
use mose_protocol::Timestamp;
use mose_protocol::forecast::Forecast;
use mose_protocol::record::{Outcome, Record, Verdict};
use mose_protocol::step::{Phase, Step, StepEvent};
use mose_screen::state::Still;

/// Rows below headings, each column as wide as its widest cell. The first columns are left-aligned, those named in
/// `right` are right-aligned.
#[must_use]
pub fn table(headings: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).enumerate().map(|(column, (cell, width))| {
            if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text.push('\n');
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// A quantity that may be unknown.
#[must_use]
pub fn known<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

/// A text about a host or a migration, marked where that is simulated.
#[must_use]
pub fn marked(text: &str, simulated: bool) -> String {
    if simulated { format!("{text} SIM") } else { text.to_owned() }
}

/// One step as it happens, with the time since the migration's begin.
#[must_use]
pub fn step_line(event: &StepEvent, begin: Timestamp) -> String {
    let mark = match event.phase {
        Phase::Started => "▸",
        Phase::Progress => "·",
        Phase::Finished => "✔",
        Phase::Failed => "✘",
        Phase::Aborted => "–",
    };
    let mut line = format!(
        "{:>9.1} ms  {:<10} {mark} {}",
        event.at.since(begin).0,
        event.host.as_str(),
        event.step.name()
    );
    if let Some(bytes) = event.bytes {
        line.push_str(&format!("  {bytes}"));
    }
    if let Some(detail) = event.detail.as_deref().filter(|detail| !detail.is_empty()) {
        line.push_str(&format!("  ({detail})"));
    }
    line
}

/// A record with all its steps and the three clocks of its downtime.
#[must_use]
pub fn record(record: &Record) -> String {
    let rows: Vec<Vec<String>> = record
        .steps
        .iter()
        .map(|step| {
            vec![
                step.host.to_string(),
                step.step.name().to_owned(),
                format!("{:.1}", step.start.0),
                format!("{:.1}", step.took.0),
                step.bytes.filter(|bytes| bytes.0 > 0).map(|bytes| bytes.to_string()).unwrap_or_default(),
                step.bytes
                    .filter(|bytes| bytes.0 > 0 && step.took.0 > 0.0)
                    .map(|bytes| rate(bytes, step.took))
                    .unwrap_or_default(),
            ]
        })
        .collect();
    let mut text = table(&["host", "step", "start ms", "took ms", "bytes", "rate"], &[2, 3, 4, 5], &rows);
    text.push_str(&format!("\n\n{}", ending(record)));
    text
}

fn rate(bytes: Bytes, took: Millis) -> String {
    mose_pam::BitsPerSec((bytes.0 as f64 * 8e3 / took.0) as u64).to_string()
}

/// The last errors in CRIU's log, or its last lines where there are none. All that is kept is in `mose history ID --json`.
fn telling(log: &str) -> Vec<&str> {
    const MOST: usize = 8;
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("Error")).collect();
    let lines = if errors.is_empty() { log.lines().collect() } else { errors };
    lines[lines.len().saturating_sub(MOST)..].to_vec()
}

/// How a migration ended, in a few lines.
#[must_use]
pub fn ending(record: &Record) -> String {
    let head = format!(
        "{}: {} → {} {} in {} ({}{}{})",
        record.service,
        record.from,
        record.to,
        record.outcome_name(),
        record.duration,
        record.how(),
        record.transport.map(|t| format!(" over {t}")).unwrap_or_default(),
        record.plan.bandwidth.map(|limit| format!(", at most {limit}")).unwrap_or_default()
    );
    let head = if record.simulated { format!("SIM  {head}") } else { head };
    let mut lines = vec![head];
    lines.extend(record.rehearsal.map(|_| rehearsal(record)));
    if let Some(reason) = &record.reason {
        lines.push(format!("reason    {reason}"));
        if let Some(log) = &reason.log {
            lines.push("CRIU says".to_owned());
            lines.extend(telling(log).into_iter().map(|line| format!("          {line}")));
        }
    }
    if record.outcome != Outcome::Refused {
        lines.push(format!(
            "downtime  service stopped {} · client silence {} · process frozen {}",
            stopped(record),
            record.downtime.silence(),
            known(record.downtime.criu.frozen),
        ));
        for client in &record.downtime.clients {
            lines.push(format!(
                "client    at {}: {} connections asked, {} still wait, {} packets seen, {} resets, {} connections accepted anew",
                client.host, client.asked, client.unanswered, client.packets, client.resets, client.accepted
            ));
            lines.extend(client.note.as_ref().map(|note| format!("          {note}")));
        }
        for flight in &record.flights {
            lines.push(format!("flight    at {}: off course {}", flight.host, flight.off_course()));
        }
        if !record.rounds.is_empty() {
            lines.push(rounds(record));
        }
        lines.extend(record.forecast.as_deref().map(|forecast| promised(record, forecast)));
    }
    if (record.outcome != Outcome::Refused && !record.by_hand) || record.image.0 > 0 {
        lines.push(format!("sent      {}", record.image));
    }
    lines.join("\n")
}

/// What a rehearsal has found: what the service noticed of it, what it would notice of the migration, and how long its steps take.
fn rehearsal(record: &Record) -> String {
    // What both hosts do is told once.
    let of = |step: Step| {
        let took = record.steps.iter().filter(|s| s.step == step).map(|s| s.took.0).reduce(f64::max);
        took.map(|took| format!("{} {}", step.name(), Millis(took)))
    };
    let stood = match Still::recorded(record, Timestamp::now()) {
        Still::Never => "the service never stood still".to_owned(),
        still => format!("the service stood still for {}", known(still.time())),
    };
    let would = match record.would_stand_still() {
        Some(would) => format!("would have been {would}"),
        None => "what it would have been is not known".to_owned(),
    };
    let steps: Vec<String> =
        [Step::Prepare, Step::Dump, Step::Transfer, Step::Restore].into_iter().filter_map(of).collect();
    let steps = if steps.is_empty() { String::new() } else { format!("\nsteps     {}", steps.join(" · ")) };
    format!("rehearsal {stood} ({would}); it goes on at {}{steps}", record.from)
}

/// For how long the service stood still, and how sure that is.
fn stopped(record: &Record) -> String {
    match Still::recorded(record, Timestamp::now()) {
        Still::Never => "never".to_owned(),
        Still::SoFar(so_far) => format!("{so_far} so far"),
        // On one host there is one clock.
        Still::Heard(time) | Still::Measured(time) if record.rehearsal.is_some() => time.to_string(),
        Still::Heard(time) | Still::Measured(time) => {
            format!("{time} (± {:.2} ms)", record.downtime.clock.uncertainty_us as f64 / 1e3)
        }
        Still::NotBack => "and not heard of again".to_owned(),
        Still::Unknown => known::<Millis>(None),
    }
}

/// The rounds of pre-copy, in one line.
fn rounds(record: &Record) -> String {
    let sent = record.rounds.iter().map(|round| round.bytes.to_string()).collect::<Vec<_>>().join(" · ");
    let paid = record.rounds.iter().find(|round| !round.pays).map(|round| round.number);
    let note = match (record.ended_early(), paid) {
        (Some(number), _) => format!(
            "; round {number} no longer paid: {} of {} planned were made",
            record.iterations_made(),
            known(record.plan.iterations)
        ),
        (None, Some(number)) => format!("; round {number} no longer paid"),
        (None, None) => String::new(),
    };
    // What came after the rounds travelled in the downtime, if there was one.
    match record.outcome {
        Outcome::Done => {
            format!("rounds    {sent} · then {} in the downtime{note}", record.sent_in_downtime())
        }
        _ => format!("rounds    {sent}{note}"),
    }
}

/// What was planned, and whether what was measured kept it.
fn promised(record: &Record, forecast: &Forecast) -> String {
    let mark = |held: Option<bool>| match (record.outcome, held) {
        (Outcome::Done | Outcome::Rehearsed, Some(true)) => " ✔",
        (Outcome::Done | Outcome::Rehearsed, Some(false)) => " ✘",
        (Outcome::Done, None) => " (not measured)",
        // Nothing is held against a migration that was not done.
        _ => "",
    };
    let (mut downtime, duration) = (record.downtime_verdict(), record.duration_verdict());
    if record.outcome == Outcome::Rehearsed {
        downtime = record.would_keep();
    }
    format!(
        "planned   downtime: worst case {}{}, max {}{}, expected {} · duration: worst case {}{}, max {}{}, expected {} (profile {})",
        forecast.bound.downtime,
        mark(downtime.worst_case),
        forecast.targets.downtime,
        mark(downtime.target),
        forecast.expected.downtime,
        forecast.bound.duration,
        mark(duration.worst_case),
        forecast.targets.duration,
        mark(duration.target),
        forecast.expected.duration,
        forecast.profile
    )
}

/// A figure and the worst case that it stayed within or not: `203 ms ≤ 310 ms ✔`; the figure alone where that is not known.
fn beside(measured: String, bound: Option<Millis>, verdict: Verdict) -> String {
    match bound.zip(verdict.worst_case) {
        Some((bound, true)) => format!("{measured} ≤ {bound} ✔"),
        Some((bound, false)) => format!("{measured} > {bound} ✘"),
        None => measured,
    }
}

/// Records as a table, one line each.
#[must_use]
pub fn history(records: &[Record]) -> String {
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            let at = chrono::DateTime::from_timestamp_micros(
                i64::try_from(record.started_at.0).unwrap_or_default(),
            )
            .map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string());
            let bound = record.forecast.as_deref().map(|forecast| forecast.bound);
            let stood = match Still::recorded(record, Timestamp::now()) {
                Still::NotBack => "not back".to_owned(),
                Still::Never => "none".to_owned(),
                Still::SoFar(so_far) => format!("{so_far} so far"),
                still => known(still.time()),
            };
            vec![
                record.migration.to_string(),
                known(at),
                record.service.to_string(),
                format!("{} → {}", record.from, record.to),
                match record.plan.iterations.filter(|iterations| *iterations > 0) {
                    Some(planned) if record.ended_early().is_some() => {
                        format!("{} I={}/{planned}", record.plan.strategy, record.iterations_made())
                    }
                    Some(iterations) => format!("{} I={iterations}", record.plan.strategy),
                    None => record.how(),
                },
                marked(&record.outcome_name(), record.simulated),
                if record.by_hand { "–".to_owned() } else { record.image.to_string() },
                beside(
                    record.duration.to_string(),
                    bound.map(|bound| bound.duration),
                    record.duration_verdict(),
                ),
                beside(stood, bound.map(|bound| bound.downtime), record.downtime_verdict()),
                known(record.targets_met()),
                record.downtime.silence().to_string(),
                known(record.downtime.criu.frozen),
            ]
        })
        .collect();
    table(
        &[
            "migration",
            "at (UTC)",
            "service",
            "way",
            "strategy",
            "outcome",
            "sent",
            "duration",
            "service stopped",
            "targets",
            "client silence",
            "process frozen",
        ],
        &[6, 7, 8, 10, 11],
        &rows,
    )
}

/// Columns of a line of text; what is longer goes on in the next one.
pub const WIDTH: usize = 110;

/// `text` after `head`, in lines that begin at `margin`.
#[must_use]
pub fn wrapped(head: &str, text: &str, margin: usize) -> String {
    let mut lines = head.trim_end().to_owned();
    let mut column = head.chars().count();
    lines.extend(std::iter::repeat_n(' ', column - lines.chars().count()));
    let mut first = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !first && column + 1 + length > WIDTH {
            lines.push('\n');
            lines.extend(std::iter::repeat_n(' ', margin));
            column = margin;
        } else if !first {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
        first = false;
    }
    lines.truncate(lines.trim_end().len());
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_unknown_is_no_zero() {
        let rows = vec![vec!["a".to_owned(), known::<Bytes>(None)], vec!["long".to_owned(), "12".to_owned()]];
        assert_eq!(table(&["name", "n"], &[1], &rows), "name   n\na      –\nlong  12");
    }
}
