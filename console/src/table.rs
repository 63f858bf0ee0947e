//! Tables and lines for people to read.

use mose_pam::{Bytes, Millis};
use mose_protocol::Timestamp;
use mose_protocol::forecast::{Figures, Forecast};
use mose_protocol::link::CapacityFrom;
use mose_protocol::record::{Outcome, Record};
use mose_protocol::step::{Phase, StepEvent};

use crate::fleet::Link;

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

/// Links as a table, one line for each direction.
#[must_use]
pub fn links(links: &[Link]) -> String {
    let time = |at: Option<Timestamp>| {
        let at = chrono::DateTime::from_timestamp_micros(i64::try_from(at?.0).ok()?)?;
        Some(at.format("%H:%M:%S").to_string())
    };
    let rows: Vec<Vec<String>> = links
        .iter()
        .map(|Link { from, metrics }| {
            vec![
                format!("{from} → {}", metrics.to),
                known(metrics.capacity),
                known(metrics.used),
                known(metrics.available),
                known(metrics.rtt),
                known(metrics.rtt_jitter),
                known(metrics.capacity_from.map(CapacityFrom::name)),
                known(time(metrics.capacity_at)),
            ]
        })
        .collect();
    let headings = ["link", "capacity", "used", "available", "RTT", "jitter", "learnt from", "at (UTC)"];
    table(&headings, &[1, 2, 3, 4, 5], &rows)
}

/// One step as it happens, with the time since the migration's begin.
#[must_use]
pub fn step_line(event: &StepEvent, begin: Timestamp) -> String {
    let mark = match event.phase {
        Phase::Started => "▸",
        Phase::Progress => "·",
        Phase::Finished => "✔",
        Phase::Failed => "✘",
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
        record.outcome.name(),
        record.duration,
        record.plan.strategy,
        record.transport.map(|t| format!(" over {t}")).unwrap_or_default(),
        record.plan.bandwidth.map(|limit| format!(", at most {limit}")).unwrap_or_default()
    );
    let head = if record.simulated { format!("SIM  {head}") } else { head };
    let mut lines = vec![head];
    if let Some(reason) = &record.reason {
        lines.push(format!("reason    {reason}"));
        if let Some(log) = &reason.log {
            lines.push("CRIU says".to_owned());
            lines.extend(telling(log).into_iter().map(|line| format!("          {line}")));
        }
    }
    if record.outcome != Outcome::Refused {
        lines.push(format!(
            "downtime  CRIU frozen {} · agents' blackout {} (± {:.2} ms) · client gap {}",
            known(record.downtime.criu.frozen),
            known(record.downtime.blackout),
            record.downtime.clock.uncertainty_us as f64 / 1e3,
            known(record.downtime.client_gap())
        ));
        for client in &record.downtime.clients {
            lines.push(format!(
                "client    at {}: {} packets seen, {} resets, {} connections accepted anew",
                client.host, client.packets, client.resets, client.accepted
            ));
        }
        lines.push(format!("image     {}", record.image));
        if !record.rounds.is_empty() {
            lines.push(rounds(record));
        }
        lines.extend(record.forecast.as_deref().map(|forecast| promised(record, forecast)));
    }
    lines.join("\n")
}

/// The rounds of pre-copy, in one line.
fn rounds(record: &Record) -> String {
    let sent = record.rounds.iter().map(|round| round.bytes.to_string()).collect::<Vec<_>>().join(" · ");
    let paid = record.rounds.iter().find(|round| !round.pays).map(|round| round.number);
    let note = paid.map(|number| format!("; iteration {number} no longer paid")).unwrap_or_default();
    let last = record.image.0.saturating_sub(record.rounds.iter().map(|round| round.bytes.0).sum());
    format!("rounds    {sent} · then {} in the downtime{note}", Bytes(last))
}

/// What was promised beside what was measured.
fn promised(record: &Record, forecast: &Forecast) -> String {
    let mark = |held: Option<bool>| match held {
        Some(true) => "held",
        Some(false) => "NOT held",
        None => "not measured",
    };
    let held = record.bounds_held();
    format!(
        "promised  downtime ≤ {} ({}), expected {} · duration ≤ {} ({}), expected {} (profile {})",
        forecast.bound.downtime,
        mark(held.map(|held| held.0)),
        forecast.expected.downtime,
        forecast.bound.duration,
        mark(held.map(|held| held.1)),
        forecast.expected.duration,
        forecast.profile
    )
}

/// A figure and the bound that it was promised to stay under: `203 ms ≤ 310 ms ✔`.
fn beside(measured: Option<Millis>, bound: Option<Millis>) -> String {
    match (measured, bound) {
        (Some(measured), Some(bound)) => {
            format!(
                "{measured} {}",
                if measured.0 <= bound.0 { format!("≤ {bound} ✔") } else { format!("> {bound} ✘") }
            )
        }
        (measured, _) => known(measured),
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
            vec![
                record.migration.to_string(),
                known(at),
                record.service.to_string(),
                format!("{} → {}", record.from, record.to),
                match record.plan.iterations.filter(|iterations| *iterations > 0) {
                    Some(iterations) => format!("{} I={iterations}", record.plan.strategy),
                    None => record.plan.strategy.to_string(),
                },
                marked(record.outcome.name(), record.simulated),
                record.image.to_string(),
                beside(Some(record.duration), bound(record, |bound| bound.duration)),
                known(record.downtime.criu.frozen),
                beside(record.downtime.blackout, bound(record, |bound| bound.downtime)),
                known(record.downtime.client_gap()),
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
            "image",
            "duration",
            "CRIU frozen",
            "blackout",
            "client gap",
        ],
        &[6, 7, 8, 9, 10],
        &rows,
    )
}

/// A bound of a migration that was carried out.
fn bound(record: &Record, which: impl Fn(&Figures) -> Millis) -> Option<Millis> {
    let forecast = record.forecast.as_ref().filter(|_| record.outcome == Outcome::Done)?;
    Some(which(&forecast.bound))
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
